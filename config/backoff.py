"""How long to wait before a worker that ended is started again."""

from typing import Final

_FIRST: Final = 1.0  # seconds
_LONGEST: Final = 30.0  # seconds
_STEADY: Final = 60.0  # seconds; who lived as long was no failure at the start


class Backoff:
    """At once for one that lived long; then 1, 2, 4 … 30 seconds for as long as each ends soon."""

    def __init__(self) -> None:
        self._next = 0.0

    def delay(self, lived: float) -> float:
        """Seconds to wait.

        Args:
            lived: how long the last one ran, in seconds.
        """
        if lived >= _STEADY:
            self._next = 0.0
        delay = self._next
        self._next = min(max(_FIRST, 2 * delay), _LONGEST)
        return delay
