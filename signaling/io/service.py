"""The signaling service: builds lobby, application and listeners, and stops them in bounded time."""

import asyncio
import contextlib
import logging
import secrets
import ssl
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from signaling.conference_media import ConferenceMedia, MediaMessage
from signaling.connection_limits import ConnectionLimits
from signaling.connection_test import TrialIssuer
from signaling.ice_servers import CredentialIssuer, RelayPorts
from signaling.io.api import AppointmentApi
from signaling.io.app import WEB_ROOT, build_app
from signaling.io.clocks import Clocks
from signaling.io.connection_test import ConnectionTests
from signaling.io.http import SPARE_CONNECTIONS, GuardedRunner
from signaling.io.info_pages import InfoPages
from signaling.io.listening import Listener, bind
from signaling.io.metrics import ConnectionCollector, SignalingMetrics
from signaling.io.store import AppointmentStore, StoreError
from signaling.io.websocket import WebSocketEndpoint
from signaling.lobby import Lobby
from signaling.reverse_proxies import ReverseProxies
from signaling.settings import SignalingSettings

if TYPE_CHECKING:
    from signaling.io.redis_bus import RedisBus

STOP_TIMEOUT_SECONDS = 3.0
REQUEST_GRACE_SECONDS = 0.25  # waited for up to twice by aiohttp, after the endpoint's own two seconds
PURGE_INTERVAL_SECONDS = 3600.0
PURGE_GRACE_SECONDS = 2.0  # a statement cut off leaves its connection to a thread that outlives the event loop

_logger = logging.getLogger(__name__)


class SignalingService:
    """Pages, WebSocket and API of one process."""

    def __init__(  # noqa: PLR0913 - all of it comes from outside, by name
        self,
        settings: SignalingSettings,
        store: AppointmentStore,
        *,
        issuer: CredentialIssuer,
        relay_ports: RelayPorts,
        trials: TrialIssuer | None = None,
        registry: CollectorRegistry,
        ssl_context: ssl.SSLContext | None = None,
        web_root: Path = WEB_ROOT,
        clocks: Clocks | None = None,
        bus_key: bytes = b"",
    ) -> None:
        """Prepare the service; nothing is opened before `start`.

        Args:
            settings: bounds, addresses and port.
            store: the appointments, opened by whoever made it, and closed by them after `stop`.
            issuer: issues the relay's credentials.
            relay_ports: where the relay listens; empty without a relay.
            trials: issues credentials for connection tests; None: there are none.
            registry: receives the metrics.
            ssl_context: serves https instead of http.
            web_root: the folder of the page.
            clocks: the clocks to go by; the system's by default.
            bus_key: a secret that all nodes share, at least 32 bytes; needed with `redis_url` only.
        """
        self._settings = settings
        self._relay_ports = relay_ports
        self._store = store
        self._ssl_context = ssl_context
        self._web_root = web_root
        self._clocks = clocks or Clocks()
        self._metrics = SignalingMetrics(registry)
        self._endpoint = WebSocketEndpoint(
            settings,
            Lobby(settings, secrets.token_bytes, note_changes=bool(settings.redis_url.get_secret_value())),
            store,
            issuer=issuer,
            ports=relay_ports,
            metrics=self._metrics,
            clocks=self._clocks,
        )
        self._pages: InfoPages | None = None
        self._api = AppointmentApi(settings, store, metrics=self._metrics, clocks=self._clocks)
        self._tests = ConnectionTests(settings, relay_ports, trials, clocks=self._clocks)
        self._bus = self._build_bus(bus_key, registry) if settings.redis_url.get_secret_value() else None
        self._proxies = ReverseProxies(settings.proxies)
        self._limits = ConnectionLimits(settings.max_clients + SPARE_CONNECTIONS, settings.connections_per_address)
        registry.register(ConnectionCollector(self._limits, settings.max_clients))
        self._runner: GuardedRunner | None = None
        self._listeners: list[Listener] = []
        self._purging: asyncio.Task[None] | None = None
        self._purge_no_more = asyncio.Event()
        self._stopping = False

    def use_media(self, media: ConferenceMedia) -> None:
        """Let conferences begin, whose media go through `media`; before `start`. Without it they are refused.

        Whoever makes the media server gives it `tell` of this service. It is called in the event loop of this service,
        from `start` until the end of `stop`, after which every `enter` has had its `leave`.
        """
        self._endpoint.use_media(media)
        self._api.use_media()

    def tell(self, room: bytes, pid: str, said: MediaMessage) -> None:
        """Hand on what the media server says to a participant of a conference.

        Args:
            room: id of the room, as `ConferenceMedia.enter` named it.
            pid: the participant, who may have gone.
            said: what it is to hear.
        """
        self._endpoint.tell(room, pid, said)

    def end_conferences(self, seconds: int) -> None:
        """Let no conference begin any more, and tell everybody in those that have begun how long they may go on."""
        self._endpoint.end_conferences(seconds)

    @property
    def ready(self) -> bool:
        """Whether new clients are welcome and all that should run runs."""
        return self._purging is not None and not self._purging.done() and not self._stopping

    @property
    def on_bus(self) -> bool | None:
        """Whether this node can reach the others; None if it is to be alone."""
        return None if self._bus is None else self._bus.connected and not self._bus.failed

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The addresses and ports that are listened on."""
        return [listener.address for listener in self._listeners]

    async def start(self) -> None:
        """Read the page, listen, and begin to delete old appointments.

        Raises:
            FileNotFoundError: there is no page.
            OSError: an address or the port cannot be listened on.
        """
        pages = self._pages = InfoPages(self._settings, self._relay_ports, self._web_root)
        api = self._api.build(self._tests.handle)
        app = build_app(self._endpoint.handle, self._web_root, pages=pages.handle, api=api, proxies=self._proxies)
        runner = self._runner = GuardedRunner(app, limits=self._limits, shutdown_timeout=REQUEST_GRACE_SECONDS)
        try:
            await runner.setup()
            for host in self._settings.listen_addresses or (None,):
                for sock in bind(host, self._settings.port):
                    listener = Listener(sock, self._limits, runner.make_counted, self._ssl_context, self._proxies)
                    self._listeners.append(listener)
        except BaseException:
            await self._stop_listening()
            await runner.cleanup()
            self._runner = None
            raise
        if self._bus is not None:
            await self._bus.start()
        self._purge_no_more.clear()
        self._purging = asyncio.create_task(self._purge_forever(), name="signaling purge")

    def configure(
        self,
        settings: SignalingSettings,
        issuer: CredentialIssuer,
        relay_ports: RelayPorts,
        trials: TrialIssuer | None = None,
    ) -> None:
        """Take other settings into use, save those of the listening sockets; clients stay."""
        self._settings = settings
        self._relay_ports = relay_ports
        self._endpoint.configure(settings, issuer, relay_ports)
        if self._pages is not None:
            self._pages.configure(settings, relay_ports)
        self._api.configure(settings)
        self._tests.configure(settings, relay_ports, trials)
        self._limits.configure(settings.connections_per_address)
        self._proxies.configure(settings.proxies)
        if self._bus is not None:
            self._bus.configure(settings.seat_hold_seconds)

    @property
    def http(self) -> Callable[[], asyncio.Protocol]:
        """Makes the protocol of one more HTTP connection that somebody else has accepted.

        Raises:
            RuntimeError: the service does not run.
        """
        if self._runner is None or self._runner.server is None:
            raise RuntimeError("the pages are not served")
        return self._runner.server

    async def stop(self) -> None:
        """Send every client away (`drain`, then 1001) and close: three seconds, and two for a deletion that goes on.

        Raises:
            Exception: what ended the deletion of old appointments before its time, if anything did.
        """
        self._stopping = True
        try:
            async with asyncio.timeout(STOP_TIMEOUT_SECONDS):
                await self._stop_serving()
        finally:
            if self._bus is not None:
                await self._bus.stop()
            await self._stop_purging()

    async def purge(self) -> None:
        """Delete the appointments whose codes have ended."""
        age = timedelta(hours=self._settings.entry_closes_hours)
        try:
            deleted = await self._store.delete_started_before(self._clocks.utc_now() - age)
        except StoreError as error:
            self._metrics.count_store_failure()
            _logger.error("old appointments were not deleted: %r", error)  # noqa: TRY400 - it is tried again
        else:
            _logger.debug("%d old appointments deleted", deleted)

    def _build_bus(self, key: bytes, registry: CollectorRegistry) -> "RedisBus":
        from signaling.io.bus_metrics import BusMetrics  # noqa: PLC0415 - a node that is alone needs neither
        from signaling.io.redis_bus import RedisBus  # noqa: PLC0415

        bus = RedisBus(
            self._settings.redis_url.get_secret_value(),
            key,
            self._endpoint,
            hold_seconds=self._settings.seat_hold_seconds,
            metrics=BusMetrics(registry),
        )
        self._endpoint.use_bus(bus)
        return bus

    async def _purge_forever(self) -> None:
        while not self._purge_no_more.is_set():
            await self.purge()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PURGE_INTERVAL_SECONDS):
                    await self._purge_no_more.wait()

    async def _stop_serving(self) -> None:
        runner, self._runner = self._runner, None
        if runner is None:
            return
        await self._stop_listening()
        await self._endpoint.close()
        await runner.cleanup()

    async def _stop_listening(self) -> None:
        while self._listeners:
            await self._listeners.pop().stop()

    async def _stop_purging(self) -> None:
        task, self._purging = self._purging, None
        if task is None:
            return
        self._purge_no_more.set()
        await asyncio.wait([task], timeout=PURGE_GRACE_SECONDS)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            if not task.cancelled():
                raise  # it was not the task that was cancelled, but whoever stops us
