import itertools

import pytest

from relay.allocation import Allocation, RelayedTransportAddress, holder_of
from relay.allocator import Allocator, HolderLimits
from relay.datapath import RelayAddress, Traffic
from relay.errors import (
    AddressFamilyNotSupported,
    AllocationQuotaReached,
    InsufficientCapacity,
    RequestRejected,
)
from relay.five_tuple import FiveTuple, Transport
from relay.ledger import Ledger
from relay.port_pool import PortPool
from relay.quota import UserQuota
from relay.reservation import Reservations
from relay.source_guard import SourceGuard
from relay.wish import UDP_PROTOCOL, Wish
from stun.address import IPV4, IPV6, TransportAddress
from tests.support.fake_datapath import FakeDataPath

INSIDE, OUTSIDE = bytes((10, 0, 0, 1)), bytes((203, 0, 113, 1))
SERVER = TransportAddress.parse("192.0.2.9", 3478)
ANY = Wish((IPV4,), None, None, None, UDP_PROTOCOL)
EVEN = ANY._replace(even_port=False)
PAIR = ANY._replace(even_port=True)
DUAL = ANY._replace(families=(IPV4, IPV6))

_client_ports = itertools.count(1)


class Desk:
    """An allocator with ten IPv4 ports, and four of them for each user."""

    def __init__(self, plane: FakeDataPath) -> None:
        self.plane = plane
        numbers = itertools.count(1)

        def entropy(size: int) -> bytes:
            return next(numbers).to_bytes(size)

        self.ports = PortPool(50_000, 50_009, 100, entropy)
        self.quota = UserQuota()
        self.reservations = Reservations(entropy)
        ledger = Ledger({IPV4: self.ports}, self.quota, self.reservations)
        self.allocator = Allocator([RelayAddress(INSIDE, OUTSIDE)], ledger, SourceGuard(bytes(8)))
        self.limits = HolderLimits(per_user=4, per_realm=1000)

    def open(self, wish: Wish, now: float = 100.0, user: str = "alice") -> Allocation:
        path = FiveTuple(Transport.UDP, SERVER, TransportAddress(OUTSIDE, next(_client_ports)))
        allocation = Allocation(path, holder_of("realm", user), wish.protocol, self.plane, bytes(12), now)
        self.allocator.open(allocation, wish, self.limits, now + 600, now)
        return allocation

    def redeem(self, allocation: Allocation, now: float = 100.0) -> Allocation:
        return self.open(ANY._replace(reservation_token=allocation.reservation_token), now)

    def held(self, user: str = "alice") -> int:
        return self.quota.held(holder_of("realm", user))


@pytest.fixture
def plane() -> FakeDataPath:
    return FakeDataPath()


@pytest.fixture
def desk(plane: FakeDataPath) -> Desk:
    return Desk(plane)


def relay_of(allocation: Allocation) -> RelayedTransportAddress:
    (relay,) = allocation.relays.values()
    return relay


def assert_nothing_is_held(desk: Desk, plane: FakeDataPath) -> None:
    assert desk.ports.taken == 0
    assert len(desk.quota) == 0
    assert len(desk.reservations) == 0
    assert plane.relays == {}


@pytest.mark.parametrize("wish", [ANY, EVEN, PAIR])
def test_what_was_opened_is_given_back_whole(desk: Desk, plane: FakeDataPath, wish: Wish) -> None:
    allocation = desk.open(wish)
    relay = relay_of(allocation)
    assert relay.address.ip == OUTSIDE
    assert plane.relays[relay.handle].port == relay.port
    assert plane.relays[relay.handle].expires_at == allocation.expires_at == 700.0
    assert desk.ports.taken == (2 if wish is PAIR else 1)
    assert (allocation.reservation_token is not None) is (wish is PAIR)
    plane.relays[relay.handle].traffic = Traffic(1, 2, 3, 4)
    assert desk.allocator.release(allocation) == Traffic(1, 2, 3, 4)
    desk.allocator.expire_reservations(130.0)
    assert_nothing_is_held(desk, plane)


@pytest.mark.parametrize("wish", [ANY, EVEN, PAIR])
@pytest.mark.parametrize(
    "failure", [OSError(24, "Too many open files"), MemoryError(), KeyError(7), KeyboardInterrupt()]
)
def test_a_failing_data_path_leaks_nothing(desk: Desk, plane: FakeDataPath, wish: Wish, failure: BaseException) -> None:
    plane.failure = failure
    expected = InsufficientCapacity if isinstance(failure, OSError) else type(failure)
    with pytest.raises(expected):
        desk.open(wish)
    assert len(plane.attempts) == 1  # another port would not help
    assert_nothing_is_held(desk, plane)


@pytest.mark.parametrize("wish", [ANY, EVEN, PAIR])
def test_ports_held_by_others_are_tried_a_bounded_number_of_times(desk: Desk, plane: FakeDataPath, wish: Wish) -> None:
    plane.every_port_taken = True
    with pytest.raises(InsufficientCapacity, match="port_taken"):
        desk.open(wish)
    assert len(plane.attempts) == 16
    assert_nothing_is_held(desk, plane)


def test_a_port_held_by_others_is_passed_over(desk: Desk, plane: FakeDataPath) -> None:
    plane.taken_ports = set(range(50_000, 50_009))
    assert relay_of(desk.open(ANY)).port == 50_009
    assert desk.ports.taken == 1


@pytest.mark.parametrize("failure", [None, OSError(24, "Too many open files"), KeyError(7)])
def test_a_redeemed_port_that_cannot_be_opened_is_free_again(
    desk: Desk, plane: FakeDataPath, failure: Exception | None
) -> None:
    first = desk.open(PAIR)
    plane.failure = failure
    plane.taken_ports = {relay_of(first).port + 1}
    with pytest.raises((InsufficientCapacity, KeyError)):
        desk.redeem(first, 100.0)
    assert desk.ports.taken == desk.held() == 1
    assert len(desk.reservations) == 0


def test_a_redeemed_port_belongs_to_its_allocation(desk: Desk, plane: FakeDataPath) -> None:
    first = desk.open(PAIR)
    second = desk.redeem(first, 129.0)
    assert relay_of(second).port == relay_of(first).port + 1
    desk.allocator.expire_reservations(1000.0)
    assert desk.ports.taken == 2
    desk.allocator.release(first)
    desk.allocator.release(second)
    assert_nothing_is_held(desk, plane)


def test_a_reservation_counts_for_its_user_until_it_is_redeemed_or_expires(desk: Desk) -> None:
    first = desk.open(PAIR)
    assert desk.held() == 2
    desk.allocator.release(first)
    assert desk.held() == 1
    second = desk.redeem(first)
    assert relay_of(second).port % 2 == 1
    assert desk.held() == 1
    desk.allocator.release(second)
    desk.allocator.release(desk.open(PAIR))
    assert desk.held() == 1
    desk.allocator.expire_reservations(130.0)
    assert desk.held() == 0


def test_reservations_cannot_be_hoarded_beyond_the_quota(desk: Desk) -> None:
    for _ in range(3):  # four ports are allowed, and a pair takes two of them while it is open
        desk.allocator.release(desk.open(PAIR))
    with pytest.raises(AllocationQuotaReached):
        desk.open(PAIR)
    assert desk.ports.taken == desk.held() == 3


def test_a_reserved_port_that_cannot_be_bound_goes_back_with_its_place_in_the_quota(
    desk: Desk, plane: FakeDataPath
) -> None:
    first = desk.open(PAIR)
    plane.failure = OSError(24, "Too many open files")
    with pytest.raises(InsufficientCapacity):
        desk.redeem(first)
    assert desk.ports.taken == desk.held() == 1


@pytest.mark.parametrize(
    ("wish", "refusal"),
    [
        (ANY._replace(families=(IPV6,)), AddressFamilyNotSupported),
        (ANY._replace(reservation_token=bytes(8)), InsufficientCapacity),
    ],
)
def test_a_refused_wish_counts_for_nothing(
    desk: Desk, plane: FakeDataPath, wish: Wish, refusal: type[RequestRejected]
) -> None:
    with pytest.raises(refusal):
        desk.open(wish)
    assert plane.attempts == []
    assert_nothing_is_held(desk, plane)


def test_every_port_can_be_had_and_then_none(desk: Desk) -> None:
    users = itertools.cycle(("alice", "bob", "carol"))
    ports = {relay_of(desk.open(ANY, user=next(users))).port for _ in range(10)}
    assert ports == set(range(50_000, 50_010))
    with pytest.raises(InsufficientCapacity, match="ports_exhausted"):
        desk.open(ANY, user=next(users))


def test_a_missing_half_of_a_dual_allocation_is_told_and_not_counted(desk: Desk) -> None:
    allocation = desk.open(DUAL)
    assert allocation.unavailable == (IPV6, 440)
    assert desk.held() == 1


def test_a_realm_that_holds_too_much_refuses_and_counts_nothing_for_the_user(desk: Desk, plane: FakeDataPath) -> None:
    desk.limits = HolderLimits(per_user=4, per_realm=1)
    first = desk.open(ANY)
    with pytest.raises(AllocationQuotaReached):
        desk.open(ANY, user="bob")
    assert desk.held("bob") == 0
    desk.allocator.release(first)
    assert_nothing_is_held(desk, plane)
