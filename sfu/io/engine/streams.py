"""What an engine knows of a layer that comes in and of a stream that goes out."""

from collections import deque
from typing import Final

from sfu.dependency_descriptor import DependencyReader
from sfu.io.engine.session import Session
from sfu.keyframe_requests import LayerKeyFrames, ReceiverKeyFrames
from sfu.layers import Source
from sfu.media_engine import DownTrack, DownTrackId, Extensions, Kind, TrackId
from sfu.nack import DEFAULT_ROUND_TRIP, NackGenerator, NackResponder, Origin
from sfu.packet_cache import PacketCache
from sfu.rate_meter import RateMeter
from sfu.reception import Reception
from sfu.rewriter import Rewriter, SenderClock

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


class UpLayer:
    """A layer of a track, the stream that carries it now, and whom it feeds."""

    __slots__ = ("downs", "index", "key_frames", "kind", "session", "stream", "track")

    def __init__(self, session: Session, track: TrackId, index: int, kind: Kind) -> None:
        self.session = session
        self.track = track
        self.index = index
        self.kind = kind
        self.stream: UpStream | None = None
        self.downs: list[DownStream] = []  # which it feeds, or which wait for its next key frame
        self.key_frames = LayerKeyFrames()


class DownStream:
    """One stream to one subscriber."""

    __slots__ = (
        "announced",
        "id",
        "layer",
        "max_temporal",
        "octets",
        "packets",
        "payload_type",
        "receiver",
        "reported_at",
        "reports",
        "responder",
        "rewriter",
        "round_trip",
        "rtx_number",
        "session",
        "ssrc",
        "stream",
        "target",
        "temporal",
    )

    def __init__(
        self, down_track: DownTrackId, session: Session, announced: DownTrack, rewriter: Rewriter, rtx_number: int
    ) -> None:
        self.id = down_track
        self.session = session
        self.announced = announced
        self.payload_type = announced.payload.primary
        self.ssrc = announced.ssrc
        self.rewriter = rewriter
        self.rtx_number = rtx_number  # of the next retransmission, 16 bits
        self.responder = NackResponder()
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
