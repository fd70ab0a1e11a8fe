"""How many lines of one kind are logged: an attack must not fill the disk, nor hide what else happens."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final, Generic, NamedTuple, TypeVar

LINES_PER_SECOND: Final = 10.0  # of one kind
LINES_AT_ONCE: Final = 100  # of one kind
ALL_LINES_PER_SECOND: Final = 200.0
ALL_LINES_AT_ONCE: Final = 2_000
MAX_KINDS: Final = 256  # that are counted at a time; some fifty lines stand in the code
SUMMARY_SECONDS: Final = 10.0  # between two looks at what is to be told of those that were left out

K = TypeVar("K")


class Suppressed(NamedTuple, Generic[K]):
    """So many lines of a kind were left out."""

    kind: K
    lines: int


class _Bucket:
    """Tokens that come back at a rate, up to a bound."""

    __slots__ = ("_at", "_bound", "_rate", "_tokens", "suppressed")

    def __init__(self, rate: float, bound: float, now: float) -> None:
        self._rate = rate
        self._bound = bound
        self._tokens = float(bound)
        self._at = now
        self.suppressed = 0

    def has_token(self, now: float) -> bool:
        self._tokens = min(self._bound, self._tokens + (now - self._at) * self._rate)
        self._at = now
        return self._tokens >= 1.0

    def take(self) -> None:
        self._tokens -= 1.0


class LogVolume(Generic[K]):
    """Admits lines, kind by kind, and remembers how many it did not admit. Without a clock: `now` is monotonic."""

    def __init__(self, now: float) -> None:
        """Begin with full buckets."""
        self._all = _Bucket(ALL_LINES_PER_SECOND, ALL_LINES_AT_ONCE, now)
        self._kinds: OrderedDict[K, _Bucket] = OrderedDict()
        self._look_at = now + SUMMARY_SECONDS
        self._told: list[Suppressed[K]] = []

    def admits(self, kind: K, now: float) -> bool:
        """Whether one more line of this kind may be written; afterwards `poll_suppressed` says what to tell, too."""
        bucket = self._kinds.get(kind)
        if bucket is None:
            bucket = self._kinds[kind] = _Bucket(LINES_PER_SECOND, LINES_AT_ONCE, now)
            self._forget_oldest()
        self._kinds.move_to_end(kind)
        if now >= self._look_at:
            self._look_at = now + SUMMARY_SECONDS
            self._tell_all()
        if not (bucket.has_token(now) and self._all.has_token(now)):
            bucket.suppressed += 1
            return False
        bucket.take()
        self._all.take()
        return True

    def poll_suppressed(self) -> Iterator[Suppressed[K]]:
        """What is to be told by now."""
        told, self._told = self._told, []
        return iter(told)

    def finish(self) -> Iterator[Suppressed[K]]:
        """All that has not been told yet."""
        self._tell_all()
        return self.poll_suppressed()

    def _tell_all(self) -> None:
        for kind, bucket in self._kinds.items():
            self._tell(kind, bucket)

    def _tell(self, kind: K, bucket: _Bucket) -> None:
        if bucket.suppressed:
            self._told.append(Suppressed(kind, bucket.suppressed))
            bucket.suppressed = 0

    def _forget_oldest(self) -> None:
        if len(self._kinds) > MAX_KINDS:
            kind, bucket = self._kinds.popitem(last=False)
            self._tell(kind, bucket)
