"""What the allocator keeps count in: ports, quotas, reservations. One process has its own, workers share one."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from relay.reservation import Reservation


class Ports(Protocol):
    """The relayed ports of one address family, as `relay.port_pool.PortPool`, which says what each method does."""

    @property
    def limit(self) -> int:
        """Ports that may be taken."""
        ...

    @property
    def taken(self) -> int:
        """Ports held by allocations and reservations."""
        ...

    def take(self) -> int:
        """A free port."""
        ...

    def take_even(self, *, with_next: bool) -> int:
        """A free even port, and the one above it if wished."""
        ...

    def enclose(self, port: int, circle: str) -> None:
        """Say which relayed clients may meet at a taken port: those of this circle; see `relay.datapath`."""
        ...

    def give_back(self, port: int) -> None:
        """Return a taken port."""
        ...


class Quota(Protocol):
    """Counts held ports by holder, as `relay.quota.UserQuota`."""

    def reserve(self, holder: str, limit: int, count: int = 1) -> None:
        """Count `count` more for this holder, or raise AllocationQuotaReached and count nothing."""
        ...

    def release(self, holder: str, count: int = 1) -> None:
        """Give back what `reserve` counted."""
        ...

    def held(self, holder: str) -> int:
        """What is counted for this holder."""
        ...


class ReservationBook(Protocol):
    """Ports that wait for the second half of a pair, as `relay.reservation.Reservations`."""

    def add(self, family: int, port: int, holder: str, now: float) -> bytes:
        """Hold a taken port and return the token that redeems it."""
        ...

    def redeem(self, token: bytes, holder: str, now: float, also_counted: Sequence[str] = ()) -> Reservation:
        """Hand the port over to the holder it was reserved for, with its place in the quota under every key."""
        ...

    def expire(self, now: float) -> list[Reservation]:
        """Forget what nobody redeemed, and return it."""
        ...

    def next_at(self) -> float | None:
        """When the oldest reservation expires."""
        ...


class Ledger(NamedTuple):
    """Everything that can be held, in one place."""

    ports: Mapping[int, Ports]  # by address family
    quota: Quota
    reservations: ReservationBook
