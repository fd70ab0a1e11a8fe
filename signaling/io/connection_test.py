"""Answers whoever wants to test which ports of the relay can be reached: no account, no code, but bounded."""

import math

from aiohttp import web

from signaling.api_messages import ApiFault, ApiRefused
from signaling.connection_test import TTL_SECONDS, ConnectionTest, TrialIssuer, TrialLimiter, list_test_urls
from signaling.ice_servers import InvalidHost, RelayPorts, resolve_host
from signaling.io.clocks import Clocks
from signaling.rate_limiter import RateExceeded, peer_key
from signaling.settings import SignalingSettings


class ConnectionTests:
    """The aiohttp handler of `POST /api/v1/connection-test`."""

    def __init__(
        self, settings: SignalingSettings, relay_ports: RelayPorts, issuer: TrialIssuer | None, *, clocks: Clocks
    ) -> None:
        """Prepare.

        Args:
            settings: name the relay's host.
            relay_ports: where the relay listens; empty without a relay.
            issuer: issues credentials for tests; None: there are no tests here.
            clocks: the clocks to go by.
        """
        self._clocks = clocks
        self._limiter = TrialLimiter(clocks.monotonic())
        self.configure(settings, relay_ports, issuer)

    def configure(self, settings: SignalingSettings, relay_ports: RelayPorts, issuer: TrialIssuer | None) -> None:
        """Take other settings, ports and secrets into use from the next test on. Nobody's rate is forgiven."""
        self._settings = settings
        self._ports = relay_ports
        self._issuer = issuer

    async def handle(self, request: web.Request) -> web.Response:
        """Issue credentials, and tell what there is to test.

        Raises:
            ApiRefused: there is no relay, there were too many tests, or the request has a body or a malformed host.
        """
        ports, issuer = self._ports, self._issuer
        if issuer is None or not (ports.udp or ports.tcp or ports.tls):
            raise ApiRefused(ApiFault.NOT_FOUND, "this service has no relay to test")
        if request.can_read_body:
            raise ApiRefused(ApiFault.BAD_REQUEST, "send no body")
        hosts = request.headers.getall("Host", [])
        try:
            host = resolve_host(self._settings.ice.host, hosts[0] if len(hosts) == 1 else "")
        except InvalidHost as error:
            raise ApiRefused(ApiFault.BAD_REQUEST, str(error)) from None
        try:
            self._limiter.take(peer_key(request.remote), self._clocks.monotonic())
        except RateExceeded as exceeded:
            seconds = max(1, math.ceil(exceeded.retry_after))
            raise ApiRefused(
                ApiFault.RATE_LIMITED, f"too many tests; again in {seconds} s", retry_after=seconds
            ) from None
        address = request.remote or ""
        now = self._clocks.utc_now()
        try:
            username, credential = issuer.issue(int(now.timestamp()), TTL_SECONDS, address)
        except ValueError:
            raise ApiRefused(ApiFault.BAD_REQUEST, "tests are for clients with an IP address") from None
        test = ConnectionTest(
            username=username,
            credential=credential,
            ttl_seconds=TTL_SECONDS,
            address=address.partition("%")[0],
            stun_host=host,
            relay_host=host,
            urls=list_test_urls(host, ports),
            certificate_sha256=issuer.certificates_sha256,
            pages_certificate_is_listed=request.secure,
            certificate_problem=issuer.certificate_problem(host, now) if ports.tls else None,
            relay_port_min=ports.relayed.lowest if ports.relayed else None,
            relay_port_max=ports.relayed.highest if ports.relayed else None,
        )
        return web.Response(text=test.model_dump_json(), content_type="application/json")
