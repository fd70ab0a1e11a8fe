"""A member of a conference: what it publishes, and what it is sent."""

from collections.abc import Mapping, Sequence
from typing import Final

from sfu.allocator import Allocation, Allocator, Content, Hints, Layer, Offer
from sfu.conference_layers import MAX_SOUND, NOMINAL_SOUND, layers_of
from sfu.conference_messages import Source, Wish
from sfu.media_engine import DownTrack, DownTrackId, Kind, SessionId, TrackId, UpTrack
from sfu.sdp.description import SdpError
from sfu.sdp.publish import PublishedTrack

MAX_TRACKS: Final = 3  # of one member: one of each source
MAX_WISHES: Final = 64  # of one member; what comes beyond that is not looked at

_KINDS: Final = {Source.MICROPHONE: Kind.AUDIO, Source.CAMERA: Kind.VIDEO, Source.SCREEN: Kind.VIDEO}
_CONTENTS: Final = {
    Source.MICROPHONE: Content.AUDIO,
    Source.CAMERA: Content.CAMERA,
    Source.SCREEN: Content.SCREEN,
}
_NOT_LOOKED_AT: Final = Hints(visible=False)


class PublishedSource:
    """A track that a member publishes."""

    def __init__(self, track: TrackId, pid: str, source: Source, announced: UpTrack) -> None:
        self.id: Final = track
        self.pid: Final = pid
        self.source: Final = source
        self.announced: Final = announced
        self.is_live = False  # the engine expects it
        self.seen: set[int] | None = None  # layers that are being sent; None: nothing has come yet
        self.unwanted: tuple[str, ...] | None = (
            None  # RIDs that its publisher was told to be of no use; None: nothing yet
        )
        self.is_excessive = False  # sound that carries more than sound does
        self.sizes: Final = layers_of(announced.rids, (), None)  # for whoever asks for nothing but these

    @property
    def is_sound(self) -> bool:
        """Whether it is a microphone."""
        return self.source is Source.MICROPHONE

    def weigh(self, measured: Sequence[Sequence[float]]) -> None:
        """Note what it carries, bits per second of each layer; nothing for one that is not measured."""
        self.is_excessive = self.is_sound and any(rates[-1] > MAX_SOUND for rates in measured if rates)

    def layers(self, measured: Sequence[Sequence[float]]) -> tuple[Layer, ...]:
        """Its layers for the allocation, as they were measured."""
        if self.is_sound:
            return (Layer(tuple(measured[0]) if measured and measured[0] else (NOMINAL_SOUND,)),)
        return layers_of(self.announced.rids, measured, self.seen)


class ForwardedSource:
    """A track of somebody else on its way to a member."""

    def __init__(self, down_track: DownTrackId, up: PublishedSource, mid: str) -> None:
        self.id: Final = down_track
        self.up: Final = up
        self.mid: Final = mid
        self.agreed: DownTrack | None = None  # how the client wants it; None before it has said so, or when it refuses
        self.is_live = False  # the engine knows it
        self.routed: tuple[int, int] | None = None  # layer and highest temporal layer

    @property
    def can_flow(self) -> bool:
        """Whether it may be routed: both ends are known to the engine, and the client wants it."""
        return self.is_live and self.agreed is not None and self.up.is_live


class PublishingSide:
    """The connection that a member publishes with."""

    def __init__(self, session: SessionId) -> None:
        self.session: Final = session
        self.is_connected = False
        self.ups: dict[str, PublishedSource] = {}  # by mid


class SubscribingSide:
    """The connection that a member is sent to."""

    def __init__(self, session: SessionId, allocator: Allocator, budget: float) -> None:
        self.session: Final = session
        self.is_connected = False
        self.outstanding: int | None = None  # version of the offer that waits for its answer
        self.downs: dict[TrackId, ForwardedSource] = {}
        self.stopped: list[str] = []  # mids whose tracks have gone, to be told with the next offer
        self.allocator: Final = allocator
        self.budget = budget  # bits per second
        self.has_pictures = False  # one has been sent
        self.spent = 0.0  # of it, by the last allocation
        self.is_due = True  # for another allocation


class Member:
    """Somebody in a room."""

    def __init__(self, pid: str) -> None:
        self.pid: Final = pid
        self.publishing: PublishingSide | None = None
        self.subscribing: SubscribingSide | None = None
        self.version = 0  # of the last offer to it, over all its subscribing connections
        self._wishes: dict[tuple[str, Source], Hints] | None = None  # None: it has not said yet

    def take_wishes(self, wishes: Sequence[Wish]) -> None:
        """Look at this from now on, and at nothing else."""
        self._wishes = {
            (wish.pid, wish.source): Hints(wish.visible, wish.width, wish.height, wish.pinned)
            for wish in wishes[:MAX_WISHES]
        }

    def hints(self, up: PublishedSource) -> Hints:
        """How it looks at a track; as long as it has not said, at everything."""
        if self._wishes is None:
            return Hints()
        return self._wishes.get((up.pid, up.source), _NOT_LOOKED_AT)

    def offer(self, down_track: DownTrackId, up: PublishedSource, layers: tuple[Layer, ...], recency: int) -> Offer:
        """A track as its allocation sees it."""
        return Offer(down_track, up.id, _CONTENTS[up.source], layers, self.hints(up), recency)


def accepted_sources(
    tracks: Sequence[PublishedTrack], sources: Mapping[str, Source]
) -> dict[str, tuple[Source, UpTrack]]:
    """What is published by each m-line, by its mid.

    Args:
        tracks: of the offer.
        sources: what the client says of its m-lines.

    Raises:
        SdpError: a track has no source or one of another kind, or a source comes twice.
    """
    accepted: dict[str, tuple[Source, UpTrack]] = {}
    for track in tracks:
        announced = track.announced
        source = sources.get(announced.mid)
        if source is None or _KINDS[source] is not announced.kind:
            raise SdpError("a track without a source, or of another kind")
        if any(source is taken for taken, _ in accepted.values()):
            raise SdpError(f"two tracks of one source, {source}")
        accepted[announced.mid] = source, announced
    return accepted


def spent_on(allocations: Mapping[DownTrackId, Allocation]) -> float:
    """What allocations cost in all, bits per second."""
    return sum(allocation.bits_per_second for allocation in allocations.values())
