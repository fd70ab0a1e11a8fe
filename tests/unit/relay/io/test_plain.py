"""The plain forwarding plane over real loopback sockets; its clock is simulated, its clients are a list."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest

from relay.datapath import RelayAddress, Traffic
from relay.errors import PortTaken
from relay.five_tuple import FiveTuple, Transport
from relay.io.datapath.indications import MAX_PAYLOAD
from relay.io.datapath.plain import Drop, PlainDataPath, Relay, Sender, SocketAddress
from stun.address import TransportAddress
from stun.attributes import DATA, XOR_PEER_ADDRESS
from stun.demux import decode_channel_data, encode_channel_data
from stun.message import decode_message
from stun.registry import MessageClass, Method
from tests.support.turn_client import indication
from tests.support.udp_endpoint import PATIENCE, UdpEndpoint, udp_endpoint

NUMBER = 0x4000
LONG = 10_000.0
PAYLOADS = [b"", b"x", b"12", b"123", b"1234", b"12345", bytes(range(256)) * 5 + b"?" * 120]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Clients:
    """Plays the listeners: what relays send to clients waits in a queue per client."""

    def __init__(self) -> None:
        self.relays: dict[FiveTuple, Relay] = {}
        self.inbox: dict[FiveTuple, asyncio.Queue[bytes]] = {}
        self.gone = False

    def sender(self, path: FiveTuple) -> tuple[Sender, SocketAddress]:
        if self.gone:
            raise KeyError(path)
        queue = self.inbox.setdefault(path, asyncio.Queue())
        return lambda message, _address: queue.put_nowait(bytes(message)), ("", 0)

    def attach(self, path: FiveTuple, relay: Relay) -> None:
        self.relays[path] = relay

    def detach(self, path: FiveTuple) -> None:
        del self.relays[path]


class Client:
    """One client of the plane, with an open relay."""

    def __init__(self, plane: PlainDataPath, clients: Clients, clock: Clock, host: str, port: int) -> None:
        self.plane, self.clock, self.clients = plane, clock, clients
        self.path = FiveTuple(
            Transport.UDP, TransportAddress.parse("192.0.2.9", 3478), TransportAddress.parse("192.0.2.1", port)
        )
        ip = TransportAddress.parse(host, 0).ip
        self.address = (host, free_port(host))
        self.handle = plane.open_relay(self.path, RelayAddress(ip, ip), self.address[1], clock.now + LONG)

    def permit(self, peer: tuple[str, int], seconds: float = LONG) -> None:
        self.plane.allow_peer(self.handle, transport(peer).ip, self.clock.now + seconds)

    def bind(self, peer: tuple[str, int], number: int = NUMBER, seconds: float = LONG) -> None:
        self.permit(peer)
        self.plane.bind_channel(self.handle, number, transport(peer), self.clock.now + seconds)

    def send_channel(self, data: bytes, number: int = NUMBER) -> None:
        frame = encode_channel_data(number, data)
        view = memoryview(frame + b"behind it lies something else")
        self.clients.relays[self.path].from_client_channel(view, len(frame), self.clock.now)

    def send_indication(self, data: bytes, peer: tuple[str, int]) -> bool:
        raw = indication(Method.SEND, (XOR_PEER_ADDRESS, transport(peer)), (DATA, data))
        return self.clients.relays[self.path].from_client_indication(memoryview(raw), len(raw), self.clock.now)

    async def receive(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self.clients.inbox[self.path].get()

    async def receive_channel(self) -> tuple[int, bytes]:
        return decode_channel_data(await self.receive())

    async def receive_data(self) -> tuple[TransportAddress | None, bytes | None]:
        message = decode_message(await self.receive())
        assert (message.method, message.message_class) == (Method.DATA, MessageClass.INDICATION)
        return message.get(XOR_PEER_ADDRESS), message.get(DATA)

    @property
    def traffic(self) -> Traffic:
        return self.plane.counters(self.handle)


def transport(address: tuple[str, int]) -> TransportAddress:
    return TransportAddress.parse(*address)


def free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("relay.io.datapath.plain.time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


@pytest.fixture
def clients() -> Clients:
    return Clients()


@pytest.fixture(params=["127.0.0.1", "::1"], ids=["IPv4", "IPv6"])
def host(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def plane(clients: Clients) -> AsyncIterator[PlainDataPath]:
    plane = PlainDataPath(asyncio.get_running_loop(), frozenset(), clients)
    plane.drops = WatchedDrops()
    yield plane
    for handle in list(plane._relays):
        plane.close_relay(handle)


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
    client.clients.inbox[client.path].put_nowait(b"mark")
    async with udp_endpoint(host) as other:
        other.send(b"from another", client.address)
        await _until_dropped(plane, Drop.NO_PERMISSION, 2)
    assert await client.receive() == b"mark"
    assert client.clients.inbox[client.path].empty()
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
    await _until_dropped(plane, Drop.NO_PERMISSION, 2)
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
    await _until_dropped(plane, Drop.NO_PERMISSION, 2)
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
    await _until_dropped(plane, Drop.NO_PERMISSION, 2)
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
        client.send_channel(b"to one", 0x4000)
        client.send_channel(b"to the other", 0x7FFE)
        assert await peer.receive() == b"to one"
        assert await other.receive() == b"to the other"
        other.send(b"back", client.address)
        assert await client.receive_channel() == (0x7FFE, b"back")


async def test_a_channel_message_that_claims_too_much_is_dropped(
    plane: PlainDataPath, client: Client, peer: UdpEndpoint, clock: Clock
) -> None:
    client.bind(peer.address)
    view = memoryview(b"\x40\0\0\5" + b"1234" + b"from an earlier packet")
    client.clients.relays[client.path].from_client_channel(view, 8, clock.now)
    assert plane.drops[Drop.MALFORMED] == 1


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
    plane: PlainDataPath, clients: Clients, clock: Clock, peer: UdpEndpoint, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_message: memoryview, _address: SocketAddress) -> None:
        raise BlockingIOError

    monkeypatch.setattr(clients, "sender", lambda _path: (refuse, ("", 0)))
    client = Client(plane, clients, clock, host, 5001)
    client.permit(peer.address)
    peer.send(b"x", client.address)
    await _until_dropped(plane, Drop.SEND_FAILED, 1)
    assert client.traffic.packets_to_client == 0


async def test_more_peers_than_are_remembered_are_still_reached(client: Client, host: str) -> None:
    async with udp_endpoint(host) as peer:
        client.permit(peer.address)
        for port in range(2000, 2100):
            client.send_indication(b"into the void", (host, port))
        client.send_indication(b"reached", peer.address)
        assert await peer.receive() == b"reached"
        assert len(client.clients.relays[client.path]._targets) <= 64


async def test_a_refused_datagram_does_not_stop_the_relay(client: Client, peer: UdpEndpoint, host: str) -> None:
    closed = (host, free_port(host))
    client.permit(peer.address)
    for _ in range(3):
        client.send_indication(b"nobody listens", closed)  # ICMP port unreachable comes back
    peer.send(b"hello", client.address)
    assert await client.receive_data() == (transport(peer.address), b"hello")


# Opening and closing


async def test_a_port_held_by_somebody_else_is_taken(plane: PlainDataPath, clients: Clients, host: str) -> None:
    ip = transport((host, 0)).ip
    async with udp_endpoint(host) as holder:
        with pytest.raises(PortTaken):
            plane.open_relay(_path(5001), RelayAddress(ip, ip), holder.address[1], LONG)
    assert clients.relays == {}
    assert plane.totals()[Transport.UDP] == Traffic(0, 0, 0, 0)


async def test_an_address_that_is_not_ours_is_another_error(plane: PlainDataPath) -> None:
    ip = transport(("192.0.2.77", 0)).ip
    with pytest.raises(OSError, match="assign") as caught:
        plane.open_relay(_path(5001), RelayAddress(ip, ip), 50_000, LONG)
    assert not isinstance(caught.value, PortTaken)


async def test_a_client_that_has_gone_leaves_no_socket_behind(
    plane: PlainDataPath, clients: Clients, host: str
) -> None:
    ip, port = transport((host, 0)).ip, free_port(host)
    clients.gone = True
    with pytest.raises(KeyError):
        plane.open_relay(_path(5001), RelayAddress(ip, ip), port, LONG)
    gc.collect()  # a leaked socket would warn, and a warning is an error here
    clients.gone = False
    plane.open_relay(_path(5001), RelayAddress(ip, ip), port, LONG)


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
    plane.open_relay(_path(5001), RelayAddress(ip, ip), client.address[1], LONG)  # the port is free again


# Two relayed clients meet on an own address


@pytest.fixture
async def closed_plane(clients: Clients, host: str) -> AsyncIterator[PlainDataPath]:
    """A plane on an address of its own, of which nothing but relayed ports is reachable."""
    own = frozenset((transport((host, 0)).ip,))
    plane = PlainDataPath(asyncio.get_running_loop(), own, clients)
    plane.drops = WatchedDrops()
    yield plane
    for handle in list(plane._relays):
        plane.close_relay(handle)


@pytest.fixture
def pair(closed_plane: PlainDataPath, clients: Clients, clock: Clock, host: str) -> tuple[Client, Client]:
    return tuple(Client(closed_plane, clients, clock, host, port) for port in (5001, 5002))  # type: ignore[return-value]  # two


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
    assert one.clients.inbox[other.path].empty()


async def test_no_payload_is_larger_than_udp_or_an_indication_can_carry(
    closed_plane: PlainDataPath, pair: tuple[Client, Client]
) -> None:
    one, other = pair
    one.bind(other.address)
    other.permit(one.address)
    one.send_channel(bytes(0xFFFF))
    assert closed_plane.drops[Drop.SEND_FAILED] == 1
    assert one.traffic == Traffic(0, 0, 0, 0)
    own, stranger = other.clients.relays[other.path], one.clients.relays[one.path].relayed
    own.deliver(MAX_PAYLOAD, stranger, other.clock.now)
    assert other.traffic.bytes_to_client == MAX_PAYLOAD
    own.deliver(MAX_PAYLOAD + 1, stranger, other.clock.now)
    assert closed_plane.drops[Drop.MALFORMED] == 1
    assert len(await other.receive()) % 4 == 0
    assert other.clients.inbox[other.path].empty()


async def test_an_own_port_that_is_no_relay_is_not_reachable(
    closed_plane: PlainDataPath, pair: tuple[Client, Client], peer: UdpEndpoint
) -> None:
    one, other = pair
    one.bind(peer.address)
    one.send_channel(b"to a service of this machine")
    one.send_indication(b"to a service of this machine", peer.address)
    closed_plane.send_to_peer(one.handle, b"to a service of this machine", transport(peer.address))
    assert closed_plane.drops[Drop.OWN_ADDRESS] == 3
    assert closed_plane.counters(one.handle) == Traffic(0, 0, 0, 0)  # what was dropped was not relayed
    closed_plane.close_relay(other.handle)
    one.send_indication(b"to a closed relay", other.address)
    assert closed_plane.drops[Drop.OWN_ADDRESS] == 4
    other_side = socket.socket(socket.AF_INET6 if ":" in peer.address[0] else socket.AF_INET, socket.SOCK_DGRAM)
    with other_side:
        other_side.sendto(b"mark", peer.address)
    assert await peer.receive() == b"mark"


async def test_transaction_ids_of_data_indications_do_not_repeat(plane: PlainDataPath) -> None:
    ids = [plane.next_transaction_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert {len(each) for each in ids} == {12}


def _path(port: int) -> FiveTuple:
    return FiveTuple(
        Transport.UDP, TransportAddress.parse("192.0.2.9", 3478), TransportAddress.parse("192.0.2.1", port)
    )


class WatchedDrops(dict[Drop, int]):
    """The plane's counters of drops, which tell whoever waits for one."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(Drop, 0))
        self.changed = asyncio.Event()

    def __setitem__(self, reason: Drop, count: int) -> None:
        super().__setitem__(reason, count)
        self.changed.set()


async def _until_dropped(plane: PlainDataPath, reason: Drop, count: int) -> None:
    drops = plane.drops
    assert isinstance(drops, WatchedDrops)
    async with asyncio.timeout(PATIENCE):
        while drops[reason] < count:
            drops.changed.clear()
            await drops.changed.wait()
