"""Mobile allocations (RFC 8016) in the whole control plane."""

import pytest

from relay.five_tuple import Transport
from stun.address import IPV4, IPV6
from stun.attributes import (
    ADDITIONAL_ADDRESS_FAMILY,
    CHANNEL_NUMBER,
    DATA,
    LIFETIME,
    MOBILITY_TICKET,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    XOR_PEER_ADDRESS,
    Attribute,
)
from stun.registry import Method
from tests.support.relay_harness import RelayedClient, RelayHarness, peer
from tests.support.turn_client import TurnClient, indication

PEER = peer("8.8.8.8")
WISH = (MOBILITY_TICKET, b"")
SHORT_LIFETIME = Attribute(LIFETIME.type, "LIFETIME", lambda value, _: value, lambda value, _: value)


@pytest.fixture
def harness() -> RelayHarness:
    return RelayHarness(mobility=True)


def reconnected(client: RelayedClient, username: str = "alice", password: str = "wonderland") -> RelayedClient:
    """Another client on the same five-tuple, as a NAT gives it to whoever comes next."""
    client.harness.disconnect(client.path)
    return RelayedClient(client.harness, client.path, TurnClient(username, password))


@pytest.mark.rfc(8016, "3.2.1")
def test_a_refresh_that_is_refused_moves_nothing(harness: RelayHarness) -> None:
    client, elsewhere = harness.client(), harness.client()
    ticket = client.allocate(WISH).get(MOBILITY_TICKET)
    assert elsewhere.refresh(None, (MOBILITY_TICKET, ticket), (REQUESTED_ADDRESS_FAMILY, IPV6)).code == 443
    assert elsewhere.refresh(None, (MOBILITY_TICKET, ticket), (SHORT_LIFETIME, b"\0")).code == 400
    assert (len(client.relays), len(elsewhere.relays)) == (1, 0)
    assert elsewhere.refresh(None, (MOBILITY_TICKET, ticket)).code == 0
    assert (len(client.relays), len(elsewhere.relays)) == (0, 1)


@pytest.mark.rfc(8016, "3.2.1")
def test_a_mobile_allocation_outlives_its_connection(harness: RelayHarness) -> None:
    client = harness.client(transport=Transport.TCP)
    ticket = client.allocate(WISH).get(MOBILITY_TICKET)
    client.permit(PEER)
    harness.disconnect(client.path)
    elsewhere = harness.client()
    assert elsewhere.refresh(None, (MOBILITY_TICKET, ticket)).code == 0
    assert elsewhere.permitted.keys() == {PEER.ip}


def test_whoever_connects_next_from_there_does_not_speak_for_the_client_that_left(harness: RelayHarness) -> None:
    client = harness.client(transport=Transport.TCP)
    client.allocate(WISH)
    client.permit(PEER)
    stranger = reconnected(client, "bob", "builder")
    stranger.send(indication(Method.SEND, (XOR_PEER_ADDRESS, PEER), (DATA, b"in another's name")))
    assert harness.plane.sent == []


def test_whoever_connects_next_from_there_gets_an_allocation_of_its_own(harness: RelayHarness) -> None:
    client = harness.client(transport=Transport.TCP)
    ticket = client.allocate(WISH).get(MOBILITY_TICKET)
    client.permit(PEER)
    stranger = reconnected(client, "bob", "builder")
    assert stranger.refresh().code == 437
    assert stranger.allocate().code == 0
    assert stranger.permitted == {}
    assert (harness.held("alice"), harness.held("bob")) == (0, 1)
    assert harness.client().refresh(None, (MOBILITY_TICKET, ticket)).code == 400


def test_a_client_that_returns_to_its_five_tuple_needs_its_ticket(harness: RelayHarness) -> None:
    client = harness.client(transport=Transport.TCP)
    ticket = client.allocate(WISH).get(MOBILITY_TICKET)
    again = reconnected(client)
    assert again.refresh().code == 437  # the forwarding plane still has the old connection
    assert again.refresh(None, (MOBILITY_TICKET, ticket)).code == 0
    assert harness.plane.moves == [client.path]
    assert again.refresh().code == 0
    harness.disconnect(again.path)
    harness.advance(700)
    assert harness.server.allocations == harness.held("alice") == len(harness.mobility or ()) == 0


def test_a_five_tuple_whose_allocation_has_expired_takes_a_mobile_one(harness: RelayHarness) -> None:
    client, elsewhere = harness.client(), harness.client()
    assert elsewhere.allocate().code == 0
    harness.jump(1.0)
    ticket = client.allocate(WISH).get(MOBILITY_TICKET)
    assert elsewhere.refresh(None, (MOBILITY_TICKET, ticket)).code == 400
    harness.jump(599.5)  # the shell is late
    assert elsewhere.refresh(None, (MOBILITY_TICKET, ticket)).code == 0
    assert harness.server.allocations == 1


@pytest.mark.rfc(8016, "3.2.1")
def test_a_dual_allocation_moves_whole(harness: RelayHarness) -> None:
    client, elsewhere = harness.client(), harness.client(transport=Transport.TLS)
    ticket = client.allocate(WISH, (ADDITIONAL_ADDRESS_FAMILY, IPV6)).get(MOBILITY_TICKET)
    response = elsewhere.refresh(None, (MOBILITY_TICKET, ticket), (REQUESTED_ADDRESS_FAMILY, IPV4), (LIFETIME, 900))
    assert response.code == 0
    assert len(elsewhere.relays) == 2
    assert client.relays == []


@pytest.mark.rfc(6062, "4")
def test_a_tcp_allocation_does_not_move_to_a_client_without_a_stream() -> None:
    harness = RelayHarness(tcp_allocations=True, mobility=True)
    client = harness.client(transport=Transport.TCP)
    ticket = client.ask(Method.ALLOCATE, (REQUESTED_TRANSPORT, 6), (MOBILITY_TICKET, b"")).get(MOBILITY_TICKET)
    elsewhere = harness.client(transport=Transport.UDP)
    assert elsewhere.refresh(None, (MOBILITY_TICKET, ticket)).code == 400
    assert client.refresh().code == 0
    other_stream = harness.client(transport=Transport.TLS)
    assert other_stream.refresh(None, (MOBILITY_TICKET, ticket)).code == 0
    assert other_stream.ask(Method.CHANNEL_BIND, (CHANNEL_NUMBER, 0x4000), (XOR_PEER_ADDRESS, PEER)).code == 400
    assert other_stream.ask(Method.REFRESH, (LIFETIME, 0)).code == 0
