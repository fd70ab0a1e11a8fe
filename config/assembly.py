"""The only place that builds: settings and state go in, a running service comes out."""

import asyncio
import base64
import contextlib
import hmac
import logging
import os
import resource
import signal
import ssl
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

import prometheus_client
import uvloop
from prometheus_client import CollectorRegistry
from rich.console import Console

from config.admin import AdminServer, Check, Refresh
from config.announce import create_appointment, print_demo
from config.certificates import CertificateCollector
from config.garbage import spare_the_collector
from config.host_metrics import ConntrackCollector
from config.lifecycle_metrics import LifecycleMetrics
from config.logs import configure_logging
from config.loop_lag import LoopLag
from config.mistakes import ConfigError
from config.notify import Notifier
from config.reload import ReloadFailed, applicable, differences
from config.schema import Settings
from config.state import State, StateError, open_state
from signaling.appointments import Tier
from signaling.ice_servers import PortRange, RelayPorts
from stun.credentials import issue_credential

if TYPE_CHECKING:
    from config.tls import ReloadingContext
    from signaling.conference_media import ConferenceMedia
    from signaling.io.service import SignalingService
    from signaling.io.store import AppointmentStore

_LOGGER: Final = logging.getLogger(__name__)
_FAILED: Final = 1
_HTTP_ALPN: Final = ("http/1.1",)
_IDENTITY_BYTES: Final = 9
_DRAIN_LOOK_SECONDS: Final = 0.1  # between two looks at how many allocations are left


class CannotStart(Exception):
    """A part did not start; the message says in one line why."""


class Relay(Protocol):
    """The relay of this machine, in this process or in many."""

    @property
    def ready(self) -> bool:
        """Whether new clients are welcome."""
        ...

    @property
    def allocations(self) -> int:
        """Live allocations."""
        ...

    async def drain(self) -> None:
        """Refuse new allocations from now on."""
        ...

    async def reload(self, settings: Settings, state: State) -> None:
        """Take other settings and secrets into use, or change nothing.

        Raises:
            ReloadFailed: they are unfit.
        """
        ...

    async def stop(self) -> None:
        """Close everything."""
        ...


class Sfu(Protocol):
    """The SFU of this machine, in this process or in many."""

    @property
    def media(self) -> "ConferenceMedia":
        """The SFU as the rooms drive it."""
        ...

    @property
    def ready(self) -> bool:
        """Whether new conferences are welcome."""
        ...

    @property
    def members(self) -> int:
        """People in conferences."""
        ...

    def drain(self) -> None:
        """Let no conference begin any more."""
        ...

    async def reload(self, settings: Settings) -> None:
        """Take other settings into use, as far as that needs no restart."""
        ...

    async def stop(self) -> None:
        """End all connections."""
        ...


class TurnCredentials:
    """Issues what the relay of this installation accepts: both sides know the same secret."""

    def __init__(self, secret: bytes, lifetime: int, identity_key: bytes) -> None:
        """Prepare.

        Args:
            secret: shared with the relay.
            lifetime: of a credential, in seconds.
            identity_key: shared by all nodes, so that a subject is called the same at each of them.
        """
        self._secret = secret
        self._lifetime = lifetime
        self._identity_key = identity_key

    def issue(self, now_unix: int, subject: bytes) -> tuple[str, str]:
        """A user name that says nothing about a person or room to anybody without the key, and its password."""
        digest = hmac.digest(self._identity_key, b"turn identity\0" + subject, "sha256")
        identity = base64.urlsafe_b64encode(digest[:_IDENTITY_BYTES]).decode()
        return issue_credential(self._secret, now_unix + self._lifetime, identity)


def run_service(settings: Settings, state: State, load: Callable[[], Settings], *, demo: bool) -> int:
    """Run until SIGTERM or SIGINT and return the exit status: 0 after a clean end, 1 if it could not start.

    Args:
        settings: what to run.
        state: secrets and files.
        load: reads the settings anew, for SIGHUP; raises ConfigError.
        demo: whether to create an appointment and print its links.
    """
    _raise_descriptor_limit()
    # Next to every counter the library would expose the instant of its creation: twice the series, no use to us.
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        uvloop.run(_Installation(settings, state, load).run(demo=demo))
    except (OSError, CannotStart) as error:
        _LOGGER.error("cannot start: %s", error)  # noqa: TRY400  # a traceback would not help the operator
        return _FAILED
    return 0


def _raise_descriptor_limit() -> None:
    """Every allocation and every client is a descriptor; a login shell's soft limit would end the service at 1024."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):  # some kernels refuse "unlimited"; then the soft limit stays
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Installation:
    """All that one process runs, and how it changes and ends."""

    def __init__(self, settings: Settings, state: State, load: Callable[[], Settings]) -> None:
        self._settings = settings
        self._state = state
        self._load = load
        self._registry = CollectorRegistry()
        self._checks: dict[str, Check] = {}
        self._notifier = Notifier.from_environment(os.environ)
        self._relay: Relay | None = None
        self._signaling: SignalingService | None = None
        self._sfu: Sfu | None = None
        self._store: AppointmentStore | None = None
        self._refreshes: list[Refresh] = []  # of what other processes have counted
        self._ending = asyncio.Event()
        self._hurry = asyncio.Event()
        self._reloading: asyncio.Task[None] | None = None
        self._reload_again = False  # somebody asked while the files of an earlier wish were being read
        self._certificate: ReloadingContext | None = None  # of the pages, and of the relay in this process
        self._lifecycle = LifecycleMetrics(self._registry)
        self._registry.register(ConntrackCollector())

    async def run(self, *, demo: bool) -> None:
        """Start everything, wait for the end, stop everything."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._on_sigterm)
        loop.add_signal_handler(signal.SIGINT, self._on_sigint)
        loop.add_signal_handler(signal.SIGHUP, self._on_sighup)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._notifier.close)
            lag = LoopLag(self._registry)
            lag.start()
            stack.push_async_callback(lag.stop)
            if "signaling" in self._settings.services:
                await self._start_signaling(stack)
            if "relay" in self._settings.services:
                await self._start_relay(stack)
            admin = AdminServer(self._settings.admin, self._registry, self._checks, self._refresh)
            await admin.start()
            stack.push_async_callback(admin.stop)
            if demo and self._store is not None:
                created = await create_appointment(self._store, datetime.now(UTC), Tier.BASIS)
                print_demo(Console(highlight=False), created, self._settings)
                sys.stdout.flush()
            spare_the_collector()
            self._notifier.tell_ready()
            await self._ending.wait()
            await self._drain()
            _LOGGER.info("stopping")
            if self._reloading is not None:
                self._reloading.cancel()
        _LOGGER.info("stopped")

    # Signals

    def _on_sigterm(self) -> None:
        if self._ending.is_set():
            self._hurry.set()
        self._ending.set()

    def _on_sigint(self) -> None:
        self._ending.set()
        self._hurry.set()

    def _on_sighup(self) -> None:
        self._reload_again = True
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.get_running_loop().create_task(self._reload_as_asked(), name="reload")

    async def _drain(self) -> None:
        """Let allocations and conferences end by themselves, until their deadlines or until somebody asks again."""
        longest = 0 if self._hurry.is_set() else self._drain_seconds()
        self._notifier.tell_stopping(longest)
        if not longest:
            return
        self._lifecycle.show_drain(time.time() + longest)
        begun_at = time.monotonic()
        left: list[tuple[float, Callable[[], int]]] = []
        relay, seconds = self._relay, self._settings.relay.drain_seconds
        if relay is not None and seconds:
            await relay.drain()
            _LOGGER.info("draining: %d allocations may go on for %d s", relay.allocations, seconds)
            left.append((begun_at + seconds, lambda: relay.allocations))
        sfu, seconds = self._sfu, self._settings.sfu.drain_seconds
        if sfu is not None and seconds:
            sfu.drain()
            if self._signaling is not None:
                self._signaling.end_conferences(seconds)
            _LOGGER.info("draining: %d people in conferences may go on for %d s", sfu.members, seconds)
            left.append((begun_at + seconds, lambda: sfu.members))
        while any(count() and time.monotonic() < deadline for deadline, count in left):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), _DRAIN_LOOK_SECONDS)
                return

    def _drain_seconds(self) -> int:
        """How long the end may take, because those who are there may finish; 0: nobody is waited for."""
        parts = ((self._relay, self._settings.relay.drain_seconds), (self._sfu, self._settings.sfu.drain_seconds))
        return max(seconds if part is not None else 0 for part, seconds in parts)

    async def _reload_as_asked(self) -> None:
        """Reload, and once more if somebody asked meanwhile: he may have changed the file after it was read."""
        while self._reload_again:
            self._reload_again = False
            self._notifier.tell_reloading()
            try:
                await self._reload()
            except ConfigError as error:
                for mistake in error.mistakes:
                    _LOGGER.error("not reloaded: %s", mistake)  # noqa: TRY400
            except (StateError, ReloadFailed) as error:
                _LOGGER.error("not reloaded: %s", error)  # noqa: TRY400
            except Exception:
                _LOGGER.exception("not reloaded: a bug")
            else:
                self._lifecycle.count_reload()
                continue
            finally:
                self._notifier.tell_ready()  # also with the old settings it is
            self._lifecycle.count_failed_reload()

    async def _reload(self) -> None:
        """Read the settings anew and take into use what does not need a restart: all of it, or nothing.

        What can fail comes before what changes anything, and files are read aside: packets do not wait for them.

        Raises:
            ConfigError: the settings are wrong.
            StateError: a file under `state_dir`, the certificate or its key is not usable.
            ReloadFailed: the relay cannot take them.
        """
        loaded = await asyncio.to_thread(self._load)
        changes = differences(self._settings, loaded)
        settings = applicable(self._settings, loaded)
        state = await asyncio.to_thread(open_state, settings, datetime.now(UTC))
        take_certificate = None
        if self._certificate is not None:
            try:
                take_certificate = self._certificate.prepare(state.certificate_file, state.private_key_file)
            except (OSError, ValueError) as error:
                raise ReloadFailed(f"the certificate is not usable: {error}") from error
        if self._relay is not None:
            await self._relay.reload(settings, state)
        if self._sfu is not None:
            await self._sfu.reload(settings)
        if take_certificate is not None:
            take_certificate()
        self._settings, self._state = settings, state
        if self._signaling is not None:
            self._signaling.configure(settings.signaling, self._issuer(), self._relay_ports())
        configure_logging(settings.log)
        for change in changes:
            _LOGGER.info("reload: %s", change)
        _LOGGER.info("reloaded: %d keys differ", len(changes))

    # Parts

    async def _start_relay(self, stack: AsyncExitStack) -> None:
        if self._settings.relay.workers > 1:
            relay = self._relay = await self._start_workers()
        else:
            from config.relay import LocalRelay

            pages = self._signaling if self._settings.relay.share_with_pages else None
            local = LocalRelay(
                self._settings,
                self._state,
                self._registry,
                http=None if pages is None else pages.http,
                certificate=self._certificate,
            )
            await local.start()
            relay = self._relay = local
        stack.push_async_callback(relay.stop)
        self._checks["relay"] = lambda: relay.ready

    async def _start_workers(self) -> Relay:
        from config.crew import WorkerFailed
        from config.supervisor import Supervisor

        supervisor = Supervisor(self._settings, self._state, self._registry)
        try:
            await supervisor.start()
        except WorkerFailed as failure:
            raise CannotStart(str(failure)) from failure
        self._refreshes.append(supervisor.refresh)
        return supervisor

    async def _start_signaling(self, stack: AsyncExitStack) -> None:
        from signaling.io.service import SignalingService
        from signaling.io.store import AppointmentStore, StoreError

        store = self._store = AppointmentStore(self._state.database_url, self._state.locator_key)
        stack.push_async_callback(store.close)
        try:
            await store.open()
        except StoreError as error:
            raise CannotStart(f"{error}; check database_url and state_dir") from error
        settings = self._settings.signaling
        signaling = self._signaling = SignalingService(
            settings,
            store,
            issuer=self._issuer(),
            relay_ports=self._relay_ports(),
            registry=self._registry,
            ssl_context=self._https() if settings.https else None,
            bus_key=self._state.locator_key,
        )
        if "sfu" in self._settings.services:
            await self._start_sfu(stack, signaling)
        try:
            await signaling.start()
        except FileNotFoundError:
            raise
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise CannotStart(f"cannot listen on TCP port {settings.port} for the pages: {reason}") from error
        stack.push_async_callback(signaling.stop)
        self._checks["signaling"] = lambda: signaling.ready
        if signaling.on_bus is not None:
            self._checks["bus"] = lambda: bool(signaling.on_bus)

    async def _start_sfu(self, stack: AsyncExitStack, signaling: "SignalingService") -> None:
        """Before the signaling starts, and it stops after it: whoever has entered leaves."""
        if self._settings.sfu.workers > 1:
            sfu = self._sfu = await self._start_sfu_workers(signaling)
        else:
            from config.sfu import LocalSfu

            local = LocalSfu(self._settings.sfu, self._registry, signaling.tell)
            try:
                await local.start()
            except OSError as error:
                raise CannotStart(str(error)) from error
            sfu = self._sfu = local
        stack.push_async_callback(sfu.stop)
        signaling.use_media(sfu.media)
        self._checks["sfu"] = lambda: sfu.ready

    async def _start_sfu_workers(self, signaling: "SignalingService") -> Sfu:
        from config.crew import WorkerFailed
        from config.sfu_workers import SfuWorkers

        workers = SfuWorkers(self._settings, self._registry, signaling.tell)
        try:
            await workers.start()
        except WorkerFailed as failure:
            raise CannotStart(str(failure)) from failure
        self._refreshes.append(workers.refresh)
        return workers

    async def _refresh(self) -> None:
        """Fetch what other processes have counted."""
        await asyncio.gather(*(refresh() for refresh in self._refreshes))

    def _https(self) -> ssl.SSLContext:
        certificate = self._certificate = self._state.certificate(_HTTP_ALPN)
        relay = self._settings.relay
        if "relay" not in self._settings.services or not (relay.tls_ports or relay.dtls_ports):
            self._registry.register(CertificateCollector(certificate))  # else the relay shows the same files
        return certificate.context

    def _issuer(self) -> TurnCredentials:
        lifetime = self._settings.signaling.ice.credential_lifetime_seconds
        return TurnCredentials(self._state.turn_secret, lifetime, self._state.locator_key)

    def _relay_ports(self) -> RelayPorts:
        relay, sfu = self._settings.relay, self._settings.sfu.udp_ports
        conferences = PortRange(sfu[0], sfu[-1]) if "sfu" in self._settings.services else None
        has_relay = "relay" in self._settings.services or bool(self._settings.signaling.ice.host)
        if not has_relay:
            return RelayPorts(conferences=conferences)
        relayed = PortRange(relay.port_min, relay.port_max)
        return RelayPorts(relay.udp_ports, relay.tcp_ports, relay.tls_ports, relayed, conferences)
