"""Builds the relay of one process, be it the only one or a worker of many."""

import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry

from config.schema import Settings
from config.state import State
from relay.io.listening import BoundSocket
from relay.io.service import RelayService
from relay.ledger import Ledger

_TURN_ALPN: Final = ("stun.turn", "stun.nat-discovery")  # RFC 7443


def build_relay(
    settings: Settings,
    state: State,
    registry: CollectorRegistry,
    sockets: Sequence[BoundSocket] = (),
    ledger: Ledger | None = None,
    is_relayed_elsewhere: Callable[[int, int], bool] = lambda _family, _port: False,
) -> RelayService:
    """A relay that has not started.

    Args:
        settings: of the whole service.
        state: secrets and certificate.
        registry: where the metrics go.
        sockets: bound already, if workers share the ports.
        ledger: what workers count in together.
        is_relayed_elsewhere: whether another worker relays at a port of a family.

    Raises:
        StateError: certificate or key cannot be read, or they do not fit together.
    """
    return RelayService(
        settings.relay,
        secrets=[state.turn_secret],
        nonce_keys=[_nonce_key(state)],
        tls=state.server_context(_TURN_ALPN) if settings.relay.tls_ports else None,
        registry=registry,
        sockets=sockets,
        ledger=ledger,
        is_relayed_elsewhere=is_relayed_elsewhere,
    )


def configure_relay(relay: RelayService, settings: Settings, state: State) -> None:
    """Let a running relay take other settings and secrets into use."""
    relay.configure(settings.relay, secrets=[state.turn_secret], nonce_keys=[_nonce_key(state)])


def _nonce_key(state: State) -> bytes:
    """Derived, so that relays which share the secret accept each other's nonces and nobody configures a second one."""
    return hmac.digest(state.turn_secret, b"redconnect nonce key", hashlib.sha256)
