"""The reference engine: Python, struct and libsrtp. Every other engine must pass the suite that it passes."""

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Final

from sfu.errors import RtcpParseError, RtpParseError
from sfu.frame import AUDIO
from sfu.io.engine.congestion import Arrivals, PathEstimator
from sfu.io.engine.forwarding import MAX_FORWARDED, Forward, examine, fan_out, probe, repeat
from sfu.io.engine.session import COUNTERS, Send, Session
from sfu.io.engine.srtp import PacketBuffer, SrtpError, SrtpSession
from sfu.io.engine.streams import DownStream, UpLayer, UpStream, clock_rate_of
from sfu.io.optional import EXPRESS
from sfu.layers import Source
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
    RtpHeader,
    decode_extensions,
    decode_header,
    encode_packet,
    is_rtcp,
    original_sequence_number,
)
from stun.address import TransportAddress

LOCAL_SSRC: Final = 1  # of our own reports and requests; no down track may have it
CHECK_INTERVAL: Final = 0.05  # seconds between two looks at a session for what only time brings about
REPORT_INTERVAL: Final = 1.0  # seconds between two reports
MAX_DOWN_TRACKS: Final = 64  # of one session
MAX_PROBES: Final = 16  # that are begun in one pump


class PyEngine:
    """Forwards RTP in Python. See `sfu.media_engine.MediaEngine` for all commands."""

    def __init__(
        self,
        send: Send,
        *,
        make_arrivals: Callable[[], Arrivals] | None = None,
        make_estimator: Callable[[], PathEstimator] | None = None,
        random_bits: Callable[[int], int] = secrets.randbits,
        express: ModuleType | None = EXPRESS,
    ) -> None:
        """Make an engine without sessions.

        Args:
            send: takes each datagram that goes out, and where to; an `express.Outbox` gathers them.
            make_arrivals: what notes arrivals and gives feedback for publishers; without it they get none.
            make_estimator: what estimates the path to a subscriber; without it no `Bandwidth` is told.
            random_bits: gives a random number of so many bits, for first sequence numbers and timestamps.
            express: the last steps of a packet in C (`sfu.io.express`); without it they are Python, too.
        """
        self._express = express
        self._forward: Forward | None = None if express is None else express.forward
        self._send = send if express is None or isinstance(send, express.Outbox) else express.Outbox(send)
        self._make_arrivals = make_arrivals
        self._make_estimator = make_estimator
        self._random_bits = random_bits
        self._sessions: dict[SessionId, Session] = {}
        self._tracks: dict[TrackId, list[UpLayer]] = {}
        self._downs: dict[DownTrackId, DownStream] = {}
        self._ssrcs: dict[SessionId, dict[int, DownStream]] = {}  # of down tracks and their retransmissions
        # Between two pumps each layer, session and down track adds a few at most, whatever their peers send.
        self._events: list[MediaEvent] = []
        self._loudness: dict[TrackId, int] = {}
        self._counters = dict.fromkeys(COUNTERS, 0)
        self._buffer = PacketBuffer()

    def add_session(
        self, session: SessionId, keys: SrtpKeys, address: TransportAddress, extensions: Extensions
    ) -> None:
        """Begin a session."""
        if session in self._sessions:
            raise ValueError(f"session {session} exists")
        feedback = extensions.transport_cc
        srtp = SrtpSession(keys, self._buffer)
        estimator = self._make_estimator() if feedback and self._make_estimator else None
        state = self._sessions[session] = Session(
            session,
            srtp,
            address,
            extensions,
            self._send,
            self._counters,
            arrivals=self._make_arrivals() if feedback and self._make_arrivals else None,
            estimator=estimator,
        )
        if self._express is not None:
            state.line = self._express.Line(self._send, *srtp.sender(), address, estimator is not None)
        self._ssrcs[session] = {}

    def set_address(self, session: SessionId, address: TransportAddress | None) -> None:
        """Send to another address from now on; None: to nobody."""
        self._sessions[session].aim(address)

    def remove_session(self, session: SessionId) -> None:
        """End a session with all that it publishes and gets; nothing is sent to it any more."""
        state = self._sessions[session]
        for track in [track for track, layers in self._tracks.items() if layers[0].session is state]:
            self.remove_up_track(track)
        for down in [down for down in self._downs.values() if down.session is state]:
            self._forget(down)
        del self._sessions[session], self._ssrcs[session]

    def add_up_track(self, session: SessionId, track: TrackId, announced: UpTrack) -> None:
        """Expect what a session publishes."""
        state = self._sessions[session]
        if track in self._tracks:
            raise ValueError(f"track {track} exists")
        state.table.expect(track, announced)
        layers = max(len(announced.rids), len(announced.ssrcs), 1)
        self._tracks[track] = [UpLayer(state, track, index, announced.kind) for index in range(layers)]

    def remove_up_track(self, track: TrackId) -> None:
        """Stop expecting it; down tracks that were fed by it fall silent."""
        layers = self._tracks.pop(track)
        layers[0].session.table.forget(track)
        for layer in layers:
            if layer.stream is not None:
                layer.stream.cache.clear()  # down tracks remember it for as long as they remember what went out
            for down in layer.downs:
                self._detach(down)
                self._events.append(Switched(down.id, None))
        self._loudness.pop(track, None)

    def add_down_track(self, session: SessionId, down_track: DownTrackId, announced: DownTrack) -> None:
        """Make an outgoing stream; nothing is sent before it is routed."""
        state = self._sessions[session]
        taken = self._ssrcs[session]
        ssrcs = {announced.ssrc, announced.rtx_ssrc or announced.ssrc}
        if down_track in self._downs or LOCAL_SSRC in ssrcs or not ssrcs.isdisjoint(taken):
            raise ValueError(f"down track {down_track} or its SSRC exists")
        if len(taken) + len(ssrcs) > 2 * MAX_DOWN_TRACKS:
            raise ValueError(f"more than {MAX_DOWN_TRACKS} down tracks")
        random_bits = self._random_bits
        rewriter = Rewriter(clock_rate_of(announced.kind), random_bits(16), random_bits(32), random_bits(15))
        lane = None
        if self._express is not None:
            lane = self._express.Lane(state.line, announced.ssrc, announced.payload.primary)
        down = DownStream(down_track, state, announced, rewriter, random_bits(16), lane)
        self._downs[down_track] = down
        for ssrc in ssrcs:
            taken[ssrc] = down

    def remove_down_track(self, down_track: DownTrackId) -> None:
        """Say goodbye to an outgoing stream."""
        down = self._downs[down_track]
        if down.packets:
            ssrcs = dict.fromkeys((down.announced.ssrc, down.announced.rtx_ssrc or down.announced.ssrc))
            down.session.send_rtcp(encode_goodbye(Goodbye(tuple(ssrcs))))
        self._forget(down)

    def _forget(self, down: DownStream) -> None:
        self._detach(down)
        del self._downs[down.id]
        for ssrc in {down.announced.ssrc, down.announced.rtx_ssrc or down.announced.ssrc}:
            del self._ssrcs[down.session.id][ssrc]

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
        down.limit_temporal(max_temporal)
        if target is down.target:
            return
        if down.target is not None and down.target is not down.layer:
            down.target.remove(down)
        down.target = target
        if target is not down.layer:
            target.add(down)
            down.receiver = type(down.receiver)()  # what the core decides waits for no interval of the receiver

    def _detach(self, down: DownStream) -> None:
        for layer in {down.layer, down.target} - {None}:
            layer.remove(down)  # type: ignore[union-attr]  # None was taken out
        down.settle()
        down.layer = down.stream = down.target = None

    def receive(self, session: SessionId, datagram: bytes | memoryview, now: float) -> None:
        """Take one SRTP or SRTCP datagram of a session."""
        state = self._sessions[session]
        if is_rtcp(datagram):
            self._receive_rtcp(state, datagram, now)
        else:
            self._receive_rtp(state, datagram, now)

    def _receive_rtp(self, state: Session, data: bytes | memoryview, now: float) -> None:
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
                self._tracks[source.track][source.layer].stream = UpStream(source, agreed)
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
        state: Session,
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
        state: Session,
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
            arrived = examine(layer, stream, number, packet, header, values)
        except RtpParseError:
            counters["dropped_malformed"] += 1
            return
        frame = arrived.frame
        stream.rates.add(len(packet), frame.temporal_id if frame is not None else 0, now)
        if frame is None:
            # Padding has a sequence number but no content: subscribers must not miss it.
            counters["dropped_padding"] += 1
        elif frame.begins_key_frame and layer.kind is Kind.VIDEO:
            layer.key_frames.arrived()
        if frame is AUDIO and len(level := values.get(agreed.audio_level, b"")) == 1:
            decibels = -(level[0] & 0x7F)
            self._loudness[layer.track] = max(decibels, self._loudness.get(layer.track, -127))
        for down in fan_out(arrived, now, self._forward):
            self._events.append(Switched(down.id, layer.index))

    def _receive_rtcp(self, state: Session, data: bytes | memoryview, now: float) -> None:
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

    def _receive_sender_report(self, state: Session, report: SenderReport, now: float) -> None:
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
                down.learn_clock(stream.clock)

    def _receive_reports(self, state: Session, reports: Sequence[ReportBlock], now: float) -> None:
        for block in reports:
            down = self._ssrcs[state.id].get(block.ssrc)
            if down is not None and block.last_sender_report:
                down.learn_round_trip(block.last_sender_report, block.delay, now)

    def _receive_nack(self, state: Session, ssrc: int, missing: Sequence[int], now: float) -> None:
        down = self._ssrcs[state.id].get(ssrc)
        if down is None or ssrc != down.announced.ssrc:
            return
        responder = down.responder
        before = responder.unanswerable
        for sent in responder.answer(missing, now, down.round_trip):
            repeat(down, sent, now)
        self._counters["not_repeated"] += responder.unanswerable - before

    def _receive_key_frame_request(self, state: Session, ssrc: int, now: float) -> None:
        down = self._ssrcs[state.id].get(ssrc)
        if down is None or down.layer is None or down.layer.kind is Kind.AUDIO or not down.receiver.allow(now):
            return
        down.layer.key_frames.want(now)
        self._ask_key_frame(down.layer, now)

    def _receive_goodbye(self, state: Session, ssrcs: Iterable[int]) -> None:
        for ssrc in ssrcs:
            source: Source | None = state.table.find(ssrc)
            if source is not None and not source.is_rtx:
                source.heard_at = float("-inf")  # the next pump tells: once, however many of these come in between

    def _receive_feedback(self, state: Session, fci: bytes, now: float) -> None:
        estimator = state.estimator
        if estimator is None:
            return
        try:
            estimator.receive_feedback(fci, now)
        except ValueError:
            self._counters["dropped_feedback"] += 1

    def set_extensions(self, session: SessionId, extensions: Extensions) -> None:
        """Know more header extensions of a session."""
        state = self._sessions[session]
        state.extensions = extensions
        if extensions.transport_cc and state.arrivals is None and self._make_arrivals is not None:
            state.arrivals = self._make_arrivals()
        for layers in self._tracks.values():
            for layer in layers:
                if layer.session is state and layer.stream is not None:
                    layer.stream.extensions = extensions

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
        layer.session.send_rtcp(encode_picture_loss(LOCAL_SSRC, layer.stream.source.ssrc))
        self._events.append(KeyFrameWanted(layer.track, layer.index))

    def pump(self, now: float) -> Sequence[MediaEvent]:
        """Do what is due, and tell what happened since."""
        for down in self._downs.values():
            target = down.target
            # First what costs least, and is mostly false: this is done for each, a hundred times a second.
            is_to_change = target is not None and target.stream is not down.stream and target.kind is Kind.VIDEO
            if target is not None and is_to_change and down.waits and down.receiver.allow(now):
                target.key_frames.want(now)
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
            layer.session.send_rtcp(request)
        if is_hopeless and layer.kind is Kind.VIDEO:
            layer.key_frames.want(now)

    def _serve(self, session: SessionId, state: Session, now: float) -> None:
        is_due = now - state.checked_at >= CHECK_INTERVAL
        for source in state.table.silent(now):
            self._events.append(LayerGone(source.track, source.layer))
        if is_due:
            state.checked_at = now
            if now - state.reported_at >= REPORT_INTERVAL:
                self._report_received(state, now)
        if state.arrivals is not None:
            while (fci := state.arrivals.poll_feedback(now)) is not None:
                state.send_rtcp(encode_transport_wide(LOCAL_SSRC, 0, fci))
        estimator = state.estimator
        if estimator is not None:
            if is_due:
                estimator.handle_timeout(now)
                state.check_line()
            if not estimator.is_plain:
                self._probe(state, estimator, now)
            estimate = estimator.bits_per_second
            if estimate != state.told:
                state.told = estimate
                self._events.append(Bandwidth(session, estimate))

    def _probe(self, state: Session, estimator: PathEstimator, now: float) -> None:
        """Send on a retransmission stream what the estimator wants to probe with."""
        carrier = next(
            (down for down in self._ssrcs[state.id].values() if down.packets and down.announced.rtx_ssrc), None
        )
        if carrier is None:
            return
        for _ in range(MAX_PROBES):
            size = estimator.poll_probe(now)
            if size is None:
                return
            probe(carrier, size, now)

    def _report_received(self, state: Session, now: float) -> None:
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
            state.send_rtcp(encode_receiver_report(report) + name)

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
        packets, octets = down.sent()
        report = SenderReport(
            ssrc,
            ntp_timestamp,
            down.timestamp_at(stream.clock, elapsed),
            packets & 0xFFFFFFFF,
            octets & 0xFFFFFFFF,
        )
        # Whoever plays sound and picture of one publisher together knows them by a common name: a number, no more.
        name = f"{self._tracks[stream.source.track][0].session.id}".encode()
        description = encode_source_description(SourceDescription(((ssrc, name),)))
        down.session.send_rtcp(encode_sender_report(report) + description)

    def counters(self) -> Mapping[str, int]:
        """Packets, bytes and drops by reason: a fixed set of names."""
        return dict(self._counters)
