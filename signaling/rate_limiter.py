"""Token buckets: for the attempts from one address, and for the messages of one client."""

import ipaddress
from collections import OrderedDict
from typing import NamedTuple

_IPV6_KEY_BYTES = 8  # of a /64
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

    def check(self, now: float, tokens: int = 1) -> None:
        """Take nothing, but tell whether so many tokens are there.

        Raises:
            RateExceeded: they are not.
        """
        wait = max(self._full_at, now) + tokens * self._pace.interval - now - self._pace.window
        if wait > _ROUNDING_SECONDS:
            raise RateExceeded(wait)

    def take(self, now: float, tokens: int = 1) -> None:
        """Take so many tokens, or none.

        Raises:
            RateExceeded: there are fewer.
        """
        self.check(now, tokens)
        self.charge(now, tokens)

    def charge(self, now: float, tokens: int = 1, max_debt: int = 0) -> None:
        """Take so many tokens, even if there are fewer: then `max_debt` may be missing at most."""
        full_at = max(self._full_at, now) + tokens * self._pace.interval
        self._full_at = min(full_at, now + self._pace.window + max_debt * self._pace.interval)


class AddressLimiter:
    """Bounds attempts by address. It remembers an address for as long as the attempts count."""

    def __init__(self, pace: Pace, max_addresses: int, *, max_debt: int = 0) -> None:
        """Begin with nobody counted.

        Args:
            pace: of one address.
            max_addresses: beyond it, the one that was counted longest ago is forgotten.
            max_debt: attempts that `charge` counts beyond an empty bucket.
        """
        self._pace = pace
        self._max_addresses = max_addresses
        self._max_debt = max_debt
        self._memory = pace.window + max_debt * pace.interval  # seconds in which the deepest debt is paid
        self._buckets: OrderedDict[bytes, tuple[TokenBucket, float]] = OrderedDict()  # by expiry

    def __len__(self) -> int:
        return len(self._buckets)

    def check(self, address: bytes, now: float) -> None:
        """Count nothing, but tell whether one more attempt may be made.

        Args:
            address: key from `address_key`.
            now: monotonic time, in seconds.

        Raises:
            RateExceeded: too many attempts of this address have counted.
        """
        self.expire(now)
        if address in self._buckets:
            self._buckets[address][0].check(now)

    def take(self, address: bytes, now: float) -> None:
        """Count an attempt.

        Raises:
            RateExceeded: too many attempts of this address have counted.
        """
        self.check(address, now)
        self.charge(address, now)

    def charge(self, address: bytes, now: float) -> None:
        """Count an attempt that has been made, however many there were."""
        self.expire(now)
        bucket, _ = self._buckets.get(address) or (TokenBucket(self._pace, now), now)
        bucket.charge(now, max_debt=self._max_debt)
        self._buckets[address] = (bucket, now + self._memory)
        self._buckets.move_to_end(address)
        if len(self._buckets) > self._max_addresses:
            # Whoever owns this many addresses gains nothing by the few attempts forgotten here.
            self._buckets.popitem(last=False)

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
        return ip.ipv4_mapped.packed if ip.ipv4_mapped else ip.packed[:_IPV6_KEY_BYTES]
    return ip.packed


def networks_around(address: str | None) -> tuple[bytes, ...]:
    """Name the /56 and the /48 around an IPv6 address, which one customer may have; none for anything else."""
    key = peer_key(address)
    return (key[:7], key[:6]) if len(key) == _IPV6_KEY_BYTES else ()


def peer_key(address: str | None) -> bytes:
    """Name whom to count a connection for, as `address_key` does; all that come over no IP transport count as one."""
    try:
        return address_key(address or "")
    except ValueError:
        return b""
