"""TURN (RFC 8656) over real sockets: the running relay, every transport, real peers."""

import time
from collections.abc import Callable

import pytest

from stun.address import IPV4, IPV6, TransportAddress
from stun.attributes import (
    CHANNEL_NUMBER,
    DATA,
    EVEN_PORT,
    LIFETIME,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
    SOFTWARE,
    XOR_MAPPED_ADDRESS,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
)
from stun.demux import encode_channel_data
from stun.registry import MessageClass, Method
from tests.conformance.conftest import Connect
from tests.support.turn_client import Field, TurnClient, indication
from tests.support.wire import PATIENCE
from tests.support.wire_client import Peer, WireClient

MakePeer = Callable[..., Peer]

LOOPBACK = TransportAddress.parse("127.0.0.1", 0).ip
DENIED = TransportAddress.parse("10.0.0.1", 4000)
UNREACHED = TransportAddress.parse("9.9.9.9", 4000)  # permitted by the policy, never sent to
UNREACHED_V6 = TransportAddress.parse("2620:fe::fe", 4000)
CHANNEL = 0x4000


@pytest.fixture
def client(connect: Connect) -> WireClient:
    """A client without an allocation."""
    return connect()


@pytest.fixture
def alice(connect: Connect) -> WireClient:
    """A client with an allocation."""
    client = connect()
    client.relayed()
    return client


@pytest.fixture
def peer(make_peer: MakePeer) -> Peer:
    return make_peer()


# Allocate


@pytest.mark.rfc(8656, "7.3")
def test_an_allocation_tells_relayed_address_mapped_address_and_lifetime(client: WireClient) -> None:
    response = client.allocate()
    relayed = response.get(XOR_RELAYED_ADDRESS)
    assert relayed.ip == LOOPBACK
    assert 49_152 <= relayed.port <= 65_535
    assert response.get(XOR_MAPPED_ADDRESS) == client.address
    assert response.get(LIFETIME) == 600
    assert not response.has(RESERVATION_TOKEN)
    assert response.message.integrity is not None


@pytest.mark.rfc(8656, "7.2")
@pytest.mark.parametrize(("wish", "granted"), [(1, 600), (600, 600), (1800, 1800), (3600, 3600), (0xFFFFFFFF, 3600)])
def test_a_wished_lifetime_is_held_between_default_and_maximum(client: WireClient, wish: int, granted: int) -> None:
    assert client.allocate((LIFETIME, wish)).get(LIFETIME) == granted


@pytest.mark.rfc(8656, "7.2")
def test_a_second_allocation_on_the_same_five_tuple_is_a_437(alice: WireClient) -> None:
    assert alice.allocate().code == 437


@pytest.mark.rfc(8656, "7.2")
def test_a_retransmitted_allocate_is_answered_with_the_same_relayed_address(client: WireClient) -> None:
    first = client.allocate()
    again = client.allocate(transaction_id=client.turn.transaction_id)
    assert again.code == 0
    assert again.get(XOR_RELAYED_ADDRESS) == first.get(XOR_RELAYED_ADDRESS)


@pytest.mark.rfc(8656, "7.2")
def test_an_allocation_without_requested_transport_is_a_400(client: WireClient) -> None:
    assert client.ask(Method.ALLOCATE).code == 400


@pytest.mark.rfc(8656, "7.2")
@pytest.mark.parametrize("protocol", [0, 18, 132, 255])
def test_a_transport_that_is_not_relayed_is_a_442(client: WireClient, protocol: int) -> None:
    assert client.ask(Method.ALLOCATE, (REQUESTED_TRANSPORT, protocol)).code == 442


@pytest.mark.rfc(8656, "7.2")
@pytest.mark.parametrize(("family", "size"), [(IPV4, 4), (IPV6, 16)], ids=["ipv4", "ipv6"])
def test_the_family_of_the_relayed_address_can_be_chosen(client: WireClient, family: int, size: int) -> None:
    assert len(client.relayed((REQUESTED_ADDRESS_FAMILY, family)).ip) == size


@pytest.mark.rfc(8656, "7.2")
def test_a_family_that_does_not_exist_is_a_440(client: WireClient) -> None:
    assert client.allocate((REQUESTED_ADDRESS_FAMILY, 3)).code == 440


@pytest.mark.rfc(8656, "7.2")
def test_an_even_port_is_even_and_reserves_nothing_without_the_r_bit(client: WireClient) -> None:
    response = client.allocate((EVEN_PORT, False))
    assert response.get(XOR_RELAYED_ADDRESS).port % 2 == 0
    assert not response.has(RESERVATION_TOKEN)


@pytest.mark.rfc(8656, "7.2")
def test_a_reservation_token_gets_the_next_port_once(connect: Connect) -> None:
    first = connect()
    response = first.allocate((EVEN_PORT, True))
    port, token = response.get(XOR_RELAYED_ADDRESS).port, response.get(RESERVATION_TOKEN)
    assert port % 2 == 0
    second, third = (connect(TurnClient(first.turn.username, first.turn.password)) for _ in range(2))
    assert second.relayed((RESERVATION_TOKEN, token)).port == port + 1
    assert third.allocate((RESERVATION_TOKEN, token)).code == 508


@pytest.mark.rfc(8656, "7.2")
def test_a_reservation_token_of_another_user_is_a_508(connect: Connect) -> None:
    token = connect().allocate((EVEN_PORT, True)).get(RESERVATION_TOKEN)
    assert connect().allocate((RESERVATION_TOKEN, token)).code == 508


@pytest.mark.rfc(8656, "7.2")
def test_an_unknown_reservation_token_is_a_508(client: WireClient) -> None:
    assert client.allocate((RESERVATION_TOKEN, b"nobody's")).code == 508


@pytest.mark.rfc(8656, "7.2")
@pytest.mark.parametrize(
    "wish",
    [pytest.param((EVEN_PORT, True), id="even-port"), pytest.param((REQUESTED_ADDRESS_FAMILY, IPV4), id="family")],
)
def test_a_reservation_token_with_another_wish_is_a_400(client: WireClient, wish: Field) -> None:
    assert client.allocate((RESERVATION_TOKEN, b"somebody"), wish).code == 400


@pytest.mark.rfc(8656, "7.2")
def test_the_twenty_fifth_allocation_of_a_user_is_a_486_until_one_ends(connect: Connect) -> None:
    first = connect()
    clients = [first, *(connect(TurnClient(first.turn.username, first.turn.password)) for _ in range(24))]
    assert [client.allocate().code for client in clients] == [0] * 24 + [486]
    assert first.refresh(0).code == 0
    assert clients[-1].allocate().code == 0


@pytest.mark.rfc(8656, "3.1")
def test_allocations_end_with_their_connection(connect_stream: Connect) -> None:
    first = connect_stream()
    turns = [TurnClient(first.turn.username, first.turn.password) for _ in range(24)]
    clients = [first, *(connect_stream(turn) for turn in turns[:-1])]
    assert [client.allocate().code for client in clients] == [0] * 24
    for client in clients:
        client.close()
    last = connect_stream(turns[-1])
    deadline = time.monotonic() + PATIENCE
    while (code := last.allocate().code) == 486:  # the server hears of the closed connections when it looks at them
        assert time.monotonic() < deadline
    assert code == 0


# Refresh


@pytest.mark.rfc(8656, "8.2")
@pytest.mark.parametrize(("wish", "granted"), [(None, 600), (1, 600), (1800, 1800), (99_999, 3600)])
def test_a_refresh_tells_the_lifetime_that_it_grants(alice: WireClient, wish: int | None, granted: int) -> None:
    assert alice.refresh(wish).get(LIFETIME) == granted


@pytest.mark.rfc(8656, "8.2")
def test_a_refresh_to_zero_ends_the_allocation(alice: WireClient) -> None:
    assert alice.refresh(0).get(LIFETIME) == 0
    assert alice.refresh().code == 437


@pytest.mark.rfc(8656, "8.2")
def test_after_a_refresh_to_zero_the_five_tuple_can_allocate_again(alice: WireClient) -> None:
    assert alice.refresh(0).code == 0
    assert alice.allocate().code == 0


@pytest.mark.rfc(8656, "8.2")
def test_a_refresh_of_another_family_is_a_443(alice: WireClient) -> None:
    assert alice.refresh(600, (REQUESTED_ADDRESS_FAMILY, IPV6)).code == 443
    assert alice.refresh(600, (REQUESTED_ADDRESS_FAMILY, IPV4)).code == 0


@pytest.mark.rfc(8656, "5")
@pytest.mark.parametrize(
    ("method", "fields"),
    [
        pytest.param(Method.REFRESH, (), id="refresh"),
        pytest.param(Method.CREATE_PERMISSION, ((XOR_PEER_ADDRESS, UNREACHED),), id="create-permission"),
        pytest.param(
            Method.CHANNEL_BIND, ((CHANNEL_NUMBER, CHANNEL), (XOR_PEER_ADDRESS, UNREACHED)), id="channel-bind"
        ),
    ],
)
def test_without_an_allocation_a_request_is_a_437(
    client: WireClient, method: Method, fields: tuple[Field, ...]
) -> None:
    assert client.ask(method, *fields).code == 437


@pytest.mark.rfc(8656, "5")
def test_another_user_on_the_five_tuple_gets_a_441(connect: Connect, alice: WireClient) -> None:
    mallory = WireClient(alice.wire, connect().turn)
    assert mallory.refresh(0).code == 441
    assert mallory.permit(UNREACHED).code == 441
    assert mallory.bind(CHANNEL, UNREACHED).code == 441
    assert alice.refresh().code == 0


# CreatePermission


@pytest.mark.rfc(8656, "10.2")
def test_a_permission_is_granted_to_every_peer_of_the_request(alice: WireClient, make_peer: MakePeer) -> None:
    first, second = make_peer("127.0.0.1"), make_peer("127.0.0.3")
    assert alice.permit(first.address, second.address).code == 0
    for each in (first, second):
        alice.send_to(each.address, b"hello")
        assert each.receive()[0] == b"hello"


@pytest.mark.rfc(8656, "10.2")
def test_a_permission_without_a_peer_is_a_400(alice: WireClient) -> None:
    assert alice.permit().code == 400


@pytest.mark.rfc(8656, "10.2")
@pytest.mark.parametrize("host", ["10.0.0.1", "127.0.0.2", "169.254.169.254", "192.168.1.1", "224.0.0.1", "240.0.0.1"])
def test_a_permission_for_a_denied_peer_is_a_403(alice: WireClient, host: str) -> None:
    assert alice.permit(TransportAddress.parse(host, 4000)).code == 403


@pytest.mark.rfc(8656, "10.2")
@pytest.mark.parametrize(
    "host", ["fd00::1", "fe80::1", "ff02::1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"]
)
def test_a_permission_for_a_denied_ipv6_peer_is_a_403(client: WireClient, host: str) -> None:
    client.relayed_ipv6()
    assert client.permit(TransportAddress.parse(host, 4000)).code == 403


@pytest.mark.rfc(8656, "10.2")
def test_one_denied_peer_among_several_installs_none(alice: WireClient, peer: Peer) -> None:
    assert alice.permit(peer.address, DENIED).code == 403
    alice.send_to(peer.address, b"not permitted")
    assert alice.hears_nothing_more()
    assert peer.has_heard_nothing()


@pytest.mark.rfc(8656, "10.2")
def test_a_permission_for_a_peer_of_the_other_family_is_a_443(alice: WireClient) -> None:
    assert alice.permit(UNREACHED_V6).code == 443
    assert alice.permit(UNREACHED, UNREACHED_V6).code == 443


@pytest.mark.rfc(8656, "10.2")
def test_more_permissions_than_an_allocation_may_have_are_a_508(alice: WireClient) -> None:
    peers = [TransportAddress.parse(f"9.9.9.{number}", 4000) for number in range(65)]
    assert alice.permit(*peers).code == 508
    assert alice.permit(*peers[1:]).code == 0


# ChannelBind


@pytest.mark.rfc(8656, "12.2")
@pytest.mark.parametrize(
    ("number", "code"), [(0x4000, 0), (0x4FFF, 0), (0x3FFF, 400), (0x0000, 400), (0x8000, 400), (0xFFFF, 400)], ids=hex
)
def test_a_channel_number_is_in_the_range(alice: WireClient, number: int, code: int) -> None:
    assert alice.bind(number, UNREACHED).code == code


@pytest.mark.rfc(8656, "12.2")
def test_binding_the_same_pair_again_succeeds(alice: WireClient) -> None:
    assert [alice.bind(CHANNEL, UNREACHED).code for _ in range(2)] == [0, 0]


@pytest.mark.rfc(8656, "12.2")
def test_a_channel_number_in_use_is_not_bound_to_another_peer(alice: WireClient) -> None:
    assert alice.bind(CHANNEL, UNREACHED).code == 0
    assert alice.bind(CHANNEL, UNREACHED._replace(port=4001)).code == 400


@pytest.mark.rfc(8656, "12.2")
def test_a_peer_with_a_channel_is_not_bound_to_another_number(alice: WireClient) -> None:
    assert alice.bind(CHANNEL, UNREACHED).code == 0
    assert alice.bind(CHANNEL + 1, UNREACHED).code == 400


@pytest.mark.rfc(8656, "12.2")
@pytest.mark.parametrize(
    "field",
    [
        pytest.param((CHANNEL_NUMBER, CHANNEL), id="no-peer"),
        pytest.param((XOR_PEER_ADDRESS, UNREACHED), id="no-number"),
    ],
)
def test_a_binding_needs_number_and_peer(alice: WireClient, field: Field) -> None:
    assert alice.ask(Method.CHANNEL_BIND, field).code == 400


@pytest.mark.rfc(8656, "12.2")
def test_a_channel_to_a_denied_peer_is_a_403(alice: WireClient) -> None:
    assert alice.bind(CHANNEL, DENIED).code == 403


@pytest.mark.rfc(8656, "12.2")
def test_a_channel_to_a_peer_of_the_other_family_is_a_443(alice: WireClient) -> None:
    assert alice.bind(CHANNEL, UNREACHED_V6).code == 443


@pytest.mark.rfc(8656, "12.2")
def test_more_channels_than_an_allocation_may_have_are_a_508(alice: WireClient) -> None:
    codes = [alice.bind(CHANNEL + number, UNREACHED._replace(port=4000 + number)).code for number in range(33)]
    assert codes == [0] * 32 + [508]


@pytest.mark.rfc(8656, "12.2")
def test_a_channel_installs_the_permission_of_its_peer(alice: WireClient, peer: Peer, make_peer: MakePeer) -> None:
    assert alice.bind(CHANNEL, peer.address).code == 0
    neighbour = make_peer()  # the same IP address: a permission is for all of its ports
    alice.send_to(neighbour.address, b"hello")
    assert neighbour.receive()[0] == b"hello"


# Data through channels


@pytest.mark.rfc(8656, "12.5")
@pytest.mark.parametrize("size", [0, 1, 3, 4, 160, 1100, 1400])
def test_channel_data_reaches_the_peer_from_the_relayed_address(connect: Connect, peer: Peer, size: int) -> None:
    client = connect()
    relayed = client.relayed()
    assert client.bind(CHANNEL, peer.address).code == 0
    client.send_through(CHANNEL, bytes(size))
    assert peer.receive() == (bytes(size), relayed)


@pytest.mark.rfc(8656, "12.6")
@pytest.mark.parametrize("size", [0, 1, 3, 4, 160, 1100, 1400])
def test_data_of_a_peer_with_a_channel_arrives_as_channel_data(connect: Connect, peer: Peer, size: int) -> None:
    client = connect()
    relayed = client.relayed()
    assert client.bind(CHANNEL, peer.address).code == 0
    peer.send(bytes(size), relayed)
    assert client.receive_channel_data() == (CHANNEL, bytes(size))


@pytest.mark.rfc(8656, "12.5")
def test_channel_data_on_an_unbound_channel_is_dropped(alice: WireClient, peer: Peer) -> None:
    assert alice.bind(CHANNEL, peer.address).code == 0
    alice.send_through(CHANNEL + 1, b"nowhere")
    alice.send_through(CHANNEL, b"somewhere")
    assert peer.receive()[0] == b"somewhere"
    assert alice.hears_nothing_more()


@pytest.mark.rfc(8656, "12.5")
def test_padded_channel_data_in_a_datagram_is_relayed_without_its_padding(
    connect_datagram: Connect, peer: Peer
) -> None:
    client = connect_datagram()
    client.relayed()
    assert client.bind(CHANNEL, peer.address).code == 0
    client.wire.send(encode_channel_data(CHANNEL, b"hello") + bytes(3))
    assert peer.receive()[0] == b"hello"


@pytest.mark.rfc(8656, "12.5")
def test_channel_data_shorter_than_it_claims_is_dropped(connect_datagram: Connect, peer: Peer) -> None:
    client = connect_datagram()
    client.relayed()
    assert client.bind(CHANNEL, peer.address).code == 0
    client.wire.send(encode_channel_data(CHANNEL, b"hello")[:-1])
    assert client.hears_nothing_more()
    assert peer.has_heard_nothing()


@pytest.mark.rfc(8656, "12.5")
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_channel_data_over_a_stream_is_padded_to_four_bytes(connect_stream: Connect, peer: Peer, size: int) -> None:
    client = connect_stream()
    relayed = client.relayed()
    assert client.bind(CHANNEL, peer.address).code == 0
    peer.send(b"x" * size, relayed)
    peer.send(b"next", relayed)
    frame = client.receive()
    assert len(frame) % 4 == 0
    assert frame[: 4 + size] == encode_channel_data(CHANNEL, b"x" * size)
    assert client.receive_channel_data() == (CHANNEL, b"next")  # so the padding was not missing


@pytest.mark.rfc(8656, "12.5")
def test_channel_data_and_requests_in_one_segment_are_told_apart(connect_stream: Connect, peer: Peer) -> None:
    client = connect_stream()
    client.relayed()
    assert client.bind(CHANNEL, peer.address).code == 0
    frame, binding = encode_channel_data(CHANNEL, b"hello") + bytes(3), client.binding()
    client.wire.send(frame + binding + frame)
    assert client.receive()[8:20] == binding[8:20]
    assert [peer.receive()[0] for _ in range(2)] == [b"hello"] * 2


@pytest.mark.rfc(8656, "12.5")
def test_channel_data_in_many_segments_is_relayed_once_it_is_whole(connect_stream: Connect, peer: Peer) -> None:
    client = connect_stream()
    client.relayed()
    assert client.bind(CHANNEL, peer.address).code == 0
    frame = encode_channel_data(CHANNEL, b"in pieces") + bytes(3)
    for at in range(len(frame)):
        client.wire.send(frame[at : at + 1])
    assert peer.receive()[0] == b"in pieces"


# Data in indications


@pytest.mark.rfc(8656, "11.2")
@pytest.mark.parametrize("size", [0, 1, 3, 4, 160, 1100, 1400])
def test_a_send_indication_reaches_a_permitted_peer(connect: Connect, peer: Peer, size: int) -> None:
    client = connect()
    relayed = client.relayed()
    assert client.permit(peer.address).code == 0
    client.send_to(peer.address, bytes(size))
    assert peer.receive() == (bytes(size), relayed)


@pytest.mark.rfc(8656, "11.3")
@pytest.mark.parametrize("size", [0, 1, 3, 4, 160, 1100, 1400])
def test_data_of_a_permitted_peer_arrives_as_an_indication(connect: Connect, peer: Peer, size: int) -> None:
    client = connect()
    relayed = client.relayed()
    assert client.permit(peer.address).code == 0
    peer.send(bytes(size), relayed)
    message = client.receive_indication()
    assert (message.method, message.message_class) == (Method.DATA, MessageClass.INDICATION)
    assert message.get(XOR_PEER_ADDRESS) == peer.address
    assert message.get(DATA) == bytes(size)


@pytest.mark.rfc(8656, "11.2")
def test_a_send_indication_without_a_permission_is_dropped_in_silence(alice: WireClient, peer: Peer) -> None:
    alice.send_to(peer.address, b"not permitted")
    assert alice.hears_nothing_more()
    assert peer.has_heard_nothing()


@pytest.mark.rfc(8656, "11.2")
@pytest.mark.parametrize("missing", [XOR_PEER_ADDRESS, DATA], ids=lambda attribute: attribute.name)
def test_a_send_indication_with_an_attribute_missing_is_dropped(alice: WireClient, peer: Peer, missing: object) -> None:
    assert alice.permit(peer.address).code == 0
    fields: list[Field] = [(XOR_PEER_ADDRESS, peer.address), (DATA, b"incomplete")]
    alice.wire.send(indication(Method.SEND, *(field for field in fields if field[0] is not missing)))
    assert alice.hears_nothing_more()
    assert peer.has_heard_nothing()


@pytest.mark.rfc(8656, "11.2")
@pytest.mark.parametrize("is_permitted", [False, True], ids=["without-permission", "with-permission"])
def test_a_send_indication_in_another_order_is_held_to_the_same_permissions(
    alice: WireClient, peer: Peer, *, is_permitted: bool
) -> None:
    if is_permitted:
        assert alice.permit(peer.address).code == 0
    fields: list[Field] = [(SOFTWARE, "test"), (DATA, b"data first"), (XOR_PEER_ADDRESS, peer.address)]
    alice.wire.send(indication(Method.SEND, *fields))
    assert alice.hears_nothing_more()
    assert peer.has_heard_nothing() is not is_permitted


@pytest.mark.rfc(8656, "11.2")
def test_a_send_indication_without_allocation_is_dropped_in_silence(client: WireClient, peer: Peer) -> None:
    client.send_to(peer.address, b"nobody's")
    assert client.hears_nothing_more()
    assert peer.has_heard_nothing()


@pytest.mark.rfc(8656, "9")
def test_a_peer_without_permission_is_not_heard(connect: Connect, peer: Peer, make_peer: MakePeer) -> None:
    client, stranger = connect(), make_peer("127.0.0.3")
    relayed = client.relayed()
    assert client.permit(peer.address).code == 0
    stranger.send(b"let me in", relayed)
    peer.send(b"hello", relayed)
    assert client.receive_indication().get(DATA) == b"hello"
    assert client.hears_nothing_more()


@pytest.mark.rfc(8656, "8.2")
def test_nothing_is_relayed_after_a_refresh_to_zero(alice: WireClient, peer: Peer) -> None:
    assert alice.bind(CHANNEL, peer.address).code == 0
    assert alice.refresh(0).code == 0
    alice.send_through(CHANNEL, b"too late")
    alice.send_to(peer.address, b"too late")
    assert alice.hears_nothing_more()
    assert peer.has_heard_nothing()


# IPv6, and two clients of the same relay


@pytest.mark.rfc(8656, "12")
def test_an_ipv6_peer_is_reached_through_a_channel_and_answers(client: WireClient, make_peer: MakePeer) -> None:
    peer, relayed = make_peer("::1"), client.relayed_ipv6()
    assert client.bind(CHANNEL, peer.address).code == 0
    client.send_through(CHANNEL, b"over IPv6")
    assert peer.receive() == (b"over IPv6", relayed)
    peer.send(b"and back", relayed)
    assert client.receive_channel_data() == (CHANNEL, b"and back")


@pytest.mark.rfc(8656, "11")
def test_an_ipv6_peer_is_reached_by_indications_and_answers(client: WireClient, make_peer: MakePeer) -> None:
    peer, relayed = make_peer("::1"), client.relayed_ipv6()
    assert client.permit(peer.address).code == 0
    client.send_to(peer.address, b"over IPv6")
    assert peer.receive() == (b"over IPv6", relayed)
    peer.send(b"and back", relayed)
    message = client.receive_indication()
    assert (message.get(XOR_PEER_ADDRESS), message.get(DATA)) == (peer.address, b"and back")


@pytest.mark.rfc(8656, "12")
@pytest.mark.parametrize("number", [0x5000, 0x7FFE], ids=hex)
def test_channels_of_rfc_5766_carry_data_for_deployed_clients(connect: Connect, peer: Peer, number: int) -> None:
    client = connect()
    relayed = client.relayed()
    assert client.bind(number, peer.address).code == 0
    client.send_through(number, b"hello")
    assert peer.receive()[0] == b"hello"
    peer.send(b"and back", relayed)
    assert client.receive_channel_data() == (number, b"and back")


@pytest.mark.rfc(8656, "3")
def test_two_relayed_clients_meet_on_the_relay(connect: Connect) -> None:
    alice, bob = connect(), connect()
    relayed_to_alice, relayed_to_bob = alice.relayed(), bob.relayed()
    assert alice.bind(CHANNEL, relayed_to_bob).code == bob.bind(CHANNEL + 1, relayed_to_alice).code == 0
    alice.send_through(CHANNEL, b"hello, bob")
    assert bob.receive_channel_data() == (CHANNEL + 1, b"hello, bob")
    bob.send_through(CHANNEL + 1, b"hello, alice")
    assert alice.receive_channel_data() == (CHANNEL, b"hello, alice")


@pytest.mark.rfc(8656, "12.5")
def test_two_channels_of_an_allocation_keep_their_peers_apart(alice: WireClient, make_peer: MakePeer) -> None:
    first, second = make_peer(), make_peer()
    assert alice.bind(CHANNEL, first.address).code == alice.bind(CHANNEL + 1, second.address).code == 0
    alice.send_through(CHANNEL, b"to the first")
    alice.send_through(CHANNEL + 1, b"to the second")
    assert (first.receive()[0], second.receive()[0]) == (b"to the first", b"to the second")
