import itertools

import pytest

from relay.allocator import Allocator, Wish
from relay.datapath import RelayAddress, Traffic
from relay.errors import (
    AddressFamilyNotSupported,
    AllocationQuotaReached,
    InsufficientCapacity,
    RequestRejected,
)
from relay.five_tuple import FiveTuple, Transport
from relay.settings import RelaySettings
from stun.address import IPV4, IPV6, TransportAddress
from tests.support.fake_datapath import FakeDataPath

INSIDE, OUTSIDE = bytes((10, 0, 0, 1)), bytes((203, 0, 113, 1))
SERVER = TransportAddress.parse("192.0.2.9", 3478)
ANY = Wish(None, None, None, 600)
EVEN = Wish(None, even_port=False, reservation_token=None, lifetime=600)
PAIR = Wish(None, even_port=True, reservation_token=None, lifetime=600)

_ports = itertools.count(1)


@pytest.fixture
def plane() -> FakeDataPath:
    return FakeDataPath()


@pytest.fixture
def allocator(plane: FakeDataPath) -> Allocator:
    settings = RelaySettings.model_validate(
        {"port_min": 50_000, "port_max": 50_009, "quota": {"allocations_per_user": 4, "total_share_percent": 100}}
    )
    numbers = itertools.count(1)
    return Allocator(settings, plane, [RelayAddress(INSIDE, OUTSIDE)], lambda size: next(numbers).to_bytes(size))


def path() -> FiveTuple:
    return FiveTuple(Transport.UDP, SERVER, TransportAddress(OUTSIDE, next(_ports)))


def assert_nothing_is_held(allocator: Allocator, plane: FakeDataPath) -> None:
    assert allocator.pools[IPV4].taken == 0
    assert len(allocator.quota) == 0
    assert len(allocator.reservations) == 0
    assert plane.relays == {}


@pytest.mark.parametrize("wish", [ANY, EVEN, PAIR])
def test_what_was_opened_is_given_back_whole(allocator: Allocator, plane: FakeDataPath, wish: Wish) -> None:
    allocation = allocator.open(path(), "alice", bytes(12), wish, 100.0)
    assert allocation.relayed.ip == OUTSIDE
    assert plane.relays[allocation.handle].port == allocation.port
    assert plane.relays[allocation.handle].expires_at == allocation.expires_at == 700.0
    assert allocator.pools[IPV4].taken == (2 if wish is PAIR else 1)
    assert (allocation.reservation_token is not None) is (wish is PAIR)
    plane.relays[allocation.handle].traffic = Traffic(1, 2, 3, 4)
    assert allocator.release(allocation) == Traffic(1, 2, 3, 4)
    allocator.expire_reservations(130.0)
    assert_nothing_is_held(allocator, plane)


@pytest.mark.parametrize("wish", [ANY, EVEN, PAIR])
@pytest.mark.parametrize(
    "failure", [OSError(24, "Too many open files"), MemoryError(), KeyError(7), KeyboardInterrupt()]
)
def test_a_failing_data_path_leaks_nothing(
    allocator: Allocator, plane: FakeDataPath, wish: Wish, failure: BaseException
) -> None:
    plane.failure = failure
    expected = InsufficientCapacity if isinstance(failure, OSError) else type(failure)
    with pytest.raises(expected):
        allocator.open(path(), "alice", bytes(12), wish, 100.0)
    assert len(plane.attempts) == 1  # another port would not help
    assert_nothing_is_held(allocator, plane)


@pytest.mark.parametrize("wish", [ANY, EVEN, PAIR])
def test_ports_held_by_others_are_tried_a_bounded_number_of_times(
    allocator: Allocator, plane: FakeDataPath, wish: Wish
) -> None:
    plane.every_port_taken = True
    with pytest.raises(InsufficientCapacity, match="port_taken"):
        allocator.open(path(), "alice", bytes(12), wish, 100.0)
    assert len(plane.attempts) == 16
    assert_nothing_is_held(allocator, plane)


def test_a_port_held_by_others_is_passed_over(allocator: Allocator, plane: FakeDataPath) -> None:
    plane.taken_ports = set(range(50_000, 50_009))
    assert allocator.open(path(), "alice", bytes(12), ANY, 100.0).port == 50_009
    assert allocator.pools[IPV4].taken == 1


@pytest.mark.parametrize("failure", [None, OSError(24, "Too many open files"), KeyError(7)])
def test_a_redeemed_port_that_cannot_be_opened_is_free_again(
    allocator: Allocator, plane: FakeDataPath, failure: Exception | None
) -> None:
    first = allocator.open(path(), "alice", bytes(12), PAIR, 100.0)
    plane.failure = failure
    plane.taken_ports = {first.port + 1}
    with pytest.raises((InsufficientCapacity, KeyError)):
        allocator.open(path(), "alice", bytes(12), Wish(None, None, first.reservation_token, 600), 100.0)
    assert allocator.pools[IPV4].taken == allocator.quota.held("alice") == 1
    assert len(allocator.reservations) == 0


def test_a_redeemed_port_belongs_to_its_allocation(allocator: Allocator, plane: FakeDataPath) -> None:
    first = allocator.open(path(), "alice", bytes(12), PAIR, 100.0)
    second = allocator.open(path(), "alice", bytes(12), Wish(None, None, first.reservation_token, 600), 129.0)
    assert second.port == first.port + 1
    allocator.expire_reservations(1000.0)
    assert allocator.pools[IPV4].taken == 2
    allocator.release(first)
    allocator.release(second)
    assert_nothing_is_held(allocator, plane)


def test_a_reservation_counts_for_its_user_until_it_is_redeemed_or_expires(allocator: Allocator) -> None:
    first = allocator.open(path(), "alice", bytes(12), PAIR, 100.0)
    assert allocator.quota.held("alice") == 2
    allocator.release(first)
    assert allocator.quota.held("alice") == 1
    redeem = Wish(None, None, first.reservation_token, 600)
    second = allocator.open(path(), "alice", bytes(12), redeem, 100.0)
    assert second.port == first.port + 1
    assert allocator.quota.held("alice") == 1
    allocator.release(second)
    allocator.release(allocator.open(path(), "alice", bytes(12), PAIR, 100.0))
    assert allocator.quota.held("alice") == 1
    allocator.expire_reservations(130.0)
    assert allocator.quota.held("alice") == 0


def test_reservations_cannot_be_hoarded_beyond_the_quota(allocator: Allocator) -> None:
    for _ in range(3):  # four ports are allowed, and a pair takes two of them while it is open
        allocator.release(allocator.open(path(), "alice", bytes(12), PAIR, 100.0))
    with pytest.raises(AllocationQuotaReached):
        allocator.open(path(), "alice", bytes(12), PAIR, 100.0)
    assert allocator.pools[IPV4].taken == allocator.quota.held("alice") == 3


def test_a_reserved_port_that_cannot_be_bound_goes_back_with_its_place_in_the_quota(
    allocator: Allocator, plane: FakeDataPath
) -> None:
    first = allocator.open(path(), "alice", bytes(12), PAIR, 100.0)
    plane.failure = OSError(24, "Too many open files")
    redeem = Wish(None, None, first.reservation_token, 600)
    with pytest.raises(InsufficientCapacity):
        allocator.open(path(), "alice", bytes(12), redeem, 100.0)
    assert allocator.pools[IPV4].taken == allocator.quota.held("alice") == 1


@pytest.mark.parametrize(
    ("wish", "refusal"),
    [
        (Wish(IPV6, None, None, 600), AddressFamilyNotSupported),
        (Wish(None, None, bytes(8), 600), InsufficientCapacity),
    ],
)
def test_a_refused_wish_counts_for_nothing(
    allocator: Allocator, plane: FakeDataPath, wish: Wish, refusal: type[RequestRejected]
) -> None:
    with pytest.raises(refusal):
        allocator.open(path(), "alice", bytes(12), wish, 100.0)
    assert plane.attempts == []
    assert_nothing_is_held(allocator, plane)


def test_every_port_can_be_had_and_then_none(allocator: Allocator) -> None:
    users = itertools.cycle(("alice", "bob", "carol"))
    ports = {allocator.open(path(), next(users), bytes(12), ANY, 100.0).port for _ in range(10)}
    assert ports == set(range(50_000, 50_010))
    with pytest.raises(InsufficientCapacity, match="ports_exhausted"):
        allocator.open(path(), next(users), bytes(12), ANY, 100.0)
