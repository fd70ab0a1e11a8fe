"""What stands in the kernel, kept equal to what the plain plane allows.

The kernel is told and never asked: whatever it does not know comes up to user space. So every trouble ends the same
way: a full table leaves one flow to user space, any other error leaves all of them to it.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Final, Protocol

from relay.datapath import NO_TRAFFIC, Drop, Limits, Traffic
from relay.io.datapath.bpf.errors import FlowRefused, OffloadFailed
from relay.io.datapath.bpf.program import Hook, Kind, Onward, Way
from relay.io.datapath.choice import Offer
from relay.io.datapath.flow_rules import FlowRules, bound_address
from relay.io.datapath.relay_socket import RelaySocket
from stun.address import TransportAddress

MAX_FLOWS_PER_RELAY: Final = 32  # the oldest makes way: a peer with ever new ports takes no place from anybody else
_FROM_CLIENT: Final = frozenset({Kind.CHANNEL, Kind.SEND})
_IN_FLIGHT_SECONDS: Final = 0.01
RECONCILE_FLOWS: Final = 256  # entries of the kernel's table that are looked at in one step

_log = logging.getLogger(__name__)


class Program(Protocol):
    """What is asked of `relay.io.datapath.bpf.program.KernelProgram`, which says more. All may raise OffloadFailed."""

    @property
    def crosses_families(self) -> bool:
        """Whether it turns IPv4 packets into IPv6 ones and back."""
        ...

    @property
    def hook(self) -> Hook:
        """Where it is attached."""
        ...

    def set_flow(self, way: Way, onward: Onward) -> None:
        """Create or replace an entry; `FlowRefused` if this one cannot be had."""
        ...

    def remove_flow(self, way: Way) -> None:
        """Remove an entry, if there is one."""
        ...

    def flows(self) -> Iterator[Way]:
        """What stands in the kernel."""
        ...

    def routes_changed(self) -> bool:
        """Whether flows may leave by other interfaces since this was asked last."""
        ...

    def open_slot(self, slot: int, limits: Limits) -> None:
        """Zero the counters of a relayed transport address."""
        ...

    def set_limits(self, slot: int, limits: Limits) -> None:
        """Change what it may carry."""
        ...

    def traffic(self, slot: int) -> Traffic:
        """What was relayed for it."""
        ...

    def heard_at(self, slot: int) -> float:
        """When a packet of the slot's client last belonged to a flow, to one second; monotonic seconds."""
        ...

    def drops(self) -> Mapping[Drop, int]:
        """What was dropped, of all."""
        ...

    def passed(self) -> Mapping[str, int]:
        """What came up to user space, by the reason."""
        ...

    def close(self) -> None:
        """Detach; may be called twice."""
        ...


class _Carried:
    """A relayed transport address that the kernel has a place for."""

    __slots__ = ("bound", "counted", "flows", "heard_since", "relay", "settled_at", "slot")

    def __init__(self, relay: RelaySocket, slot: int, now: float) -> None:
        self.relay = relay
        self.slot = slot
        self.bound: TransportAddress = bound_address(relay)
        self.flows: dict[Way, Onward] = {}  # in the order in which they came
        self.counted = NO_TRAFFIC  # what of the kernel's counters has been taken over
        self.settled_at = now
        self.heard_since = now  # from then on the program must have heard the client before it may speak to it


class Offload:
    """The flows of one plane in one kernel program."""

    def __init__(self, program: Program, rules: FlowRules, offer: Offer) -> None:
        """Begin without flows.

        Args:
            program: loaded; it is closed with this object.
            rules: which flows may be carried.
            offer: how much the program has room for.
        """
        self._rules = rules
        self.on_given_up: Callable[[], object] = _unwatched  # called when user space has to do it all
        self._slot_count = offer.slots
        self.limit = offer.flows
        self._carried: dict[int, _Carried] = {}  # by the relay's handle
        self._flows: dict[Way, _Carried] = {}
        self._pass: Iterator[Way] | None = None  # over the kernel's table
        self._unseen: set[Way] = set()  # in this pass; what stood in our table when it began
        self._gone: set[Way] = set()  # removed by us since this pass began: keys are read in advance
        self._stale: list[Way] = []  # flows to be set anew, because routes have changed
        self._dropped: dict[Drop, int] = {}  # what of the kernel's counters has been taken over
        self.is_on = False
        self.traffic = NO_TRAFFIC  # all that the kernel has relayed
        self.refused = 0  # flows that the kernel had no room for, or no way
        self.failures = 0  # times that the kernel's table could not be used, which ends it all
        self.reconciled = 0  # entries found where none should be, or missing where one should be
        self.begin(program)

    def begin(self, program: Program) -> None:
        """Go on with another program, and without flows; the one before is closed."""
        if self.is_on:
            self.close()
        self._program = program
        self._dropped.clear()
        self._slots = iter(range(self._slot_count))  # never used ones; memory is touched when it is needed
        self._free: list[int] = []
        self.is_on = True

    def __len__(self) -> int:
        return len(self._flows)

    @property
    def relays(self) -> int:
        """Relayed transport addresses that hold a place in the kernel."""
        return len(self._carried)

    def passed(self) -> Mapping[str, int]:
        """Packets that came up to user space although they concern our listeners and relays, by the reason."""
        if not self.is_on:
            return {}
        try:
            return self._program.passed()
        except OffloadFailed as error:
            self._give_up(error)
            return {}

    # Flows

    def offer(self, way: Way, relay: RelaySocket, limits: Limits, now: float) -> None:
        """Leave a busy flow to the kernel if it may be and there is room.

        Args:
            way: what its packets look like.
            relay: whose flow it is, by `FlowRules.may_carry`.
            limits: of this relay.
            now: monotonic time, in seconds.
        """
        carried = self._carried.get(relay.handle) or self._open(relay, limits, now)
        if carried is None or not (way.kind in _FROM_CLIENT or self._is_heard(carried)):
            return
        # What user space carries of a relay that the kernel carries, too, is held to what is left of the limits.
        self._settle(carried, now)
        onward = self._rules.onward(way, relay, carried.bound, carried.slot, now)
        if onward is None or not self.is_on or carried.flows.get(way) == onward:
            return
        if way not in carried.flows and len(carried.flows) >= MAX_FLOWS_PER_RELAY:
            self._remove(next(iter(carried.flows)), carried)
        if self.is_on:
            self._set(way, onward, carried)

    def refresh(self, relay: RelaySocket, now: float) -> None:
        """Something was allowed, prolonged or forbidden: bring the relay's flows into line with it."""
        carried = self._carried.get(relay.handle)
        if carried is None:
            return
        for way, before in list(carried.flows.items()):
            if not self.is_on:
                return
            onward = self._rules.onward(way, relay, carried.bound, carried.slot, now)
            if onward is None:
                self._remove(way, carried)
            elif onward != before:
                self._set(way, onward, carried)

    def withdraw(self, relay: RelaySocket, now: float) -> None:
        """Take all flows of a relay back, and take over what they have carried."""
        carried = self._carried.get(relay.handle)
        if carried is None:
            return
        for way in list(carried.flows):
            if self.is_on:
                self._remove(way, carried)
        # A packet that was being looked up as its flow was removed has been done with by then.
        carried.heard_since = now + _IN_FLIGHT_SECONDS
        self._settle(carried, now)

    def release(self, relay: RelaySocket, now: float) -> None:
        """A relay closes."""
        self.withdraw(relay, now)
        carried = self._carried.pop(relay.handle, None)
        if carried is not None:
            self._free.append(carried.slot)

    def withdraw_all(self, now: float) -> None:
        """Take everything back; busy flows return by and by."""
        for carried in list(self._carried.values()):
            self.withdraw(carried.relay, now)

    def set_limits(self, relay: RelaySocket, limits: Limits) -> None:
        """Change what a relay may carry."""
        carried = self._carried.get(relay.handle)
        if carried is None:
            return
        try:
            self._program.set_limits(carried.slot, limits)
        except OffloadFailed as error:
            self._give_up(error)

    # Counters

    def settle(self, relay: RelaySocket, now: float) -> None:
        """Take over what the kernel has relayed for a relay since the last time, into its counters and limits."""
        carried = self._carried.get(relay.handle)
        if carried is not None:
            self._settle(carried, now)

    def settle_all(self, now: float) -> None:
        """The same for every relay."""
        for carried in list(self._carried.values()):
            self._settle(carried, now)

    def settle_drops(self, drops: dict[Drop, int]) -> None:
        """Take over what the kernel has dropped since the last time."""
        if not self.is_on:
            return
        try:
            current = self._program.drops()
        except OffloadFailed as error:
            self._give_up(error)
            return
        for reason, count in current.items():
            drops[reason] += count - self._dropped.get(reason, 0)
            self._dropped[reason] = count

    # Keeping it right

    def reconcile(self) -> bool:
        """Compare a part of the kernel's table with ours: no entry that we do not know of stays, none is missing.

        Where routes have changed flows are set anew, some in each step: an entry names the way that its packets leave
        by. Returns whether they have, and addresses of this machine with them, it may be.
        """
        if not self.is_on:
            return False
        try:
            changed = self._program.routes_changed()
            if changed:
                waiting = set(self._stale)  # who waits longest is next, or where routes never rest some never are
                self._stale = [way for way in self._flows if way not in waiting] + [
                    way for way in self._stale if way in self._flows
                ]
            if self._stale:
                self._set_anew()
            if self.is_on:
                self._reconcile()
        except OffloadFailed as error:
            self._give_up(error)
            return False
        return changed

    def close(self) -> None:
        """Detach from the interfaces; nothing is relayed by the kernel any more."""
        self._forget_all()
        self._program.close()

    def _set_anew(self) -> None:
        step, self._stale = self._stale[-RECONCILE_FLOWS:], self._stale[:-RECONCILE_FLOWS]
        for way in reversed(step):
            carried = self._flows.get(way)
            if carried is not None and self.is_on:
                self._set(way, carried.flows[way], carried)

    def _reconcile(self) -> None:
        if self._pass is None:
            self._pass = self._program.flows()
            self._unseen = set(self._flows)
            self._gone.clear()
        count = 0
        for way in islice(self._pass, RECONCILE_FLOWS):
            count += 1
            self._unseen.discard(way)
            if way not in self._flows and way not in self._gone:
                self.reconciled += 1
                self._program.remove_flow(way)
        if count == RECONCILE_FLOWS:
            return
        self._pass = None
        for way in self._unseen:
            self.reconciled += 1
            del self._flows.pop(way).flows[way]

    def _open(self, relay: RelaySocket, limits: Limits, now: float) -> _Carried | None:
        if not self.is_on:
            return None
        slot = self._free.pop() if self._free else next(self._slots, -1)
        if slot < 0:
            self.refused += 1
            return None
        try:
            self._program.open_slot(slot, limits)
        except OffloadFailed as error:
            self._give_up(error)
            return None
        carried = self._carried[relay.handle] = _Carried(relay, slot, now)
        return carried

    def _set(self, way: Way, onward: Onward, carried: _Carried) -> None:
        try:
            self._program.set_flow(way, onward)
        except FlowRefused:
            self.refused += 1
            if way in carried.flows:  # what stands there is not true any more
                self._remove(way, carried)
        except OffloadFailed as error:
            self._give_up(error)
        else:
            self._unseen.discard(way)
            carried.flows[way] = onward
            self._flows[way] = carried

    def _remove(self, way: Way, carried: _Carried) -> None:
        try:
            self._program.remove_flow(way)
        except OffloadFailed as error:
            self._give_up(error)
        else:
            self._unseen.discard(way)
            if self._pass is not None:
                self._gone.add(way)
            del carried.flows[way], self._flows[way]

    def _is_heard(self, carried: _Carried) -> bool:
        """Whether the program sees the client's packets, under the addresses that we see.

        It does not where the kernel translates them later on (NAT in this namespace), or where they arrive by another
        interface: what the program sent to such a client would come from an address that it does not know.
        """
        if not self.is_on:
            return False
        try:
            return self._program.heard_at(carried.slot) > carried.heard_since
        except OffloadFailed as error:
            self._give_up(error)
            return False

    def _settle(self, carried: _Carried, now: float) -> None:
        if not self.is_on:
            return
        try:
            self._take_over(carried, now)
        except OffloadFailed as error:
            self._give_up(error)

    def _take_over(self, carried: _Carried, now: float) -> None:
        current = self._program.traffic(carried.slot)
        fresh, since = current.minus(carried.counted), carried.settled_at
        carried.settled_at = now
        if fresh == NO_TRAFFIC:
            return
        carried.counted = current
        self.traffic = self.traffic.plus(fresh)
        carried.relay.take_over(fresh, since)

    def _give_up(self, error: OffloadFailed) -> None:
        """Leave everything to user space, for good: a table that cannot be written might relay what is forbidden."""
        if not self.is_on:
            return
        self.failures += 1
        _log.error("the kernel relays no more, user space does: %s", error)
        for carried in self._carried.values():
            try:
                self._take_over(carried, carried.settled_at)
            except OffloadFailed:
                break  # what could not be read is lost to the counters
        self._forget_all()
        self._program.close()
        self.on_given_up()

    def _forget_all(self) -> None:
        self.is_on = False
        self._pass = None
        self._unseen.clear()
        self._gone.clear()
        self._stale.clear()
        self._carried.clear()
        self._flows.clear()


def _unwatched() -> None:
    """Nobody wants to know."""
