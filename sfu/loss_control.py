"""How the estimate follows loss: draft-ietf-rmcat-gcc-02 §6.

libwebrtc has since replaced these three ranges by a fit of a loss model ("LossBasedBweV2"). The ranges are kept here:
they have no hidden state and a test can say what they do. Taken from libwebrtc: the rate never lies above what the
delay allows, and a probe that succeeded sets it.
"""

from typing import Final


class LossControl:
    """Raises the rate below 2 % of loss, holds it up to 10 %, lowers it above by half of the fraction lost."""

    LOW: Final = 0.02
    HIGH: Final = 0.10
    INCREASE_PER_SECOND: Final = 1.08
    WINDOW_SECONDS: Final = (
        1.0  # losses are judged over so long and so many packets: chance alone must not cost anything
    )
    WINDOW_PACKETS: Final = 50
    URGENT: Final = 0.20  # with so much lost a queue overflows: then the rate is not above what arrives (own addition),
    URGENT_SECONDS: Final = 0.3  # and it is judged sooner
    MAX_WINDOW_SECONDS: Final = 5.0  # with few packets, whatever came in this time must do
    MIN_PACKETS: Final = 20

    __slots__ = ("_began_at", "_floor", "_lost", "_packets", "fraction_lost", "rate")

    def __init__(self, start: float, floor: float) -> None:
        """Both in bits per second."""
        self.rate = start
        self.fraction_lost = 0.0  # of the last window
        self._floor = floor
        self._packets = 0
        self._lost = 0
        self._began_at: float | None = None

    def set_rate(self, rate: float) -> None:
        """Take over what a probe has shown, bits per second."""
        self.rate = max(rate, self._floor)

    def update(self, packets: int, lost: int, allowed: float, acknowledged: float | None, now: float) -> bool:
        """Follow one feedback.

        Args:
            packets: that it tells of for the first time.
            lost: packets that it tells as lost, less those that turned up after all; may be negative.
            allowed: what the delay allows, in bits per second.
            acknowledged: what arrives, in bits per second; None when that is unknown, or so little is sent that it says
                nothing.
            now: monotonic time, in seconds.

        Returns:
            whether the rate was lowered for loss.
        """
        if self._began_at is None:
            self._began_at = now
        self._packets += packets
        self._lost = max(self._lost + lost, 0)  # what turned up may have been lost in the last window
        elapsed = now - self._began_at
        lowered = False
        if self._is_due(elapsed):
            lowered = self._judge(elapsed, acknowledged)
            self._packets = self._lost = 0
            self._began_at = now
        self.rate = max(min(self.rate, allowed), self._floor)
        return lowered

    def _is_due(self, elapsed: float) -> bool:
        if self._packets < self.MIN_PACKETS:
            return False
        if elapsed >= self.MAX_WINDOW_SECONDS:
            return True
        if self._packets < self.WINDOW_PACKETS:
            return False
        urgent = self._lost > self.URGENT * self._packets
        return elapsed >= (self.URGENT_SECONDS if urgent else self.WINDOW_SECONDS)

    def _judge(self, elapsed: float, acknowledged: float | None) -> bool:
        self.fraction_lost = self._lost / self._packets
        if self.fraction_lost > self.HIGH:
            self.rate *= 1 - self.fraction_lost / 2
            if self.fraction_lost > self.URGENT and acknowledged is not None:
                self.rate = min(self.rate, acknowledged)
            return True
        if self.fraction_lost < self.LOW:
            self.rate *= self.INCREASE_PER_SECOND ** min(elapsed, self.MAX_WINDOW_SECONDS)
        return False
