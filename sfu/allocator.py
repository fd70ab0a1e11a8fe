"""What a subscriber gets of what is published, within what its path carries.

Three phases. Prioritise: screen share before cameras, pinned before others, large before small. Last-N: only the first
cameras have a picture at all. Greedy: sound is reserved first; then every track in turn gets its smallest step, and
steps are raised class by class while the budget lasts. What comes out is a function of what goes in and of what was
decided before; the cost is linear in the tracks, but for two sorts.
"""

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from sfu.media_engine import DownTrackId, TrackId


class Content(IntEnum):
    """What a track shows or sounds; a smaller number goes first."""

    AUDIO = 0
    SCREEN = 1
    CAMERA = 2


class Layer(NamedTuple):
    """A simulcast layer as it was measured. Without bitrates it is not being sent, and cannot be chosen."""

    bitrates: tuple[float, ...]  # bits per second up to each temporal layer, those below it included
    width: int = 0  # pixels; 0 where it is not known
    height: int = 0


class Hints(NamedTuple):
    """What the client says of its view of a track."""

    visible: bool = True
    width: int = 0  # pixels on its screen; 0 where it does not say
    height: int = 0
    pinned: bool = False


class Offer(NamedTuple):
    """A track that a subscriber could get."""

    down_track: DownTrackId
    track: TrackId
    content: Content
    layers: tuple[Layer, ...]  # from the smallest to the largest; one for audio
    hints: Hints = Hints()
    recency: int = 0  # 0 spoke last, 1 before, and so on: who stays when there are more cameras than places


class Allocation(NamedTuple):
    """What a down track is fed with."""

    layer: int | None  # None: nothing
    max_temporal: int = 0
    bits_per_second: float = 0.0


NOTHING: Final = Allocation(None)
MAX_LAYERS: Final = 4
MAX_TEMPORAL_LAYERS: Final = 8
OVERSIZE: Final = (
    0.85  # a layer serves a view that is larger by so much: nobody sees it, and the next costs three times
)


def wanted_layer(offer: Offer) -> int | None:
    """The largest layer that a subscriber has use for, by its hints; None when it does not see the track.

    Where neither view nor layers have a size, the largest. Whether a layer is being sent plays no role: by this a
    publisher is told what to send.
    """
    if offer.content is Content.AUDIO:
        return 0
    if not offer.hints.visible or not offer.layers:
        return None
    last = min(len(offer.layers), MAX_LAYERS) - 1
    if not (offer.hints.width and offer.hints.height):
        return last
    for index, layer in enumerate(offer.layers[:last]):
        if not (layer.width and layer.height):
            return last
        # A view is filled by the side that needs more: the other one is cut or has bars.
        if layer.width >= offer.hints.width * OVERSIZE or layer.height >= offer.hints.height * OVERSIZE:
            return index
    return last


class _Step(NamedTuple):
    cost: float
    layer: int
    temporal: int


class _Ladder:
    """The steps of one track, each costs more than the one before; the level is how many have been taken."""

    __slots__ = ("level", "offer", "steps")

    def __init__(self, offer: Offer) -> None:
        self.offer = offer
        self.steps = _steps(offer)
        self.level = 0


def _steps(offer: Offer) -> list[_Step]:
    wanted = wanted_layer(offer)
    if wanted is None:
        return []
    layers = [(number, layer) for number, layer in enumerate(offer.layers[: wanted + 1]) if layer.bitrates]
    if offer.content is Content.SCREEN:
        # Writing wants pixels before motion: the frame rate is raised on the largest layer only.
        order = [(number, 0, layer.bitrates[0]) for number, layer in layers]
        if layers:
            number, layer = layers[-1]
            order += [(number, temporal, rate) for temporal, rate in enumerate(layer.bitrates[:MAX_TEMPORAL_LAYERS])][
                1:
            ]
    else:
        order = [
            (number, temporal, rate)
            for number, layer in layers
            for temporal, rate in enumerate(layer.bitrates[:MAX_TEMPORAL_LAYERS])
        ]
    steps: list[_Step] = []
    for number, temporal, rate in order:
        while steps and steps[-1].cost >= rate:  # what costs no less and shows less is not worth a step
            steps.pop()
        steps.append(_Step(rate, number, temporal))
    return steps


class Allocator:
    """Decides for one subscriber, again and again; remembers what it decided, so that nothing flaps.

    Lowered is at once. Raised is what had room, with `ROOM` to spare, for `HOLD_SECONDS` without a break; for longer
    when that was in vain before. A track that is new, or whose hints have changed, gets what there is room for without
    that wait.
    """

    PAUSE_BELOW: Final = 150_000.0  # bits per second in all: then the picture is paused and the sound kept
    ROOM: Final = 1.1  # times what is needed
    HOLD_SECONDS: Final = 3.0
    UNDONE_SECONDS: Final = 30.0  # what is raised and lowered again within so long was raised in vain:
    MAX_HOLD_SECONDS: Final = 48.0  # then the wait is doubled, up to this, until something raised has lasted
    MAX_TRACKS: Final = 256  # offers beyond that get nothing

    def __init__(self, last_n: int = 20) -> None:
        """`last_n` is the number of cameras that have a picture at most."""
        self._last_n = last_n
        self._hints: dict[DownTrackId, Hints] = {}
        self._taken: dict[DownTrackId, tuple[int, int]] = {}  # layer and temporal layer
        self._room_since: dict[DownTrackId, float] = {}
        self._paused = False
        self._resume_since: float | None = None
        self._hold = self.HOLD_SECONDS
        self._raised_at: float | None = None
        self._wanted = 0.0

    @property
    def paused(self) -> bool:
        """Whether every picture is paused because the path carries too little."""
        return self._paused

    @property
    def wanted(self) -> float:
        """What all that was offered and is seen would cost, bits per second: how far probing is worth while."""
        return self._wanted

    def poll_timeout(self) -> float | None:
        """When something may be raised if nothing changes until then; None if there is nothing to wait for."""
        due = [since + self._hold for since in self._room_since.values()]
        if self._resume_since is not None:
            due.append(self._resume_since + self.HOLD_SECONDS)
        return min(due, default=None)

    def allocate(self, offers: Sequence[Offer], budget: float, now: float) -> dict[DownTrackId, Allocation]:
        """Decide what each down track gets.

        Args:
            offers: all that the subscriber could get; a down track occurs once.
            budget: what its path carries, in bits per second.
            now: monotonic time, in seconds.
        """
        result = {offer.down_track: NOTHING for offer in offers}
        offers = offers[: self.MAX_TRACKS]
        audio = [offer for offer in offers if offer.content is Content.AUDIO]
        for offer in audio:
            cost = offer.layers[0].bitrates[-1] if offer.layers and offer.layers[0].bitrates else 0.0
            result[offer.down_track] = Allocation(0, MAX_TEMPORAL_LAYERS - 1, cost)
        reserved = sum(result[offer.down_track].bits_per_second for offer in audio)
        ladders = self._chosen(offers)
        self._wanted = reserved + sum(ladder.steps[-1].cost for ladder in ladders)
        self._pause_or_resume(budget, now)
        # What could be had with room to spare, whatever there is now, ...
        _climb(ladders, 0.0 if self._paused else budget / self.ROOM - reserved)
        targets = {ladder.offer.down_track: ladder.level for ladder in ladders}
        had = {ladder.offer.down_track: self._had(ladder) for ladder in ladders}
        # ... bounds what is taken now, unless there is more already.
        ceilings = {
            ladder.offer.down_track: self._ceiling(ladder, had[ladder.offer.down_track], now) for ladder in ladders
        }
        _climb(ladders, 0.0 if self._paused else budget - reserved, ceilings)
        for ladder in ladders:
            if ladder.level:
                cost, layer, temporal = ladder.steps[ladder.level - 1]
                result[ladder.offer.down_track] = Allocation(layer, temporal, cost)
        self._judge_raises(ladders, had, now)
        self._remember(ladders, targets, now)
        return result

    def _chosen(self, offers: Sequence[Offer]) -> list[_Ladder]:
        """The tracks that may have a picture, by priority: the first two phases."""
        video = [
            ladder for ladder in map(_Ladder, offers) if ladder.offer.content is not Content.AUDIO and ladder.steps
        ]
        video.sort(key=_priority)
        cameras = sorted(
            (ladder for ladder in video if ladder.offer.content is Content.CAMERA),
            key=lambda ladder: (not ladder.offer.hints.pinned, ladder.offer.recency, ladder.offer.down_track),
        )
        kept = {ladder.offer.down_track for ladder in cameras[: self._last_n]}
        return [ladder for ladder in video if ladder.offer.content is Content.SCREEN or ladder.offer.down_track in kept]

    def _pause_or_resume(self, budget: float, now: float) -> None:
        if budget < self.PAUSE_BELOW:
            self._paused = True
            self._resume_since = None
        elif self._paused and budget < self.PAUSE_BELOW * self.ROOM:
            self._resume_since = None
        elif self._paused:
            if self._resume_since is None:
                self._resume_since = now
            if now - self._resume_since >= self.HOLD_SECONDS:
                self._paused = False
                self._resume_since = None
                self._hints = {}  # every track is new again: it has waited long enough

    def _ceiling(self, ladder: _Ladder, had: int, now: float) -> int:
        """How far a track may rise now; `ladder.level` is what there is room for."""
        name = ladder.offer.down_track
        if ladder.level <= had:
            self._room_since.pop(name, None)  # the room did not last
            return had
        if self._hints.get(name) != ladder.offer.hints:
            return ladder.level
        since = self._room_since.setdefault(name, now)
        return ladder.level if now - since >= self._hold else had

    def _had(self, ladder: _Ladder) -> int:
        """How many steps the last decision is worth by what is offered now."""
        had = self._taken.get(ladder.offer.down_track)
        if had is None:
            return 0
        layer, temporal = had
        bitrates = ladder.offer.layers[layer].bitrates if layer < len(ladder.offer.layers) else ()
        # Where a better step has come to cost no more, the one that was taken is no step any more.
        cost = bitrates[temporal] if temporal < len(bitrates) else 0.0
        return sum(
            step.cost <= cost or step.layer < layer or (step.layer == layer and step.temporal <= temporal)
            for step in ladder.steps
        )

    def _judge_raises(self, ladders: Sequence[_Ladder], had: Mapping[DownTrackId, int], now: float) -> None:
        """Wait longer after a raise in vain, and no longer than ever after one that lasted."""
        waited = [
            (ladder.level, had[ladder.offer.down_track])
            for ladder in ladders
            if self._hints.get(ladder.offer.down_track) == ladder.offer.hints
        ]
        if self._raised_at is not None:
            if now - self._raised_at >= self.UNDONE_SECONDS:
                self._raised_at, self._hold = None, self.HOLD_SECONDS
            elif any(level < before for level, before in waited):
                self._raised_at, self._hold = None, min(2 * self._hold, self.MAX_HOLD_SECONDS)
        if any(level > before for level, before in waited):
            self._raised_at = now

    def _remember(self, ladders: Sequence[_Ladder], targets: Mapping[DownTrackId, int], now: float) -> None:
        self._hints = {ladder.offer.down_track: ladder.offer.hints for ladder in ladders}
        self._taken = {}
        waiting = {}
        for ladder in ladders:
            name = ladder.offer.down_track
            if ladder.level:
                step = ladder.steps[ladder.level - 1]
                self._taken[name] = (step.layer, step.temporal)
            since = self._room_since.get(name)
            if since is not None and ladder.level < targets[name]:
                waiting[name] = since if now - since < self._hold else now
        self._room_since = waiting


def _priority(ladder: _Ladder) -> tuple[bool | int, ...]:
    content, hints = ladder.offer.content, ladder.offer.hints
    return (content, not hints.pinned, -hints.width * hints.height, ladder.offer.recency, ladder.offer.down_track)


def _climb(ladders: Sequence[_Ladder], budget: float, ceilings: Mapping[DownTrackId, int] | None = None) -> None:
    """Give each track, in order, its first step, and then raise class by class, a step at a time: the third phase.

    A round gives each track of a class one step at most, and a track has a bounded number of steps.
    """
    classes: dict[tuple[Content, bool], list[_Ladder]] = {}
    for ladder in ladders:
        ladder.level = 0
        classes.setdefault((ladder.offer.content, ladder.offer.hints.pinned), []).append(ladder)
    left = budget
    _, left = _rise(ladders, left, ceilings)
    for rising in classes.values():
        risen: Sequence[_Ladder] = rising
        while risen:
            risen, left = _rise(risen, left, ceilings)


def _rise(
    ladders: Sequence[_Ladder], left: float, ceilings: Mapping[DownTrackId, int] | None
) -> tuple[list[_Ladder], float]:
    """One round: which tracks took a step, and what is left of the budget."""
    risen = []
    for ladder in ladders:
        ceiling = len(ladder.steps) if ceilings is None else ceilings[ladder.offer.down_track]
        if ladder.level < ceiling:
            more = ladder.steps[ladder.level].cost - (ladder.steps[ladder.level - 1].cost if ladder.level else 0.0)
            if more <= left:
                left -= more
                ladder.level += 1
                risen.append(ladder)
    return risen, left
