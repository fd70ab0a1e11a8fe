"""The reference engine: Python, struct and libsrtp. Every other engine must pass the suite that it passes."""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from sfu.errors import RtcpParseError, RtpParseError
from sfu.frame import AUDIO, Frame, inspect, rewrite, rewrite_dependency
from sfu.io.engine.congestion import Arrivals, PathEstimator
from sfu.io.engine.srtp import MAX_RTP, SrtpError, SrtpSession
from sfu.io.engine.streams import DownStream, UpLayer, UpStream, clock_rate_of
from sfu.layers import LayerTable, Source
from sfu.media_engine import (
    Bandwidth,
    DownTrack,
    DownTrackId,
    Extensions,
    KeyFrameWanted,
    Kind,
    LayerGone,
    LayerSeen,
    Loudness,
    MediaEvent,
    SessionId,
    SrtpKeys,
    Switched,
    TrackId,
    UpTrack,
)
from sfu.nack import Sent
from sfu.rewriter import Rewriter, SenderClock
from sfu.rtcp import (
    MAX_REPORTS,
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
    encode_goodbye,
    encode_nack,
    encode_picture_loss,
    encode_receiver_report,
    encode_sender_report,
    encode_source_description,
    encode_transport_wide,
)
from sfu.rtp import (
    HEADER_LENGTH,
    RtpHeader,
    decode_extensions,
    decode_header,
    encode_extensions,
    encode_packet,
    is_rtcp,
    original_sequence_number,
)
from stun.address import TransportAddress

Send = Callable[[bytes, TransportAddress], None]

LOCAL_SSRC: Final = 1  # of our own reports and requests; no down track may have it
REPORT_INTERVAL: Final = 1.0  # seconds between two reports
MAX_FORWARDED: Final = MAX_RTP - 32  # bytes: room for extensions of ours and an original sequence number
MAX_DOWN_TRACKS: Final = 64  # of one session
MAX_PROBES: Final = 16  # packets of padding in one pump
PROBE_PADDING: Final = 255  # bytes: more cannot be said in one packet
AUTH_TAG: Final = 16  # bytes that SRTP adds, at most

_COUNTERS: Final = (
    "packets_in",
    "bytes_in",
    "packets_out",
    "bytes_out",
    "rtcp_in",
    "rtcp_out",
    "retransmissions_out",
    "repaired",
    "nacked_out",
    "key_frame_requests_out",
    "dropped_unauthentic",
    "dropped_malformed",
    "dropped_unknown_source",
    "dropped_duplicate",
    "dropped_too_long",
    "dropped_late",
    "dropped_padding",
    "dropped_feedback",
    "dropped_unsendable",
    "not_repeated",
)


class _Session:
    """One PeerConnection."""

    __slots__ = (
        "address",
        "arrivals",
        "downs",
        "estimator",
        "extensions",
        "number",
        "reported_at",
        "srtp",
        "table",
        "told",
    )

    def __init__(
        self,
        srtp: SrtpSession,
        address: TransportAddress,
        extensions: Extensions,
        arrivals: Arrivals | None,
        estimator: PathEstimator | None,
    ) -> None:
        self.srtp = srtp
        self.address = address
        self.extensions = extensions
        self.table = LayerTable()
        self.downs: dict[int, DownStream] = {}  # by SSRC
        self.arrivals = arrivals
        self.estimator = estimator
        self.number = 0  # transport-wide, of the next packet, if nobody estimates
        self.reported_at = float("-inf")
        self.told = estimator.bits_per_second if estimator is not None else 0.0


class _Arrived(NamedTuple):
    """A packet of a layer with all that was found out about it."""

    layer: UpLayer
    stream: UpStream
    number: int  # extended
    packet: bytes
    header: RtpHeader
    values: Mapping[int, bytes]  # of its extensions
    frame: Frame | None  # None: padding


class PyEngine:
    """Forwards RTP in Python. See `sfu.media_engine.MediaEngine` for all commands."""

    def __init__(
        self,
        send: Send,
        *,
        make_arrivals: Callable[[], Arrivals] | None = None,
        make_estimator: Callable[[], PathEstimator] | None = None,
        random_bits: Callable[[int], int] = secrets.randbits,
    ) -> None:
        """Make an engine without sessions.

        Args:
            send: takes each datagram that goes out, and where to.
            make_arrivals: what notes arrivals and gives feedback for publishers; without it they get none.
            make_estimator: what estimates the path to a subscriber; without it no `Bandwidth` is told.
            random_bits: gives a random number of so many bits, for first sequence numbers and timestamps.
        """
        self._send = send
        self._make_arrivals = make_arrivals
        self._make_estimator = make_estimator
        self._random_bits = random_bits
        self._sessions: dict[SessionId, _Session] = {}
        self._tracks: dict[TrackId, list[UpLayer]] = {}
        self._downs: dict[DownTrackId, DownStream] = {}
        # Between two pumps each layer, session and down track adds a few at most, whatever their peers send.
        self._events: list[MediaEvent] = []
        self._loudness: dict[TrackId, int] = {}
        self._counters = dict.fromkeys(_COUNTERS, 0)

    # ------------------------------------------------------------------ sessions and tracks

    def add_session(
        self, session: SessionId, keys: SrtpKeys, address: TransportAddress, extensions: Extensions
    ) -> None:
        """Begin a session."""
        if session in self._sessions:
            raise ValueError(f"session {session} exists")
        feedback = extensions.transport_cc
        self._sessions[session] = _Session(
            SrtpSession(keys),
            address,
            extensions,
            self._make_arrivals() if feedback and self._make_arrivals else None,
            self._make_estimator() if feedback and self._make_estimator else None,
        )

    def set_address(self, session: SessionId, address: TransportAddress) -> None:
        """Send to another address from now on."""
        self._sessions[session].address = address

    def remove_session(self, session: SessionId) -> None:
        """End a session with all that it publishes and gets; nothing is sent to it any more."""
        state = self._sessions[session]
        for track in [track for track, layers in self._tracks.items() if layers[0].session == session]:
            self.remove_up_track(track)
        for down in list(state.downs.values()):
            if down.id in self._downs:  # a stream is there twice if it has retransmissions
                self._forget(down)
        del self._sessions[session]

    def add_up_track(self, session: SessionId, track: TrackId, announced: UpTrack) -> None:
        """Expect what a session publishes."""
        state = self._sessions[session]
        if track in self._tracks:
            raise ValueError(f"track {track} exists")
        state.table.expect(track, announced)
        layers = max(len(announced.rids), len(announced.ssrcs), 1)
        self._tracks[track] = [UpLayer(session, track, index, announced.kind) for index in range(layers)]

    def remove_up_track(self, track: TrackId) -> None:
        """Stop expecting it; down tracks that were fed by it fall silent."""
        layers = self._tracks.pop(track)
        self._sessions[layers[0].session].table.forget(track)
        for layer in layers:
            if layer.stream is not None:
                layer.stream.cache.clear()  # down tracks remember it for as long as they remember what went out
            for down in list(layer.downs):
                self._detach(down)
                self._events.append(Switched(down.id, None))
        self._loudness.pop(track, None)

    def add_down_track(self, session: SessionId, down_track: DownTrackId, announced: DownTrack) -> None:
        """Make an outgoing stream; nothing is sent before it is routed."""
        state = self._sessions[session]
        ssrcs = {announced.ssrc, announced.rtx_ssrc or announced.ssrc}
        if down_track in self._downs or LOCAL_SSRC in ssrcs or not ssrcs.isdisjoint(state.downs):
            raise ValueError(f"down track {down_track} or its SSRC exists")
        if len(state.downs) + len(ssrcs) > 2 * MAX_DOWN_TRACKS:
            raise ValueError(f"more than {MAX_DOWN_TRACKS} down tracks")
        random_bits = self._random_bits
        rewriter = Rewriter(clock_rate_of(announced.kind), random_bits(16), random_bits(32), random_bits(15))
        down = DownStream(down_track, session, announced, rewriter, random_bits(16))
        self._downs[down_track] = down
        for ssrc in ssrcs:
            state.downs[ssrc] = down

    def remove_down_track(self, down_track: DownTrackId) -> None:
        """Say goodbye to an outgoing stream."""
        down = self._downs[down_track]
        if down.packets:
            ssrcs = dict.fromkeys((down.announced.ssrc, down.announced.rtx_ssrc or down.announced.ssrc))
            self._send_rtcp(self._sessions[down.session], encode_goodbye(Goodbye(tuple(ssrcs))))
        self._forget(down)

    def _forget(self, down: DownStream) -> None:
        self._detach(down)
        del self._downs[down.id]
        state = self._sessions[down.session]
        for ssrc in {down.announced.ssrc, down.announced.rtx_ssrc or down.announced.ssrc}:
            del state.downs[ssrc]

    def route(self, down_track: DownTrackId, track: TrackId | None, layer: int = 0, max_temporal: int = 7) -> None:
        """Feed a down track from a layer; None: from nothing, at once."""
        down = self._downs[down_track]
        if track is None:
            if down.target is not None or down.layer is not None:
                self._detach(down)
                self._events.append(Switched(down_track, None))
            return
        layers = self._tracks[track]
        if not 0 <= layer < len(layers):
            raise KeyError(f"layer {layer} of track {track}")
        target = layers[layer]
        if target.kind is not down.announced.kind:
            raise ValueError(f"a down track of {down.announced.kind} cannot carry {target.kind}")
        down.max_temporal = max_temporal
        if target is down.target:
            return
        if down.target is not None and down.target is not down.layer:
            down.target.downs.remove(down)
        down.target = target
        if target is not down.layer:
            target.downs.append(down)
            down.receiver = type(down.receiver)()  # what the core decides waits for no interval of the receiver

    def _detach(self, down: DownStream) -> None:
        for layer in {down.layer, down.target} - {None}:
            layer.downs.remove(down)  # type: ignore[union-attr]  # None was taken out
        down.layer = down.stream = down.target = None

    # ------------------------------------------------------------------ what comes in

    def receive(self, session: SessionId, datagram: bytes | memoryview, now: float) -> None:
        """Take one SRTP or SRTCP datagram of a session."""
        state = self._sessions[session]
        data = bytes(datagram)
        if is_rtcp(data):
            self._receive_rtcp(state, data, now)
        else:
            self._receive_rtp(state, data, now)

    def _receive_rtp(self, state: _Session, data: bytes, now: float) -> None:
        counters = self._counters
        try:
            packet = state.srtp.unprotect_rtp(data)
        except SrtpError:
            counters["dropped_unauthentic"] += 1
            return
        counters["packets_in"] += 1
        counters["bytes_in"] += len(data)
        if len(packet) > MAX_FORWARDED:
            counters["dropped_too_long"] += 1
            return
        try:
            header = decode_header(packet)
            values = decode_extensions(packet, header)
        except RtpParseError:
            counters["dropped_malformed"] += 1
            return
        agreed = state.extensions
        if state.arrivals is not None and len(transport := values.get(agreed.transport_cc, b"")) == 2:
            state.arrivals.receive(int.from_bytes(transport), now)
        source = state.table.find(header.ssrc)
        if source is None or header.payload_type != (source.payload.rtx if source.is_rtx else source.payload.primary):
            source = state.table.learn(
                header.ssrc,
                header.payload_type,
                values.get(agreed.mid, b""),
                values.get(agreed.rid, b""),
                values.get(agreed.repaired_rid, b""),
            )
            if source is None:
                counters["dropped_unknown_source"] += 1
                return
            if not source.is_rtx:
                self._tracks[source.track][source.layer].stream = UpStream(source)
        layer = self._tracks[source.track][source.layer]
        if source.is_rtx:
            self._receive_rtx(state, layer, packet, header, values, now)
            return
        if source.hear(now):
            self._events.append(LayerSeen(source.track, source.layer))
        stream = layer.stream
        if stream is None or stream.source is not source:
            counters["dropped_unknown_source"] += 1
            return
        self._take(state, layer, stream, packet, header, values, now)

    def _receive_rtx(
        self,
        state: _Session,
        layer: UpLayer,
        packet: bytes,
        header: RtpHeader,
        values: Mapping[int, bytes],
        now: float,
    ) -> None:
        """Take a retransmission (RFC 4588 §4): the packet that was lost is made again, and goes its way."""
        stream = layer.stream
        try:
            original = original_sequence_number(packet, header)
        except RtpParseError:
            self._counters["dropped_malformed"] += 1
            return
        if original is None or stream is None:
            self._counters["dropped_padding" if original is None else "dropped_unknown_source"] += 1
            return
        source = stream.source
        begin = header.payload_offset
        repaired = encode_packet(
            source.payload.primary,
            original,
            header.timestamp,
            source.ssrc,
            packet[begin + 2 : header.payload_end],
            marker=header.marker,
            extensions=packet[header.extensions_offset - 4 : begin] if packet[0] & 0x10 else b"",
        )
        self._take(state, layer, stream, repaired, decode_header(repaired), values, now, repaired=True)

    def _take(  # what is known is handed on, not found out again
        self,
        state: _Session,
        layer: UpLayer,
        stream: UpStream,
        packet: bytes,
        header: RtpHeader,
        values: Mapping[int, bytes],
        now: float,
        repaired: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        """Keep a packet of a layer, and send it to all that the layer feeds."""
        counters = self._counters
        agreed = state.extensions
        number = stream.cache.put(header.sequence_number, packet, now)
        if number is None:
            counters["dropped_duplicate"] += 1
            return
        stream.nacks.receive(number, now)
        if repaired:
            counters["repaired"] += 1
        else:
            stream.reception.receive(number, header.timestamp, now)
        try:
            frame = self._inspect(layer, stream, packet, header, values)
        except RtpParseError:
            counters["dropped_malformed"] += 1
            return
        stream.rates.add(len(packet), frame.temporal_id if frame is not None else 0, now)
        if frame is None:
            # Padding has a sequence number but no content: subscribers must not miss it.
            counters["dropped_padding"] += 1
        elif frame.begins_key_frame and layer.kind is Kind.VIDEO:
            layer.key_frames.arrived()
        if frame is AUDIO and len(level := values.get(agreed.audio_level, b"")) == 1:
            decibels = -(level[0] & 0x7F)
            self._loudness[layer.track] = max(decibels, self._loudness.get(layer.track, -127))
        arrived = _Arrived(layer, stream, number, packet, header, values, frame)
        for down in tuple(layer.downs):
            self._forward(down, arrived, now)

    def _forward(self, down: DownStream, arrived: _Arrived, now: float) -> None:
        """Send a packet on under the numbers of a down track, unless it is left out there."""
        layer, stream, _, _, header, _, frame = arrived
        if down.stream is not stream:
            if down.target is not layer or frame is None or not frame.begins_key_frame:
                return
            self._join(down, layer, stream, header, frame, now)
            self._pass(down, arrived, now, is_first=True)
            self._catch_up(down, arrived, now)
            return
        self._pass(down, arrived, now)

    def _pass(self, down: DownStream, arrived: _Arrived, now: float, *, is_first: bool = False) -> None:
        layer, stream, number, packet, header, values, frame = arrived
        rewriter = down.rewriter
        if frame is None:
            self._drop(down, rewriter.drop(header.sequence_number), now)
            return
        if frame.starts_frame:
            self._choose_temporal(down, frame)
        if frame.temporal_id > down.temporal:
            self._drop(down, rewriter.drop(header.sequence_number, frame.picture), now)
            return
        out = rewriter.translate(header.sequence_number, header.timestamp, now, frame.picture, frame.frame_number)
        if out is None:
            self._counters["dropped_late"] += 1
            return
        down.responder.note(Sent(stream, number, out))
        session = self._sessions[down.session]
        payload = rewrite(packet, header, frame, out)
        announced = down.announced
        # The first packet of sound after silence is marked (RFC 3551 §4.1).
        marker = header.marker or (is_first and layer.kind is Kind.AUDIO)
        elements = self._passed_on(self._sessions[layer.session].extensions, session.extensions, values)
        if (dependency := self._dependency(layer, session, values)) is not None:
            elements.append((session.extensions.dependency_descriptor, rewrite_dependency(dependency, out)))
        down.packets += 1
        down.octets += len(payload)
        self._write(
            session,
            (announced.payload.primary, out.sequence_number & 0xFFFF, out.timestamp, announced.ssrc),
            payload,
            elements,
            now,
            marker=marker,
        )

    def _join(
        self, down: DownStream, layer: UpLayer, stream: UpStream, header: RtpHeader, frame: Frame, now: float
    ) -> None:
        down.rewriter.join(
            header.sequence_number,
            header.timestamp,
            now,
            picture=frame.picture,
            frame_number=frame.frame_number,
            clock=stream.clock,
        )
        if down.layer is not None and down.layer is not layer:
            down.layer.downs.remove(down)
        if down.layer is not layer:
            self._events.append(Switched(down.id, layer.index))
        down.layer, down.stream = layer, stream
        down.temporal = down.max_temporal

    def _catch_up(self, down: DownStream, first: _Arrived, now: float) -> None:
        """Send what came before the first packet of its key frame did: late by reordering, or by a repair."""
        layer, stream = first.layer, first.stream
        for number in range(first.number + 1, (stream.cache.highest or 0) + 1):
            packet = stream.cache.get(number, now)
            if packet is None:
                continue
            header = decode_header(packet)
            values = decode_extensions(packet, header)
            try:
                frame = self._inspect(layer, stream, packet, header, values)
            except RtpParseError:
                continue  # counted when it came
            self._pass(down, _Arrived(layer, stream, number, packet, header, values, frame), now)

    def _inspect(
        self, layer: UpLayer, stream: UpStream, packet: bytes, header: RtpHeader, values: Mapping[int, bytes]
    ) -> Frame | None:
        """Find out about the frame of a packet; None if it is padding."""
        if header.payload_end == header.payload_offset:
            return None
        dependency = values.get(self._sessions[layer.session].extensions.dependency_descriptor, b"")
        return inspect(stream.source.payload.codec, packet, header, dependency, stream.reader)

    @staticmethod
    def _choose_temporal(down: DownStream, frame: Frame) -> None:
        """Change the temporal layers between frames: down at once, up where the higher layer can be joined."""
        if down.temporal > down.max_temporal:
            down.temporal = down.max_temporal
        elif down.temporal < frame.temporal_id <= down.max_temporal and frame.is_switching_point:
            down.temporal = frame.temporal_id
        elif frame.begins_key_frame:
            down.temporal = down.max_temporal

    def _drop(self, down: DownStream, missed: int | None, now: float) -> None:
        """Fill a sequence number under which nothing will come: packets behind it went out before it was known."""
        if missed is None:
            return
        announced = down.announced
        timestamp = down.rewriter.timestamp
        self._write(
            self._sessions[down.session],
            (announced.payload.primary, missed & 0xFFFF, timestamp, announced.ssrc),
            b"",
            [],
            now,
            padding=1,
        )

    @staticmethod
    def _passed_on(given: Extensions, agreed: Extensions, values: Mapping[int, bytes]) -> list[tuple[int, bytes]]:
        """Extensions that mean the same to a subscriber, under the identifiers that it agreed on."""
        elements = []
        if agreed.audio_level and (value := values.get(given.audio_level)) is not None:
            elements.append((agreed.audio_level, value))
        if agreed.video_orientation and (value := values.get(given.video_orientation)) is not None:
            elements.append((agreed.video_orientation, value))
        return elements

    def _dependency(self, layer: UpLayer, session: _Session, values: Mapping[int, bytes]) -> bytes | None:
        if not session.extensions.dependency_descriptor:
            return None
        return values.get(self._sessions[layer.session].extensions.dependency_descriptor)

    # ------------------------------------------------------------------ what goes out

    def _write(
        self,
        session: _Session,
        numbers: tuple[int, int, int, int],
        payload: bytes,
        elements: Iterable[tuple[int, bytes]],
        now: float,
        *,
        marker: bool = False,
        padding: int = 0,
        probe: bool = False,
    ) -> None:
        """Send one RTP packet: payload type, sequence number, timestamp and SSRC; payload; extensions."""
        agreed = session.extensions
        elements = list(elements)
        if agreed.absolute_send_time:  # 6.18 fixed point
            elements.append((agreed.absolute_send_time, (int(now * (1 << 18)) & 0xFFFFFF).to_bytes(3)))
        if agreed.transport_cc:
            elements.insert(0, (agreed.transport_cc, bytes(2)))
        block = encode_extensions(elements)
        if agreed.transport_cc:
            at = 5 if block[0] == 0xBE else 6  # behind profile, length and the header of the first element
            size = HEADER_LENGTH + len(block) + len(payload) + padding + AUTH_TAG
            block = block[:at] + self._transport_number(session, size, now, probe=probe).to_bytes(2) + block[at + 2 :]
        packet = encode_packet(*numbers, payload, marker=marker, extensions=block, padding=padding)
        try:
            datagram = session.srtp.protect_rtp(packet)
        except SrtpError:
            self._counters["dropped_unsendable"] += 1
            return
        self._counters["packets_out"] += 1
        self._counters["bytes_out"] += len(datagram)
        self._send(datagram, session.address)

    @staticmethod
    def _transport_number(session: _Session, size: int, now: float, *, probe: bool) -> int:
        if session.estimator is not None:
            return session.estimator.send(size, now, probe=probe)
        number = session.number
        session.number = number + 1 & 0xFFFF
        return number

    def _send_rtcp(self, session: _Session, packet: bytes) -> None:
        try:
            datagram = session.srtp.protect_rtcp(packet)
        except SrtpError:
            self._counters["dropped_unsendable"] += 1
            return
        self._counters["rtcp_out"] += 1
        self._send(datagram, session.address)

    def _repeat(self, down: DownStream, sent: Sent, now: float) -> None:
        """Send a packet again, as a retransmission (RFC 4588).

        Without a retransmission stream nothing is repeated: the same number with other extensions would be a second
        packet under one nonce, which gives the authentication key of AES-GCM away.
        """
        announced = down.announced
        stream = sent.layer
        assert isinstance(stream, UpStream)  # noqa: S101  # nothing else is noted
        packet = stream.cache.get(sent.number, now)
        if packet is None or not announced.rtx_ssrc or not announced.payload.rtx:
            self._counters["not_repeated"] += 1
            return
        header = decode_header(packet)
        track = self._tracks.get(stream.source.track)
        values = decode_extensions(packet, header)
        session = self._sessions[down.session]
        elements: list[tuple[int, bytes]] = []
        dependency = b""
        if track is not None:
            given = self._sessions[track[0].session].extensions
            dependency = values.get(given.dependency_descriptor, b"")
            elements = self._passed_on(given, session.extensions, values)
            if dependency and session.extensions.dependency_descriptor:
                value = rewrite_dependency(dependency, sent.rewritten)
                elements.append((session.extensions.dependency_descriptor, value))
        frame = inspect(stream.source.payload.codec, packet, header, b"", stream.reader)
        original = (sent.rewritten.sequence_number & 0xFFFF).to_bytes(2)
        number, down.rtx_number = down.rtx_number, down.rtx_number + 1 & 0xFFFF
        self._counters["retransmissions_out"] += 1
        self._write(
            session,
            (announced.payload.rtx, number, sent.rewritten.timestamp, announced.rtx_ssrc),
            original + rewrite(packet, header, frame, sent.rewritten),
            elements,
            now,
            marker=header.marker,
        )

    # ------------------------------------------------------------------ reports and requests that come in

    def _receive_rtcp(self, state: _Session, data: bytes, now: float) -> None:
        try:
            packets = decode_compound(state.srtp.unprotect_rtcp(data))
        except SrtpError:
            self._counters["dropped_unauthentic"] += 1
            return
        except RtcpParseError:
            self._counters["dropped_malformed"] += 1
            return
        self._counters["rtcp_in"] += 1
        for packet in packets:
            match packet:
                case SenderReport():
                    self._receive_sender_report(state, packet, now)
                    self._receive_reports(state, packet.reports, now)
                case ReceiverReport():
                    self._receive_reports(state, packet.reports, now)
                case Nack(media_ssrc=ssrc, sequence_numbers=missing):
                    self._receive_nack(state, ssrc, missing, now)
                case PictureLossIndication(media_ssrc=ssrc):
                    self._receive_key_frame_request(state, ssrc, now)
                case FullIntraRequest(entries=entries):
                    for ssrc, _ in entries:
                        self._receive_key_frame_request(state, ssrc, now)
                case Goodbye(ssrcs=ssrcs):
                    self._receive_goodbye(state, ssrcs)
                case TransportWideFeedback(fci=fci):
                    self._receive_feedback(state, fci, now)

    def _receive_sender_report(self, state: _Session, report: SenderReport, now: float) -> None:
        source = state.table.find(report.ssrc)
        if source is None or source.is_rtx:
            return
        layer = self._tracks[source.track][source.layer]
        stream = layer.stream
        if stream is None or stream.source is not source:
            return
        stream.clock = SenderClock(report.ntp_timestamp, report.rtp_timestamp)
        stream.clock_at = now
        stream.reception.receive_sender_report(report.ntp_timestamp, now)
        for down in layer.downs:
            if down.stream is stream:
                down.rewriter.learn_clock(stream.clock)

    @staticmethod
    def _receive_reports(state: _Session, reports: Sequence[ReportBlock], now: float) -> None:
        for block in reports:
            down = state.downs.get(block.ssrc)
            if down is not None and block.last_sender_report:
                down.learn_round_trip(block.last_sender_report, block.delay, now)

    def _receive_nack(self, state: _Session, ssrc: int, missing: Sequence[int], now: float) -> None:
        down = state.downs.get(ssrc)
        if down is None or ssrc != down.announced.ssrc:
            return
        before = down.responder.unanswerable
        for sent in down.responder.answer(missing, now, down.round_trip):
            self._repeat(down, sent, now)
        self._counters["not_repeated"] += down.responder.unanswerable - before

    def _receive_key_frame_request(self, state: _Session, ssrc: int, now: float) -> None:
        down = state.downs.get(ssrc)
        if down is None or down.layer is None or down.layer.kind is Kind.AUDIO or not down.receiver.allow(now):
            return
        down.layer.key_frames.want(now)
        self._ask_key_frame(down.layer, now)

    def _receive_goodbye(self, state: _Session, ssrcs: Iterable[int]) -> None:
        for ssrc in ssrcs:
            source: Source | None = state.table.find(ssrc)
            if source is not None and not source.is_rtx:
                source.heard_at = float("-inf")  # the next pump tells: once, however many of these come in between

    def _receive_feedback(self, state: _Session, fci: bytes, now: float) -> None:
        if state.estimator is None:
            return
        try:
            state.estimator.receive_feedback(fci, now)
        except ValueError:
            self._counters["dropped_feedback"] += 1

    # ------------------------------------------------------------------ what is due

    def bitrates(self, track: TrackId, now: float) -> tuple[tuple[float, ...], ...]:
        """What each layer of a track carries."""
        return tuple(layer.stream.rates.rates(now) if layer.stream is not None else () for layer in self._tracks[track])

    def want(self, session: SessionId, bits_per_second: float) -> None:
        """Say how much there would be use for towards a session."""
        estimator = self._sessions[session].estimator
        if estimator is not None:
            estimator.want(bits_per_second)

    def request_key_frame(self, track: TrackId, layer: int, now: float) -> None:
        """Ask the publisher of a layer for a key frame (PLI), at most once per throttle interval."""
        wanted = self._tracks[track][layer]
        wanted.key_frames.want(now)
        self._ask_key_frame(wanted, now)

    def _ask_key_frame(self, layer: UpLayer, now: float) -> None:
        if layer.stream is None or not layer.key_frames.poll(now):
            return
        self._counters["key_frame_requests_out"] += 1
        session = self._sessions[layer.session]
        self._send_rtcp(session, encode_picture_loss(LOCAL_SSRC, layer.stream.source.ssrc))
        self._events.append(KeyFrameWanted(layer.track, layer.index))

    def pump(self, now: float) -> Sequence[MediaEvent]:
        """Do what is due, and tell what happened since."""
        for down in self._downs.values():
            if down.waits and down.target is not None and down.target.kind is Kind.VIDEO and down.receiver.allow(now):
                down.target.key_frames.want(now)
            if now - down.reported_at >= REPORT_INTERVAL:
                self._report_sent(down, now)
        for layers in self._tracks.values():
            for layer in layers:
                self._repair(layer, now)
                self._ask_key_frame(layer, now)
        for session, state in self._sessions.items():
            self._serve(session, state, now)
        events, self._events = self._events, []
        events += [Loudness(track, decibels) for track, decibels in self._loudness.items()]
        self._loudness.clear()
        return events

    def _repair(self, layer: UpLayer, now: float) -> None:
        """Ask the publisher for what is missing; if that is hopeless, for a key frame."""
        stream = layer.stream
        if stream is None or not layer.downs:
            return  # who joins later begins with a key frame
        missing = stream.nacks.ask(now)
        is_hopeless = stream.nacks.take_hopeless()
        if layer.kind is Kind.AUDIO and not stream.source.payload.rtx:
            return  # nobody would answer; sound has its own redundancy
        if missing:
            self._counters["nacked_out"] += len(missing)
            request = encode_nack(LOCAL_SSRC, stream.source.ssrc, [number & 0xFFFF for number in missing])
            self._send_rtcp(self._sessions[layer.session], request)
        if is_hopeless and layer.kind is Kind.VIDEO:
            layer.key_frames.want(now)

    def _serve(self, session: SessionId, state: _Session, now: float) -> None:
        for source in state.table.silent(now):
            self._events.append(LayerGone(source.track, source.layer))
        if now - state.reported_at >= REPORT_INTERVAL:
            self._report_received(state, now)
        if state.arrivals is not None:
            while (fci := state.arrivals.poll_feedback(now)) is not None:
                self._send_rtcp(state, encode_transport_wide(LOCAL_SSRC, 0, fci))
        if state.estimator is not None:
            state.estimator.handle_timeout(now)
            self._probe(state, now)
            estimate = state.estimator.bits_per_second
            if estimate != state.told:
                state.told = estimate
                self._events.append(Bandwidth(session, estimate))

    def _probe(self, state: _Session, now: float) -> None:
        """Send padding on a retransmission stream, as much as the estimator wants to probe with."""
        assert state.estimator is not None  # noqa: S101  # only then there is something to probe
        carrier = next((down for down in state.downs.values() if down.packets and down.announced.rtx_ssrc), None)
        if carrier is None:
            return
        announced = carrier.announced
        for _ in range(MAX_PROBES):
            size = state.estimator.poll_probe(now)
            if size is None:
                return
            number, carrier.rtx_number = carrier.rtx_number, carrier.rtx_number + 1 & 0xFFFF
            self._write(
                state,
                (announced.payload.rtx, number, carrier.rewriter.timestamp, announced.rtx_ssrc),
                b"",
                [],
                now,
                padding=max(1, min(size, PROBE_PADDING)),
                probe=True,
            )

    def _report_received(self, state: _Session, now: float) -> None:
        """Tell a publisher how its layers arrive (RFC 3550 §6.4.2)."""
        blocks = []
        for source in state.table:
            stream = self._tracks[source.track][source.layer].stream
            if stream is not None and stream.source is source and (block := stream.reception.report(now)) is not None:
                blocks.append(block)
        if not blocks:
            return
        state.reported_at = now
        name = encode_source_description(SourceDescription(((LOCAL_SSRC, b"redconnect"),)))
        for at in range(0, len(blocks), MAX_REPORTS):
            report = ReceiverReport(LOCAL_SSRC, tuple(blocks[at : at + MAX_REPORTS]))
            self._send_rtcp(state, encode_receiver_report(report) + name)

    def _report_sent(self, down: DownStream, now: float) -> None:
        """Tell a subscriber the clock of the publisher, in the timestamps of the down track (RFC 3550 §6.4.1)."""
        stream = down.stream
        if stream is None or stream.clock is None or not down.packets:
            return
        down.reported_at = now
        elapsed = now - stream.clock_at
        ntp_timestamp = stream.clock.ntp_timestamp + round(elapsed * (1 << 32)) & 0xFFFFFFFFFFFFFFFF
        down.reports.append((ntp_timestamp >> 16 & 0xFFFFFFFF, now))
        ssrc = down.announced.ssrc
        report = SenderReport(
            ssrc,
            ntp_timestamp,
            down.rewriter.timestamp_at(stream.clock, elapsed),
            down.packets & 0xFFFFFFFF,
            down.octets & 0xFFFFFFFF,
        )
        # Whoever plays sound and picture of one publisher together knows them by a common name: a number, no more.
        name = f"{self._tracks[stream.source.track][0].session}".encode()
        description = encode_source_description(SourceDescription(((ssrc, name),)))
        self._send_rtcp(self._sessions[down.session], encode_sender_report(report) + description)

    def counters(self) -> Mapping[str, int]:
        """Packets, bytes and drops by reason: a fixed set of names."""
        return dict(self._counters)
