"""The WebSocket `/ws`: carries the lobby's messages, and waits where the lobby must not."""

import asyncio
import contextlib
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from aiohttp import WSMsgType, web

from signaling.appointments import Seat
from signaling.conference_media import ConferenceMedia, MediaMessage
from signaling.events import BlobDropped, Event, RoomClosed, RoomOpened
from signaling.exchange import Exchange, Place, Placement, Post, Release, Save
from signaling.ice_servers import (
    CredentialIssuer,
    IceServer,
    InvalidHost,
    RelayPorts,
    list_ice_servers,
    name_subject,
    resolve_host,
)
from signaling.io.clocks import Clocks
from signaling.io.failure_log import FailureLog
from signaling.io.metrics import SignalingMetrics
from signaling.io.outbound import SEND_TIMEOUT_SECONDS, OutboundQueue, QueueOverflow
from signaling.io.store import AppointmentStore, StoreError
from signaling.lobby import Lobby
from signaling.messages import MAX_MESSAGE_BYTES
from signaling.node_messages import NodeId, NodeMessage
from signaling.rate_limiter import networks_around, peer_key
from signaling.settings import SignalingSettings
from signaling.transmit import CLOSE_NORMAL, Close, Lookup, Transmit

LOOKUP_TIMEOUT_SECONDS = 5.0
CLOSE_TIMEOUT_SECONDS = 1.0
SHUTDOWN_TIMEOUT_SECONDS = 2.0
TIMER_GRANULARITY_SECONDS = 0.01
SPARE_SOCKETS = 64  # beyond `max_clients`, to tell them overload over the socket; then HTTP 503

_CONTROL = (WSMsgType.PING, WSMsgType.PONG)
_FRAMES = (WSMsgType.TEXT, WSMsgType.BINARY, *_CONTROL)
_ORIGIN = re.compile(r"https?://([^/?#@\s]+)", re.ASCII | re.IGNORECASE)
_logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Connection:
    socket: web.WebSocketResponse
    transport: asyncio.Transport | None
    host: str
    remote: str | None  # the client's address, if it has one
    subject: bytes = b""  # whom its relay credentials are issued for, once it has a seat
    outbound: OutboundQueue = field(default_factory=OutboundQueue)
    is_read_out: asyncio.Event = field(default_factory=asyncio.Event)  # nothing more is read from the socket

    def close(self) -> None:
        """End the connection once all that was sent has left."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """End the connection without waiting for the peer."""
        if self.transport is not None:
            self.transport.abort()


class BusError(Exception):
    """The bus cannot answer, or does not say what a bus says."""


class Bus(Protocol):
    """What joins several nodes; see `signaling.io.redis_bus`."""

    def name_address(self, address: bytes) -> bytes:
        """Name an address for counting, the same on every node, without telling it."""
        ...

    def submit(self, command: Post | Save | Release) -> None:
        """Do what the exchange asks for, in order."""
        ...

    def place(self, room_id: bytes) -> asyncio.Future[Placement]:
        """Ask for the home of a room. The future may raise BusError."""
        ...

    async def leave(self) -> None:
        """Let other nodes have the rooms of this one."""
        ...


class WebSocketEndpoint:
    """Joins the lobby to sockets, store and clocks."""

    def __init__(
        self,
        settings: SignalingSettings,
        lobby: Lobby,
        store: AppointmentStore,
        *,
        issuer: CredentialIssuer,
        ports: RelayPorts,
        metrics: SignalingMetrics,
        clocks: Clocks,
    ) -> None:
        """Prepare the endpoint. `handle` is an aiohttp handler."""
        self._settings = settings
        self._exchange = Exchange(lobby)
        self._bus: Bus | None = None
        self._media: ConferenceMedia | None = None
        self._store = store
        self._issuer = issuer
        self._ports = ports
        self._metrics = metrics
        self._clocks = clocks
        self._store_failures = FailureLog(_logger, logging.ERROR, "a join failed on the store")
        self._bus_failures = FailureLog(_logger, logging.WARNING, "a join failed on the bus")
        self._connections: dict[int, _Connection] = {}
        self._empty = asyncio.Event()
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def configure(self, settings: SignalingSettings, issuer: CredentialIssuer, ports: RelayPorts) -> None:
        """Take other settings, credentials and relay ports into use; connections stay as they are."""
        self._settings = settings
        self._issuer = issuer
        self._ports = ports
        self._exchange.configure(settings)

    def use_bus(self, bus: Bus) -> None:
        """Share rooms with other nodes; before the first client comes."""
        self._bus = bus

    def use_media(self, media: ConferenceMedia) -> None:
        """Let conferences begin, whose media go through this media server; before the first client comes."""
        self._media = media
        self._exchange.lobby.use_media()

    def tell(self, room: bytes, pid: str, said: MediaMessage) -> None:
        """Hand on what the media server says to a participant of a conference. It may be gone."""
        self._exchange.tell(room, pid, said)
        self._drain()

    def end_conferences(self, seconds: int) -> None:
        """Let no conference begin any more, and tell those that have begun how long they may go on."""
        self._exchange.end_conferences(seconds, self._clocks.monotonic())
        self._drain()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one WebSocket from its handshake to its end.

        Raises:
            HTTPBadRequest: the Host header is malformed, or this is no WebSocket handshake.
            HTTPForbidden: another site's page opens the socket, or no page at all.
            HTTPServiceUnavailable: there are more sockets than may be told why not.
        """
        host = _check_host(request, self._settings.ice.host)
        _check_origin(request, self._settings.public_url)
        if len(self._connections) >= self._settings.max_clients + SPARE_SOCKETS:
            raise web.HTTPServiceUnavailable
        socket = web.WebSocketResponse(
            heartbeat=self._settings.heartbeat_seconds,
            # Both would go through what a peer has sent without letting anybody else run: a flood would stop the loop.
            autoping=False,
            autoclose=False,
            compress=False,  # sealed blobs do not shrink, and each compressor takes memory
            # The lobby refuses what is longer than the protocol allows; this is the bound of the buffer.
            max_msg_size=2 * MAX_MESSAGE_BYTES,
        )
        try:
            await socket.prepare(request)
        except ConnectionError as error:
            _logger.debug("a socket ended in its handshake: %s", type(error).__name__)
            return web.Response()  # nobody is there to read it
        connection = _Connection(socket, request.transport, host, request.remote)
        address = peer_key(request.remote)
        if self._bus is not None:  # other nodes count it, too, and need not know it for that
            address = self._bus.name_address(address)
        client = self._exchange.connect(address, self._clocks.monotonic(), networks_around(request.remote))
        self._connections[client] = connection
        self._empty.clear()
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write(connection))
                self._drain()
                try:
                    await self._read(client, connection)
                finally:
                    # The others learn it now, not when the last byte to this socket has found its end.
                    self._exchange.disconnect(client, self._clocks.monotonic())
                    self._drain()
                    connection.is_read_out.set()
                    connection.outbound.close(CLOSE_NORMAL)
        finally:
            del self._connections[client]
            if not self._connections:
                self._empty.set()
        return socket

    def handle_timeout(self) -> None:
        """Let the lobby do what is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._exchange.handle_timeout(self._clocks.monotonic())
        self._drain()

    async def close(self) -> None:
        """Send everybody away and wait a bounded time until they are gone."""
        self._closing = True
        if self._bus is not None:
            # First the rooms, then the clients: whoever comes to another node finds its seat there.
            self._exchange.leave_bus()
            await self._bus.leave()
        self._exchange.drain(self._clocks.monotonic())
        self._drain()
        if self._timer is not None:
            self._timer.cancel()
        if not self._connections:
            return
        try:
            async with asyncio.timeout(SHUTDOWN_TIMEOUT_SECONDS):
                await self._empty.wait()
        except TimeoutError:
            for connection in self._connections.values():
                connection.abort()

    async def _read(self, client: int, connection: _Connection) -> None:
        """Feed the lobby until the socket ends. The heartbeat bounds the wait for a silent peer."""
        while True:
            message = await connection.socket.receive()
            now = self._clocks.monotonic()
            if message.type is WSMsgType.TEXT:
                self._exchange.receive_text(client, message.data, now)
            elif message.type is WSMsgType.BINARY:
                self._exchange.receive_binary(client, now)
            elif message.type in _CONTROL:
                self._exchange.receive_control(client, now)
            else:
                return
            self._drain()
            if not self._exchange.lobby.has_client(client):
                await _read_out(connection.socket)
                return
            if message.type is WSMsgType.PING and not await self._answer_ping(connection, message.data):
                return
            # Only this client's lookup can be here: whoever causes one takes it in the same step.
            while (lookup := self._exchange.poll_lookup()) is not None:
                await self._look_up(lookup, connection)

    async def _answer_ping(self, connection: _Connection, payload: bytes) -> bool:
        """Send a pong; False: the socket has ended, or its peer does not read."""
        try:
            async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                await connection.socket.pong(payload)
        except TimeoutError:
            self._metrics.count_slow_reader()
            connection.abort()
        except ConnectionError as error:
            _logger.debug("a socket ended while a ping was answered: %s", type(error).__name__)
        else:
            return True
        return False

    async def _write(self, connection: _Connection) -> None:
        try:
            await connection.outbound.write_to(connection.socket)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
                    await connection.is_read_out.wait()
            connection.close()
        except TimeoutError:
            self._metrics.count_slow_reader()
            connection.abort()
        except ConnectionError as error:
            # The reader sees the end of the socket too, and reports it to the lobby.
            _logger.debug("a socket ended while it was written to: %s", type(error).__name__)

    async def _look_up(self, lookup: Lookup, connection: _Connection) -> None:
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT_SECONDS):
                seat = await self._store.find(lookup.locator)
        except (StoreError, TimeoutError) as error:
            self._metrics.count_store_failure()
            now = self._clocks.monotonic()
            self._store_failures.report(error, now)
            self._exchange.fail_lookup(lookup.client, now)
        else:
            await self._finish_lookup(lookup.client, seat, connection)
        self._drain()

    async def _finish_lookup(self, client: int, seat: Seat | None, connection: _Connection) -> None:
        placement = None
        if seat is not None and self._bus is not None and self._exchange.wants_home(seat, self._clocks.utc_now()):
            try:
                async with asyncio.timeout(LOOKUP_TIMEOUT_SECONDS):
                    placement = await self._bus.place(seat.appointment.room_id)
            except (BusError, TimeoutError) as error:
                now = self._clocks.monotonic()
                self._bus_failures.report(error, now)
                self._exchange.fail_lookup(client, now)
                return
        utc = self._clocks.utc_now()
        ice: tuple[IceServer, ...] = ()
        if seat is not None:
            connection.subject = name_subject(seat, connection.remote)
            ice = self._list_ice_servers(connection, utc)
        self._exchange.finish_lookup(client, seat, ice, placement, now=self._clocks.monotonic(), utc=utc)

    # --- the bus ---

    def on_bus_joined(self, node: NodeId) -> None:
        """Begin anew on the bus."""
        self._exchange.join_bus(node, self._clocks.monotonic())
        self._drain()

    def on_bus_lost(self) -> None:
        """Go on alone."""
        self._exchange.lose_bus()

    def on_node_lost(self, node: NodeId) -> None:
        """Another node is gone."""
        self._exchange.lose_node(node, self._clocks.monotonic())
        self._drain()

    def on_room_lost(self, room_id: bytes) -> None:
        """Another node has this room."""
        self._exchange.lose_room(room_id, self._clocks.monotonic())
        self._drain()

    def on_room_forgotten(self, room_id: bytes) -> None:
        """The bus does not know this room any more."""
        self._exchange.save_again(room_id)
        self._drain()

    def on_node_message(self, sender: NodeId, message: NodeMessage) -> None:
        """Another node has said something."""
        self._exchange.receive(sender, message, now=self._clocks.monotonic(), utc=self._clocks.utc_now())
        self._drain()

    def linked_nodes(self) -> Iterable[NodeId]:
        """Name the nodes whose end matters here."""
        return self._exchange.nodes()

    def local_rooms(self) -> Iterable[bytes]:
        """Name the rooms that are here."""
        return self._exchange.lobby.room_ids()

    def _command(self, bus: Bus, command: Post | Save | Release | Place) -> None:
        if not isinstance(command, Place):
            bus.submit(command)
            return
        client, room_id = command
        bus.place(room_id).add_done_callback(lambda future: self._finish_placement(client, room_id, future))

    def _finish_placement(self, client: int, room_id: bytes, future: asyncio.Future[Placement]) -> None:
        placement = None if future.cancelled() or future.exception() is not None else future.result()
        now, utc = self._clocks.monotonic(), self._clocks.utc_now()
        self._exchange.finish_placement(client, room_id, placement, now=now, utc=utc)
        self._drain()

    def _drain(self) -> None:
        """Send and report all that the lobby has to say, then sleep until its deadline."""
        while self._bus is not None and (command := self._exchange.poll_command()) is not None:
            self._command(self._bus, command)
        while (client := self._exchange.poll_renewal()) is not None:
            self._renew(client)
        while (output := self._exchange.poll_transmit()) is not None:
            self._send(output)
        while self._media is not None and (call := self._exchange.poll_media()) is not None:
            call.carry_out(self._media)  # after what was said: `admitted` comes before the first offer
        while (event := self._exchange.poll_event()) is not None:
            self._observe(event)
        self._sleep_until(self._exchange.poll_timeout())

    def _renew(self, client: int) -> None:
        connection = self._connections.get(client)
        if connection is None:
            return  # the socket has ended, and its handler is about to say so
        ice = self._list_ice_servers(connection, self._clocks.utc_now())
        self._exchange.renew(client, ice, self._clocks.monotonic())

    def _list_ice_servers(self, connection: _Connection, utc: datetime) -> tuple[IceServer, ...]:
        now_unix = int(utc.timestamp())
        return list_ice_servers(connection.host, self._ports, self._issuer, now_unix, connection.subject)

    def _send(self, output: Transmit | Close) -> None:
        connection = self._connections.get(output.client)
        if connection is None:
            return  # the socket has ended, and its handler is about to say so
        if isinstance(output, Close):
            connection.outbound.close(output.code)
            return
        try:
            connection.outbound.put(output.text, droppable=output.droppable)
        except QueueOverflow:
            if output.droppable:
                self._metrics.observe(BlobDropped())
                return
            self._metrics.count_slow_reader()
            connection.abort()
            self._exchange.disconnect(output.client, self._clocks.monotonic())

    def _observe(self, event: Event) -> None:
        self._metrics.observe(event)
        match event:
            case RoomOpened(tier=tier, conference=conference):
                _logger.info("%s opened, %s", "conference" if conference else "room", tier)
            case RoomClosed(tier=tier, seconds=seconds, paired=paired, conference=False):
                _logger.info("room closed after %.0f s, %s, %s", seconds, tier, "paired" if paired else "unpaired")
            case RoomClosed(tier=tier, seconds=seconds, paired=admitted):
                begun = "begun" if admitted else "not begun"
                _logger.info("conference closed after %.0f s, %s, %s", seconds, tier, begun)

    def _sleep_until(self, deadline: float | None) -> None:
        if self._timer is not None and (deadline is None or self._timer_at > deadline):
            self._timer.cancel()
            self._timer = None
        if deadline is None or self._closing or self._timer is not None:
            return  # a timer that is too early wakes up, finds nothing due, and sleeps on
        delay = max(deadline - self._clocks.monotonic(), TIMER_GRANULARITY_SECONDS)
        self._timer_at = deadline
        self._timer = asyncio.get_running_loop().call_later(delay, self.handle_timeout)


async def _read_out(socket: web.WebSocketResponse) -> None:
    """Drop what a client still sends until its end, which whoever writes to it brings about within a bounded time."""
    while (await socket.receive()).type in _FRAMES:  # noqa: ASYNC110 - what is waited for is the peer
        await asyncio.sleep(0)  # what has been received already comes without a pause, and may be a lot


def _check_host(request: web.Request, configured: str) -> str:
    values = request.headers.getall("Host", [])
    try:
        return resolve_host(configured, values[0] if len(values) == 1 else "")
    except InvalidHost as error:
        raise web.HTTPBadRequest from error


def _check_origin(request: web.Request, public_url: str) -> None:
    """Let only our own pages open the socket: browsers always say where a page comes from.

    The page's address is `public_url`. Without one, the Host header must do, which another name for this
    machine passes, too.
    """
    values = request.headers.getall("Origin", [])
    match = _ORIGIN.fullmatch(values[0]) if len(values) == 1 else None
    if match is None:
        raise web.HTTPForbidden
    own = (
        _origin(values[0]) == _origin(public_url) if public_url else match[1].lower() == request.headers["Host"].lower()
    )
    if not own:
        raise web.HTTPForbidden


def _origin(url: str) -> str:
    """Write scheme, host and port as browsers do: in lower case, and without the port of the scheme."""
    scheme, _, authority = url.lower().partition("://")
    return f"{scheme}://{authority.removesuffix(':443' if scheme == 'https' else ':80')}"
