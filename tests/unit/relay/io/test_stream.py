"""A connection's own decisions, against a transport made of lists; framing over real TCP is in test_service."""

import asyncio

import pytest

from relay.five_tuple import FiveTuple, Transport
from relay.io.datapath.plain import Drop, NotSent, PlainDataPath
from relay.io.stream import ALLOCATION_SECONDS, MAX_MEDIA_OUT_BYTES, MAX_OUT_BYTES, StreamConnection
from stun.address import TransportAddress
from stun.demux import encode_channel_data
from stun.message import encode_message
from stun.registry import MessageClass, Method

REQUEST = encode_message(Method.BINDING, MessageClass.REQUEST, bytes(12))
ROUNDING = 0.1  # seconds; libuv counts whole milliseconds


class FakeTransport(asyncio.Transport):
    def __init__(self, client: tuple[str, int] | None = ("192.0.2.1", 5000)) -> None:
        super().__init__({"peername": client, "sockname": ("192.0.2.9", 3478)})
        self.written = b""
        self.buffered = 0
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted


class Owner:
    """Plays the service, and the plane's table of clients."""

    def __init__(self) -> None:
        self.open: list[StreamConnection] = []
        self.received: list[tuple[bytes, FiveTuple]] = []

    def connection_opened(self, connection: StreamConnection) -> None:
        self.open.append(connection)

    def connection_closed(self, connection: StreamConnection) -> None:
        self.open.remove(connection)

    def receive(self, data: bytes, path: FiveTuple) -> None:
        self.received.append((data, path))


class FakeRelay:
    """Takes what it gets; indications of an unusual shape it leaves alone."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.takes_indications = True

    def from_client(self, view: memoryview, start: int, end: int, _now: float) -> bool:
        message = bytes(view[start:end])
        takes = message[0] >= 0x40 or (message[:2] == b"\0\x16" and self.takes_indications)
        if takes:
            self.frames.append(message)
        return takes

    def flush(self) -> None:
        pass


class Wired:
    def __init__(self) -> None:
        self.owner = Owner()
        self.transport = FakeTransport()
        loop = asyncio.get_running_loop()
        self.plane = PlainDataPath(None, frozenset(), self)  # type: ignore[arg-type]  # it opens no relay here
        self.connection = StreamConnection(loop, Transport.TCP, self.plane, self.owner)

    def attach(self) -> FakeRelay:
        relay = FakeRelay()
        self.connection.attach(relay)
        return relay


@pytest.fixture
async def wired() -> Wired:
    wired = Wired()
    wired.connection.connection_made(wired.transport)
    return wired


async def test_a_message_reaches_the_owner_with_the_five_tuple(wired: Wired) -> None:
    wired.connection.data_received(REQUEST[:7])
    wired.connection.data_received(REQUEST[7:] + REQUEST)
    path = FiveTuple(
        Transport.TCP, TransportAddress.parse("192.0.2.9", 3478), TransportAddress.parse("192.0.2.1", 5000)
    )
    assert wired.owner.received == [(REQUEST, path)] * 2


async def test_channel_data_goes_to_the_relay_and_without_one_nowhere(wired: Wired) -> None:
    frame = encode_channel_data(0x4000, b"12345")
    wired.connection.data_received(frame + bytes(3))
    assert wired.plane.drops[Drop.NO_ALLOCATION] == 1
    relay = wired.attach()
    wired.connection.data_received(frame + bytes(3) + frame + bytes(3))
    assert relay.frames == [frame, frame]
    wired.connection.detach()
    wired.connection.data_received(frame + bytes(3))
    assert len(relay.frames) == 2
    assert wired.owner.received == []


async def test_send_indications_go_to_the_relay_first(wired: Wired) -> None:
    send = encode_message(Method.SEND, MessageClass.INDICATION, bytes(12))
    wired.connection.data_received(send)
    assert [data for data, _ in wired.owner.received] == [send]
    relay = wired.attach()
    wired.connection.data_received(send + REQUEST)
    assert relay.frames == [send]
    relay.takes_indications = False
    wired.connection.data_received(send)
    assert [data for data, _ in wired.owner.received] == [send, REQUEST, send]


async def test_junk_closes_the_connection_and_is_counted(wired: Wired) -> None:
    wired.connection.data_received(b"\x16\x03\x01\x02\x00\x01")
    assert wired.transport.aborted
    assert wired.plane.drops[Drop.MALFORMED] == 1


async def test_media_is_dropped_for_a_slow_client_but_messages_are_kept(wired: Wired) -> None:
    send = wired.connection.link().send
    wired.transport.buffered = MAX_MEDIA_OUT_BYTES
    send(memoryview(b"just"))
    wired.transport.buffered += 1
    with pytest.raises(NotSent) as dropped:
        send(memoryview(b"late"))
    assert dropped.value.reason is Drop.CLIENT_SLOW
    wired.connection.send(REQUEST)
    assert wired.transport.written == b"just" + REQUEST


async def test_a_client_that_reads_nothing_at_all_is_disconnected(wired: Wired) -> None:
    wired.transport.buffered = MAX_OUT_BYTES + 1
    wired.connection.send(REQUEST)
    assert wired.transport.aborted
    assert wired.transport.written == b""


async def test_nothing_is_written_to_a_closing_connection(wired: Wired) -> None:
    send = wired.connection.link().send
    wired.connection.abort()
    wired.connection.send(REQUEST)
    with pytest.raises(NotSent):
        send(memoryview(b"late"))
    wired.connection.connection_lost(None)
    wired.connection.send(REQUEST)
    with pytest.raises(NotSent):
        send(memoryview(b"late"))
    wired.connection.abort()
    assert wired.transport.written == b""
    assert wired.owner.open == []


async def test_a_connection_that_is_gone_before_it_is_looked_at_is_closed() -> None:
    wired = Wired()
    wired.transport = FakeTransport(client=None)
    wired.connection.connection_made(wired.transport)
    assert wired.transport.aborted
    wired.connection.connection_lost(None)
    assert wired.owner.open == []


async def test_deadlines_are_set_moved_and_lifted(wired: Wired) -> None:
    def seconds_left() -> float | None:
        deadline = wired.connection._deadline
        return None if deadline is None else deadline.when() - asyncio.get_running_loop().time()

    first = seconds_left()
    assert first is not None
    assert first <= 10.0 + ROUNDING
    wired.connection.data_received(REQUEST)
    second = seconds_left()
    assert second is not None
    assert 10.0 + ROUNDING < second <= ALLOCATION_SECONDS + ROUNDING
    deadline = wired.connection._deadline
    wired.connection.data_received(REQUEST)
    assert wired.connection._deadline is deadline  # talking does not prolong it
    wired.attach()
    assert seconds_left() is None
    wired.connection.detach()
    assert seconds_left() is not None
    wired.connection.connection_lost(None)
    assert wired.connection._deadline is not None
    assert wired.connection._deadline.cancelled()
