"""Against a TURN server made of a few lines, which can misbehave; against real ones in the labs of namespaces."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from check.findings import EchoWay, Outcome, Row
from check.io import probe as probes
from check.io.peer import open_peer
from check.io.probe import Surroundings, probe
from check.plan import Family, Purpose, Transport
from stun.address import TransportAddress
from stun.attributes import (
    DATA,
    LIFETIME,
    NONCE,
    REALM,
    XOR_MAPPED_ADDRESS,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
)
from stun.credentials import Credential, long_term_key
from stun.integrity import IntegrityKey
from stun.message import Message, decode_message, encode_error, encode_message, encode_success
from stun.registry import ErrorCode, MessageClass, Method

ALICE = Credential("alice", "secret")
KEY = IntegrityKey(long_term_key("alice", "example.org", "secret"))
LOOPBACK = "127.0.0.1"


@dataclass
class Behaviour:
    """What the server does otherwise than a good one."""

    refuses: ErrorCode | None = None  # every signed Allocate
    denies_peers: bool = False
    is_range_closed: bool = False
    relayed: TransportAddress | None = None  # what it claims to relay from
    requests: list[tuple[int, bool]] = field(default_factory=list)  # method, and whether it was signed
    released: asyncio.Event = field(default_factory=asyncio.Event)


class Relayed(asyncio.DatagramProtocol):
    """The relayed transport address."""

    def __init__(self, server: "TinyTurn") -> None:
        self.server = server

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if not self.server.behaviour.is_range_closed:
            self.server.from_peer(data, TransportAddress.parse(*addr))


class TinyTurn(asyncio.DatagramProtocol):
    """One client, one allocation."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.relay: Relayed | None = None
        self.client: tuple[str, int] = ("", 0)

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        message = decode_message(data)
        if message.message_class is MessageClass.INDICATION:
            self._to_peer(message)
            return
        self.behaviour.requests.append((message.method, message.integrity is not None))
        if message.method != Method.BINDING:
            self.client = addr
        self.transport.sendto(self._answer(message, TransportAddress.parse(*addr)), addr)

    def from_peer(self, data: bytes, peer: TransportAddress) -> None:
        attributes = [XOR_PEER_ADDRESS.pack(peer, bytes(12)), DATA.pack(data)]
        self.transport.sendto(encode_message(Method.DATA, MessageClass.INDICATION, bytes(12), attributes), self.client)

    def _to_peer(self, message: Message) -> None:
        peer, data = message.get(XOR_PEER_ADDRESS), message.get(DATA)
        assert peer is not None and data is not None and self.relay is not None
        self.relay.transport.sendto(data, (LOOPBACK, peer.port))

    def _answer(self, request: Message, client: TransportAddress) -> bytes:
        mapped = XOR_MAPPED_ADDRESS.pack(client, request.transaction_id)
        if request.method == Method.BINDING:
            return encode_success(request, [mapped])
        if request.integrity is None:
            challenge = [REALM.pack("example.org"), NONCE.pack("nonce")]
            return encode_error(request, ErrorCode.UNAUTHENTICATED, challenge)
        request.verify(KEY)
        behaviour = self.behaviour
        if request.method == Method.ALLOCATE and behaviour.refuses is not None:
            return encode_error(request, behaviour.refuses, key=KEY)
        if request.method == Method.CREATE_PERMISSION and behaviour.denies_peers:
            return encode_error(request, ErrorCode.FORBIDDEN, key=KEY)
        if request.get(LIFETIME) == 0:
            behaviour.released.set()
        attributes = [mapped]
        if request.method == Method.ALLOCATE:
            assert self.relay is not None
            own = TransportAddress.parse(*self.relay.transport.get_extra_info("sockname"))
            attributes.append(XOR_RELAYED_ADDRESS.pack(behaviour.relayed or own, request.transaction_id))
        return encode_success(request, attributes, key=KEY)


@contextlib.asynccontextmanager
async def serving(behaviour: Behaviour) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    front, server = await loop.create_datagram_endpoint(lambda: TinyTurn(behaviour), local_addr=(LOOPBACK, 0))
    back, server.relay = await loop.create_datagram_endpoint(lambda: Relayed(server), local_addr=(LOOPBACK, 0))
    yield front.get_extra_info("sockname")[1]
    back.close()
    front.close()


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "ECHO_SECONDS", 0.2)
    monkeypatch.setattr(probes, "MIN_ECHO_SECONDS", 0.1)
    monkeypatch.setattr(probes, "OPENING_SECONDS", 0.4)


async def probed(
    behaviour: Behaviour, credential: Credential | None = ALICE, purpose: Purpose = Purpose.TURN, seconds: float = 20
) -> Row:
    around = Surroundings(time.monotonic() + seconds)
    if credential is not None:
        around.credentials = {Family.IPV4: credential}
        around.peers[Family.IPV4] = await open_peer(Family.IPV4)
    async with serving(behaviour) as port:
        row = Row(purpose, Transport.UDP, Family.IPV4, LOOPBACK, port, LOOPBACK)
        await probe(row, around)
        if row.allocate is not None:
            async with asyncio.timeout(5):  # the request is sent when nobody waits for an answer any more
                await behaviour.released.wait()
    for peer in around.peers.values():
        peer.close()
    return row


async def test_packets_go_through_the_relay_and_back_and_the_allocation_is_given_back() -> None:
    behaviour = Behaviour()
    row = await probed(behaviour)
    assert row.binding is not None and row.binding.outcome is Outcome.OK
    assert row.challenge is not None and row.challenge.code == 401
    assert row.allocate is not None and row.allocate.outcome is Outcome.OK
    assert row.echo is not None
    assert (row.echo.way, row.echo.sent, row.echo.received) == (EchoWay.RELAYED, 10, 10)
    assert row.relayed_port is not None and row.relayed_port.reached
    assert behaviour.released.is_set()


async def test_where_the_range_is_closed_requests_on_the_way_to_the_relay_are_counted() -> None:
    row = await probed(Behaviour(is_range_closed=True))
    assert row.relayed_port is not None and row.relayed_port.reached is False
    assert row.echo is not None
    assert (row.echo.way, row.echo.sent, row.echo.received) == (EchoWay.CONTROL, 10, 10)


async def test_where_the_own_address_is_denied_as_a_peer_the_range_is_not_judged() -> None:
    row = await probed(Behaviour(denies_peers=True))
    assert row.permission is not None and row.permission.code == 403
    assert row.relayed_port is not None and row.relayed_port.reached is None
    assert row.echo is not None and row.echo.way is EchoWay.CONTROL


async def test_a_server_that_refuses_an_allocation_is_asked_once_and_measured_no_further() -> None:
    behaviour = Behaviour(refuses=ErrorCode.INSUFFICIENT_CAPACITY)
    row = await probed(behaviour)
    assert row.allocate is not None
    assert (row.allocate.outcome, row.allocate.code) == (Outcome.REJECTED, 508)
    assert row.echo is None and row.relayed_port is None
    assert behaviour.requests.count((Method.ALLOCATE, True)) == 1


async def test_without_credentials_nothing_is_signed_and_the_challenge_is_enough() -> None:
    behaviour = Behaviour()
    row = await probed(behaviour, credential=None)
    assert row.challenge is not None and row.challenge.outcome is Outcome.OK
    assert row.allocate is None
    assert not any(is_signed for _, is_signed in behaviour.requests)


async def test_a_stun_server_is_asked_for_nothing_but_binding() -> None:
    behaviour = Behaviour()
    row = await probed(behaviour, purpose=Purpose.STUN)
    assert row.binding is not None and row.binding.outcome is Outcome.OK
    assert row.challenge is None
    assert {method for method, _ in behaviour.requests} == {Method.BINDING}


async def test_a_server_that_names_a_multicast_address_as_relayed_makes_us_send_nothing_there() -> None:
    row = await probed(Behaviour(relayed=TransportAddress.parse("224.0.0.1", 5353)))
    assert row.relayed_port is not None and row.relayed_port.reached is None
    assert row.permission is None and row.echo is None


async def test_a_server_that_names_somebody_else_as_relayed_makes_us_send_little_there() -> None:
    received: list[bytes] = []

    class Victim(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            assert addr
            received.append(data)

    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Victim, local_addr=(LOOPBACK, 0))
    victim = TransportAddress.parse(*transport.get_extra_info("sockname"))
    row = await probed(Behaviour(relayed=victim))
    transport.close()
    assert 1 <= len(received) <= 6
    assert row.relayed_port is not None and row.relayed_port.reached is False


async def test_when_the_time_is_over_no_echo_begins() -> None:
    row = await probed(Behaviour(), seconds=0.3)
    assert row.allocate is not None and row.allocate.outcome is Outcome.OK
    assert row.echo is None
