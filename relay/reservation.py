"""Ports held for the second half of a pair (RFC 8656 §7.2: EVEN-PORT with the R bit, RESERVATION-TOKEN)."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from relay.errors import InsufficientCapacity

LIFETIME: Final = 30.0  # seconds (RFC 8656 §7.2)
TOKEN_BYTES: Final = 8


class Reservation(NamedTuple):
    """A port that waits for the client which holds the token."""

    family: int
    port: int
    holder: str
    expires_at: float


class Reservations:
    """Reserved ports by token. Each counts for the quota of its holder, so the table is bounded by the pool."""

    def __init__(self, entropy: Callable[[int], bytes]) -> None:
        self._entropy = entropy
        self._by_token: dict[bytes, Reservation] = {}  # in order of expiry, since all live equally long

    def __len__(self) -> int:
        return len(self._by_token)

    def add(self, family: int, port: int, holder: str, now: float) -> bytes:
        """Hold a taken port for 30 seconds and return the token that redeems it."""
        token = self._entropy(TOKEN_BYTES)
        while token in self._by_token:
            token = self._entropy(TOKEN_BYTES)
        self._by_token[token] = Reservation(family, port, holder, now + LIFETIME)
        return token

    def redeem(
        self,
        token: bytes,
        holder: str,
        now: float,
        also_counted: Sequence[str] = (),  # noqa: ARG002  # one process counts in one place
    ) -> Reservation:
        """Hand the port over to the holder it was reserved for.

        Args:
            token: what the client brought.
            holder: who brought it.
            now: monotonic time, in seconds.
            also_counted: further keys under which the quota counts the port; workers move those counts, too.

        Raises:
            InsufficientCapacity: the token is unknown, has expired or belongs to somebody else (RFC 8656 §7.2).
        """
        reservation = self._by_token.get(token)
        if reservation is None or reservation.expires_at <= now or reservation.holder != holder:
            raise InsufficientCapacity("reservation")
        del self._by_token[token]
        return reservation

    def expire(self, now: float) -> list[Reservation]:
        """Forget reservations that nobody redeemed, and return them: their ports are to be given back."""
        expired = []
        for token, reservation in list(self._by_token.items()):
            if reservation.expires_at > now:
                break
            del self._by_token[token]
            expired.append(reservation)
        return expired

    def next_at(self) -> float | None:
        """When the oldest reservation expires."""
        if not self._by_token:
            return None
        return next(iter(self._by_token.values())).expires_at
