"""One codec per attribute, all in one table (RFC 8489 §14, RFC 8656 §18)."""

from collections.abc import Callable
from typing import Any, Final, Generic, NamedTuple, TypeVar

from stun.address import (
    decode_address,
    decode_xor_address,
    encode_address,
    encode_xor_address,
)
from stun.errors import MessageParseError, ParseFault
from stun.registry import REASONS, ErrorCode

T = TypeVar("T")

MAX_USERNAME_BYTES: Final = 508  # RFC 8489 §14.3: fewer than 509 bytes
MAX_TEXT_BYTES: Final = 763  # RFC 8489 §14.9, §14.10: fewer than 128 characters, at most 763 bytes
_PADDING: Final = (b"", b"\0\0\0", b"\0\0", b"\0")


class Attribute(Generic[T]):
    """How one attribute's value is read and written; unknown bytes never get past `decode`."""

    __slots__ = ("_read", "_write", "name", "type")

    def __init__(
        self, number: int, name: str, read: Callable[[bytes, bytes], T], write: Callable[[T, bytes], bytes]
    ) -> None:
        self.type = number
        self.name = name
        self._read = read
        self._write = write

    def decode(self, value: bytes, transaction_id: bytes) -> T:
        """Read the value, without padding.

        Raises:
            MessageParseError: the value is not one that this attribute can have.
        """
        return self._read(value, transaction_id)

    def pack(self, value: T, transaction_id: bytes = b"") -> bytes:
        """Write type, length, value and zero padding to four bytes (RFC 8489 §14)."""
        body = self._write(value, transaction_id)
        return pack_attribute(self.type, body)

    def __repr__(self) -> str:
        return f"<{self.name} {self.type:#06x}>"


class ErrorValue(NamedTuple):
    """The value of ERROR-CODE (RFC 8489 §14.8)."""

    code: int  # 300 to 699
    reason: str


class ChangeRequest(NamedTuple):
    """The value of CHANGE-REQUEST: where the response shall come from (RFC 5780 §7.2)."""

    ip: bool
    port: bool


def pack_attribute(number: int, body: bytes) -> bytes:
    """Type, length, value and zero padding (RFC 8489 §14)."""
    return number.to_bytes(2) + len(body).to_bytes(2) + body + _PADDING[len(body) & 3]


def _exactly(value: bytes, length: int) -> bytes:
    if len(value) != length:
        raise MessageParseError(ParseFault.BAD_LENGTH, f"{len(value)} bytes, not {length}")
    return value


def _text(limit: int) -> tuple[Callable[[bytes, bytes], str], Callable[[str, bytes], bytes]]:
    def read(value: bytes, _transaction_id: bytes) -> str:
        if len(value) > limit:
            raise MessageParseError(ParseFault.BAD_LENGTH, f"{len(value)} bytes of text, at most {limit}")
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise MessageParseError(ParseFault.BAD_VALUE, "text is not UTF-8") from error

    def write(value: str, _transaction_id: bytes) -> bytes:
        body = value.encode()
        if len(body) > limit:
            raise ValueError(f"{len(body)} bytes of text, at most {limit}")
        return body

    return read, write


def _opaque(length: int) -> tuple[Callable[[bytes, bytes], bytes], Callable[[bytes, bytes], bytes]]:
    return (
        lambda value, _transaction_id: _exactly(value, length),
        lambda value, _transaction_id: _exactly(value, length),
    )


def _octet_and_reserved(value: bytes, _transaction_id: bytes) -> int:
    """Requested values sit in the first of four bytes; the other three are reserved and ignored."""
    return _exactly(value, 4)[0]


def _write_octet_and_reserved(value: int, _transaction_id: bytes) -> bytes:
    return bytes((value, 0, 0, 0))


def _read_channel_number(value: bytes, _transaction_id: bytes) -> int:
    return int.from_bytes(_exactly(value, 4)[:2])


def _read_error(value: bytes, _transaction_id: bytes) -> ErrorValue:
    if len(value) < 4:
        raise MessageParseError(ParseFault.TRUNCATED, f"{len(value)} bytes of ERROR-CODE")
    hundreds, number = value[2] & 0x07, value[3]
    if not 3 <= hundreds <= 6 or number > 99:
        raise MessageParseError(ParseFault.BAD_VALUE, f"error code {hundreds}, {number}")
    return ErrorValue(hundreds * 100 + number, _read_text(value[4:], b""))


def _write_error(value: ErrorValue, _transaction_id: bytes) -> bytes:
    return bytes((0, 0, value.code // 100, value.code % 100)) + value.reason.encode()


def _read_types(value: bytes, _transaction_id: bytes) -> tuple[int, ...]:
    if len(value) % 2:
        raise MessageParseError(ParseFault.BAD_LENGTH, f"{len(value)} bytes of attribute types")
    return tuple(int.from_bytes(value[at : at + 2]) for at in range(0, len(value), 2))


_read_text, _write_text = _text(MAX_TEXT_BYTES)
_read_username, _write_username = _text(MAX_USERNAME_BYTES)

MAPPED_ADDRESS: Final = Attribute(
    0x0001, "MAPPED-ADDRESS", lambda value, _: decode_address(value), lambda value, _: encode_address(value)
)
USERNAME: Final = Attribute(0x0006, "USERNAME", _read_username, _write_username)
MESSAGE_INTEGRITY: Final = Attribute(0x0008, "MESSAGE-INTEGRITY", *_opaque(20))
ERROR_CODE: Final = Attribute(0x0009, "ERROR-CODE", _read_error, _write_error)
UNKNOWN_ATTRIBUTES: Final = Attribute(
    0x000A,
    "UNKNOWN-ATTRIBUTES",
    _read_types,
    lambda value, _: b"".join(number.to_bytes(2) for number in value),
)
CHANNEL_NUMBER: Final = Attribute(
    0x000C, "CHANNEL-NUMBER", _read_channel_number, lambda value, _: value.to_bytes(2) + b"\0\0"
)
LIFETIME: Final = Attribute(
    0x000D,
    "LIFETIME",
    lambda value, _: int.from_bytes(_exactly(value, 4)),
    lambda value, _: value.to_bytes(4),
)
XOR_PEER_ADDRESS: Final = Attribute(0x0012, "XOR-PEER-ADDRESS", decode_xor_address, encode_xor_address)
DATA: Final[Attribute[bytes]] = Attribute(0x0013, "DATA", lambda value, _: value, lambda value, _: value)
REALM: Final = Attribute(0x0014, "REALM", _read_text, _write_text)
NONCE: Final = Attribute(0x0015, "NONCE", _read_text, _write_text)
XOR_RELAYED_ADDRESS: Final = Attribute(0x0016, "XOR-RELAYED-ADDRESS", decode_xor_address, encode_xor_address)
REQUESTED_ADDRESS_FAMILY: Final = Attribute(
    0x0017, "REQUESTED-ADDRESS-FAMILY", _octet_and_reserved, _write_octet_and_reserved
)
EVEN_PORT: Final = Attribute(
    0x0018,
    "EVEN-PORT",
    lambda value, _: bool(_exactly(value, 1)[0] & 0x80),
    lambda value, _: b"\x80" if value else b"\0",
)
REQUESTED_TRANSPORT: Final = Attribute(0x0019, "REQUESTED-TRANSPORT", _octet_and_reserved, _write_octet_and_reserved)
MESSAGE_INTEGRITY_SHA256: Final = Attribute(0x001C, "MESSAGE-INTEGRITY-SHA256", *_opaque(32))
XOR_MAPPED_ADDRESS: Final = Attribute(0x0020, "XOR-MAPPED-ADDRESS", decode_xor_address, encode_xor_address)
RESERVATION_TOKEN: Final = Attribute(0x0022, "RESERVATION-TOKEN", *_opaque(8))
SOFTWARE: Final = Attribute(0x8022, "SOFTWARE", _read_text, _write_text)
FINGERPRINT: Final = Attribute(
    0x8028,
    "FINGERPRINT",
    lambda value, _: int.from_bytes(_exactly(value, 4)),
    lambda value, _: value.to_bytes(4),
)
CHANGE_REQUEST: Final = Attribute(
    0x0003,
    "CHANGE-REQUEST",
    lambda value, _: ChangeRequest(bool(_exactly(value, 4)[3] & 4), bool(value[3] & 2)),
    lambda value, _: bytes((0, 0, 0, 4 * value.ip | 2 * value.port)),
)
PADDING: Final[Attribute[bytes]] = Attribute(0x0026, "PADDING", lambda value, _: value, lambda value, _: value)
RESPONSE_PORT: Final = Attribute(
    0x0027, "RESPONSE-PORT", _read_channel_number, lambda value, _: value.to_bytes(2) + b"\0\0"
)
CONNECTION_ID: Final = Attribute(
    0x002A,
    "CONNECTION-ID",
    lambda value, _: int.from_bytes(_exactly(value, 4)),
    lambda value, _: value.to_bytes(4),
)
RESPONSE_ORIGIN: Final = Attribute(
    0x802B, "RESPONSE-ORIGIN", lambda value, _: decode_address(value), lambda value, _: encode_address(value)
)
OTHER_ADDRESS: Final = Attribute(
    0x802C, "OTHER-ADDRESS", lambda value, _: decode_address(value), lambda value, _: encode_address(value)
)
MOBILITY_TICKET: Final[Attribute[bytes]] = Attribute(
    0x8030, "MOBILITY-TICKET", lambda value, _: value, lambda value, _: value
)

ATTRIBUTES: Final[dict[int, Attribute[Any]]] = {
    attribute.type: attribute
    for attribute in (
        MAPPED_ADDRESS,
        USERNAME,
        MESSAGE_INTEGRITY,
        ERROR_CODE,
        UNKNOWN_ATTRIBUTES,
        CHANNEL_NUMBER,
        LIFETIME,
        XOR_PEER_ADDRESS,
        DATA,
        REALM,
        NONCE,
        XOR_RELAYED_ADDRESS,
        REQUESTED_ADDRESS_FAMILY,
        EVEN_PORT,
        REQUESTED_TRANSPORT,
        MESSAGE_INTEGRITY_SHA256,
        XOR_MAPPED_ADDRESS,
        RESERVATION_TOKEN,
        SOFTWARE,
        FINGERPRINT,
        CHANGE_REQUEST,
        PADDING,
        RESPONSE_PORT,
        CONNECTION_ID,
        RESPONSE_ORIGIN,
        OTHER_ADDRESS,
        MOBILITY_TICKET,
    )
}

UNDERSTOOD_WITH_DISCOVERY: Final = frozenset({CHANGE_REQUEST.type, PADDING.type, RESPONSE_PORT.type})
UNDERSTOOD_IN_BINDING: Final = frozenset(ATTRIBUTES) - UNDERSTOOD_WITH_DISCOVERY


def error_value(code: ErrorCode, *, with_reason: bool) -> ErrorValue:
    """An ERROR-CODE value; the reason phrase is left out where a stranger would get it (reflection)."""
    return ErrorValue(code, REASONS[code] if with_reason else "")
