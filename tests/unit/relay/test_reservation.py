import itertools

import pytest

from relay.errors import InsufficientCapacity
from relay.reservation import LIFETIME, Reservation, Reservations
from stun.address import IPV4, IPV6


@pytest.fixture
def reservations() -> Reservations:
    numbers = itertools.count(1)
    return Reservations(lambda size: next(numbers).to_bytes(size))


def test_a_token_of_eight_bytes_is_redeemed_once(reservations: Reservations) -> None:
    token = reservations.add(IPV4, 50_001, "alice", 100.0)
    assert len(token) == 8
    assert reservations.redeem(token, "alice", 129.9) == Reservation(IPV4, 50_001, "alice", 130.0)
    with pytest.raises(InsufficientCapacity):
        reservations.redeem(token, "alice", 129.9)
    assert len(reservations) == 0


@pytest.mark.parametrize(("holder", "now"), [("bob", 100.0), ("alice", 130.0), ("alice", 131.0)])
def test_a_token_is_refused_to_others_and_from_its_expiry_on(
    reservations: Reservations, holder: str, now: float
) -> None:
    token = reservations.add(IPV4, 50_001, "alice", 100.0)
    with pytest.raises(InsufficientCapacity):
        reservations.redeem(token, holder, now)
    assert len(reservations) == 1  # it waits for its owner, or for `expire`


def test_an_unknown_token_is_refused(reservations: Reservations) -> None:
    with pytest.raises(InsufficientCapacity):
        reservations.redeem(bytes(8), "alice", 0.0)


def test_reservations_expire_in_order_and_each_only_once(reservations: Reservations) -> None:
    assert reservations.next_at() is None
    reservations.add(IPV4, 50_001, "alice", 100.0)
    redeemed = reservations.add(IPV4, 50_003, "alice", 105.0)
    reservations.add(IPV6, 50_005, "bob", 110.0)
    assert reservations.next_at() == 100.0 + LIFETIME
    assert reservations.expire(129.9) == []
    reservations.redeem(redeemed, "alice", 110.0)
    assert reservations.expire(130.0) == [Reservation(IPV4, 50_001, "alice", 130.0)]
    assert reservations.next_at() == 140.0
    assert reservations.expire(1000.0) == [Reservation(IPV6, 50_005, "bob", 140.0)]
    assert reservations.expire(1000.0) == []


def test_a_token_in_use_is_not_given_twice() -> None:
    tokens = iter([b"same_one", b"same_one", b"other_one"[:8]])
    reservations = Reservations(lambda _size: next(tokens))
    first = reservations.add(IPV4, 1, "alice", 0.0)
    second = reservations.add(IPV4, 2, "alice", 0.0)
    assert first != second
    assert reservations.redeem(first, "alice", 0.0).port == 1
