"""The sockets of TCP allocations between real peers on the loopback and a client made of lists."""

import asyncio
import contextlib
import itertools
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from relay.errors import PortTaken
from relay.five_tuple import FiveTuple, Transport
from relay.io.poller import Poller
from relay.io.tcp_relay import HIGH_WATER_BYTES, LOW_WATER_BYTES, READ_BYTES, TcpRelays
from relay.tcp_allocation import Close, Connected, ConnectFailed, ConnectionAttempt, Dial, Pair, TcpAllocations
from stun.address import TransportAddress

ALLOCATION = 7
ALICE = "alice\0clinic"
CLIENT = FiveTuple(Transport.TCP, TransportAddress.parse("198.41.0.4", 3478), TransportAddress.parse("62.4.9.8", 1))
FLOOD_BYTES = 32 << 20  # more than the kernel's buffers of both sides hold
LOOPBACK = TransportAddress.parse("127.0.0.1", 0).ip
LOOPBACK_V6 = TransportAddress.parse("::1", 0).ip

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class PipeClient:
    """A client's data connection that takes what it gets, or holds it as long as `is_slow`."""

    def __init__(self, leftover: bytes = b"") -> None:
        self.leftover = leftover
        self.received = bytearray()
        self.unsent = 0
        self.is_slow = False
        self.is_reading = True
        self.is_closed = False
        self.changed = asyncio.Event()

    def take_over(
        self, on_data: Callable[[bytes], None], on_lost: Callable[[], None], on_sent: Callable[[], None] | None = None
    ) -> bytes:
        assert on_sent is not None
        self.send, self.lose, self._on_sent = on_data, on_lost, on_sent
        return self.leftover

    def write(self, data: bytes) -> None:
        assert not self.is_closed
        self.received += data
        if self.is_slow:
            self.unsent += len(data)
        self.changed.set()

    def catch_up(self, unsent: int) -> None:
        self.unsent = unsent
        self.is_slow = False
        self._on_sent()

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True
        self.changed.set()

    def close(self) -> None:
        self.is_closed = True
        self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


class Service:
    """Plays the service: the core decides, its answers are kept, its commands carried out."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ip: bytes) -> None:
        numbers = itertools.count(1)
        self.core: TcpAllocations[str] = TcpAllocations(lambda size: next(numbers).to_bytes(size))
        self.poller = Poller(loop)
        self.relays = TcpRelays(loop, self.poller, self)
        self.is_permitted = True
        self.answers: asyncio.Queue[Connected[str] | ConnectFailed[str] | ConnectionAttempt] = asyncio.Queue()
        self.clients: dict[FiveTuple, PipeClient] = {}
        with socket.socket(socket.AF_INET if len(ip) == 4 else socket.AF_INET6) as probe:
            probe.bind((socket.inet_ntop(probe.family, ip), 0))
            self.address = TransportAddress(ip, probe.getsockname()[1])
        self.core.begin(ALLOCATION, ALICE)
        self.relays.open(ALLOCATION, self.address)

    @property
    def host(self) -> str:
        return socket.inet_ntop(socket.AF_INET if len(self.address.ip) == 4 else socket.AF_INET6, self.address.ip)

    def peer_accepted(self, allocation: int, peer: TransportAddress) -> int | None:
        connection = self.core.accept(allocation, peer, 0.0, is_permitted=self.is_permitted)
        self.drain()
        return connection

    def peer_dialled(self, connection_id: int) -> None:
        self.core.dialled(connection_id, 0.0)
        self.drain()

    def peer_dial_failed(self, connection_id: int) -> None:
        self.core.dial_failed(connection_id)
        self.drain()

    def peer_closed(self, connection_id: int) -> None:
        self.core.closed(connection_id)
        self.drain()

    def connect(self, peer: TransportAddress) -> None:
        self.core.connect(ALLOCATION, peer, "request", 0.0)
        self.drain()

    def bind(self, connection_id: int, client: PipeClient) -> None:
        self.clients[CLIENT] = client
        self.core.bind(connection_id, CLIENT, ALICE)
        self.drain()

    def expire(self) -> None:
        self.core.handle_timeout(30.0)
        self.drain()

    def end(self) -> None:
        self.core.end(ALLOCATION)
        self.drain()

    async def answer(self) -> Any:  # noqa: ANN401
        return await asyncio.wait_for(self.answers.get(), 10)

    def drain(self) -> None:
        while (answer := self.core.poll_answer()) is not None:
            self.answers.put_nowait(answer)
        while (command := self.core.poll_command()) is not None:
            match command:
                case Dial():
                    self.relays.dial(*command)
                case Pair(connection_id, client):
                    self.relays.pair(connection_id, self.clients[client])
                case Close(connection_id):
                    self.relays.drop(connection_id)


@pytest.fixture(params=[LOOPBACK, LOOPBACK_V6], ids=["IPv4", "IPv6"])
async def service(request: pytest.FixtureRequest) -> AsyncIterator[Service]:
    service = Service(asyncio.get_running_loop(), request.param)
    yield service
    service.relays.abort()
    assert len(service.relays) == 0
    assert len(service.poller) == 0, "a descriptor is still watched"
    service.poller.close()


@contextlib.asynccontextmanager
async def listening_peer(host: str) -> AsyncIterator[tuple[TransportAddress, "asyncio.Queue[Stream]"]]:
    accepted: asyncio.Queue[Stream] = asyncio.Queue()
    writers: list[asyncio.StreamWriter] = []

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        accepted.put_nowait((reader, writer))

    server = await asyncio.start_server(accept, host, 0)
    try:
        yield TransportAddress.parse(*server.sockets[0].getsockname()[:2]), accepted
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


@contextlib.asynccontextmanager
async def connecting_peer(service: Service) -> AsyncIterator[Stream]:
    reader, writer = await asyncio.open_connection(service.host, service.address.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def piped(service: Service, client: PipeClient) -> None:
    """Bind the connection of the peer that has just come."""
    attempt = await service.answer()
    service.bind(attempt.connection_id, client)


async def test_a_dialled_peer_sees_the_relayed_transport_address(service: Service) -> None:
    async with listening_peer(service.host) as (peer, accepted):
        service.connect(peer)
        reader, writer = await asyncio.wait_for(accepted.get(), 10)
        connected = await service.answer()
        assert connected == Connected("request", connected.connection_id)
        assert TransportAddress.parse(*writer.get_extra_info("peername")[:2]) == service.address
        client = PipeClient(leftover=b"early ")
        writer.write(b"before the bind")
        await writer.drain()
        service.bind(connected.connection_id, client)
        await client.until(lambda: client.received == b"before the bind")
        client.send(b"bird")
        assert await reader.readexactly(10) == b"early bird"
        assert service.relays.traffic(ALLOCATION) == (0, 10, 0, 15)


async def test_two_peers_are_dialled_from_the_same_port(service: Service) -> None:
    async with listening_peer(service.host) as (peer, accepted), listening_peer(service.host) as (other, _):
        service.connect(peer)
        service.connect(other)
        assert {type(await service.answer()) for _ in range(2)} == {Connected}
        assert len(service.relays) == 2
        assert (await accepted.get())[1].get_extra_info("peername")[1] == service.address.port


async def test_a_peer_that_refuses_is_reported(service: Service) -> None:
    with socket.socket(socket.AF_INET if len(service.address.ip) == 4 else socket.AF_INET6) as closed:
        closed.bind((service.host, 0))
        service.connect(TransportAddress(service.address.ip, closed.getsockname()[1]))
        failed = await service.answer()
    assert isinstance(failed, ConnectFailed)
    assert len(service.relays) == 0


async def test_a_relayed_address_does_not_dial_itself(service: Service) -> None:
    service.connect(service.address)
    assert isinstance(await service.answer(), ConnectFailed)


async def test_an_unreachable_peer_is_reported_at_once(service: Service) -> None:
    service.connect(TransportAddress(b"\xff" * len(service.address.ip), 1))
    assert isinstance(await service.answer(), ConnectFailed)


async def test_a_peer_that_connects_is_announced_by_its_address(service: Service) -> None:
    async with connecting_peer(service) as (_, writer):
        attempt = await service.answer()
        assert isinstance(attempt, ConnectionAttempt)
        assert attempt.peer == TransportAddress.parse(*writer.get_extra_info("sockname")[:2])


async def test_a_peer_without_permission_is_closed(service: Service) -> None:
    service.is_permitted = False
    async with connecting_peer(service) as (reader, _):
        assert await reader.read() == b""
    assert service.answers.empty()


async def test_a_connection_that_expires_is_closed(service: Service) -> None:
    async with connecting_peer(service) as (reader, _):
        await service.answer()
        service.expire()
        assert await reader.read() == b""
    assert len(service.relays) == 0


async def test_a_peer_that_leaves_takes_its_client_along(service: Service) -> None:
    client = PipeClient()
    async with connecting_peer(service) as (_, writer):
        await piped(service, client)
        writer.write(b"farewell")
        writer.close()
        await client.until(lambda: client.is_closed)
    assert client.received == b"farewell"
    assert len(service.relays) == len(service.core) == 0


async def test_a_peer_that_breaks_off_takes_its_client_along(service: Service) -> None:
    client = PipeClient()
    async with connecting_peer(service) as (_, writer):
        await piped(service, client)
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        await client.until(lambda: client.is_closed)
    assert len(service.relays) == 0


async def test_a_peer_that_breaks_off_before_the_bind_is_noticed(service: Service) -> None:
    async with connecting_peer(service) as (_, writer):
        attempt = await service.answer()
        gone = asyncio.Event()
        report = service.peer_closed

        def peer_closed(connection_id: int) -> None:
            report(connection_id)
            gone.set()

        service.peer_closed = peer_closed  # type: ignore[method-assign]
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
        await asyncio.wait_for(gone.wait(), 10)
    assert len(service.core) == 0
    client = PipeClient()
    service.relays.pair(attempt.connection_id, client)
    assert client.is_closed, "a pipe to nobody"


async def test_what_a_client_sent_before_it_left_arrives_and_then_the_end(service: Service) -> None:
    client = PipeClient()
    sent = bytes(range(256)) * (FLOOD_BYTES // 256)
    async with connecting_peer(service) as (reader, _):
        await piped(service, client)
        client.send(sent)
        client.lose()
        assert (len(service.core), len(service.relays)) == (0, 1), "it lingers"
        received = bytearray()
        while piece := await reader.read(READ_BYTES):
            received += piece
    assert received == sent
    assert len(service.relays) == 0


async def test_a_peer_that_never_reads_is_not_waited_for_long(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.io.tcp_relay.LINGER_SECONDS", 0.0)
    client = PipeClient()
    async with connecting_peer(service) as (_, writer):
        await piped(service, client)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.send(bytes(FLOOD_BYTES))
        client.lose()
        assert len(service.relays) == 1
        await _turns(20)
        assert len(service.relays) == 0


async def test_a_client_is_held_back_while_its_peer_is_slow(service: Service) -> None:
    client = PipeClient()
    async with connecting_peer(service) as (reader, writer):
        await piped(service, client)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        total = 0
        while client.is_reading:
            client.send(bytes(READ_BYTES))
            total += READ_BYTES
            assert total < 64 << 20, "nothing held it back"
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        await reader.readexactly(total)
        await client.until(lambda: client.is_reading)


async def test_a_peer_is_held_back_while_its_client_is_slow(service: Service) -> None:
    client = PipeClient()
    client.is_slow = True
    async with connecting_peer(service) as (_, writer):
        await piped(service, client)
        writer.write(bytes(FLOOD_BYTES))
        await client.until(lambda: client.unsent > HIGH_WATER_BYTES)
        held = len(client.received)
        assert held <= HIGH_WATER_BYTES + READ_BYTES
        client.catch_up(LOW_WATER_BYTES + 1)
        await asyncio.wait_for(_turns(20), 10)
        assert len(client.received) == held, "not yet"
        client.catch_up(LOW_WATER_BYTES)
        await client.until(lambda: len(client.received) == FLOOD_BYTES)


async def test_the_end_of_an_allocation_closes_its_port_and_its_pipes(service: Service) -> None:
    client = PipeClient()
    async with connecting_peer(service) as (reader, _):
        await piped(service, client)
        client.send(b"all of it")
        service.end()
        traffic = service.relays.close(ALLOCATION)
        assert (traffic.bytes_to_peer, traffic.bytes_to_client) == (9, 0)
        assert await reader.read() == b"all of it"
        assert client.is_closed
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(service.host, service.address.port)
    service.relays.open(ALLOCATION, service.address)  # although connections of the port may be in TIME-WAIT


async def test_a_port_that_somebody_listens_on_is_taken(service: Service) -> None:
    for shares in (False, True):
        with socket.socket(socket.AF_INET if len(service.address.ip) == 4 else socket.AF_INET6) as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shares)
            other.bind((service.host, 0))
            other.listen()
            with pytest.raises(PortTaken):
                service.relays.open(99, TransportAddress(service.address.ip, other.getsockname()[1]))


async def _turns(count: int) -> None:
    """Let the loop go round: what could happen has happened."""
    for _ in range(count):
        await asyncio.sleep(0)
