import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfu.errors import ParseFault, RtpParseError
from sfu.rtp import (
    MAX_EXTENSIONS,
    DatagramKind,
    decode_extensions,
    decode_header,
    encode_extensions,
    encode_packet,
    kind_of,
    original_sequence_number,
)

# A VP8 packet as RFC 3550 and RFC 8285 lay it out: one CSRC, mid "0" as extension 4, padding of 2 bytes.
PACKET = bytes.fromhex("b1e0fffe00010203deadbeef01020304bede0001403000001098ab0002")


def test_every_field_of_a_packet_lies_where_the_rfc_says() -> None:
    header = decode_header(PACKET)
    assert header.marker is True
    assert header.payload_type == 96
    assert header.sequence_number == 0xFFFE
    assert header.timestamp == 0x00010203
    assert header.ssrc == 0xDEADBEEF
    assert PACKET[header.payload_offset : header.payload_end] == bytes.fromhex("1098ab")
    assert decode_extensions(PACKET, header) == {4: b"0"}


@pytest.mark.parametrize(
    ("packet", "fault"),
    [
        (PACKET[:11], ParseFault.TRUNCATED),
        (b"\x31" + PACKET[1:], ParseFault.BAD_VERSION),
        (PACKET[:15], ParseFault.TRUNCATED),
        (PACKET[:18], ParseFault.TRUNCATED),
        (PACKET[:23], ParseFault.TRUNCATED),
        (PACKET[:-1] + b"\0", ParseFault.BAD_PADDING),
        (PACKET[:-1] + b"\6", ParseFault.BAD_PADDING),
        (b"", ParseFault.TRUNCATED),
    ],
)
def test_a_length_that_points_outside_is_refused(packet: bytes, fault: ParseFault) -> None:
    with pytest.raises(RtpParseError) as refused:
        decode_header(packet)
    assert refused.value.fault is fault


def test_a_packet_may_be_all_padding() -> None:
    header = decode_header(PACKET[:-1] + b"\5")
    assert header.payload_offset == header.payload_end


def _with_block(profile: int, data: str) -> bytes:
    block = bytes.fromhex(data)
    return encode_packet(
        96, 1, 2, 3, b"payload", extensions=profile.to_bytes(2) + (len(block) // 4).to_bytes(2) + block
    )


def _extensions(profile: int, data: str) -> dict[int, bytes]:
    packet = _with_block(profile, data)
    return decode_extensions(packet, decode_header(packet))


def test_padding_between_elements_is_skipped() -> None:
    assert _extensions(0xBEDE, "0010aa0032bbccdd00000000") == {1: b"\xaa", 3: b"\xbb\xcc\xdd"}


def test_identifier_15_or_0_with_a_length_ends_a_block_of_one_byte_headers() -> None:
    assert _extensions(0xBEDE, "10aaf0bb20cc0000") == {1: b"\xaa"}
    assert _extensions(0xBEDE, "10aa01bbbb20cc00") == {1: b"\xaa"}


def test_elements_of_two_byte_headers_may_be_empty_or_long() -> None:
    assert _extensions(0x1000, "01000210" + "cc" * 16) == {1: b"", 2: b"\xcc" * 16}
    assert _extensions(0x100F, "01000000") == {1: b""}


def test_a_block_of_an_unknown_profile_has_no_elements() -> None:
    assert _extensions(0x1234, "10aa0000") == {}


@pytest.mark.parametrize(
    ("profile", "data", "fault"),
    [
        (0xBEDE, "0000001f", ParseFault.BAD_LENGTH),
        (0x1000, "01040000", ParseFault.BAD_LENGTH),
        (0x1000, "01010001", ParseFault.TRUNCATED),
        (0x1000, "0100" * (MAX_EXTENSIONS + 2), ParseFault.TOO_MANY),
    ],
)
def test_an_element_that_ends_outside_its_block_is_refused(profile: int, data: str, fault: ParseFault) -> None:
    with pytest.raises(RtpParseError) as refused:
        _extensions(profile, data)
    assert refused.value.fault is fault


def test_values_that_fit_get_headers_of_one_byte_and_others_of_two() -> None:
    assert encode_extensions([]) == b""
    assert encode_extensions([(1, b"a"), (14, b"b" * 16)])[:2] == b"\xbe\xde"
    for element in [(15, b"a"), (1, b""), (1, b"a" * 17)]:
        assert encode_extensions([element])[:2] == b"\x10\0"
    with pytest.raises(ValueError, match="identifiers"):
        encode_extensions([(0, b"a")])
    with pytest.raises(ValueError, match="bytes"):
        encode_extensions([(1, bytes(256))])


elements = st.dictionaries(st.integers(1, 14), st.binary(max_size=20), max_size=8)


@given(
    st.integers(0, 127),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.integers(0, 0xFFFFFFFF),
    st.binary(max_size=60),
    st.booleans(),
    elements,
    st.integers(0, 255),
)
def test_what_is_built_parses_to_the_same(
    payload_type: int,
    sequence_number: int,
    timestamp: int,
    ssrc: int,
    payload: bytes,
    marker: bool,  # noqa: FBT001
    extensions: dict[int, bytes],
    padding: int,
) -> None:
    packet = encode_packet(
        payload_type,
        sequence_number,
        timestamp,
        ssrc,
        payload,
        marker=marker,
        extensions=encode_extensions(extensions.items()),
        padding=padding,
    )
    header = decode_header(packet)
    assert header[:5] == (marker, payload_type, sequence_number, timestamp, ssrc)
    assert packet[header.payload_offset : header.payload_end] == payload
    assert decode_extensions(packet, header) == extensions
    assert len(packet) - header.payload_end == padding


@given(st.binary(max_size=80).map(lambda rest: b"\x90" + rest) | st.binary(max_size=80))
def test_a_parser_raises_nothing_but_its_own_error(raw: bytes) -> None:
    with contextlib.suppress(RtpParseError):
        header = decode_header(raw)
        assert 12 <= header.extensions_offset <= header.payload_offset <= header.payload_end <= len(raw)
        with contextlib.suppress(RtpParseError):
            assert sum(map(len, decode_extensions(raw, header).values())) < len(raw)
        with contextlib.suppress(RtpParseError):
            original_sequence_number(raw, header)


def test_a_retransmission_says_which_packet_it_repeats() -> None:
    packet = encode_packet(97, 1, 2, 3, b"\xff\xfepayload")
    assert original_sequence_number(packet, decode_header(packet)) == 0xFFFE


def test_a_retransmission_that_is_all_padding_repeats_nothing() -> None:
    packet = encode_packet(97, 1, 2, 3, b"", padding=200)
    assert original_sequence_number(packet, decode_header(packet)) is None


def test_half_an_original_sequence_number_is_refused() -> None:
    packet = encode_packet(97, 1, 2, 3, b"\xff")
    with pytest.raises(RtpParseError):
        original_sequence_number(packet, decode_header(packet))


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        (0, 1, DatagramKind.STUN),
        (3, 1, DatagramKind.STUN),
        (4, 1, DatagramKind.UNKNOWN),
        (19, 1, DatagramKind.UNKNOWN),
        (20, 254, DatagramKind.DTLS),
        (63, 254, DatagramKind.DTLS),
        (64, 0, DatagramKind.UNKNOWN),
        (127, 0, DatagramKind.UNKNOWN),
        (128, 0, DatagramKind.RTP),
        (0x90, 191, DatagramKind.RTP),
        (0x80, 192, DatagramKind.RTCP),
        (0x81, 201, DatagramKind.RTCP),
        (0x8F, 223, DatagramKind.RTCP),
        (0xBF, 224, DatagramKind.RTP),
        (192, 200, DatagramKind.UNKNOWN),
    ],
)
def test_the_first_two_bytes_tell_what_a_datagram_is(first: int, second: int, kind: DatagramKind) -> None:
    assert kind_of(bytes((first, second))) is kind


def test_a_datagram_of_one_byte_or_none_is_no_rtcp() -> None:
    assert kind_of(b"") is DatagramKind.UNKNOWN
    assert kind_of(b"\x80") is DatagramKind.RTP
