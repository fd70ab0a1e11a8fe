"""Which is the largest packet that gets through unfragmented: a search by halving that always ends."""

from typing import Final

MAX_PACKET_BYTES: Final = 1500  # of IP, what Ethernet carries
MIN_PACKET_BYTES: Final = {"ipv4": 576, "ipv6": 1280}  # what every path must carry (RFC 791, RFC 8200 §5)
IP_AND_UDP_BYTES: Final = {"ipv4": 28, "ipv6": 48}
STEP_BYTES: Final = 4  # a STUN message has a multiple of four


class SizeSearch:
    """Halves the range of sizes until one is left. The largest is tried first: mostly it passes, and all is said."""

    def __init__(self, low: int, high: int) -> None:
        """Search from `low` to `high` bytes, both included, in steps of STEP_BYTES from `low` on."""
        self._low = low
        self._steps = (high - low) // STEP_BYTES
        self._passed = -1  # the last step known to pass
        self._failed = self._steps + 1  # the first known not to

    @property
    def size(self) -> int | None:
        """The size to try next, in bytes; None at the end."""
        if self._failed - self._passed <= 1:
            return None
        untried = self._passed == -1 and self._failed == self._steps + 1
        step = self._steps if untried else (self._passed + self._failed) // 2
        return self._low + STEP_BYTES * step

    @property
    def largest(self) -> int | None:
        """The largest size that passed, in bytes; None if none did."""
        return None if self._passed < 0 else self._low + STEP_BYTES * self._passed

    def tell(self, *, passed: bool) -> None:
        """Say what became of `size`."""
        size = self.size
        if size is None:
            raise ValueError("the search is over")
        step = (size - self._low) // STEP_BYTES
        if passed:
            self._passed = step
        else:
            self._failed = step
