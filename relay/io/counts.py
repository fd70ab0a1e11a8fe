"""What the control plane has done so far, counted in plain tables that `relay.io.metrics` shows at scrape time."""

import time
from bisect import bisect_left
from typing import Final, TypeVar

from relay.events import (
    AllocationCreated,
    AllocationDeleted,
    AllocationMoved,
    Ending,
    Event,
    HalfDeleted,
    MessageDropped,
    NoAnswer,
    RequestAnswered,
    RequestRefused,
)
from relay.five_tuple import Transport
from stun.errors import ParseFault

K = TypeVar("K")

_LATENCY_BUCKETS: Final[tuple[float, ...]] = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1)
_DURATION_BUCKETS: Final[tuple[float, ...]] = (1, 10, 60, 300, 900, 1800, 3600, 7200)


class Buckets:
    """The counts of a histogram, at a tenth of what the library's costs."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds  # upper ones; one more bucket takes what is above the last
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0  # of all values

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class RelayCounts:
    """Counts the events of the control plane.

    Plain dictionaries: a labelled counter of the metrics library costs as much as answering a Binding request, and a
    `Counter` three times as much as a dictionary. Keys come from enums and constants, so the tables are bounded;
    secrets are named in the settings.
    """

    def __init__(self) -> None:
        self.answered: dict[RequestAnswered, int] = {}
        self.refused: dict[RequestRefused, int] = {}
        self.dropped: dict[ParseFault | NoAnswer, int] = {}
        self.created: dict[tuple[Transport, int], int] = {}  # transport and address family
        self.deleted: dict[tuple[Transport, int, Ending], int] = {}
        self.secrets: dict[str, int] = {}
        self.latency = Buckets(_LATENCY_BUCKETS)
        self.seconds = Buckets(_DURATION_BUCKETS)

    def observe(self, event: Event, received_at: float) -> None:
        """Count one event; the message that caused it arrived at `received_at`, in monotonic seconds."""
        # In the order of how often they come; patterns of a `match` that name fields are four times as slow.
        if isinstance(event, RequestAnswered):
            _count(self.answered, event)
        elif isinstance(event, RequestRefused):
            _count(self.refused, event)
        elif isinstance(event, AllocationCreated):
            for family in event.families:
                _count(self.created, (event.transport, family))
            _count(self.secrets, event.secret)
            self.latency.observe(time.monotonic() - received_at)
        elif isinstance(event, AllocationDeleted):
            for family in event.families:
                _count(self.deleted, (event.transport, family, event.ending))
            self.seconds.observe(event.seconds)
        elif isinstance(event, MessageDropped):
            _count(self.dropped, event.reason)
        elif isinstance(event, HalfDeleted):
            _count(self.deleted, (event.transport, event.family, event.ending))
        elif isinstance(event, AllocationMoved):
            for family in event.families:
                _count(self.deleted, (event.before, family, Ending.MOVED))
                _count(self.created, (event.after, family))


def _count(table: dict[K, int], key: K) -> None:
    table[key] = table.get(key, 0) + 1
