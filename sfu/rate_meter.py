"""How much a layer carries, by temporal layers: what the allocation of bandwidth begins with."""

from typing import Final

INTERVAL: Final = 0.5  # seconds of one measurement: long enough to have a key frame weigh little
WEIGHT: Final = 0.5  # of a measurement against those before
SILENCE: Final = 2.0  # seconds after which a layer counts as not sent
MAX_TEMPORAL_LAYERS: Final = 8


class RateMeter:
    """Measures one layer."""

    def __init__(self) -> None:
        self._bytes = [0] * MAX_TEMPORAL_LAYERS
        self._rates: list[float] | None = None  # bits per second
        self._begun_at = 0.0
        self._heard_at: float | None = None

    def add(self, size: int, temporal_id: int, now: float) -> None:
        """Count a packet.

        Args:
            size: its bytes.
            temporal_id: its temporal layer, below MAX_TEMPORAL_LAYERS.
            now: monotonic time, in seconds.
        """
        if self._heard_at is None or now - self._heard_at >= SILENCE:
            self._bytes = [0] * MAX_TEMPORAL_LAYERS
            self._rates = None
            self._begun_at = now
        elif now - self._begun_at >= INTERVAL:
            self._measure(now)
        self._heard_at = now
        self._bytes[temporal_id] += size

    def rates(self, now: float) -> tuple[float, ...]:
        """Bits per second up to each temporal layer, those below included; nothing while the layer is not sent.

        The first measurement takes an INTERVAL.
        """
        if self._heard_at is None or now - self._heard_at >= SILENCE:
            return ()
        if now - self._begun_at >= INTERVAL:
            self._measure(now)
        if self._rates is None:
            return ()
        sums: list[float] = []
        for rate in self._rates:
            sums.append(rate + (sums[-1] if sums else 0.0))
        while len(sums) > 1 and sums[-1] == sums[-2]:
            sums.pop()
        return tuple(sums)

    def _measure(self, now: float) -> None:
        elapsed = now - self._begun_at
        measured = [8 * size / elapsed for size in self._bytes]
        if self._rates is None:
            self._rates = measured
        else:
            self._rates = [rate + WEIGHT * (new - rate) for rate, new in zip(self._rates, measured, strict=True)]
        self._bytes = [0] * MAX_TEMPORAL_LAYERS
        self._begun_at = now
