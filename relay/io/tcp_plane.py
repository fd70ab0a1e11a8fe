"""The forwarding plane of TCP allocations (RFC 6062), as the control plane commands it.

A TCP relayed transport address accepts and dials; whether it may is asked of the control plane at each connection, so
there are no permissions, channels or datagrams to be told of here.
"""

import itertools
from collections.abc import Callable, Mapping

from relay.datapath import NO_TRAFFIC, Drop, RelayAddress, Traffic
from relay.five_tuple import FiveTuple, Transport
from relay.io.clients import ClientRelay, Connection, Links
from relay.io.stream import StreamConnection
from relay.io.tcp_relay import TcpRelays
from relay.tcp_allocation import Close, Command, Dial, Pair
from stun.address import TransportAddress


class _NoMedia(ClientRelay):
    """What a client of a TCP allocation may send for a relay over its control connection: nothing."""

    def from_client(self, view: memoryview, start: int, end: int, now: float) -> bool:  # noqa: ARG002
        """Leave every message to the control plane."""
        return False

    def relay_one(self, view: memoryview, size: int, head: int, now: float) -> bool:  # noqa: ARG002
        """Leave every message to the control plane."""
        return False

    def relay_run(self, view: memoryview, size: int, segment: int, head: int, now: float) -> bool:  # noqa: ARG002
        """Leave every message to the control plane."""
        return False

    def flush(self) -> None:
        """Nothing is ever collected."""


class TcpPlane:
    """Implements `relay.datapath.DataPath` over `TcpRelays`, and carries out what `TcpAllocations` commands."""

    def __init__(self, relays: TcpRelays, links: Links, connections: Mapping[FiveTuple, Connection]) -> None:
        """Build a plane without relays.

        Args:
            relays: the sockets.
            links: where clients are told that their connection has an allocation.
            connections: where the clients' data connections are found; looked at anew each time.
        """
        self._relays = relays
        self._links = links
        self._connections = connections
        self._handles = itertools.count(1)
        self._paths: dict[int, FiveTuple] = {}
        self._moved: dict[int, Traffic] = {}  # what of a relay is accounted to an earlier transport of its client
        self._finished = dict.fromkeys(Transport, NO_TRAFFIC)

    @property
    def drops(self) -> Mapping[Drop, int]:
        """Nothing is ever dropped: a stream is held back."""
        return {}

    def carry_out(self, poll_command: Callable[[], Command | None]) -> None:
        """Do all that is due; to be called when the messages that go with it are on their way."""
        while (command := poll_command()) is not None:
            match command:
                case Dial(connection_id=connection_id, allocation=handle, peer=peer):
                    self._relays.dial(connection_id, handle, peer)
                case Pair(connection_id=connection_id, client=path):
                    client = self._connections.get(path)
                    if isinstance(client, StreamConnection):
                        self._relays.pair(connection_id, client)
                    else:
                        self._relays.drop(connection_id)
                case Close(connection_id=connection_id):
                    self._relays.drop(connection_id)

    def open_relay(self, path: FiveTuple, address: RelayAddress, port: int, expires_at: float, circle: str = "") -> int:
        """Listen on a relayed transport address. See `relay.datapath.DataPath`, also for all other commands."""
        assert not circle, "a connection test has no TCP allocation"  # noqa: S101
        del expires_at  # an expired allocation is closed within a second; nothing new is accepted for it before
        handle = next(self._handles)
        self._relays.open(handle, TransportAddress(address.bound, port))
        self._paths[handle] = path
        self._links.attach(path, _NoMedia())
        return handle

    def close_relay(self, handle: int) -> Traffic:
        """Stop listening; the connections are closed by commands, and what they still carry is not in the traffic."""
        traffic = self._relays.close(handle)
        self._account(handle, traffic)
        path = self._paths.pop(handle)
        self._moved.pop(handle, None)
        if path not in self._paths.values():
            self._links.detach(path)
        return traffic

    def move_client(self, handle: int, path: FiveTuple) -> None:
        """The control connection is another one from now on; what was relayed stays with the old transport."""
        old = self._paths[handle]
        self._links.attach(path, _NoMedia())
        if path == old:  # a new connection with the same five-tuple
            return
        self._links.detach(old)
        for each in [each for each, at in self._paths.items() if at == old]:
            traffic = self._relays.traffic(each)
            self._account(each, traffic)
            self._moved[each] = traffic
        self._paths = {each: path if at == old else at for each, at in self._paths.items()}

    def set_expiry(self, handle: int, expires_at: float) -> None:
        """The control plane closes what has expired."""

    def allow_peer(self, handle: int, ip: bytes, expires_at: float) -> None:
        """The control plane is asked for each connection."""

    def forget_peer(self, handle: int, ip: bytes) -> None:
        """The control plane is asked for each connection."""

    def bind_channel(self, handle: int, number: int, peer: TransportAddress, expires_at: float) -> None:
        """A TCP allocation has no channels (RFC 6062 §4); the control plane refuses them."""

    def unbind_channel(self, handle: int, number: int) -> None:
        """A TCP allocation has no channels."""

    def send_to_peer(self, handle: int, data: bytes, peer: TransportAddress, *, dont_fragment: bool = False) -> None:
        """A TCP allocation relays no datagrams (RFC 6062 §4): the Send indication is dropped."""

    def traffic(self, handle: int) -> Traffic:
        """What has been relayed so far."""
        return self._relays.traffic(handle)

    def totals(self) -> Mapping[Transport, Traffic]:
        """All traffic since the start by the client's transport, live relays included."""
        totals = dict(self._finished)
        for handle, path in self._paths.items():
            live = self._relays.traffic(handle).minus(self._moved.get(handle, NO_TRAFFIC))
            totals[path.transport] = totals[path.transport].plus(live)
        return totals

    def _account(self, handle: int, traffic: Traffic) -> None:
        transport = self._paths[handle].transport
        since = traffic.minus(self._moved.get(handle, NO_TRAFFIC))
        self._finished[transport] = self._finished[transport].plus(since)
