"""A UDP listener over loopback; relays and the control plane are doubles."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from relay.datapath import Drop
from relay.five_tuple import FiveTuple, Transport
from relay.io.clients import ClientRelay
from relay.io.datapath.datagrams import DatagramSocket, Inbox
from relay.io.datapath.segments import Destination, send_run
from relay.io.poller import Poller
from relay.io.udp import REFLECTOR_PORTS, UdpListener
from stun.address import TransportAddress
from stun.demux import encode_channel_data
from stun.message import encode_message
from stun.registry import MessageClass, Method
from tests.support.udp_endpoint import PATIENCE, UdpEndpoint, udp_endpoint

REQUEST = encode_message(Method.BINDING, MessageClass.REQUEST, bytes(12))
FRAME = encode_channel_data(0x4000, b"x" * 16)  # as long as the request: they fit into one run


class Relay(ClientRelay):
    """Takes ChannelData, and tells what it had to send when."""

    def __init__(self) -> None:
        self.waiting: list[bytes] = []
        self.flushed: list[list[bytes]] = []

    def relay_one(self, view: memoryview, size: int, head: int, now: float) -> bool:
        assert head == int.from_bytes(view[:4])
        taken = self.from_client(view, 0, size, now)
        if taken:
            self.flush()
        return taken

    def relay_run(self, _view: memoryview, _size: int, _segment: int, _head: int, _now: float) -> bool:
        return False

    def from_client(self, view: memoryview, start: int, end: int, _now: float) -> bool:
        if view[start] < 0x40:
            return False
        self.waiting.append(bytes(view[start:end]))
        return True

    def flush(self) -> None:
        if self.waiting:
            self.flushed.append(self.waiting)
            self.waiting = []


class Bench:
    """A listener, and what went up from it."""

    def __init__(self, poller: Poller, host: str) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock.bind((host, 0))
        self.address: tuple[str, int] = sock.getsockname()[:2]
        self.drops = dict.fromkeys(Drop, 0)
        self.up: asyncio.Queue[tuple[bytes, FiveTuple]] = asyncio.Queue()
        self.own: set[TransportAddress] = set()
        self.listener = UdpListener(
            poller, TransportAddress.parse(*self.address), sock, self.drops, self.receive, own_listeners=self.own
        )

    def path_of(self, client: UdpEndpoint) -> FiveTuple:
        return FiveTuple(Transport.UDP, self.listener.address, address_of(client))

    def receive(self, data: bytes, path: FiveTuple) -> None:
        self.up.put_nowait((data, path))

    async def next_up(self) -> tuple[bytes, FiveTuple]:
        async with asyncio.timeout(PATIENCE):
            return await self.up.get()


@pytest.fixture(params=["127.0.0.1", "::1"], ids=["IPv4", "IPv6"])
def host(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def bench(host: str) -> AsyncIterator[Bench]:
    poller = Poller(asyncio.get_running_loop())
    bench = Bench(poller, host)
    yield bench
    bench.listener.close()
    poller.close()


@pytest.fixture
async def client(host: str) -> AsyncIterator[UdpEndpoint]:
    async with udp_endpoint(host) as endpoint:
        yield endpoint


def address_of(endpoint: UdpEndpoint) -> TransportAddress:
    return TransportAddress.parse(*endpoint.address)


def send_joined(client: UdpEndpoint, messages: list[bytes], to: tuple[str, int]) -> None:
    """Over loopback a run stays one until the listener takes it."""
    joined = b"".join(messages)
    send_run(DatagramSocket(client._socket, Inbox(1)), joined, 0, len(joined), len(messages[0]), Destination(to))


async def test_a_message_goes_up_with_its_five_tuple(bench: Bench, client: UdpEndpoint) -> None:
    client.send(REQUEST, bench.address)
    assert await bench.next_up() == (REQUEST, bench.path_of(client))


async def test_media_goes_to_the_relay_of_its_client_and_nowhere_without_one(
    bench: Bench, client: UdpEndpoint, host: str
) -> None:
    relay = Relay()
    bench.listener.attach(bench.path_of(client), relay)
    async with udp_endpoint(host) as stranger:
        stranger.send(FRAME, bench.address)
        client.send(FRAME, bench.address)
        client.send(REQUEST, bench.address)
        assert (await bench.next_up())[0] == REQUEST
        assert relay.flushed == [[FRAME]]
        assert bench.drops[Drop.NO_ALLOCATION] == 1
        bench.listener.detach(address_of(client))
        bench.listener.detach(address_of(client))
        client.send(FRAME, bench.address)
        client.send(REQUEST, bench.address)
        assert (await bench.next_up())[0] == REQUEST
    assert relay.flushed == [[FRAME]]
    assert bench.drops[Drop.NO_ALLOCATION] == 2


async def test_a_joined_run_is_taken_apart_and_flushed_once(bench: Bench, client: UdpEndpoint) -> None:
    relay = Relay()
    bench.listener.attach(bench.path_of(client), relay)
    last = encode_channel_data(0x4000, b"short")
    send_joined(client, [FRAME] * 9 + [last], bench.address)
    client.send(REQUEST, bench.address)
    assert (await bench.next_up())[0] == REQUEST
    assert relay.flushed == [[FRAME] * 9 + [last]]


async def test_a_request_within_a_run_goes_up_after_what_came_before_it(bench: Bench, client: UdpEndpoint) -> None:
    relay = Relay()
    seen: list[list[list[bytes]]] = []

    def look(data: bytes, path: FiveTuple) -> None:
        seen.append(list(relay.flushed))
        bench.receive(data, path)

    bench.listener._upcall = look
    bench.listener.attach(bench.path_of(client), relay)
    send_joined(client, [FRAME, FRAME, REQUEST, FRAME], bench.address)
    assert (await bench.next_up())[0] == REQUEST
    assert seen == [[[FRAME, FRAME]]]
    assert relay.flushed == [[FRAME, FRAME], [FRAME]]


async def test_a_relay_that_a_request_within_a_run_has_ended_gets_nothing_more(
    bench: Bench, client: UdpEndpoint
) -> None:
    relay = Relay()

    def end(data: bytes, path: FiveTuple) -> None:
        bench.listener.detach(path.client)
        bench.receive(data, path)

    bench.listener._upcall = end
    bench.listener.attach(bench.path_of(client), relay)
    send_joined(client, [FRAME, REQUEST, FRAME, FRAME], bench.address)
    assert (await bench.next_up())[0] == REQUEST
    assert relay.flushed == [[FRAME]]
    assert bench.drops[Drop.NO_ALLOCATION] == 2


async def test_a_run_of_a_client_without_relay_goes_up_message_by_message(bench: Bench, client: UdpEndpoint) -> None:
    other = encode_message(Method.BINDING, MessageClass.REQUEST, b"another one!")
    send_joined(client, [REQUEST, other], bench.address)
    assert [(await bench.next_up())[0] for _ in range(2)] == [REQUEST, other]


async def test_datagrams_too_short_for_anything_are_counted(bench: Bench, client: UdpEndpoint) -> None:
    client.send(REQUEST, bench.address)  # its bytes must not complete what follows
    for junk in (b"", b"\0", b"\0\1", b"\x40\0\0"):
        client.send(junk, bench.address)
    send_joined(client, [b"\0"] * 5, bench.address)
    client.send(REQUEST, bench.address)
    assert [(await bench.next_up())[0] for _ in range(2)] == [REQUEST] * 2
    assert bench.drops[Drop.MALFORMED] == 9


async def test_many_datagrams_all_get_through(bench: Bench, client: UdpEndpoint) -> None:
    for _ in range(300):
        client.send(REQUEST, bench.address)
    assert [(await bench.next_up())[0] for _ in range(300)] == [REQUEST] * 300


# STUN loops


@contextlib.contextmanager
def bound_to_a_reflector_port(host: str) -> Iterator[socket.socket]:
    for port in sorted(REFLECTOR_PORTS, reverse=True):
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.bind((host, port))
        except OSError:
            sock.close()
            continue
        with sock:
            yield sock
        return
    pytest.skip("all of these ports are taken")


async def test_what_seems_to_come_from_a_reflector_is_not_answered_but_media_is_relayed(
    bench: Bench, client: UdpEndpoint, host: str
) -> None:
    relay = Relay()
    with bound_to_a_reflector_port(host) as reflector:
        reflector.sendto(REQUEST, bench.address)
        client.send(REQUEST, bench.address)
        assert (await bench.next_up())[1].client == address_of(client)
        assert bench.drops[Drop.REFLECTOR] == 1
        forged = TransportAddress.parse(*reflector.getsockname()[:2])
        bench.listener.attach(FiveTuple(Transport.UDP, bench.listener.address, forged), relay)
        reflector.sendto(FRAME, bench.address)
        client.send(REQUEST, bench.address)
        await bench.next_up()
    assert relay.flushed == [[FRAME]]


async def test_what_seems_to_come_from_an_own_listener_is_not_answered(
    bench: Bench, client: UdpEndpoint, host: str
) -> None:
    async with udp_endpoint(host) as other:
        bench.own.add(address_of(other))  # after the listener was made: they are bound one after the other
        other.send(REQUEST, bench.address)
        client.send(REQUEST, bench.address)
        assert (await bench.next_up())[1].client == address_of(client)
    assert bench.drops[Drop.REFLECTOR] == 1


# Towards the client


async def test_a_link_sends_messages_and_bursts(bench: Bench, client: UdpEndpoint) -> None:
    link = bench.listener.link(address_of(client))
    assert link.pads is False
    link.send(memoryview(b"one message"))
    link.send_burst(memoryview(b"headoneheadtwohead3"), 7)
    received = [await client.receive_from() for _ in range(4)]
    assert received == [(data, bench.address) for data in (b"one message", b"headone", b"headtwo", b"head3")]


async def test_a_message_that_cannot_be_sent_is_counted_and_forgotten(bench: Bench, client: UdpEndpoint) -> None:
    bench.listener.send(bytes(66_000), address_of(client))
    assert bench.drops[Drop.SEND_FAILED] == 1
    bench.listener.send(b"short", address_of(client))
    assert await client.receive() == b"short"


async def test_a_link_says_when_it_could_not_send(bench: Bench, client: UdpEndpoint) -> None:
    link = bench.listener.link(address_of(client))
    with pytest.raises(OSError, match="too long"):
        link.send(bytes(66_000))


async def test_the_socket_that_all_clients_share_holds_a_burst_in_and_out(bench: Bench) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as usual:
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            usual.setsockopt(socket.SOL_SOCKET, option, 4 << 20)  # as much as the kernel gives to anybody
            shared = bench.listener._sock.getsockopt(socket.SOL_SOCKET, option)
            assert shared >= usual.getsockopt(socket.SOL_SOCKET, option)
