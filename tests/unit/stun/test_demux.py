import contextlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stun.attributes import DATA
from stun.demux import (
    MAX_CHANNEL,
    MAX_FRAME,
    MIN_CHANNEL,
    StreamDecoder,
    decode_channel_data,
    encode_channel_data,
)
from stun.errors import MessageParseError, ParseFault
from stun.message import encode_message
from stun.registry import MessageClass, Method

channel_numbers = st.integers(MIN_CHANNEL, MAX_CHANNEL)
payloads = st.binary(max_size=300)
frames = st.one_of(
    st.builds(encode_channel_data, channel_numbers, payloads),
    payloads.map(lambda data: encode_message(Method.SEND, MessageClass.INDICATION, bytes(12), (DATA.pack(data),))),
)


def padded(frame: bytes) -> bytes:
    return frame + bytes(-len(frame) % 4)


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    """The same bytes in pieces that end at the cuts, empty ones included."""
    at = 0
    for cut in sorted(cut % (len(data) + 1) for cut in cuts):
        yield data[at:cut]
        at = cut
    yield data[at:]


@given(channel_numbers, st.binary(max_size=2000), st.binary(max_size=3))
def test_channel_data_survives_the_round_trip_whatever_the_padding(number: int, data: bytes, padding: bytes) -> None:
    assert decode_channel_data(encode_channel_data(number, data) + padding) == (number, data)


def test_channel_data_has_the_published_bytes() -> None:
    assert encode_channel_data(0x4001, b"media").hex() == "40010005" + b"media".hex()
    assert encode_channel_data(0x4000, b"").hex() == "40000000"


@pytest.mark.parametrize(
    ("frame", "fault"),
    [
        (b"", ParseFault.TRUNCATED),
        (b"\x40\0\0", ParseFault.TRUNCATED),
        (b"\x3f\xff\0\0", ParseFault.BAD_VALUE),
        (b"\x7f\xff\0\0", ParseFault.BAD_VALUE),
        (b"\x40\0\0\1", ParseFault.TRUNCATED),
    ],
)
def test_malformed_channel_data_is_refused_with_its_fault(frame: bytes, fault: ParseFault) -> None:
    with pytest.raises(MessageParseError) as caught:
        decode_channel_data(frame)
    assert caught.value.fault is fault


@given(st.binary(max_size=40))
def test_arbitrary_bytes_as_channel_data_raise_nothing_but_a_parse_error(frame: bytes) -> None:
    with contextlib.suppress(MessageParseError):
        decode_channel_data(frame)


@given(st.lists(frames, max_size=8), st.lists(st.integers(0, 5000), max_size=12))
def test_frames_do_not_depend_on_how_the_stream_is_cut(sent: list[bytes], cuts: list[int]) -> None:
    decoder = StreamDecoder()
    received = [frame for piece in pieces(b"".join(map(padded, sent)), cuts) for frame in decoder.receive(piece)]
    assert received == sent
    assert decoder.buffered == 0


@given(frames, frames)
def test_a_stream_may_come_byte_by_byte(first: bytes, second: bytes) -> None:
    decoder = StreamDecoder()
    stream = padded(first) + padded(second)
    received = [frame for at in range(len(stream)) for frame in decoder.receive(stream[at : at + 1])]
    assert received == [first, second]


@given(st.lists(st.binary(max_size=200)))
def test_an_arbitrary_stream_raises_nothing_but_a_parse_error(chunks: list[bytes]) -> None:
    decoder = StreamDecoder()
    with contextlib.suppress(MessageParseError):
        for chunk in chunks:
            decoder.receive(chunk)
            assert decoder.buffered < MAX_FRAME


@pytest.mark.parametrize(
    ("frame", "step"),
    [
        (encode_channel_data(0x4000, bytes(0xFFFF)), 65_540),
        (encode_message(Method.SEND, MessageClass.INDICATION, bytes(12), (bytes(0xFFFC),)), MAX_FRAME),
    ],
)
def test_even_the_largest_frame_fits_the_bound(frame: bytes, step: int) -> None:
    decoder = StreamDecoder()
    stream = padded(frame)
    assert len(stream) == step <= MAX_FRAME
    assert decoder.receive(stream[:-1]) == []
    assert decoder.buffered == step - 1
    assert decoder.receive(stream[-1:] + b"\x40") == [frame]
    assert decoder.buffered == 1


@pytest.mark.parametrize(
    ("junk", "fault"),
    [
        (b"GET / HTTP/1.1\r\n", None),
        (b"\x16\x03\x01\x02\x00", ParseFault.NOT_STUN),
        (b"\x80\0\0\0", ParseFault.NOT_STUN),
        (b"\x05\0\0\0", ParseFault.NOT_STUN),
        (b"\0\1\0\1", ParseFault.NOT_STUN),  # a STUN length is a multiple of four
        (b"\0\1\0\0" + b"\x21\x12\xa4\x43", ParseFault.BAD_COOKIE),
    ],
)
def test_a_stream_of_something_else_is_refused(junk: bytes, fault: ParseFault | None) -> None:
    decoder = StreamDecoder()
    if fault is None:  # "GET " looks like ChannelData of 21,536 bytes; no such channel exists, so nothing comes of it
        assert decoder.receive(junk) == []
        return
    with pytest.raises(MessageParseError) as caught:
        decoder.receive(junk)
    assert caught.value.fault is fault


def test_a_wrong_cookie_is_noticed_before_the_message_is_whole() -> None:
    decoder = StreamDecoder()
    assert decoder.receive(b"\0\1\xff\xfc\0\0\0") == []
    with pytest.raises(MessageParseError):
        decoder.receive(b"\0")
