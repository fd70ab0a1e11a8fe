"""TCP allocations (RFC 6062) in the whole control plane, beside allocations of UDP."""

import pytest

from relay.five_tuple import Transport
from relay.tcp_allocation import Close, Dial, Pair
from stun.address import TransportAddress
from stun.attributes import (
    CONNECTION_ID,
    ERROR_CODE,
    REQUESTED_TRANSPORT,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
)
from stun.message import decode_message
from stun.registry import MessageClass, Method
from tests.support.relay_harness import RELAY_V4, RelayedClient, RelayHarness, peer
from tests.support.turn_client import Response

PEER = peer("8.8.8.8")


@pytest.fixture
def harness() -> RelayHarness:
    return RelayHarness(tcp_allocations=True)


@pytest.fixture
def alice(harness: RelayHarness) -> RelayedClient:
    """A client with a TCP allocation."""
    client = harness.client(transport=Transport.TCP)
    assert allocate_tcp(client).code == 0
    return client


def allocate_tcp(client: RelayedClient) -> Response:
    return client.ask(Method.ALLOCATE, (REQUESTED_TRANSPORT, 6))


def connect(client: RelayedClient, to: TransportAddress) -> list[bytes]:
    """Ask for a connection to a peer; the answer, if it comes at once."""
    return client.send(client.turn.build(Method.CONNECT, (XOR_PEER_ADDRESS, to)))


def code_of(answers: list[bytes]) -> int:
    (answer,) = answers
    error = decode_message(answer).get(ERROR_CODE)
    return 0 if error is None else error.code


def dialled(harness: RelayHarness) -> Dial:
    """The connection that the sockets were told to make."""
    (dial,) = [command for command in harness.commands if isinstance(command, Dial)]
    return dial


@pytest.mark.rfc(6062, "5.2")
def test_a_connect_is_answered_when_the_peer_has_accepted(harness: RelayHarness, alice: RelayedClient) -> None:
    assert connect(alice, PEER) == []
    assert harness.tcp is not None
    harness.tcp.dialled(dialled(harness).connection_id, harness.now)
    ((data, path),) = harness.drain_tcp()
    answer = decode_message(data)
    assert (answer.method, answer.message_class, path) == (Method.CONNECT, MessageClass.SUCCESS, alice.path)
    assert answer.get(CONNECTION_ID) == dialled(harness).connection_id


@pytest.mark.rfc(6062, "5.4")
def test_the_connection_of_another_client_of_this_user_becomes_the_pipe(
    harness: RelayHarness, alice: RelayedClient
) -> None:
    connect(alice, PEER)
    assert harness.tcp is not None
    number = dialled(harness).connection_id
    harness.tcp.dialled(number, harness.now)
    harness.drain_tcp()
    data, bob = harness.client(transport=Transport.TCP), harness.client("bob", transport=Transport.TCP)
    assert bob.ask(Method.CONNECTION_BIND, (CONNECTION_ID, number)).code == 441
    assert data.ask(Method.CONNECTION_BIND, (CONNECTION_ID, number)).code == 0
    assert harness.commands[-1] == Pair(number, data.path)


@pytest.mark.rfc(6062, "5.5")
def test_the_end_of_a_udp_allocation_ends_no_tcp_allocation_with_the_same_handle(
    harness: RelayHarness, alice: RelayedClient
) -> None:
    bob = harness.client("bob")
    assert bob.allocate().code == 0
    assert list(harness.plane.relays) == list(harness.tcp_plane.relays)  # each plane counts for itself
    connect(alice, PEER)
    assert bob.refresh(0).code == 0
    assert not [command for command in harness.commands if isinstance(command, Close)]
    assert connect(alice, peer("9.9.9.9")) == []


def test_a_connect_reaches_no_service_of_this_machine_on_a_relay_address(
    harness: RelayHarness, alice: RelayedClient
) -> None:
    bob = harness.client("bob", transport=Transport.TCP)
    relayed = allocate_tcp(bob).get(XOR_RELAYED_ADDRESS)
    for port in (22, 443, 3478, 49_999):
        assert code_of(connect(alice, TransportAddress(RELAY_V4, port))) == 403
    udp = harness.client().allocate().get(XOR_RELAYED_ADDRESS)
    assert code_of(connect(alice, udp)) == 403  # somebody else may listen there for TCP
    assert harness.commands == []
    assert connect(alice, relayed) == []  # two relayed clients meet
    assert dialled(harness).peer == relayed


def test_a_relay_address_named_exactly_is_open_to_connects() -> None:
    harness = RelayHarness(tcp_allocations=True, peers={"allow": ["198.41.0.4/32"]})
    client = harness.client(transport=Transport.TCP)
    assert allocate_tcp(client).code == 0
    assert connect(client, TransportAddress(RELAY_V4, 443)) == []
