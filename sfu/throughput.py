"""How much of what is sent arrives, and whether so little is sent that this says nothing of the path."""

from collections import deque
from typing import Final


class AcknowledgedRate:
    """What arrives at the other end, over the last half second of its clock.

    libwebrtc weighs windows of 150 ms by a Bayesian filter; a sliding window needs no parameters, and follows a drop of
    capacity within its length.
    """

    WINDOW: Final = 0.5  # seconds
    MIN_SPAN: Final = 0.15  # seconds between first and last packet before there is an answer
    MAX_PACKETS: Final = 4096

    __slots__ = ("_arrivals", "_bytes", "_otherwise", "_sent_from")

    def __init__(self) -> None:
        self._arrivals: deque[tuple[float, int]] = deque()
        self._bytes = 0
        self._sent_from = float("-inf")
        self._otherwise: float | None = None

    def restart(self, bits_per_second: float, now: float) -> None:
        """Begin anew with what leaves from now on; until enough of it has arrived, the rate is the given one.

        For when a probe has raised the estimate: what arrived before says nothing of the path any more, and a decrease
        that were measured by it would throw away what the probe found.
        """
        self._arrivals.clear()
        self._bytes = 0
        self._sent_from = now
        self._otherwise = bits_per_second

    def receive(self, sent_at: float, received_at: float, size: int) -> None:
        """Note that a packet arrived, in the order of arrival.

        Args:
            sent_at: seconds of our clock.
            received_at: seconds of the receiver's clock.
            size: bytes.
        """
        if sent_at < self._sent_from:
            return
        self._add(received_at, size)

    def _add(self, received_at: float, size: int) -> None:
        arrivals = self._arrivals
        if arrivals and received_at < arrivals[-1][0]:
            received_at = arrivals[-1][0]  # told late: it counts, and disturbs the order no further
        arrivals.append((received_at, size))
        self._bytes += size
        while arrivals[0][0] < received_at - self.WINDOW or len(arrivals) > self.MAX_PACKETS:
            self._bytes -= arrivals.popleft()[1]

    def skip(self, size: int) -> None:
        """Note bytes of which no feedback speaks, because feedback was lost: they count as if they had arrived last.

        Else half of the feedback lost would look like half of the capacity.
        """
        if self._arrivals and size:
            self._add(self._arrivals[-1][0], size)

    @property
    def bits_per_second(self) -> float | None:
        """The rate; None while too little has arrived."""
        if not self._arrivals:
            return self._otherwise
        first_at, first_size = self._arrivals[0]
        span = self._arrivals[-1][0] - first_at
        if span < self.MIN_SPAN:
            return self._otherwise
        self._otherwise = None
        return (self._bytes - first_size) * 8 / span


class ApplicationLimit:
    """Whether the application sends clearly less than the path is thought to carry (libwebrtc's ALR detector).

    An account is paid into at 80 % of the estimate and drawn from by what is sent; it holds half a second. (libwebrtc
    has 65 %. Its estimate may rise to 1.5 times what arrives, and so comes to rest just above that: with the next layer
    still out of reach nothing would be probed for again.)
    """

    USAGE: Final = 0.8
    ACCOUNT_SECONDS: Final = 0.5
    BEGINS_ABOVE: Final = 0.8  # of the account
    ENDS_BELOW: Final = 0.5

    __slots__ = ("_account", "_at", "_spent", "limited")

    def __init__(self) -> None:
        self.limited = False
        self._account = 0.0  # bits
        self._spent = 0  # bytes since the last update
        self._at: float | None = None

    def send(self, size: int) -> None:
        """Draw what is sent, in bytes."""
        self._spent += size

    def update(self, estimate: float, now: float) -> None:
        """Settle the account; to be called some times a second. `estimate` in bits per second."""
        elapsed = 0.0 if self._at is None else now - self._at
        self._at = now
        bound = estimate * self.USAGE * self.ACCOUNT_SECONDS
        account = self._account + estimate * self.USAGE * elapsed - self._spent * 8
        self._account = min(max(account, -bound), bound)
        self._spent = 0
        if self._account > self.BEGINS_ABOVE * bound:
            self.limited = True
        elif self._account < self.ENDS_BELOW * bound:
            self.limited = False
