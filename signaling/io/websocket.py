"""The WebSocket `/ws`: carries the lobby's messages, and waits where the lobby must not."""

import asyncio
import logging
import re
from dataclasses import dataclass, field

from aiohttp import WSMsgType, web

from signaling.events import Event, RoomClosed, RoomOpened
from signaling.ice_servers import CredentialIssuer, InvalidHost, RelayPorts, list_ice_servers, resolve_host
from signaling.io.clocks import Clocks
from signaling.io.metrics import SignalingMetrics
from signaling.io.outbound import OutboundQueue, QueueOverflow
from signaling.io.store import AppointmentStore, StoreError
from signaling.lobby import Lobby
from signaling.messages import MAX_MESSAGE_BYTES
from signaling.rate_limiter import address_key
from signaling.settings import SignalingSettings
from signaling.transmit import CLOSE_NORMAL, Close, Lookup, Transmit

LOOKUP_TIMEOUT_SECONDS = 5.0
CLOSE_TIMEOUT_SECONDS = 1.0
SHUTDOWN_TIMEOUT_SECONDS = 2.0
TIMER_GRANULARITY_SECONDS = 0.01
SPARE_SOCKETS = 64  # beyond `max_clients`, to tell them overload over the socket; then HTTP 503

_ORIGIN = re.compile(r"https?://([^/?#@\s]+)", re.ASCII | re.IGNORECASE)
_logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class _Connection:
    socket: web.WebSocketResponse
    transport: asyncio.Transport | None
    host: str
    outbound: OutboundQueue = field(default_factory=OutboundQueue)

    def abort(self) -> None:
        """End the connection without waiting for the peer."""
        if self.transport is not None:
            self.transport.abort()


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
        self._lobby = lobby
        self._store = store
        self._issuer = issuer
        self._ports = ports
        self._metrics = metrics
        self._clocks = clocks
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
        self._lobby.configure(settings)

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
            timeout=CLOSE_TIMEOUT_SECONDS,
            heartbeat=self._settings.heartbeat_seconds,
            compress=False,  # sealed blobs do not shrink, and each compressor takes memory
            # The lobby refuses what is longer than the protocol allows; this is the bound of the buffer.
            max_msg_size=2 * MAX_MESSAGE_BYTES,
        )
        await socket.prepare(request)
        connection = _Connection(socket, request.transport, host)
        client = self._lobby.connect(_limiter_key(request), self._clocks.monotonic())
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
                    self._lobby.disconnect(client, self._clocks.monotonic())
                    self._drain()
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
        self._lobby.handle_timeout(self._clocks.monotonic())
        self._drain()

    async def close(self) -> None:
        """Send everybody away and wait a bounded time until they are gone."""
        self._closing = True
        self._lobby.drain(self._clocks.monotonic())
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
                self._lobby.receive_text(client, message.data, now)
            elif message.type is WSMsgType.BINARY:
                self._lobby.receive_binary(client, now)
            else:
                return
            self._drain()
            # Only this client's lookup can be here: whoever causes one takes it in the same step.
            while (lookup := self._lobby.poll_lookup()) is not None:
                await self._look_up(lookup, connection.host)

    async def _write(self, connection: _Connection) -> None:
        try:
            await connection.outbound.write_to(connection.socket)
        except TimeoutError:
            self._metrics.count_slow_reader()
            connection.abort()
        except ConnectionError as error:
            # The reader sees the end of the socket too, and reports it to the lobby.
            _logger.debug("a socket ended while it was written to: %s", type(error).__name__)

    async def _look_up(self, lookup: Lookup, host: str) -> None:
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT_SECONDS):
                seat = await self._store.find(lookup.locator)
        except (StoreError, TimeoutError) as error:
            self._metrics.count_store_failure()
            _logger.error("a join failed on the store: %r", error)  # noqa: TRY400 - one line a join is enough
            self._lobby.fail_lookup(lookup.client, self._clocks.monotonic())
        else:
            utc = self._clocks.utc_now()
            ice = list_ice_servers(host, self._ports, self._issuer, int(utc.timestamp())) if seat else ()
            self._lobby.finish_lookup(lookup.client, seat, ice, now=self._clocks.monotonic(), utc=utc)
        self._drain()

    def _drain(self) -> None:
        """Send and report all that the lobby has to say, then sleep until its deadline."""
        while (output := self._lobby.poll_transmit()) is not None:
            self._send(output)
        while (event := self._lobby.poll_event()) is not None:
            self._observe(event)
        self._sleep_until(self._lobby.poll_timeout())

    def _send(self, output: Transmit | Close) -> None:
        connection = self._connections.get(output.client)
        if connection is None:
            return  # the socket has ended, and its handler is about to say so
        if isinstance(output, Close):
            connection.outbound.close(output.code)
            return
        try:
            connection.outbound.put(output.text)
        except QueueOverflow:
            self._metrics.count_slow_reader()
            connection.abort()
            self._lobby.disconnect(output.client, self._clocks.monotonic())

    def _observe(self, event: Event) -> None:
        self._metrics.observe(event)
        match event:
            case RoomOpened(tier=tier):
                _logger.info("room opened, %s", tier)
            case RoomClosed(tier=tier, seconds=seconds, paired=paired):
                _logger.info("room closed after %.0f s, %s, %s", seconds, tier, "paired" if paired else "unpaired")

    def _sleep_until(self, deadline: float | None) -> None:
        if self._timer is not None and (deadline is None or self._timer_at > deadline):
            self._timer.cancel()
            self._timer = None
        if deadline is None or self._closing or self._timer is not None:
            return  # a timer that is too early wakes up, finds nothing due, and sleeps on
        delay = max(deadline - self._clocks.monotonic(), TIMER_GRANULARITY_SECONDS)
        self._timer_at = deadline
        self._timer = asyncio.get_running_loop().call_later(delay, self.handle_timeout)


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


def _limiter_key(request: web.Request) -> bytes:
    try:
        return address_key(request.remote or "")
    except ValueError:
        return b""  # no IP transport: all such clients count as one
