"""Parsers of `stun` against mutated messages. HYPOTHESIS_PROFILE=fuzz turns it up."""

import contextlib
import itertools

from hypothesis import given
from hypothesis import strategies as st

from stun.address import TransportAddress
from stun.attributes import ATTRIBUTES
from stun.demux import decode_channel_data, encode_channel_data
from stun.errors import IntegrityError, MessageParseError, StaleNonceError
from stun.integrity import IntegrityKey
from stun.message import MAX_ATTRIBUTES, decode_message, encode_message
from stun.nonce import NonceSealer
from stun.registry import HEADER_LENGTH, IntegrityAlgorithm
from tests.fuzz.targets.framing import decode_pieces
from tests.support.mutations import messages, mutated

SEALER = NonceSealer([bytes(16)], 3600)
CLIENT = TransportAddress.parse("192.0.2.1", 5000)

frames = st.one_of(messages, st.builds(encode_channel_data, st.integers(0x4000, 0x7FFE), st.binary(max_size=100)))
streams = st.lists(frames.map(lambda frame: frame + bytes(-len(frame) % 4)), max_size=5).map(b"".join)


@given(mutated(messages))
def test_a_mutated_message_decodes_or_raises_a_parse_error(raw: bytes) -> None:
    try:
        message = decode_message(raw)
    except MessageParseError:
        return
    assert len(message.values) + len(message.repeated) <= MAX_ATTRIBUTES
    for number, value in (*message.values.items(), *message.repeated):
        if number in ATTRIBUTES:
            with contextlib.suppress(MessageParseError):
                ATTRIBUTES[number].decode(value, message.transaction_id)
    if message.integrity is not None:
        with contextlib.suppress(IntegrityError):
            message.verify(IntegrityKey(b"a key"))


@given(st.sampled_from(sorted(ATTRIBUTES)), st.binary(max_size=80), st.binary(min_size=12, max_size=12))
def test_what_an_attribute_decodes_it_encodes_to_something_that_decodes_alike(
    number: int, value: bytes, transaction_id: bytes
) -> None:
    attribute = ATTRIBUTES[number]
    with contextlib.suppress(MessageParseError):
        decoded = attribute.decode(value, transaction_id)
        packed = attribute.pack(decoded, transaction_id)
        assert len(packed) % 4 == 0
        assert attribute.decode(packed[4 : 4 + int.from_bytes(packed[2:4])], transaction_id) == decoded


@given(mutated(messages), st.frozensets(st.integers(0, 0xFFFF)))
def test_every_question_to_a_mutated_message_is_answered_or_raises_a_parse_error(
    raw: bytes, understood: frozenset[int]
) -> None:
    with contextlib.suppress(MessageParseError):
        message = decode_message(raw)
        unknown = message.unknown_attributes(understood)
        assert len(unknown) == len(set(unknown)) <= MAX_ATTRIBUTES
        assert all(number < 0x8000 and number not in understood for number in unknown)
        assert message.response_integrity in IntegrityAlgorithm
        for attribute in ATTRIBUTES.values():
            with contextlib.suppress(MessageParseError):
                values = message.get_all(attribute)
                assert message.get(attribute) == (values[0] if values else None)


@given(st.text(max_size=40), st.floats(0, 9e9), st.booleans())
def test_any_nonce_is_verified_or_stale(text: str, now: float, with_cookie: bool) -> None:  # noqa: FBT001
    with contextlib.suppress(StaleNonceError):
        SEALER.verify("obMatJos2" * with_cookie + text, CLIENT, now)


@given(mutated(messages))
def test_what_decodes_encodes_to_something_that_decodes_alike(raw: bytes) -> None:
    with contextlib.suppress(MessageParseError):
        message = decode_message(raw)
        packed = (
            number.to_bytes(2) + len(value).to_bytes(2) + value + bytes(-len(value) % 4)
            for number, value in (*message.values.items(), *message.repeated)
        )
        again = decode_message(
            encode_message(
                message.method,
                message.message_class,
                message.transaction_id,
                packed,
                fingerprint=message.has_fingerprint,
            )
        )
        assert (again.method, again.message_class) == (message.method, message.message_class)
        assert again.transaction_id == message.transaction_id
        assert list(again.values.items()) == list(message.values.items())
        assert list(again.repeated) == list(message.repeated)
        assert again.has_fingerprint == message.has_fingerprint


@given(mutated(streams), st.lists(st.integers(0, 1 << 20), max_size=10))
def test_a_mutated_stream_gives_the_same_frames_however_it_is_cut(raw: bytes, cuts: list[int]) -> None:
    whole, failed = decode_pieces([raw])
    edges = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]
    pieces, failed_in_pieces = decode_pieces([raw[begin:end] for begin, end in itertools.pairwise(edges)])
    assert failed == failed_in_pieces
    # Of a stream that turns into junk, frames in the same piece as the junk are not handed out.
    assert pieces == whole if not failed else whole == []
    for frame in pieces:
        with contextlib.suppress(MessageParseError):
            if frame[0] < 4:
                assert len(frame) >= HEADER_LENGTH
                decode_message(frame)
            else:
                decode_channel_data(frame)
