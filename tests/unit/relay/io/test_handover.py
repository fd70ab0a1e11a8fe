"""The pages on the port of the relay: aiohttp behind our own connections, with clients that speak HTTP."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from relay.five_tuple import Transport
from relay.io.handover import StreamTransport
from relay.io.stream import Closing
from stun.address import TransportAddress
from tests.support.stream_harness import REQUEST, Harness, connected, harness, soon, tls_contexts

MEBIBYTE = 1 << 20


class Pages:
    """An application that shows what came, and remembers how requests ended."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()
        self.waiting = asyncio.Event()
        self.peers: list[object] = []
        self.schemes: list[str] = []
        app = web.Application(client_max_size=4 * MEBIBYTE)
        app.router.add_get("/", self._greet)
        app.router.add_post("/echo", self._echo)
        app.router.add_get("/ws", self._echo_frames)
        app.router.add_get("/large", self._stream)
        app.router.add_get("/wait", self._wait)
        self.runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)

    @property
    def protocol(self) -> Callable[[], asyncio.Protocol]:
        assert self.runner.server is not None
        return self.runner.server

    async def _greet(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        self.peers.append(request.transport.get_extra_info("peername"))
        self.schemes.append(request.scheme)
        return web.Response(text="hello")

    async def _echo(self, request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    async def _echo_frames(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=4 * MEBIBYTE)
        await socket.prepare(request)
        async for message in socket:
            await socket.send_bytes(message.data)
        return socket

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = 3 * MEBIBYTE
        await response.prepare(request)
        for _ in range(3):
            await response.write(bytes(MEBIBYTE))
        return response

    async def _wait(self, _request: web.Request) -> web.Response:
        self.waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        raise AssertionError("nobody wakes it")


class Site:
    """A relay that hands HTTP over to pages, and a HTTP client."""

    def __init__(
        self, server: Harness, pages: Pages, http: aiohttp.ClientSession, trust: ssl.SSLContext | None
    ) -> None:
        self.server, self.pages, self.http, self.trust = server, pages, http, trust
        scheme = "http" if trust is None else "https"
        self.url = f"{scheme}://{server.address[0]}:{server.address[1]}"


@pytest.fixture(params=[Transport.TCP, Transport.TLS])
async def site(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Site]:
    context, trust = tls_contexts(tmp_path, "stun.turn", "http/1.1")
    is_tls = request.param is Transport.TLS
    pages = Pages()
    await pages.runner.setup()
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(pages.runner.cleanup)
        server = await stack.enter_async_context(harness(tls=context, http=pages.protocol))
        connector = aiohttp.TCPConnector(ssl=trust if is_tls else False)
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        yield Site(server, pages, http, trust if is_tls else None)


async def read(response: Awaitable[aiohttp.ClientResponse]) -> tuple[int, bytes]:
    async with await soon(response) as answered:
        return answered.status, await soon(answered.read())


async def test_pages_are_served_and_the_connection_is_kept(site: Site) -> None:
    for _ in range(3):
        assert await read(site.http.get(site.url + "/")) == (200, b"hello")
    assert await read(site.http.get(site.url + "/none")) == (404, b"404: Not Found")
    assert len(site.server.listener) == 1
    assert len(set(site.pages.peers)) == 1
    assert set(site.pages.schemes) == {"http" if site.trust is None else "https"}
    assert site.server.service.received.empty()


@pytest.mark.parametrize("size", [0, 1, 65_536, MEBIBYTE])
async def test_a_body_comes_and_goes(site: Site, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert await read(site.http.post(site.url + "/echo", data=body)) == (200, body)


async def test_a_web_socket_carries_a_mebibyte_each_way(site: Site) -> None:
    message = bytes(range(256)) * 4096
    async with site.http.ws_connect(site.url + "/ws", max_msg_size=4 * MEBIBYTE) as socket:
        for size in (1, MEBIBYTE, 126, MEBIBYTE):
            await soon(socket.send_bytes(message[:size]))
            assert (await soon(socket.receive())).data == message[:size]


async def test_turn_is_spoken_on_the_same_port_at_the_same_time(site: Site) -> None:
    async with connected(site.server, site.trust) as client:
        assert await read(site.http.get(site.url + "/")) == (200, b"hello")
        await client.send(REQUEST)
        kind = Transport.TCP if site.trust is None else Transport.TLS
        path = await site.server.path()
        assert (path.transport, path.client) == (kind, TransportAddress.parse(*client.sock.getsockname()))
        site.server.connection.send_message(REQUEST)
        assert await client.frame() == REQUEST
        assert await read(site.http.get(site.url + "/")) == (200, b"hello")


@pytest.mark.parametrize("step", [1, 3, 1000])
async def test_a_request_may_come_in_pieces(site: Site, step: int) -> None:
    request = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody"
    async with connected(site.server, site.trust) as client:
        for at in range(0, len(request), step):
            await client.send(request[at : at + step])
        answer = b""
        while more := await client.read():
            answer += more
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\nbody")


async def test_a_slow_reader_gets_everything_and_holds_the_pages_back(site: Site) -> None:
    async with connected(site.server, site.trust, receive_buffer=65_536) as client:
        await client.send(b"GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = await client.read()
        (connection,) = site.server.listener._connections
        most = 0
        while more := await client.read():
            most = max(most, connection.unsent)
            answer += more
        assert len(answer.partition(b"\r\n\r\n")[2]) == 3 * MEBIBYTE
        assert MEBIBYTE // 2 < most < 2 * MEBIBYTE  # one write of the pages, and nothing on top of it


async def test_a_client_that_goes_away_ends_its_request(site: Site) -> None:
    async with connected(site.server, site.trust) as client:
        await client.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        await soon(site.pages.waiting.wait())
    await soon(site.pages.cancelled.wait())
    assert len(site.server.listener) == 0


async def test_the_pages_are_not_subject_to_the_deadlines_of_the_relay(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(site.server, site.trust) as client:
        await client.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        await soon(site.pages.waiting.wait())
        (connection,) = site.server.listener._connections
        assert connection._deadline is None
    monkeypatch.setattr("relay.io.stream.FIRST_MESSAGE_SECONDS", 0.05)
    async with connected(site.server, site.trust) as client:
        assert await client.is_closed_by_the_server()  # one that has not said what it wants is


async def test_a_proxy_header_from_a_stranger_is_no_request(site: Site) -> None:
    for header in (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\n\r\n", b"PROXY "):
        async with connected(site.server, site.trust) as client:
            await client.send(header)
            assert await client.is_closed_by_the_server()
    assert site.server.streams.closings[Closing.MALFORMED] == 2


async def test_the_pages_see_the_client_behind_the_load_balancer() -> None:
    pages = Pages()
    await pages.runner.setup()
    async with harness(http=pages.protocol, proxy_sources=["127.0.0.1/32"]) as server, connected(server) as client:
        await client.send(b"PROXY TCP6 2001:db8::1 2001:db8::2 4711 443\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await client.read()).startswith(b"HTTP/1.1 200")
    await pages.runner.cleanup()
    assert pages.peers == [("2001:db8::1", 4711, 0, 0)]


async def test_pages_that_need_tls_are_not_served_in_the_clear() -> None:
    protocol = Recording()
    async with (
        harness(http=lambda: protocol, http_needs_tls=True) as server,
        connected(server, first=b"GET / HTTP/1.1\r\n\r\n") as client,
    ):
        assert await client.is_closed_by_the_server()
        assert server.streams.closings[Closing.MALFORMED] == 1
    assert protocol.told == []


class Recording(asyncio.Protocol):
    """Writes down what a transport tells it."""

    def __init__(self) -> None:
        self.told: list[object] = []
        self.transport: asyncio.BaseTransport | None = None
        self.heard = asyncio.Event()
        self.lost = asyncio.Event()
        self.resumed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.told.append("made")

    def data_received(self, data: bytes) -> None:
        if data == b"GET fault":
            raise ValueError("a fault of the pages")
        self.told.append(data)
        self.heard.set()

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")
        self.resumed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        assert exc is None
        self.told.append("lost")
        self.lost.set()


async def begun(protocol: Recording) -> StreamTransport:
    """The transport, as soon as the protocol has heard its first bytes."""
    await soon(protocol.heard.wait())
    protocol.heard.clear()
    assert isinstance(protocol.transport, StreamTransport)
    return protocol.transport


async def test_a_protocol_is_paused_and_resumed_once_each_at_its_limits() -> None:
    protocol = Recording()
    async with harness(http=lambda: protocol) as server, connected(server, receive_buffer=4096) as client:
        await client.send(b"GET")
        transport = await begun(protocol)
        assert transport.get_write_buffer_limits() == (16_384, 65_536)
        transport.set_write_buffer_limits(high=300_000, low=100_000)
        written = 0
        while "pause" not in protocol.told:
            transport.writelines([bytes(5000), bytearray(5000)])
            written += 10_000
        assert 300_000 < transport.get_write_buffer_size() <= 310_000
        transport.write(bytes(10_000))
        await client.read_exactly(written + 10_000)
        await soon(protocol.resumed.wait())
        assert protocol.told == ["made", b"GET", "pause", "resume"]
        with pytest.raises(ValueError, match="must not lie below"):
            transport.set_write_buffer_limits(high=1, low=2)
        with pytest.raises(NotImplementedError):
            transport.write_eof()
        assert not transport.can_write_eof()


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_the_loss_is_told_once_and_not_from_within(end: str) -> None:
    protocol = Recording()
    async with harness(http=lambda: protocol) as server, connected(server, first=b"GET"):
        transport = await begun(protocol)
        getattr(transport, end)()
        assert "lost" not in protocol.told
        assert transport.is_closing()
        assert not transport.is_reading()
        transport.write(b"too late")
        transport.close()
        transport.pause_reading()
        transport.resume_reading()
        await soon(protocol.lost.wait())
        assert protocol.told == ["made", b"GET", "lost"]


async def test_a_fault_of_the_pages_ends_their_connection_and_reaches_the_log() -> None:
    faults: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context))
    protocol = Recording()
    async with harness(http=lambda: protocol) as server, connected(server, first=b"GET fault") as client:
        assert await client.is_closed_by_the_server()
        await soon(protocol.lost.wait())
    assert [type(fault["exception"]) for fault in faults] == [ValueError]


async def test_nothing_more_is_read_while_the_protocol_pauses() -> None:
    protocol = Recording()
    async with harness(http=lambda: protocol) as server, connected(server, first=b"GET") as client:
        transport = await begun(protocol)
        assert transport.is_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        await client.send(b"later")
        async with connected(server, first=REQUEST):
            await server.message()
        assert protocol.told == ["made", b"GET"]
        transport.resume_reading()
        await soon(protocol.heard.wait())
        assert protocol.told == ["made", b"GET", b"later"]
