"""Hands out relayed transport addresses and takes them back: quota, ports and reservations in one place.

Whatever is reserved here is either part of an allocation or given back before the call ends, so nothing leaks:
ports taken = relayed transport addresses + reservations = what the quota counts.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from relay.allocation import Allocation, RelayedTransportAddress, realm_of, trials_of
from relay.datapath import NO_TRAFFIC, RelayAddress, Traffic
from relay.errors import (
    AddressFamilyNotSupported,
    AllocationQuotaReached,
    InsufficientCapacity,
    PortTaken,
    RequestRejected,
)
from relay.ledger import Ledger, Ports
from relay.source_guard import SourceGuard
from relay.wish import Wish
from stun.address import TransportAddress
from stun.registry import ErrorCode

_BIND_ATTEMPTS: Final = 16  # ports tried before an Allocate is refused: others on this machine may hold some


class HolderLimits(NamedTuple):
    """How many relayed transport addresses may be held."""

    per_user: int
    per_realm: int
    per_trials: int = 0  # of all connection tests of the realm together


class Allocator:
    """Counts in the ledger, and opens and closes relays in the forwarding plane of an allocation."""

    def __init__(self, relay_addresses: Sequence[RelayAddress], ledger: Ledger, trial_guard: SourceGuard) -> None:
        """Build an allocator.

        Args:
            relay_addresses: where relayed transport addresses live, at most one per family.
            ledger: has ports for each of these families.
            trial_guard: how often connection tests begin allocations.
        """
        self._addresses = {TransportAddress(address.bound, 0).family: address for address in relay_addresses}
        self._ledger = ledger
        self._trial_guard = trial_guard

    @property
    def ledger(self) -> Ledger:
        """What is held, for metrics."""
        return self._ledger

    def open(self, allocation: Allocation, wish: Wish, limits: HolderLimits, expires_at: float, now: float) -> None:
        """Give a new allocation what it wishes for, or nothing.

        In a dual allocation one half may be missing afterwards; `unavailable` says which and why (RFC 8656 §7.2).

        Raises:
            AllocationQuotaReached: the user or the realm holds too many, or its connection tests begin too often.
            AddressFamilyNotSupported: there is no relay address of this family.
            InsufficientCapacity: no port, no such reservation, or the system has no socket left.
        """
        if trials_of(allocation.holder) is not None and not self._trial_guard.admit(allocation.path.client.ip, now):
            raise AllocationQuotaReached("trial_rate")  # else giving back were a way to begin without end
        try:
            if wish.reservation_token is not None:
                self._open_reserved(allocation, wish.reservation_token, expires_at, now)
            elif len(wish.families) == 1:
                self._open_family(allocation, wish.families[0], wish.even_port, limits, expires_at, now)
            else:
                self._open_both(allocation, wish, limits, expires_at, now)
        except BaseException:
            self.release(allocation)
            raise
        allocation.expires_at = expires_at

    def release(self, allocation: Allocation) -> Traffic:
        """Take back every relayed transport address of an allocation, and return what was relayed."""
        traffic = NO_TRAFFIC
        for family in list(allocation.relays):
            traffic = traffic.plus(self.release_family(allocation, family))
        return traffic

    def release_family(self, allocation: Allocation, family: int) -> Traffic:
        """Take back the relayed transport address of one family, and return what was relayed."""
        relay = allocation.relays.pop(family)
        traffic = allocation.plane.close_relay(relay.handle)
        self._ledger.ports[family].give_back(relay.port)
        self._uncount(allocation.holder)
        return traffic

    def expire_reservations(self, now: float) -> None:
        """Take back reserved ports that nobody asked for in time."""
        for reservation in self._ledger.reservations.expire(now):
            self._ledger.ports[reservation.family].give_back(reservation.port)
            self._uncount(reservation.holder)

    def _open_both(
        self, allocation: Allocation, wish: Wish, limits: HolderLimits, expires_at: float, now: float
    ) -> None:
        rejected: RequestRejected | None = None
        for family in wish.families:
            try:
                self._open_family(allocation, family, wish.even_port, limits, expires_at, now)
            except RequestRejected as rejection:
                rejected = rejected or rejection
                is_unsupported = isinstance(rejection, AddressFamilyNotSupported)
                code = ErrorCode.ADDRESS_FAMILY_NOT_SUPPORTED if is_unsupported else ErrorCode.INSUFFICIENT_CAPACITY
                allocation.unavailable = (family, code)  # RFC 8656 §18.12 has these two
        if rejected is not None and not allocation.relays:
            raise rejected

    def _open_reserved(self, allocation: Allocation, token: bytes, expires_at: float, now: float) -> None:
        """Turn a reservation, its port and its place in the quota into a relayed address, or give all of it back."""
        reserved = self._ledger.reservations.redeem(token, allocation.holder, now, (realm_of(allocation.holder),))
        is_bound = False
        try:
            is_bound = self._bind(allocation, reserved.family, reserved.port, expires_at)
        finally:
            if not is_bound:
                self._uncount(allocation.holder)
        if not is_bound:
            raise InsufficientCapacity("port_taken")

    def _open_family(
        self,
        allocation: Allocation,
        family: int,
        even_port: bool | None,  # noqa: FBT001  # three states, as in `Wish`
        limits: HolderLimits,
        expires_at: float,
        now: float,
    ) -> None:
        ports = self._ledger.ports.get(family)
        if ports is None:
            raise AddressFamilyNotSupported("family")
        count = 2 if even_port else 1  # the port above is reserved for the same user
        self._count(allocation.holder, limits, count)
        try:
            port = self._bind_any(allocation, family, ports, even_port, expires_at)
        except BaseException:
            self._uncount(allocation.holder, count)
            raise
        if even_port:
            allocation.reservation_token = self._ledger.reservations.add(family, port + 1, allocation.holder, now)

    def _bind_any(
        self,
        allocation: Allocation,
        family: int,
        ports: Ports,
        even_port: bool | None,  # noqa: FBT001
        expires_at: float,
    ) -> int:
        for _ in range(_BIND_ATTEMPTS):
            port = ports.take() if even_port is None else ports.take_even(with_next=even_port)
            is_bound = False
            try:
                is_bound = self._bind(allocation, family, port, expires_at)
            finally:
                if even_port and not is_bound:
                    ports.give_back(port + 1)
            if is_bound:
                return port
        raise InsufficientCapacity("port_taken")

    def _bind(self, allocation: Allocation, family: int, port: int, expires_at: float) -> bool:
        """Bind a taken port; False with the port given back if somebody else on this machine holds it."""
        address, ports = self._addresses[family], self._ledger.ports[family]
        try:
            ports.enclose(port, allocation.circle)  # before anybody can be reached there
            handle = allocation.plane.open_relay(allocation.path, address, port, expires_at, allocation.circle)
        except BaseException as error:
            ports.give_back(port)
            if isinstance(error, PortTaken):
                return False
            if isinstance(error, OSError):  # out of descriptors or memory: another port would not help
                raise InsufficientCapacity("system") from error
            raise
        relayed = TransportAddress(address.advertised, port)
        allocation.relays[family] = RelayedTransportAddress(relayed, port, handle, expires_at)
        return True

    def _count(self, holder: str, limits: HolderLimits, count: int) -> None:
        quota = self._ledger.quota
        wanted = [(holder, limits.per_user), (realm_of(holder), limits.per_realm)]
        if (trials := trials_of(holder)) is not None:
            wanted.append((trials, limits.per_trials))
        for number, (counted, limit) in enumerate(wanted):
            try:
                quota.reserve(counted, limit, count)
            except BaseException as error:
                for already, _ in wanted[:number]:
                    quota.release(already, count)
                if trials is not None and isinstance(error, AllocationQuotaReached):
                    # Strangers have these credentials: what they want too much of is no sign of anything.
                    raise AllocationQuotaReached("trial_quota") from error
                raise

    def _uncount(self, holder: str, count: int = 1) -> None:
        quota = self._ledger.quota
        quota.release(holder, count)
        quota.release(realm_of(holder), count)
        if (trials := trials_of(holder)) is not None:
            quota.release(trials, count)
