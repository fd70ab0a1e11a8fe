"""Health and metrics for the operator: `/livez` (or `/healthz`), `/readyz`, `/metrics`, and nothing else."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    Gauge,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from config import native
from config.health import Health
from config.schema import AdminSettings
from config.version import current_version
from signaling.connection_limits import ConnectionLimits
from signaling.io.app import security_headers
from signaling.io.http import GuardedRunner

_STOP_TIMEOUT_SECONDS: Final = 1.0  # a scrape that hangs must not hold up the shutdown
_MAX_REQUEST_BYTES: Final = 1024
_MAX_CONNECTIONS: Final = 64  # probes, scrapes, and a person who looks

Refresh = Callable[[], Awaitable[None]]


class AdminServer:
    """The admin endpoint of one process.

    Args:
        settings: where to listen.
        registry: what `/metrics` shows; figures of the process and the build are added to it.
        health: what must hold for the process to be alive, and to be ready.
        refresh: brings the registry up to date before it is shown, within two seconds; for metrics of other processes.
    """

    def __init__(
        self,
        settings: AdminSettings,
        registry: CollectorRegistry,
        health: Health,
        refresh: Refresh | None = None,
    ) -> None:
        self._refresh = refresh
        self._settings = settings
        self._registry = registry
        self._health = health
        self._runner: web.AppRunner | None = None
        register_process_metrics(registry)

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address or port is not available.
        """
        app = web.Application(client_max_size=_MAX_REQUEST_BYTES)
        app.add_routes(
            [
                web.get("/livez", self._answer_liveness),
                web.get("/healthz", self._answer_liveness),  # what it was called before there was another one
                web.get("/readyz", self._answer_readiness),
                web.get("/metrics", self._answer_metrics),
            ]
        )
        app.on_response_prepare.append(_add_headers)
        limits = ConnectionLimits(_MAX_CONNECTIONS, _MAX_CONNECTIONS)
        runner = GuardedRunner(app, limits=limits, shutdown_timeout=_STOP_TIMEOUT_SECONDS)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._settings.address, self._settings.port).start()
        except OSError:
            await runner.cleanup()
            raise
        self._runner = runner

    async def stop(self) -> None:
        """Close the port and every connection; harmless if it never started."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _answer_liveness(self, _request: web.Request) -> web.Response:
        lag = self._health.liveness()
        checks = {"event_loop": lag.is_bearable}
        body = {"alive": lag.is_bearable, "checks": checks, "event_loop_lag_seconds": round(lag.seconds, 3)}
        return web.json_response(body, status=_status(good=lag.is_bearable))

    async def _answer_readiness(self, _request: web.Request) -> web.Response:
        verdicts = await self._health.readiness()
        ready = all(verdict.holds for verdict in verdicts.values())
        checks = {name: verdict.holds for name, verdict in verdicts.items()}
        reasons = {name: verdict.reason for name, verdict in verdicts.items() if verdict.reason}
        return web.json_response({"ready": ready, "checks": checks, "reasons": reasons}, status=_status(good=ready))

    async def _answer_metrics(self, _request: web.Request) -> web.Response:
        if self._refresh is not None:
            await self._refresh()
        headers = {"Content-Type": CONTENT_TYPE_PLAIN_0_0_4}
        return web.Response(body=generate_latest(self._registry), headers=headers)


def register_process_metrics(registry: CollectorRegistry) -> None:
    """Add figures of the process, the interpreter and the build to a registry."""
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    build = Gauge(
        "redconnect_build_info",
        "Always 1; the version, and how the relay's code runs, are the labels.",
        ["version", "relay"],
        registry=registry,
    )
    build.labels(current_version(), native.describe()).set(1)


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(security_headers(request))


def _status(*, good: bool) -> HTTPStatus:
    return HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
