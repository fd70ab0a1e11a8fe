"""A whole TURN server: the input is a script of what three clients do, well-behaved or not.

Each step is one byte that chooses the action, one that chooses the client, and what the action takes. The recording
forwarding plane asserts by itself that nothing is sent without a permission, no port is handed out twice, and no
channel changes its peer; after each step the books must balance.
"""

from collections.abc import Callable
from typing import Final

from relay.five_tuple import Transport
from stun.address import TransportAddress
from stun.attributes import (
    CHANNEL_NUMBER,
    DATA,
    EVEN_PORT,
    LIFETIME,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
    XOR_PEER_ADDRESS,
)
from stun.errors import MessageParseError
from stun.message import decode_message, encode_message
from stun.registry import MessageClass, Method
from tests.support.relay_harness import RelayedClient, RelayHarness, peer
from tests.support.turn_client import indication, new_transaction_id

_PEERS: Final = tuple(
    peer(text, port)
    for text in ("8.8.8.8", "9.9.9.9", "10.0.0.1", "2606:4700::1111", "::ffff:10.0.0.1")
    for port in (4000, 4001)
)
_LIFETIMES: Final = (None, 0, 1, 600, 3600, 0xFFFFFFFF)
_ALLOCATIONS_PER_USER: Final = 2
_PORTS: Final = 4
_MAX_AMPLIFICATION: Final = 3
_MAX_STEPS: Final = 40


class _Script:
    """Reads choices; at the end of the input everything is zero."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_over(self) -> bool:
        return self._at >= len(self._data)

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def take(self, limit: int) -> bytes:
        """So many bytes as the next two say, at most `limit`."""
        size = (self.byte() << 8 | self.byte()) % (limit + 1)
        self._at += size
        return self._data[self._at - size : self._at]

    def peer(self) -> TransportAddress:
        return _PEERS[self.byte() % len(_PEERS)]


_Action = Callable[[RelayHarness, RelayedClient, _Script], None]


def run(data: bytes) -> None:
    """Play the script; the books balance after each step, and everything is given back at the end."""
    harness = RelayHarness(
        port_max=50_000 + _PORTS - 1,
        quota={
            "allocations_per_user": _ALLOCATIONS_PER_USER,
            "total_share_percent": 100,
            "permissions_per_allocation": 3,
            "channels_per_allocation": 2,
        },
    )
    clients = [harness.client("alice"), harness.client("alice", transport=Transport.TCP), harness.client("bob")]
    script = _Script(data)
    for _ in range(_MAX_STEPS):
        if script.is_over:
            break
        action = _ACTIONS[script.byte() % len(_ACTIONS)]
        action(harness, clients[script.byte() % len(clients)], script)
        _check(harness)
    harness.close()
    assert harness.plane.relays == {}
    assert harness.server.allocations == 0
    assert [pool.taken for pool in harness.ports.values()] == [0, 0]
    assert harness.server.poll_timeout() is None


def _check(harness: RelayHarness) -> None:
    relays = harness.plane.relays.values()
    assert harness.server.allocations == len(relays)
    assert sum(pool.taken for pool in harness.ports.values()) >= len(relays)
    assert len(relays) <= 2 * _ALLOCATIONS_PER_USER
    for relay in relays:
        assert all(harness.policy.verdict(ip) is None for ip in relay.peers)
        assert len(relay.peers) <= 3
        assert len(relay.channels) <= 2


def _raw(harness: RelayHarness, client: RelayedClient, script: _Script) -> None:
    """Any bytes from an address that has proved nothing."""
    data = script.take(600)
    answers = harness.receive(data, harness.client().path)
    assert sum(map(len, answers)) <= _MAX_AMPLIFICATION * len(data)
    _expect_an_answer_only_to_a_request(data, answers)
    _expect_an_answer_only_to_a_request(data, client.send(data))


def _signed(_harness: RelayHarness, client: RelayedClient, script: _Script) -> None:
    """A request of a user with any attributes at all."""
    if client.turn.nonce is None:
        return
    method, attributes = script.byte(), script.take(400)
    message = client.turn.build(method)
    credentials = message[20:-24]  # without MESSAGE-INTEGRITY, which covers the attributes, too
    transaction_id = client.turn.transaction_id
    padded = attributes + bytes(-len(attributes) % 4)
    data = encode_message(method, MessageClass.REQUEST, transaction_id, (padded, credentials), key=client.turn.key)
    _expect_an_answer_only_to_a_request(data, client.send(data))


def _broken(_harness: RelayHarness, client: RelayedClient, script: _Script) -> None:
    """A good request with one bit turned."""
    if client.turn.nonce is None:
        return
    to = script.peer()
    data = bytearray(client.turn.build(Method.CHANNEL_BIND, (CHANNEL_NUMBER, 0x4000), (XOR_PEER_ADDRESS, to)))
    data[script.byte() % len(data)] ^= 1 << script.byte() % 8
    _expect_an_answer_only_to_a_request(bytes(data), client.send(bytes(data)))


def _allocate(_harness: RelayHarness, client: RelayedClient, script: _Script) -> None:
    wishes = (
        (),
        ((REQUESTED_ADDRESS_FAMILY, 2),),
        ((EVEN_PORT, False),),
        ((EVEN_PORT, True),),
        ((RESERVATION_TOKEN, bytes(8)),),
        ((EVEN_PORT, True), (REQUESTED_ADDRESS_FAMILY, 2)),
    )
    response = client.allocate(*wishes[script.byte() % len(wishes)])
    if response.has(RESERVATION_TOKEN) and script.byte() % 2:
        other = client.harness.client(client.turn.username)
        other.allocate((RESERVATION_TOKEN, response.get(RESERVATION_TOKEN)))


def _refresh(_harness: RelayHarness, client: RelayedClient, script: _Script) -> None:
    lifetime = _LIFETIMES[script.byte() % len(_LIFETIMES)]
    had = client.has_relay
    response = client.refresh(lifetime)
    assert (response.code == 0) == had or response.code == 438
    if response.code == 0:
        assert (response.get(LIFETIME) == 0) == (lifetime == 0) == (not client.has_relay)


def _permit(_harness: RelayHarness, client: RelayedClient, script: _Script) -> None:
    client.permit(*(script.peer() for _ in range(script.byte() % 5)))


def _bind(_harness: RelayHarness, client: RelayedClient, script: _Script) -> None:
    client.bind(0x3FFF + script.byte() % 4, script.peer())


def _send(_harness: RelayHarness, client: RelayedClient, script: _Script) -> None:
    assert client.send(indication(Method.SEND, (XOR_PEER_ADDRESS, script.peer()), (DATA, script.take(20)))) == []


def _advance(harness: RelayHarness, _client: RelayedClient, script: _Script) -> None:
    harness.advance(script.byte() * 10.0)


def _jump(harness: RelayHarness, _client: RelayedClient, script: _Script) -> None:
    """The server is not woken in time: nothing that has expired may work."""
    harness.jump(script.byte() * 10.0)
    harness.advance(0.0)


def _disconnect(harness: RelayHarness, client: RelayedClient, _script: _Script) -> None:
    harness.disconnect(client.path)
    assert not client.has_relay


def _port_taken(harness: RelayHarness, _client: RelayedClient, script: _Script) -> None:
    """Another program takes a port, or gives it back."""
    harness.plane.taken_ports ^= {50_000 + script.byte() % _PORTS}


def _challenge(_harness: RelayHarness, client: RelayedClient, _script: _Script) -> None:
    (answer,) = client.send(
        encode_message(Method.ALLOCATE, MessageClass.REQUEST, new_transaction_id(), (REQUESTED_TRANSPORT.pack(17),))
    )
    if client.path.transport is Transport.UDP:  # over a connection the address is proved
        assert len(answer) <= _MAX_AMPLIFICATION * 28


def _expect_an_answer_only_to_a_request(data: bytes, answers: list[bytes]) -> None:
    try:
        message = decode_message(data)
    except MessageParseError:
        assert answers == []
        return
    assert len(answers) <= (message.message_class is MessageClass.REQUEST)
    for answer in answers:
        assert decode_message(answer).transaction_id == message.transaction_id


# New actions go to the end: the corpus knows them by their place.
_ACTIONS: Final[tuple[_Action, ...]] = (
    _raw,
    _signed,
    _broken,
    _allocate,
    _refresh,
    _permit,
    _bind,
    _send,
    _advance,
    _jump,
    _disconnect,
    _port_taken,
    _challenge,
)

if __name__ == "__main__":
    from tests.fuzz.targets.loop import fuzz

    fuzz("tests.fuzz.targets.turn_server")
