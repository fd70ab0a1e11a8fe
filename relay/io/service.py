"""The relay's shell: listens, moves messages between sockets and the control plane, starts, drains and stops."""

import asyncio
import ipaddress
import logging
import math
import os
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from prometheus_client import CollectorRegistry

from relay.allocator import Allocator
from relay.authenticator import Authenticator
from relay.behaviour_discovery import STEERED_BURST, STEERED_PER_SECOND, BehaviourDiscovery
from relay.datapath import DataPath, Limits, RelayAddress
from relay.events import AllocationCreated, AllocationDeleted
from relay.five_tuple import FiveTuple, Transport
from relay.io.addresses import own_addresses, packed_addresses, relay_addresses
from relay.io.clients import ClientLink, ClientRelay, Connection
from relay.io.counts import RelayCounts
from relay.io.datapath.offload import Offload
from relay.io.entropy import Entropy
from relay.io.external_address import ExternalAddressError, ask_external_address, check_advertised
from relay.io.listening import BindError, BoundSocket, bind_everywhere
from relay.io.metrics import RelayCollector, RelayMetrics
from relay.io.poller import Poller
from relay.io.stream import Streams
from relay.io.stream_listener import StreamListener
from relay.io.tcp_plane import TcpPlane
from relay.io.tcp_relay import TcpRelays
from relay.io.udp import UdpListener
from relay.io.udp_plane import Given, UdpPlane
from relay.ledger import Ledger, Ports
from relay.mobility import MobilityTickets
from relay.port_pool import PortPool
from relay.quota import UserQuota
from relay.realm import realms_of
from relay.reservation import Reservations
from relay.settings import RelaySettings, parse_server
from relay.source_guard import SourceGuard
from relay.tcp_relaying import TcpRelaying
from relay.trial import ALLOCATION_BURST, ALLOCATIONS_PER_SECOND, ALLOCATIONS_PER_TEST
from relay.turn_server import TurnServer
from relay.wish import TCP_PROTOCOL, UDP_PROTOCOL
from stun.address import TransportAddress, family_of
from stun.nonce import NonceSealer

if TYPE_CHECKING:
    from OpenSSL import SSL

    from relay.io.dtls import DtlsListener

_log = logging.getLogger(__name__)

_SALT_BYTES: Final = 16
_UDP: Final = Transport.UDP
_LOGGED: Final = (AllocationCreated, AllocationDeleted)


class Keys(NamedTuple):
    """What the relay keeps secret."""

    secrets: Mapping[str, bytes]  # of time-limited credentials in the general realm, by name; at least 32 bytes each
    nonce_keys: Sequence[bytes]  # the first one signs, all of them verify
    unlogged: frozenset[str] = frozenset()  # names of secrets whose allocations are no line in the log


class Certificates(NamedTuple):
    """The server's side of TLS and DTLS; None where no such port is configured."""

    tls: ssl.SSLContext | None = None
    dtls: "SSL.Context | None" = None


NO_CERTIFICATES: Final = Certificates()


class Shared(NamedTuple):
    """What workers of one machine share."""

    sockets: Sequence[BoundSocket]  # bound already; they are closed with the relay
    ledger: Ledger
    is_relayed_elsewhere: Callable[[int, int, str], bool]  # whether another worker relays this family, port and circle


class RelayService:
    """The running relay. `start`, then `stop`; it is also where the forwarding plane finds its clients."""

    def __init__(
        self,
        settings: RelaySettings,
        keys: Keys,
        registry: CollectorRegistry,
        *,
        certificates: Certificates = NO_CERTIFICATES,
        shared: Shared | None = None,
        http: Callable[[], asyncio.Protocol] | None = None,
        own_services: Collection[TransportAddress] = (),
    ) -> None:
        """Prepare a relay; nothing is opened before `start`.

        Args:
            settings: addresses, ports, bounds.
            keys: secrets.
            registry: where the metrics go.
            certificates: server side of TLS and DTLS.
            shared: what workers share; None for the only process.
            http: makes the protocol of a connection that turns out to speak HTTP; None: such a connection is closed.
            own_services: other parts of this installation that clients may reach over UDP through the relay.
        """
        self._settings = settings
        self._keys = keys
        self._registry = registry
        self._certificates = certificates
        self._shared = shared
        self._http = http
        self._own_services = own_services
        self._counts = RelayCounts()
        registry.register(RelayMetrics(self._counts))
        self._poller: Poller | None = None
        self._server: TurnServer | None = None
        self._listeners: dict[TransportAddress, UdpListener] = {}
        self._dtls_listeners: list[DtlsListener] = []
        self._stream_listeners: list[StreamListener] = []
        self._connections: dict[FiveTuple, Connection] = {}
        self._guard = _guard(settings)
        self._tcp_relaying: TcpRelaying | None = None
        self._tcp_relays: TcpRelays | None = None
        self._tcp_plane: TcpPlane | None = None
        self._udp_plane: UdpPlane | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = math.inf
        self._received_at = 0.0
        self._is_up = False
        self.is_draining = False

    async def start(self) -> None:
        """Bind everything, or nothing.

        Raises:
            BindError: a port is taken, an address is not ours, or the kernel plane is demanded and cannot be had.
            ExternalAddressError: the address that peers are told cannot be right.
        """
        self._loop = asyncio.get_running_loop()
        addresses = await _resolve(relay_addresses(self._settings), self._settings)
        for address in addresses:
            _check_bindable(address)
        try:
            self._build(addresses)
        except BaseException:
            await self.stop()
            raise
        self._is_up = True
        _log.info(
            "relay ready: %d UDP, %d DTLS, %d TCP and TLS listeners, relaying %d address families",
            len(self._listeners),
            len(self._dtls_listeners),
            len(self._stream_listeners),
            len(addresses),
        )

    @property
    def ready(self) -> bool:
        """Whether new clients are welcome."""
        return self._is_up and not self.is_draining

    @property
    def allocations(self) -> int:
        """Live allocations."""
        return 0 if self._server is None else self._server.allocations

    @property
    def ports(self) -> Mapping[int, Ports]:
        """The relayed ports by address family."""
        return self._allocator.ledger.ports

    @property
    def offload(self) -> Offload | None:
        """What the kernel relays for us; None if user space relays everything."""
        kernel = None if self._udp_plane is None else self._udp_plane.kernel
        return None if kernel is None else kernel.offload

    def connections(self) -> Mapping[Transport, int]:
        """Open connections and associations of clients, by transport."""
        counts = {Transport.TCP: 0, Transport.TLS: 0, Transport.DTLS: 0}
        for path in self._connections:
            counts[path.transport] += 1
        return counts

    def closings(self) -> Mapping[str, int]:
        """Connections that were closed by us, by the reason."""
        return {reason.value: count for reason, count in self._streams.closings.items()}

    def dtls_counts(self) -> Mapping[str, int]:
        """What the DTLS listeners have counted, by the event; empty without any."""
        total: Counter[str] = Counter()
        for listener in self._dtls_listeners:
            total.update(listener.counts)
        return total

    def configure(self, settings: RelaySettings, keys: Keys) -> None:
        """Take other settings and secrets into use at once; sockets, clients and allocations stay.

        Raises:
            ValueError: they are unfit, and nothing has changed.
        """
        if self._server is None:
            raise ValueError("the relay does not run")
        authenticator = self._authenticator(settings, keys)
        if _pace(settings) != _pace(self._settings):  # else a reload would let in again whoever had asked too often
            self._guard = _guard(settings)
        self._server.configure(settings, authenticator, self._guard)
        self._plane.set_limits(_limits(settings))
        self._close_own_relays(settings)
        if self._udp_plane is not None:
            self._udp_plane.follow()
        self._streams.set_proxy_sources(settings.proxy_sources)
        for listener in self._dtls_listeners:
            listener.set_max_associations(_connection_limit(settings))
        self._settings, self._keys = settings, keys

    def replace_dtls(self, context: "SSL.Context") -> None:
        """Use another certificate for DTLS handshakes from now on."""
        for listener in self._dtls_listeners:
            listener.set_context(context)

    def drain(self) -> None:
        """Refuse new allocations from now on; those that exist live on for as long as they are refreshed."""
        self.is_draining = True
        if self._server is not None:
            self._server.drain()

    async def stop(self) -> None:
        """Close every socket; allocations end, their traffic is counted."""
        self._is_up = False
        if self._server is not None:
            self._server.close(time.monotonic())
            self._drain()
        if self._tcp_relays is not None:
            self._tcp_relays.abort()
        for stream_listener in self._stream_listeners:
            stream_listener.close()
        self._stream_listeners.clear()
        for dtls_listener in self._dtls_listeners:
            dtls_listener.close()
        self._dtls_listeners.clear()
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
            self._alarm_at = math.inf
        if self._udp_plane is not None:
            self._udp_plane.close()
            self._udp_plane = None
        if self._poller is not None:
            self._poller.close()
            self._poller = None

    def receive(self, data: bytes, path: FiveTuple) -> None:
        """Hand a message to the control plane and carry out what it says; a relay that stops hears nothing more."""
        server = self._server
        if server is None or not self._is_up:
            return
        now = self._received_at = time.monotonic()
        server.receive(data, path, now, time.time())
        self._drain()

    # Clients, as the forwarding plane sees them

    def link(self, path: FiveTuple) -> ClientLink:
        """How messages reach this client.

        Raises:
            KeyError: the client has gone.
        """
        if path.transport is Transport.UDP:
            return self._listeners[path.server].link(path.client)
        return self._connections[path]

    def attach(self, path: FiveTuple, relay: ClientRelay) -> None:
        """Hand what this client sends to this relay."""
        if path.transport is Transport.UDP:
            self._listeners[path.server].attach(path, relay)
        else:
            self._connections[path].attach(relay)

    def detach(self, path: FiveTuple) -> None:
        """The client has no relay any more."""
        if path.transport is Transport.UDP:
            self._listeners[path.server].detach(path.client)
        elif path in self._connections:
            self._connections[path].detach()

    # Connections

    def connected(self, connection: Connection) -> None:
        """Register a connection."""
        self._connections[connection.path] = connection

    def disconnected(self, connection: Connection) -> None:
        """Forget a connection, and the allocation that came over it."""
        del self._connections[connection.path]
        if self._server is not None:
            self._server.disconnect(connection.path, time.monotonic())
            self._drain()

    # Peers of TCP allocations

    def peer_accepted(self, allocation: int, peer: TransportAddress) -> int | None:
        """A peer has connected to a relayed transport address: its CONNECTION-ID, or None if it may not."""
        if self._tcp_relaying is None:
            return None
        connection_id = self._tcp_relaying.accept(allocation, peer, time.monotonic())
        self._drain()
        return connection_id

    def peer_dialled(self, connection_id: int) -> None:
        """A peer has accepted."""
        if self._tcp_relaying is not None:
            self._tcp_relaying.dialled(connection_id, time.monotonic())
            self._drain()

    def peer_dial_failed(self, connection_id: int) -> None:
        """A peer cannot be reached."""
        if self._tcp_relaying is not None:
            self._tcp_relaying.dial_failed(connection_id)
            self._drain()

    def peer_closed(self, connection_id: int) -> None:
        """Either end of a connection is lost."""
        if self._tcp_relaying is not None:
            self._tcp_relaying.closed(connection_id)
            self._drain()

    def _has_room(self) -> bool:
        accepted = sum(map(len, self._stream_listeners))
        return accepted < _connection_limit(self._settings)

    # Building

    def _build(self, addresses: Sequence[RelayAddress]) -> None:
        settings, shared = self._settings, self._shared
        self._own = packed_addresses(own_addresses())
        self._own_relays = frozenset(ip for address in addresses for ip in address)
        self._poller = poller = Poller(self._loop)
        elsewhere = None if shared is None else shared.is_relayed_elsewhere
        given = Given(self._closed_relays(settings), _limits(settings), elsewhere, self._own_services)
        self._udp_plane = UdpPlane(settings, addresses, poller, self, given)
        self._plane = self._udp_plane.plane
        if self._udp_plane.kernel is not None:
            self._udp_plane.kernel.on_joining = self._join_runs
        ledger = _own_ledger(settings, addresses) if shared is None else shared.ledger
        self._allocator = Allocator(addresses, ledger, _trial_guard(settings))
        self._streams = Streams(
            self._loop,
            poller,
            self,
            self._plane.drops,
            tls=self._certificates.tls,
            proxy_sources=settings.proxy_sources,
            http=self._http,
            http_needs_tls=True,  # a page in the clear gets no camera, and anybody on the way could change it
        )
        self._listen(bind_everywhere(settings)[0] if shared is None else shared.sockets)
        planes: dict[int, DataPath] = {UDP_PROTOCOL: self._plane}
        if settings.tcp_allocations:
            self._tcp_relaying = TcpRelaying(os.urandom)
            self._tcp_relays = TcpRelays(self._loop, poller, self, self._closed_relays(settings))
            planes[TCP_PROTOCOL] = self._tcp_plane = TcpPlane(self._tcp_relays, self, self._connections)
        self._server = TurnServer(
            settings,
            authenticator=self._authenticator(settings, self._keys),
            guard=self._guard,
            planes=planes,
            allocator=self._allocator,
            discovery=_discovery(self._listeners, settings) if settings.behaviour_discovery else None,
            tcp=self._tcp_relaying,
            mobility=MobilityTickets(os.urandom) if settings.mobility else None,
        )
        self._registry.register(RelayCollector(self, list(planes.values())))

    def _closed_relays(self, settings: RelaySettings) -> frozenset[bytes]:
        """Addresses on which nothing but relayed transport addresses, and own services, may be sent to.

        Every realm has to open one: the planes do not know who asks.
        """
        realms = realms_of(settings, {}, self._own, self._own_relays, self._own_services)
        return frozenset[bytes]().union(*(realm.policy.closed for realm in realms))

    def _close_own_relays(self, settings: RelaySettings) -> None:
        closed = self._closed_relays(settings)
        self._plane.set_own_relays(closed)
        if self._tcp_relays is not None:
            self._tcp_relays.own_relays = closed

    def _authenticator(self, settings: RelaySettings, keys: Keys) -> Authenticator:
        realms = realms_of(settings, keys.secrets, self._own, self._own_relays, self._own_services)
        nonces = NonceSealer(keys.nonce_keys, settings.nonce_lifetime_seconds)
        return Authenticator(realms, nonces, offers_algorithms=settings.password_algorithms)

    def _listen(self, bound: Sequence[BoundSocket]) -> None:
        poller = self._poller
        assert poller is not None  # noqa: S101  # for the type checker
        own = frozenset(
            TransportAddress.parse(host, port) for transport, host, port, _ in bound if transport is Transport.UDP
        )
        for transport, host, port, sock in bound:
            address = TransportAddress.parse(host, port)
            if transport is Transport.UDP:
                self._listeners[address] = UdpListener(
                    poller,
                    address,
                    sock,
                    self._plane.drops,
                    self.receive,
                    own_listeners=own,
                    joins_runs=self._plane.joins_runs,
                )
            elif transport is Transport.DTLS:
                self._listen_dtls(poller, address, sock)
            else:
                self._stream_listeners.append(StreamListener(self._streams, sock, self._has_room))

    def _join_runs(self) -> None:
        """The kernel's program is gone: what it could not have taken apart may be joined."""
        for listener in self._listeners.values():
            listener.join_runs()

    def _listen_dtls(self, poller: Poller, address: TransportAddress, sock: socket.socket) -> None:
        from relay.io.dtls import DtlsListener  # noqa: PLC0415  # 10 MiB that most relays never need

        context = self._certificates.dtls
        if context is None:
            raise BindError("DTLS needs a certificate")
        room = _connection_limit(self._settings)
        listener = DtlsListener(poller, address, sock, context, self, self._keys.nonce_keys, room)
        self._dtls_listeners.append(listener)

    # The control plane's three queues

    def _drain(self) -> None:
        """Send and report all that the control plane has to say, then sleep until its deadline."""
        server = self._server
        if server is None:
            return
        while (transmit := server.poll_transmit()) is not None:
            data, path = transmit
            if path.transport is _UDP:
                self._listeners[path.server].send(data, path.client)
            elif (connection := self._connections.get(path)) is not None:
                connection.send_message(data)
        wake_by = server.wake_by
        if self._tcp_plane is not None and self._tcp_relaying is not None:
            self._tcp_plane.carry_out(self._tcp_relaying.poll_command)
            wake_by = server.poll_timeout() or math.inf
        while (event := server.poll_event()) is not None:
            self._counts.observe(event, self._received_at)
            if isinstance(event, _LOGGED) and event.secret not in self._keys.unlogged:
                # Anybody may have connection tests, and must not hide with them what the log says of consultations.
                _log_event(event, logging.DEBUG if event.is_trial else logging.INFO)
        if wake_by < self._alarm_at:
            self._sleep_until(wake_by)

    def _sleep_until(self, deadline: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = deadline
        self._alarm = self._loop.call_later(max(0.0, deadline - time.monotonic()), self._wake)

    def _wake(self) -> None:
        self._alarm = None
        self._alarm_at = math.inf
        if self._server is not None:
            self._server.handle_timeout(time.monotonic())
            self._drain()


def _log_event(event: AllocationCreated | AllocationDeleted, level: int) -> None:
    """One line when an allocation begins and one when it ends."""
    if isinstance(event, AllocationCreated):
        _log.log(level, "allocation begins over %s", event.transport.value)
        return
    _log.log(
        level,
        "allocation over %s ends after %.1f s (%s): %d bytes to the peer, %d bytes to the client",
        event.transport.value,
        event.seconds,
        event.ending.value,
        event.traffic.bytes_to_peer,
        event.traffic.bytes_to_client,
    )


def _guard(settings: RelaySettings) -> SourceGuard:
    # A source may be spread over all workers, which do not know of each other; one worker answers at least once.
    quota, workers = settings.quota, settings.workers
    burst = max(1, quota.challenge_burst // workers)
    return SourceGuard(os.urandom(_SALT_BYTES), per_second=quota.challenges_per_second / workers, burst=burst)


def _trial_guard(settings: RelaySettings) -> SourceGuard:
    # Spread over workers likewise; a single test is admitted wherever the kernel leads it.
    burst = max(ALLOCATIONS_PER_TEST, ALLOCATION_BURST // settings.workers)
    return SourceGuard(os.urandom(_SALT_BYTES), per_second=ALLOCATIONS_PER_SECOND / settings.workers, burst=burst)


def _pace(settings: RelaySettings) -> tuple[int, int]:
    return settings.quota.challenges_per_second, settings.quota.challenge_burst


def _limits(settings: RelaySettings) -> Limits:
    return Limits(settings.quota.bytes_per_second, settings.quota.peer_packets_per_second)


def _connection_limit(settings: RelaySettings) -> int:
    """How many connections, and associations, this process may have: its share of what all workers may."""
    return max(1, settings.quota.stream_connections // settings.workers)


def _own_ledger(settings: RelaySettings, addresses: Sequence[RelayAddress]) -> Ledger:
    share = settings.quota.total_share_percent
    ports = {
        family_of(address.bound): PortPool(settings.port_min, settings.port_max, share, Entropy())
        for address in addresses
    }
    return Ledger(ports, UserQuota(), Reservations(os.urandom))


def _discovery(listeners: Collection[TransportAddress], settings: RelaySettings) -> BehaviourDiscovery:
    """Behaviour discovery on all UDP listeners: two addresses of each family with two ports each."""
    alternates = {}
    for address in listeners:
        (ip,) = {other.ip for other in listeners if other.family == address.family} - {address.ip}
        (port,) = {other.port for other in listeners} - {address.port}
        alternates[address] = TransportAddress(ip, port)
    external = {
        ipaddress.ip_address(inner).packed: ipaddress.ip_address(outer).packed
        for inner, outer in settings.external_addresses.items()
    }
    guard = SourceGuard(os.urandom(_SALT_BYTES), per_second=STEERED_PER_SECOND, burst=STEERED_BURST)
    return BehaviourDiscovery(alternates, guard, external)


async def _resolve(addresses: Sequence[RelayAddress], settings: RelaySettings) -> list[RelayAddress]:
    """The relay addresses with what peers see them as: asked for where that is configured, and judged in any case.

    Raises:
        ExternalAddressError: an address cannot be right, or nobody told it.
    """
    servers = [TransportAddress.parse(*parse_server(text)) for text in settings.external_address_from]
    resolved = []
    for bound, configured in addresses:
        advertised = configured
        server = next((server for server in servers if server.family == family_of(bound)), None)
        if server is not None:
            seen = await ask_external_address(bound, server)
            if configured not in {bound, seen}:
                raise ExternalAddressError(
                    f"relay.external_addresses says {ipaddress.ip_address(configured)}, but {server} sees this machine"
                    f" as {ipaddress.ip_address(seen)}"
                )
            advertised = seen
        check_advertised(bound, advertised)
        resolved.append(RelayAddress(bound, advertised))
    seen_as = [ipaddress.ip_address(address.advertised) for address in resolved]
    if any(each.is_private and not each.is_loopback for each in seen_as):
        _log.warning(
            "a relay address is private: peers outside this network cannot reach it; behind a NAT set"
            " relay.external_addresses"
        )
    return resolved


def _check_bindable(address: RelayAddress) -> None:
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
