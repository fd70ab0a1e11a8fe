import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfu.errors import ParseFault, RtcpParseError
from sfu.rtcp import (
    MAX_NACK_ENTRIES,
    MAX_PACKETS,
    FullIntraRequest,
    Goodbye,
    Nack,
    PictureLossIndication,
    ReceiverReport,
    ReportBlock,
    SenderReport,
    SourceDescription,
    TransportWideFeedback,
    decode_compound,
    encode_full_intra,
    encode_goodbye,
    encode_nack,
    encode_picture_loss,
    encode_receiver_report,
    encode_sender_report,
    encode_source_description,
    encode_transport_wide,
)

ssrcs = st.integers(0, 0xFFFFFFFF)
numbers = st.integers(0, 0xFFFFFFFF)
reports = st.lists(
    st.builds(
        ReportBlock,
        ssrcs,
        st.integers(0, 255),
        st.integers(-(1 << 23), (1 << 23) - 1),
        numbers,
        numbers,
        numbers,
        numbers,
    ),
    max_size=31,
).map(tuple)


def test_a_sender_report_lies_where_the_rfc_says() -> None:
    raw = bytes.fromhex(
        "81c8000c 00000001 0000000200000003 00000004 00000005 00000006"
        "0000000a 80fffffe 00010002 0000000b 0000000c 0000000d"
    )
    block = ReportBlock(10, 128, -2, 0x10002, 11, 12, 13)
    assert decode_compound(raw) == [SenderReport(1, 2 << 32 | 3, 4, 5, 6, (block,))]


def test_a_nack_names_a_packet_and_the_16_behind_it() -> None:
    raw = bytes.fromhex("81cd0003 00000001 00000002 fffe8005")
    assert decode_compound(raw) == [Nack(1, 2, (0xFFFE, 0xFFFF, 1, 14))]


def test_feedback_is_read_from_one_compound_packet() -> None:
    raw = encode_receiver_report(ReceiverReport(1)) + encode_picture_loss(1, 2) + encode_full_intra(1, [(3, 255)])
    assert decode_compound(raw) == [
        ReceiverReport(1),
        PictureLossIndication(1, 2),
        FullIntraRequest(1, ((3, 255),)),
    ]


def test_transport_wide_feedback_is_handed_on_without_its_odd_padding() -> None:
    fci = bytes.fromhex("0001000200000a002002ab")
    raw = bytes.fromhex("afcd0005 00000001 00000002") + fci + b"\1"
    assert decode_compound(raw) == [TransportWideFeedback(1, 2, fci)]


def test_packets_that_nobody_asks_for_are_skipped() -> None:
    remb = bytes.fromhex("8fce0005 00000001 00000000 52454d42 01000bb8 00000002")
    extended = bytes.fromhex("80cf0001 00000001")
    application = bytes.fromhex("80cc0002 00000001 6e616d65")
    unknown = bytes.fromhex("80df0000")
    assert decode_compound(remb + extended + application + unknown + encode_goodbye(Goodbye((7,)))) == [Goodbye((7,))]


def test_other_items_of_a_description_are_not_read() -> None:
    raw = bytes.fromhex("81ca0005 00000001 0203616263 0105 6e616d6531 00000000")
    assert decode_compound(raw) == [SourceDescription(((1, b"name1"),))]


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        ("", ParseFault.TRUNCATED),
        ("81c8", ParseFault.TRUNCATED),
        ("80c90001 00000001 80", ParseFault.TRUNCATED),
        ("40c90001 00000001", ParseFault.BAD_VERSION),
        ("80c90002 00000001", ParseFault.BAD_LENGTH),
        ("80c90000", ParseFault.TRUNCATED),
        ("80c80001 00000001", ParseFault.TRUNCATED),
        ("81c90001 00000001", ParseFault.TRUNCATED),
        ("a0c90002 00000001 00000004 80c90001 00000001", ParseFault.BAD_PADDING),
        ("a0c90002 00000001 00000000", ParseFault.BAD_PADDING),
        ("a0c90002 00000001 00000009", ParseFault.BAD_PADDING),
        ("82cb0001 00000001", ParseFault.TRUNCATED),
        ("81cb0002 00000001 05616263", ParseFault.TRUNCATED),
        ("81ca0001 00000001", ParseFault.TRUNCATED),
        ("81ca0002 00000001 01046162", ParseFault.BAD_LENGTH),
        ("81ca0002 00000001 01026162", ParseFault.TRUNCATED),
        ("81cd0001 00000001", ParseFault.TRUNCATED),
        ("a1cd0003 00000001 00000002 00010001", ParseFault.BAD_LENGTH),
        ("84ce0003 00000001 00000002 00000003", ParseFault.BAD_LENGTH),
    ],
)
def test_what_is_malformed_is_refused_whole(raw: str, fault: ParseFault) -> None:
    good = encode_picture_loss(1, 2)
    with pytest.raises(RtcpParseError) as refused:
        decode_compound(bytes.fromhex(raw) if not raw or fault is ParseFault.TRUNCATED else good + bytes.fromhex(raw))
    assert refused.value.fault is fault


def test_a_compound_packet_has_a_bound() -> None:
    one = encode_picture_loss(1, 2)
    assert len(decode_compound(one * MAX_PACKETS)) == MAX_PACKETS
    with pytest.raises(RtcpParseError) as refused:
        decode_compound(one * (MAX_PACKETS + 1))
    assert refused.value.fault is ParseFault.TOO_MANY


def test_a_nack_has_a_bound_both_ways() -> None:
    most = [17 * number for number in range(MAX_NACK_ENTRIES)]
    raw = encode_nack(1, 2, most)
    assert decode_compound(raw) == [Nack(1, 2, tuple(most))]
    with pytest.raises(ValueError, match="entries"):
        encode_nack(1, 2, [*most, 17 * MAX_NACK_ENTRIES])
    longer = raw[:2] + (len(raw) // 4).to_bytes(2) + raw[4:] + bytes(4)
    with pytest.raises(RtcpParseError) as refused:
        decode_compound(longer)
    assert refused.value.fault is ParseFault.TOO_MANY


def test_a_full_intra_request_has_a_bound() -> None:
    assert decode_compound(encode_full_intra(1, [(2, 0)] * 32)) == [FullIntraRequest(1, ((2, 0),) * 32)]
    with pytest.raises(RtcpParseError) as refused:
        decode_compound(encode_full_intra(1, [(2, 0)] * 33))
    assert refused.value.fault is ParseFault.TOO_MANY


def test_no_packet_is_built_that_five_bits_cannot_count() -> None:
    block = ReportBlock(1, 0, 0, 0, 0, 0, 0)
    with pytest.raises(ValueError, match="32 of a packet"):
        encode_receiver_report(ReceiverReport(1, (block,) * 32))
    with pytest.raises(ValueError, match="32 of a packet"):
        encode_goodbye(Goodbye(tuple(range(32))))


@given(st.builds(SenderReport, ssrcs, st.integers(0, (1 << 64) - 1), numbers, numbers, numbers, reports))
def test_a_sender_report_parses_to_what_was_built(report: SenderReport) -> None:
    assert decode_compound(encode_sender_report(report)) == [report]


@given(st.builds(ReceiverReport, ssrcs, reports))
def test_a_receiver_report_parses_to_what_was_built(report: ReceiverReport) -> None:
    assert decode_compound(encode_receiver_report(report)) == [report]


@given(st.lists(st.tuples(ssrcs, st.binary(max_size=255)), max_size=31).map(tuple))
def test_a_description_parses_to_what_was_built(names: tuple[tuple[int, bytes], ...]) -> None:
    assert decode_compound(encode_source_description(SourceDescription(names))) == [SourceDescription(names)]


@given(st.builds(Goodbye, st.lists(ssrcs, max_size=31).map(tuple), st.binary(max_size=255)))
def test_a_goodbye_parses_to_what_was_built(goodbye: Goodbye) -> None:
    assert decode_compound(encode_goodbye(goodbye)) == [goodbye]


@given(ssrcs, st.integers(0, 0xFFFF), st.lists(st.integers(1, 40), max_size=200))
def test_a_nack_parses_to_what_was_built(media_ssrc: int, first: int, steps: list[int]) -> None:
    missing = [first]
    for step in steps:
        missing.append(missing[-1] + step & 0xFFFF)
    assert decode_compound(encode_nack(1, media_ssrc, missing)) == [Nack(1, media_ssrc, tuple(missing))]


@given(ssrcs, st.binary(max_size=100))
def test_transport_wide_feedback_parses_to_what_was_built(media_ssrc: int, fci: bytes) -> None:
    raw = encode_transport_wide(1, media_ssrc, fci)
    assert len(raw) % 4 == 0
    assert decode_compound(raw) == [TransportWideFeedback(1, media_ssrc, fci)]


raw_packets = st.builds(
    lambda first, kind, body: bytes((0x80 | first, kind)) + (len(body) // 4).to_bytes(2) + body,
    st.integers(0, 63),
    st.integers(199, 208),
    st.binary(max_size=60).map(lambda body: body + bytes(-len(body) % 4)),
)


@given(st.lists(raw_packets, min_size=1, max_size=3).map(b"".join) | st.binary(max_size=60))
def test_the_parser_raises_nothing_but_its_own_error(raw: bytes) -> None:
    with contextlib.suppress(RtcpParseError):
        assert len(decode_compound(raw)) <= MAX_PACKETS
