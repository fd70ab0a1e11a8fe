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
        numbers32,
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
    st.sampled_from([0, 96, 97, 111]) | st.integers(0, 127),
    numbers16,
    numbers32,
    st.integers(0, 3),
    st.sampled_from([b"", b"\x90\xf0\x92\x34\xab\xb5\x50\xa9\x00\x9d\x01\x2a\x80\x02\x68\x01"])
    | st.binary(max_size=40),
    st.booleans(),
    st.dictionaries(st.integers(1, 16), _values, max_size=6),
    st.sampled_from([0, 0, 1, 200]),
)

_rtcp = st.one_of(
    st.builds(SenderReport, numbers32, st.integers(0, (1 << 64) - 1), numbers32, numbers32, numbers32, _blocks).map(
        encode_sender_report
    ),
    st.builds(ReceiverReport, numbers32, _blocks).map(encode_receiver_report),
    st.builds(SourceDescription, st.lists(st.tuples(numbers32, st.binary(max_size=20)), max_size=3).map(tuple)).map(
        encode_source_description
    ),
    st.builds(Goodbye, st.lists(numbers32, max_size=3).map(tuple), st.binary(max_size=20)).map(encode_goodbye),
    st.builds(encode_nack, numbers32, numbers32, st.lists(numbers16, max_size=20)),
    st.builds(encode_picture_loss, numbers32, numbers32),
    st.builds(encode_full_intra, numbers32, st.lists(st.tuples(numbers32, st.integers(0, 255)), max_size=3)),
    st.just(bytes.fromhex("afcd000500000001000000020001000200000a002002ab01")),  # transport-wide feedback
    st.just(bytes.fromhex("8fce0005000000010000000052454d4201000bb800000002")),  # REMB
)
rtcp_packets: st.SearchStrategy[bytes] = st.lists(_rtcp, min_size=1, max_size=4).map(b"".join)
