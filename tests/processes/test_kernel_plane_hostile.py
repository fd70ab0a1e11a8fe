"""Both forwarding planes where packets are not as they should be: limits, checksums, forged sources, and races."""

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from relay.datapath import Drop, Limits
from stun.address import TransportAddress
from stun.demux import decode_channel_data, encode_channel_data
from tests.support.frames import ETHERNET_BYTES, Datagram, encode_frame
from tests.support.kernel_rig import NUMBER, PATIENCE, WARMING, Client, Rig, heard
from tests.support.lab import Lab

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="builds network namespaces")

ROUNDS = 20  # of a race
BEYOND = 200  # packets that are sent after a command has returned
SO_NO_CHECK = 11  # missing in the socket module


async def talking(rig: Rig) -> tuple[Client, socket.socket]:
    """A client with a channel to a peer, whose flows are busy."""
    client, peer = rig.client(), rig.peer()
    client.bind(rig.address_of(peer))
    await rig.warm(client, peer, channel=True)
    return client, peer


def send_frame(wire: Lab, namespace: str, datagram: Datagram, udp_checksum: int | None = None) -> None:
    """Put a frame on a client's link, whatever the kernel there would think of it."""
    inner = f"{namespace}1"
    shown = wire.run(wire.server, "cat", f"/sys/class/net/{inner}/address").stdout.strip()
    frame = bytes.fromhex(shown.replace(":", "")) + encode_frame(datagram, udp_checksum=udp_checksum)[6:]
    assert len(frame) > ETHERNET_BYTES
    with wire.inside(namespace), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
        sock.bind((f"{namespace}0", 0))
        sock.send(frame)


def to_relay(rig: Rig, client: Client, peer: socket.socket) -> tuple[Datagram, Datagram]:
    """What client and peer would send to each other."""
    parse = TransportAddress.parse
    message = encode_channel_data(NUMBER, b"from a frame")
    return (
        Datagram(parse(*rig.address_of(client.socket)), parse(*rig.listening), message),
        Datagram(parse(*rig.address_of(peer)), parse(*client.relayed), b"from a frame"),
    )


async def test_packets_of_peers_are_limited_alike(rig: Rig) -> None:
    client, peer = await talking(rig)
    before = dict(rig.plane.drops)
    rig.plane.set_limits(Limits(bytes_per_second=0, packets_per_second=1))
    for _ in range(10):
        peer.sendto(b"much", client.relayed)
        client.send_channel(b"is not limited")
    await rig.quiet()
    dropped = rig.plane.drops[Drop.PEER_RATE] - before[Drop.PEER_RATE]
    assert dropped > 0
    assert len(heard(client.socket)) + dropped == 10
    assert len(heard(peer)) == 10


async def test_bytes_to_a_client_are_limited_alike(rig: Rig) -> None:
    client, peer = await talking(rig)
    before = dict(rig.plane.drops)
    rig.plane.set_limits(Limits(bytes_per_second=1, packets_per_second=0))  # one packet overdraws it for minutes
    for _ in range(5):
        peer.sendto(bytes(300), client.relayed)
    await rig.quiet()
    assert len(heard(client.socket)) == 1
    assert rig.plane.drops[Drop.BANDWIDTH] - before[Drop.BANDWIDTH] == 4


async def test_ipv4_without_a_checksum_is_relayed_both_ways(plane: Rig) -> None:
    client, peer = await talking(plane)
    before = plane.carried(client)
    for sock in (client.socket, peer):
        sock.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    client.send_channel(b"there")
    peer.sendto(b"back", client.relayed)
    await plane.quiet()
    assert heard(peer) == [(b"there", client.relayed)]
    assert [decode_channel_data(message) for message, _ in heard(client.socket)] == [(NUMBER, b"back")]
    assert plane.carried(client) - before == (2 if plane.kernel else 0)


async def test_a_wrong_checksum_never_reaches_anybody(wire: Lab, plane: Rig) -> None:
    client, peer = await talking(plane)
    from_client, from_peer = to_relay(plane, client, peer)
    for namespace, datagram in ((wire.alice, from_client), (wire.bob, from_peer)):
        send_frame(wire, namespace, datagram, udp_checksum=0x1234)
    await plane.quiet()
    assert (heard(peer), heard(client.socket)) == ([], [])
    for namespace, datagram in ((wire.alice, from_client), (wire.bob, from_peer)):
        send_frame(wire, namespace, datagram)  # the frame was wrong in nothing else
    await plane.quiet()
    assert [data for data, _ in heard(peer)] == [b"from a frame"]
    assert [decode_channel_data(message)[1] for message, _ in heard(client.socket)] == [b"from a frame"]


async def test_a_checksum_that_is_left_to_the_network_card_is_finished_on_the_way(wire: Lab, rig: Rig) -> None:
    client, peer = await talking(rig)
    with unfinished_checksums(wire):
        client.send_channel(b"there")
        peer.sendto(b"back", client.relayed)
        await rig.quiet()
    assert heard(peer) == [(b"there", client.relayed)]
    assert [decode_channel_data(message) for message, _ in heard(client.socket)] == [(NUMBER, b"back")]
    if rig.kernel is not None:
        assert rig.kernel.offload.passed()["checksum"] >= 2


async def test_nobody_passes_for_a_relayed_client_by_its_relayed_address(wire: Lab, plane: Rig) -> None:
    one, two = plane.client(), plane.client()
    one.bind(two.relayed)
    two.bind(one.relayed)
    for _ in range(WARMING):
        one.send_channel(b"warming")
        two.send_channel(b"warming")
        await plane.quiet()
    heard(one.socket), heard(two.socket)
    parse = TransportAddress.parse
    for namespace in (wire.alice, wire.bob):
        send_frame(wire, namespace, Datagram(parse(*two.relayed), parse(*one.relayed), b"forged"))
    await plane.quiet()
    assert heard(one.socket) == []
    two.send_channel(b"my own")
    await plane.quiet()
    assert [decode_channel_data(message) for message, _ in heard(one.socket)] == [(NUMBER, b"my own")]


async def test_nobody_forges_a_client_or_a_peer_without_all_that_names_the_flow(wire: Lab, plane: Rig) -> None:
    client, peer = await talking(plane)
    from_client, from_peer = to_relay(plane, client, peer)
    other = TransportAddress.parse
    host, port = plane.address_of(client.socket)
    for datagram in (
        from_client._replace(source=other(host, port - 1)),
        from_client._replace(source=other("10.91.1.99", port)),
        from_client._replace(payload=encode_channel_data(NUMBER + 1, b"another channel")),
        from_client._replace(destination=other(*client.relayed)),
    ):
        send_frame(wire, wire.alice, datagram)
    send_frame(wire, wire.bob, from_peer._replace(source=other("10.91.2.99", from_peer.source.port)))
    await plane.quiet()
    assert (heard(peer), heard(client.socket)) == ([], [])


class Stream:
    """Numbered packets, sent as fast as a thread on another processor can, until it is stopped."""

    def __init__(self, send: Callable[[bytes], object]) -> None:
        self.begun = 0  # the number of the packet that was handed to the system last
        self._send = send
        self._stopping = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        others = set(range(os.cpu_count() or 1)) - os.sched_getaffinity(0)
        if others:
            os.sched_setaffinity(0, others)
        while not self._stopping:
            self.begun += 1
            with contextlib.suppress(BlockingIOError):
                self._send(b"%08d" % self.begun)

    def stop(self) -> None:
        self._stopping = True
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


async def until(rig: Rig, reached: Callable[[], bool]) -> None:
    """Let user space do its part until something is so."""
    ends_at = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < ends_at, "it was never reached"
        await rig.turn()


@pytest.mark.parametrize("direction", ["to the peer", "to the client"])
async def test_nothing_that_is_sent_after_a_command_that_forbids_arrives(rig: Rig, direction: str) -> None:
    client, peer = await talking(rig)
    for number in range(ROUNDS):
        client.bind(rig.address_of(peer))
        if direction == "to the peer":
            await race(rig, client, peer, peer, client.send_channel, channel_first=number % 2 == 0)
        else:
            await rig.warm(client, peer, channel=True)

            def send(data: bytes) -> None:
                peer.sendto(data, client.relayed)

            await race(rig, client, peer, client.socket, send, channel_first=number % 2 == 0)


async def race(
    rig: Rig,
    client: Client,
    peer: socket.socket,
    arriving: socket.socket,
    send: Callable[[bytes], object],
    *,
    channel_first: bool,
) -> None:
    """Forbid what flows, and see that no packet arrives that was begun after that."""
    seen: list[bytes] = []
    before = rig.carried(client)
    stream = Stream(send)
    commands: list[Callable[[], object]] = [
        lambda: rig.plane.unbind_channel(client.handle, NUMBER),
        lambda: rig.plane.forget_peer(client.handle, TransportAddress.parse(*rig.address_of(peer)).ip),
    ]
    try:
        await until(rig, lambda: _take(arriving, seen) >= WARMING)
        if rig.kernel is not None:  # the race is with the kernel
            await until(rig, lambda: rig.carried(client) - before >= WARMING)
        for command in commands if channel_first else commands[::-1]:
            command()
        last = stream.begun
        await until(rig, lambda: stream.begun > last + BEYOND)
    finally:
        stream.stop()
    await rig.quiet()
    _take(arriving, seen)
    assert max(int(message[-8:]) for message in seen) <= last


def _take(sock: socket.socket, seen: list[bytes]) -> int:
    while select.select([sock], [], [], 0)[0]:
        seen.append(sock.recv(2048))
    return len(seen)


@contextlib.contextmanager
def unfinished_checksums(wire: Lab) -> Iterator[None]:
    """Have both ends leave checksums to a network card that there is not, as veth does by itself."""
    ends = ((wire.alice, f"{wire.alice}0"), (wire.bob, f"{wire.bob}0"))
    for namespace, device in ends:
        assert wire.run(namespace, "ethtool", "-K", device, "tx", "on").returncode == 0
    try:
        yield
    finally:
        for namespace, device in ends:
            assert wire.run(namespace, "ethtool", "-K", device, "tx", "off").returncode == 0
