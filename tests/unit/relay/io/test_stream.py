"""Connections of clients over real sockets on loopback, in TCP and in TLS."""

import asyncio
import itertools
import socket
import ssl
import struct
import subprocess
from collections.abc import AsyncIterator

import pytest

from relay.datapath import Drop
from relay.five_tuple import Transport
from relay.io.stream import MAX_WRITE, READ_BYTES, Closing, StreamConnection
from relay.io.stream_listener import SEND_BUFFER_BYTES, UNSENT_BYTES
from relay.out_queue import MAX_MESSAGE_BYTES
from stun.address import TransportAddress
from stun.demux import encode_channel_data
from stun.message import encode_message
from stun.registry import MessageClass, Method
from tests.support.stream_harness import HOST, REQUEST, Harness, connected, harness, soon, tls_contexts

SEND = encode_message(Method.SEND, MessageClass.INDICATION, bytes(12))
CHANNEL = encode_channel_data(0x4000, b"12345")
PADDED = CHANNEL + bytes(3)
PROXY_V1 = b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n"
PROXY_V2 = (
    bytes.fromhex("0d0a0d0a000d0a515549540a2111000c") + bytes([192, 0, 2, 1] * 2) + struct.pack("!HH", 56324, 443)
)
BEHIND_THE_PROXY = TransportAddress.parse("192.0.2.1", 56324)
SMALL = 4096  # bytes, of a receive buffer


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    return tls_contexts(tmp_path_factory.mktemp("tls"), "stun.turn", "stun.nat-discovery")


@pytest.fixture
async def server(contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> AsyncIterator[Harness]:
    async with harness(tls=contexts[0]) as opened:
        yield opened


@pytest.fixture(params=[Transport.TCP, Transport.TLS])
def kind(request: pytest.FixtureRequest) -> Transport:
    assert isinstance(request.param, Transport)
    return request.param


@pytest.fixture
def trust(kind: Transport, contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> ssl.SSLContext | None:
    """What the client connects with: TLS or nothing."""
    return contexts[1] if kind is Transport.TLS else None


class Clock:
    """Monotonic time that passes when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("relay.io.stream.monotonic", clock)
    return clock


def tuned(sock: socket.socket, level: int, option: int) -> int:
    return sock.getsockopt(level, option)


# What clients say


async def test_plain_and_tls_are_told_apart_on_one_port(
    server: Harness, kind: Transport, trust: ssl.SSLContext | None
) -> None:
    async with connected(server, trust) as client:
        await client.send(REQUEST)
        server_address = TransportAddress.parse(*server.address)
        assert await server.path() == (kind, server_address, TransportAddress.parse(*client.sock.getsockname()))


@pytest.mark.parametrize("step", [1, 2, 3, 5, 19, 21, 64])
async def test_messages_arrive_whole_however_they_are_cut(
    server: Harness, trust: ssl.SSLContext | None, step: int
) -> None:
    server.service.relay = server.relay
    frames = [REQUEST, *(encode_channel_data(0x4000, bytes([size]) * size) for size in range(40)), SEND]
    stream = b"".join(frame + bytes(-len(frame) % 4) for frame in frames) + REQUEST
    async with connected(server, trust) as client:
        for at in range(0, len(stream), step):
            await client.send(stream[at : at + step])
        assert [await server.message(), await server.message()] == [REQUEST, REQUEST]
    assert [entry for entry in server.log if entry != "flush"] == frames[1:]


async def test_large_and_many_frames_arrive_in_their_order(server: Harness, trust: ssl.SSLContext | None) -> None:
    server.service.relay = server.relay
    sizes = [65_535, 0, 1, 16_384, 60_000, 3, 65_532, 1200, *range(0, 4000, 37)]
    frames = [encode_channel_data(0x4000, bytes([size % 251]) * size) for size in sizes]
    stream = REQUEST + b"".join(frame + bytes(-len(frame) % 4) for frame in frames) + REQUEST
    async with connected(server, trust) as client:
        await client.send(stream)
        assert [await server.message(), await server.message()] == [REQUEST, REQUEST]
    assert [entry for entry in server.log if entry != "flush"] == frames
    assert set(server.drops.values()) == {0}


async def test_what_follows_the_handshake_at_once_is_not_lost(
    server: Harness, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    """The last bytes of the handshake and 200 KiB of messages come in one read."""
    server.service.relay = server.relay
    frame = encode_channel_data(0x4000, bytes(1000))
    async with connected(server) as client:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = contexts[1].wrap_bio(incoming, outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        await client.send(outgoing.read())
        while True:
            incoming.write(await client.read())
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                continue
            break
        tls.write(REQUEST)
        for _ in range(200):
            tls.write(frame)
        tls.write(REQUEST)
        await client.send(outgoing.read())
        assert [await server.message(), await server.message()] == [REQUEST, REQUEST]
    assert [entry for entry in server.log if entry != "flush"] == [frame] * 200


async def test_the_relay_is_flushed_after_a_batch_and_before_the_control_plane_acts(server: Harness) -> None:
    server.service.relay = server.relay
    server.service.on_message = lambda _connection, _data: server.log.append("message")
    async with connected(server) as client:
        await client.send(REQUEST + PADDED + SEND + REQUEST + PADDED)
        await server.message()
        await server.message()
    assert server.log == ["flush", "message", CHANNEL, SEND, "flush", "message", CHANNEL, "flush"]


async def test_what_the_relay_leaves_alone_goes_to_the_service(server: Harness) -> None:
    server.service.relay = server.relay
    server.relay.takes = False
    async with connected(server) as client:
        await client.send(REQUEST + SEND)
        assert [await server.message(), await server.message()] == [REQUEST, SEND]


async def test_channel_data_without_an_allocation_is_counted_and_goes_nowhere(server: Harness) -> None:
    async with connected(server) as client:
        await client.send(REQUEST + PADDED + SEND)
        assert [await server.message(), await server.message()] == [REQUEST, SEND]
        assert server.drops[Drop.NO_ALLOCATION] == 1


@pytest.mark.parametrize(
    "junk",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /",
        PROXY_V1 + REQUEST,
        PROXY_V2 + REQUEST,
        PADDED,
        b"\x80" * 40,
        b"\x04",
        b"\0\1\0\0\x21\x12\xa4\x43" + bytes(12),
        REQUEST + b"\x16\x03\x01\x02",
        REQUEST + b"\xff" * 4,
    ],
)
async def test_junk_closes_the_connection_and_is_counted(
    server: Harness, trust: ssl.SSLContext | None, junk: bytes
) -> None:
    async with connected(server, trust) as client:
        await client.send(junk)
        assert await client.is_closed_by_the_server()
    assert server.drops[Drop.MALFORMED] == server.streams.closings[Closing.MALFORMED] == 1
    assert len(server.listener) == 0
    assert server.service.open == []


async def test_a_client_hello_is_junk_where_there_is_no_certificate() -> None:
    async with harness() as opened, connected(opened) as client:
        await client.send(bytes.fromhex("160301020001"))
        assert await client.is_closed_by_the_server()
        assert opened.streams.closings[Closing.MALFORMED] == 1


async def test_a_handshake_that_fails_closes_the_connection_with_an_alert(server: Harness) -> None:
    async with connected(server) as client:
        await client.send(bytes.fromhex("1603010005") + b"hello")
        assert (await client.read())[:1] == b"\x15"
        assert await client.is_closed_by_the_server()
    assert server.streams.closings[Closing.HANDSHAKE_FAILED] == 1


async def test_a_record_that_was_tampered_with_closes_the_connection(
    server: Harness, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    async with connected(server, contexts[1]) as client:
        await client.send(REQUEST)
        assert await server.message() == REQUEST
        client.tls = None
        await client.send(bytes.fromhex("1703030020") + bytes(32))
        assert await client.is_closed_by_the_server()
    assert server.streams.closings[Closing.MALFORMED] == 1


async def test_a_client_that_leaves_is_reported_once(server: Harness, trust: ssl.SSLContext | None) -> None:
    async with connected(server, trust) as client:
        await client.send(REQUEST)
        await server.message()
        connection = server.connection
    assert await soon(server.service.lost.get()) is connection
    assert len(server.listener) == len(server.streams.by_path) == 0
    connection.abort()
    connection.detach()
    connection.send_message(REQUEST)
    with pytest.raises(OSError, match="descriptor"):
        connection.send(PADDED)
    assert server.service.lost.empty()
    assert sum(server.streams.closings.values()) == 0


# Deadlines


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"", Closing.NO_MESSAGE),
        (REQUEST[:19], Closing.NO_MESSAGE),
        (b"\0\1\xff\xfc\x21\x12\xa4\x42", Closing.NO_MESSAGE),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", Closing.NO_HANDSHAKE),
    ],
)
async def test_a_connection_that_does_not_come_to_the_point_is_closed(
    server: Harness, monkeypatch: pytest.MonkeyPatch, said: bytes, reason: Closing
) -> None:
    monkeypatch.setattr("relay.io.stream.FIRST_MESSAGE_SECONDS", 0.05)
    async with connected(server, first=said) as client:
        assert await client.is_closed_by_the_server()
    assert server.streams.closings == dict.fromkeys(Closing, 0) | {reason: 1}


async def test_trickling_does_not_prolong_the_deadline(server: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.io.stream.FIRST_MESSAGE_SECONDS", 0.2)
    async with connected(server) as client:

        async def trickle() -> None:
            for byte in itertools.chain(b"\0\1\xff\xfc\x21\x12\xa4\x42", itertools.repeat(0)):
                await client.send(bytes((byte,)))
                await asyncio.sleep(0)

        trickling = asyncio.create_task(trickle())
        assert await client.is_closed_by_the_server()
        with pytest.raises(ConnectionError):
            await soon(trickling)
    assert server.streams.closings[Closing.NO_MESSAGE] == 1


async def test_an_allocation_lifts_the_deadline_and_its_end_sets_it_again(
    server: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()

    def seconds_left() -> float | None:
        deadline = server.connection._deadline
        return None if deadline is None else deadline.when() - loop.time()

    async with connected(server) as client:
        await client.send(REQUEST)
        await server.message()
        left = seconds_left()
        assert left is not None
        assert 50 < left <= 60.1
        deadline = server.connection._deadline
        await client.send(REQUEST)
        await server.message()
        assert server.connection._deadline is deadline  # talking does not prolong it
        server.connection.attach(server.relay)
        assert seconds_left() is None
        monkeypatch.setattr("relay.io.stream.ALLOCATION_SECONDS", 0.01)
        server.connection.detach()
        assert await client.is_closed_by_the_server()
    assert server.streams.closings[Closing.NO_ALLOCATION] == 1


# The way out


async def test_messages_and_media_reach_the_client(server: Harness, trust: ssl.SSLContext | None) -> None:
    async with connected(server, trust) as client:
        await client.send(REQUEST)
        await server.message()
        connection = server.connection
        assert connection.pads
        connection.send_message(REQUEST)
        connection.send(memoryview(PADDED))
        connection.send_burst(memoryview(PADDED + PADDED), len(PADDED))
        assert [await client.frame() for _ in range(4)] == [REQUEST, CHANNEL, CHANNEL, CHANNEL]


async def test_a_burst_is_one_record_as_long_as_it_fits_one(
    server: Harness, contexts: tuple[ssl.SSLContext, ssl.SSLContext]
) -> None:
    async with connected(server, contexts[1]) as client:
        await client.send(REQUEST)
        await server.message()
        frame = encode_channel_data(0x4000, bytes(1096))
        server.connection.send(PADDED)
        assert await client.frame() == CHANNEL
        before = client.records
        server.connection.send_burst(frame * 8, len(frame))
        assert [await client.frame() for _ in range(8)] == [frame] * 8
        assert client.records - before == 1
        server.connection.send_burst(frame * 44, len(frame))
        assert [await client.frame() for _ in range(44)] == [frame] * 44
        assert client.records - before == 1 + -(-44 // (MAX_WRITE // len(frame)))


def numbered(number: int) -> bytes:
    """A media message that can be recognised."""
    return encode_channel_data(0x4000, number.to_bytes(4) + bytes(1092))


def answer(number: int) -> bytes:
    """A STUN message that can be recognised."""
    return encode_message(Method.BINDING, MessageClass.SUCCESS, number.to_bytes(12))


def fill(connection: StreamConnection, burst: int = 1) -> int:
    """Send numbered media until it has to wait; returns the next number."""
    numbers = itertools.count()
    while not connection.unsent:
        messages = [numbered(next(numbers)) for _ in range(burst)]
        if burst == 1:
            connection.send(messages[0])
        else:
            connection.send_burst(b"".join(messages), len(messages[0]))
    return next(numbers)


@pytest.mark.parametrize("burst", [1, 8, 40])
async def test_a_client_that_did_not_read_gets_every_answer_and_recent_media_in_whole_frames(
    server: Harness, trust: ssl.SSLContext | None, clock: Clock, burst: int
) -> None:
    async with connected(server, trust, receive_buffer=SMALL) as client:
        await client.send(REQUEST)
        await server.message()
        connection = server.connection
        following = fill(connection, burst)
        stale = range(following, following + 100)
        for number in stale:
            connection.send(numbered(number))
            connection.send_message(answer(number))
            clock.now += 0.001
        assert server.drops[Drop.CLIENT_SLOW] == 0
        clock.now += 0.25
        recent = range(stale.stop, stale.stop + 50)
        for number in recent:
            connection.send(numbered(number))
        assert server.drops[Drop.CLIENT_SLOW] >= len(stale)
        frames: list[bytes] = []
        while not frames or frames[-1] != numbered(recent[-1]):
            frames.append(await client.frame())
        assert [frame for frame in frames if frame[0] < 0x40] == [answer(number) for number in stale]
        media = [int.from_bytes(frame[4:8]) for frame in frames if frame[0] >= 0x40]
        assert media == sorted(media)
        assert media[-50:] == list(recent)
        assert not set(media) & set(stale)
        assert server.drops[Drop.CLIENT_SLOW] + len(media) == recent.stop
        connection.send(numbered(7))  # and all is as before
        assert await client.frame() == numbered(7)
        assert connection.unsent == 0


async def test_what_the_kernel_hides_is_little(server: Harness) -> None:
    """The unsent part is bounded by us; what the client has not read is its own receive buffer's and ours in flight."""
    async with connected(server, receive_buffer=SMALL) as client:
        await client.send(REQUEST)
        await server.message()
        taken = fill(server.connection) * len(numbered(0))
        assert taken < 4 * SMALL + 2 * UNSENT_BYTES + READ_BYTES
        sock = server.connection.sock
        assert tuned(sock, socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert tuned(sock, socket.IPPROTO_TCP, 25) == UNSENT_BYTES
        assert tuned(sock, socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * SEND_BUFFER_BYTES  # the kernel doubles it


async def test_a_client_that_asks_on_without_reading_is_disconnected(
    server: Harness, trust: ssl.SSLContext | None
) -> None:
    async with connected(server, trust, receive_buffer=SMALL) as client:
        await client.send(REQUEST)
        await server.message()
        connection = server.connection
        fill(connection)
        for number in range(MAX_MESSAGE_BYTES // len(answer(0)) + 2):
            connection.send_message(answer(number))
        assert await soon(server.service.lost.get()) is connection
        assert server.streams.closings[Closing.UNREAD] == 1
        assert await client.is_closed_by_the_server()


async def test_a_flood_of_media_costs_a_slow_client_media_and_not_its_connection(
    server: Harness, trust: ssl.SSLContext | None, clock: Clock
) -> None:
    del clock  # it stands still: nothing is too old
    async with connected(server, trust, receive_buffer=SMALL) as client:
        await client.send(REQUEST)
        await server.message()
        following = fill(server.connection)
        for number in range(following, following + 3000):
            server.connection.send(numbered(number))
        assert server.connection.unsent < (1 << 20) + 2 * MAX_WRITE
        assert server.drops[Drop.CLIENT_SLOW] > 1000
        server.connection.send_message(answer(1))
        while await client.frame() != answer(1):
            pass


# Behind a load balancer


@pytest.mark.parametrize("header", [PROXY_V1, PROXY_V2])
@pytest.mark.parametrize("step", [1, 7, 1000])
async def test_a_load_balancer_tells_the_address_of_the_client(
    contexts: tuple[ssl.SSLContext, ssl.SSLContext],
    kind: Transport,
    trust: ssl.SSLContext | None,
    header: bytes,
    step: int,
) -> None:
    async with harness(tls=contexts[0], proxy_sources=["127.0.0.0/8"]) as opened, connected(opened) as client:
        for at in range(0, len(header), step):
            await client.send(header[at : at + step])
        if trust is not None:
            await client.start_tls(trust)
        await client.send(REQUEST)
        assert await opened.path() == (kind, TransportAddress.parse(*opened.address), BEHIND_THE_PROXY)


async def test_header_and_first_message_may_come_at_once() -> None:
    async with harness(proxy_sources=["127.0.0.1/32"]) as opened, connected(opened) as client:
        await client.send(PROXY_V2 + REQUEST + REQUEST)
        assert (await opened.path()).client == (await opened.path()).client == BEHIND_THE_PROXY


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", PROXY_V2[:12] + bytes.fromhex("20000000")])
async def test_a_load_balancer_that_speaks_for_itself_is_the_client(header: bytes) -> None:
    async with harness(proxy_sources=["127.0.0.1/32"]) as opened, connected(opened) as client:
        await client.send(header + REQUEST)
        assert (await opened.path()).client == TransportAddress.parse(*client.sock.getsockname())


@pytest.mark.parametrize("said", [REQUEST, b"\x16\x03\x01", b"PROXY TCP4 x\r\n", PROXY_V2[:12] + b"\x11\x11\0\x0c"])
async def test_a_load_balancer_without_a_header_is_not_listened_to(said: bytes) -> None:
    async with harness(proxy_sources=["127.0.0.1/32"]) as opened, connected(opened) as client:
        await client.send(said)
        assert await client.is_closed_by_the_server()
        assert opened.streams.closings[Closing.BAD_PROXY_HEADER] == 1
        assert opened.service.received.empty()


async def test_half_a_header_is_waited_for_without_work_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.io.stream.FIRST_MESSAGE_SECONDS", 0.1)
    calls = 0
    ready = StreamConnection._on_ready

    def counted(connection: StreamConnection, events: int) -> None:
        nonlocal calls
        calls += 1
        ready(connection, events)

    monkeypatch.setattr(StreamConnection, "_on_ready", counted)
    async with harness(proxy_sources=["127.0.0.1/32"]) as opened, connected(opened) as client:
        await client.send(PROXY_V1[:20])
        assert await client.is_closed_by_the_server()
        assert opened.streams.closings[Closing.NO_MESSAGE] == 1
    assert calls <= 2


async def test_a_newer_connection_with_the_same_five_tuple_takes_the_place_of_the_older() -> None:
    async with (
        harness(proxy_sources=["127.0.0.1/32"]) as opened,
        connected(opened, first=PROXY_V1 + REQUEST) as older,
    ):
        await opened.message()
        first = opened.connection
        async with connected(opened, first=PROXY_V1 + REQUEST):
            await opened.message()
            assert await older.is_closed_by_the_server()
            assert await soon(opened.service.lost.get()) is first
            assert opened.connection is not first
            assert opened.streams.closings[Closing.REPLACED] == 1
            assert opened.streams.by_path == {opened.connection.path: opened.connection}


# A connection that becomes a pipe (RFC 6062)


class Owner:
    """Takes a connection over as soon as its first message has come."""

    def __init__(self, server: Harness) -> None:
        self.data = b""
        self.sent = asyncio.Event()
        self.lost = asyncio.Event()
        self.arrived = asyncio.Event()
        self.connection: StreamConnection | None = None
        server.service.on_message = self._take

    def _take(self, connection: StreamConnection, _data: bytes) -> None:
        connection.send_message(answer(1))
        self.connection = connection
        self._receive(connection.take_over(self._receive, self.lost.set, self.sent.set))

    def _receive(self, data: bytes) -> None:
        self.data += data
        self.arrived.set()

    async def has(self, expected: bytes) -> bool:
        while len(self.data) < len(expected):
            self.arrived.clear()
            await soon(self.arrived.wait())
        return self.data == expected


async def test_a_pipe_begins_right_behind_the_message_whatever_the_bytes(
    server: Harness, trust: ssl.SSLContext | None
) -> None:
    owner = Owner(server)
    async with connected(server, trust) as client:
        await client.send(REQUEST + b"\xff\0raw" + PADDED)
        assert await owner.has(b"\xff\0raw" + PADDED)
        await client.send(b"and more")
        assert await owner.has(b"\xff\0raw" + PADDED + b"and more")
        assert owner.connection is not None
        owner.connection.write(b"\x80 back")
        assert await client.read_exactly(20 + 6) == answer(1) + b"\x80 back"
        assert server.connection._deadline is None
    await soon(owner.lost.wait())
    assert server.drops[Drop.MALFORMED] == 0
    assert server.service.open == []


async def test_a_pipe_holds_back_and_loses_nothing(server: Harness, trust: ssl.SSLContext | None) -> None:
    owner = Owner(server)
    async with connected(server, trust, receive_buffer=SMALL) as client:
        await client.send(REQUEST)
        await client.read_exactly(20)
        connection = owner.connection
        assert connection is not None
        sent = b""
        for number in itertools.count():
            piece = number.to_bytes(4) * 5000
            connection.write(piece)
            sent += piece
            if connection.unsent > 300_000:
                break
        assert not owner.sent.is_set()
        assert await client.read_exactly(len(sent)) == sent
        await soon(owner.sent.wait())
        assert connection.unsent == 0


async def test_a_pipe_can_stop_reading_and_go_on(server: Harness) -> None:
    owner = Owner(server)
    async with connected(server) as client:
        await client.send(REQUEST)
        await client.read_exactly(20)
        connection = owner.connection
        assert connection is not None
        connection.pause_reading()
        await client.send(b"later")
        async with connected(server, first=REQUEST) as other:  # a whole round of the loop and more
            await other.read_exactly(20)
        assert owner.data == b""
        connection.resume_reading()
        assert await owner.has(b"later")


async def test_a_paused_pipe_notices_that_the_client_is_gone(server: Harness) -> None:
    owner = Owner(server)
    async with connected(server) as client:
        await client.send(REQUEST)
        await client.read_exactly(20)
        assert owner.connection is not None
        owner.connection.pause_reading()
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await soon(owner.lost.wait())


async def test_a_pipe_that_is_closed_sends_what_waits(server: Harness, trust: ssl.SSLContext | None) -> None:
    owner = Owner(server)
    async with connected(server, trust, receive_buffer=SMALL) as client:
        await client.send(REQUEST)
        await client.read_exactly(20)
        assert owner.connection is not None
        owner.connection.write(bytes(1 << 20))
        owner.connection.close()
        assert owner.connection.is_closing
        assert not owner.lost.is_set()
        assert await client.read_exactly(1 << 20) == bytes(1 << 20)
        assert await client.is_closed_by_the_server()
        await soon(owner.lost.wait())


async def test_a_pipe_that_is_closed_does_not_wait_for_ever(server: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.io.stream.LINGER_SECONDS", 0.01)
    owner = Owner(server)
    async with connected(server, receive_buffer=SMALL) as client:
        await client.send(REQUEST)
        await client.read_exactly(20)
        assert owner.connection is not None
        owner.connection.write(bytes(1 << 20))
        owner.connection.close()
        await soon(owner.lost.wait())
    assert server.streams.closings[Closing.LINGERED] == 1


async def test_a_pipe_whose_owner_never_holds_back_is_closed(server: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.io.stream.MAX_PIPE_BYTES", 1 << 20)
    owner = Owner(server)
    async with connected(server, receive_buffer=SMALL) as client:
        await client.send(REQUEST)
        await client.read_exactly(20)
        assert owner.connection is not None
        owner.connection.write(bytes(2 << 20))
        assert owner.lost.is_set()
    assert server.streams.closings[Closing.UNREAD] == 1


# Another implementation of TLS' client


@pytest.mark.parametrize(
    ("options", "version"),
    [
        (["-tls1_3", "-alpn", "stun.turn"], "TLSv1.3"),
        (["-tls1_2", "-alpn", "stun.nat-discovery"], "TLSv1.2"),
        (["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256", "-alpn", "stun.turn"], "TLSv1.2"),
        (["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], None),
        (["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"], None),
        (["-tls1_2", "-cipher", "AES128-GCM-SHA256"], None),
    ],
)
async def test_openssl_is_accepted_with_1_2_and_1_3_and_nothing_older_or_weaker(
    server: Harness, options: list[str], version: str | None
) -> None:
    command = ["openssl", "s_client", "-connect", f"{HOST}:{server.address[1]}", *options]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output, _ = await soon(process.communicate())
    told = output.decode()
    assert (process.returncode == 0) == (version is not None), told
    assert ("Cipher is (NONE)" in told) == (version is None)
    if version is not None:
        assert f"New, {version}, Cipher is " in told
        assert f"ALPN protocol: {options[-1]}" in told
    else:
        assert server.streams.closings[Closing.HANDSHAKE_FAILED] == 1
