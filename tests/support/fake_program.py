"""A kernel program that relays nothing and remembers what it was told, with the bounds that a real one has."""

import math
from collections.abc import Iterator

from relay.datapath import NO_TRAFFIC, Drop, Limits, Traffic
from relay.io.datapath.bpf.errors import OffloadFailed, TableFull
from relay.io.datapath.bpf.program import Hook, Onward, Way


class FakeProgram:
    """Implements `relay.io.datapath.offload.Program`."""

    def __init__(self, flows: int = 1000, *, crosses_families: bool = False, hook: Hook = Hook.TCX) -> None:
        self.table: dict[Way, Onward] = {}
        self.slots: dict[int, Traffic] = {}
        self.limits: dict[int, Limits] = {}
        self.heard: dict[int, float] = {}  # by slot; others are always being heard
        self.dropped = {Drop.BANDWIDTH: 0, Drop.PEER_RATE: 0}
        self.crosses_families = crosses_families
        self.hook = hook
        self.is_closed = False
        self.is_broken = False  # whether every map error that can happen happens
        self.has_other_routes = False
        self.writes = 0
        self._flows = flows

    def set_flow(self, way: Way, onward: Onward) -> None:
        self._check()
        self.writes += 1
        if len(self.table) >= self._flows and way not in self.table:
            raise TableFull("the table is full")
        assert onward.slot in self.slots, "a flow without counters"
        self.table[way] = onward

    def remove_flow(self, way: Way) -> None:
        self._check()
        self.writes += 1
        self.table.pop(way, None)

    def flows(self) -> Iterator[Way]:
        for way in list(self.table):  # as they were read: some may have gone since
            self._check()
            yield way

    def routes_changed(self) -> bool:
        self._check()
        changed, self.has_other_routes = self.has_other_routes, False
        return changed

    def open_slot(self, slot: int, limits: Limits) -> None:
        self._check()
        assert all(onward.slot != slot for onward in self.table.values()), "a slot in use was opened"
        self.slots[slot] = NO_TRAFFIC
        self.limits[slot] = limits

    def set_limits(self, slot: int, limits: Limits) -> None:
        self._check()
        self.limits[slot] = limits

    def traffic(self, slot: int) -> Traffic:
        self._check()
        return self.slots[slot]

    def heard_at(self, slot: int) -> float:
        self._check()
        return self.heard.get(slot, math.inf)

    def drops(self) -> dict[Drop, int]:
        self._check()
        return dict(self.dropped)

    def passed(self) -> dict[str, int]:
        self._check()
        return {"no_flow": 3}

    def close(self) -> None:
        self.is_closed = True
        self.table.clear()

    def carry(self, slot: int, traffic: Traffic) -> None:
        """Play packets that the kernel relays."""
        self.slots[slot] = self.slots[slot].plus(traffic)

    def _check(self) -> None:
        if self.is_closed or self.is_broken:
            raise OffloadFailed("the table is broken")
