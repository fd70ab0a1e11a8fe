"""Builds the relay of one process, be it the only one or a worker of many."""

import asyncio
import hashlib
import hmac
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry

from config.certificates import CertificateCollector
from config.reload import ReloadFailed
from config.schema import SELF_TEST_SECRET_NAME, TURN_SECRET_NAME, Settings
from config.self_allocation import self_test_secret
from config.sfu_addresses import reachable_services
from config.state import State
from config.tls import ReloadingContext
from relay.io.metrics import UdpBufferCollector
from relay.io.service import Certificates, Keys, RelayService, Shared

if TYPE_CHECKING:
    from OpenSSL import SSL

_TURN_ALPN: Final = ("stun.turn", "stun.nat-discovery")  # RFC 7443
HTTP_ALPN: Final = ("http/1.1",)
_CERTIFICATE_CHECK_SECONDS: Final = 30.0  # DTLS does not look by itself; TLS does at every handshake


class LocalRelay:
    """The relay of this process, its certificate, and how both change while it runs."""

    def __init__(
        self,
        settings: Settings,
        state: State,
        registry: CollectorRegistry,
        *,
        shared: Shared | None = None,
        http: Callable[[], asyncio.Protocol] | None = None,
        certificate: ReloadingContext | None = None,
    ) -> None:
        """Prepare; nothing is opened before `start`.

        Args:
            settings: of the whole service.
            state: secrets and certificate.
            registry: where the metrics go.
            shared: what workers of one machine share; None for the only process.
            http: makes the protocol of an HTTP connection on a TLS port, if pages share it.
            certificate: what other servers of this process use already; None: read it.

        Raises:
            StateError: certificate or key cannot be read, or they do not fit together.
        """
        relay = settings.relay
        self._certificate: ReloadingContext | None = None
        self._check: asyncio.TimerHandle | None = None
        certificates = Certificates()
        if relay.tls_ports or relay.dtls_ports:
            self._certificate = certificate or state.certificate()
            registry.register(CertificateCollector(self._certificate))
            tls = self._certificate.context_for(_TURN_ALPN + (HTTP_ALPN if http else ()))
            certificates = Certificates(tls, _dtls(*self._certificate.files) if relay.dtls_ports else None)
        registry.register(UdpBufferCollector())
        self._service = RelayService(
            relay,
            _keys(settings, state),
            registry,
            certificates=certificates,
            shared=shared,
            http=http,
            own_services=reachable_services(settings),
        )
        if self._certificate is not None and relay.dtls_ports:
            self._certificate.accompany(self._prepare_dtls)

    @property
    def ready(self) -> bool:
        """Whether new clients are welcome."""
        return self._service.ready

    @property
    def allocations(self) -> int:
        """Live allocations."""
        return self._service.allocations

    @property
    def ports_left(self) -> int:
        """Relayed ports that may still be taken, of the family that has the fewest."""
        return min(ports.limit - ports.taken for ports in self._service.ports.values())

    def worker_of(self, port: int) -> int:  # noqa: ARG002  # there is one process only
        """Which process relays at a port: this one."""
        return 0

    async def start(self) -> None:
        """Listen.

        Raises:
            BindError: a port is taken or an address is not ours.
            ExternalAddressError: the address that peers are told cannot be right.
        """
        await self._service.start()
        if self._certificate is not None:
            self._check_certificate(self._certificate)

    async def stop(self) -> None:
        """Close everything."""
        if self._check is not None:
            self._check.cancel()
        await self._service.stop()

    async def drain(self) -> None:
        """Refuse new allocations from now on."""
        self._service.drain()

    async def reload(self, settings: Settings, state: State) -> None:
        """Take other settings, secrets and certificate into use, or change nothing.

        Raises:
            ReloadFailed: certificate or key cannot be read, they do not fit together, or the settings are unfit.
        """
        take_certificate = None
        try:
            if self._certificate is not None:
                take_certificate = self._certificate.prepare(state.certificate_file, state.private_key_file)
            self._service.configure(settings.relay, _keys(settings, state))
        except (OSError, ValueError) as error:
            raise ReloadFailed(str(error)) from error
        if take_certificate is not None:
            take_certificate()

    def _prepare_dtls(self, certificate_file: Path, key_file: Path) -> Callable[[], None]:
        return partial(self._service.replace_dtls, _dtls(certificate_file, key_file))

    def _check_certificate(self, certificate: ReloadingContext) -> None:
        certificate.refresh()
        loop = asyncio.get_running_loop()
        self._check = loop.call_later(_CERTIFICATE_CHECK_SECONDS, self._check_certificate, certificate)


def _keys(settings: Settings, state: State) -> Keys:
    """The secret that issues, and nonce keys from it and from those that are accepted besides.

    Derived, so that relays which share the secrets accept each other's nonces and nobody configures a second one.
    """
    named = [secret.get_secret_value().encode() for secret in settings.relay.secrets.values()]
    nonce_keys = [
        hmac.digest(secret, b"redconnect nonce key", hashlib.sha256) for secret in (state.turn_secret, *named)
    ]
    secrets = {TURN_SECRET_NAME: state.turn_secret, SELF_TEST_SECRET_NAME: self_test_secret(state.turn_secret)}
    return Keys(secrets, nonce_keys, unlogged=frozenset({SELF_TEST_SECRET_NAME}))


def _dtls(certificate_file: Path, key_file: Path) -> "SSL.Context":
    from relay.io.dtls import build_dtls_context

    return build_dtls_context(certificate_file, key_file)
