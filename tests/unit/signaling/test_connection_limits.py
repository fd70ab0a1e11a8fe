import pytest

from signaling.connection_limits import ConnectionLimits, TooManyConnections


def test_one_address_has_so_many_connections_and_no_more() -> None:
    limits = ConnectionLimits(total=10, per_address=2)
    limits.enter(b"a")
    limits.enter(b"a")
    with pytest.raises(TooManyConnections):
        limits.enter(b"a")
    limits.enter(b"b")
    assert len(limits) == 3
    assert limits.refused == 1


def test_all_addresses_together_have_so_many_connections_and_no_more() -> None:
    limits = ConnectionLimits(total=2, per_address=2)
    limits.enter(b"a")
    limits.enter(b"b")
    with pytest.raises(TooManyConnections):
        limits.enter(b"c")


def test_whoever_leaves_makes_room_and_is_forgotten() -> None:
    limits = ConnectionLimits(total=1, per_address=1)
    limits.enter(b"a")
    limits.leave(b"a")
    limits.enter(b"b")
    assert len(limits) == 1
    with pytest.raises(KeyError):
        limits.leave(b"a")
    assert len(limits) == 1


def test_a_lower_bound_holds_for_whoever_comes_next() -> None:
    limits = ConnectionLimits(total=10, per_address=3)
    limits.enter(b"a")
    limits.enter(b"a")
    limits.configure(per_address=2)
    with pytest.raises(TooManyConnections):
        limits.enter(b"a")
    assert len(limits) == 2


def test_a_proxy_may_open_more_than_one_address_may_but_not_more_than_all() -> None:
    limits = ConnectionLimits(total=3, per_address=1)
    for _ in range(3):
        limits.enter(b"proxy", is_shared=True)
    with pytest.raises(TooManyConnections):
        limits.enter(b"proxy", is_shared=True)
