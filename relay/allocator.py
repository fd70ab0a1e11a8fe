"""Hands out relayed transport addresses and takes them back: quota, ports and reservations in one place.

Whatever is reserved here is either part of an allocation or given back before the call ends, so nothing leaks:
ports taken = allocations + reservations = what the quota counts.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from relay.allocation import Allocation
from relay.datapath import DataPath, RelayAddress, Traffic
from relay.errors import AddressFamilyNotSupported, InsufficientCapacity, PortTaken
from relay.five_tuple import FiveTuple
from relay.ledger import Ledger, Ports
from relay.port_pool import PortPool
from relay.quota import UserQuota
from relay.reservation import Reservations
from relay.settings import RelaySettings
from stun.address import IPV4, TransportAddress

_BIND_ATTEMPTS: Final = 16  # ports tried before an Allocate is refused: others on this machine may hold some


class Wish(NamedTuple):
    """What an Allocate request asks for (RFC 8656 §7.1)."""

    family: int | None  # REQUESTED-ADDRESS-FAMILY
    even_port: bool | None  # EVEN-PORT with its R bit, None without the attribute
    reservation_token: bytes | None
    lifetime: int  # granted, in seconds


class Allocator:
    """Owns the port pools, the user quota and the reservations, and opens relays in the forwarding plane."""

    def __init__(
        self,
        settings: RelaySettings,
        datapath: DataPath,
        relay_addresses: Sequence[RelayAddress],
        entropy: Callable[[int], bytes],
        ledger: Ledger | None = None,
    ) -> None:
        self._datapath = datapath
        self._addresses = {TransportAddress(address.bound, 0).family: address for address in relay_addresses}
        self._limit = settings.quota.allocations_per_user
        if ledger is None:
            share = settings.quota.total_share_percent
            pools = {f: PortPool(settings.port_min, settings.port_max, share, entropy) for f in self._addresses}
            ledger = Ledger(pools, UserQuota(), Reservations(entropy))
        self.pools: Mapping[int, Ports] = ledger.ports
        self.quota = ledger.quota
        self.reservations = ledger.reservations

    def open(self, path: FiveTuple, username: str, transaction_id: bytes, wish: Wish, now: float) -> Allocation:
        """Make an allocation, or change nothing.

        Raises:
            AllocationQuotaReached: the user holds too many.
            AddressFamilyNotSupported: there is no relay address of this family.
            InsufficientCapacity: no port, no such reservation, or the system has no socket left.
        """
        if wish.reservation_token is not None:
            return self._open_reserved(path, username, transaction_id, wish.reservation_token, wish.lifetime, now)
        count = 2 if wish.even_port else 1  # the port above is reserved for the same user
        self.quota.reserve(username, self._limit, count)
        try:
            return self._open(path, username, transaction_id, wish, now)
        except BaseException:
            self.quota.release(username, count)
            raise

    def release(self, allocation: Allocation) -> Traffic:
        """Take back what `open` gave, and return what was relayed."""
        traffic = self._datapath.close_relay(allocation.handle)
        self.pools[allocation.family].give_back(allocation.port)
        self.quota.release(allocation.username)
        return traffic

    def expire_reservations(self, now: float) -> None:
        """Take back reserved ports that nobody asked for in time."""
        for reservation in self.reservations.expire(now):
            self.pools[reservation.family].give_back(reservation.port)
            self.quota.release(reservation.holder)

    def _open_reserved(
        self, path: FiveTuple, username: str, transaction_id: bytes, token: bytes, lifetime: int, now: float
    ) -> Allocation:
        """Turn a reservation, its port and its place in the quota into an allocation, or give all of it back."""
        reserved = self.reservations.redeem(token, username, now)
        family, port = reserved.family, reserved.port
        try:
            handle = self._bind(path, family, port, now + lifetime)
        except BaseException:
            self.quota.release(username)
            raise
        if handle is None:
            self.quota.release(username)
            raise InsufficientCapacity("port_taken")
        address = self._addresses[family]
        return Allocation(path, username, transaction_id, address, port, handle, now, now + lifetime)

    def _open(self, path: FiveTuple, username: str, transaction_id: bytes, wish: Wish, now: float) -> Allocation:
        expires_at = now + wish.lifetime
        family = IPV4 if wish.family is None else wish.family
        port, handle = self._bind_any(path, family, wish.even_port, expires_at)
        address = self._addresses[family]
        allocation = Allocation(path, username, transaction_id, address, port, handle, now, expires_at)
        if wish.even_port:
            allocation.reservation_token = self.reservations.add(family, port + 1, username, now)
        return allocation

    def _bind_any(
        self,
        path: FiveTuple,
        family: int,
        even_port: bool | None,  # noqa: FBT001  # three states, as in `Wish`
        expires_at: float,
    ) -> tuple[int, int]:
        pool = self.pools.get(family)
        if pool is None:
            raise AddressFamilyNotSupported("family")
        for _ in range(_BIND_ATTEMPTS):
            port = pool.take() if even_port is None else pool.take_even(with_next=even_port)
            try:
                handle = self._bind(path, family, port, expires_at)
            except BaseException:
                if even_port:
                    pool.give_back(port + 1)
                raise
            if handle is not None:
                return port, handle
            if even_port:
                pool.give_back(port + 1)
        raise InsufficientCapacity("port_taken")

    def _bind(self, path: FiveTuple, family: int, port: int, expires_at: float) -> int | None:
        """The handle of the opened relay, or None with the port given back because somebody else holds it."""
        try:
            return self._datapath.open_relay(path, self._addresses[family], port, expires_at)
        except BaseException as error:
            self.pools[family].give_back(port)
            if isinstance(error, PortTaken):
                return None
            if isinstance(error, OSError):  # out of descriptors or memory: another port would not help
                raise InsufficientCapacity("system") from error
            raise
