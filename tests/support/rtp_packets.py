"""RTP and RTCP packets as browsers send them, for tests."""

from hypothesis import strategies as st

from sfu.rtcp import (
    Goodbye,
    ReceiverReport,
    ReportBlock,
    SenderReport,
    SourceDescription,
    encode_full_intra,
    encode_goodbye,
    encode_nack,
    encode_picture_loss,
    encode_receiver_report,
    encode_sender_report,
    encode_source_description,
)
from sfu.rtp import encode_extensions, encode_packet

numbers32 = st.integers(0, 0xFFFFFFFF)
numbers16 = st.integers(0, 0xFFFF)

_blocks = st.lists(
    st.builds(
        ReportBlock,
        st.integers(0, 40) | numbers32,
        st.integers(0, 255),
        st.integers(-(1 << 23), (1 << 23) - 1),
        numbers32,
        numbers32,
        numbers32,
        numbers32,
    ),
    max_size=4,
).map(tuple)

_values = st.one_of(
    st.binary(max_size=20),
    st.just(bytes.fromhex("c00001800104eaac851450460404fc02cc")),  # a Dependency Descriptor with its structure
    st.just(bytes.fromhex("c30002")),
    st.sampled_from([b"0", b"1", b"2"]),  # a MID or a RID
)

rtp_packets: st.SearchStrategy[bytes] = st.builds(
    lambda payload_type, number, timestamp, ssrc, payload, marker, extensions, padding: encode_packet(
        payload_type,
        number,
        timestamp,
        ssrc,
        payload,
        marker=marker,
        extensions=encode_extensions(extensions.items()),
        padding=padding,
    ),
    st.sampled_from([0, 96, 97, 100, 101, 111]) | st.integers(0, 127),
    numbers16,
    numbers32,
    st.integers(0, 3),
    st.sampled_from([b"", b"\x90\xf0\x92\x34\xab\xb5\x50\xa9\x00\x9d\x01\x2a\x80\x02\x68\x01"])
    | st.binary(max_size=40),
    st.booleans(),
    st.dictionaries(st.integers(1, 16), _values, max_size=6),
    st.sampled_from([0, 0, 1, 200]),
)

ssrcs = st.integers(0, 40) | numbers32  # of streams that a test has, or of any

_rtcp = st.one_of(
    st.builds(SenderReport, ssrcs, st.integers(0, (1 << 64) - 1), numbers32, numbers32, numbers32, _blocks).map(
        encode_sender_report
    ),
    st.builds(ReceiverReport, ssrcs, _blocks).map(encode_receiver_report),
    st.builds(SourceDescription, st.lists(st.tuples(numbers32, st.binary(max_size=20)), max_size=3).map(tuple)).map(
        encode_source_description
    ),
    st.builds(Goodbye, st.lists(ssrcs, max_size=3).map(tuple), st.binary(max_size=20)).map(encode_goodbye),
    st.builds(encode_nack, numbers32, ssrcs, st.lists(numbers16, max_size=20)),
    st.builds(encode_picture_loss, numbers32, ssrcs),
    st.builds(encode_full_intra, numbers32, st.lists(st.tuples(ssrcs, st.integers(0, 255)), max_size=3)),
    st.just(bytes.fromhex("afcd000500000001000000020001000200000a002002ab01")),  # transport-wide feedback
    st.just(bytes.fromhex("8fce0005000000010000000052454d4201000bb800000002")),  # REMB
)
rtcp_packets: st.SearchStrategy[bytes] = st.lists(_rtcp, min_size=1, max_size=4).map(b"".join)


_KEY_FRAME = bytes.fromhex("90e0923400405050a9009d012a80026801")
_pictures = st.builds(
    lambda payload, number, tail: payload[:2] + (0x8000 | number).to_bytes(2) + payload[4:] + tail,
    st.sampled_from([_KEY_FRAME, _KEY_FRAME[:6] + b"\xd1\xa9\0", b"\x80" + _KEY_FRAME[1:6]]),
    st.integers(0, 40),
    st.binary(max_size=20),
)
_streams = st.sampled_from(  # payload type, SSRC, whether it repeats, MID, RID, repaired RID
    [
        (100, 1, False, b"2", b"", b""),
        (101, 2, True, b"2", b"", b""),
        (100, 3, False, b"", b"", b""),
        (111, 50, False, b"1", b"", b""),
        (96, 60, False, b"0", b"0", b""),
        (97, 61, True, b"0", b"", b"0"),
        (96, 62, False, b"0", b"1", b""),
        (96, 63, False, b"0", b"0", b""),
    ]
)


def _participant_packet(
    stream: tuple[int, int, bool, bytes, bytes, bytes], number: int, timestamp: int, payload: bytes, extra: bytes
) -> bytes:
    payload_type, ssrc, is_rtx, mid, rid, repaired_rid = stream
    values = ((1, extra[:1]), (4, mid), (5, rid), (6, repaired_rid), (7, extra))
    return encode_packet(
        payload_type,
        number & 0xFFFF,
        timestamp,
        ssrc,
        (number - 3 & 0xFFFF).to_bytes(2) + payload if is_rtx else payload,
        extensions=encode_extensions([(identifier, value) for identifier, value in values if value]),
    )


# What a participant of tests/fuzz/test_rtp.py may send: streams that were announced, numbers near each other.
participant_packets: st.SearchStrategy[bytes] = st.builds(
    _participant_packet,
    _streams,
    st.integers(-20, 40),
    numbers32,
    _pictures | st.binary(max_size=30),
    st.just(b"") | _values,
)
_sources = st.sampled_from([1, 2, 3, 50, 60])
participant_reports: st.SearchStrategy[bytes] = st.lists(
    st.one_of(
        st.builds(encode_nack, st.just(5), st.sampled_from([10, 20, 30]), st.lists(st.integers(0, 60), max_size=20)),
        st.builds(encode_picture_loss, st.just(5), st.sampled_from([10, 20, 30, 40])),
        st.builds(
            SenderReport, st.sampled_from([1, 3, 50, 60]), numbers32, numbers32, numbers32, numbers32, _blocks
        ).map(encode_sender_report),
        st.builds(Goodbye, st.lists(st.sampled_from([1, 2, 3, 50, 60]), max_size=3).map(tuple), st.just(b"")).map(
            encode_goodbye
        ),
        _rtcp,
    ),
    min_size=1,
    max_size=3,
).map(b"".join)
