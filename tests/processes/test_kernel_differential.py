"""Random and hostile packets through both planes: the same bytes reach the same places, and the same is counted."""

import os
import random
import socket
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from stun.address import TransportAddress
from stun.attributes import DATA, DONT_FRAGMENT, SOFTWARE, XOR_PEER_ADDRESS
from stun.demux import encode_channel_data
from stun.errors import MessageParseError
from stun.message import decode_message, encode_message
from stun.registry import MessageClass, Method
from tests.support.kernel_rig import IPV4, IPV6, NUMBER, Address, Client, Ends, Rig, heard, open_wire
from tests.support.lab import Lab
from tests.support.turn_client import Field, new_transaction_id, pack

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="builds network namespaces")

BATCHES = 30
TOGETHER = 12  # packets of a batch
SIZES: Final = (*range(9), 159, 160, 161, 1099, 1100, 1400, 1432, 1440, 1452, 1460, 1472, 1473, 2000, 4000)
SO_NO_CHECK: Final = 11  # missing in the socket module
ANOTHER: Final = NUMBER + 1  # bound to the second peer

Packet = tuple[int, bytes]  # who sends it, 0 for the client, else the number of the peer; and what


class Site:
    """A plane with a client that has channels to two peers, and no more than a permission for a third one."""

    def __init__(self, rig: Rig, peers: list[socket.socket]) -> None:
        self.rig, self.peers = rig, peers
        self.client: Client = rig.client()

    async def make_busy(self) -> None:
        addresses = [self.rig.address_of(peer) for peer in self.peers]
        self.client.permit(addresses[0])
        for peer in self.peers:
            await self.rig.warm(self.client, peer, channel=False)
        self.client.bind(addresses[0])
        self.client.bind(addresses[1], ANOTHER)
        await self.rig.warm(self.client, self.peers[0], channel=True)

    async def see(self, packets: list[Packet]) -> list[object]:
        """What arrives anywhere when these packets are sent, in an order of its own."""
        del self.rig.passed_up[:]
        for number, data in packets:
            sender = self.client.socket if number == 0 else self.peers[number - 1]
            if sender.family == socket.AF_INET:  # every third one without a checksum, as IPv4 allows
                sender.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, sum(data) % 3 == 0)
            if number == 0:
                self.client.send(data)
            else:
                self.peers[number - 1].sendto(data, self.client.relayed)
        await self.rig.quiet()
        seen: list[object] = [("control plane", data) for data in self.rig.passed_up]
        messages = [(normal(data), sender) for data, sender in heard(self.client.socket)]
        seen += [("client", *message, sender == self.rig.listening) for message, sender in messages if message]
        for number, peer in enumerate(self.peers, start=1):
            seen += [(f"peer {number}", data, sender == self.client.relayed) for data, sender in heard(peer)]
        return sorted(seen, key=repr)


def normal(message: bytes) -> tuple[object, ...]:
    """A message to a client without its transaction ID, which is new each time and hides an IPv6 address, too.

    Nothing is left of a report of an ICMP error: how many of them hosts send is bounded, by time.
    """
    try:
        decoded = decode_message(message)
    except MessageParseError:
        return ("ChannelData", message)
    if decoded.get(DATA) is None:
        return ()
    return ("Data", len(message), decoded.get(XOR_PEER_ADDRESS), decoded.get(DATA), message[:4])


def send(choice: random.Random, peer: Address, data: bytes) -> bytes:
    """A Send indication, often of the usual shape."""
    transaction_id = new_transaction_id()
    fields: list[Field] = [(XOR_PEER_ADDRESS, TransportAddress.parse(*peer)), (DATA, data)]
    if choice.random() < 0.1:
        fields.reverse()
    if choice.random() < 0.1:
        fields.insert(choice.randrange(3), (SOFTWARE, "somebody"))
    if choice.random() < 0.1:
        fields.append((DONT_FRAGMENT, b""))
    fingerprint = choice.random() < 0.4
    attributes = pack(transaction_id, *fields)
    message = encode_message(Method.SEND, MessageClass.INDICATION, transaction_id, attributes, fingerprint=fingerprint)
    return message[:-4] + choice.randbytes(4) if fingerprint and choice.random() < 0.2 else message


def channel(choice: random.Random, data: bytes) -> bytes:
    """ChannelData, often for a bound channel."""
    number = choice.choice((NUMBER, NUMBER, NUMBER, ANOTHER, 0x4FFF, 0x7FFF, 0x3FFF))
    return encode_channel_data(number, data) + choice.randbytes(choice.choice((0, 0, 0, 1, 2, 3, 4, 8)))


def flipped(choice: random.Random, message: bytes) -> bytes:
    """With one bit changed in the headers."""
    at = choice.randrange(min(len(message), 52) * 8)
    return bytes(byte ^ (1 << at % 8 if at // 8 == place else 0) for place, byte in enumerate(message))


def cut(choice: random.Random, message: bytes) -> bytes:
    """With its end missing, or with something behind it."""
    if choice.random() < 0.5:
        return message[: choice.randrange(len(message))]
    return message + choice.randbytes(choice.randrange(1, 9))


def kept(_choice: random.Random, message: bytes) -> bytes:
    return message


MUTATIONS: Final[tuple[Callable[[random.Random, bytes], bytes], ...]] = (kept, kept, kept, flipped, cut)


def packets(choice: random.Random, peers: list[Address]) -> list[Packet]:
    """A batch."""
    return [packet(choice, peers) for _ in range(TOGETHER)]


def packet(choice: random.Random, peers: list[Address]) -> Packet:
    data = choice.randbytes(choice.choice(SIZES))
    if choice.random() < 0.4:
        # What peers send may look like anything, also like what clients send.
        shaped = choice.choice((data, data, encode_channel_data(NUMBER, data[:1400]), send(choice, peers[0], data)))
        return choice.choice((1, 2, 3)), shaped
    if choice.random() < 0.1:
        return 0, data
    stranger = ("192.0.2.7" if "." in peers[0][0] else "2001:db8::7", 9)
    to = choice.choice((*peers[:2], *peers, stranger))
    message = channel(choice, data) if choice.random() < 0.5 else send(choice, to, data)
    return 0, choice.choice(MUTATIONS)(choice, message)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with open_wire() as lab:
        yield lab


@pytest.mark.parametrize("ends", [IPV4, IPV6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long), pytest.param(3, marks=pytest.mark.long)])
async def test_both_planes_deliver_the_same_bytes_to_the_same_places_or_neither_does(
    lab: Lab, ends: Ends, seed: int
) -> None:
    choice = random.Random(seed)  # noqa: S311  # to be had again
    rigs = [Rig(lab, kind, ends) for kind in ("plain", "kernel")]
    peers = [rigs[0].peer() for _ in range(3)]
    plain, kernel = (Site(rig, peers) for rig in rigs)
    for site in (plain, kernel):
        await site.make_busy()
    addresses = [rigs[0].address_of(peer) for peer in peers]
    before = kernel.rig.carried(kernel.client)
    for number in range(BATCHES):
        batch = packets(choice, addresses)
        expected, found = await plain.see(batch), await kernel.see(batch)
        missing, more = (
            [each for each in expected if each not in found],
            [each for each in found if each not in expected],
        )
        assert found == expected, f"batch {number} of seed {seed}: {missing} and not {more}"
    assert kernel.rig.plane.traffic(kernel.client.handle) == plain.rig.plane.traffic(plain.client.handle)
    assert kernel.rig.plane.drops == plain.rig.plane.drops
    by_kernel = kernel.rig.carried(kernel.client) - before
    assert BATCHES < by_kernel < BATCHES * TOGETHER, "both ways through the relay were to be seen"
    for rig in rigs:
        rig.close()
