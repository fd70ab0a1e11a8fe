"""A stream listener on loopback with a recording service behind it, and clients over real sockets."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from config.self_signed import issue_certificate, new_private_key
from config.tls import build_server_context
from relay.datapath import Drop
from relay.five_tuple import FiveTuple
from relay.io.clients import ClientRelay, Connection
from relay.io.poller import Poller
from relay.io.stream import StreamConnection, Streams
from relay.io.stream_listener import StreamListener
from stun.demux import StreamDecoder
from stun.message import encode_message
from stun.registry import MessageClass, Method
from tests.support.udp_endpoint import PATIENCE

T = TypeVar("T")

HOST = "127.0.0.1"
REQUEST = encode_message(Method.BINDING, MessageClass.REQUEST, bytes(12))


class RecordingRelay(ClientRelay):
    """Takes channels and indications; says in which order it was asked for what."""

    def __init__(self, log: list[bytes | str]) -> None:
        self.log = log
        self.takes = True

    def relay_one(self, view: memoryview, size: int, head: int, now: float) -> bool:
        assert head == int.from_bytes(view[:4])
        taken = self.from_client(view, 0, size, now)
        if taken:
            self.flush()
        return taken

    def relay_run(self, _view: memoryview, _size: int, _segment: int, _head: int, _now: float) -> bool:
        return False

    def from_client(self, view: memoryview, start: int, end: int, _now: float) -> bool:
        if not self.takes or (view[start] < 0x40 and view[start + 1] != 0x16):
            return False
        self.log.append(bytes(view[start:end]))
        return True

    def flush(self) -> None:
        self.log.append("flush")


class RecordingService:
    """Plays the service: knows its connections, and hands out what came to whoever waits for it."""

    def __init__(self) -> None:
        self.open: list[StreamConnection] = []
        self.lost: asyncio.Queue[StreamConnection] = asyncio.Queue()
        self.received: asyncio.Queue[tuple[bytes, FiveTuple]] = asyncio.Queue()
        self.relay: ClientRelay | None = None  # attached to every new connection
        self.on_message: Callable[[StreamConnection, bytes], object] = lambda _connection, _data: None

    def connected(self, connection: Connection) -> None:
        assert isinstance(connection, StreamConnection)
        self.open.append(connection)
        if self.relay is not None:
            connection.attach(self.relay)

    def disconnected(self, connection: Connection) -> None:
        assert isinstance(connection, StreamConnection)
        self.open.remove(connection)
        self.lost.put_nowait(connection)

    def receive(self, data: bytes, path: FiveTuple) -> None:
        self.received.put_nowait((data, path))
        (connection,) = [each for each in self.open if each.path == path]
        self.on_message(connection, data)


async def soon(wait: Awaitable[T]) -> T:
    async with asyncio.timeout(PATIENCE):
        return await wait


class Harness:
    """A listener that is open."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401
        self.service = RecordingService()
        self.log: list[bytes | str] = []
        self.relay = RecordingRelay(self.log)
        self.drops = dict.fromkeys(Drop, 0)
        loop = asyncio.get_running_loop()
        self.poller = Poller(loop)
        self.streams = Streams(loop, self.poller, self.service, self.drops, **options)
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.bind((HOST, 0))
        self.address: tuple[str, int] = sock.getsockname()
        self.capacity = 1000
        self.listener = StreamListener(self.streams, sock, lambda: len(self.listener) < self.capacity)

    @property
    def connection(self) -> StreamConnection:
        (connection,) = self.service.open
        return connection

    async def message(self) -> bytes:
        return (await soon(self.service.received.get()))[0]

    async def path(self) -> FiveTuple:
        return (await soon(self.service.received.get()))[1]


class Client:
    """A plain TCP client, or with `start_tls` one that goes on in TLS; both ends non-blocking."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.tls: ssl.SSLObject | None = None
        self.records = 0  # of application data and others that came since the handshake
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._wire = b""
        self._decoder = StreamDecoder()
        self._frames: list[bytes] = []

    async def send(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        if self.tls is not None:
            self.tls.write(data)
            data = self._outgoing.read()
        await soon(loop.sock_sendall(self.sock, data))

    async def start_tls(self, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                if self._outgoing.pending:
                    await soon(loop.sock_sendall(self.sock, self._outgoing.read()))
                self._incoming.write(await self._read_wire())
            else:
                break
        self.tls = tls
        if self._outgoing.pending:
            await soon(loop.sock_sendall(self.sock, self._outgoing.read()))

    async def read(self) -> bytes:
        """Some bytes; none at the end, however it comes."""
        if self.tls is None:
            return await self._read_wire()
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                return self.tls.read(65536)
            wire = await self._read_wire()
            if not wire:
                return b""
            self._count_records(wire)
            self._incoming.write(wire)

    async def read_exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = await self.read()
            assert more, "the connection was closed"
            data += more
        assert len(data) == size
        return data

    async def frame(self) -> bytes:
        while not self._frames:
            data = await self.read()
            assert data, "the connection was closed"
            self._frames += self._decoder.receive(data)
        return self._frames.pop(0)

    async def is_closed_by_the_server(self) -> bool:
        while await self.read():
            pass
        return True

    async def _read_wire(self) -> bytes:
        try:
            return await soon(asyncio.get_running_loop().sock_recv(self.sock, 65536))
        except ConnectionError:
            return b""

    def _count_records(self, wire: bytes) -> None:
        self._wire += wire
        while len(self._wire) >= 5:
            size = 5 + int.from_bytes(self._wire[3:5])
            if len(self._wire) < size:
                break
            self.records += 1
            self._wire = self._wire[size:]


@contextlib.asynccontextmanager
async def harness(**options: Any) -> AsyncIterator[Harness]:  # noqa: ANN401
    opened = Harness(**options)
    try:
        yield opened
    finally:
        opened.listener.close()
        opened.poller.close()


@contextlib.asynccontextmanager
async def connected(
    opened: Harness, tls: ssl.SSLContext | None = None, *, receive_buffer: int = 0, first: bytes = b""
) -> AsyncIterator[Client]:
    """A connected client; `first` is sent before anything else, `receive_buffer` makes it read little at a time."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await soon(asyncio.get_running_loop().sock_connect(sock, opened.address))
        client = Client(sock)
        if first:
            await client.send(first)
        if tls is not None:
            await client.start_tls(tls)
        yield client


def tls_contexts(folder: Path, *alpn: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Server and client side of TLS, with a certificate that nobody else trusts."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    if not key.exists():
        key.write_bytes(new_private_key())
        certificate.write_bytes(issue_certificate(key.read_bytes(), ["localhost", HOST], datetime.now(UTC)))
    return build_server_context(certificate, key, alpn), ssl.create_default_context(cafile=str(certificate))
