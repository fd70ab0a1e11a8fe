"""How late the event loop is: the one figure that tells an operator that a process has too much to do."""

import asyncio
import contextlib
import time
from typing import Final

from prometheus_client import CollectorRegistry, Histogram

INTERVAL_SECONDS: Final = 0.25
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


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

    def start(self) -> None:
        """Begin to measure."""
        self._task = asyncio.get_running_loop().create_task(self._measure(), name="event loop lag")

    async def stop(self) -> None:
        """Stop measuring."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _measure(self) -> None:
        while True:
            due = time.monotonic() + INTERVAL_SECONDS
            await asyncio.sleep(INTERVAL_SECONDS)
            self._histogram.observe(max(0.0, time.monotonic() - due))
