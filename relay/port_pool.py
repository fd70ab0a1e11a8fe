"""The relayed ports of one IP address: taken at random, given back, never lost (RFC 8656 §7.2, RFC 6056)."""

from collections.abc import Callable
from typing import Final

from relay.errors import InsufficientCapacity

FREE: Final = 0  # the state of a port that nobody holds
ENTROPY_BYTES: Final = 4  # that a draw takes
_TAKEN: Final = 1


class PortPool:
    """Every port of the range is either free or taken; a byte of state per port, no list to leak from.

    Invariant: `taken + free == size`.
    """

    def __init__(self, first: int, last: int, share_percent: int, entropy: Callable[[int], bytes]) -> None:
        self._first = first
        self._state = bytearray(last - first + 1)
        self._entropy = entropy
        self.limit = share_of(len(self._state), share_percent)
        self.taken = 0

    @property
    def size(self) -> int:
        """Ports in the range."""
        return len(self._state)

    @property
    def free(self) -> int:
        """Ports that nobody holds, the quota aside."""
        return self._state.count(FREE)

    def take(self) -> int:
        """A free port, unpredictable for a stranger.

        Raises:
            InsufficientCapacity: none may be taken any more.
        """
        return self._take(even=False, count=1)

    def take_even(self, *, with_next: bool) -> int:
        """A free even port (RFC 8656 §7.2, EVEN-PORT); `with_next` takes the odd port above it, too.

        Raises:
            InsufficientCapacity: there is no such port.
        """
        return self._take(even=True, count=2 if with_next else 1)

    def enclose(self, port: int, circle: str) -> None:
        """Nothing to write down: whoever relays here knows the circles of all its relays by itself."""

    def give_back(self, port: int) -> None:
        """Return a taken port.

        Raises:
            ValueError: it was not taken; somebody counts wrong.
        """
        index = port - self._first
        if not 0 <= index < len(self._state) or self._state[index] != _TAKEN:
            raise ValueError(f"port {port} was not taken")
        self._state[index] = FREE
        self.taken -= 1

    def _take(self, *, even: bool, count: int) -> int:
        if self.taken + count > self.limit:
            raise InsufficientCapacity("ports_exhausted")
        index = draw_free(self._state, self._first, self._entropy(ENTROPY_BYTES), even=even, count=count)
        self._state[index : index + count] = bytes((_TAKEN,)) * count
        self.taken += count
        return self._first + index


def share_of(size: int, share_percent: int) -> int:
    """How many ports of a range may be held; never none."""
    return max(1, size * share_percent // 100)


def draw_free(state: bytes | bytearray, first: int, entropy: bytes, *, even: bool, count: int) -> int:
    """The index of a free port, or of the first of `count` free ports in a row.

    Args:
        state: a byte per port, FREE or not.
        first: the port of index 0.
        entropy: decides where the search starts; all ports are searched.
        even: the port must be even.
        count: 1 or 2.

    Raises:
        InsufficientCapacity: there is no such port.
    """
    size = len(state)
    start = int.from_bytes(entropy) % size
    wanted = bytes(count)  # FREE, `count` times
    for begin, end in ((start, size), (0, min(size, start + count - 1))):
        index = state.find(wanted, begin, end)
        while index != -1:
            if not even or (first + index) % 2 == 0:
                return index
            index = state.find(wanted, index + 1, end)
    raise InsufficientCapacity("ports_exhausted")
