"""Both forwarding planes between real links: what one relays the other relays, and nothing else."""

import contextlib
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from relay.datapath import Drop, Limits, RelayAddress, Traffic
from relay.io.datapath.switchboard import socket_address
from stun.address import TransportAddress
from stun.attributes import DATA, XOR_PEER_ADDRESS
from stun.demux import decode_channel_data, encode_channel_data
from stun.message import Message, decode_message
from stun.registry import MessageClass, Method
from tests.support.kernel_rig import (
    IPV4,
    LIVES,
    NUMBER,
    WARMING,
    Client,
    Rig,
    await_one,
    heard,
)
from tests.support.lab import Lab
from tests.support.ports import free_port

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="builds network namespaces")

IP_TRANSPARENT = 19  # missing in the socket module
SIZES = (0, 1, 160, 1400)  # the program and the comparison of both planes try all others
CHURN = 2_000  # allocations
LONG_CHURN = 100_000


@pytest.fixture
async def kernel(wire: Lab) -> AsyncIterator[Rig]:
    rig = Rig(wire, "kernel", IPV4)
    yield rig
    rig.close()


@contextlib.contextmanager
def translating(wire: Lab, rule: str) -> Iterator[None]:
    """Have a rule of NAT in the server's namespace."""
    chain = f"chain before {{ type nat hook prerouting priority dstnat; {rule}; }}"
    made = wire.run(wire.server, "nft", f"table ip translating {{ {chain} ; }}")
    assert made.returncode == 0, made.stderr
    try:
        yield
    finally:
        assert wire.run(wire.server, "nft", "delete table ip translating").returncode == 0


@contextlib.contextmanager
def strict(wire: Lab) -> Iterator[None]:
    """Have the server's namespace refuse sources that are reached by another interface (RFC 3704 §2.2)."""
    key = f"net.ipv4.conf.{wire.bob_link}.rp_filter"
    assert wire.run(wire.server, "sysctl", "-qw", f"{key}=1").returncode == 0
    try:
        yield
    finally:
        assert wire.run(wire.server, "sysctl", "-qw", f"{key}=0").returncode == 0


def data_of(message: bytes) -> tuple[tuple[str, int], bytes]:
    """Whose data a Data indication holds."""
    decoded: Message = decode_message(message)
    assert (decoded.method, decoded.message_class) == (Method.DATA, MessageClass.INDICATION)
    peer, data = decoded.get(XOR_PEER_ADDRESS), decoded.get(DATA)
    assert peer is not None and data is not None
    return socket_address(peer.ip, peer.port)[:2], data


async def talking(rig: Rig, *, channel: bool) -> tuple[Client, socket.socket]:
    """A client and a peer whose flows are busy."""
    client, peer = rig.client(), rig.peer()
    address = rig.address_of(peer)
    if channel:
        client.bind(address)
    else:
        client.permit(address)
    await rig.warm(client, peer, channel=channel)
    return client, peer


@pytest.mark.parametrize("size", SIZES)
async def test_channel_data_goes_both_ways_byte_for_byte(rig: Rig, size: int) -> None:
    client, peer = await talking(rig, channel=True)
    before, data = rig.carried(client), os.urandom(size)
    client.send_channel(data)
    peer.sendto(data, client.relayed)
    await rig.quiet()
    assert heard(peer) == [(data, client.relayed)]
    ((message, sender),) = heard(client.socket)
    assert (decode_channel_data(message), sender) == ((NUMBER, data), rig.listening)
    assert rig.carried(client) - before == (2 if rig.kernel else 0)


@pytest.mark.parametrize("size", SIZES)
async def test_indications_go_both_ways_byte_for_byte(rig: Rig, size: int) -> None:
    client, peer = await talking(rig, channel=False)
    before, data = rig.carried(client), os.urandom(size)
    client.send_indication(data, rig.address_of(peer))
    peer.sendto(data, client.relayed)
    await rig.quiet()
    assert heard(peer) == [(data, client.relayed)]
    ((message, sender),) = heard(client.socket)
    assert (data_of(message), sender) == ((rig.address_of(peer), data), rig.listening)
    assert rig.carried(client) - before == (2 if rig.kernel else 0)


async def test_what_the_kernel_relays_needs_no_user_space(kernel: Rig) -> None:
    client, peer = await talking(kernel, channel=True)
    client.send_channel(b"there")
    assert await_one(peer) == (b"there", client.relayed)
    peer.sendto(b"and back", client.relayed)
    assert decode_channel_data(await_one(client.socket)[0]) == (NUMBER, b"and back")


@pytest.mark.parametrize("channel", [True, False], ids=["channel", "indications"])
async def test_a_forgotten_peer_neither_hears_nor_is_heard(rig: Rig, *, channel: bool) -> None:
    client, peer = await talking(rig, channel=channel)
    address = rig.address_of(peer)
    rig.plane.forget_peer(client.handle, TransportAddress.parse(*address).ip)
    client.send_channel(b"nobody hears it")
    client.send_indication(b"nobody hears it", address)
    peer.sendto(b"nobody hears it", client.relayed)
    await rig.quiet()
    assert (heard(peer), heard(client.socket)) == ([], [])


async def test_an_unbound_channel_is_silent_and_its_peer_is_heard_by_indication(rig: Rig) -> None:
    client, peer = await talking(rig, channel=True)
    rig.plane.unbind_channel(client.handle, NUMBER)
    client.send_channel(b"nobody hears it")
    peer.sendto(b"back", client.relayed)
    await rig.quiet()
    assert heard(peer) == []
    ((message, _),) = heard(client.socket)
    assert data_of(message) == (rig.address_of(peer), b"back")


async def test_nothing_passes_any_more_once_its_end_is_set_to_an_instant_in_the_past(rig: Rig) -> None:
    for expire in ("allocation", "permission", "channel"):
        client, peer = await talking(rig, channel=True)
        address = TransportAddress.parse(*rig.address_of(peer))
        past = time.monotonic() - 1.0
        if expire == "allocation":
            rig.plane.set_expiry(client.handle, past)
        elif expire == "permission":
            rig.plane.allow_peer(client.handle, address.ip, past)
        else:
            rig.plane.bind_channel(client.handle, NUMBER, address, past)
        client.send_channel(b"late")
        peer.sendto(b"late", client.relayed)
        await rig.quiet()
        assert heard(peer) == []
        still_heard = [data_of(message)[1] for message, _ in heard(client.socket)]
        assert still_heard == ([b"late"] if expire == "channel" else [])


async def test_a_flow_that_expires_while_nobody_looks_ends_in_the_kernel_itself(kernel: Rig) -> None:
    client, peer = await talking(kernel, channel=True)
    assert kernel.kernel is not None
    client.permit(kernel.address_of(peer), seconds=0.3)
    deadline = time.monotonic() + 0.3
    passed = kernel.plane.drops[Drop.NO_CHANNEL]
    while time.monotonic() <= deadline:  # no event loop runs meanwhile, so nobody takes anything back
        client.send_channel(b"until then")
    heard(peer)
    client.send_channel(b"late")
    await kernel.quiet()
    assert heard(peer) == []
    assert kernel.plane.drops[Drop.NO_CHANNEL] > passed
    assert kernel.kernel.offload.passed()["expired"] > 0


async def test_a_closed_relay_is_silent_at_once_and_every_packet_was_counted(rig: Rig) -> None:
    client, peer = await talking(rig, channel=True)
    for _ in range(10):
        client.send_channel(b"12345")
        peer.sendto(b"123", client.relayed)
    await rig.quiet()
    warming = WARMING * len(b"warming")
    expected = Traffic(WARMING + 10, warming + 50, WARMING + 10, warming + 30)
    assert rig.plane.traffic(client.handle) == expected
    assert rig.plane.close_relay(client.handle) == expected
    heard(peer), heard(client.socket)
    client.send_channel(b"late")
    peer.sendto(b"late", client.relayed)
    await rig.quiet()
    assert (heard(peer), heard(client.socket)) == ([], [])


async def test_bandwidth_and_packets_are_limited_alike(rig: Rig) -> None:
    client, peer = await talking(rig, channel=True)
    before = dict(rig.plane.drops)
    rig.plane.set_limits(Limits(bytes_per_second=1, packets_per_second=0))  # one packet overdraws it for minutes
    for _ in range(5):
        client.send_channel(bytes(300))
    await rig.quiet()
    assert len(heard(peer)) == 1
    assert rig.plane.drops[Drop.BANDWIDTH] - before[Drop.BANDWIDTH] >= 4


async def test_a_client_that_has_moved_is_heard_and_reached_at_its_new_address_only(rig: Rig) -> None:
    client, peer = await talking(rig, channel=True)
    moved = rig.at_client()
    rig.plane.move_client(client.handle, rig.path_of(moved))
    client.send_channel(b"from the old place")
    peer.sendto(b"to the new place", client.relayed)
    await rig.quiet()
    assert (heard(peer), heard(client.socket)) == ([], [])
    assert [decode_channel_data(message) for message, _ in heard(moved)] == [(NUMBER, b"to the new place")]
    client.socket = moved
    await rig.warm(client, peer, channel=True)
    before = rig.carried(client)
    client.send_channel(b"from the new place")
    await rig.quiet()
    assert heard(peer) == [(b"from the new place", client.relayed)]
    assert rig.carried(client) - before == (1 if rig.kernel else 0)


@pytest.mark.parametrize("channel", [True, False], ids=["channels", "indications"])
async def test_two_relayed_clients_meet(rig: Rig, *, channel: bool) -> None:
    one, two = rig.client(), rig.client()
    for client, other in ((one, two), (two, one)):
        if channel:
            client.bind(other.relayed)
        else:
            client.permit(other.relayed)

    async def exchange(data: bytes) -> None:
        for client, other in ((one, two), (two, one)):
            if channel:
                client.send_channel(data)
            else:
                client.send_indication(data, other.relayed)
        await rig.quiet()

    for _ in range(WARMING):
        await exchange(b"warming")
    heard(one.socket), heard(two.socket)
    before = rig.carried(one, two)
    await exchange(b"hello, you")
    for client, other in ((one, two), (two, one)):
        ((message, sender),) = heard(client.socket)
        assert sender == rig.listening
        if channel:
            assert decode_channel_data(message) == (NUMBER, b"hello, you")
        else:
            assert data_of(message) == (other.relayed, b"hello, you")
    assert rig.carried(one, two) - before == (4 if rig.kernel else 0)  # each counts for both
    rig.plane.close_relay(two.handle)
    one.send_channel(b"nobody is there")
    one.send_indication(b"nobody is there", two.relayed)
    await rig.quiet()
    assert heard(two.socket) == []


async def test_clients_of_two_circles_do_not_meet(rig: Rig) -> None:
    one, two = rig.client("one"), rig.client("two")
    one.permit(two.relayed)
    two.permit(one.relayed)
    for _ in range(WARMING):
        one.send_indication(b"nobody hears it", two.relayed)
    await rig.quiet()
    assert (heard(two.socket), rig.carried(one, two)) == ([], 0)


async def test_nothing_is_sent_from_the_kernel_to_a_client_that_it_has_not_heard(kernel: Rig) -> None:
    client, peer = kernel.client(), kernel.peer()
    client.bind(kernel.address_of(peer))
    for number in range(WARMING):
        peer.sendto(b"%d" % number, client.relayed)
        await kernel.quiet()
    assert kernel.carried(client) == 0
    assert [decode_channel_data(message)[1] for message, _ in heard(client.socket)] == [
        b"%d" % number for number in range(WARMING)
    ]


async def test_a_client_behind_a_redirect_is_answered_from_where_it_has_spoken_to(wire: Lab, plane: Rig) -> None:
    with translating(wire, f"udp dport 443 redirect to :{plane.listening[1]}"):
        client, peer = plane.client(), plane.peer()
        client.bind(plane.address_of(peer))
        for number in range(WARMING):
            client.socket.sendto(encode_channel_data(NUMBER, b"%d" % number), (plane.ends.server, 443))
            peer.sendto(b"%d" % number, client.relayed)
            await plane.quiet()
        assert [data for data, _ in heard(peer)] == [b"%d" % number for number in range(WARMING)]
        answers = heard(client.socket)
    assert len(answers) == WARMING
    assert {sender for _, sender in answers} == {(plane.ends.server, 443)}


async def test_who_forges_a_client_from_another_interface_meets_the_kernels_own_checks(wire: Lab, plane: Rig) -> None:
    client, peer = await talking(plane, channel=True)
    host, port = plane.address_of(client.socket)
    with strict(wire), wire.inside(wire.bob), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as forger:
        forger.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)  # any source, as from a raw socket
        forger.bind((host, port))
        for _ in range(5):
            forger.sendto(encode_channel_data(NUMBER, b"forged"), plane.listening)
        await plane.quiet()
        client.send_channel(b"my own")
        await plane.quiet()
    assert [data for data, _ in heard(peer)] == [b"my own"]
    if plane.kernel is not None:
        assert plane.kernel.offload.passed()["interface"] == 5


async def test_a_peer_without_a_permission_is_never_left_to_the_kernel(rig: Rig) -> None:
    client, stranger = rig.client(), rig.peer()
    for _ in range(WARMING):
        stranger.sendto(b"let me in", client.relayed)
        client.send_indication(b"come in", rig.address_of(stranger))
    await rig.quiet()
    assert (heard(client.socket), heard(stranger), rig.carried(client)) == ([], [], 0)
    if rig.kernel is not None:
        assert list(rig.kernel.offload._program.flows()) == []
    assert rig.plane.drops[Drop.NO_PERMISSION] == 2 * WARMING


async def test_a_full_table_leaves_the_rest_to_user_space(wire: Lab) -> None:
    rig = Rig(wire, "kernel", IPV4, flows=1)
    assert rig.kernel is not None
    pairs = [await talking(rig, channel=True) for _ in range(2)]
    assert len(rig.kernel.offload) == 1
    assert rig.kernel.offload.refused > 0
    for client, peer in pairs:
        client.send_channel(b"there")
        peer.sendto(b"back", client.relayed)
        await rig.quiet()
        assert [data for data, _ in heard(peer)] == [b"there"]
        assert [decode_channel_data(message)[1] for message, _ in heard(client.socket)] == [b"back"]
    rig.close()


async def test_what_stands_in_the_kernel_without_our_knowledge_is_removed(kernel: Rig) -> None:
    client, peer = await talking(kernel, channel=True)
    assert kernel.kernel is not None
    offload = kernel.kernel.offload
    carried = next(iter(offload._flows.values()))
    way, onward = next(iter(carried.flows.items()))
    stray = way._replace(remote=TransportAddress.parse(kernel.ends.client, 9))
    offload._program.set_flow(stray, onward)
    offload.reconcile()
    offload.reconcile()
    assert stray not in set(offload._program.flows())
    assert offload.reconciled == 1
    client.send_channel(b"still there")
    assert await_one(peer)[0] == b"still there"


async def churn(rig: Rig, count: int) -> None:
    """Open and close so many allocations, each with flows of every kind in the kernel."""
    assert rig.kernel is not None
    client, at_peer = rig.at_client(), rig.peer()
    peer = TransportAddress.parse(*rig.address_of(at_peer))
    address = socket_address(*peer)
    bound = TransportAddress.parse(rig.ends.relay, 0).ip
    path = rig.path_of(client)
    with rig.lab.inside(rig.lab.server):
        port = free_port()
        for _ in range(count):
            expires_at = time.monotonic() + LIVES
            handle = rig.plane.open_relay(path, RelayAddress(bound, bound), port, expires_at)
            relay = rig.plane._relays[handle]
            rig.plane.allow_peer(handle, peer.ip, expires_at)
            rig.plane.bind_channel(handle, NUMBER, peer, expires_at)
            rig.plane._board.on_busy_to_peer(relay.client.channels[NUMBER])
            rig.plane._board.on_busy_to_peer(relay.route(address, peer.ip, relay.permissions[address[0]]))
            client.sendto(encode_channel_data(NUMBER, b"I am heard"), rig.listening)
            assert await_one(at_peer)[0] == b"I am heard"
            rig.plane._board.on_busy_to_client(relay, address)
            assert len(rig.kernel.offload) == 3
            rig.plane.close_relay(handle)
            assert len(rig.kernel.offload) == 0
    assert list(rig.kernel.offload._program.flows()) == []
    assert rig.kernel.offload.refused == rig.kernel.offload.failures == 0
    assert rig.kernel.offload.relays == 0


async def test_allocations_that_come_and_go_leave_tables_and_ports_empty(kernel: Rig) -> None:
    await churn(kernel, CHURN)


@pytest.mark.long
async def test_a_hundred_thousand_allocations_leave_tables_and_ports_empty(kernel: Rig) -> None:
    await churn(kernel, LONG_CHURN)
