"""STUN messages: a strict decoder and an encoder (RFC 8489 §5, §6, §14)."""

import struct
from collections.abc import Iterable
from typing import Final, NamedTuple, TypeVar

from stun.attributes import (
    ATTRIBUTES,
    ERROR_CODE,
    FINGERPRINT,
    MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256,
    UNKNOWN_ATTRIBUTES,
    Attribute,
    error_value,
    pack_attribute,
)
from stun.errors import MessageParseError, ParseFault
from stun.integrity import IntegrityAlgorithm, fingerprint_of, integrity_of, verify_integrity
from stun.registry import (
    HEADER_LENGTH,
    MAGIC_COOKIE,
    ErrorCode,
    MessageClass,
    message_type,
    split_message_type,
)

T = TypeVar("T")

MAX_ATTRIBUTES: Final = 128  # more than any message of ours or of a browser; a bound on the work per datagram
MAX_UNKNOWN_ATTRIBUTES: Final = 8  # how many types a 420 lists: an answer must stay small

_HEADER: Final = struct.Struct("!HH4s12s")
_TLV: Final = struct.Struct("!HH")
_MESSAGE_INTEGRITY: Final = MESSAGE_INTEGRITY.type
_MESSAGE_INTEGRITY_SHA256: Final = MESSAGE_INTEGRITY_SHA256.type
_FINGERPRINT: Final = FINGERPRINT.type
_COMPREHENSION_OPTIONAL: Final = 0x8000
_ABSENT: Final = -1


class Message(NamedTuple):
    """One decoded STUN message. Values stay raw until asked for, so that nothing is decoded in vain."""

    method: int
    message_class: MessageClass
    transaction_id: bytes
    attributes: tuple[tuple[int, bytes], ...]  # type and value, in order, without those that must be ignored
    raw: bytes
    integrity_at: int  # offset of MESSAGE-INTEGRITY, -1 without
    integrity_sha256_at: int  # offset of MESSAGE-INTEGRITY-SHA256, -1 without
    has_fingerprint: bool

    def get(self, attribute: Attribute[T]) -> T | None:
        """The first value of this attribute (RFC 8489 §14: later duplicates are ignored), or None.

        Raises:
            MessageParseError: the attribute is there, but its value is malformed.
        """
        for number, value in self.attributes:
            if number == attribute.type:
                return attribute.decode(value, self.transaction_id)
        return None

    def get_all(self, attribute: Attribute[T]) -> list[T]:
        """Every value of an attribute that may stand more than once (RFC 8656 §10.1: XOR-PEER-ADDRESS).

        Raises:
            MessageParseError: one of the values is malformed.
        """
        return [
            attribute.decode(value, self.transaction_id)
            for number, value in self.attributes
            if number == attribute.type
        ]

    def unknown_attributes(self, understood: frozenset[int] = frozenset(ATTRIBUTES)) -> tuple[int, ...]:
        """Types of comprehension-required attributes without a codec here (RFC 8489 §6.3.1)."""
        if not self.attributes:
            return ()
        return tuple(
            number for number, _ in self.attributes if number < _COMPREHENSION_OPTIONAL and number not in understood
        )

    @property
    def integrity(self) -> IntegrityAlgorithm | None:
        """The strongest integrity attribute present, or None."""
        if self.integrity_sha256_at != _ABSENT:
            return IntegrityAlgorithm.SHA256
        return IntegrityAlgorithm.SHA1 if self.integrity_at != _ABSENT else None

    def verify(self, key: bytes) -> None:
        """Check the strongest integrity attribute present.

        Raises:
            IntegrityError: it does not match.
            ValueError: there is none; ask `integrity` first.
        """
        algorithm = self.integrity
        if algorithm is None:
            raise ValueError("the message carries no integrity attribute")
        at = self.integrity_sha256_at if algorithm is IntegrityAlgorithm.SHA256 else self.integrity_at
        verify_integrity(self.raw, at, key, algorithm)


def decode_message(data: bytes) -> Message:
    """Read one whole STUN message, as a datagram or a stream frame carries it.

    Attributes behind MESSAGE-INTEGRITY are ignored, save MESSAGE-INTEGRITY-SHA256 and FINGERPRINT (RFC 8489
    §14.5); a FINGERPRINT must be right and last (§14.7). Padding may hold anything (§14).

    Raises:
        MessageParseError: anything about the bytes is wrong. Values of attributes are checked when read.
    """
    method, message_class, transaction_id = _read_header(data)
    end = len(data)
    attributes: list[tuple[int, bytes]] = []
    integrity_at = integrity_sha256_at = _ABSENT
    has_fingerprint = False
    at = HEADER_LENGTH
    seen = 0
    while at < end:
        if has_fingerprint:
            raise MessageParseError(ParseFault.MISPLACED, "FINGERPRINT is not the last attribute")
        seen += 1
        if seen > MAX_ATTRIBUTES:
            raise MessageParseError(ParseFault.TOO_MANY, f"more than {MAX_ATTRIBUTES} attributes")
        number, size = _TLV.unpack_from(data, at)
        start = at + 4
        if start + size > end:
            raise MessageParseError(ParseFault.TRUNCATED, f"attribute {number:#06x} claims {size} bytes")
        if number == _FINGERPRINT:
            _check_fingerprint(data, at, size)
            has_fingerprint = True
        elif number == _MESSAGE_INTEGRITY_SHA256:
            if integrity_sha256_at == _ABSENT:
                if size != IntegrityAlgorithm.SHA256.size:
                    raise MessageParseError(ParseFault.BAD_LENGTH, f"MESSAGE-INTEGRITY-SHA256 of {size} bytes")
                integrity_sha256_at = at
        elif integrity_at == _ABSENT and integrity_sha256_at == _ABSENT:
            if number == _MESSAGE_INTEGRITY:
                if size != IntegrityAlgorithm.SHA1.size:
                    raise MessageParseError(ParseFault.BAD_LENGTH, f"MESSAGE-INTEGRITY of {size} bytes")
                integrity_at = at
            else:
                attributes.append((number, data[start : start + size]))
        at = start + (size + 3 & ~3)
    return Message(
        method,
        message_class,
        transaction_id,
        tuple(attributes),
        data,
        integrity_at,
        integrity_sha256_at,
        has_fingerprint,
    )


def encode_message(
    method: int,
    message_class: MessageClass,
    transaction_id: bytes,
    attributes: Iterable[bytes] = (),
    *,
    key: bytes | None = None,
    algorithm: IntegrityAlgorithm = IntegrityAlgorithm.SHA1,
    fingerprint: bool = False,
) -> bytes:
    """Write one message out of packed attributes, with integrity by `key` and a FINGERPRINT if wished.

    Args:
        method: a STUN method, 0 to 0xFFF.
        message_class: request, indication, success or error response.
        transaction_id: 12 bytes.
        attributes: what `Attribute.pack` returned, in order.
        key: secret of the integrity attribute; None leaves it out.
        algorithm: which integrity attribute `key` makes.
        fingerprint: whether a FINGERPRINT closes the message.
    """
    body = b"".join(attributes)
    type_bytes = message_type(method, message_class).to_bytes(2)
    tail = MAGIC_COOKIE + transaction_id
    message = type_bytes + len(body).to_bytes(2) + tail + body
    if key is not None:
        mac = integrity_of(message, len(message), key, algorithm)
        body += pack_attribute(algorithm.attribute_type, mac)
        message = type_bytes + len(body).to_bytes(2) + tail + body
    if fingerprint:
        covered = type_bytes + (len(body) + 8).to_bytes(2) + tail + body
        message = covered + FINGERPRINT.pack(fingerprint_of(covered))
    return message


def encode_error(
    request: Message,
    code: ErrorCode,
    attributes: Iterable[bytes] = (),
    *,
    with_reason: bool = False,
    key: bytes | None = None,
) -> bytes:
    """Write the error response to a request, with FINGERPRINT if the request had one (RFC 8489 §6.3.1.1, §7)."""
    return encode_message(
        request.method,
        MessageClass.ERROR,
        request.transaction_id,
        (ERROR_CODE.pack(error_value(code, with_reason=with_reason)), *attributes),
        key=key,
        algorithm=request.integrity or IntegrityAlgorithm.SHA1,
        fingerprint=request.has_fingerprint,
    )


def encode_unknown_attributes(request: Message, unknown: tuple[int, ...], *, key: bytes | None = None) -> bytes:
    """Write the 420 response that lists what was not understood (RFC 8489 §6.3.1, §14.13)."""
    listed = UNKNOWN_ATTRIBUTES.pack(unknown[:MAX_UNKNOWN_ATTRIBUTES])
    return encode_error(request, ErrorCode.UNKNOWN_ATTRIBUTE, (listed,), key=key)


def _read_header(data: bytes) -> tuple[int, MessageClass, bytes]:
    if len(data) < HEADER_LENGTH:
        raise MessageParseError(ParseFault.TRUNCATED, f"{len(data)} bytes of header")
    type_field, length, cookie, transaction_id = _HEADER.unpack_from(data)
    if type_field & 0xC000:
        raise MessageParseError(ParseFault.NOT_STUN, "the first two bits are not zero")
    if cookie != MAGIC_COOKIE:
        raise MessageParseError(ParseFault.BAD_COOKIE)
    end = len(data)
    if length & 3 or HEADER_LENGTH + length != end:
        raise MessageParseError(ParseFault.BAD_LENGTH, f"length field {length} in {end} bytes")
    return *split_message_type(type_field), transaction_id


def _check_fingerprint(data: bytes, at: int, size: int) -> None:
    if size != 4:
        raise MessageParseError(ParseFault.BAD_LENGTH, f"FINGERPRINT of {size} bytes")
    if fingerprint_of(data[:at]) != int.from_bytes(data[at + 4 : at + 8]):
        raise MessageParseError(ParseFault.BAD_FINGERPRINT)
