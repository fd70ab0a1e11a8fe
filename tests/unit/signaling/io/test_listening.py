import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from signaling.io import listening
from signaling.io.store import AppointmentStore
from tests.support.stream_harness import tls_contexts
from tests.unit.signaling.io.bench import WAIT_SECONDS, Bench

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


@pytest.fixture(scope="module")
def https(tmp_path_factory: pytest.TempPathFactory) -> Contexts:
    """The contexts of server and client."""
    return tls_contexts(tmp_path_factory.mktemp("certificate"))


@asynccontextmanager
async def silence(bench: Bench, count: int) -> AsyncIterator[list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]:
    """So many connections that say nothing."""
    port = bench.service.addresses[0][1]
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
    try:
        yield streams
    finally:
        for _, writer in streams:
            writer.transport.abort()


async def is_closed(reader: asyncio.StreamReader) -> bool:
    try:
        return await asyncio.wait_for(reader.read(1), WAIT_SECONDS) == b""
    except ConnectionResetError:
        return True


async def test_connections_in_their_tls_handshake_are_bounded(
    store: AppointmentStore, web_root: Path, monkeypatch: pytest.MonkeyPatch, https: Contexts
) -> None:
    monkeypatch.setattr("signaling.io.service.SPARE_CONNECTIONS", 0)
    async with Bench(store, web_root, max_clients=2, ssl_context=https[0]) as bench, silence(bench, 3) as streams:
        assert await is_closed(streams[2][0])
        assert not streams[0][0].at_eof()
        await streams[0][1].start_tls(https[1], server_hostname="localhost")
        assert len(bench.service._limits) == 2


async def test_a_tls_handshake_has_its_time(
    store: AppointmentStore, web_root: Path, monkeypatch: pytest.MonkeyPatch, https: Contexts
) -> None:
    monkeypatch.setattr(listening, "HANDSHAKE_TIMEOUT_SECONDS", 0.05)
    async with Bench(store, web_root, ssl_context=https[0]) as bench, silence(bench, 1) as streams:
        assert await is_closed(streams[0][0])
        assert len(bench.service._limits) == 0


async def test_stopping_breaks_a_handshake_off(store: AppointmentStore, web_root: Path, https: Contexts) -> None:
    async with Bench(store, web_root, ssl_context=https[0]) as bench, silence(bench, 1) as streams:
        await bench.service.stop()
        assert await is_closed(streams[0][0])
        assert len(bench.service._limits) == 0


async def test_the_connections_of_one_address_are_bounded(store: AppointmentStore, web_root: Path) -> None:
    async with Bench(store, web_root, connections_per_address=16) as bench, silence(bench, 17) as streams:
        assert await is_closed(streams[16][0])
        streams[0][1].write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await asyncio.wait_for(streams[0][0].readline(), WAIT_SECONDS) == b"HTTP/1.1 200 OK\r\n"


async def test_what_somebody_else_has_accepted_is_counted_too(bench: Bench) -> None:
    server = await asyncio.get_running_loop().create_server(bench.service.http, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert await asyncio.wait_for(reader.readline(), WAIT_SECONDS) == b"HTTP/1.1 200 OK\r\n"
        assert len(bench.service._limits) == 1
        writer.transport.abort()


async def test_without_descriptors_nobody_is_accepted_for_a_while_and_one_line_a_minute_tells_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listening, "PAUSE_SECONDS", 0.0)
    listener = bench.service._listeners[0]

    class Exhausted:
        """The listening socket in a process that has no descriptor left, three times."""

        def __init__(self) -> None:
            self.refused = 0

        def accept(self) -> None:
            self.refused += 1
            if self.refused == 3:
                listener._sock = real
            raise OSError(errno.EMFILE, "Too many open files")

        def fileno(self) -> int:
            return real.fileno()

    real = listener._sock
    listener._sock = Exhausted()  # type: ignore[assignment]
    async with bench.session.get(bench.url) as response:
        assert response.status == 200
    assert caplog.text.count("nobody is accepted for a second: OSError") == 1


def test_a_machine_without_ipv6_listens_on_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    create = socket.create_server

    def without_ipv6(address: tuple[str, int], **options: Any) -> socket.socket:  # noqa: ANN401 - those of create_server
        if options["family"] == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return create(address, **options)

    monkeypatch.setattr(socket, "create_server", without_ipv6)
    sockets = listening.bind(None, 0)
    assert [sock.family for sock in sockets] == [socket.AF_INET]
    sockets[0].close()
