"""What an engine knows of a layer that comes in and of a stream that goes out."""

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from sfu.dependency_descriptor import DependencyReader
from sfu.io.engine.session import Session
from sfu.keyframe_requests import LayerKeyFrames, ReceiverKeyFrames
from sfu.layers import Source
from sfu.media_engine import DownTrack, DownTrackId, Extensions, Kind, TrackId
from sfu.nack import DEFAULT_ROUND_TRIP, NackGenerator, NackResponder, Origin, Sent
from sfu.packet_cache import PacketCache
from sfu.rate_meter import RateMeter
from sfu.reception import Reception
from sfu.rewriter import Picture, Rewriter, Rewritten, SenderClock

if TYPE_CHECKING:
    from sfu.io.express import Lane

AUDIO_CLOCK: Final = 48_000  # Hz: Opus has no other (RFC 7587 §4.1)
VIDEO_CLOCK: Final = 90_000
MAX_ROUND_TRIP: Final = 5.0  # seconds; what a report claims beyond that is not believed
SENDER_REPORTS: Final = 8  # of one stream, whose instants are remembered to measure the round trip


def clock_rate_of(kind: Kind) -> int:
    """The rate of the timestamps, Hz."""
    return AUDIO_CLOCK if kind is Kind.AUDIO else VIDEO_CLOCK


class UpStream(Origin):
    """One SSRC that carries a layer: if its sender begins anew with another one, that is another stream."""

    __slots__ = ("cache", "clock", "clock_at", "extensions", "nacks", "rates", "reader", "reception", "source")

    def __init__(self, source: Source, extensions: Extensions) -> None:
        self.source = source
        self.extensions = extensions  # as its session agreed on them
        self.cache = PacketCache()
        self.nacks = NackGenerator()
        self.reception = Reception(source.ssrc, clock_rate_of(source.kind))
        self.reader = DependencyReader()
        self.rates = RateMeter()
        self.clock: SenderClock | None = None
        self.clock_at = 0.0  # when its sender report came


class LaneGroup(NamedTuple):
    """Down tracks of a layer whose sessions agreed on the same header extensions, so that one draft serves all."""

    agreed: Extensions
    lanes: "tuple[Lane, ...]"  # of each,
    downs: "tuple[DownStream, ...]"  # of these


class UpLayer:
    """A layer of a track, the stream that carries it now, and whom it feeds."""

    __slots__ = ("_groups", "downs", "index", "key_frames", "kind", "session", "stream", "track")

    def __init__(self, session: Session, track: TrackId, index: int, kind: Kind) -> None:
        self.session = session
        self.track = track
        self.index = index
        self.kind = kind
        self.stream: UpStream | None = None
        self.downs: tuple[DownStream, ...] = ()  # which it feeds, or which wait for its next key frame
        self.key_frames = LayerKeyFrames()
        self._groups: list[LaneGroup] | None = None

    def add(self, down: "DownStream") -> None:
        """Feed a down track, or let it wait for the next key frame."""
        self.downs = (*self.downs, down)
        self._groups = None

    def remove(self, down: "DownStream") -> None:
        """Feed it no more."""
        self.downs = tuple(each for each in self.downs if each is not down)
        self._groups = None

    def groups(self) -> list[LaneGroup]:
        """The down tracks that have a lane."""
        if self._groups is None:
            by_agreement: dict[Extensions, list[DownStream]] = {}
            for down in self.downs:
                if down.lane is not None:
                    by_agreement.setdefault(down.session.extensions, []).append(down)
            self._groups = [
                LaneGroup(agreed, tuple(down.lane for down in downs if down.lane is not None), tuple(downs))
                for agreed, downs in by_agreement.items()
            ]
        return self._groups


class DownStream:
    """One stream to one subscriber."""

    __slots__ = (
        "_responder",
        "_rewriter",
        "announced",
        "id",
        "lane",
        "layer",
        "max_temporal",
        "octets",
        "packets",
        "payload_type",
        "receiver",
        "reported_at",
        "reports",
        "round_trip",
        "rtx_number",
        "session",
        "ssrc",
        "stream",
        "target",
        "temporal",
    )

    def __init__(
        self,
        down_track: DownTrackId,
        session: Session,
        announced: DownTrack,
        rewriter: Rewriter,
        rtx_number: int,
        lane: "Lane | None" = None,
    ) -> None:
        self.id = down_track
        self.session = session
        self.announced = announced
        self.payload_type = announced.payload.primary
        self.ssrc = announced.ssrc
        self.lane = lane  # takes its packets while they come in order
        self.rtx_number = rtx_number  # of the next retransmission, 16 bits
        self._rewriter = rewriter
        self._responder = NackResponder(None if lane is None else self._recall)
        self.receiver = ReceiverKeyFrames()
        self.layer: UpLayer | None = None  # which feeds it
        self.stream: UpStream | None = None  # of that layer, when it was joined
        self.target: UpLayer | None = None  # which is to feed it
        self.max_temporal = 0  # the highest temporal layer that it is to get
        self.temporal = 0  # the highest one that it gets
        self.packets = 0
        self.octets = 0  # of payloads, as sender reports count
        self.reported_at = float("-inf")
        self.reports: deque[tuple[int, float]] = deque(maxlen=SENDER_REPORTS)
        self.round_trip = DEFAULT_ROUND_TRIP  # seconds

    @property
    def rewriter(self) -> Rewriter:
        """Its numbers, to go on with or to change."""
        self.settle()
        return self._rewriter

    def settle(self) -> None:
        """Let the next packet come this way and not by the lane; what went out there is caught up with."""
        lane = self.lane
        if lane is not None and lane.is_armed and (taken := lane.disarm()) is not None:
            sequence_number, timestamp, picture_id, bits, tl0_pic_idx, frame_number, sent_at, number, *counts = taken
            picture = Picture(picture_id, bits, tl0_pic_idx)
            out = self._rewriter.translate(sequence_number, timestamp, sent_at, picture, frame_number)
            assert out is not None and out.sequence_number == number  # noqa: S101, PT018  # both count alike
            self.packets += counts[0]
            self.octets += counts[1]

    @property
    def responder(self) -> NackResponder:
        """What knows of all that went out."""
        if self.lane is not None and self.lane.number >= 0:
            self._responder.went_on(self.lane.number)
        return self._responder

    def _recall(self, number: int) -> Sent | None:
        found = None if self.lane is None else self.lane.recall(number)
        if found is None:
            return None
        stream, origin, rewritten = found
        assert isinstance(stream, UpStream)  # noqa: S101  # the lane was armed with it
        return Sent(stream, origin, Rewritten(*rewritten))

    def sent(self) -> tuple[int, int]:
        """Packets that went out, and octets of their payloads."""
        lane = self.lane
        return (self.packets, self.octets) if lane is None else (self.packets + lane.packets, self.octets + lane.octets)

    def limit_temporal(self, highest: int) -> None:
        """Send no temporal layer above this one, from the next frame on."""
        if highest != self.max_temporal:
            self.settle()
            self.max_temporal = highest

    def learn_clock(self, clock: SenderClock) -> None:
        """Note what its source says of its clock."""
        self._rewriter.learn_clock(clock)

    def timestamp_at(self, clock: SenderClock, elapsed: float) -> int:
        """See `Rewriter.timestamp_at`."""
        return self._rewriter.timestamp_at(clock, elapsed)

    @property
    def waits(self) -> bool:
        """Whether it is to be fed by a stream that it has not joined."""
        stream = self.target.stream if self.target is not None else None
        return stream is not None and self.stream is not stream and self.can_join(stream)

    def can_join(self, stream: UpStream) -> bool:
        """Whether the subscriber was told of the codec of a stream; another one it could not decode."""
        return stream.source.payload.codec is self.announced.payload.codec

    def learn_round_trip(self, last_sender_report: int, delay: int, now: float) -> None:
        """Measure the round trip by a report of the subscriber (RFC 3550 §6.4.1)."""
        for name, sent_at in self.reports:
            if name == last_sender_report:
                seconds = now - sent_at - delay / 65536
                if 0 <= seconds <= MAX_ROUND_TRIP:
                    self.round_trip += (seconds - self.round_trip) / 4
                return
