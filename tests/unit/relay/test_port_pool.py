import itertools
import os

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from relay.errors import InsufficientCapacity
from relay.port_pool import PortPool


class PortPoolMachine(RuleBasedStateMachine):
    """Takes and gives back ports at random, beside a set that says what must be."""

    ports: Bundle[int] = Bundle("ports")

    @initialize(first=st.integers(1024, 1027), size=st.integers(1, 24), share=st.integers(1, 100), data=st.data())
    def build(self, first: int, size: int, share: int, data: st.DataObject) -> None:
        self.range = range(first, first + size)
        self.pool = PortPool(
            first,
            first + size - 1,
            share,
            lambda count: data.draw(st.binary(min_size=count, max_size=count)),
        )
        self.taken: set[int] = set()

    def has(self, step: int, count: int) -> bool:
        """Whether `count` ports in a row, the first one a multiple of `step`, may still be taken."""
        free = set(self.range) - self.taken
        rows = [{port + offset for offset in range(count)} for port in free if port % step == 0]
        return len(self.taken) + count <= self.pool.limit and any(row <= free for row in rows)

    def take(self, port: int, count: int) -> None:
        new = set(range(port, port + count))
        assert not new & self.taken, "a port was handed out twice"
        assert new <= set(self.range)
        self.taken |= new

    @rule(target=ports)
    def take_any(self) -> int | MultipleResults[int]:
        if not self.has(1, 1):
            with pytest.raises(InsufficientCapacity):
                self.pool.take()
            return multiple()
        port = self.pool.take()
        self.take(port, 1)
        return port

    @rule(target=ports, with_next=st.booleans())
    def take_even(self, with_next: bool) -> int | MultipleResults[int]:  # noqa: FBT001
        count = 2 if with_next else 1
        if not self.has(2, count):
            with pytest.raises(InsufficientCapacity):
                self.pool.take_even(with_next=with_next)
            return multiple()
        port = self.pool.take_even(with_next=with_next)
        assert port % 2 == 0
        self.take(port, count)
        return multiple(*range(port, port + count))

    @rule(port=consumes(ports))
    def give_back(self, port: int) -> None:
        self.pool.give_back(port)
        self.taken.remove(port)

    @rule(port=st.integers(1000, 1060))
    def give_back_what_was_not_taken(self, port: int) -> None:
        if port not in self.taken:
            with pytest.raises(ValueError, match="was not taken"):
                self.pool.give_back(port)

    @invariant()
    def nothing_is_lost(self) -> None:
        if hasattr(self, "pool"):
            assert self.pool.taken == len(self.taken)
            assert self.pool.taken + self.pool.free == self.pool.size == len(self.range)


TestPortPool = PortPoolMachine.TestCase
TestPortPool.settings = settings(max_examples=100, stateful_step_count=30)


def test_ports_are_unpredictable() -> None:
    pool = PortPool(49_152, 65_535, 80, os.urandom)
    ports = [pool.take() for _ in range(200)]
    assert len(set(ports)) == 200
    steps = {later - earlier for earlier, later in itertools.pairwise(ports)}
    assert len(steps) > 150


def test_the_share_is_a_bound_and_never_nothing() -> None:
    assert PortPool(50_000, 50_099, 80, bytes).limit == 80
    assert PortPool(50_000, 50_000, 1, bytes).limit == 1


def test_a_pair_needs_room_for_two() -> None:
    pool = PortPool(50_000, 50_003, 75, bytes)
    pool.take()
    pool.take()
    with pytest.raises(InsufficientCapacity):
        pool.take_even(with_next=True)
    assert pool.take_even(with_next=False) == 50_002
