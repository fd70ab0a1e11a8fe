import socket
from collections.abc import Callable, Mapping

import pytest
from aiohttp import ClientSession
from prometheus_client import CollectorRegistry, Gauge

from config.admin import AdminServer
from config.schema import AdminSettings
from config.version import current_version
from tests.support.ports import free_port


async def ask(
    path: str, checks: Mapping[str, Callable[[], bool]], method: str = "GET", server: AdminServer | None = None
) -> tuple[int, str, str]:
    server = server or AdminServer(AdminSettings(port=free_port()), CollectorRegistry(), checks)
    settings = server._settings
    await server.start()
    try:
        url = f"http://127.0.0.1:{settings.port}{path}"
        async with ClientSession() as session, session.request(method, url) as response:
            return response.status, await response.text(), response.headers["Content-Type"]
    finally:
        await server.stop()


def broken() -> bool:
    raise RuntimeError("the relay is gone")


async def test_a_live_process_is_healthy_even_if_it_is_not_ready() -> None:
    status, text, _ = await ask("/healthz", {"relay": lambda: False})
    assert (status, text) == (200, "ok\n")


async def test_it_is_ready_when_every_check_passes() -> None:
    status, text, _ = await ask("/readyz", {"relay": lambda: True, "signaling": lambda: True})
    assert (status, text) == (200, '{"ready": true, "checks": {"relay": true, "signaling": true}}')


async def test_one_check_that_fails_makes_it_unready() -> None:
    status, text, _ = await ask("/readyz", {"relay": lambda: True, "signaling": lambda: False})
    assert (status, text) == (503, '{"ready": false, "checks": {"relay": true, "signaling": false}}')


async def test_a_check_that_breaks_makes_it_unready_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    status, text, _ = await ask("/readyz", {"relay": broken})
    assert (status, text) == (503, '{"ready": false, "checks": {"relay": false}}')
    assert "the readiness check relay failed" in caplog.text


async def test_metrics_tell_build_and_process() -> None:
    status, text, content_type = await ask("/metrics", {})
    assert status == 200
    assert content_type.startswith("text/plain; version=0.0.4")
    assert f'redconnect_build_info{{relay="interpreted",version="{current_version()}"}} 1.0' in text
    assert "process_open_fds" in text


async def test_metrics_of_other_processes_are_fetched_before_they_are_shown() -> None:
    registry = CollectorRegistry()
    fetched = Gauge("fetched", "How often.", registry=registry)

    async def refresh() -> None:
        fetched.inc()

    settings = AdminSettings(port=free_port())
    _, text, _ = await ask("/metrics", {}, server=AdminServer(settings, registry, {}, refresh))
    assert "fetched 1.0" in text


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/", 404), ("GET", "/metrics/x", 404), ("POST", "/healthz", 405)]
)
async def test_there_is_nothing_else(method: str, path: str, status: int) -> None:
    answer, _, _ = await ask(path, {}, method)
    assert answer == status


async def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_open() -> None:
    with socket.socket() as rival:
        rival.bind(("127.0.0.1", 0))
        rival.listen()
        server = AdminServer(AdminSettings(port=rival.getsockname()[1]), CollectorRegistry(), {})
        with pytest.raises(OSError, match="address already in use"):
            await server.start()
        await server.stop()


async def test_stopping_twice_is_harmless_and_frees_the_port() -> None:
    settings = AdminSettings(port=free_port())
    first = AdminServer(settings, CollectorRegistry(), {})
    await first.start()
    await first.stop()
    await first.stop()
    second = AdminServer(settings, CollectorRegistry(), {})
    await second.start()
    await second.stop()
