"""Token buckets: for the unknown codes from one address, and for the messages of one client."""

import ipaddress
from collections import OrderedDict
from typing import NamedTuple

_ROUNDING_SECONDS = 1e-6  # the last token of a burst must not get lost in a float


class RateExceeded(Exception):
    """The bucket is empty.

    Attributes:
        retry_after: seconds until there is a token again.
    """

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"again in {retry_after:.1f} s")
        self.retry_after = retry_after


class Pace(NamedTuple):
    """`burst` tokens at once, and one more every `interval` seconds."""

    interval: float
    burst: int

    @property
    def window(self) -> float:
        """Seconds in which an empty bucket is full again."""
        return self.interval * self.burst


class TokenBucket:
    """One bucket, remembered as the instant when it will be full."""

    __slots__ = ("_full_at", "_pace")

    def __init__(self, pace: Pace, now: float) -> None:
        self._pace = pace
        self._full_at = now

    def take(self, now: float) -> None:
        """Take a token.

        Raises:
            RateExceeded: there is none.
        """
        full_at = max(self._full_at, now) + self._pace.interval
        wait = full_at - now - self._pace.window
        if wait > _ROUNDING_SECONDS:
            raise RateExceeded(wait)
        self._full_at = full_at

    def give_back(self) -> None:
        """Put a token back that turned out not to be needed."""
        self._full_at -= self._pace.interval

    def is_full(self, now: float) -> bool:
        """Tell whether forgetting this bucket would change nothing."""
        return self._full_at <= now + _ROUNDING_SECONDS


class AddressLimiter:
    """Bounds attempts by address. It remembers an address for as long as the attempts count.

    An attempt takes its token before anybody knows whether it is a good one, and gets it back if it
    was: so a thousand parallel attempts are not all let in while the first is being looked up.
    """

    def __init__(self, pace: Pace, max_addresses: int) -> None:
        self._pace = pace
        self._max_addresses = max_addresses
        self._buckets: OrderedDict[bytes, tuple[TokenBucket, float]] = OrderedDict()  # by expiry

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, address: bytes, now: float) -> None:
        """Count an attempt.

        Args:
            address: key from `address_key`.
            now: monotonic time, in seconds.

        Raises:
            RateExceeded: too many attempts of this address have counted.
        """
        self.expire(now)
        bucket, _ = self._buckets.get(address) or (TokenBucket(self._pace, now), now)
        bucket.take(now)
        self._buckets[address] = (bucket, now + self._pace.window)
        self._buckets.move_to_end(address)
        if len(self._buckets) > self._max_addresses:
            # Whoever owns this many addresses gains nothing by the ten attempts forgotten here.
            self._buckets.popitem(last=False)

    def give_back(self, address: bytes, now: float) -> None:
        """Take an attempt out of the count again, because it was a good one."""
        entry = self._buckets.get(address)
        if entry is None:
            return
        entry[0].give_back()
        if entry[0].is_full(now):
            del self._buckets[address]

    def next_expiry(self) -> float | None:
        """Return the instant at which the next address can be forgotten."""
        return next(iter(self._buckets.values()))[1] if self._buckets else None

    def expire(self, now: float) -> None:
        """Forget the addresses whose attempts no longer count."""
        while self._buckets and next(iter(self._buckets.values()))[1] <= now:
            self._buckets.popitem(last=False)


def address_key(address: str) -> bytes:
    """Name whom to count: an IPv4 address, or the /64 of an IPv6 address.

    An IPv4-mapped IPv6 address is the IPv4 address. A zone is ignored.

    Raises:
        ValueError: the text is no IP address.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        return ip.ipv4_mapped.packed if ip.ipv4_mapped else ip.packed[:8]
    return ip.packed


def peer_key(address: str | None) -> bytes:
    """Name whom to count a connection for, as `address_key` does; all that come over no IP transport count as one."""
    try:
        return address_key(address or "")
    except ValueError:
        return b""
