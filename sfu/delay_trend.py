"""Whether a queue grows on the way: the delay-based half of draft-ietf-rmcat-gcc-02 (§5.1 to §5.4).

Packets are taken in groups of 5 ms of sending; between two groups the time between their arrivals is compared with
the time between their departures. Where the draft has a Kalman filter, libwebrtc has since fitted a line to the sum of
these differences ("trendline"), and so does this: slope, gain, adaptive threshold and the rule of overuse are its own.
"""

from collections import deque
from enum import Enum
from itertools import pairwise
from typing import Final


class PathUse(Enum):
    """What the delay says of the path."""

    NORMAL = "normal"
    OVERUSE = "overuse"  # a queue grows
    UNDERUSE = "underuse"  # a queue empties


class _Group:
    """Packets that left within 5 ms, or arrived as one burst."""

    __slots__ = ("burst_received_at", "burst_sent_at", "first_sent_at", "last_received_at", "last_sent_at")

    def __init__(self, sent_at: float, received_at: float) -> None:
        self.first_sent_at = self.last_sent_at = self.burst_sent_at = sent_at
        self.last_received_at = self.burst_received_at = received_at

    def add(self, sent_at: float, received_at: float, gap: float) -> None:
        """Take in a packet; after a gap of so many seconds between arrivals another burst begins with it."""
        if received_at - self.last_received_at > gap:
            self.burst_sent_at, self.burst_received_at = sent_at, received_at
        self.last_sent_at = max(self.last_sent_at, sent_at)
        self.last_received_at = max(self.last_received_at, received_at)


class SlowGrowth:
    """A queue that grows so slowly that no slope shows it: by the least delays of the last half seconds.

    Own addition. A sender that follows the estimate goes on rising until the slope is steep enough. Whole layers may
    come to rest one percent above what the path carries, and would fill its queue to the brim.
    """

    BIN_SECONDS: Final = 0.5
    BINS: Final = 8
    GROWTH: Final = 0.04  # seconds from the first bin to the last
    STILL_GROWING: Final = 0.0025  # seconds in each of the last two steps: what has come to rest is left alone
    TOLERANCE: Final = 0.005  # seconds that a bin may lie below the one before
    ALARM_SECONDS: Final = 0.2  # long enough for feedback to see it

    __slots__ = ("_alarm_until", "_ends_at", "_least", "_minima")

    def __init__(self) -> None:
        self._minima: deque[float] = deque(maxlen=self.BINS)
        self._least = float("inf")
        self._ends_at: float | None = None
        self._alarm_until = float("-inf")

    def receive(self, sent_at: float, received_at: float) -> bool:
        """Take in a packet as `DelayTrend.receive` does; gives whether the queue has grown slowly."""
        if self._ends_at is None:
            self._ends_at = received_at + self.BIN_SECONDS
        if received_at >= self._ends_at:
            self._close(received_at)
        self._least = min(self._least, received_at - sent_at)
        return received_at < self._alarm_until

    def _close(self, received_at: float) -> None:
        minima = self._minima
        minima.append(self._least)
        self._least = float("inf")
        self._ends_at = received_at + self.BIN_SECONDS
        if (
            len(minima) == self.BINS
            and minima[-1] - minima[0] > self.GROWTH
            and min(minima[-1] - minima[-2], minima[-2] - minima[-3]) > self.STILL_GROWING
            and all(later >= earlier - self.TOLERANCE for earlier, later in pairwise(minima))
        ):
            self._alarm_until = received_at + self.ALARM_SECONDS
            minima.clear()


class DelayTrend:
    """Is told of every packet that arrived, in the order of arrival; `use` is what follows from it."""

    GROUP_SECONDS: Final = 0.005
    MAX_BURST_SECONDS: Final = 0.1  # a burst is not longer, however close its packets arrive
    MAX_GAP_SECONDS: Final = 3.0  # between arrivals: after such a silence nothing can be compared with what was before
    WINDOW: Final = 20  # groups that the line is fitted to
    SMOOTHING: Final = 0.9
    GAIN: Final = 4.0
    MAX_DELTAS: Final = 60  # the slope counts more, the more groups it rests on
    OVERUSE_SECONDS: Final = 0.010
    MIN_THRESHOLD: Final = 6.0  # milliseconds, as slope times gain times groups
    START_THRESHOLD: Final = 12.5
    MAX_THRESHOLD: Final = 600.0
    MAX_EXCESS: Final = 15.0  # what lies so far above the threshold is a change of the path, and does not adapt it
    RISE: Final = 0.0087  # of the threshold, per millisecond
    FALL: Final = 0.039

    __slots__ = (
        "_accumulated",
        "_before",
        "_current",
        "_deltas",
        "_first_at",
        "_growth",
        "_history",
        "_over_count",
        "_over_seconds",
        "_previous_trend",
        "_smoothed",
        "_threshold",
        "_threshold_at",
        "use",
    )

    def __init__(self) -> None:
        self.use = PathUse.NORMAL
        self._threshold = self.START_THRESHOLD
        self._reset()

    def _reset(self) -> None:
        self._before: _Group | None = None
        self._current: _Group | None = None
        self._history: deque[tuple[float, float]] = deque(maxlen=self.WINDOW)  # arrival, smoothed delay; milliseconds
        self._first_at = 0.0
        self._accumulated = self._smoothed = self._previous_trend = 0.0
        self._deltas = 0
        self._over_seconds: float | None = None
        self._over_count = 0
        self._threshold_at: float | None = None
        self._growth = SlowGrowth()
        self.use = PathUse.NORMAL

    def receive(self, sent_at: float, received_at: float) -> None:
        """Take in when a packet left and when it arrived, each by its own clock, in seconds.

        A packet that left before its group is out of order and says nothing of the queue.
        """
        current = self._current
        if current is None:
            self._current = _Group(sent_at, received_at)
            return
        if abs(received_at - current.last_received_at) > self.MAX_GAP_SECONDS:
            self._reset()
            self._current = _Group(sent_at, received_at)
            return
        if sent_at < current.first_sent_at:
            return
        grows = self._growth.receive(sent_at, received_at)
        if self._belongs(current, sent_at, received_at):
            current.add(sent_at, received_at, self.GROUP_SECONDS)
            return
        before = self._before
        if before is not None:
            self._compare(before, current)
        if grows:
            self.use = PathUse.OVERUSE
        self._before = current
        self._current = _Group(sent_at, received_at)

    def _belongs(self, group: _Group, sent_at: float, received_at: float) -> bool:
        if sent_at - group.first_sent_at <= self.GROUP_SECONDS:
            return True
        # Held up together and let go together (a radio link, a timer, a receiver that is short of time): the burst is
        # no sign of a queue that empties, and its first packet none of one that has grown. libwebrtc compares each with
        # the one before; these leave and are read within the resolution of feedback, and would tear a burst.
        span = received_at - group.burst_received_at
        return (
            received_at - group.last_received_at <= self.GROUP_SECONDS
            and span < sent_at - group.burst_sent_at
            and span < self.MAX_BURST_SECONDS
        )

    def _compare(self, before: _Group, group: _Group) -> None:
        sent_delta = group.last_sent_at - before.last_sent_at
        received_ms = group.last_received_at * 1000
        if self._deltas == 0:
            self._first_at = received_ms
        delta = (group.last_received_at - before.last_received_at - sent_delta) * 1000
        self._deltas += 1
        self._accumulated += delta
        self._smoothed = self.SMOOTHING * self._smoothed + (1 - self.SMOOTHING) * self._accumulated
        self._history.append((received_ms - self._first_at, self._smoothed))
        trend = self._previous_trend
        if len(self._history) == self.WINDOW:
            trend = self._slope(trend)
        self._detect(trend, sent_delta, received_ms)

    def _slope(self, otherwise: float) -> float:
        """Of the line through the history, by least squares."""
        count = len(self._history)
        from_x = self._history[0][0]
        x_sum = y_sum = xx_sum = xy_sum = 0.0
        for arrival, delay in self._history:
            x = arrival - from_x
            x_sum += x
            y_sum += delay
            xx_sum += x * x
            xy_sum += x * delay
        below = count * xx_sum - x_sum * x_sum
        return (count * xy_sum - x_sum * y_sum) / below if below > 0 else otherwise

    def _detect(self, trend: float, sent_delta: float, received_ms: float) -> None:
        if self._deltas < 2:
            return
        modified = min(self._deltas, self.MAX_DELTAS) * trend * self.GAIN
        if modified > self._threshold:
            # Half of the time since the last group, at first: it began somewhere in between.
            self._over_seconds = sent_delta / 2 if self._over_seconds is None else self._over_seconds + sent_delta
            self._over_count += 1
            if self._over_seconds > self.OVERUSE_SECONDS and self._over_count > 1 and trend >= self._previous_trend:
                self._over_seconds = 0.0
                self._over_count = 0
                self.use = PathUse.OVERUSE
        else:
            self._over_seconds = None
            self._over_count = 0
            self.use = PathUse.UNDERUSE if modified < -self._threshold else PathUse.NORMAL
        self._previous_trend = trend
        self._adapt(abs(modified), received_ms)

    def _adapt(self, modified: float, received_ms: float) -> None:
        """Let the threshold follow what is usual on this path. It falls faster than it rises, as in libwebrtc."""
        since = 0.0 if self._threshold_at is None else min(max(received_ms - self._threshold_at, 0.0), 100.0)
        self._threshold_at = received_ms
        if modified > self._threshold + self.MAX_EXCESS:
            return
        gain = self.FALL if modified < self._threshold else self.RISE
        moved = self._threshold + gain * (modified - self._threshold) * since
        self._threshold = min(max(moved, self.MIN_THRESHOLD), self.MAX_THRESHOLD)
