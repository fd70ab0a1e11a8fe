"""The only place that builds: settings and state go in, a running service comes out."""

import asyncio
import contextlib
import logging
import resource
import secrets
import signal
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import prometheus_client
import uvloop
from prometheus_client import CollectorRegistry
from rich.console import Console

from config.admin import AdminServer, Check, Refresh
from config.announce import create_appointment, print_demo
from config.schema import Settings
from config.state import State
from signaling.appointments import Tier
from stun.credentials import issue_credential

if TYPE_CHECKING:
    from signaling.io.store import AppointmentStore

_LOGGER: Final = logging.getLogger(__name__)
_FAILED: Final = 1
_HTTP_ALPN: Final = ("http/1.1",)
_IDENTITY_BYTES: Final = 9


class CannotStart(Exception):
    """A part did not start; the message says in one line why."""


class TurnCredentials:
    """Issues what the relay of this installation accepts: both sides know the same secret."""

    def __init__(self, secret: bytes, lifetime: int) -> None:
        self._secret = secret
        self._lifetime = lifetime  # seconds

    def issue(self, now_unix: int) -> tuple[str, str]:
        """A fresh user name that says nothing about a person or room, and its password."""
        identity = secrets.token_urlsafe(_IDENTITY_BYTES)
        return issue_credential(self._secret, now_unix + self._lifetime, identity)


def run_service(settings: Settings, state: State, *, demo: bool) -> int:
    """Run until SIGTERM or SIGINT and return the exit status: 0 after a clean end, 1 if it could not start."""
    _raise_descriptor_limit()
    # Next to every counter the library would expose the instant of its creation: twice the series, no use to us.
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        uvloop.run(_run(settings, state, demo=demo))
    except (OSError, CannotStart) as error:
        _LOGGER.error("cannot start: %s", error)  # noqa: TRY400  # a traceback would not help the operator
        return _FAILED
    return 0


def _raise_descriptor_limit() -> None:
    """Every allocation and every client is a descriptor; a login shell's soft limit would end the service at 1024."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError):  # some kernels refuse "unlimited"; then the soft limit stays
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _run(settings: Settings, state: State, *, demo: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    registry = CollectorRegistry()
    checks: dict[str, Check] = {}
    refresh: Refresh | None = None
    store: AppointmentStore | None = None
    async with AsyncExitStack() as stack:
        if "relay" in settings.services and settings.relay.workers > 1:
            checks["relay"], refresh = await _start_workers(settings, state, registry, stack)
        elif "relay" in settings.services:
            checks["relay"] = await _start_relay(settings, state, registry, stack)
        if "signaling" in settings.services:
            checks["signaling"], store = await _start_signaling(settings, state, registry, stack)
        admin = AdminServer(settings.admin, registry, checks, refresh)
        await admin.start()
        stack.push_async_callback(admin.stop)
        if demo and store is not None:
            created = await create_appointment(store, datetime.now(UTC), Tier.BASIS)
            print_demo(Console(highlight=False), created, settings)
            sys.stdout.flush()
        await stop.wait()
        _LOGGER.info("stopping")
    _LOGGER.info("stopped")


async def _start_relay(settings: Settings, state: State, registry: CollectorRegistry, stack: AsyncExitStack) -> Check:
    from config.relay import build_relay

    relay = build_relay(settings, state, registry)
    await relay.start()
    stack.push_async_callback(relay.stop)
    return lambda: relay.ready


async def _start_workers(
    settings: Settings, state: State, registry: CollectorRegistry, stack: AsyncExitStack
) -> tuple[Check, Refresh]:
    from config.supervisor import Supervisor, WorkerFailed

    supervisor = Supervisor(settings, state, registry)
    try:
        await supervisor.start()
    except WorkerFailed as failure:
        raise CannotStart(str(failure)) from failure
    stack.push_async_callback(supervisor.stop)
    return (lambda: supervisor.ready), supervisor.refresh


async def _start_signaling(
    settings: Settings, state: State, registry: CollectorRegistry, stack: AsyncExitStack
) -> tuple[Check, "AppointmentStore"]:
    from signaling.ice_servers import RelayPorts
    from signaling.io.service import SignalingService
    from signaling.io.store import AppointmentStore, StoreError

    store = AppointmentStore(state.database_url, state.locator_key)
    stack.push_async_callback(store.close)
    try:
        await store.open()
    except StoreError as error:
        raise CannotStart(f"{error}; check database_url and state_dir") from error
    relay = settings.relay
    has_relay = "relay" in settings.services or bool(settings.signaling.ice.host)
    signaling = SignalingService(
        settings.signaling,
        store,
        issuer=TurnCredentials(state.turn_secret, settings.signaling.ice.credential_lifetime_seconds),
        relay_ports=RelayPorts(relay.udp_ports, relay.tcp_ports, relay.tls_ports) if has_relay else RelayPorts(),
        registry=registry,
        ssl_context=state.server_context(_HTTP_ALPN) if settings.signaling.https else None,
    )
    await signaling.start()
    stack.push_async_callback(signaling.stop)
    return (lambda: signaling.ready), store
