import asyncio
import contextlib
import json
import re
import socket
from collections.abc import Mapping

import pytest
from aiohttp import ClientSession
from prometheus_client import CollectorRegistry, Gauge

from config.admin import _MAX_CONNECTIONS, AdminServer
from config.health import MAX_LAG_SECONDS, Check, Health, Verdict
from config.schema import AdminSettings
from config.version import current_version
from tests.support.ports import free_port


def health_of(checks: Mapping[str, Check], lag: float = 0.0) -> Health:
    health = Health(lambda: lag)
    for name, check in checks.items():
        health.add_check(name, check)
    return health


def serve(health: Health | None = None) -> AdminServer:
    return AdminServer(AdminSettings(port=free_port()), CollectorRegistry(), health or health_of({}))


async def ask(path: str, server: AdminServer, method: str = "GET") -> tuple[int, str, str]:
    await server.start()
    try:
        url = f"http://127.0.0.1:{server._settings.port}{path}"
        async with ClientSession() as session, session.request(method, url) as response:
            return response.status, await response.text(), response.headers["Content-Type"]
    finally:
        await server.stop()


@pytest.mark.parametrize("path", ["/livez", "/healthz"])
async def test_a_process_lives_even_if_it_is_not_ready(path: str) -> None:
    status, text, _ = await ask(path, serve(health_of({"relay": lambda: False}, lag=0.0121)))
    assert (status, json.loads(text)) == (
        200,
        {"alive": True, "checks": {"event_loop": True}, "event_loop_lag_seconds": 0.012},
    )


async def test_a_loop_that_hangs_does_not_live() -> None:
    status, text, _ = await ask("/livez", serve(health_of({}, lag=MAX_LAG_SECONDS)))
    assert (status, json.loads(text)["checks"]) == (503, {"event_loop": False})


async def test_it_is_ready_when_every_check_passes() -> None:
    status, text, _ = await ask("/readyz", serve(health_of({"relay": lambda: True, "signaling": lambda: True})))
    assert (status, json.loads(text)) == (
        200,
        {"ready": True, "checks": {"relay": True, "signaling": True}, "reasons": {}},
    )


async def test_one_check_that_fails_makes_it_unready_and_says_why() -> None:
    checks: dict[str, Check] = {"relay": lambda: True, "ports": lambda: Verdict(holds=False, reason="none is left")}
    status, text, _ = await ask("/readyz", serve(health_of(checks)))
    assert (status, json.loads(text)) == (
        503,
        {"ready": False, "checks": {"relay": True, "ports": False}, "reasons": {"ports": "none is left"}},
    )


async def test_metrics_tell_build_and_process() -> None:
    status, text, content_type = await ask("/metrics", serve())
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
    _, text, _ = await ask("/metrics", AdminServer(settings, registry, health_of({}), refresh))
    assert "fetched 1.0" in text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/metrics/x", 404), ("POST", "/livez", 405), ("POST", "/readyz", 405)],
)
async def test_there_is_nothing_else(method: str, path: str, status: int) -> None:
    answer, _, _ = await ask(path, serve(), method)
    assert answer == status


@pytest.mark.parametrize(
    "request_text",
    [
        "GET /livez HTTP/1.1",
        "GET /readyz HTTP/1.1",
        "GET /metrics HTTP/1.1",
        "GET /x HTTP/1.1",
        "POST /livez HTTP/1.1",
        "nonsense",
    ],
)
async def test_no_answer_names_the_software_or_lets_its_type_be_guessed(request_text: str) -> None:
    server = serve()
    await server.start()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", server._settings.port)
        writer.write(f"{request_text}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        head = (await reader.read()).partition(b"\r\n\r\n")[0].decode()
        writer.close()
    finally:
        await server.stop()
    headers = dict(line.split(": ", 1) for line in head.splitlines()[1:])
    assert headers["Server"] == "redconnect"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert not re.search("aiohttp|Python", head)


async def test_connections_are_bounded() -> None:
    server = serve()
    await server.start()
    try:
        address = ("127.0.0.1", server._settings.port)
        opened = [await asyncio.open_connection(*address) for _ in range(_MAX_CONNECTIONS)]
        reader, writer = await asyncio.open_connection(*address)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        for _, each in opened:
            each.close()
    finally:
        await server.stop()


async def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_open() -> None:
    with socket.socket() as rival:
        rival.bind(("127.0.0.1", 0))
        rival.listen()
        server = AdminServer(AdminSettings(port=rival.getsockname()[1]), CollectorRegistry(), health_of({}))
        with pytest.raises(OSError, match="address already in use"):
            await server.start()
        await server.stop()


async def test_stopping_twice_is_harmless_and_frees_the_port() -> None:
    settings = AdminSettings(port=free_port())
    first = AdminServer(settings, CollectorRegistry(), health_of({}))
    await first.start()
    await first.stop()
    await first.stop()
    second = AdminServer(settings, CollectorRegistry(), health_of({}))
    await second.start()
    await second.stop()
