"""Bounds wrong guesses of codes: by address, and by the wider networks that one owner of IPv6 addresses can have."""

from collections import Counter
from collections.abc import Sequence

from signaling.rate_limiter import AddressLimiter, Pace

WIDTHS = (1, 4, 16)  # how much more than an address (/64 for IPv6) its /56 and its /48 may guess
MAX_PENDING = 64  # guesses of one address that nobody knows the outcome of yet
MAX_LIMITED_NETWORKS = 65_536  # of each width


class TooManyPending(Exception):
    """So many guesses are being looked up that one more has to wait."""


class _Level:
    def __init__(self, width: int) -> None:
        self.width = width
        self.max_pending = width * MAX_PENDING
        self.pending: Counter[bytes] = Counter()
        self.failed: AddressLimiter


class GuessLimiter:
    """Counts the guesses that were wrong, and apart from them those that are being looked up.

    Whoever has a right code waits for nobody's wrong ones that are still in flight, so many people behind one
    address may come at once. In return all that were in flight count when they were wrong, even beyond an empty bucket:
    guessing in parallel gains nothing in the long run.
    """

    def __init__(self, pace: Pace) -> None:
        """Begin with nobody counted.

        Args:
            pace: of the wrong guesses of one address.
        """
        self._levels = tuple(_Level(width) for width in WIDTHS)
        self.configure(pace)

    def configure(self, pace: Pace) -> None:
        """Forget the wrong guesses, and count by another pace."""
        for level in self._levels:
            wider = Pace(pace.interval / level.width, pace.burst * level.width)
            level.failed = AddressLimiter(wider, MAX_LIMITED_NETWORKS, max_debt=level.max_pending)

    def begin(self, networks: Sequence[bytes], now: float) -> None:
        """Let a guess be looked up; whoever begins must `end`.

        Args:
            networks: the address, from `address_key`, and the networks around it, from `networks_around`.
            now: monotonic time, in seconds.

        Raises:
            RateExceeded: too many guesses were wrong.
            TooManyPending: too many are being looked up.
        """
        counted = tuple(zip(self._levels, networks, strict=False))
        for level, network in counted:
            level.failed.check(network, now)
        if any(level.pending[network] >= level.max_pending for level, network in counted):
            raise TooManyPending
        for level, network in counted:
            level.pending[network] += 1

    def end(self, networks: Sequence[bytes], now: float, *, wrong: bool) -> None:
        """Take the outcome of a guess that has begun."""
        for level, network in zip(self._levels, networks, strict=False):
            level.pending[network] -= 1
            if level.pending[network] == 0:
                del level.pending[network]
            if wrong:
                level.failed.charge(network, now)

    def next_expiry(self) -> float | None:
        """Return the instant at which the next network can be forgotten."""
        due = (level.failed.next_expiry() for level in self._levels)
        return min((at for at in due if at is not None), default=None)

    def expire(self, now: float) -> None:
        """Forget the networks whose wrong guesses no longer count."""
        for level in self._levels:
            level.failed.expire(now)
