"""The only place that builds: settings and state go in, a running service comes out."""

import asyncio
import hashlib
import hmac
import logging
import secrets
import signal
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Final

import prometheus_client
import uvloop
from prometheus_client import CollectorRegistry
from rich.console import Console

from config.admin import AdminServer, Check
from config.announce import create_appointment, print_demo
from config.schema import Settings
from config.state import State
from relay.io.service import RelayService
from signaling.appointments import Tier
from signaling.ice_servers import RelayPorts
from signaling.io.service import SignalingService
from signaling.io.store import AppointmentStore, StoreError
from stun.credentials import issue_credential

_LOGGER: Final = logging.getLogger(__name__)
_FAILED: Final = 1
_TURN_ALPN: Final = ("stun.turn", "stun.nat-discovery")  # RFC 7443
_HTTP_ALPN: Final = ("http/1.1",)
_IDENTITY_BYTES: Final = 9


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
    # Next to every counter the library would expose the instant of its creation: twice the series, no use to us.
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        uvloop.run(_run(settings, state, demo=demo))
    except (OSError, StoreError) as error:
        _LOGGER.error("cannot start: %s", error)  # noqa: TRY400  # a traceback would not help the operator
        return _FAILED
    return 0


async def _run(settings: Settings, state: State, *, demo: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    registry = CollectorRegistry()
    checks: dict[str, Check] = {}
    async with AsyncExitStack() as stack:
        if "relay" in settings.services:
            relay = _build_relay(settings, state, registry)
            await relay.start()
            stack.push_async_callback(relay.stop)
            checks["relay"] = lambda: relay.ready
        store = None
        if "signaling" in settings.services:
            store = AppointmentStore(state.database_url, state.locator_key)
            stack.push_async_callback(store.close)
            await store.open()
            signaling = _build_signaling(settings, state, registry, store)
            await signaling.start()
            stack.push_async_callback(signaling.stop)
            checks["signaling"] = lambda: signaling.ready
        await _start_admin(settings, registry, checks, stack)
        if demo and store is not None:
            created = await create_appointment(store, datetime.now(UTC), Tier.BASIS)
            print_demo(Console(highlight=False), created, settings)
            sys.stdout.flush()
        await stop.wait()
        _LOGGER.info("stopping")
    _LOGGER.info("stopped")


async def _start_admin(
    settings: Settings, registry: CollectorRegistry, checks: Mapping[str, Check], stack: AsyncExitStack
) -> None:
    admin = AdminServer(settings.admin, registry, checks)
    await admin.start()
    stack.push_async_callback(admin.stop)


def _build_relay(settings: Settings, state: State, registry: CollectorRegistry) -> RelayService:
    return RelayService(
        settings.relay,
        secrets=[state.turn_secret],
        # Derived, so that relays which share the secret accept each other's nonces and nobody configures a second one.
        nonce_keys=[hmac.digest(state.turn_secret, b"redconnect nonce key", hashlib.sha256)],
        tls=state.server_context(_TURN_ALPN) if settings.relay.tls_ports else None,
        registry=registry,
    )


def _build_signaling(
    settings: Settings, state: State, registry: CollectorRegistry, store: AppointmentStore
) -> SignalingService:
    relay = settings.relay
    has_relay = "relay" in settings.services or bool(settings.signaling.ice.host)
    return SignalingService(
        settings.signaling,
        store,
        issuer=TurnCredentials(state.turn_secret, settings.signaling.ice.credential_lifetime_seconds),
        relay_ports=RelayPorts(relay.udp_ports, relay.tcp_ports, relay.tls_ports) if has_relay else RelayPorts(),
        registry=registry,
        ssl_context=state.server_context(_HTTP_ALPN) if settings.signaling.https else None,
    )
