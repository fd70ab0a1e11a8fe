"""Deadlines in one-second buckets: cheap to set, to move and to cancel, however many there are."""

import heapq
import math
from typing import Generic, Protocol, TypeVar


class Timed(Protocol):
    """What can wait: it remembers which bucket it waits in (None: it does not)."""

    bucket: int | None


T = TypeVar("T", bound=Timed)


class Timers(Generic[T]):
    """Wakes things up at most one second late.

    Exact expiry is the business of whoever looks at the instant itself; this only cleans up behind it. Hence a
    deadline that moves to later costs nothing: when its bucket comes up, it is scheduled again.
    """

    def __init__(self) -> None:
        self._buckets: dict[int, dict[int, T]] = {}
        self._order: list[int] = []
        self.wake_by = math.inf  # no deadline lies before this instant; there may be none at it

    def schedule(self, item: T, at: float) -> None:
        """Wake `item` at `at` or up to a second later, instead of any earlier wish."""
        second = math.ceil(at)
        if item.bucket == second:
            return
        self.cancel(item)
        bucket = self._buckets.get(second)
        if bucket is None:
            bucket = self._buckets[second] = {}
            heapq.heappush(self._order, second)
            self.wake_by = min(self.wake_by, second)
        bucket[id(item)] = item
        item.bucket = second

    def cancel(self, item: T) -> None:
        """Do not wake `item`. Its empty bucket stays until its second comes: at most one per second ahead."""
        if item.bucket is not None:
            del self._buckets[item.bucket][id(item)]
            item.bucket = None

    def due(self, now: float) -> list[T]:
        """Take out everything whose second has come."""
        woken: list[T] = []
        while self._order and self._order[0] <= now:
            for item in self._buckets.pop(heapq.heappop(self._order)).values():
                item.bucket = None
                woken.append(item)
        self.wake_by = self._order[0] if self._order else math.inf
        return woken

    def next_at(self) -> float | None:
        """The instant of the next bucket, or None if nothing waits."""
        while self._order and not self._buckets[self._order[0]]:
            del self._buckets[heapq.heappop(self._order)]
        return float(self._order[0]) if self._order else None
