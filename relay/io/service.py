"""The relay's shell: binds the ports, moves messages between sockets and the control plane, starts and stops."""

import asyncio
import ipaddress
import logging
import os
import socket
import ssl
import time
from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry

from relay.allocator import Allocator
from relay.authenticator import Authenticator
from relay.datapath import RelayAddress
from relay.events import AllocationCreated, AllocationDeleted, Event
from relay.five_tuple import FiveTuple, Transport
from relay.io.addresses import own_addresses, packed_addresses, relay_addresses
from relay.io.datapath.plain import PlainDataPath, Relay, Sender, SocketAddress
from relay.io.listening import BindError, BoundSocket, bind_everywhere
from relay.io.metrics import RelayCollector, RelayMetrics
from relay.io.stream import StreamConnection
from relay.io.stream_listener import StreamListener
from relay.io.udp import UdpListener
from relay.ledger import Ledger
from relay.peer_policy import PeerPolicy
from relay.settings import RelaySettings
from relay.turn_server import TurnServer
from stun.address import TransportAddress
from stun.credentials import CredentialBook
from stun.nonce import NonceSealer

_log = logging.getLogger(__name__)


class RelayService:
    """The running relay. `start`, then `stop`; it is also where the forwarding plane finds its clients."""

    def __init__(
        self,
        settings: RelaySettings,
        *,
        secrets: Sequence[bytes],
        nonce_keys: Sequence[bytes],
        tls: ssl.SSLContext | None,
        registry: CollectorRegistry,
        sockets: Sequence[BoundSocket] = (),
        ledger: Ledger | None = None,
        is_relayed_elsewhere: Callable[[int, int], bool] = lambda _family, _port: False,
    ) -> None:
        """Prepare a relay; nothing is opened before `start`.

        Args:
            settings: addresses, ports, bounds.
            secrets: shared secrets of time-limited credentials, at least 32 bytes each.
            nonce_keys: keys of nonces, the first one signs.
            tls: server side of TLS connections; None if no TLS port is configured.
            registry: where the metrics go.
            sockets: bound already, if workers share the ports; they are closed with the relay.
            ledger: what workers count in together; None counts alone.
            is_relayed_elsewhere: whether another worker relays at a port of a family.
        """
        self._settings = settings
        self._authenticator = _authenticator(settings, secrets, nonce_keys)
        self._tls = tls
        self._sockets = sockets
        self._ledger = ledger
        self._is_relayed_elsewhere = is_relayed_elsewhere
        self._registry = registry
        self._metrics = RelayMetrics(registry)
        self._listeners: dict[TransportAddress, UdpListener] = {}
        self._stream_listeners: list[StreamListener] = []
        self._connections: dict[FiveTuple, StreamConnection] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0
        self.ready = False

    async def start(self) -> None:
        """Bind everything, or nothing.

        Raises:
            BindError: a port is taken or an address is not ours.
        """
        self._loop = asyncio.get_running_loop()
        settings = self._settings
        addresses = relay_addresses(settings)
        relayed = [ip for address in addresses for ip in address]
        policy = PeerPolicy(
            allow=settings.peers.allow,
            deny=settings.peers.deny,
            own=packed_addresses(own_addresses()),
            own_relays=relayed,
        )
        closed = frozenset(ip for ip in relayed if not policy.is_open(ip))
        self._plane = PlainDataPath(self._loop, closed, self, self._is_relayed_elsewhere)
        self._server = TurnServer(
            settings,
            authenticator=self._authenticator,
            policy=policy,
            datapath=self._plane,
            allocator=Allocator(settings, self._plane, addresses, os.urandom, self._ledger),
        )
        try:
            for address in addresses:
                _check_relay_address(address)
            self._listen_everywhere()
        except BaseException:
            await self.stop()
            raise
        self._registry.register(RelayCollector(self._server, self._plane, self._count_connections))
        self.ready = True
        _log.info(
            "relay ready: %d UDP listeners, %d TCP and TLS listeners, relaying %d address families",
            len(self._listeners),
            len(self._stream_listeners),
            len(addresses),
        )

    @property
    def allocations(self) -> int:
        """Live allocations."""
        return self._server.allocations

    def configure(self, settings: RelaySettings, *, secrets: Sequence[bytes], nonce_keys: Sequence[bytes]) -> None:
        """Take other settings and secrets into use, without an interruption."""
        self._server.configure(settings, _authenticator(settings, secrets, nonce_keys))

    def drain(self) -> None:
        """Refuse new allocations from now on."""
        self._server.drain()

    async def stop(self) -> None:
        """Close every socket; allocations end, their traffic is counted."""
        self.ready = False
        self._server.close(time.monotonic())
        self._drain()
        for stream_listener in self._stream_listeners:
            await stream_listener.close()
        self._stream_listeners.clear()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()

    def receive(self, data: bytes, path: FiveTuple) -> None:
        """Hand a message to the control plane and carry out what it says; a relay that stops hears nothing more."""
        if not self.ready:
            return
        self._server.receive(data, path, time.monotonic(), time.time())
        self._drain()

    # Clients, as the forwarding plane sees them

    def sender(self, path: FiveTuple) -> tuple[Sender, SocketAddress]:
        """How messages reach this client."""
        if path.transport is Transport.UDP:
            return self._listeners[path.server].sender(path.client)
        return self._connections[path].sender()

    def attach(self, path: FiveTuple, relay: Relay) -> None:
        """Hand what this client sends to this relay."""
        if path.transport is Transport.UDP:
            self._listeners[path.server].attach(path.client, relay)
        else:
            self._connections[path].attach(relay)

    def detach(self, path: FiveTuple) -> None:
        """The client has no relay any more."""
        if path.transport is Transport.UDP:
            self._listeners[path.server].detach(path.client)
        elif path in self._connections:
            self._connections[path].detach()

    # Connections

    def connection_opened(self, connection: StreamConnection) -> None:
        """Register a connection."""
        self._connections[connection.path] = connection

    def connection_closed(self, connection: StreamConnection) -> None:
        """Forget a connection, and the allocation that came over it."""
        del self._connections[connection.path]
        self._server.disconnect(connection.path, time.monotonic())
        self._drain()

    def _count_connections(self) -> dict[Transport, int]:
        counts = {Transport.TCP: 0, Transport.TLS: 0}
        for path in self._connections:
            counts[path.transport] += 1
        return counts

    # Listening

    def _has_room(self) -> bool:
        accepted = sum(map(len, self._stream_listeners))
        return accepted < self._settings.quota.stream_connections

    def _listen_everywhere(self) -> None:
        bound = self._sockets or bind_everywhere(self._settings)[0]
        for transport, host, port, sock in bound:
            if transport is Transport.UDP:
                address = TransportAddress.parse(host, port)
                self._listeners[address] = UdpListener(self._loop, address, sock, self._plane, self.receive)
            elif transport is Transport.TCP:
                self._listen_stream(sock, transport, None)
            else:
                self._listen_stream(sock, transport, self._tls)

    def _listen_stream(self, sock: socket.socket, kind: Transport, tls: ssl.SSLContext | None) -> None:
        listener = StreamListener(
            self._loop,
            sock,
            tls,
            lambda: StreamConnection(self._loop, kind, self._plane, self),
            self._has_room,
        )
        self._stream_listeners.append(listener)

    # The control plane's three queues

    def _drain(self) -> None:
        """Send and report all that the control plane has to say, then sleep until its deadline."""
        server = self._server
        while (transmit := server.poll_transmit()) is not None:
            path = transmit.path
            if path.transport is Transport.UDP:
                self._listeners[path.server].send(transmit.data, path.client)
            elif (connection := self._connections.get(path)) is not None:
                connection.send(transmit.data)
        while (event := server.poll_event()) is not None:
            self._observe(event)
        self._sleep_until(server.poll_timeout())

    def _observe(self, event: Event) -> None:
        self._metrics.observe(event)
        match event:
            case AllocationCreated(transport=transport):
                _log.info("allocation begins over %s", transport.value)
            case AllocationDeleted(transport=transport, ending=ending, seconds=seconds, traffic=traffic):
                _log.info(
                    "allocation over %s ends after %.1f s (%s): %d bytes to the peer, %d bytes to the client",
                    transport.value,
                    seconds,
                    ending.value,
                    traffic.bytes_to_peer,
                    traffic.bytes_to_client,
                )
            case _:
                pass

    def _sleep_until(self, deadline: float | None) -> None:
        if deadline is None or (self._alarm is not None and self._alarm_at <= deadline):
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = deadline
        self._alarm = self._loop.call_later(max(0.0, deadline - time.monotonic()), self._wake)

    def _wake(self) -> None:
        self._alarm = None
        self._server.handle_timeout(time.monotonic())
        self._drain()


def _authenticator(settings: RelaySettings, secrets: Sequence[bytes], nonce_keys: Sequence[bytes]) -> Authenticator:
    users = {name: password.get_secret_value() for name, password in settings.users.items()}
    return Authenticator(
        CredentialBook(settings.realm, users, secrets), NonceSealer(nonce_keys, settings.nonce_lifetime_seconds)
    )


def _check_relay_address(address: RelayAddress) -> None:
    """Refuse to start with a relay address that no relayed transport address could ever be bound to."""
    host = str(ipaddress.ip_address(address.bound))
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise BindError(
                error.errno,
                f"cannot relay from {host}: {reason}; behind a NAT name the own address in relay.relay_addresses"
                " and the one that peers see in relay.external_addresses",
            ) from error
