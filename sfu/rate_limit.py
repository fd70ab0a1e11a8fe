"""How often somebody may be heard, for many somebodies in a bounded table."""

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

_ROUNDING_SECONDS: Final = 1e-6  # many small intervals do not add up exactly

K = TypeVar("K", bound=Hashable)


class RateLimit(Generic[K]):
    """A leaky bucket for each key. Keys that have not been heard of for longest are forgotten first."""

    def __init__(self, per_second: float, burst: int, max_keys: int) -> None:
        """Begin with full allowances.

        Args:
            per_second: how many are admitted in the long run, for each key.
            burst: how many are admitted at once after a silence.
            max_keys: bound of the table. Whoever is forgotten has a full allowance again.
        """
        self._interval = 1 / per_second
        self._slack = (burst - 1) * self._interval + _ROUNDING_SECONDS
        self._max_keys = max_keys
        self._free_at: dict[K, float] = {}  # when the bucket will be empty again, if nothing more comes

    def __len__(self) -> int:
        return len(self._free_at)

    def admits(self, key: K, now: float) -> bool:
        """Count one more of a key, unless it has had its share.

        Args:
            key: who is heard.
            now: monotonic time, in seconds.
        """
        free_at = max(self._free_at.pop(key, now), now)
        is_admitted = free_at - now <= self._slack
        if len(self._free_at) == self._max_keys:
            del self._free_at[next(iter(self._free_at))]
        self._free_at[key] = free_at + self._interval if is_admitted else free_at
        return is_admitted
