import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stun.address import TransportAddress
from stun.attributes import (
    DATA,
    ERROR_CODE,
    LIFETIME,
    REALM,
    SOFTWARE,
    UNDERSTOOD_IN_BINDING,
    UNKNOWN_ATTRIBUTES,
    USERNAME,
    XOR_PEER_ADDRESS,
    Attribute,
    pack_attribute,
)
from stun.errors import MessageParseError, ParseFault
from stun.integrity import IntegrityKey, fingerprint_of
from stun.message import (
    MAX_ATTRIBUTES,
    MAX_UNKNOWN_ATTRIBUTES,
    decode_message,
    encode_error,
    encode_message,
    encode_unknown_attributes,
)
from stun.registry import ErrorCode, IntegrityAlgorithm, MessageClass, Method

TRANSACTION_ID = bytes.fromhex("b7e7a701bc34d686fa87dfae")
KEY = IntegrityKey(b"a key")

# Types with a meaning for the decoder itself: integrity and fingerprint
MEANINGFUL = {0x0008, 0x001C, 0x8028}
attributes = st.lists(
    st.tuples(st.integers(0, 0xFFFF).filter(lambda number: number not in MEANINGFUL), st.binary(max_size=40)),
    max_size=10,
)


def message(*packed: bytes, fingerprint: bool = False) -> bytes:
    return encode_message(Method.BINDING, MessageClass.REQUEST, TRANSACTION_ID, packed, fingerprint=fingerprint)


def with_length(raw: bytes) -> bytes:
    return raw[:2] + (len(raw) - 20).to_bytes(2) + raw[4:]


def with_fingerprint(raw: bytes) -> bytes:
    covered = raw[:2] + (len(raw) - 12).to_bytes(2) + raw[4:]
    return covered + b"\x80\x28\0\4" + fingerprint_of(covered).to_bytes(4)


@given(
    st.integers(0, 0xFFF),
    st.sampled_from(MessageClass),
    st.binary(min_size=12, max_size=12),
    attributes,
    st.sampled_from([None, *IntegrityAlgorithm]),
    st.booleans(),
)
def test_a_message_survives_the_round_trip(
    method: int,
    message_class: MessageClass,
    transaction_id: bytes,
    values: list[tuple[int, bytes]],
    algorithm: IntegrityAlgorithm | None,
    fingerprint: bool,  # noqa: FBT001
) -> None:
    raw = encode_message(
        method,
        message_class,
        transaction_id,
        [pack_attribute(*value) for value in values],
        key=None if algorithm is None else KEY,
        algorithm=algorithm or IntegrityAlgorithm.SHA1,
        fingerprint=fingerprint,
    )
    decoded = decode_message(raw)
    assert (decoded.method, decoded.message_class, decoded.transaction_id) == (method, message_class, transaction_id)
    assert decoded.values == dict(reversed(values))
    assert list(decoded.values) == list(dict.fromkeys(number for number, _ in values))
    assert (*decoded.repeated,) == tuple(
        each for at, each in enumerate(values) if each[0] in {number for number, _ in values[:at]}
    )
    assert decoded.raw is raw
    assert decoded.integrity is algorithm
    assert decoded.has_fingerprint is fingerprint
    if algorithm is not None:
        decoded.verify(KEY)


def test_an_empty_message_has_the_published_bytes() -> None:
    assert message().hex() == "000100002112a442b7e7a701bc34d686fa87dfae"


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"", ParseFault.TRUNCATED),
        (message()[:19], ParseFault.TRUNCATED),
        (b"\x40" + message()[1:], ParseFault.NOT_STUN),
        (b"\x80" + message()[1:], ParseFault.NOT_STUN),
        (message()[:4] + bytes(4) + message()[8:], ParseFault.BAD_COOKIE),
        (message()[:3] + b"\4" + message()[4:], ParseFault.BAD_LENGTH),
        (message() + bytes(4), ParseFault.BAD_LENGTH),
        (message()[:3] + b"\3" + message()[4:] + bytes(3), ParseFault.BAD_LENGTH),
        (with_length(message() + b"\x80\x22\0\1"), ParseFault.TRUNCATED),
        (with_length(message() + b"\x80\x22\xff\xff" + bytes(8)), ParseFault.TRUNCATED),
        (message(*[pack_attribute(0x8022, b"")] * (MAX_ATTRIBUTES + 1)), ParseFault.TOO_MANY),
        (message(pack_attribute(0x0008, bytes(16))), ParseFault.BAD_LENGTH),
        (message(pack_attribute(0x001C, bytes(20))), ParseFault.BAD_LENGTH),
        (message(pack_attribute(0x8028, bytes(8))), ParseFault.BAD_LENGTH),
        (message(pack_attribute(0x8028, bytes(4))), ParseFault.BAD_FINGERPRINT),
        (with_length(with_fingerprint(message()) + SOFTWARE.pack("")), ParseFault.BAD_FINGERPRINT),
        (with_fingerprint(with_fingerprint(message())), ParseFault.BAD_FINGERPRINT),
    ],
)
def test_a_malformed_message_is_refused_with_its_fault(raw: bytes, fault: ParseFault) -> None:
    with pytest.raises(MessageParseError) as caught:
        decode_message(raw)
    assert caught.value.fault is fault


def test_a_right_fingerprint_that_is_not_the_last_attribute_is_refused() -> None:
    # Its CRC covers the length of the whole message, as a forger would compute it.
    covered = message()[:2] + (12).to_bytes(2) + message()[4:]
    raw = covered + b"\x80\x28\0\4" + fingerprint_of(covered).to_bytes(4) + SOFTWARE.pack("")
    with pytest.raises(MessageParseError) as caught:
        decode_message(raw)
    assert caught.value.fault is ParseFault.MISPLACED


def test_as_many_attributes_as_the_bound_are_read() -> None:
    decoded = decode_message(message(*[SOFTWARE.pack("")] * MAX_ATTRIBUTES))
    assert len(decoded.get_all(SOFTWARE)) == MAX_ATTRIBUTES


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_but_a_parse_error(raw: bytes) -> None:
    with contextlib.suppress(MessageParseError):
        decode_message(raw)


@given(st.binary(max_size=200).map(lambda body: body[: len(body) & ~3]))
def test_an_arbitrary_body_behind_a_right_header_raises_nothing_but_a_parse_error(body: bytes) -> None:
    with contextlib.suppress(MessageParseError):
        decoded = decode_message(with_length(message() + body))
        known: tuple[Attribute[Any], ...] = (USERNAME, XOR_PEER_ADDRESS, ERROR_CODE, LIFETIME)
        for attribute in known:
            with contextlib.suppress(MessageParseError):
                decoded.get_all(attribute)
            with contextlib.suppress(MessageParseError):
                decoded.get(attribute)


@pytest.mark.parametrize("before", [0, 1, MAX_ATTRIBUTES - 3])
def test_the_bound_counts_attributes_that_are_ignored_too(before: int) -> None:
    head = b"".join([SOFTWARE.pack("")] * before) + pack_attribute(0x0008, bytes(20))
    decode_message(message(head, *[SOFTWARE.pack("")] * (MAX_ATTRIBUTES - before - 1)))
    with pytest.raises(MessageParseError) as caught:
        decode_message(message(head, *[SOFTWARE.pack("")] * (MAX_ATTRIBUTES - before)))
    assert caught.value.fault is ParseFault.TOO_MANY


def test_an_ignored_attribute_must_still_fit_into_the_message() -> None:
    with pytest.raises(MessageParseError) as caught:
        decode_message(with_length(message(pack_attribute(0x0008, bytes(20))) + b"\x80\x22\0\1"))
    assert caught.value.fault is ParseFault.TRUNCATED


def test_padding_may_hold_anything() -> None:
    raw = message(SOFTWARE.pack("x"))
    assert decode_message(raw[:-3] + b"\xff \0").get(SOFTWARE) == "x"


@pytest.mark.parametrize("algorithm", IntegrityAlgorithm)
def test_attributes_behind_the_integrity_are_ignored(algorithm: IntegrityAlgorithm) -> None:
    signed = encode_message(
        Method.BINDING, MessageClass.REQUEST, TRANSACTION_ID, (SOFTWARE.pack("seen"),), key=KEY, algorithm=algorithm
    )
    decoded = decode_message(
        with_fingerprint(with_length(signed + REALM.pack("smuggled") + pack_attribute(0x7F00, b"")))
    )
    assert list(decoded.values) == [SOFTWARE.type]
    assert decoded.unknown_attributes(UNDERSTOOD_IN_BINDING) == ()
    assert decoded.has_fingerprint
    decoded.verify(KEY)


def test_a_second_integrity_attribute_of_the_same_kind_is_ignored() -> None:
    signed = encode_message(Method.BINDING, MessageClass.REQUEST, TRANSACTION_ID, key=KEY)
    decoded = decode_message(with_length(signed + pack_attribute(0x0008, bytes(20))))
    assert decoded.integrity_at == 20
    decoded.verify(KEY)


def test_the_weaker_integrity_behind_the_stronger_one_is_ignored() -> None:
    signed = encode_message(
        Method.BINDING, MessageClass.REQUEST, TRANSACTION_ID, key=KEY, algorithm=IntegrityAlgorithm.SHA256
    )
    decoded = decode_message(with_length(signed + pack_attribute(0x0008, bytes(20))))
    assert (decoded.integrity_at, decoded.integrity) == (20, IntegrityAlgorithm.SHA256)


def test_the_first_of_duplicates_counts_and_all_can_be_had() -> None:
    peers = [TransportAddress.parse("192.0.2.1", port) for port in (1, 2)]
    decoded = decode_message(
        message(*(XOR_PEER_ADDRESS.pack(peer, TRANSACTION_ID) for peer in peers), DATA.pack(b""), DATA.pack(b"x"))
    )
    assert decoded.get(XOR_PEER_ADDRESS) == peers[0]
    assert decoded.get_all(XOR_PEER_ADDRESS) == peers
    assert decoded.get(DATA) == b""
    assert decoded.get(REALM) is None
    assert decoded.get_all(REALM) == []


def test_only_comprehension_required_types_that_are_not_understood_are_unknown() -> None:
    packed = [pack_attribute(number, b"") for number in (0x0002, 0x7FFF, 0x8000, 0xFFFF, 0x0006, 0x0002)]
    unknown = decode_message(message(*packed)).unknown_attributes
    assert unknown(frozenset({0x0006})) == (0x0002, 0x7FFF)
    assert unknown(frozenset({0x0006, 0x0002})) == (0x7FFF,)
    assert unknown(frozenset()) == (0x0002, 0x7FFF, 0x0006)
    assert unknown(frozenset({0x0006, 0x0002, 0x7FFF})) == ()


@pytest.mark.parametrize("fingerprint", [False, True])
@pytest.mark.parametrize("with_reason", [False, True])
def test_an_error_answers_its_request(*, fingerprint: bool, with_reason: bool) -> None:
    request = decode_message(message(fingerprint=fingerprint))
    answer = decode_message(
        encode_error(request, ErrorCode.FORBIDDEN, (REALM.pack("here"),), with_reason=with_reason, key=KEY)
    )
    assert (answer.method, answer.message_class) == (Method.BINDING, MessageClass.ERROR)
    assert answer.transaction_id == TRANSACTION_ID
    assert answer.get(ERROR_CODE) == (403, "Forbidden" if with_reason else "")
    assert answer.get(REALM) == "here"
    assert answer.has_fingerprint is fingerprint
    assert answer.integrity is IntegrityAlgorithm.SHA1
    answer.verify(KEY)


def test_a_420_lists_no_more_types_than_the_bound() -> None:
    request = decode_message(message())
    answer = decode_message(encode_unknown_attributes(request, tuple(range(100))))
    assert answer.get(UNKNOWN_ATTRIBUTES) == tuple(range(MAX_UNKNOWN_ATTRIBUTES))
    assert answer.integrity is None
