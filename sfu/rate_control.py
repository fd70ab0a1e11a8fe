"""How the estimate follows what the delay says: AIMD as in draft-ietf-rmcat-gcc-02 §5.5, with libwebrtc's numbers."""

import math
from enum import Enum
from typing import Final

from sfu.delay_trend import PathUse


class _State(Enum):
    HOLD = "hold"
    INCREASE = "increase"


class LinkCapacity:
    """The throughput at which a queue began to grow: a mean and a spread, each of the last twenty times or so.

    In kbit/s, because the spread is kept relative to the mean and bounded as libwebrtc bounds it.
    """

    WEIGHT: Final = 0.05
    MIN_SPREAD: Final = 0.4
    MAX_SPREAD: Final = 2.5
    DEVIATIONS: Final = 3.0

    __slots__ = ("_mean", "_spread")

    def __init__(self) -> None:
        self._mean: float | None = None
        self._spread = self.MIN_SPREAD

    @property
    def known(self) -> bool:
        """Whether there is a mean; until then the capacity may be anything."""
        return self._mean is not None

    @property
    def bits_per_second(self) -> float | None:
        """The mean."""
        return None if self._mean is None else self._mean * 1000

    def reset(self) -> None:
        """Forget the mean: the path has changed."""
        self._mean = None

    def observe_overuse(self, throughput: float) -> None:
        """Take in the throughput, bits per second, while a queue grew."""
        sample = throughput / 1000
        if self._mean is None:
            self._mean = sample
        self._mean += self.WEIGHT * (sample - self._mean)
        error = (self._mean - sample) ** 2 / max(self._mean, 1.0)
        spread = self._spread + self.WEIGHT * (error - self._spread)
        self._spread = min(max(spread, self.MIN_SPREAD), self.MAX_SPREAD)

    def contradicted_from_above(self, throughput: float) -> bool:
        """Whether so much arrives, bits per second, that the capacity must have grown."""
        return self._mean is not None and throughput / 1000 > self._mean + self._margin()

    def contradicted_from_below(self, throughput: float) -> bool:
        """Whether so little arrived, bits per second, while a queue grew that the capacity must have shrunk."""
        return self._mean is not None and throughput / 1000 < self._mean - self._margin()

    def _margin(self) -> float:
        return self.DEVIATIONS * math.sqrt(self._spread * (self._mean or 0.0))


class RateControl:
    """Raises the rate while the delay is steady, and lowers it below what arrives when a queue grows.

    Far from where a queue last grew the rate rises by 8 % a second, near it by about a packet each response time, so
    that the queue that ends the increase stays small. After a decrease, and while a queue empties, it holds.
    """

    DECREASE: Final = 0.85  # of what arrives
    INCREASE_PER_SECOND: Final = 1.08
    MIN_INCREASE: Final = 1000.0  # bits per second, per second
    MIN_ADDITIVE: Final = 4000.0  # bits per second, per second
    # The rate rises no further above what arrives: nobody has shown that the path carries more. (libwebrtc has 1.5.)
    # It is where an application counts as limited; from there on probes find out, whatever size the next layer has.
    HEADROOM: Final = 1.25
    HEADROOM_BITS: Final = 10_000.0
    DETECTION_SECONDS: Final = 0.1  # what the detector of overuse needs
    PACKET_BITS: Final = 9600.0
    FRAME_SECONDS: Final = 1 / 30
    DOUBT_SECONDS: Final = 0.5  # a queue that grows for longer is no jitter, however little is sent
    MIN_REDUCTION_SECONDS: Final = 0.01  # between two decreases at least a round trip, within these bounds
    MAX_REDUCTION_SECONDS: Final = 0.2

    __slots__ = ("_changed_at", "_floor", "_overused_since", "_state", "ceiling", "link", "rate")

    def __init__(self, start: float, floor: float, ceiling: float) -> None:
        """All three in bits per second."""
        self.rate = start
        self.ceiling = ceiling
        self.link = LinkCapacity()
        self._floor = floor
        self._state = _State.HOLD
        self._changed_at: float | None = None
        self._overused_since: float | None = None

    def set_rate(self, rate: float, now: float) -> None:
        """Take over what was measured otherwise, bits per second: the result of a probe, or of a silence."""
        self.rate = self._clamp(rate)
        self._changed_at = now

    def update(
        self,
        use: PathUse,
        acknowledged: float | None,
        round_trip: float,
        now: float,
        *,
        limited: bool = False,
    ) -> bool:
        """Follow the delay once; to be called with every feedback.

        Args:
            use: what the delay says.
            acknowledged: what arrives, in bits per second; None before that is known.
            round_trip: seconds.
            now: monotonic time, in seconds.
            limited: whether the application sends clearly less than the rate.

        Returns:
            whether the rate was lowered.
        """
        if use is PathUse.OVERUSE:
            if self._overused_since is None:
                self._overused_since = now
            if limited and now - self._overused_since < self.DOUBT_SECONDS:
                return self._decrease_limited(round_trip, now)
            return self._decrease(acknowledged, round_trip, now)
        self._overused_since = None
        if use is PathUse.UNDERUSE:
            self._state = _State.HOLD
            return False
        if self._state is _State.HOLD:
            self._state = _State.INCREASE
            self._changed_at = now
            return False
        self._increase(acknowledged, round_trip, now)
        return False

    def _may_decrease(self, round_trip: float, now: float) -> bool:
        interval = min(max(round_trip, self.MIN_REDUCTION_SECONDS), self.MAX_REDUCTION_SECONDS)
        return self._changed_at is None or now - self._changed_at >= interval

    def _decrease_limited(self, round_trip: float, now: float) -> bool:
        """Lower the rate step by step: what arrives says what was sent, and not what the path carries.

        Own addition. Jitter looks like a queue for some tenths of a second. Measured by what arrives, the rate of
        somebody who has use for little would fall at once to less than that, and its picture would be paused.
        """
        if not self._may_decrease(round_trip, now):
            return False
        before = self.rate
        self.rate = self._clamp(self.rate * self.DECREASE)
        self._state = _State.HOLD
        self._changed_at = now
        return self.rate < before

    def _decrease(self, acknowledged: float | None, round_trip: float, now: float) -> bool:
        if acknowledged is None:
            acknowledged = self.rate / 2 / self.DECREASE  # something must be done before anything is known
        if not self._may_decrease(round_trip, now) and acknowledged >= self.rate / 2:
            return False
        before = self.rate
        lowered = acknowledged * self.DECREASE
        link = self.link.bits_per_second
        if lowered > self.rate and link is not None:
            lowered = link * self.DECREASE
        if self.link.contradicted_from_below(acknowledged):
            self.link.reset()
        self.link.observe_overuse(acknowledged)
        self.rate = self._clamp(min(lowered, self.rate))
        self._state = _State.HOLD
        self._changed_at = now
        return self.rate < before

    def _increase(self, acknowledged: float | None, round_trip: float, now: float) -> None:
        if acknowledged is not None and self.link.contradicted_from_above(acknowledged):
            self.link.reset()
        elapsed = 0.0 if self._changed_at is None else min(max(now - self._changed_at, 0.0), 1.0)
        self._changed_at = now
        limit = self.HEADROOM * (acknowledged or 0.0) + self.HEADROOM_BITS
        if self.rate >= limit:
            return
        if self.link.known:
            raised = self.rate + self._additive(round_trip) * elapsed
        else:
            raised = self.rate + max(self.rate * (self.INCREASE_PER_SECOND**elapsed - 1), self.MIN_INCREASE * elapsed)
        self.rate = self._clamp(min(raised, limit))

    def _additive(self, round_trip: float) -> float:
        """Bits per second, per second: half a packet of the present rate for each response time."""
        frame = self.rate * self.FRAME_SECONDS
        packet = frame / math.ceil(frame / self.PACKET_BITS)
        return max(packet / (2 * (round_trip + self.DETECTION_SECONDS)), self.MIN_ADDITIVE)

    def _clamp(self, rate: float) -> float:
        return min(max(rate, self._floor), self.ceiling)
