"""What nobody wants of what is published, so that its publisher can be told to stop sending it."""

from collections.abc import Iterable
from typing import Final, NamedTuple

from sfu.allocator import Offer, wanted_layer
from sfu.media_engine import TrackId


class _Told(NamedTuple):
    """What a publisher was told, and what it would be told instead."""

    layer: int | None
    instead: int | None
    since: float  # how long that has been so


class LayerDemand:
    """Tells of each track the largest layer that any subscriber has use for: more at once, less after `STOP_AFTER`.

    A publisher may stop what lies above, or the whole picture when nobody sees it (None). What lies below is kept:
    whoever's path gets worse falls back on it at once. Budgets play no role, else a layer that was stopped because
    nobody could have it would never be measured again. Remembers the tracks that are published, no others.
    """

    STOP_AFTER: Final = 5.0  # seconds: who scrolls past a face must not cost a key frame each time

    def __init__(self) -> None:
        self._told: dict[TrackId, _Told] = {}

    def update(self, published: Iterable[TrackId], offers: Iterable[Offer], now: float) -> dict[TrackId, int | None]:
        """Decide anew.

        Args:
            published: all tracks; one that nobody is offered is wanted by nobody.
            offers: those of all subscribers; of a track that is not published they are ignored.
            now: monotonic time, in seconds.
        """
        used: dict[TrackId, int | None] = dict.fromkeys(published)
        for offer in offers:
            wanted = wanted_layer(offer)
            if wanted is not None and offer.track in used:
                before = used[offer.track]
                used[offer.track] = wanted if before is None else max(before, wanted)
        self._told = {track: self._tell(track, wanted, now) for track, wanted in used.items()}
        return {track: told.layer for track, told in self._told.items()}

    def _tell(self, track: TrackId, wanted: int | None, now: float) -> _Told:
        told = self._told.get(track)
        if told is None or _height(wanted) >= _height(told.layer):
            return _Told(wanted, wanted, now)
        if told.instead != wanted:
            return _Told(told.layer, wanted, now)
        return _Told(wanted, wanted, now) if now - told.since >= self.STOP_AFTER else told

    def poll_timeout(self) -> float | None:
        """When something may be stopped if nothing changes until then; None if there is nothing to wait for."""
        waiting = [told.since for told in self._told.values() if told.instead != told.layer]
        return min(waiting) + self.STOP_AFTER if waiting else None


def _height(layer: int | None) -> int:
    return -1 if layer is None else layer
