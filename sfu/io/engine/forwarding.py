"""The way of a packet from a layer to a down track: joined, numbered on, left out, or repeated."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from sfu.errors import RtpParseError
from sfu.frame import Frame, inspect, rewrite, rewrite_dependency
from sfu.io.engine.session import Draft, own_elements
from sfu.io.engine.srtp import MAX_RTP
from sfu.io.engine.streams import DownStream, UpLayer, UpStream
from sfu.media_engine import Extensions, Kind
from sfu.nack import Sent
from sfu.rtp import (
    HEADER_LENGTH,
    RtpHeader,
    decode_extensions,
    decode_header,
    encode_extensions,
    encode_packet,
)

MAX_FORWARDED: Final = MAX_RTP - 32  # bytes: room for extensions of ours and an original sequence number
MAX_PADDING: Final = 255  # bytes: more cannot be said in one packet
MAX_PROBE_PADDING: Final = 6  # packets of padding for one packet that is asked for
MIN_DESCRIPTOR: Final = 3  # bytes of a Dependency Descriptor: a shorter one has no frame number
PROBE_CHOICE: Final = 16  # packets of which the largest is repeated to probe


# The numbers of a packet as it came: extended; sequence number, timestamp; id of its picture, its bits and TL0PICIDX;
# frame number, temporal layer, marker.
Numbers = tuple[int, int, int, int, int, int, int, int, bool]
# `sfu.io.express.forward`: gives where it did nothing, and how many packets and bytes left, and how many could not.
Forward = Callable[..., tuple[Sequence[int], int, int, int]]

_BLOCK_HEADER: Final = 4  # bytes: profile and length of the extensions
_sent: Final = tuple.__new__  # half the price of the constructor


class Arrived:
    """A packet of a layer with all that was found out about it, and how it was drafted last."""

    __slots__ = ("_agreed", "_draft", "_numbers", "frame", "header", "layer", "number", "packet", "stream", "values")

    def __init__(
        self,
        layer: UpLayer,
        stream: UpStream,
        number: int,
        packet: bytes,
        header: RtpHeader,
        values: Mapping[int, bytes],
        frame: Frame | None,
    ) -> None:
        self.layer = layer
        self.stream = stream
        self.number = number  # extended
        self.packet = packet
        self.header = header
        self.values = values  # of its extensions
        self.frame = frame  # None: padding
        self._agreed: Extensions | None = None  # what the draft is made for
        self._draft: Draft | None = None
        self._numbers: Numbers | None = None

    def draft_for(self, frame: Frame, agreed: Extensions, now: float) -> Draft:
        """The draft for all that agreed on these extensions; the last one is kept."""
        draft = self._draft
        if draft is None or (agreed is not self._agreed and agreed != self._agreed):
            draft = self._draft = _draft(self, frame, agreed, now)
            self._agreed = agreed
        return draft

    def numbers(self, frame: Frame) -> Numbers:
        """What a lane goes by."""
        numbers = self._numbers
        if numbers is None:
            header = self.header
            number, timestamp, marker = header.sequence_number, header.timestamp, header.marker
            pictures = frame.picture
            numbers = self._numbers = (
                *(self.number, number, timestamp),
                *(pictures.picture_id, pictures.picture_id_bits, pictures.tl0_pic_idx),
                *(frame.frame_number, frame.temporal_id, marker),
            )
        return numbers


def examine(
    layer: UpLayer, stream: UpStream, number: int, packet: bytes, header: RtpHeader, values: Mapping[int, bytes]
) -> Arrived:
    """Find out about the frame of a packet.

    Raises:
        RtpParseError: its payload descriptor or Dependency Descriptor does not parse.
    """
    frame = None
    if header.payload_end > header.payload_offset:
        dependency = values.get(layer.session.extensions.dependency_descriptor, b"")
        frame = inspect(stream.source.payload.codec, packet, header, dependency, stream.reader)
    return Arrived(layer, stream, number, packet, header, values, frame)


def fan_out(arrived: Arrived, now: float, forward: Forward | None = None) -> list[DownStream]:
    """Send a packet to all that its layer feeds, under the numbers of each, unless it is left out there.

    Args:
        arrived: the packet.
        now: monotonic time, in seconds.
        forward: does that in C for as many as it can.

    Returns:
        those that have changed to this layer with it.
    """
    layer, stream = arrived.layer, arrived.stream
    changed = []
    downs: Sequence[DownStream] = layer.downs
    if forward is not None and arrived.frame is not None:
        downs = _send_ahead(arrived, arrived.frame, now, forward)
    for down in downs:
        if down.stream is stream:
            _pass(down, arrived, now)
        elif down.target is layer and _join(down, arrived, now):
            changed.append(down)
    return changed


def _send_ahead(arrived: Arrived, frame: Frame, now: float, forward: Forward) -> list[DownStream]:
    """Send a packet in C wherever it is just the next one; gives the down tracks that this was not done for."""
    rest: list[DownStream] = []
    counters = arrived.layer.session.counters
    for agreed, lanes, downs in arrived.layer.groups():
        draft = arrived.draft_for(frame, agreed, now)
        if draft.size > MAX_RTP:
            rest += downs  # it cannot be sent, and is counted one by one
            continue
        numbers = arrived.numbers(frame)
        left, packets, size, failed = forward(lanes, draft.packet, draft.places(), numbers, arrived.stream, now)
        counters["packets_out"] += packets
        counters["bytes_out"] += size
        counters["dropped_unsendable"] += failed
        rest += [downs[at] for at in left]
    return rest


def _join(down: DownStream, arrived: Arrived, now: float) -> bool:
    """Begin with a stream if this packet begins a key frame; whether that is a change of layers."""
    layer, stream, frame = arrived.layer, arrived.stream, arrived.frame
    if not down.can_join(stream) or frame is None or not frame.begins_key_frame:
        return False
    before = down.layer
    down.rewriter.join(
        arrived.header.sequence_number,
        arrived.header.timestamp,
        now,
        picture=frame.picture,
        frame_number=frame.frame_number,
        clock=stream.clock,
    )
    if before is not None and before is not layer:
        before.remove(down)
    down.layer, down.stream = layer, stream
    down.temporal = down.max_temporal
    _pass(down, arrived, now, is_first=True)
    _catch_up(down, arrived, now)
    return before is not layer


def _catch_up(down: DownStream, first: Arrived, now: float) -> None:
    """Send what came before the first packet of its key frame did: late by reordering, or by a repair."""
    layer, stream = first.layer, first.stream
    for number in range(first.number + 1, (stream.cache.highest or 0) + 1):
        packet = stream.cache.get(number, now)
        if packet is None:
            continue
        header = decode_header(packet)
        try:
            arrived = examine(layer, stream, number, packet, header, decode_extensions(packet, header))
        except RtpParseError:
            continue  # counted when it came
        _pass(down, arrived, now)


def _pass(down: DownStream, arrived: Arrived, now: float, *, is_first: bool = False) -> None:
    frame, header, rewriter = arrived.frame, arrived.header, down.rewriter
    if frame is None:
        _fill(down, rewriter.drop(header.sequence_number), now)
        return
    if frame.starts_frame:
        _choose_temporal(down, frame)
    if frame.temporal_id > down.temporal:
        _fill(down, rewriter.drop(header.sequence_number, frame.picture), now)
        return
    out = rewriter.translate(header.sequence_number, header.timestamp, now, frame.picture, frame.frame_number)
    session = down.session
    if out is None:
        session.counters["dropped_late"] += 1
        return
    down.responder.note(_sent(Sent, (arrived.stream, arrived.number, out)))
    draft = arrived.draft_for(frame, session.extensions, now)
    down.packets += 1
    down.octets += draft.octets
    # The first packet of sound after silence is marked (RFC 3551 §4.1).
    marked = header.marker or (is_first and arrived.layer.kind is Kind.AUDIO)
    session.send_draft(draft, down.payload_type | 0x80 if marked else down.payload_type, down.ssrc, out, now)
    lane = down.lane
    if (
        lane is not None
        and down.temporal == down.max_temporal
        and rewriter.is_steady(header.sequence_number, frame.picture)
    ):
        lane.arm(arrived.stream, arrived.numbers(frame), out, down.temporal)


def _draft(arrived: Arrived, frame: Frame, agreed: Extensions, now: float) -> Draft:
    """Write a packet for all that agreed on these extensions, and find where its numbers lie."""
    header, packet = arrived.header, arrived.packet
    elements = own_elements(agreed, now)
    elements += _passed_on(arrived.layer.session.extensions, agreed, arrived.values)
    block = encode_extensions(elements)
    payload = packet[header.payload_offset : header.payload_end]
    draft = Draft(encode_packet(0, 0, 0, 0, payload, extensions=block), len(payload))
    at = HEADER_LENGTH + _BLOCK_HEADER
    head = 1 if block[:1] == b"\xbe" else 2
    for identifier, value in elements:
        at += head
        if identifier == agreed.transport_cc:
            draft.transport_at = at
        elif identifier == agreed.dependency_descriptor:
            draft.frame_number_at = at + 1
        at += len(value)
    if frame.numbers is not None:
        moved = HEADER_LENGTH + len(block) - header.payload_offset
        if frame.numbers.picture_id_bits:
            draft.picture_bits = frame.numbers.picture_id_bits
            draft.picture_at = frame.numbers.picture_id_offset + moved
        if frame.numbers.tl0_pic_idx_offset:
            draft.tl0_pic_idx_at = frame.numbers.tl0_pic_idx_offset + moved
    return draft


def _choose_temporal(down: DownStream, frame: Frame) -> None:
    """Change the temporal layers between frames: down at once, up where the higher layer can be joined."""
    if down.temporal > down.max_temporal:
        down.temporal = down.max_temporal
    elif down.temporal < frame.temporal_id <= down.max_temporal and frame.is_switching_point:
        down.temporal = frame.temporal_id
    elif frame.begins_key_frame:
        down.temporal = down.max_temporal


def _fill(down: DownStream, missed: int | None, now: float) -> None:
    """Fill a sequence number under which nothing will come: packets behind it went out before it was known."""
    if missed is None:
        return
    announced = down.announced
    numbers = announced.payload.primary, missed & 0xFFFF, down.rewriter.timestamp, announced.ssrc
    down.session.send_rtp(numbers, b"", (), now, padding=1)


def _passed_on(given: Extensions, agreed: Extensions, values: Mapping[int, bytes]) -> list[tuple[int, bytes]]:
    """Extensions that mean the same to a subscriber, under the identifiers that it agreed on."""
    elements = []
    if agreed.audio_level and (value := values.get(given.audio_level)) is not None:
        elements.append((agreed.audio_level, value))
    if agreed.video_orientation and (value := values.get(given.video_orientation)) is not None:
        elements.append((agreed.video_orientation, value))
    dependency = values.get(given.dependency_descriptor, b"")
    if agreed.dependency_descriptor and len(dependency) >= MIN_DESCRIPTOR:
        elements.append((agreed.dependency_descriptor, dependency))
    return elements


def repeat(down: DownStream, sent: Sent, now: float) -> None:
    """Send a packet again, as a retransmission (RFC 4588).

    Without a retransmission stream nothing is repeated: the same number with other extensions would be a second
    packet under one nonce, which gives the authentication key of AES-GCM away.
    """
    packet = _kept(sent, now)
    if packet is None or not down.announced.rtx_ssrc or not down.announced.payload.rtx:
        down.session.counters["not_repeated"] += 1
        return
    down.session.counters["retransmissions_out"] += 1
    _retransmit(down, sent, packet, now)


def probe(down: DownStream, size: int, now: float) -> None:
    """Send so many bytes for the sake of the estimate, on the retransmission stream, which must exist.

    What went out last is repeated: if it was lost, that does some good. What is missing then is padding.
    """
    counters = down.session.counters
    recent = (
        (len(packet), sent, packet) for sent in down.responder.newest(PROBE_CHOICE) if (packet := _kept(sent, now))
    )
    largest = max(recent, key=_length, default=None)
    if largest is not None and largest[0] <= size:
        padding = min(MAX_PADDING, size - largest[0], MAX_FORWARDED - largest[0])
        counters["probes_out"] += 1
        _retransmit(down, largest[1], largest[2], now, padding=padding, probe=True)
        size -= largest[0] + padding
    announced = down.announced
    for _ in range(MAX_PROBE_PADDING):
        if size <= HEADER_LENGTH:
            return
        padding = min(MAX_PADDING, size - HEADER_LENGTH)
        size -= HEADER_LENGTH + padding
        counters["probes_out"] += 1
        numbers = announced.payload.rtx, _next_rtx_number(down), down.rewriter.timestamp, announced.rtx_ssrc
        down.session.send_rtp(numbers, b"", (), now, padding=padding, probe=True)


def _length(candidate: tuple[int, Sent, bytes]) -> int:
    return candidate[0]


def _kept(sent: Sent, now: float) -> bytes | None:
    """The packet that went out, as it came, if it is still there."""
    assert isinstance(sent.layer, UpStream)  # noqa: S101  # nothing else is noted
    return sent.layer.cache.get(sent.number, now)


def _next_rtx_number(down: DownStream) -> int:
    number, down.rtx_number = down.rtx_number, down.rtx_number + 1 & 0xFFFF
    return number


def _retransmit(
    down: DownStream, sent: Sent, packet: bytes, now: float, *, padding: int = 0, probe: bool = False
) -> None:
    announced, session, stream = down.announced, down.session, sent.layer
    assert isinstance(stream, UpStream)  # noqa: S101  # nothing else is noted
    header = decode_header(packet)
    frame = inspect(stream.source.payload.codec, packet, header, b"", stream.reader)
    values = decode_extensions(packet, header)
    if dependency := values.get(stream.extensions.dependency_descriptor):
        values[stream.extensions.dependency_descriptor] = rewrite_dependency(dependency, sent.rewritten)
    session.send_rtp(
        (announced.payload.rtx, _next_rtx_number(down), sent.rewritten.timestamp, announced.rtx_ssrc),
        (sent.rewritten.sequence_number & 0xFFFF).to_bytes(2) + rewrite(packet, header, frame, sent.rewritten),
        _passed_on(stream.extensions, session.extensions, values),
        now,
        marker=header.marker,
        padding=padding,
        probe=probe,
    )
