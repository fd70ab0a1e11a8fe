"""Health and metrics for the operator: `/healthz`, `/readyz`, `/metrics`, and nothing else."""

import logging
from collections.abc import Awaitable, Callable, Mapping
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
from config.schema import AdminSettings
from config.version import current_version

_LOGGER: Final = logging.getLogger(__name__)
_STOP_TIMEOUT_SECONDS: Final = 1.0  # a scrape that hangs must not hold up the shutdown
_MAX_REQUEST_BYTES: Final = 1024

Check = Callable[[], bool]
Refresh = Callable[[], Awaitable[None]]


class AdminServer:
    """The admin endpoint of one process.

    Args:
        settings: where to listen.
        registry: what `/metrics` shows; figures of the process and the build are added to it.
        checks: what must hold for the process to be ready, by name; each is quick and does not block.
        refresh: brings the registry up to date before it is shown, within two seconds; for metrics of other processes.
    """

    def __init__(
        self,
        settings: AdminSettings,
        registry: CollectorRegistry,
        checks: Mapping[str, Check],
        refresh: Refresh | None = None,
    ) -> None:
        self._refresh = refresh
        self._settings = settings
        self._registry = registry
        self._checks = dict(checks)
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
                web.get("/healthz", self._answer_health),
                web.get("/readyz", self._answer_readiness),
                web.get("/metrics", self._answer_metrics),
            ]
        )
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_STOP_TIMEOUT_SECONDS)
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

    async def _answer_health(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _answer_readiness(self, _request: web.Request) -> web.Response:
        results = {name: _passes(name, check) for name, check in self._checks.items()}
        ready = all(results.values())
        return web.json_response({"ready": ready, "checks": results}, status=200 if ready else 503)

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


def _passes(name: str, check: Check) -> bool:
    """A check that breaks means "not ready"; why, stands in the log."""
    try:
        return check()
    except Exception:
        _LOGGER.exception("the readiness check %s failed", name)
        return False
