"""Parsers of RTP and RTCP against mutated packets. HYPOTHESIS_PROFILE=fuzz turns it up."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from sfu import vp8, vp9
from sfu.dependency_descriptor import MAX_DECODE_TARGETS, MAX_TEMPLATES, DependencyReader
from sfu.errors import RtcpParseError, RtpParseError
from sfu.io.engine.py_engine import PyEngine
from sfu.io.engine.srtp import SrtpError
from sfu.media_engine import Codec, DownTrack, DownTrackId, Kind, PayloadTypes, TrackId, UpTrack
from sfu.rtcp import MAX_NACK_ENTRIES, MAX_PACKETS, MAX_REPORTS, Nack, ReceiverReport, SenderReport, decode_compound
from sfu.rtp import MAX_EXTENSIONS, decode_extensions, decode_header, encode_packet, kind_of, original_sequence_number
from tests.support.engine_contract import ALICE, BOB, Stage
from tests.support.mutations import mutated
from tests.support.rtp_packets import participant_packets, participant_reports, rtcp_packets, rtp_packets


@given(mutated(rtp_packets))
def test_a_mutated_packet_parses_within_its_bounds_or_raises_a_parse_error(raw: bytes) -> None:
    kind_of(raw)
    try:
        header = decode_header(raw)
    except RtpParseError:
        return
    begin, end = header.payload_offset, header.payload_end
    assert 12 <= header.extensions_offset <= begin <= end <= len(raw)
    with contextlib.suppress(RtpParseError):
        extensions = decode_extensions(raw, header)
        assert len(extensions) <= MAX_EXTENSIONS
        assert sum(map(len, extensions.values())) <= begin - header.extensions_offset
    with contextlib.suppress(RtpParseError):
        assert original_sequence_number(raw, header) in (None, *range(0x10000))
    with contextlib.suppress(RtpParseError):
        descriptor = vp8.decode_descriptor(raw, begin, end)
        assert begin + descriptor.length <= end
        vp8.begins_key_frame(raw, begin, end, descriptor)
        packet = bytearray(raw)
        vp8.rewrite_descriptor(packet, 0, descriptor, 1 << 20, 1 << 20)
        assert packet[:begin] == raw[:begin]
        assert packet[begin + descriptor.length :] == raw[begin + descriptor.length :]
    with contextlib.suppress(RtpParseError):
        vp9.begins_key_frame(vp9.decode_descriptor(raw, begin, end))


@given(mutated(rtp_packets))
def test_what_parses_is_built_to_something_that_parses_alike(raw: bytes) -> None:
    with contextlib.suppress(RtpParseError):
        header = decode_header(raw)
        block = raw[header.extensions_offset - 4 : header.payload_offset] if raw[0] & 0x10 else b""
        payload = raw[header.payload_offset : header.payload_end]
        again = encode_packet(
            header.payload_type,
            header.sequence_number,
            header.timestamp,
            header.ssrc,
            payload,
            marker=header.marker,
            extensions=block,
            padding=len(raw) - header.payload_end,
        )
        decoded = decode_header(again)
        assert decoded[:6] == header[:6]
        assert again[decoded.payload_offset : decoded.payload_end] == payload
        with contextlib.suppress(RtpParseError):
            assert decode_extensions(again, decoded) == decode_extensions(raw, header)


@given(mutated(rtcp_packets))
def test_mutated_feedback_parses_within_its_bounds_or_raises_a_parse_error(raw: bytes) -> None:
    with contextlib.suppress(RtcpParseError):
        packets = decode_compound(raw)
        assert len(packets) <= MAX_PACKETS
        for packet in packets:
            if isinstance(packet, SenderReport | ReceiverReport):
                assert len(packet.reports) <= MAX_REPORTS
            if isinstance(packet, Nack):
                assert len(packet.sequence_numbers) <= 17 * MAX_NACK_ENTRIES


_publications = [
    UpTrack(Kind.VIDEO, "0", (PayloadTypes(Codec.VP8, 96, 97), PayloadTypes(Codec.VP9, 98, 99)), ("0", "1")),
    UpTrack(Kind.AUDIO, "1", (PayloadTypes(Codec.OPUS, 111),)),
    UpTrack(Kind.VIDEO, "2", (PayloadTypes(Codec.VP8, 100, 101),), (), ((1, 2), (3,))),
]


_packets = participant_packets | mutated(participant_packets) | mutated(rtp_packets)
_reports = participant_reports | mutated(rtcp_packets)
_routes = st.none() | st.tuples(st.integers(0, 2), st.none() | st.integers(0, 1), st.integers(0, 2))


@given(st.lists(st.tuples(st.integers(0, 4), _packets, _reports, _routes), min_size=5, max_size=15))
def test_whatever_participants_send_under_their_keys_the_engine_goes_on(
    traffic: list[tuple[int, bytes, bytes, tuple[int, int | None, int] | None]],
) -> None:
    stage = Stage(lambda send: PyEngine(send, random_bits=lambda _: 0))
    engine = stage.engine
    for number, announced in enumerate(_publications):
        track, down_track = TrackId(number), DownTrackId(number)
        engine.add_up_track(ALICE, track, announced)
        payload = announced.payloads[0]
        engine.add_down_track(
            BOB, down_track, DownTrack(announced.kind, "x", payload, 10 + 10 * number, 12 + 10 * number)
        )
        engine.route(down_track, track)
    for kind, packet, report, routed in traffic:
        if routed is not None:
            down_number, layer, max_temporal = routed
            fed_by = None if layer is None else TrackId(down_number)
            engine.route(DownTrackId(down_number), fed_by, (layer or 0) % (2 - down_number % 2), max_temporal)
        datagrams = []
        with contextlib.suppress(SrtpError):  # libsrtp does not send everything, either
            datagrams.append((ALICE, stage.alice.srtp.protect_rtp(packet)))
        peer = {1: stage.alice, 2: stage.bob, 3: stage.bob}.get(kind)
        if peer is not None:
            with contextlib.suppress(SrtpError):
                datagrams.append((peer.session, peer.srtp.protect_rtcp(report)))
        for session, datagram in datagrams:
            engine.receive(session, datagram, stage.now)
        if kind == 0:
            stage.pump(0.3)
    before = sum(engine.counters().values())
    engine.receive(ALICE, b"\x80\x60" + bytes(40), stage.now)
    assert sum(engine.counters().values()) == before + 1


_STRUCTURE = bytes.fromhex("c00001800104eaac851450460404fc02cc")
_descriptors = st.sampled_from(
    [_STRUCTURE, bytes.fromhex("c30002"), bytes.fromhex("c000081200"), b"\xc0\0\1\x80" + bytes(200)]
)


@given(st.lists(mutated(_descriptors), max_size=8))
def test_whatever_descriptors_come_the_structure_that_is_kept_has_bounds(values: list[bytes]) -> None:
    reader = DependencyReader()
    for value in values:
        with contextlib.suppress(RtpParseError):
            descriptor = reader.read(value)
            assert descriptor.frame is None or reader.structure is not None
        if reader.structure is not None:
            assert len(reader.structure.templates) <= MAX_TEMPLATES
            assert reader.structure.decode_targets <= MAX_DECODE_TARGETS
            assert all(
                len(template.indications) == reader.structure.decode_targets for template in reader.structure.templates
            )
