"""STUN messages: a strict decoder and an encoder (RFC 8489 §5, §6, §14)."""

from collections.abc import Iterable, Sequence
from typing import Final, TypeVar, final

from stun.attributes import (
    ERROR_CODE,
    FINGERPRINT,
    MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256,
    NONCE,
    PASSWORD_ALGORITHM,
    PASSWORD_ALGORITHMS,
    REALM,
    UNKNOWN_ATTRIBUTES,
    USERHASH,
    USERNAME,
    Attribute,
    attribute_head,
    error_value,
)
from stun.errors import MessageParseError, ParseFault
from stun.integrity import IntegrityKey, fingerprint_of
from stun.registry import (
    HEADER_LENGTH,
    MAGIC_COOKIE,
    ErrorCode,
    IntegrityAlgorithm,
    MessageClass,
    Method,
    message_type,
    split_message_type,
)

T = TypeVar("T")

MAX_ATTRIBUTES: Final = 128  # more than any message of ours or of a browser; a bound on the work per datagram
MAX_UNKNOWN_ATTRIBUTES: Final = 8  # how many types a 420 lists: an answer must stay small

_ATTRIBUTE_STEPS: Final = range(MAX_ATTRIBUTES)
_KNOWN_TYPES: Final = {
    value: split_message_type(value)
    for value in (message_type(method, message_class) for method in Method for message_class in MessageClass)
}
_SUCCESS: Final = int(MessageClass.SUCCESS)
_ERROR: Final = int(MessageClass.ERROR)

# Enum members and attributes of attributes are slow to look up.
_SHA1: Final = IntegrityAlgorithm.SHA1
_SHA256: Final = IntegrityAlgorithm.SHA256
_MESSAGE_INTEGRITY: Final = MESSAGE_INTEGRITY.type
_MESSAGE_INTEGRITY_SHA256: Final = MESSAGE_INTEGRITY_SHA256.type
_FINGERPRINT: Final = FINGERPRINT.type
_PASSWORD_ALGORITHM: Final = PASSWORD_ALGORITHM.type
_CREDENTIALS: Final = frozenset(
    attribute.type for attribute in (USERNAME, USERHASH, REALM, NONCE, PASSWORD_ALGORITHM, PASSWORD_ALGORITHMS)
)
_CLOSING: Final = frozenset({_MESSAGE_INTEGRITY, _MESSAGE_INTEGRITY_SHA256, _FINGERPRINT})
_INTEGRITY_HEAD: Final = attribute_head(_MESSAGE_INTEGRITY, 20)
_INTEGRITY_SHA256_HEAD: Final = attribute_head(_MESSAGE_INTEGRITY_SHA256, 32)
_FINGERPRINT_HEAD: Final = attribute_head(_FINGERPRINT, 4)
_COMPREHENSION_OPTIONAL: Final = 0x8000
_ABSENT: Final = -1


@final
class Message:
    """One decoded STUN message. Values stay raw until asked for, so that nothing is decoded in vain."""

    __slots__ = (
        "_credentials_at",
        "has_fingerprint",
        "integrity",
        "integrity_at",
        "message_class",
        "method",
        "raw",
        "repeated",
        "transaction_id",
        "values",
    )

    def __init__(
        self,
        type_field: int,
        values: dict[int, bytes],
        repeated: Sequence[tuple[int, bytes]],
        raw: bytes,
        credentials_at: int,
        integrity: IntegrityAlgorithm | None,
        integrity_at: int,
        has_fingerprint: bool,  # noqa: FBT001  # private: `decode_message` makes messages
    ) -> None:
        self.method, self.message_class = _KNOWN_TYPES.get(type_field) or split_message_type(type_field)
        self.transaction_id = raw[8:HEADER_LENGTH]
        self.values = values  # the first value of each type, in order, without those that must be ignored
        self.repeated = repeated  # what came after the first of its type, in order
        self.raw = raw
        self._credentials_at = credentials_at
        self.integrity = integrity  # of the strongest integrity attribute present
        self.integrity_at = integrity_at  # its offset, -1 without
        self.has_fingerprint = has_fingerprint

    def get(self, attribute: Attribute[T]) -> T | None:
        """The first value of this attribute (RFC 8489 §14: later duplicates are ignored), or None.

        Raises:
            MessageParseError: the attribute is there, but its value is malformed.
        """
        value = self.values.get(attribute.type)
        return None if value is None else attribute.decode(value, self.transaction_id)

    def get_all(self, attribute: Attribute[T]) -> list[T]:
        """Every value of an attribute that may stand more than once (RFC 8656 §10.1: XOR-PEER-ADDRESS).

        Raises:
            MessageParseError: one of the values is malformed.
        """
        first = self.get(attribute)
        if first is None:
            return []
        if not self.repeated:
            return [first]
        wanted, decode, transaction_id = attribute.type, attribute.decode, self.transaction_id
        return [first, *(decode(value, transaction_id) for number, value in self.repeated if number == wanted)]

    @property
    def credentials(self) -> bytes:
        """From the first attribute that says who asks to the integrity attribute: the same bytes name the same one.

        Nothing else may be concluded from them: other attributes may lie between.
        """
        return self.raw[self._credentials_at : self.integrity_at] if self._credentials_at != _ABSENT else b""

    def unknown_attributes(self, understood: frozenset[int]) -> tuple[int, ...]:
        """Types of comprehension-required attributes that are not in `understood` (RFC 8489 §6.3.1)."""
        if understood.issuperset(self.values):
            return ()
        return tuple(number for number in self.values if number < _COMPREHENSION_OPTIONAL and number not in understood)

    def verify(self, key: IntegrityKey) -> None:
        """Check the strongest integrity attribute present.

        Raises:
            IntegrityError: it does not match.
            ValueError: there is none; ask `integrity` first.
        """
        if self.integrity is None:
            raise ValueError("the message carries no integrity attribute")
        key.verify(self.raw, self.integrity_at, self.integrity)

    @property
    def response_integrity(self) -> IntegrityAlgorithm:
        """The integrity of a response to this request (RFC 8489 §9.2.4): its own, and SHA-256 for all who know of it.

        The RFC would answer MESSAGE-INTEGRITY-SHA256 without a PASSWORD-ALGORITHM with the weaker MESSAGE-INTEGRITY;
        whoever sent the stronger one gets it back.
        """
        if self.integrity is _SHA256 or _PASSWORD_ALGORITHM in self.values:
            return _SHA256
        return _SHA1


def decode_message(data: bytes) -> Message:
    """Read one whole STUN message, as a datagram or a stream frame carries it.

    Attributes behind MESSAGE-INTEGRITY are ignored, save MESSAGE-INTEGRITY-SHA256 and FINGERPRINT (RFC 8489
    §14.5); a FINGERPRINT must be right and last (§14.7). Padding may hold anything (§14).

    Raises:
        MessageParseError: anything about the bytes is wrong. Values of attributes are checked when read.
    """
    end = len(data)
    if end < HEADER_LENGTH:
        raise MessageParseError(ParseFault.TRUNCATED, f"{end} bytes of header")
    type_field = data[0] << 8 | data[1]
    length = data[2] << 8 | data[3]
    if type_field & 0xC000 or data[4:8] != MAGIC_COOKIE or length & 3 or HEADER_LENGTH + length != end:
        raise _header_fault(type_field, length, data[4:8], end)
    values: dict[int, bytes] = {}
    repeated: list[tuple[int, bytes]] | tuple[()] = ()
    integrity: IntegrityAlgorithm | None = None
    credentials_at = integrity_at = _ABSENT
    has_fingerprint = False
    at = HEADER_LENGTH
    for seen in _ATTRIBUTE_STEPS:
        if at == end:
            break
        number = data[at] << 8 | data[at + 1]
        if number in _CLOSING:
            integrity, integrity_at, has_fingerprint = _read_closing(data, at, seen)
            break
        start = at + 4
        size = data[at + 2] << 8 | data[at + 3]
        stop = start + size
        if stop > end:
            raise MessageParseError(ParseFault.TRUNCATED, f"attribute {number:#06x} claims {size} bytes")
        if credentials_at == _ABSENT and number in _CREDENTIALS:
            credentials_at = at
        if number not in values:
            values[number] = data[start:stop]
        elif repeated:
            repeated.append((number, data[start:stop]))
        else:
            repeated = [(number, data[start:stop])]
        at = stop + 3 & ~3
    else:
        if at < end:
            raise MessageParseError(ParseFault.TOO_MANY, f"more than {MAX_ATTRIBUTES} attributes")
    return Message(type_field, values, repeated, data, credentials_at, integrity, integrity_at, has_fingerprint)


def encode_message(
    method: int,
    message_class: MessageClass,
    transaction_id: bytes,
    attributes: Iterable[bytes] = (),
    *,
    key: IntegrityKey | None = None,
    algorithm: IntegrityAlgorithm = IntegrityAlgorithm.SHA1,
    fingerprint: bool = False,
) -> bytes:
    """Write one message out of packed attributes, with integrity by `key` and a FINGERPRINT if wished.

    Args:
        method: a STUN method, 0 to 0xFFF.
        message_class: request, indication, success or error response.
        transaction_id: 12 bytes.
        attributes: what `Attribute.pack` returned, in order.
        key: key of the integrity attribute; None leaves it out.
        algorithm: which integrity attribute `key` makes.
        fingerprint: whether a FINGERPRINT closes the message.
    """
    type_field = message_type(method, message_class)
    body = MAGIC_COOKIE + transaction_id + b"".join(attributes)
    return _encode(type_field, body, key, algorithm, fingerprint)


def encode_success(request: Message, attributes: Iterable[bytes] = (), *, key: IntegrityKey | None = None) -> bytes:
    """Write the success response to a request: signed by `key`, with FINGERPRINT if the request had one (§6.3.1.1).

    Args:
        request: what is answered.
        attributes: what `Attribute.pack` returned, in order.
        key: key of the integrity attribute; None leaves it out.
    """
    return _respond(request, _SUCCESS, b"".join(attributes), key)


def encode_error(
    request: Message,
    code: ErrorCode,
    attributes: Iterable[bytes] = (),
    *,
    with_reason: bool = False,
    key: IntegrityKey | None = None,
) -> bytes:
    """Write the error response to a request, with FINGERPRINT if the request had one (RFC 8489 §6.3.1.1, §7)."""
    body = _PACKED_ERRORS[code, with_reason] + b"".join(attributes)
    return _respond(request, _ERROR, body, key)


def encode_unknown_attributes(request: Message, unknown: tuple[int, ...], *, key: IntegrityKey | None = None) -> bytes:
    """Write the 420 response that lists what was not understood (RFC 8489 §6.3.1, §14.13)."""
    listed = UNKNOWN_ATTRIBUTES.pack(unknown[:MAX_UNKNOWN_ATTRIBUTES])
    return encode_error(request, ErrorCode.UNKNOWN_ATTRIBUTE, (listed,), key=key)


def _respond(request: Message, message_class: int, body: bytes, key: IntegrityKey | None) -> bytes:
    raw = request.raw
    type_field = raw[0] << 8 | raw[1] | message_class  # a request has neither of the two class bits
    algorithm = _SHA1 if key is None else request.response_integrity
    return _encode(type_field, raw[4:HEADER_LENGTH] + body, key, algorithm, request.has_fingerprint)


def _encode(
    type_field: int,
    body: bytes,
    key: IntegrityKey | None,
    algorithm: IntegrityAlgorithm,
    fingerprint: bool,  # noqa: FBT001  # private, on every answer
) -> bytes:
    """Put type and length before `body`, which begins with the magic cookie; integrity and FINGERPRINT behind."""
    length = len(body) + 4 - HEADER_LENGTH
    if key is not None:
        head, size = (_INTEGRITY_HEAD, 24) if algorithm is _SHA1 else (_INTEGRITY_SHA256_HEAD, 36)
        length += size
        message = (type_field << 16 | length).to_bytes(4, "big") + body
        mac = head + key.digest(message, algorithm)
        if not fingerprint:
            return message + mac
        body += mac
    elif not fingerprint:
        return (type_field << 16 | length).to_bytes(4, "big") + body
    covered = (type_field << 16 | length + 8).to_bytes(4, "big") + body
    return covered + _FINGERPRINT_HEAD + fingerprint_of(covered).to_bytes(4, "big")


def _header_fault(type_field: int, length: int, cookie: bytes, end: int) -> MessageParseError:
    if type_field & 0xC000:
        return MessageParseError(ParseFault.NOT_STUN, "the first two bits are not zero")
    if cookie != MAGIC_COOKIE:
        return MessageParseError(ParseFault.BAD_COOKIE)
    return MessageParseError(ParseFault.BAD_LENGTH, f"length field {length} in {end} bytes")


def _read_closing(data: bytes, at: int, seen: int) -> tuple[IntegrityAlgorithm | None, int, bool]:
    """Read the attributes from the first integrity or FINGERPRINT on, where nothing else counts any more.

    Args:
        data: the message.
        at: offset of that attribute.
        seen: how many attributes there are before it.

    Returns:
        The strongest integrity, its offset, and whether there is a FINGERPRINT.
    """
    integrity: IntegrityAlgorithm | None = None
    integrity_at = _ABSENT
    end = len(data)
    for _ in range(seen, MAX_ATTRIBUTES):
        number = data[at] << 8 | data[at + 1]
        size = data[at + 2] << 8 | data[at + 3]
        stop = at + 4 + size
        if stop > end:
            raise MessageParseError(ParseFault.TRUNCATED, f"attribute {number:#06x} claims {size} bytes")
        if number == _FINGERPRINT:
            _check_fingerprint(data, at, size)
            return integrity, integrity_at, True
        if number == _MESSAGE_INTEGRITY:
            if integrity is None:
                _check_size(number, size, 20)
                integrity, integrity_at = _SHA1, at
        elif number == _MESSAGE_INTEGRITY_SHA256 and integrity is not _SHA256:
            _check_size(number, size, 32)
            integrity, integrity_at = _SHA256, at
        at = stop + 3 & ~3
        if at == end:
            return integrity, integrity_at, False
    raise MessageParseError(ParseFault.TOO_MANY, f"more than {MAX_ATTRIBUTES} attributes")


def _check_size(number: int, size: int, expected: int) -> None:
    if size != expected:
        raise MessageParseError(ParseFault.BAD_LENGTH, f"attribute {number:#06x} of {size} bytes, not {expected}")


def _check_fingerprint(data: bytes, at: int, size: int) -> None:
    _check_size(_FINGERPRINT, size, 4)
    if fingerprint_of(data[:at]) != int.from_bytes(data[at + 4 : at + 8]):
        raise MessageParseError(ParseFault.BAD_FINGERPRINT)
    if at + 8 != len(data):
        raise MessageParseError(ParseFault.MISPLACED, "FINGERPRINT is not the last attribute")


_PACKED_ERRORS: Final = {
    (code, with_reason): ERROR_CODE.pack(error_value(code, with_reason=with_reason))
    for code in ErrorCode
    for with_reason in (False, True)
}
