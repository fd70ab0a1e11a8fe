"""How late the event loop is: the one figure that tells an operator that a process has too much to do."""

import asyncio
import contextlib
import time
from collections import deque
from typing import Final

from prometheus_client import CollectorRegistry, Histogram

INTERVAL_SECONDS: Final = 0.25
WINDOW_SECONDS: Final = 10.0  # of which the worst is remembered: whoever asks every ten seconds misses nothing
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


class LoopLag:
    """Measures how much later than asked for a timer fires, four times a second."""

    def __init__(self, registry: CollectorRegistry, name: str = "redconnect_event_loop_lag_seconds") -> None:
        self._histogram = Histogram(
            name,
            "How much later than asked for a timer fires.",
            buckets=_BUCKETS,
            registry=registry,
        )
        self._task: asyncio.Task[None] | None = None
        self._due = 0.0
        self._recent: deque[float] = deque(maxlen=round(WINDOW_SECONDS / INTERVAL_SECONDS))

    def start(self) -> None:
        """Begin to measure."""
        self._due = time.monotonic() + INTERVAL_SECONDS
        self._task = asyncio.get_running_loop().create_task(self._measure(), name="event loop lag")

    async def stop(self) -> None:
        """Stop measuring."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def worst(self) -> float:
        """The worst lag of the last `WINDOW_SECONDS`, in seconds; a timer that is overdue right now counts, too."""
        overdue = time.monotonic() - self._due if self._task is not None else 0.0
        return max(0.0, overdue, *self._recent)

    async def _measure(self) -> None:
        while True:
            self._due = time.monotonic() + INTERVAL_SECONDS
            await asyncio.sleep(INTERVAL_SECONDS)
            lag = max(0.0, time.monotonic() - self._due)
            self._histogram.observe(lag)
            self._recent.append(lag)
