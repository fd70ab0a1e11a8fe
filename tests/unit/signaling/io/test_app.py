import asyncio
import logging
import ssl
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from signaling.io.app import build_app
from signaling.io.store import AppointmentStore
from tests.support.stream_harness import tls_contexts
from tests.unit.signaling.io.bench import Bench

EXPECTED_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "media-src 'self' blob:; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(self), display-capture=(self), fullscreen=(self), "
    "speaker-selection=(self), screen-wake-lock=(self)",
    "Server": "redconnect",
}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("HEAD", "/", 200),
        ("GET", "/js/room.js", 200),
        ("GET", "/css/room.css", 200),
        ("GET", "/hilfe/firewall", 200),
        ("HEAD", "/impressum", 200),
        ("POST", "/datenschutz", 405),
        ("GET", "/pages/layout.html", 404),
        ("GET", "/nothing", 404),
        ("GET", "/js/", 404),
        ("GET", "/js", 404),
        ("POST", "/", 405),
        ("GET", "/ws", 403),
        ("POST", "/ws", 405),
    ],
)
async def test_every_answer_carries_the_security_headers(bench: Bench, method: str, path: str, status: int) -> None:
    async with bench.session.request(method, bench.url + path) as response:
        assert response.status == status
        assert {name: response.headers.get(name) for name in EXPECTED_HEADERS} == EXPECTED_HEADERS


async def test_the_upgrade_carries_them_too(bench: Bench) -> None:
    browser = await bench.browser()
    handshake = browser.socket._response
    assert {name: handshake.headers.get(name) for name in EXPECTED_HEADERS} == EXPECTED_HEADERS
    await browser.socket.close()


@pytest.mark.parametrize("request_bytes", [b"no http\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 9000])
async def test_bytes_that_are_no_http_get_them_too(
    bench: Bench, request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.service.addresses[0][1])
    writer.write(request_bytes)
    answer = (await asyncio.wait_for(reader.read(), 10)).decode()
    writer.close()
    await writer.wait_closed()
    assert answer.startswith(("HTTP/1.0 400", "HTTP/1.1 400"))
    for name, value in EXPECTED_HEADERS.items():
        assert f"{name}: {value}\r\n" in answer
    assert "Diese Anfrage ist nicht lesbar." in answer
    assert "127.0.0.1" not in caplog.text


async def test_who_comes_by_https_is_to_come_by_https_for_a_year(
    store: AppointmentStore, web_root: Path, tmp_path: Path
) -> None:
    server, client = tls_contexts(tmp_path)
    async with Bench(store, web_root, ssl_context=server) as bench:
        port = bench.service.addresses[0][1]
        for path in ("/", "/nothing", "/ws", "/api/v1/appointments"):
            async with bench.session.get(f"https://localhost:{port}{path}", ssl=client) as response:
                assert response.headers["Strict-Transport-Security"] == "max-age=31536000"
        assert "Strict-Transport-Security: max-age=31536000\r\n" in await _answer_to_no_http(port, client)


async def test_nothing_of_https_is_said_over_http(bench: Bench) -> None:
    async with bench.session.get(bench.url) as response:
        assert "Strict-Transport-Security" not in response.headers
    assert "Strict-Transport-Security" not in await _answer_to_no_http(bench.service.addresses[0][1], None)


async def _answer_to_no_http(port: int, client: ssl.SSLContext | None) -> str:
    reader, writer = await asyncio.open_connection("localhost", port, ssl=client)
    writer.write(b"no http\r\n\r\n")
    answer = (await asyncio.wait_for(reader.read(), 10)).decode()
    writer.close()
    return answer


async def test_the_page_is_never_stored(bench: Bench) -> None:
    async with bench.session.get(bench.url) as response:
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "Grüezi" in await response.text()


async def test_files_are_revalidated(bench: Bench) -> None:
    async with bench.session.get(f"{bench.url}/js/room.js") as response:
        assert response.headers["Cache-Control"] == "no-cache"
        assert response.headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert await response.text() == "export const room = 1;\n"
        tag = response.headers["ETag"]
    async with bench.session.get(f"{bench.url}/js/room.js", headers={"If-None-Match": tag}) as response:
        assert response.status == 304
        assert response.headers["Cache-Control"] == "no-cache"
    async with bench.session.get(f"{bench.url}/js/room.js", headers={"If-None-Match": '"other"'}) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    "path", ["/js/../index.html", "/js/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/js/..%2findex.html"]
)
async def test_no_path_leads_out(bench: Bench, path: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.service.addresses[0][1])
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()
    assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 400"))


async def test_a_missing_page_is_told_in_german(bench: Bench) -> None:
    async with bench.session.get(f"{bench.url}/nothing") as response:
        assert await response.text() == "Diese Seite gibt es nicht."
        assert response.headers["Cache-Control"] == "no-store"


async def test_a_wrong_method_names_the_right_ones(bench: Bench) -> None:
    async with bench.session.delete(bench.url) as response:
        assert response.headers["Allow"] == "GET,HEAD"


async def test_no_request_is_logged(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with bench.session.get(bench.url):
        pass
    assert "127.0.0.1" not in caplog.text


async def test_a_failing_handler_is_told_without_detail_and_logged_without_address(
    web_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(_request: web.Request) -> web.StreamResponse:
        raise RuntimeError("inside")

    async with TestClient(TestServer(build_app(fail, web_root, pages=fail))) as client, client.get("/ws") as response:
        assert response.status == 500
        assert await response.text() == "Das hat nicht geklappt. Bitte versuchen Sie es erneut."
        assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "a request failed" in caplog.text
    assert "127.0.0.1" not in caplog.text


@pytest.mark.parametrize("header", [b"", b"GET / HTTP/1.1\r\nHost: x\r\nX-", b"GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_who_says_nothing_or_never_ends_a_header_is_closed(
    store: AppointmentStore, web_root: Path, monkeypatch: pytest.MonkeyPatch, header: bytes
) -> None:
    monkeypatch.setattr("signaling.io.http.REQUEST_TIMEOUT_SECONDS", 0.05)
    async with Bench(store, web_root) as bench:
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.service.addresses[0][1])
        writer.write(header)
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
