"""One codec per attribute, all in one table (RFC 8489 §14, RFC 8656 §18, RFC 6062 §6.2, RFC 5780 §7, RFC 8016 §3)."""

import struct
from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, NamedTuple, TypeVar

from stun.address import (
    TransportAddress,
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
MAX_DOMAIN_BYTES: Final = 255  # RFC 8489 §14.16
MAX_PASSWORD_ALGORITHMS: Final = 16  # a bound on the work per message; the RFC knows two
USERHASH_BYTES: Final = 32
_PADDING: Final = (b"", b"\0\0\0", b"\0\0", b"\0")
_TLV: Final = struct.Struct("!HH")
_ICMP: Final = struct.Struct("!HH4s")  # reserved, type and code, error data
_CHANGE_IP: Final = 0x04
_CHANGE_PORT: Final = 0x02


def attribute_head(number: int, size: int) -> bytes:
    """Type and length, as they stand before each value (RFC 8489 §14)."""
    return (number << 16 | size).to_bytes(4, "big")


class Attribute(Generic[T]):
    """How one attribute's value is read and written; unknown bytes never get past `decode`.

    `decode(value, transaction_id)` reads a value without its padding and raises MessageParseError if it is not one
    that this attribute can have. It is a slot and not a method because every request goes through it several times.
    """

    __slots__ = ("_write", "decode", "name", "type")

    def __init__(
        self, number: int, name: str, read: Callable[[bytes, bytes], T], write: Callable[[T, bytes], bytes]
    ) -> None:
        self.type = number
        self.name = name
        self.decode = read
        self._write = write

    def pack(self, value: T, transaction_id: bytes = b"") -> bytes:
        """Write type, length, value and zero padding to four bytes (RFC 8489 §14)."""
        body = self._write(value, transaction_id)
        size = len(body)
        if size & 3:
            return attribute_head(self.type, size) + body + _PADDING[size & 3]
        return attribute_head(self.type, size) + body

    def __repr__(self) -> str:
        return f"<{self.name} {self.type:#06x}>"


class ErrorValue(NamedTuple):
    """The value of ERROR-CODE (RFC 8489 §14.8)."""

    code: int  # 300 to 699
    reason: str


class AddressError(NamedTuple):
    """The value of ADDRESS-ERROR-CODE: why a family was not allocated (RFC 8656 §18.12)."""

    family: int  # 0x01 for IPv4, 0x02 for IPv6
    code: int  # 300 to 699
    reason: str


class IcmpError(NamedTuple):
    """The value of ICMP: what became of a datagram to a peer (RFC 8656 §18.13)."""

    type: int  # 0 to 127, of ICMP or ICMPv6 by the family of the peer
    code: int  # 0 to 511
    data: bytes  # 4 bytes: the next hop's MTU where a packet was too big, zero otherwise


class ChangeRequest(NamedTuple):
    """The value of CHANGE-REQUEST: where the response shall come from (RFC 5780 §7.2)."""

    ip: bool
    port: bool


class PasswordAlgorithmEntry(NamedTuple):
    """The value of PASSWORD-ALGORITHM, and one entry of PASSWORD-ALGORITHMS (RFC 8489 §14.11, §14.12)."""

    algorithm: int
    parameters: bytes = b""


def pack_attribute(number: int, body: bytes) -> bytes:
    """Type, length, value and zero padding (RFC 8489 §14)."""
    return _TLV.pack(number, len(body)) + body + _PADDING[len(body) & 3]


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


def _anything(number: int, name: str) -> Attribute[bytes]:
    return Attribute(number, name, lambda value, _: value, lambda value, _: value)


def _plain_address(number: int, name: str) -> Attribute[TransportAddress]:
    return Attribute(number, name, lambda value, _: decode_address(value), lambda value, _: encode_address(value))


def _unsigned_32(number: int, name: str) -> Attribute[int]:
    return Attribute(
        number, name, lambda value, _: int.from_bytes(_exactly(value, 4)), lambda value, _: value.to_bytes(4)
    )


def _octet_and_reserved(value: bytes, _transaction_id: bytes) -> int:
    """Requested values sit in the first of four bytes; the other three are reserved and ignored."""
    return _exactly(value, 4)[0]


def _write_octet_and_reserved(value: int, _transaction_id: bytes) -> bytes:
    return bytes((value, 0, 0, 0))


def _read_channel_number(value: bytes, _transaction_id: bytes) -> int:
    return int.from_bytes(_exactly(value, 4)[:2])


def _read_error(value: bytes, _transaction_id: bytes) -> ErrorValue:
    return ErrorValue(_read_code(value), _read_text(value[4:], b""))


def _read_code(value: bytes) -> int:
    if len(value) < 4:
        raise MessageParseError(ParseFault.TRUNCATED, f"{len(value)} bytes of error code")
    hundreds, number = value[2] & 0x07, value[3]
    if not 3 <= hundreds <= 6 or number > 99:
        raise MessageParseError(ParseFault.BAD_VALUE, f"error code {hundreds}, {number}")
    return hundreds * 100 + number


def _write_error(value: ErrorValue, _transaction_id: bytes) -> bytes:
    return bytes((0, 0, value.code // 100, value.code % 100)) + value.reason.encode()


def _read_address_error(value: bytes, _transaction_id: bytes) -> AddressError:
    code = _read_code(value)
    return AddressError(value[0], code, _read_text(value[4:], b""))


def _write_address_error(value: AddressError, _transaction_id: bytes) -> bytes:
    return bytes((value.family, 0, value.code // 100, value.code % 100)) + value.reason.encode()


def _read_icmp(value: bytes, _transaction_id: bytes) -> IcmpError:
    _, type_and_code, data = _ICMP.unpack(_exactly(value, _ICMP.size))
    return IcmpError(type_and_code >> 9, type_and_code & 0x1FF, data)


def _write_icmp(value: IcmpError, _transaction_id: bytes) -> bytes:
    return _ICMP.pack(0, value.type << 9 | value.code, _exactly(value.data, 4))


def _read_change_request(value: bytes, _transaction_id: bytes) -> ChangeRequest:
    flags = _exactly(value, 4)[3]
    return ChangeRequest(bool(flags & _CHANGE_IP), bool(flags & _CHANGE_PORT))


def _write_change_request(value: ChangeRequest, _transaction_id: bytes) -> bytes:
    return bytes((0, 0, 0, _CHANGE_IP * value.ip | _CHANGE_PORT * value.port))


def _read_port(value: bytes, _transaction_id: bytes) -> int:
    if len(value) not in {2, 4}:  # RFC 5780 §7.5 leaves open whether the length counts the two bytes of padding
        raise MessageParseError(ParseFault.BAD_LENGTH, f"{len(value)} bytes of port")
    return int.from_bytes(value[:2])


def _read_password_algorithms(value: bytes, _transaction_id: bytes) -> tuple[PasswordAlgorithmEntry, ...]:
    entries: list[PasswordAlgorithmEntry] = []
    at, end = 0, len(value)
    while at < end:
        if len(entries) == MAX_PASSWORD_ALGORITHMS:
            raise MessageParseError(ParseFault.TOO_MANY, f"more than {MAX_PASSWORD_ALGORITHMS} password algorithms")
        if at + 4 > end:
            raise MessageParseError(ParseFault.TRUNCATED, f"{end - at} bytes of password algorithm")
        algorithm, size = _TLV.unpack_from(value, at)
        at += 4
        if at + size > end:
            raise MessageParseError(ParseFault.TRUNCATED, f"password algorithm claims {size} bytes of parameters")
        entries.append(PasswordAlgorithmEntry(algorithm, value[at : at + size]))
        at += size + 3 & ~3
    return tuple(entries)


def _write_password_algorithms(value: Iterable[PasswordAlgorithmEntry], _transaction_id: bytes) -> bytes:
    return b"".join(pack_attribute(*entry) for entry in value)  # each entry has the form of an attribute


def _read_password_algorithm(value: bytes, transaction_id: bytes) -> PasswordAlgorithmEntry:
    entries = _read_password_algorithms(value, transaction_id)
    if len(entries) != 1:
        raise MessageParseError(ParseFault.BAD_VALUE, f"{len(entries)} password algorithms, not 1")
    return entries[0]


def _read_domain(value: bytes, _transaction_id: bytes) -> str:
    if len(value) > MAX_DOMAIN_BYTES or not value.isascii():
        raise MessageParseError(ParseFault.BAD_VALUE, f"{len(value)} bytes of domain name")
    return value.decode("ascii")


def _write_domain(value: str, _transaction_id: bytes) -> bytes:
    body = value.encode("ascii")
    if len(body) > MAX_DOMAIN_BYTES:
        raise ValueError(f"{len(body)} bytes of domain name, at most {MAX_DOMAIN_BYTES}")
    return body


def _read_types(value: bytes, _transaction_id: bytes) -> tuple[int, ...]:
    if len(value) % 2:
        raise MessageParseError(ParseFault.BAD_LENGTH, f"{len(value)} bytes of attribute types")
    return tuple(int.from_bytes(value[at : at + 2]) for at in range(0, len(value), 2))


_read_text, _write_text = _text(MAX_TEXT_BYTES)
_read_username, _write_username = _text(MAX_USERNAME_BYTES)

# RFC 8489 §14

MAPPED_ADDRESS: Final = _plain_address(0x0001, "MAPPED-ADDRESS")
USERNAME: Final = Attribute(0x0006, "USERNAME", _read_username, _write_username)
MESSAGE_INTEGRITY: Final = Attribute(0x0008, "MESSAGE-INTEGRITY", *_opaque(20))
ERROR_CODE: Final = Attribute(0x0009, "ERROR-CODE", _read_error, _write_error)
UNKNOWN_ATTRIBUTES: Final = Attribute(
    0x000A,
    "UNKNOWN-ATTRIBUTES",
    _read_types,
    lambda value, _: b"".join(number.to_bytes(2) for number in value),
)
REALM: Final = Attribute(0x0014, "REALM", _read_text, _write_text)
NONCE: Final = Attribute(0x0015, "NONCE", _read_text, _write_text)
MESSAGE_INTEGRITY_SHA256: Final = Attribute(0x001C, "MESSAGE-INTEGRITY-SHA256", *_opaque(32))
PASSWORD_ALGORITHM: Final = Attribute(
    0x001D, "PASSWORD-ALGORITHM", _read_password_algorithm, lambda value, _: pack_attribute(*value)
)
USERHASH: Final = Attribute(0x001E, "USERHASH", *_opaque(USERHASH_BYTES))
XOR_MAPPED_ADDRESS: Final = Attribute(0x0020, "XOR-MAPPED-ADDRESS", decode_xor_address, encode_xor_address)
PASSWORD_ALGORITHMS: Final = Attribute(
    0x8002, "PASSWORD-ALGORITHMS", _read_password_algorithms, _write_password_algorithms
)
ALTERNATE_DOMAIN: Final = Attribute(0x8003, "ALTERNATE-DOMAIN", _read_domain, _write_domain)
SOFTWARE: Final = Attribute(0x8022, "SOFTWARE", _read_text, _write_text)
ALTERNATE_SERVER: Final = _plain_address(0x8023, "ALTERNATE-SERVER")
FINGERPRINT: Final = _unsigned_32(0x8028, "FINGERPRINT")

# RFC 8656 §18

CHANNEL_NUMBER: Final = Attribute(
    0x000C, "CHANNEL-NUMBER", _read_channel_number, lambda value, _: value.to_bytes(2) + b"\0\0"
)
LIFETIME: Final = _unsigned_32(0x000D, "LIFETIME")
XOR_PEER_ADDRESS: Final = Attribute(0x0012, "XOR-PEER-ADDRESS", decode_xor_address, encode_xor_address)
DATA: Final = _anything(0x0013, "DATA")
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
DONT_FRAGMENT: Final = Attribute(0x001A, "DONT-FRAGMENT", *_opaque(0))
RESERVATION_TOKEN: Final = Attribute(0x0022, "RESERVATION-TOKEN", *_opaque(8))
ADDITIONAL_ADDRESS_FAMILY: Final = Attribute(
    0x8000, "ADDITIONAL-ADDRESS-FAMILY", _octet_and_reserved, _write_octet_and_reserved
)
# coturn's clients up to 4.6, Debian's among them, ask with the number of a draft.
DRAFT_ADDITIONAL_ADDRESS_FAMILY: Final = Attribute(
    0x8032, "ADDITIONAL-ADDRESS-FAMILY of a draft", _octet_and_reserved, _write_octet_and_reserved
)
ADDRESS_ERROR_CODE: Final = Attribute(0x8001, "ADDRESS-ERROR-CODE", _read_address_error, _write_address_error)
ICMP: Final = Attribute(0x8004, "ICMP", _read_icmp, _write_icmp)

# RFC 6062 §6.2

CONNECTION_ID: Final = _unsigned_32(0x002A, "CONNECTION-ID")

# RFC 5780 §7

CHANGE_REQUEST: Final = Attribute(0x0003, "CHANGE-REQUEST", _read_change_request, _write_change_request)
PADDING: Final = _anything(0x0026, "PADDING")
RESPONSE_PORT: Final = Attribute(0x0027, "RESPONSE-PORT", _read_port, lambda value, _: value.to_bytes(2))
RESPONSE_ORIGIN: Final = _plain_address(0x802B, "RESPONSE-ORIGIN")
OTHER_ADDRESS: Final = _plain_address(0x802C, "OTHER-ADDRESS")

# RFC 8016 §3

MOBILITY_TICKET: Final = _anything(0x8030, "MOBILITY-TICKET")

ATTRIBUTES: Final[dict[int, Attribute[Any]]] = {
    attribute.type: attribute
    for attribute in (
        MAPPED_ADDRESS,
        CHANGE_REQUEST,
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
        DONT_FRAGMENT,
        MESSAGE_INTEGRITY_SHA256,
        PASSWORD_ALGORITHM,
        USERHASH,
        XOR_MAPPED_ADDRESS,
        RESERVATION_TOKEN,
        PADDING,
        RESPONSE_PORT,
        CONNECTION_ID,
        ADDITIONAL_ADDRESS_FAMILY,
        DRAFT_ADDITIONAL_ADDRESS_FAMILY,
        ADDRESS_ERROR_CODE,
        PASSWORD_ALGORITHMS,
        ALTERNATE_DOMAIN,
        ICMP,
        SOFTWARE,
        ALTERNATE_SERVER,
        FINGERPRINT,
        RESPONSE_ORIGIN,
        OTHER_ADDRESS,
        MOBILITY_TICKET,
    )
}

# Which comprehension-required attributes a server understands depends on what is switched on, and on the method:
# `Message.unknown_attributes` takes one of these sets, or a union of them.

UNDERSTOOD_IN_BINDING: Final = frozenset(
    {MAPPED_ADDRESS.type, USERNAME.type, REALM.type, NONCE.type, PASSWORD_ALGORITHM.type, USERHASH.type}
    | {ERROR_CODE.type, UNKNOWN_ATTRIBUTES.type, XOR_MAPPED_ADDRESS.type}
)
UNDERSTOOD_IN_TURN: Final = UNDERSTOOD_IN_BINDING | {
    CHANNEL_NUMBER.type,
    LIFETIME.type,
    XOR_PEER_ADDRESS.type,
    DATA.type,
    XOR_RELAYED_ADDRESS.type,
    REQUESTED_ADDRESS_FAMILY.type,
    EVEN_PORT.type,
    REQUESTED_TRANSPORT.type,
    RESERVATION_TOKEN.type,
}
UNDERSTOOD_WITH_DONT_FRAGMENT: Final = frozenset({DONT_FRAGMENT.type})  # RFC 8656 §7.2
UNDERSTOOD_WITH_TCP_ALLOCATIONS: Final = frozenset({CONNECTION_ID.type})  # RFC 6062
UNDERSTOOD_WITH_DISCOVERY: Final = frozenset({CHANGE_REQUEST.type, PADDING.type, RESPONSE_PORT.type})  # RFC 5780


def error_value(code: ErrorCode, *, with_reason: bool) -> ErrorValue:
    """An ERROR-CODE value; the reason phrase is left out where a stranger would get it (reflection)."""
    return ErrorValue(code, REASONS[code] if with_reason else "")
