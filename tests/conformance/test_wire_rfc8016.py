"""Mobility (RFC 8016) over real sockets: an allocation follows its client to another port, and to another transport."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from stun.attributes import LIFETIME, MOBILITY_TICKET, XOR_RELAYED_ADDRESS
from stun.registry import Method
from tests.support.turn_client import TurnClient
from tests.support.wire import TcpWire
from tests.support.wire_client import Peer, Server, WireClient

CHANNEL = 0x4000
TRANSPORTS = ["udp", "tcp", "tls", "dtls"]

Arrive = Callable[..., WireClient]
MakePeer = Callable[..., Peer]


@pytest.fixture
def arrive(wide_relay: Server) -> Iterator[Arrive]:
    """Opens connections: of a new user, or of a known one who comes from somewhere else."""
    opened: list[WireClient] = []

    def connect(transport: str = "udp", user: WireClient | None = None) -> WireClient:
        if user is None:
            client = wide_relay.client(transport)
        else:
            turn = TurnClient(user.turn.username, user.turn.password)
            client = wide_relay.client_of(turn, transport)
        opened.append(client)
        return client

    yield connect
    for client in opened:
        client.close()


def ticket_of(client: WireClient) -> bytes:
    """Allocate, and return the ticket."""
    response = client.allocate((MOBILITY_TICKET, b""))
    assert response.code == 0
    return response.get(MOBILITY_TICKET)


@pytest.mark.rfc(8016, "3.2.2")
@pytest.mark.parametrize("after", TRANSPORTS)
@pytest.mark.parametrize("before", TRANSPORTS)
def test_a_client_moves_and_its_channel_goes_on(arrive: Arrive, make_peer: MakePeer, before: str, after: str) -> None:
    old, peer = arrive(before), make_peer()
    allocated = old.allocate((MOBILITY_TICKET, b""))
    relayed, ticket = allocated.get(XOR_RELAYED_ADDRESS), allocated.get(MOBILITY_TICKET)
    assert old.bind(CHANNEL, peer.address).code == 0
    new = arrive(after, old)
    moved = new.refresh(None, (MOBILITY_TICKET, ticket))
    assert moved.code == 0
    assert moved.get(MOBILITY_TICKET) != ticket
    assert moved.get(LIFETIME) == 600
    new.send_through(CHANNEL, b"from elsewhere")
    assert peer.receive() == (b"from elsewhere", relayed)
    peer.send(b"to elsewhere", relayed)
    assert new.receive_channel_data() == (CHANNEL, b"to elsewhere")
    assert old.refresh().code == 437


@pytest.mark.rfc(8016, "3.2")
@pytest.mark.parametrize("transport", ["tcp", "tls"])
def test_a_mobile_allocation_outlives_its_connection(arrive: Arrive, make_peer: MakePeer, transport: str) -> None:
    old, peer = arrive(transport), make_peer()
    allocated = old.allocate((MOBILITY_TICKET, b""))
    assert old.permit(peer.address).code == 0
    assert isinstance(old.wire, TcpWire)
    old.wire.reset()
    new = arrive("udp", old)
    assert new.refresh(None, (MOBILITY_TICKET, allocated.get(MOBILITY_TICKET))).code == 0
    new.send_to(peer.address, b"still there")
    assert peer.receive() == (b"still there", allocated.get(XOR_RELAYED_ADDRESS))


@pytest.mark.rfc(8016, "3.2.2")
def test_the_lost_answer_to_a_move_is_asked_for_again_with_the_old_ticket(arrive: Arrive) -> None:
    old = arrive()
    ticket = ticket_of(old)
    new = arrive("udp", old)
    first = new.refresh(None, (MOBILITY_TICKET, ticket))
    again = new.exchange(
        new.turn.build(Method.REFRESH, (MOBILITY_TICKET, ticket), transaction_id=new.turn.transaction_id)
    )
    assert new.turn.read(again).get(MOBILITY_TICKET) == first.get(MOBILITY_TICKET)


@pytest.mark.rfc(8016, "3.2.2")
def test_a_ticket_that_was_used_up_is_a_400(arrive: Arrive) -> None:
    old = arrive()
    first = ticket_of(old)
    new = arrive("udp", old)
    second = new.refresh(None, (MOBILITY_TICKET, first)).get(MOBILITY_TICKET)
    assert new.refresh(None, (MOBILITY_TICKET, second)).code == 0
    assert arrive("udp", old).refresh(None, (MOBILITY_TICKET, first)).code == 400


@pytest.mark.rfc(8016, "3.2.2")
def test_the_ticket_of_another_user_is_a_441_and_moves_nothing(arrive: Arrive) -> None:
    alice = arrive()
    ticket = ticket_of(alice)
    assert arrive().refresh(None, (MOBILITY_TICKET, ticket)).code == 441
    assert alice.refresh().code == 0


@pytest.mark.rfc(8016, "3.2.2")
def test_a_made_up_ticket_is_a_400(arrive: Arrive) -> None:
    assert arrive().refresh(None, (MOBILITY_TICKET, bytes(24))).code == 400


@pytest.mark.rfc(8016, "3.2.2")
def test_a_five_tuple_with_an_allocation_takes_no_second_one(arrive: Arrive) -> None:
    one = arrive()
    other = arrive("udp", one)
    ticket = ticket_of(one)
    assert other.allocate().code == 0
    assert other.refresh(None, (MOBILITY_TICKET, ticket)).code == 400


@pytest.mark.rfc(8016, "3.1.2")
def test_an_allocate_with_a_ticket_in_it_is_a_400(arrive: Arrive) -> None:
    assert arrive().allocate((MOBILITY_TICKET, b"anything")).code == 400


@pytest.mark.rfc(8016, "3.1.2")
def test_who_does_not_ask_for_a_ticket_gets_none(arrive: Arrive) -> None:
    client = arrive()
    assert not client.allocate().has(MOBILITY_TICKET)
    assert not client.refresh().has(MOBILITY_TICKET)


@pytest.mark.rfc(8016, "3.4")
def test_where_mobility_is_off_asking_for_it_is_a_405_and_nothing_is_allocated(relay: Server) -> None:
    with contextlib.closing(relay.client()) as client:
        assert client.allocate((MOBILITY_TICKET, b"")).code == 405
        assert client.refresh().code == 437
        assert client.refresh(None, (MOBILITY_TICKET, bytes(24))).code == 405
        assert client.allocate().code == 0
