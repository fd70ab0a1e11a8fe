"""The relayed ports of one IP address: taken at random, given back, never lost (RFC 8656 §7.2, RFC 6056)."""

from collections.abc import Callable
from typing import Final

from relay.errors import InsufficientCapacity

_FREE: Final = 0
_TAKEN: Final = 1
_ENTROPY_BYTES: Final = 4


class PortPool:
    """Every port of the range is either free or taken; a bit of state per port, no list to leak from.

    Invariant: `taken + free == size`.
    """

    def __init__(self, first: int, last: int, share_percent: int, entropy: Callable[[int], bytes]) -> None:
        self._first = first
        self._state = bytearray(last - first + 1)
        self._entropy = entropy
        self.limit = max(1, len(self._state) * share_percent // 100)
        self.taken = 0

    @property
    def size(self) -> int:
        """Ports in the range."""
        return len(self._state)

    @property
    def free(self) -> int:
        """Ports that nobody holds, the quota aside."""
        return self._state.count(_FREE)

    def take(self) -> int:
        """A free port, unpredictable for a stranger.

        Raises:
            InsufficientCapacity: none may be taken any more.
        """
        return self._take(lambda _index: True, count=1)

    def take_even(self, *, with_next: bool) -> int:
        """A free even port (RFC 8656 §7.2, EVEN-PORT); `with_next` takes the odd port above it, too.

        Raises:
            InsufficientCapacity: there is no such port.
        """

        def fits(index: int) -> bool:
            if (self._first + index) % 2:
                return False
            return not with_next or (index + 1 < len(self._state) and self._state[index + 1] == _FREE)

        return self._take(fits, count=2 if with_next else 1)

    def give_back(self, port: int) -> None:
        """Return a taken port.

        Raises:
            ValueError: it was not taken; somebody counts wrong.
        """
        index = port - self._first
        if not 0 <= index < len(self._state) or self._state[index] != _TAKEN:
            raise ValueError(f"port {port} was not taken")
        self._state[index] = _FREE
        self.taken -= 1

    def _take(self, fits: Callable[[int], bool], count: int) -> int:
        if self.taken + count > self.limit:
            raise InsufficientCapacity("ports_exhausted")
        start = int.from_bytes(self._entropy(_ENTROPY_BYTES)) % len(self._state)
        for begin, end in ((start, len(self._state)), (0, start)):
            index = self._state.find(_FREE, begin, end)
            while index != -1:
                if fits(index):
                    self._state[index : index + count] = bytes((_TAKEN,)) * count
                    self.taken += count
                    return self._first + index
                index = self._state.find(_FREE, index + 1, end)
        raise InsufficientCapacity("ports_exhausted")
