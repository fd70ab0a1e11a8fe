"""The plain forwarding plane over real loopback sockets; its clock is simulated, its clients are a list."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest

from relay.datapath import Drop, Limits, RelayAddress, Traffic
from relay.errors import NotSent, PortTaken
from relay.five_tuple import Transport
from relay.io.clients import Buffer
from relay.io.datapath.datagrams import DatagramSocket, Inbox
from relay.io.datapath.indications import MAX_PAYLOAD
from relay.io.datapath.plain import PlainDataPath
from relay.io.datapath.relay_socket import RelaySocket
from relay.io.datapath.relayed_client import RelayedClient
from relay.io.datapath.segments import DatagramLink, Destination, send_run
from relay.io.datapath.switchboard import BUSY_PACKETS, SLOTS, socket_address
from relay.io.poller import Poller
from relay.trial import BYTES_PER_SECOND
from stun.attributes import DATA, XOR_PEER_ADDRESS
from stun.demux import decode_channel_data, encode_channel_data
from stun.message import Message, decode_message, encode_message
from stun.registry import MessageClass, Method
from tests.support.plane import (
    LONG,
    NUMBER,
    Client,
    Clients,
    Clock,
    path_of,
    send_to,
    transport,
    until_dropped,
    watch_drops,
)
from tests.support.ports import free_port
from tests.support.udp_endpoint import UdpEndpoint, udp_endpoint

PAYLOADS = [b"", b"x", b"12", b"123", b"1234", b"12345", bytes(range(256)) * 5 + b"?" * 120]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("plain", "relay_socket"):
        monkeypatch.setattr(f"relay.io.datapath.{module}.time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


@pytest.fixture
def clients() -> Clients:
    return Clients()


@pytest.fixture(params=["127.0.0.1", "::1"], ids=["IPv4", "IPv6"])
def host(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def plane(clients: Clients) -> AsyncIterator[PlainDataPath]:
    poller = Poller(asyncio.get_running_loop())
    plane = PlainDataPath(poller, frozenset(), clients)
    watch_drops(plane)
    yield plane
    for handle in list(plane._relays):
        plane.close_relay(handle)
    assert len(poller) == 0
    poller.close()


@pytest.fixture
def client(plane: PlainDataPath, clients: Clients, clock: Clock, host: str) -> Client:
    return Client(plane, clients, clock, host, 5000)


@pytest.fixture
async def peer(host: str) -> AsyncIterator[UdpEndpoint]:
    async with udp_endpoint(host) as endpoint:
        yield endpoint


@pytest.mark.parametrize("data", PAYLOADS, ids=len)
async def test_channel_data_goes_both_ways(client: Client, peer: UdpEndpoint, data: bytes) -> None:
    client.bind(peer.address)
    client.send_channel(data)
    assert await peer.receive_from() == (data, client.address)
    peer.send(data, client.address)
    assert await client.receive_channel() == (NUMBER, data)
    assert client.traffic == Traffic(1, len(data), 1, len(data))


@pytest.mark.parametrize("data", PAYLOADS, ids=len)
async def test_indications_go_both_ways(client: Client, peer: UdpEndpoint, data: bytes) -> None:
    client.permit(peer.address)
    assert client.send_indication(data, peer.address)
    assert await peer.receive_from() == (data, client.address)
    peer.send(data, client.address)
    assert await client.receive_data() == (transport(peer.address), data)
    assert client.traffic == Traffic(1, len(data), 1, len(data))


async def test_a_send_indication_that_came_up_to_the_control_plane_is_relayed_too(
    plane: PlainDataPath, client: Client, peer: UdpEndpoint
) -> None:
    plane.send_to_peer(client.handle, b"too early", transport(peer.address))
    client.permit(peer.address)
    plane.send_to_peer(client.handle, b"data", transport(peer.address))
    assert await peer.receive() == b"data"
    assert plane.drops[Drop.NO_PERMISSION] == 1


async def test_a_stranger_reaches_nobody(plane: PlainDataPath, client: Client, peer: UdpEndpoint, host: str) -> None:
    peer.send(b"from a stranger", client.address)
    client.link.inbox.put_nowait(b"mark")
    async with udp_endpoint(host) as other:
        other.send(b"from another", client.address)
        await until_dropped(plane, Drop.NO_PERMISSION, 2)
    assert await client.receive() == b"mark"
    assert client.link.inbox.empty()
    assert peer.is_silent  # not even an error


async def test_a_permission_is_for_every_port_of_the_peer(client: Client, peer: UdpEndpoint, host: str) -> None:
    client.bind(peer.address)
    async with udp_endpoint(host) as other:
        other.send(b"from another port", client.address)
        assert await client.receive_data() == (transport(other.address), b"from another port")


async def test_without_permission_nothing_goes_to_a_peer(
    plane: PlainDataPath, client: Client, peer: UdpEndpoint
) -> None:
    assert client.send_indication(b"no permission", peer.address)
    client.send_channel(b"no channel")
    client.permit(peer.address)
    client.send_indication(b"now", peer.address)
    assert await peer.receive() == b"now"
    assert peer.is_silent
    assert (plane.drops[Drop.NO_PERMISSION], plane.drops[Drop.NO_CHANNEL]) == (1, 1)


async def test_a_permission_ends_at_its_instant_for_channels_and_indications(
    plane: PlainDataPath, client: Client, peer: UdpEndpoint, clock: Clock
) -> None:
    client.bind(peer.address)
    client.permit(peer.address, seconds=300.0)
    clock.now += 299.9
    client.send_channel(b"in time")
    assert await peer.receive() == b"in time"
    clock.now += 0.1
    client.send_channel(b"late")
    client.send_indication(b"late", peer.address)
    peer.send(b"late", client.address)
    await until_dropped(plane, Drop.NO_PERMISSION, 2)
    client.permit(peer.address)
    client.send_channel(b"again")
    assert await peer.receive() == b"again"
    peer.send(b"again", client.address)
    assert await client.receive_channel() == (NUMBER, b"again")
    assert plane.drops[Drop.NO_CHANNEL] == 1


async def test_a_forgotten_permission_silences_its_channel_and_a_new_one_wakes_it(
    plane: PlainDataPath, client: Client, peer: UdpEndpoint
) -> None:
    client.bind(peer.address)
    client.send_indication(b"before", peer.address)
    assert await peer.receive() == b"before"
    plane.forget_peer(client.handle, transport(peer.address).ip)
    plane.forget_peer(client.handle, transport(peer.address).ip)
    client.send_channel(b"without")
    client.send_indication(b"without", peer.address)
    peer.send(b"without", client.address)
    await until_dropped(plane, Drop.NO_PERMISSION, 2)
    client.permit(peer.address)
    client.send_channel(b"again")
    assert await peer.receive() == b"again"
    peer.send(b"back", client.address)
    assert await client.receive_channel() == (NUMBER, b"back")


async def test_an_allocation_ends_at_its_instant_and_may_be_prolonged(
    plane: PlainDataPath, client: Client, peer: UdpEndpoint, clock: Clock
) -> None:
    client.bind(peer.address, seconds=3 * LONG)
    client.permit(peer.address, seconds=3 * LONG)
    clock.now += LONG
    client.send_channel(b"late")
    client.send_indication(b"late", peer.address)
    peer.send(b"late", client.address)
    await until_dropped(plane, Drop.NO_PERMISSION, 2)
    plane.set_expiry(client.handle, clock.now + LONG)
    client.send_channel(b"again")
    assert await peer.receive() == b"again"
    peer.send(b"again", client.address)
    assert await client.receive_channel() == (NUMBER, b"again")


async def test_a_permission_installed_later_ends_with_the_allocation_too(
    plane: PlainDataPath, client: Client, peer: UdpEndpoint, clock: Clock
) -> None:
    plane.set_expiry(client.handle, clock.now + 10)
    client.permit(peer.address)
    clock.now += 10
    client.send_indication(b"late", peer.address)
    assert plane.drops[Drop.NO_PERMISSION] == 1


@pytest.mark.parametrize("unbound", [False, True])
async def test_without_its_channel_a_peer_is_heard_by_indication(
    plane: PlainDataPath, client: Client, peer: UdpEndpoint, clock: Clock, *, unbound: bool
) -> None:
    client.bind(peer.address, seconds=600.0)
    if unbound:
        plane.unbind_channel(client.handle, NUMBER)
        plane.unbind_channel(client.handle, NUMBER)
    else:
        clock.now += 600.0
    client.send_channel(b"late")
    assert plane.drops[Drop.NO_CHANNEL] == 1
    peer.send(b"still permitted", client.address)
    assert await client.receive_data() == (transport(peer.address), b"still permitted")


async def test_channels_of_one_relay_are_kept_apart(client: Client, peer: UdpEndpoint, host: str) -> None:
    async with udp_endpoint(host) as other:
        client.bind(peer.address, 0x4000)
        client.bind(other.address, 0x7FFE)
        client.send_channel(b"to one", number=0x4000)
        client.send_channel(b"to the other", number=0x7FFE)
        assert await peer.receive() == b"to one"
        assert await other.receive() == b"to the other"
        other.send(b"back", client.address)
        assert await client.receive_channel() == (0x7FFE, b"back")


async def test_a_channel_message_that_claims_too_much_is_dropped(
    plane: PlainDataPath, client: Client, peer: UdpEndpoint, clock: Clock
) -> None:
    client.bind(peer.address)
    view = memoryview(b"\x40\0\0\5" + b"1234" + b"from an earlier packet")
    assert client.relay.from_client(view, 0, 8, clock.now)
    client.relay.flush()
    assert plane.drops[Drop.MALFORMED] == 1
    assert client.traffic == Traffic(0, 0, 0, 0)


async def test_a_peer_of_the_other_family_is_left_to_the_control_plane(client: Client, host: str) -> None:
    other = ("127.0.0.1", 9) if ":" in host else ("::1", 9)
    assert client.send_indication(b"x", other) is False


async def test_a_payload_too_large_for_udp_is_dropped_and_counted(
    plane: PlainDataPath, client: Client, peer: UdpEndpoint
) -> None:
    client.bind(peer.address)
    client.send_channel(bytes(65_530))
    assert plane.drops[Drop.SEND_FAILED] == 1
    assert client.traffic == Traffic(0, 0, 0, 0)


async def test_a_client_that_cannot_be_sent_to_is_counted(
    plane: PlainDataPath, client: Client, peer: UdpEndpoint
) -> None:
    client.link.failure = BlockingIOError()
    client.permit(peer.address)
    peer.send(b"x", client.address)
    await until_dropped(plane, Drop.SEND_FAILED, 1)
    assert client.traffic.packets_to_client == 0


async def test_more_peers_than_are_remembered_are_still_reached(
    plane: PlainDataPath, client: Client, host: str
) -> None:
    async with udp_endpoint(host) as peer:
        client.permit(peer.address)
        for port in range(2000, 2100):
            client.send_indication(b"into the void", (host, port))
        client.send_indication(b"reached", peer.address)
        assert await peer.receive() == b"reached"
        assert len(plane._relays[client.handle].client._targets) <= 64


# ICMP errors (RFC 8656 §11.5, §11.6)


async def test_a_client_is_told_of_an_icmp_error_and_of_the_data_behind_it(
    client: Client, peer: UdpEndpoint, host: str
) -> None:
    closed = (host, free_port())
    client.permit(peer.address)
    for data in (b"one", b"two", b"three"):
        client.send_indication(data, closed)  # port unreachable comes back at once
        peer.send(data, client.address)  # and lies behind the error
    told, heard = [], []
    for _ in range(6):
        message = await client.receive_message()
        if message.get(DATA) is None:
            told.append((message.get(XOR_PEER_ADDRESS), icmp_of(message)))
        else:
            heard.append((message.get(XOR_PEER_ADDRESS), message.get(DATA)))
    unreachable = (1, 4, 0) if ":" in host else (3, 3, 0)
    assert told == [(transport(closed), unreachable)] * 3
    assert heard == [(transport(peer.address), data) for data in (b"one", b"two", b"three")]


async def test_an_icmp_error_does_not_lose_what_is_sent_next_to_another_peer(
    plane: PlainDataPath, client: Client, peer: UdpEndpoint, host: str
) -> None:
    closed = (host, free_port())
    client.bind(peer.address)
    for payloads in ((b"single",), (b"a run", b"of two")):
        client.send_indication(b"nobody listens", closed)  # the error fails the very next call on the socket
        client.send_channel(*payloads)
        for payload in payloads:
            assert await peer.receive() == payload
    assert plane.drops[Drop.SEND_FAILED] == 0


async def test_an_icmp_error_about_a_peer_without_permission_is_not_told(
    plane: PlainDataPath, client: Client, peer: UdpEndpoint, clock: Clock
) -> None:
    host = peer.address[0]
    client.permit((host, 1), seconds=10.0)
    client.send_indication(b"nobody listens", (host, free_port()))
    clock.now += 10.0
    peer.send(b"mark", client.address)
    await until_dropped(plane, Drop.NO_PERMISSION, 1)
    client.permit(peer.address)
    peer.send(b"mark", client.address)
    assert await client.receive_data() == (transport(peer.address), b"mark")


async def test_no_more_than_ten_icmp_errors_a_second_are_told_and_the_socket_comes_to_rest(
    plane: PlainDataPath, client: Client, peer: UdpEndpoint, clock: Clock
) -> None:
    closed = (peer.address[0], free_port())
    client.permit(peer.address)

    async def told_before_the_mark() -> int:
        peer.send(b"mark", client.address)
        told = 0
        while (await client.receive_message()).get(DATA) is None:
            told += 1
        return told

    for _ in range(40):
        client.send_indication(b"nobody listens", closed)
    assert await told_before_the_mark() == 10
    assert [await told_before_the_mark() for _ in range(3)] == [0, 0, 0]
    clock.now += 1.0
    client.send_indication(b"nobody listens", closed)
    assert await told_before_the_mark() == 1
    assert plane._poller._epoll.poll(0) == []  # nothing in the queue of errors that would wake the loop again


# Runs


@pytest.mark.parametrize("sizes", [[100] * 5, [100] * 5 + [7], [1] * 3, [100, 200, 100], [100, 100, 0], [0, 0, 5]])
async def test_payloads_that_came_at_once_arrive_whole_and_in_order(
    client: Client, peer: UdpEndpoint, sizes: list[int]
) -> None:
    payloads = [bytes([at]) * size for at, size in enumerate(sizes)]
    client.bind(peer.address)
    client.send_channel(*payloads)
    assert [await peer.receive() for _ in payloads] == payloads
    assert all(client.send(*(send_to(peer.address, payload) for payload in payloads)))
    assert [await peer.receive() for _ in payloads] == payloads
    assert client.traffic == Traffic(2 * len(sizes), 2 * sum(sizes), 0, 0)


async def test_a_message_that_comes_alone_goes_where_its_channel_is_bound_now(
    client: Client, peer: UdpEndpoint, plane: PlainDataPath, host: str
) -> None:
    frame = encode_channel_data(NUMBER, b"media")
    async with udp_endpoint(host) as other:
        assert client.send_alone(frame)
        assert plane.drops[Drop.NO_CHANNEL] == 1
        client.bind(peer.address)
        assert client.send_alone(frame)
        assert client.send_alone(frame)
        assert [await peer.receive() for _ in range(2)] == [b"media"] * 2
        plane.unbind_channel(client.handle, NUMBER)
        assert client.send_alone(frame)
        assert plane.drops[Drop.NO_CHANNEL] == 2
        client.bind(other.address)
        assert client.send_alone(frame)
        assert await other.receive() == b"media"
        plane.forget_peer(client.handle, transport(other.address).ip)
        assert client.send_alone(frame)
        assert plane.drops[Drop.NO_CHANNEL] == 3
        assert peer.is_silent
        assert other.is_silent


async def test_a_message_that_comes_alone_is_passed_up_if_the_control_plane_has_to_look_at_it(client: Client) -> None:
    assert not client.send_alone(encode_message(Method.BINDING, MessageClass.REQUEST, bytes(12)))


async def test_what_a_peer_sends_comes_as_what_is_bound_to_it_now(
    client: Client, peer: UdpEndpoint, plane: PlainDataPath
) -> None:
    address = peer.address
    sender = socket_address(*transport(address))
    client.permit(address)
    client.hear(b"media", sender)
    assert payload_of(await client.link.inbox.get()) == b"media"
    for number in (0x4000, 0x4001):
        client.bind(address, number)
        for _ in range(2):
            client.hear(b"media", sender)
            assert await client.link.inbox.get() == encode_channel_data(number, b"media")
        plane.unbind_channel(client.handle, number)
        client.hear(b"media", sender)
        assert decode_message(await client.link.inbox.get()).get(DATA) == b"media"
    plane.forget_peer(client.handle, transport(address).ip)
    client.hear(b"media", sender)
    assert client.link.inbox.empty()
    assert plane.drops[Drop.NO_PERMISSION] == 1


async def test_a_run_leaves_in_one_call_and_a_mixed_burst_in_as_many_as_it_takes(
    client: Client, peer: UdpEndpoint, plane: PlainDataPath, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[tuple[int, int]] = []
    send_run = RelaySocket.send_run

    def watch(self: RelaySocket, data: Buffer, start: int, stop: int, size: int, to: Destination) -> None:
        runs.append((-(-(stop - start) // size), size))
        send_run(self, data, start, stop, size, to)

    monkeypatch.setattr(RelaySocket, "send_run", watch)
    async with udp_endpoint(host) as other:
        client.bind(peer.address, 0x4000)
        client.bind(other.address, 0x4001)
        to_one = encode_channel_data(0x4000, bytes(100))
        to_other = encode_channel_data(0x4001, bytes(100))
        assert client.send(*[to_one] * 70) == [True] * 70
        assert runs == [(64, 100), (6, 100)]
        runs.clear()
        assert client.send(to_one, to_one, to_other, to_other, to_one) == [True] * 5
        assert runs == [(2, 100), (2, 100), (1, 100)]
        assert [len(await peer.receive()) for _ in range(73)] == [100] * 73
        assert [len(await other.receive()) for _ in range(2)] == [100] * 2
        runs.clear()
        client.send(*[encode_channel_data(0x4000, bytes(1400))] * 60)  # more than one datagram's worth
        assert runs == [(46, 1400), (14, 1400)]
    assert plane.drops[Drop.SEND_FAILED] == 0


@pytest.mark.parametrize("last", [0, 1, 9, 100])
@pytest.mark.parametrize("count", [1, 8, 63])
async def test_a_joined_run_to_one_peer_is_taken_at_once(
    client: Client, peer: UdpEndpoint, count: int, last: int
) -> None:
    payloads = [bytes([at]) * 100 for at in range(count)] + ([b"?" * last] if last else [])
    client.bind(peer.address)
    assert client.send_joined(*(encode_channel_data(NUMBER, payload) for payload in payloads))
    assert [await peer.receive() for _ in payloads] == payloads
    for fingerprint in (False, True):
        indications = [send_to(peer.address, payload, fingerprint=fingerprint) for payload in payloads]
        assert client.send_joined(*indications) is (":" not in peer.address[0])
        if ":" not in peer.address[0]:
            assert [await peer.receive() for _ in payloads] == payloads
    if ":" not in peer.address[0]:
        assert client.traffic == Traffic(3 * len(payloads), 3 * sum(map(len, payloads)), 0, 0)


async def test_a_joined_run_is_left_alone_unless_all_of_it_is_alike(
    client: Client, peer: UdpEndpoint, clock: Clock
) -> None:
    client.bind(peer.address)
    client.bind((peer.address[0], 9), number=0x4001)
    frame, other = encode_channel_data(NUMBER, bytes(16)), encode_channel_data(0x4001, bytes(16))
    request = encode_message(Method.BINDING, MessageClass.REQUEST, bytes(12))
    claims_more = NUMBER.to_bytes(2) + (17).to_bytes(2) + bytes(16)
    claims_less = NUMBER.to_bytes(2) + (13).to_bytes(2) + bytes(16)  # padded
    empty = encode_channel_data(NUMBER, b"")
    sent, signed = (send_to(peer.address, b"media", fingerprint=fingerprint) for fingerprint in (False, True))
    to_other = send_to((peer.address[0], 9), b"media")
    assert client.send(sent, to_other) == [True, True]
    assert await peer.receive() == b"media"
    for run in (
        (frame, other),
        (frame, request),
        (request, frame),
        (frame, claims_more),
        (frame, claims_less),
        (claims_less, claims_less),
        (claims_more, claims_more),
        (frame, empty),
        (empty, empty),
        (frame, frame, b"\x40\0\0"),
        (frame, frame, other[:2] + b"\0\4" + bytes(4)),
        (encode_channel_data(0x4002, bytes(16)),) * 2,
        (sent, to_other),
        (sent, sent, to_other[:-8]),
        (sent, sent, send_to(peer.address, b"")),
        (sent, sent[:20] + bytes(len(sent) - 20)),
        (signed, signed[:-8] + bytes(8)),
        (signed, signed, send_to(peer.address, b"longer media")),  # in a shorter message
        (frame,) * 65,
    ):
        assert client.send_joined(*run) is False
    assert client.traffic.packets_to_peer == 2
    clock.now += LONG
    assert client.send_joined(frame, frame) is client.send_joined(sent, sent) is False
    assert peer.is_silent


async def test_a_joined_run_counts_against_the_bandwidth(
    plane: PlainDataPath, client: Client, peer: UdpEndpoint
) -> None:
    client.bind(peer.address)
    plane.set_limits(Limits(bytes_per_second=100))
    frames = [encode_channel_data(NUMBER, bytes(100))] * 3
    assert client.send_joined(*frames)
    assert client.send_joined(*frames)
    assert plane.drops[Drop.BANDWIDTH] == 3
    assert client.traffic == Traffic(3, 300, 0, 0)


async def test_a_request_within_a_burst_is_left_to_the_control_plane(client: Client, peer: UdpEndpoint) -> None:
    client.bind(peer.address)
    frame = encode_channel_data(NUMBER, b"media")
    request = encode_message(Method.BINDING, MessageClass.REQUEST, bytes(12))
    assert client.send(frame, request, frame, b"", b"\xff") == [True, False, True, False, False]
    assert [await peer.receive() for _ in range(2)] == [b"media"] * 2


@pytest.mark.parametrize("pads", [False, True])
@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize("size", [160, 161])
async def test_a_run_from_a_peer_reaches_the_client_in_one_burst(
    plane: PlainDataPath, clients: Clients, clock: Clock, peer: UdpEndpoint, *, bound: bool, pads: bool, size: int
) -> None:
    clients.pads = pads
    client = Client(plane, clients, clock, peer.address[0], 5009)
    (client.bind if bound else client.permit)(peer.address)
    payloads = [bytes([at]) * size for at in range(30)] + [b"the last"]
    for payload in payloads:
        peer.send(payload, client.address)
    for payload in payloads:  # taken one by one, after which the kernel is asked to join them
        assert payload_of(await client.receive()) == payload
    plane._relays[client.handle].socket.join()
    send_joined(peer, payloads, client.address)
    received = [await client.receive() for _ in payloads]
    assert [payload_of(message) for message in received] == payloads
    sizes = [len(message) for message in received]
    assert client.link.bursts == [sizes]
    assert len(set(sizes[:-1])) == 1
    if pads or not bound:
        assert all(each % 4 == 0 for each in sizes)
    if not bound:
        assert len({decode_message(message).transaction_id for message in received}) == len(received)
    assert client.traffic == Traffic(0, 0, 2 * len(payloads), 2 * (30 * size + 8))


async def test_a_run_that_grows_beyond_a_datagram_with_its_headers_leaves_in_two_bursts(
    plane: PlainDataPath, client: Client, peer: UdpEndpoint
) -> None:
    client.permit(peer.address)
    relay = plane._relays[client.handle]
    relay.socket.join()
    send_joined(peer, [bytes(1400)] * 46, client.address)
    for _ in range(46):
        assert payload_of(await client.receive()) == bytes(1400)
    assert sorted(map(len, client.link.bursts)) in ([1, 45], [2, 44])
    assert all(sum(burst) <= 65507 for burst in client.link.bursts)


async def test_the_kernel_is_asked_to_join_only_where_datagrams_come_in_bursts(
    plane: PlainDataPath, client: Client, peer: UdpEndpoint
) -> None:
    client.permit(peer.address)
    relay = plane._relays[client.handle]
    for _ in range(40):
        peer.send(b"alone", client.address)
        assert payload_of(await client.receive()) == b"alone"
    assert not relay._joins
    for _ in range(16 * SLOTS):
        peer.send(b"many", client.address)
    for _ in range(16 * SLOTS):
        assert payload_of(await client.receive()) == b"many"
    assert relay._joins


async def test_the_kernel_is_never_asked_to_join_where_the_plane_forbids_it(
    plane: PlainDataPath, client: Client, peer: UdpEndpoint
) -> None:
    client.permit(peer.address)
    plane._board.joins_runs = False
    for _ in range(16 * SLOTS):
        peer.send(b"many", client.address)
    for _ in range(16 * SLOTS):
        assert payload_of(await client.receive()) == b"many"
    assert not plane._relays[client.handle]._joins


async def test_one_packet_in_so_many_is_shown_to_whoever_watches(
    plane: PlainDataPath, client: Client, peer: UdpEndpoint, host: str
) -> None:
    shown: list[tuple[object, ...]] = []
    plane._board.on_busy_to_peer = lambda route: shown.append(route.address[:2])
    plane._board.on_busy_to_client = lambda relay, address: shown.append((relay.handle, address[:2]))
    client.bind(peer.address)
    async with udp_endpoint(host) as other:
        for _ in range(2 * BUSY_PACKETS - 1):
            client.send_channel(b"alone")
        client.send_indication(b"the last of them", other.address)
        assert shown == [peer.address, other.address]
    shown.clear()
    client.send_channel(*[b"together"] * (BUSY_PACKETS + 1))
    assert shown == [peer.address]
    shown.clear()
    for _ in range(BUSY_PACKETS):
        assert shown == []
        peer.send(b"back", client.address)
        await client.receive()
    assert shown == [(client.handle, peer.address)]


async def test_a_failed_burst_is_counted_packet_by_packet(
    plane: PlainDataPath, client: Client, peer: UdpEndpoint
) -> None:
    client.permit(peer.address)
    client.link.failure = NotSent(Drop.CLIENT_SLOW)
    relay = plane._relays[client.handle]
    relay.socket.join()
    send_joined(peer, [b"1234"] * 5, client.address)
    await until_dropped(plane, Drop.CLIENT_SLOW, 5)
    assert client.traffic == Traffic(0, 0, 0, 0)


async def test_a_run_from_a_stranger_is_dropped_packet_by_packet(
    plane: PlainDataPath, client: Client, peer: UdpEndpoint
) -> None:
    relay = plane._relays[client.handle]
    relay.socket.join()
    send_joined(peer, [b"1234"] * 5, client.address)
    await until_dropped(plane, Drop.NO_PERMISSION, 5)
    assert client.link.inbox.empty()


# Limits


async def test_bandwidth_is_limited_in_each_direction_after_a_burst_of_one_second(
    plane: PlainDataPath, client: Client, peer: UdpEndpoint, clock: Clock
) -> None:
    client.bind(peer.address)
    plane.set_limits(Limits(bytes_per_second=1000))
    media = bytes(150)
    for _ in range(7):  # the bucket is not empty when the seventh comes
        client.send_channel(media)
        peer.send(media, client.address)
        assert (await peer.receive(), await client.receive_channel()) == (media, (NUMBER, media))
    client.send_channel(media)
    assert plane.drops[Drop.BANDWIDTH] == 1
    peer.send(media, client.address)
    await until_dropped(plane, Drop.BANDWIDTH, 2)
    clock.now += 0.06  # 1050 bytes were taken: the bucket is not empty any more
    client.send_channel(b"again")
    peer.send(b"again", client.address)
    assert (await peer.receive(), await client.receive_channel()) == (b"again", (NUMBER, b"again"))
    clock.now += 100.0
    for _ in range(8):  # no more than one second is saved up
        client.send_indication(media, peer.address)
    assert plane.drops[Drop.BANDWIDTH] == 3
    plane.set_limits(Limits())
    client.send_channel(b"no limit")
    assert [await peer.receive() for _ in range(8)][-1] == b"no limit"


async def test_packets_from_peers_are_limited(
    plane: PlainDataPath, client: Client, peer: UdpEndpoint, clock: Clock
) -> None:
    client.permit(peer.address)
    plane.set_limits(Limits(packets_per_second=10))
    for at in range(11):
        clock.now += 0.05 if at == 10 else 0.0
        peer.send(b"x", client.address)
        await client.receive()
    for _ in range(3):
        client.send_indication(b"the other direction is free", peer.address)
    peer.send(b"x", client.address)
    await until_dropped(plane, Drop.PEER_RATE, 1)
    clock.now += 0.1
    peer.send(b"again", client.address)
    assert payload_of(await client.receive()) == b"again"
    plane.set_limits(Limits(packets_per_second=1000))  # begins with full buckets
    for _ in range(100):
        peer.send(b"x", client.address)
        await client.receive()
    assert plane.drops[Drop.PEER_RATE] == 1


async def test_limits_given_at_the_start_hold_for_both_relays_of_a_client_together(
    clients: Clients, clock: Clock
) -> None:
    poller = Poller(asyncio.get_running_loop())
    plane = PlainDataPath(poller, frozenset(), clients, limits=Limits(bytes_per_second=100))
    v4, v6 = dual(plane, clients, clock)
    async with udp_endpoint("127.0.0.1") as one, udp_endpoint("::1") as other:
        v4.bind(one.address, 0x4000)
        v6.bind(other.address, 0x4001)
        v4.send_channel(bytes(200), number=0x4000)
        v6.send_channel(bytes(100), number=0x4001)
        assert plane.drops[Drop.BANDWIDTH] == 1
        assert len(await one.receive()) == 200
        assert other.is_silent
    plane.close_relay(v4.handle)
    plane.close_relay(v6.handle)
    poller.close()


# A dual allocation: two families, one client


async def test_a_client_with_two_families_reaches_peers_of_both(
    plane: PlainDataPath, clients: Clients, clock: Clock
) -> None:
    v4, v6 = dual(plane, clients, clock)
    assert len(clients.relays) == 1
    async with udp_endpoint("127.0.0.1") as one, udp_endpoint("::1") as other:
        v4.bind(one.address, 0x4000)
        v6.bind(other.address, 0x4001)
        assert all(v4.send(encode_channel_data(0x4000, b"four"), encode_channel_data(0x4001, b"six")))
        assert await one.receive_from() == (b"four", v4.address)
        assert await other.receive_from() == (b"six", v6.address)
        assert all(v4.send(send_to(other.address, b"six"), send_to(one.address, b"four")))
        assert await one.receive_from() == (b"four", v4.address)
        assert await other.receive_from() == (b"six", v6.address)
        one.send(b"back", v4.address)
        assert await v4.receive_channel() == (0x4000, b"back")
        other.send(b"back", v6.address)
        assert await v4.receive_channel() == (0x4001, b"back")
        assert v4.traffic == Traffic(2, 8, 1, 4)
        assert v6.traffic == Traffic(2, 6, 1, 4)

        plane.close_relay(v4.handle)
        assert clients.relays  # the other one lives on
        v6.send_channel(b"six", number=0x4001)
        assert v6.send_indication(b"six", other.address)
        assert [await other.receive() for _ in range(2)] == [b"six"] * 2
        v6.send_channel(b"four", number=0x4000)
        assert plane.drops[Drop.NO_CHANNEL] == 1
        assert v6.send_indication(b"four", one.address) is False  # the control plane decides
        assert one.is_silent
    plane.close_relay(v6.handle)
    assert clients.relays == {}


async def test_the_families_of_a_client_expire_each_on_its_own(
    plane: PlainDataPath, clients: Clients, clock: Clock
) -> None:
    v4, v6 = dual(plane, clients, clock)
    async with udp_endpoint("127.0.0.1") as one, udp_endpoint("::1") as other:
        v4.bind(one.address, 0x4000)
        v6.bind(other.address, 0x4001)
        plane.set_expiry(v4.handle, clock.now)
        v4.send(encode_channel_data(0x4000, b"late"), encode_channel_data(0x4001, b"in time"))
        assert await other.receive() == b"in time"
        assert plane.drops[Drop.NO_CHANNEL] == 1


# Mobility (RFC 8016)


async def test_a_client_that_has_moved_is_reached_at_its_new_address(
    plane: PlainDataPath, clients: Clients, clock: Clock
) -> None:
    v4, v6 = dual(plane, clients, clock)
    old, new = v4.path, path_of(6000, Transport.TCP)
    async with udp_endpoint("127.0.0.1") as peer:
        v4.bind(peer.address)
        v4.send_channel(b"before")
        assert await peer.receive() == b"before"
        for handle in (v4.handle, v6.handle):
            plane.move_client(handle, new)
        assert list(clients.relays) == [new]
        assert plane.totals()[Transport.UDP] == Traffic(1, 6, 0, 0)
        assert plane.totals()[Transport.TCP] == Traffic(0, 0, 0, 0)
        peer.send(b"to the new address", v4.address)
        v4.path = v6.path = new
        assert await v4.receive_channel() == (NUMBER, b"to the new address")
        assert clients.links[old].inbox.empty()
        v4.send_channel(b"from there")
        assert await peer.receive() == b"from there"
        assert plane.traffic(v4.handle) == Traffic(2, 16, 1, 18)
    assert plane.totals()[Transport.TCP] == Traffic(1, 10, 1, 18)
    assert plane.close_relay(v4.handle) == Traffic(2, 16, 1, 18)
    plane.close_relay(v6.handle)
    assert clients.relays == {}
    assert plane.totals()[Transport.UDP] == Traffic(1, 6, 0, 0)
    assert plane.totals()[Transport.TCP] == Traffic(1, 10, 1, 18)


async def test_a_client_that_comes_back_to_its_five_tuple_is_reached_over_its_new_connection(
    plane: PlainDataPath, clients: Clients, client: Client, host: str
) -> None:
    before = clients.links.pop(client.path)  # the connection has ended, and a new one has the same addresses
    clients.relays.clear()
    async with udp_endpoint(host) as peer:
        plane.move_client(client.handle, client.path)
        client.bind(peer.address)
        peer.send(b"hello again", client.address)
        assert await client.receive_channel() == (NUMBER, b"hello again")
    assert before.inbox.empty()


async def test_a_client_that_cannot_move_stays(plane: PlainDataPath, clients: Clients, client: Client) -> None:
    clients.gone = True
    with pytest.raises(LookupError):
        plane.move_client(client.handle, path_of(6000))
    assert list(clients.relays) == [client.path]
    clients.gone = False
    plane.close_relay(client.handle)
    assert clients.relays == {}


# Opening and closing


async def test_a_port_held_by_somebody_else_is_taken(plane: PlainDataPath, clients: Clients, host: str) -> None:
    ip = transport((host, 0)).ip
    async with udp_endpoint(host) as holder:
        with pytest.raises(PortTaken):
            plane.open_relay(path_of(5001), RelayAddress(ip, ip), holder.address[1], LONG)
    assert clients.relays == {}
    assert plane.totals()[Transport.UDP] == Traffic(0, 0, 0, 0)


async def test_an_address_that_is_not_ours_is_another_error(plane: PlainDataPath) -> None:
    ip = transport(("192.0.2.77", 0)).ip
    with pytest.raises(OSError, match="assign") as caught:
        plane.open_relay(path_of(5001), RelayAddress(ip, ip), 50_000, LONG)
    assert not isinstance(caught.value, PortTaken)


async def test_a_client_that_has_gone_leaves_no_socket_behind(
    plane: PlainDataPath, clients: Clients, host: str
) -> None:
    ip, port = transport((host, 0)).ip, free_port()
    clients.gone = True
    with pytest.raises(KeyError):
        plane.open_relay(path_of(5001), RelayAddress(ip, ip), port, LONG)
    gc.collect()  # a leaked socket would warn, and a warning is an error here
    clients.gone = False
    plane.open_relay(path_of(5001), RelayAddress(ip, ip), port, LONG)


async def test_a_closed_relay_is_gone_and_its_traffic_stays_counted(
    plane: PlainDataPath, clients: Clients, client: Client, peer: UdpEndpoint, host: str
) -> None:
    client.bind(peer.address)
    client.send_channel(b"12345")
    assert await peer.receive() == b"12345"
    assert plane.totals()[Transport.UDP] == Traffic(1, 5, 0, 0)
    assert plane.close_relay(client.handle) == Traffic(1, 5, 0, 0)
    assert plane.totals()[Transport.UDP] == Traffic(1, 5, 0, 0)
    assert plane.totals()[Transport.TCP] == Traffic(0, 0, 0, 0)
    assert clients.relays == {}
    with pytest.raises(KeyError):
        plane.close_relay(client.handle)
    with pytest.raises(KeyError):
        plane.set_expiry(client.handle, LONG)
    ip = transport((host, 0)).ip
    plane.open_relay(path_of(5001), RelayAddress(ip, ip), client.address[1], LONG)  # the port is free again


# Two relayed clients meet on an own address


@pytest.fixture
async def closed_plane(clients: Clients, host: str) -> AsyncIterator[PlainDataPath]:
    """A plane on an address of its own, of which nothing but relayed ports is reachable."""
    own = frozenset((transport((host, 0)).ip,))
    poller = Poller(asyncio.get_running_loop())
    plane = PlainDataPath(poller, own, clients)
    watch_drops(plane)
    yield plane
    for handle in list(plane._relays):
        plane.close_relay(handle)
    poller.close()


@pytest.fixture
def pair(closed_plane: PlainDataPath, clients: Clients, clock: Clock, host: str) -> tuple[Client, Client]:
    return tuple(Client(closed_plane, clients, clock, host, port) for port in (5001, 5002))  # type: ignore[return-value]  # two


async def test_a_named_service_on_an_own_address_is_reached_and_no_other_port_of_it(
    clients: Clients, clock: Clock, host: str
) -> None:
    async with udp_endpoint(host) as service, udp_endpoint(host) as other:
        poller = Poller(asyncio.get_running_loop())
        own = frozenset((transport((host, 0)).ip,))
        plane = PlainDataPath(poller, own, clients, own_services=[transport(service.address)])
        watch_drops(plane)
        client = Client(plane, clients, clock, host, 5001)
        client.permit(other.address)
        client.send_indication(b"to another port", other.address)
        assert plane.drops[Drop.OWN_ADDRESS] == 1
        client.send_indication(b"to the service", service.address)
        assert await service.receive() == b"to the service"
        for handle in list(plane._relays):
            plane.close_relay(handle)
        poller.close()


@pytest.mark.parametrize(("one", "other"), [("a test", ""), ("", "a test"), ("a test", "another test")])
async def test_two_relays_of_different_circles_reach_each_other_by_no_way(
    closed_plane: PlainDataPath, clients: Clients, clock: Clock, host: str, one: str, other: str
) -> None:
    sender = Client(closed_plane, clients, clock, host, 5001, circle=one)
    receiver = Client(closed_plane, clients, clock, host, 5002, circle=other)
    sender.bind(receiver.address)
    receiver.bind(sender.address)
    sender.send_channel(b"one")
    sender.send_channel(b"a run", b"of 2")
    sender.send_indication(b"four", receiver.address)
    closed_plane.send_to_peer(sender.handle, b"five", transport(receiver.address))
    assert closed_plane.drops[Drop.OWN_ADDRESS] == 5
    assert receiver.link.inbox.empty()


async def test_two_relays_of_one_circle_reach_each_other(
    closed_plane: PlainDataPath, clients: Clients, clock: Clock, host: str
) -> None:
    one = Client(closed_plane, clients, clock, host, 5001, circle="a test")
    other = Client(closed_plane, clients, clock, host, 5002, circle="a test")
    one.bind(other.address)
    other.permit(one.address)
    one.send_channel(b"of one page")
    assert await other.receive_data() == (transport(one.address), b"of one page")


async def test_a_circle_reaches_no_service_of_ours_and_asks_other_processes_for_its_own(
    clients: Clients, clock: Clock, host: str
) -> None:
    asked: list[str] = []

    def is_relayed_elsewhere(_family: int, _port: int, circle: str) -> bool:
        asked.append(circle)
        return False

    async with udp_endpoint(host) as service:
        poller = Poller(asyncio.get_running_loop())
        plane = PlainDataPath(
            poller,
            frozenset((transport((host, 0)).ip,)),
            clients,
            is_relayed_elsewhere=is_relayed_elsewhere,
            own_services=[transport(service.address)],
        )
        client = Client(plane, clients, clock, host, 5001, circle="a test")
        client.permit(service.address)
        client.send_indication(b"to the service", service.address)
        assert plane.drops[Drop.OWN_ADDRESS] == 1
        assert asked == ["a test"]
        plane.close_relay(client.handle)
        poller.close()


async def test_a_client_in_a_circle_may_carry_what_a_test_needs_and_no_more(
    closed_plane: PlainDataPath, clients: Clients, clock: Clock, host: str, peer: UdpEndpoint
) -> None:
    closed_plane.set_own_relays(frozenset())
    closed_plane.set_limits(Limits(bytes_per_second=100 * BYTES_PER_SECOND))
    trial = Client(closed_plane, clients, clock, host, 5001, circle="a test")
    usual = Client(closed_plane, clients, clock, host, 5002)
    payload = bytes(60_000)
    for client in (trial, usual):
        client.bind(peer.address)
        for _ in range(3 * BYTES_PER_SECOND // len(payload)):
            client.send_channel(payload)
    sent_at_once = 2 * BYTES_PER_SECOND  # a burst of one second, and what overdraws it
    assert BYTES_PER_SECOND < trial.traffic.bytes_to_peer <= sent_at_once < usual.traffic.bytes_to_peer


@pytest.mark.parametrize("data", PAYLOADS, ids=len)
async def test_two_relays_on_an_own_address_reach_each_other(pair: tuple[Client, Client], data: bytes) -> None:
    one, other = pair
    one.bind(other.address)
    other.permit(one.address)
    one.send_channel(data)
    assert await other.receive_data() == (transport(one.address), data)
    other.send_indication(data, one.address)
    assert await one.receive_channel() == (NUMBER, data)
    assert one.traffic == other.traffic == Traffic(1, len(data), 1, len(data))


async def test_a_relay_without_permission_hears_nothing_from_another_one(
    closed_plane: PlainDataPath, pair: tuple[Client, Client]
) -> None:
    one, other = pair
    one.bind(other.address)
    one.send_channel(b"unwanted")
    assert closed_plane.drops[Drop.NO_PERMISSION] == 1
    assert other.link.inbox.empty()


async def test_no_payload_is_larger_than_udp_or_an_indication_can_carry(
    closed_plane: PlainDataPath, pair: tuple[Client, Client]
) -> None:
    one, other = pair
    one.bind(other.address)
    other.permit(one.address)
    one.send_channel(bytes(0xFFFF))
    assert closed_plane.drops[Drop.SEND_FAILED] == 1
    assert one.traffic == Traffic(0, 0, 0, 0)
    own, stranger = closed_plane._relays[other.handle], closed_plane._relays[one.handle].relayed
    own.deliver(0, MAX_PAYLOAD, 0, stranger, other.clock.now)
    assert other.traffic.bytes_to_client == MAX_PAYLOAD
    own.deliver(0, MAX_PAYLOAD + 1, 0, stranger, other.clock.now)
    assert closed_plane.drops[Drop.MALFORMED] == 1
    assert len(await other.receive()) % 4 == 0
    assert other.link.inbox.empty()


async def test_an_own_port_that_is_no_relay_is_not_reachable(
    closed_plane: PlainDataPath, pair: tuple[Client, Client], peer: UdpEndpoint
) -> None:
    one, other = pair
    one.bind(peer.address)
    one.send_channel(b"to a service of this machine")
    one.send_indication(b"to a service of this machine", peer.address)
    closed_plane.send_to_peer(one.handle, b"to a service of this machine", transport(peer.address))
    assert closed_plane.drops[Drop.OWN_ADDRESS] == 3
    assert closed_plane.traffic(one.handle) == Traffic(0, 0, 0, 0)  # what was dropped was not relayed
    closed_plane.close_relay(other.handle)
    one.send_indication(b"to a closed relay", other.address)
    assert closed_plane.drops[Drop.OWN_ADDRESS] == 4
    other_side = socket.socket(socket.AF_INET6 if ":" in peer.address[0] else socket.AF_INET, socket.SOCK_DGRAM)
    with other_side:
        other_side.sendto(b"mark", peer.address)
    assert await peer.receive() == b"mark"


@pytest.mark.parametrize("relayed", [False, True])
async def test_a_port_that_another_process_relays_is_reached_through_the_socket(
    clients: Clients, clock: Clock, host: str, *, relayed: bool
) -> None:
    asked: list[tuple[int, int]] = []

    def is_relayed_elsewhere(family: int, port: int, circle: str) -> bool:
        assert not circle
        asked.append((family, port))
        return relayed

    poller = Poller(asyncio.get_running_loop())
    own = frozenset((transport((host, 0)).ip,))
    plane = PlainDataPath(poller, own, clients, is_relayed_elsewhere=is_relayed_elsewhere)
    client = Client(plane, clients, clock, host, 5001)
    async with udp_endpoint(host) as other, udp_endpoint(host) as mark:  # plays the relay of the other process
        client.bind(other.address)
        client.send_channel(b"one")
        client.send_channel(b"a run", b"of 2")
        client.send_indication(b"four", other.address)
        plane.send_to_peer(client.handle, b"five", transport(other.address), dont_fragment=True)
        mark.send(b"mark", other.address)
        expected = [b"one", b"a run", b"of 2", b"four", b"five"] if relayed else []
        assert [await other.receive() for _ in [*expected, b"mark"]] == [*expected, b"mark"]
        assert plane.drops[Drop.OWN_ADDRESS] == (0 if relayed else 5)
        assert asked == [(2 if ":" in host else 1, other.address[1])] * 4
    plane.close_relay(client.handle)
    poller.close()


async def test_of_a_run_that_cannot_leave_nothing_is_kept_for_the_next_one(
    closed_plane: PlainDataPath, pair: tuple[Client, Client], host: str
) -> None:
    one, other = pair
    one.bind(other.address)
    other.permit(one.address)
    assert isinstance(other.relay, RelayedClient)
    assert isinstance(one.relay, RelayedClient)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        sock.settimeout(0.0)
        # With the head of a Data indication the first is larger than any datagram: neither whole nor cut it can leave.
        other.relay.link = DatagramLink(DatagramSocket(sock, Inbox(1)), sock.getsockname())
        one.send_channel(bytes(MAX_PAYLOAD - 4), b"x")
        assert sum(closed_plane.drops.values()) == 2
        assert one.relay._parts == []  # views of a buffer that other clients' messages are read into
        one.send_channel(b"the next one")
        assert sock.recv(100).endswith(b"the next one")


async def test_a_run_between_two_relayed_clients_is_handed_over_as_a_run(pair: tuple[Client, Client]) -> None:
    one, other = pair
    one.bind(other.address)
    other.bind(one.address)
    payloads = [b"first", b"other", b"end"]
    one.send_channel(*payloads)
    assert [await other.receive_channel() for _ in payloads] == [(NUMBER, payload) for payload in payloads]
    assert other.link.bursts == [[9, 9, 7]]
    assert one.traffic == Traffic(3, 13, 0, 0)
    assert other.traffic == Traffic(0, 0, 3, 13)


def dual(plane: PlainDataPath, clients: Clients, clock: Clock) -> tuple[Client, Client]:
    """The two relays of one client."""
    path = path_of(5555)
    return Client(plane, clients, clock, "127.0.0.1", 0, path), Client(plane, clients, clock, "::1", 0, path)


def payload_of(message: bytes) -> bytes:
    """What a ChannelData message or Data indication carries."""
    data = decode_channel_data(message)[1] if message[0] >= 0x40 else decode_message(message).get(DATA)
    assert data is not None
    return data


def icmp_of(message: Message) -> tuple[int, int, int]:
    """Type, code and error data of the ICMP attribute (RFC 8656 §18.13)."""
    kind, value = message.raw[-12:-8], message.raw[-8:]
    assert kind == b"\x80\x04\x00\x08"
    assert value[:2] == b"\0\0"
    return value[2] >> 1, (value[2] & 1) << 8 | value[3], int.from_bytes(value[4:])


def send_joined(peer: UdpEndpoint, payloads: list[bytes], to: tuple[str, int]) -> None:
    """Send as a run: over loopback it stays one until a socket takes it."""
    joined = b"".join(payloads)
    send_run(DatagramSocket(peer._socket, Inbox(1)), joined, 0, len(joined), len(payloads[0]), Destination(to))
