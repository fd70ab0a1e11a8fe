"""The kernel plane: the plain plane, whose busy flows a program in the kernel relays (docs/forwarding.md).

User space owns all sockets and tables, and relays whatever the kernel does not know. A flow is left to the kernel once
it is busy, and taken back by the command that forbids it, before that command returns.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from relay.datapath import Drop, Limits, RelayAddress, Traffic
from relay.five_tuple import FiveTuple, Transport
from relay.io.addresses import own_addresses, packed_addresses
from relay.io.clients import Links
from relay.io.datapath.bpf.program import Hook
from relay.io.datapath.choice import Offer
from relay.io.datapath.flow_rules import FlowRules
from relay.io.datapath.offload import Offload, Program
from relay.io.datapath.plain import PlainDataPath
from relay.io.datapath.relay_socket import RelaySocket
from relay.io.datapath.routes import Channel, Route
from relay.io.datapath.segments import SocketAddress
from relay.io.datapath.switchboard import IsRelayedElsewhere
from relay.io.poller import Poller
from relay.trial import limits_of
from stun.address import TransportAddress

RECONCILE_SECONDS: Final = 1.0  # between two looks at a part of the kernel's table


class Kernel(NamedTuple):
    """A program that is loaded and attached; it belongs to the plane that is made of it."""

    program: Program
    offer: Offer  # what it was loaded with
    local_addresses: frozenset[bytes]  # packed IP addresses of this machine


class KernelDataPath(PlainDataPath):
    """A plain plane and what stands in the kernel for it."""

    def __init__(
        self,
        poller: Poller,
        own_relays: frozenset[bytes],
        links: Links,
        *,
        kernel: Kernel,
        limits: Limits = Limits(),  # noqa: B008  # a tuple of zeros
        is_relayed_elsewhere: IsRelayedElsewhere | None = None,
        own_services: Iterable[TransportAddress] = (),
    ) -> None:
        """Build a plane without relays.

        Args:
            poller: see `PlainDataPath`, also for what is not named here.
            own_relays: the same.
            links: the same.
            kernel: what relays busy flows.
            limits: the same.
            is_relayed_elsewhere: the same.
            own_services: the same.
        """
        super().__init__(
            poller,
            own_relays,
            links,
            limits=limits,
            is_relayed_elsewhere=is_relayed_elsewhere,
            own_services=own_services,
        )
        self._limits = limits
        program = kernel.program
        self._rules = FlowRules(self._board, kernel.local_addresses, crosses_families=program.crosses_families)
        self.offload = Offload(program, self._rules, kernel.offer)
        self.offload.on_given_up = self._on_given_up
        self._join_only_behind(program)
        self.on_joining: Callable[[], object] = _no_listeners  # called when listeners may ask for joined runs again
        self._board.on_busy_to_peer = self._on_busy_to_peer
        self._board.on_busy_to_client = self._on_busy_to_client
        self._timer: asyncio.TimerHandle | None = None

    def watch_over(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look again and again whether the kernel's table is what it should be, until `close`."""
        self._timer = loop.call_later(RECONCILE_SECONDS, self.watch_over, loop)  # first: a bug must not end it
        if self.offload.reconcile():
            self._rules.local_addresses = packed_addresses(own_addresses())

    def take_over(self, kernel: Kernel) -> None:
        """Use another program, attached to other interfaces it may be; busy flows come to it by and by."""
        self.offload.settle_all(time.monotonic())
        self.offload.settle_drops(self._board.drops)
        self._rules.local_addresses = kernel.local_addresses
        self.offload.begin(kernel.program)
        self._join_only_behind(kernel.program)

    def close(self) -> None:
        """Take the program out of the kernel. Relays that are still open go on in user space."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.offload.settle_all(time.monotonic())
        self.offload.settle_drops(self._board.drops)
        self.offload.close()

    @property
    def drops(self) -> dict[Drop, int]:
        """Packets that were not relayed by either path, by the reason."""
        self.offload.settle_drops(self._board.drops)
        return self._board.drops

    def set_limits(self, limits: Limits) -> None:
        """Change what each allocation may carry, on both paths."""
        self.offload.settle_all(time.monotonic())
        super().set_limits(limits)
        self._limits = limits
        for relay in self._relays.values():
            self.offload.set_limits(relay, self._limits_of(relay))

    def set_own_relays(self, own_relays: frozenset[bytes]) -> None:
        """Send to nothing but relayed transport addresses on these packed IP addresses from now on."""
        is_other = own_relays != self._board.own_relays
        super().set_own_relays(own_relays)
        if is_other:
            self.offload.withdraw_all(time.monotonic())

    def open_relay(self, path: FiveTuple, address: RelayAddress, port: int, expires_at: float, circle: str = "") -> int:
        """Bind a relayed transport address."""
        handle = super().open_relay(path, address, port, expires_at, circle)
        client = self._relays[handle].client
        for relay in client.relays():
            if relay.handle != handle:  # the two share limits, which the kernel cannot know
                self.offload.release(relay, time.monotonic())
        return handle

    def close_relay(self, handle: int) -> Traffic:
        """Stop relaying on both paths and close the socket."""
        self.offload.release(self._relays[handle], time.monotonic())
        return super().close_relay(handle)

    def move_client(self, handle: int, path: FiveTuple) -> None:
        """Attach the client to its new five-tuple; its flows become busy there."""
        now = time.monotonic()
        for relay in self._relays[handle].client.relays():
            self.offload.withdraw(relay, now)
        super().move_client(handle, path)

    def set_expiry(self, handle: int, expires_at: float) -> None:
        """Relay nothing for this relayed transport address from `expires_at` on."""
        super().set_expiry(handle, expires_at)
        self._refresh(handle)

    def allow_peer(self, handle: int, ip: bytes, expires_at: float) -> None:
        """Install or refresh a permission."""
        super().allow_peer(handle, ip, expires_at)
        self._refresh(handle)

    def forget_peer(self, handle: int, ip: bytes) -> None:
        """Remove a permission."""
        super().forget_peer(handle, ip)
        self._refresh(handle)

    def bind_channel(self, handle: int, number: int, peer: TransportAddress, expires_at: float) -> None:
        """Bind a channel or refresh its binding."""
        super().bind_channel(handle, number, peer, expires_at)
        self._refresh(handle)

    def unbind_channel(self, handle: int, number: int) -> None:
        """Remove a channel binding."""
        super().unbind_channel(handle, number)
        self._refresh(handle)

    def traffic(self, handle: int) -> Traffic:
        """What has been relayed so far on both paths."""
        self.offload.settle(self._relays[handle], time.monotonic())
        return super().traffic(handle)

    def totals(self) -> Mapping[Transport, Traffic]:
        """All traffic since the start by the client's transport, on both paths."""
        self.offload.settle_all(time.monotonic())
        return super().totals()

    def _refresh(self, handle: int) -> None:
        self.offload.refresh(self._relays[handle], time.monotonic())

    def _join_only_behind(self, program: Program) -> None:
        """Have relay sockets ask for joined runs only if the program comes before.

        tc sees a run that the kernel has joined as one packet, which no program can take apart. Sockets that have asked
        already, because an earlier program was given up, cannot take it back.
        """
        self._board.joins_runs = program.hook is Hook.XDP

    def _on_given_up(self) -> None:
        self._board.joins_runs = True
        self.on_joining()

    def _on_busy_to_peer(self, route: Route) -> None:
        relay = route.relay
        if self.offload.is_on and self._rules.may_carry(relay):
            number = route.number if isinstance(route, Channel) else 0
            way = self._rules.way_to_peer(relay, route.address, number)
            self.offload.offer(way, relay, self._limits_of(relay), time.monotonic())

    def _on_busy_to_client(self, relay: RelaySocket, peer: SocketAddress) -> None:
        if self.offload.is_on and self._rules.may_carry(relay):
            way = self._rules.way_to_client(relay, peer)
            self.offload.offer(way, relay, self._limits_of(relay), time.monotonic())

    def _limits_of(self, relay: RelaySocket) -> Limits:
        return limits_of(self._limits) if relay.client.circle else self._limits


def _no_listeners() -> None:
    """There are none yet."""
