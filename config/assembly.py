"""The only place that builds: settings and state go in, a running service comes out."""

import asyncio
import base64
import contextlib
import hmac
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final

import prometheus_client
import uvloop
from prometheus_client import CollectorRegistry
from rich.console import Console

from config.admin import AdminServer, Refresh
from config.announce import create_appointment, print_demo
from config.certificates import CertificateCollector
from config.crash import install_hooks, on_loop_failure
from config.ctl import MAX_DEADLINE_SECONDS
from config.ctl_server import BadRequest, CtlServer, CtlTaken
from config.garbage import spare_the_collector
from config.health import Health, Verdict
from config.host_metrics import ConntrackCollector
from config.lifecycle_metrics import LifecycleMetrics
from config.logs import configure_logging
from config.loop_lag import LoopLag
from config.metrics_sum import take_snapshot
from config.mistakes import ConfigError
from config.notify import Notifier
from config.parts import Relay, Sfu
from config.readiness import check_certificate, check_ports
from config.reload import Outcome, ReloadFailed, applicable, differences
from config.schema import Settings
from config.self_allocation import SelfAllocation
from config.state import State, StateError, open_state
from config.status import Draining, describe_outcome, describe_status
from config.tls import ReloadingContext
from config.trials import TrialCredentials
from signaling.appointments import Tier
from signaling.ice_servers import PortRange, RelayPorts
from stun.credentials import issue_credential

if TYPE_CHECKING:
    from config.crew import Crew
    from signaling.io.service import SignalingService
    from signaling.io.store import AppointmentStore

_LOGGER: Final = logging.getLogger(__name__)
_FAILED: Final = 1
_HTTP_ALPN: Final = ("http/1.1",)
_IDENTITY_BYTES: Final = 9
_DRAIN_LOOK_SECONDS: Final = 0.1  # between two looks at how many allocations are left


class CannotStart(Exception):
    """A part did not start; the message says in one line why."""

    is_for_operator: ClassVar = True  # what it says is about the machine and its settings


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
    install_hooks()
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
        self._lag = LoopLag(self._registry)
        self._health = Health(self._lag.worst)
        self._since = datetime.now(UTC)
        self._notifier = Notifier.from_environment(os.environ)
        self._relay: Relay | None = None
        self._signaling: SignalingService | None = None
        self._sfu: Sfu | None = None
        self._store: AppointmentStore | None = None
        self._refreshes: list[Refresh] = []  # of what other processes have counted
        self._ending = asyncio.Event()
        self._hurry = asyncio.Event()
        self._patience_asked: int | None = None  # what somebody asked for; None: as the settings say
        self._draining = Draining()
        self._self_allocation: SelfAllocation | None = None
        self._crews: dict[str, Crew[Any]] = {}
        self._reloading: asyncio.Task[None] | None = None
        self._last_reload: Outcome | None = None
        self._is_started = False  # until then there is nothing that could take other settings into use
        self._reload_again = False  # somebody asked while the files of an earlier wish were being read
        self._certificate: ReloadingContext | None = (
            None  # of all that this process serves; workers follow the same files
        )
        self._lifecycle = LifecycleMetrics(self._registry)
        self._registry.register(ConntrackCollector())

    async def run(self, *, demo: bool) -> None:
        """Start everything, wait for the end, stop everything."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(on_loop_failure)
        loop.add_signal_handler(signal.SIGTERM, self._on_sigterm)
        loop.add_signal_handler(signal.SIGINT, self._on_sigint)
        loop.add_signal_handler(signal.SIGHUP, self._on_sighup)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._notifier.close)
            self._lag.start()
            stack.push_async_callback(self._lag.stop)
            if self._settings.serves_tls:
                self._certificate = self._read_certificate()
            if "signaling" in self._settings.services:
                await self._start_signaling(stack)
            if "relay" in self._settings.services:
                await self._start_relay(stack)
            stack.push_async_callback(self._health.stop)
            admin = AdminServer(self._settings.admin, self._registry, self._health, self._refresh)
            try:
                await admin.start()
            except OSError as error:
                reason, port = os.strerror(error.errno or 0), self._settings.admin.port
                raise CannotStart(f"cannot listen on TCP port {port} for health and metrics: {reason}") from error
            stack.push_async_callback(admin.stop)
            self._is_started = True
            await self._start_ctl(stack)
            if demo and self._store is not None:
                created = await create_appointment(self._store, datetime.now(UTC), Tier.BASIS)
                print_demo(Console(highlight=False), created, self._settings)
                sys.stdout.flush()
            spare_the_collector()
            self._notifier.tell_ready()
            if self._reload_again:
                self._on_sighup()  # of a signal that came during the start
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
        self._end()

    def _on_sigint(self) -> None:
        self._hurry.set()
        self._end()

    def _end(self) -> None:
        """Let the service end, now or when everybody has gone."""
        if not self._ending.is_set():
            longest = 0 if self._hurry.is_set() else self._drain_seconds()
            self._health.drain()
            self._draining = Draining(is_draining=True, ends_at_latest=datetime.now(UTC) + timedelta(seconds=longest))
        self._ending.set()

    def _on_sighup(self) -> None:
        self._reload_again = True
        if self._is_started and (self._reloading is None or self._reloading.done()):
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
        relay, seconds = self._relay, self._patience(self._settings.relay.drain_seconds)
        if relay is not None and seconds:
            await relay.drain()
            _LOGGER.info("draining: %d allocations may go on for %d s", relay.allocations, seconds)
            left.append((begun_at + seconds, lambda: relay.allocations))
        sfu, seconds = self._sfu, self._patience(self._settings.sfu.drain_seconds)
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
        return max(self._patience(seconds) if part is not None else 0 for part, seconds in parts)

    def _patience(self, configured: int) -> int:
        """For how many seconds a part drains: as somebody asked, else as the settings say."""
        return configured if self._patience_asked is None else self._patience_asked

    async def _reload_as_asked(self) -> None:
        """Reload, and once more if somebody asked meanwhile: he may have changed the file after it was read."""
        while self._reload_again:
            self._reload_again = False
            self._notifier.tell_reloading()
            succeeded = False
            try:
                lines = await self._reload()
                succeeded = True
            except ConfigError as error:
                lines = tuple(map(str, error.mistakes))
            except (StateError, ReloadFailed) as error:
                lines = (str(error),)
            except Exception as error:
                _LOGGER.exception("not reloaded: a bug")
                lines = (f"a bug: {type(error).__name__}; the log says more",)
            finally:
                self._notifier.tell_ready()  # also with the old settings it is
            self._last_reload = Outcome(datetime.now(UTC), succeeded, lines)
            if succeeded:
                self._lifecycle.count_reload()
                continue
            self._lifecycle.count_failed_reload()
            for line in lines:
                _LOGGER.error("not reloaded: %s", line)

    async def _reload(self) -> tuple[str, ...]:
        """Read the settings anew and take into use what does not need a restart: all of it, or nothing.

        What can fail comes before what changes anything, and files are read aside: packets do not wait for them.

        Returns:
            A line for each key that differs.

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
        if self._self_allocation is not None:
            self._self_allocation.configure(settings.relay, state.turn_secret)
        if self._signaling is not None:
            self._signaling.configure(settings.signaling, self._issuer(), self._relay_ports(), self._trials())
        configure_logging(settings.log)
        for change in changes:
            _LOGGER.info("reload: %s", change)
        _LOGGER.info("reloaded: %d keys differ", len(changes))
        return tuple(map(str, changes))

    # What `redconnect ctl` asks for

    async def _start_ctl(self, stack: AsyncExitStack) -> None:
        commands = {"status": self._tell_status, "drain": self._drain_as_told, "stop": self._stop_as_told}
        ctl = CtlServer(self._state.directory, {**commands, "reload": self._reload_as_told})
        try:
            await ctl.start()
        except (CtlTaken, OSError) as error:  # a full or read-only disk must not keep a relay from starting
            _LOGGER.warning("redconnect ctl does not reach this service: %s", error)
        else:
            stack.push_async_callback(ctl.stop)

    async def _tell_status(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        await self._refresh()
        status = describe_status(
            self._settings,
            take_snapshot(self._registry),
            self._crews,
            since=self._since,
            draining=self._draining,
            certificate=None if self._certificate is None else self._certificate.validity,
            last_reload=self._last_reload,
            now=datetime.now(UTC),
        )
        return {"status": status}

    async def _drain_as_told(self, request: Mapping[str, Any]) -> dict[str, Any]:
        seconds = request.get("deadline_seconds")
        if seconds is not None and (type(seconds) is not int or not 0 <= seconds <= MAX_DEADLINE_SECONDS):
            raise BadRequest(f"deadline_seconds is a whole number from 0 to {MAX_DEADLINE_SECONDS}")
        if not self._ending.is_set():
            self._patience_asked = seconds
            self._end()
        elif seconds is not None:
            raise BadRequest("the service drains already; `redconnect ctl stop` ends it at once")
        return await self._tell_status(request)

    async def _stop_as_told(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._on_sigint()
        return await self._tell_status(request)

    async def _reload_as_told(self, _request: Mapping[str, Any]) -> dict[str, Any]:
        self._on_sighup()
        assert self._reloading is not None  # noqa: S101  # for the type checker
        await asyncio.shield(self._reloading)
        assert self._last_reload is not None  # noqa: S101  # for the type checker
        return describe_outcome(self._last_reload)

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
        self._health.add_check("relay", lambda: relay.ready)
        self._health.add_check("ports", lambda: check_ports(relay.ports_left))
        own = self._self_allocation = SelfAllocation(self._settings.relay, self._state.turn_secret, relay.worker_of)
        self._health.add_probe("self_allocation", own.probe)

    async def _start_workers(self) -> Relay:
        from config.crew import WorkerFailed
        from config.supervisor import Supervisor

        supervisor = Supervisor(self._settings, self._state, self._registry)
        try:
            await supervisor.start()
        except WorkerFailed as failure:
            raise CannotStart(str(failure)) from failure
        self._refreshes.append(supervisor.refresh)
        self._crews["relay"] = supervisor
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
            trials=self._trials(),
            registry=self._registry,
            ssl_context=self._certificate.context if settings.https and self._certificate is not None else None,
            bus_key=self._state.locator_key,
        )
        if "sfu" in self._settings.services:
            await self._start_sfu(stack, signaling)
        try:
            await signaling.start()
        except FileNotFoundError as error:
            raise CannotStart(f"the page is not installed: there is no {error.filename}") from error
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise CannotStart(f"cannot listen on TCP port {settings.port} for the pages: {reason}") from error
        stack.push_async_callback(signaling.stop)
        self._health.add_check("signaling", lambda: signaling.ready)
        if signaling.on_bus is not None:
            self._health.add_check("bus", lambda: bool(signaling.on_bus))

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
        self._health.add_check("sfu", lambda: sfu.ready)

    async def _start_sfu_workers(self, signaling: "SignalingService") -> Sfu:
        from config.crew import WorkerFailed
        from config.sfu_workers import SfuWorkers

        workers = SfuWorkers(self._settings, self._registry, signaling.tell)
        try:
            await workers.start()
        except WorkerFailed as failure:
            raise CannotStart(str(failure)) from failure
        self._refreshes.append(workers.refresh)
        self._crews["sfu"] = workers
        return workers

    async def _refresh(self) -> None:
        """Fetch what other processes have counted."""
        await asyncio.gather(*(refresh() for refresh in self._refreshes))

    def _read_certificate(self) -> ReloadingContext:
        """The certificate of pages and relay, and its metrics and check."""
        certificate = self._state.certificate(_HTTP_ALPN)
        if not self._settings.relay_serves_tls:
            self._registry.register(CertificateCollector(certificate))  # else the relay shows the same files

        def check() -> Verdict:
            certificate.refresh()  # as the next handshake would
            return check_certificate(certificate.validity, datetime.now(UTC))

        self._health.add_check("certificate", check)
        return certificate

    def _issuer(self) -> TurnCredentials:
        lifetime = self._settings.signaling.ice.credential_lifetime_seconds
        return TurnCredentials(self._state.turn_secret, lifetime, self._state.locator_key)

    def _trials(self) -> TrialCredentials:
        # A relay that is elsewhere has another certificate, which is not known here.
        certificate = self._certificate if self._settings.relay_serves_tls else None
        return TrialCredentials(self._state.turn_secret, certificate)

    def _relay_ports(self) -> RelayPorts:
        relay, sfu = self._settings.relay, self._settings.sfu.udp_ports
        conferences = PortRange(sfu[0], sfu[-1]) if "sfu" in self._settings.services else None
        has_relay = "relay" in self._settings.services or bool(self._settings.signaling.ice.host)
        if not has_relay:
            return RelayPorts(conferences=conferences)
        relayed = PortRange(relay.port_min, relay.port_max)
        return RelayPorts(relay.udp_ports, relay.tcp_ports, relay.tls_ports, relayed, conferences)
