"""The TURN server (RFC 8656) held to its sections, without I/O: simulated time, a recording forwarding plane."""

from collections.abc import Callable

import pytest

from relay.datapath import Traffic
from relay.events import (
    AllocationCreated,
    AllocationDeleted,
    Ending,
    MessageDropped,
    RequestAnswered,
    RequestRefused,
)
from relay.five_tuple import Transport
from stun.address import IPV4, IPV6, TransportAddress
from stun.attributes import (
    CHANNEL_NUMBER,
    DATA,
    EVEN_PORT,
    LIFETIME,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
    XOR_MAPPED_ADDRESS,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
    Attribute,
)
from stun.credentials import issue_credential
from stun.registry import ErrorCode, Method
from tests.support.relay_harness import RELAY_V4, RELAY_V6, SECRET, RelayedClient, RelayHarness, peer
from tests.support.turn_client import indication, new_transaction_id

PEER = peer("8.8.8.8")
OTHER_PEER = peer("9.9.9.9")
PEER_V6 = peer("2606:4700::1111")


@pytest.fixture
def harness() -> RelayHarness:
    return RelayHarness()


@pytest.fixture
def alice(harness: RelayHarness) -> RelayedClient:
    """A client with an allocation."""
    client = harness.client()
    assert client.allocate().code == 0
    return client


@pytest.fixture
def alice_v6(harness: RelayHarness) -> RelayedClient:
    """A client with an IPv6 allocation."""
    client = harness.client()
    assert client.allocate_v6().code == 0
    return client


# Allocate


@pytest.mark.rfc(8656, "7.3")
def test_an_allocation_tells_relayed_address_mapped_address_and_lifetime(harness: RelayHarness) -> None:
    client = harness.client()
    response = client.allocate()
    relayed = response.get(XOR_RELAYED_ADDRESS)
    assert relayed.ip == RELAY_V4
    assert 50_000 <= relayed.port <= 50_099
    assert response.get(XOR_MAPPED_ADDRESS) == client.path.client
    assert response.get(LIFETIME) == 600
    assert not response.has(RESERVATION_TOKEN)
    assert (client.relay.address.bound, client.relay.port) == relayed
    assert client.relay.expires_at == harness.now + 600
    assert harness.server.allocations == 1
    assert harness.events[-2:] == [
        AllocationCreated(Transport.UDP, (IPV4,), ""),
        RequestAnswered(Method.ALLOCATE, Transport.UDP),
    ]


@pytest.mark.rfc(8656, "7.2")
@pytest.mark.parametrize(
    ("wish", "granted"), [(0, 600), (1, 600), (599, 600), (601, 601), (3600, 3600), (3601, 3600), (0xFFFFFFFF, 3600)]
)
def test_a_wished_lifetime_is_held_between_default_and_maximum(harness: RelayHarness, wish: int, granted: int) -> None:
    client = harness.client()
    assert client.allocate((LIFETIME, wish)).get(LIFETIME) == granted
    assert client.relay.expires_at == harness.now + granted


@pytest.mark.rfc(8656, "7.2")
def test_a_second_allocation_on_the_same_five_tuple_is_a_mismatch(harness: RelayHarness, alice: RelayedClient) -> None:
    assert alice.allocate().code == 437
    assert harness.server.allocations == 1


@pytest.mark.rfc(8656, "7.2")
def test_even_another_user_gets_a_mismatch_on_a_five_tuple_in_use(harness: RelayHarness, alice: RelayedClient) -> None:
    bob = harness.client("bob")
    bob.path = alice.path
    assert bob.allocate(transaction_id=alice.turn.transaction_id).code == 437


@pytest.mark.rfc(8656, "7.2")
def test_the_same_five_tuple_over_another_transport_is_another_one(harness: RelayHarness) -> None:
    first, second = harness.client(), harness.client(transport=Transport.TCP)
    second.path = second.path._replace(client=first.path.client)
    assert first.allocate().code == second.allocate().code == 0
    assert harness.server.allocations == 2


@pytest.mark.rfc(8656, "7.2")
def test_a_retransmitted_allocate_is_answered_alike(harness: RelayHarness) -> None:
    client = harness.client()
    first = client.allocate((EVEN_PORT, True))
    harness.advance(0.4)
    again = client.allocate((EVEN_PORT, True), transaction_id=client.turn.transaction_id)
    assert again.raw == first.raw
    assert harness.server.allocations == 1
    assert harness.ports[IPV4].taken == 2


@pytest.mark.rfc(8489, "6.3.1")
def test_a_retransmitted_allocate_is_refused_alike_though_there_is_room_now() -> None:
    harness = RelayHarness(port_min=50_000, port_max=50_001, quota={"total_share_percent": 50})
    first, second = harness.client("alice"), harness.client("bob")
    assert first.allocate().code == 0
    refused = second.allocate()
    assert refused.code == 508
    first.refresh(0)
    harness.advance(0.4)
    again = second.allocate(transaction_id=second.turn.transaction_id)
    assert again.raw == refused.raw
    assert harness.server.allocations == 0


@pytest.mark.rfc(8656, "7.2")
def test_an_allocation_without_requested_transport_is_a_bad_request(harness: RelayHarness) -> None:
    client = harness.client()
    client.allocate()
    client.refresh(0)
    assert client.ask(Method.ALLOCATE).code == 400
    assert not client.has_relay


@pytest.mark.rfc(8656, "7.2")
@pytest.mark.parametrize("protocol", [0, 6, 16, 18, 132, 255])
def test_only_udp_is_relayed(harness: RelayHarness, protocol: int) -> None:
    assert harness.client().ask(Method.ALLOCATE, (REQUESTED_TRANSPORT, protocol)).code == 442


@pytest.mark.rfc(8656, "7.2")
@pytest.mark.parametrize(("family", "ip"), [(IPV4, RELAY_V4), (IPV6, RELAY_V6)])
def test_a_family_can_be_chosen(harness: RelayHarness, family: int, ip: bytes) -> None:
    assert harness.client().allocate((REQUESTED_ADDRESS_FAMILY, family)).get(XOR_RELAYED_ADDRESS).ip == ip


@pytest.mark.rfc(8656, "7.2")
@pytest.mark.parametrize("family", [0, IPV6, 3, 255])
def test_a_family_without_relay_address_is_not_supported(family: int) -> None:
    harness = RelayHarness(families=1)
    assert harness.client().allocate((REQUESTED_ADDRESS_FAMILY, family)).code == 440
    assert harness.held("alice") == 0


@pytest.mark.rfc(8656, "7.2")
def test_a_port_held_by_another_program_is_passed_over(harness: RelayHarness) -> None:
    harness.plane.taken_ports = set(range(50_000, 50_099, 3))
    ports = {harness.client().allocate().get(XOR_RELAYED_ADDRESS).port for _ in range(20)}
    assert len(ports) == 20
    assert not ports & harness.plane.taken_ports
    assert harness.ports[IPV4].taken == 20


@pytest.mark.rfc(8656, "7.2")
@pytest.mark.parametrize("out_of_descriptors", [False, True])
def test_a_system_without_ports_or_sockets_is_short_of_capacity(
    harness: RelayHarness, *, out_of_descriptors: bool
) -> None:
    harness.plane.every_port_taken = not out_of_descriptors
    harness.plane.failure = OSError(24, "Too many open files") if out_of_descriptors else None
    assert harness.client().allocate().code == 508
    assert harness.client().allocate((EVEN_PORT, True)).code == 508
    assert harness.ports[IPV4].taken == 0
    assert harness.held("alice") == 0


@pytest.mark.rfc(8656, "7.2")
def test_a_user_holds_no_more_allocations_than_the_quota(harness: RelayHarness) -> None:
    harness = RelayHarness(quota={"allocations_per_user": 2})
    clients = [harness.client() for _ in range(3)]
    assert [client.allocate().code for client in clients] == [0, 0, 486]
    assert harness.client("bob").allocate().code == 0
    clients[0].refresh(0)
    assert clients[2].allocate().code == 0


@pytest.mark.rfc(8656, "7.2")
def test_no_more_ports_are_allocated_than_the_share_allows() -> None:
    harness = RelayHarness(port_min=50_000, port_max=50_009, quota={"total_share_percent": 50})
    clients = [harness.client() for _ in range(6)]
    assert [client.allocate().code for client in clients] == [0] * 5 + [508]
    clients[0].refresh(0)
    assert clients[5].allocate().code == 0


# EVEN-PORT and RESERVATION-TOKEN


@pytest.mark.rfc(8656, "7.2")
def test_an_even_port_is_even_and_reserves_nothing_without_the_r_bit(harness: RelayHarness) -> None:
    for count in range(1, 21):
        response = harness.client().allocate((EVEN_PORT, False))
        assert response.get(XOR_RELAYED_ADDRESS).port % 2 == 0
        assert not response.has(RESERVATION_TOKEN)
        assert harness.ports[IPV4].taken == count


@pytest.mark.rfc(8656, "7.2")
def test_a_reservation_token_is_redeemed_for_the_next_port(harness: RelayHarness) -> None:
    first = harness.client().allocate((EVEN_PORT, True))
    port = first.get(XOR_RELAYED_ADDRESS).port
    assert port % 2 == 0
    assert len(first.get(RESERVATION_TOKEN)) == 8
    assert harness.ports[IPV4].taken == 2
    second = harness.client().allocate((RESERVATION_TOKEN, first.get(RESERVATION_TOKEN)))
    assert second.get(XOR_RELAYED_ADDRESS).port == port + 1
    assert not second.has(RESERVATION_TOKEN)
    assert harness.ports[IPV4].taken == 2


@pytest.mark.rfc(8656, "7.2")
def test_a_reservation_token_works_once(harness: RelayHarness) -> None:
    token = harness.client().allocate((EVEN_PORT, True)).get(RESERVATION_TOKEN)
    assert harness.client().allocate((RESERVATION_TOKEN, token)).code == 0
    assert harness.client().allocate((RESERVATION_TOKEN, token)).code == 508


@pytest.mark.rfc(8656, "7.2")
@pytest.mark.parametrize(("seconds", "code"), [(29.5, 0), (30.0, 508), (31.0, 508)])
@pytest.mark.parametrize("woken", [False, True])
def test_a_reservation_lives_for_thirty_seconds(
    harness: RelayHarness, seconds: float, code: int, *, woken: bool
) -> None:
    token = harness.client().allocate((EVEN_PORT, True)).get(RESERVATION_TOKEN)
    (harness.advance if woken else harness.jump)(seconds)
    assert harness.client().allocate((RESERVATION_TOKEN, token)).code == code


@pytest.mark.rfc(8656, "7.2")
def test_a_reserved_port_that_nobody_asked_for_is_free_again(harness: RelayHarness) -> None:
    client = harness.client()
    client.allocate((EVEN_PORT, True))
    client.refresh(0)
    assert harness.ports[IPV4].taken == 1  # the reservation outlives the allocation
    harness.advance(30)
    assert harness.ports[IPV4].taken == 0
    assert len(harness.reservations) == 0


@pytest.mark.rfc(8656, "7.2")
def test_a_reservation_token_of_another_user_is_refused_and_kept(harness: RelayHarness) -> None:
    token = harness.client().allocate((EVEN_PORT, True)).get(RESERVATION_TOKEN)
    assert harness.client("bob").allocate((RESERVATION_TOKEN, token)).code == 508
    assert harness.client("alice").allocate((RESERVATION_TOKEN, token)).code == 0


@pytest.mark.rfc(8656, "7.2")
def test_an_unknown_reservation_token_is_refused(harness: RelayHarness) -> None:
    assert harness.client().allocate((RESERVATION_TOKEN, bytes(8))).code == 508


@pytest.mark.rfc(8656, "7.2")
@pytest.mark.parametrize(
    "contradiction", [(EVEN_PORT, True), (EVEN_PORT, False), (REQUESTED_ADDRESS_FAMILY, IPV4)], ids=str
)
def test_a_reservation_token_with_another_wish_is_a_bad_request(
    harness: RelayHarness, contradiction: tuple[Attribute[object], object]
) -> None:
    token = harness.client().allocate((EVEN_PORT, True)).get(RESERVATION_TOKEN)
    assert harness.client().allocate((RESERVATION_TOKEN, token), contradiction).code == 400
    assert harness.client().allocate((RESERVATION_TOKEN, token)).code == 0


@pytest.mark.rfc(8656, "7.2")
def test_a_reserved_port_lost_to_another_program_is_not_leaked(harness: RelayHarness) -> None:
    first = harness.client().allocate((EVEN_PORT, True))
    harness.plane.taken_ports = {first.get(XOR_RELAYED_ADDRESS).port + 1}
    assert harness.client().allocate((RESERVATION_TOKEN, first.get(RESERVATION_TOKEN))).code == 508
    assert harness.ports[IPV4].taken == 1
    assert harness.held("alice") == 1


@pytest.mark.rfc(8656, "7.2")
def test_a_pair_of_ipv6_ports_can_be_had(harness: RelayHarness) -> None:
    first = harness.client().allocate((EVEN_PORT, True), (REQUESTED_ADDRESS_FAMILY, IPV6))
    second = harness.client().allocate((RESERVATION_TOKEN, first.get(RESERVATION_TOKEN)))
    assert second.get(XOR_RELAYED_ADDRESS) == TransportAddress(RELAY_V6, first.get(XOR_RELAYED_ADDRESS).port + 1)


# Refresh


@pytest.mark.rfc(8656, "8.2")
@pytest.mark.parametrize(("wish", "granted"), [(None, 600), (1, 600), (1200, 1200), (3600, 3600), (0xFFFFFFFF, 3600)])
def test_a_refresh_moves_the_expiry(
    harness: RelayHarness, alice: RelayedClient, wish: int | None, granted: int
) -> None:
    harness.advance(500)
    assert alice.refresh(wish).get(LIFETIME) == granted
    assert alice.relay.expires_at == harness.now + granted
    harness.advance(granted - 1)
    assert alice.has_relay
    harness.advance(1)
    assert harness.plane.relays == {}


@pytest.mark.rfc(8656, "8.2")
def test_a_refresh_may_bring_the_expiry_forward(harness: RelayHarness) -> None:
    client = harness.client()
    client.allocate((LIFETIME, 3600))
    assert client.refresh(600).get(LIFETIME) == 600
    harness.advance(600)
    assert not client.has_relay


@pytest.mark.rfc(8656, "8.2")
def test_a_refresh_to_zero_deletes_the_allocation_at_once(harness: RelayHarness, alice: RelayedClient) -> None:
    alice.relay.traffic = Traffic(1, 2, 3, 4)
    harness.advance(10)
    assert alice.refresh(0).get(LIFETIME) == 0
    assert not alice.has_relay
    assert harness.server.allocations == 0
    ended = AllocationDeleted(Transport.UDP, (IPV4,), Ending.REFRESH_ZERO, 10.0, Traffic(1, 2, 3, 4))
    assert ended in harness.events
    assert alice.allocate().code == 0  # the five-tuple is free again


@pytest.mark.rfc(8656, "8.2")
@pytest.mark.parametrize(("family", "code"), [(IPV4, 0), (IPV6, 443), (9, 443)])
def test_a_refresh_with_another_family_is_a_mismatch(alice: RelayedClient, family: int, code: int) -> None:
    assert alice.refresh(0, (REQUESTED_ADDRESS_FAMILY, family)).code == code
    assert alice.has_relay is (code != 0)


Ask = Callable[[RelayedClient], int]
ON_AN_ALLOCATION: dict[str, Ask] = {
    "Refresh": lambda client: client.refresh(600).code,
    "Refresh to zero": lambda client: client.refresh(0).code,
    "CreatePermission": lambda client: client.permit(PEER).code,
    "ChannelBind": lambda client: client.bind(0x4000, PEER).code,
}
every_ask = pytest.mark.parametrize("ask", ON_AN_ALLOCATION.values(), ids=ON_AN_ALLOCATION)


@pytest.mark.rfc(8656, "5")
@every_ask
def test_without_an_allocation_everything_is_a_mismatch(harness: RelayHarness, ask: Ask) -> None:
    assert ask(harness.client()) == 437


@pytest.mark.rfc(8656, "5")
@every_ask
def test_another_user_on_the_five_tuple_has_the_wrong_credentials(
    harness: RelayHarness, alice: RelayedClient, ask: Ask
) -> None:
    bob = harness.client("bob")
    bob.path = alice.path
    assert ask(bob) == 441
    assert alice.has_relay
    assert alice.relay.peers == {}


def with_name_that_ends_in(harness: RelayHarness, seconds: int, name: str = "seat") -> RelayedClient:
    return harness.client(*issue_credential(SECRET, int(harness.unix_time) + seconds, name))


@pytest.mark.rfc(8656, "5")
@every_ask
def test_an_allocation_outlives_the_name_of_the_user_that_made_it(harness: RelayHarness, ask: Ask) -> None:
    client = with_name_that_ends_in(harness, 100)
    client.allocate()
    harness.advance(101)
    assert ask(client) == 0


@pytest.mark.rfc(8656, "5")
@every_ask
def test_after_the_grace_an_expired_name_keeps_no_allocation_alive(harness: RelayHarness, ask: Ask) -> None:
    harness.configure(expired_user_grace_seconds=300)
    client = with_name_that_ends_in(harness, 100)
    client.allocate()
    harness.advance(399)
    assert client.refresh(600).code == 0
    harness.advance(1)
    assert ask(client) == 401
    refused = harness.events[-1]
    assert isinstance(refused, RequestRefused)
    assert (refused.code, refused.cause) == (ErrorCode.UNAUTHENTICATED, "expired")
    assert client.has_relay
    harness.advance(600)
    assert not client.has_relay, "nothing of it is left one lifetime after the grace"


@pytest.mark.rfc(8656, "5")
@every_ask
def test_without_a_grace_an_allocation_ends_with_the_name_of_its_user(harness: RelayHarness, ask: Ask) -> None:
    harness.configure(expired_user_grace_seconds=0)
    client = with_name_that_ends_in(harness, 100)
    client.allocate()
    harness.advance(100)
    assert ask(client) == 401


@pytest.mark.rfc(8656, "5")
@every_ask
def test_an_expired_name_is_worth_nothing_on_the_allocation_of_another_user(harness: RelayHarness, ask: Ask) -> None:
    owner, thief = with_name_that_ends_in(harness, 1000), with_name_that_ends_in(harness, 100, "thief")
    owner.allocate()
    thief.path = owner.path
    harness.advance(100)
    assert ask(thief) == 401
    assert owner.has_relay
    assert owner.relay.peers == {}


@pytest.mark.rfc(8656, "5")
def test_an_expired_name_makes_no_allocation_where_its_own_one_has_just_ended(harness: RelayHarness) -> None:
    client = with_name_that_ends_in(harness, 100)
    client.allocate()
    harness.advance(101)
    assert client.allocate().code == 401, "neither beside it"
    assert client.refresh(0).code == 0
    assert client.allocate().code == 401, "nor after it"
    assert client.refresh().code == 401
    assert harness.server.allocations == 0


@pytest.mark.rfc(8656, "5")
def test_a_relayed_talk_goes_on_for_hours_with_the_name_it_began_with(harness: RelayHarness) -> None:
    client = with_name_that_ends_in(harness, 900)
    client.allocate()
    for _ in range(60):  # four minutes each, as browsers do it
        if client.refresh(600).code == 438:  # a nonce lasts an hour
            assert client.refresh(600).code == 0
        assert client.bind(0x4000, PEER).code == 0
        harness.advance(240)
    assert client.has_relay


@pytest.mark.rfc(8656, "6")
@every_ask
def test_an_expired_allocation_is_gone_even_if_nobody_has_cleaned_up(
    harness: RelayHarness, alice: RelayedClient, ask: Ask
) -> None:
    harness.jump(600)
    assert ask(alice) == 437


@pytest.mark.rfc(8656, "6")
@every_ask
def test_an_allocation_lives_up_to_the_instant_of_its_expiry(
    harness: RelayHarness, alice: RelayedClient, ask: Ask
) -> None:
    harness.jump(599.999)
    assert ask(alice) == 0


@pytest.mark.rfc(8656, "6")
def test_an_expired_allocation_makes_room_for_a_new_one_even_if_nobody_has_cleaned_up(
    harness: RelayHarness, alice: RelayedClient
) -> None:
    harness.jump(600)
    assert alice.allocate().code == 0
    assert harness.server.allocations == 1
    assert alice.relay.expires_at == harness.now + 600


@pytest.mark.rfc(8656, "6")
def test_an_allocation_expires_by_itself(harness: RelayHarness, alice: RelayedClient) -> None:
    harness.advance(599)
    assert alice.has_relay
    harness.advance(1)
    assert harness.plane.relays == {}
    assert harness.events[-1] == AllocationDeleted(Transport.UDP, (IPV4,), Ending.EXPIRED, 600.0, Traffic(0, 0, 0, 0))
    assert harness.server.poll_timeout() is None


# CreatePermission


@pytest.mark.rfc(8656, "10.2")
def test_a_permission_is_for_an_ip_address_whatever_the_port(harness: RelayHarness, alice: RelayedClient) -> None:
    assert alice.permit(peer("8.8.8.8", 1), peer("8.8.8.8", 2), OTHER_PEER).code == 0
    expiry = harness.now + 300
    assert alice.relay.peers == {PEER.ip: expiry, OTHER_PEER.ip: expiry}


@pytest.mark.rfc(8656, "9")
def test_a_permission_lives_for_three_hundred_seconds(harness: RelayHarness, alice: RelayedClient) -> None:
    alice.permit(PEER)
    assert alice.relay.peers[PEER.ip] == harness.now + 300
    harness.advance(299)
    assert PEER.ip in alice.relay.peers
    harness.advance(1)
    assert alice.relay.peers == {}
    assert alice.has_relay


@pytest.mark.rfc(8656, "10.2")
def test_a_permission_is_refreshed_by_asking_again(harness: RelayHarness, alice: RelayedClient) -> None:
    alice.permit(PEER)
    harness.advance(200)
    alice.permit(PEER)
    assert alice.relay.peers == {PEER.ip: harness.now + 300}
    harness.advance(299)
    assert PEER.ip in alice.relay.peers


@pytest.mark.rfc(8656, "8.2")
def test_refreshing_an_allocation_refreshes_no_permission(harness: RelayHarness, alice: RelayedClient) -> None:
    alice.permit(PEER)
    harness.advance(200)
    alice.refresh(600)
    harness.advance(100)
    assert alice.relay.peers == {}


@pytest.mark.rfc(8656, "10.2")
def test_a_permission_without_a_peer_is_a_bad_request(alice: RelayedClient) -> None:
    assert alice.permit().code == 400


@pytest.mark.rfc(8656, "10.2")
@pytest.mark.parametrize("at", [0, 1, 2])
def test_one_denied_peer_among_several_installs_none(harness: RelayHarness, alice: RelayedClient, at: int) -> None:
    peers = [PEER, OTHER_PEER]
    peers.insert(at, peer("10.0.0.1"))
    assert alice.permit(*peers).code == 403
    assert alice.relay.peers == {}
    assert harness.events[-1] == RequestRefused(Method.CREATE_PERMISSION, ErrorCode.FORBIDDEN, "peer_private")


@pytest.mark.rfc(8656, "10.2")
@pytest.mark.parametrize("peers", [(PEER_V6,), (PEER, PEER_V6), (PEER_V6, PEER)])
def test_a_peer_of_another_family_installs_none(alice: RelayedClient, peers: tuple[TransportAddress, ...]) -> None:
    assert alice.permit(*peers).code == 443
    assert alice.relay.peers == {}


@pytest.mark.rfc(8656, "10.2")
def test_a_malformed_peer_installs_none(alice: RelayedClient) -> None:
    broken: Attribute[bytes] = Attribute(
        XOR_PEER_ADDRESS.type, "BROKEN", lambda value, _: value, lambda value, _: value
    )
    assert alice.ask(Method.CREATE_PERMISSION, (XOR_PEER_ADDRESS, PEER), (broken, b"\0\1")).code == 400
    assert alice.relay.peers == {}


@pytest.mark.rfc(8656, "10.2")
def test_permissions_beyond_the_limit_are_refused_as_a_whole() -> None:
    harness = RelayHarness(quota={"permissions_per_allocation": 3})
    client = harness.client()
    client.allocate()
    assert client.permit(*(peer(f"8.8.8.{number}") for number in range(4))).code == 508
    assert client.relay.peers == {}
    assert client.permit(*(peer(f"8.8.8.{number}") for number in range(3))).code == 0
    assert client.permit(PEER).code == 508
    assert client.bind(0x4000, PEER).code == 508
    assert client.relay.channels == {}
    assert client.permit(peer("8.8.8.0"), peer("8.8.8.2")).code == 0  # refreshing needs no room
    harness.jump(300)
    assert client.permit(PEER).code == 0
    assert list(client.relay.peers) == [PEER.ip]


# ChannelBind


@pytest.mark.rfc(8656, "12.2")
def test_a_channel_lives_for_six_hundred_seconds_and_installs_the_permission(
    harness: RelayHarness, alice: RelayedClient
) -> None:
    alice.refresh(3600)
    assert alice.bind(0x4000, PEER).code == 0
    assert alice.relay.channels == {0x4000: (PEER, harness.now + 600)}
    assert alice.relay.peers == {PEER.ip: harness.now + 300}
    harness.advance(599)
    assert 0x4000 in alice.relay.channels
    assert alice.relay.peers == {}  # refreshed by the client, not by the channel
    harness.advance(1)
    assert alice.relay.channels == {}


@pytest.mark.rfc(8656, "12.2")
def test_binding_the_same_pair_again_refreshes_channel_and_permission(
    harness: RelayHarness, alice: RelayedClient
) -> None:
    alice.bind(0x4000, PEER)
    harness.advance(250)
    assert alice.bind(0x4000, PEER).code == 0
    assert alice.relay.channels == {0x4000: (PEER, harness.now + 600)}
    assert alice.relay.peers == {PEER.ip: harness.now + 300}


@pytest.mark.rfc(8656, "12.2")
def test_a_channel_number_in_use_is_not_bound_to_another_peer(alice: RelayedClient) -> None:
    alice.bind(0x4000, PEER)
    assert alice.bind(0x4000, OTHER_PEER).code == 400
    assert alice.bind(0x4000, PEER._replace(port=4001)).code == 400
    assert alice.relay.channels[0x4000][0] == PEER
    assert OTHER_PEER.ip not in alice.relay.peers


@pytest.mark.rfc(8656, "12.2")
def test_a_peer_with_a_channel_is_not_bound_to_another_number(alice: RelayedClient) -> None:
    alice.bind(0x4000, PEER)
    assert alice.bind(0x4001, PEER).code == 400
    assert list(alice.relay.channels) == [0x4000]


@pytest.mark.rfc(8656, "12.2")
def test_two_bound_channels_cannot_be_crossed(alice: RelayedClient) -> None:
    alice.bind(0x4000, PEER)
    alice.bind(0x4001, OTHER_PEER)
    assert alice.bind(0x4000, OTHER_PEER).code == 400
    assert alice.bind(0x4001, PEER).code == 400


@pytest.mark.rfc(8656, "12.2")
def test_another_port_of_a_peer_may_have_another_channel(alice: RelayedClient) -> None:
    assert alice.bind(0x4000, PEER).code == 0
    assert alice.bind(0x4001, PEER._replace(port=4001)).code == 0
    assert len(alice.relay.peers) == 1


@pytest.mark.rfc(8656, "12")
@pytest.mark.parametrize("woken", [False, True])
def test_an_expired_channel_gives_number_and_peer_free(
    harness: RelayHarness, alice: RelayedClient, *, woken: bool
) -> None:
    alice.refresh(3600)
    alice.bind(0x4000, PEER)
    alice.bind(0x4001, OTHER_PEER)
    (harness.advance if woken else harness.jump)(600)
    assert alice.bind(0x4000, OTHER_PEER).code == 0
    assert alice.bind(0x4002, PEER).code == 0
    assert {number: to for number, (to, _) in alice.relay.channels.items()} == {0x4000: OTHER_PEER, 0x4002: PEER}


@pytest.mark.rfc(8656, "12")
@pytest.mark.parametrize(
    ("number", "code"),
    [
        (0x0000, 400),
        (0x3FFF, 400),
        (0x4000, 0),
        (0x4FFF, 0),
        (0x5000, 0),  # deployed clients use the range of RFC 5766
        (0x7FFE, 0),
        (0x7FFF, 400),
        (0x8000, 400),
        (0xFFFF, 400),
    ],
)
def test_a_channel_number_is_in_the_range(alice: RelayedClient, number: int, code: int) -> None:
    assert alice.bind(number, PEER).code == code
    assert (number in alice.relay.channels) is (code == 0)
    assert (PEER.ip in alice.relay.peers) is (code == 0)


@pytest.mark.rfc(8656, "12.2")
def test_a_binding_needs_number_and_peer(alice: RelayedClient) -> None:
    assert alice.ask(Method.CHANNEL_BIND, (CHANNEL_NUMBER, 0x4000)).code == 400
    assert alice.ask(Method.CHANNEL_BIND, (XOR_PEER_ADDRESS, PEER)).code == 400
    assert alice.relay.peers == {}


@pytest.mark.rfc(8656, "12.2")
def test_a_channel_to_another_family_is_a_mismatch(alice: RelayedClient) -> None:
    assert alice.bind(0x4000, PEER_V6).code == 443


@pytest.mark.rfc(8656, "12.2")
def test_channels_beyond_the_limit_are_refused_and_expired_ones_make_room() -> None:
    harness = RelayHarness(quota={"channels_per_allocation": 2})
    client = harness.client()
    client.allocate((LIFETIME, 3600))
    ports = [PEER._replace(port=port) for port in (1, 2, 3)]
    assert [client.bind(0x4000 + index, to).code for index, to in enumerate(ports)] == [0, 0, 508]
    assert client.bind(0x4000, ports[0]).code == 0
    harness.jump(600)
    assert client.bind(0x4002, ports[2]).code == 0
    assert list(client.relay.channels) == [0x4002]


# Peers that nobody reaches through the relay

DENIED_V4 = ["127.0.0.1", "169.254.169.254", "10.0.0.1", "0.0.0.0", "224.0.0.1"]  # noqa: S104  # a peer, not a bind
DENIED_V6 = ["::ffff:127.0.0.1", "fd00::1", "64:ff9b::7f00:1", "2002:7f00:1::", "::1", "::", "ff02::1"]
denied = pytest.mark.parametrize("text", [*DENIED_V4, *DENIED_V6])


def _client_for(harness: RelayHarness, text: str) -> RelayedClient:
    client = harness.client()
    assert (client.allocate_v6() if ":" in text else client.allocate()).code == 0
    return client


@pytest.mark.rfc(8656, "10.2")
@pytest.mark.rfc(8656, "21.1.5")
@denied
def test_no_permission_is_installed_for_a_denied_peer(harness: RelayHarness, text: str) -> None:
    client = _client_for(harness, text)
    response = client.permit(peer(text))
    assert response.code == 403
    assert response.message.integrity is not None
    assert client.relay.peers == {}


@pytest.mark.rfc(8656, "12.2")
@pytest.mark.rfc(8656, "21.1.5")
@denied
def test_no_channel_is_bound_to_a_denied_peer(harness: RelayHarness, text: str) -> None:
    client = _client_for(harness, text)
    assert client.bind(0x4000, peer(text)).code == 403
    assert client.relay.channels == {}
    assert client.relay.peers == {}


@pytest.mark.rfc(8656, "10.2")
def test_the_operator_decides_about_peers() -> None:
    harness = RelayHarness(peers={"allow": ["10.0.0.0/8"], "deny": ["10.1.0.0/16", "8.8.8.8"]})
    client = harness.client()
    client.allocate()
    assert client.permit(peer("10.0.0.1")).code == 0
    assert client.permit(peer("10.1.0.1")).code == 403
    assert client.permit(PEER).code == 403


# Send indications that the forwarding plane hands up


@pytest.mark.rfc(8656, "11.2")
@pytest.mark.parametrize("data", [b"", b"x", b"media" * 200])
def test_a_send_indication_goes_to_a_permitted_peer(harness: RelayHarness, alice: RelayedClient, data: bytes) -> None:
    alice.permit(PEER)
    target = PEER._replace(port=7)
    assert alice.send(indication(Method.SEND, (DATA, data), (XOR_PEER_ADDRESS, target))) == []
    ((_, sent, to),) = harness.plane.sent
    assert (sent, to) == (data, target)


def _shape(*fields: tuple[Attribute[object], object]) -> bytes:
    return indication(Method.SEND, *fields)


_UNKNOWN: Attribute[bytes] = Attribute(0x7F00, "UNKNOWN", lambda value, _: value, lambda value, _: value)
_BROKEN: Attribute[bytes] = Attribute(0x0012, "BROKEN", lambda value, _: value, lambda value, _: value)


@pytest.mark.rfc(8656, "11.2")
@pytest.mark.parametrize(
    "fields",
    [
        ((DATA, b"x"),),
        ((XOR_PEER_ADDRESS, PEER),),
        ((XOR_PEER_ADDRESS, OTHER_PEER), (DATA, b"x")),
        ((XOR_PEER_ADDRESS, PEER_V6), (DATA, b"x")),
        ((_BROKEN, b"\0\1"), (DATA, b"x")),
        ((XOR_PEER_ADDRESS, PEER), (DATA, b"x"), (_UNKNOWN, b"")),
        (),
    ],
    ids=["no peer", "no data", "no permission", "other family", "malformed peer", "unknown attribute", "empty"],
)
def test_a_send_indication_that_does_not_fit_is_dropped_in_silence(
    harness: RelayHarness, alice: RelayedClient, fields: tuple[tuple[Attribute[object], object], ...]
) -> None:
    alice.permit(PEER)
    assert alice.send(indication(Method.SEND, *fields)) == []
    assert harness.plane.sent == []
    assert isinstance(harness.events[-1], MessageDropped)


@pytest.mark.rfc(8656, "11.2")
def test_a_send_indication_without_allocation_is_dropped_in_silence(harness: RelayHarness) -> None:
    assert harness.client().send(indication(Method.SEND, (XOR_PEER_ADDRESS, PEER), (DATA, b"x"))) == []


@pytest.mark.rfc(8656, "9")
@pytest.mark.parametrize(("seconds", "sent"), [(299.9, 1), (300.0, 0), (600.0, 0)])
def test_a_send_indication_needs_a_permission_that_lives_at_this_instant(
    harness: RelayHarness, alice: RelayedClient, seconds: float, sent: int
) -> None:
    alice.permit(PEER)
    harness.jump(seconds)
    alice.send(indication(Method.SEND, (XOR_PEER_ADDRESS, PEER), (DATA, b"x")))
    assert len(harness.plane.sent) == sent


@pytest.mark.rfc(8656, "11.2")
def test_a_send_indication_refreshes_no_permission(harness: RelayHarness, alice: RelayedClient) -> None:
    alice.permit(PEER)
    harness.advance(200)
    alice.send(indication(Method.SEND, (XOR_PEER_ADDRESS, PEER), (DATA, b"x")))
    harness.advance(100)
    assert alice.relay.peers == {}


# The end


@pytest.mark.rfc(8656, "3.1")
def test_an_allocation_ends_with_its_connection(harness: RelayHarness) -> None:
    client, other = harness.client(transport=Transport.TCP), harness.client(transport=Transport.TCP)
    client.allocate()
    other.allocate()
    harness.disconnect(client.path)
    assert not client.has_relay
    assert other.has_relay
    deleted = harness.events[-1]
    assert isinstance(deleted, AllocationDeleted)
    assert deleted.ending is Ending.DISCONNECTED
    harness.disconnect(client.path)  # a connection without allocation
    assert client.refresh().code == 437


def test_closing_the_server_gives_everything_back(harness: RelayHarness) -> None:
    for _ in range(3):
        client = harness.client()
        client.allocate((EVEN_PORT, True))
        client.permit(PEER)
        client.bind(0x4000, PEER)
    harness.close()
    assert harness.plane.relays == {}
    assert harness.server.allocations == 0
    assert {pool.taken for pool in harness.ports.values()} == {0}
    assert len(harness.quota) == 0
    assert harness.server.poll_timeout() is None
    endings = [event.ending for event in harness.events if isinstance(event, AllocationDeleted)]
    assert endings == [Ending.SHUTDOWN] * 3


@pytest.mark.rfc(8656, "6")
def test_nothing_is_handed_over_from_an_old_allocation_to_a_new_one(
    harness: RelayHarness, alice: RelayedClient
) -> None:
    alice.permit(OTHER_PEER)
    alice.bind(0x4000, PEER)
    alice.refresh(0)
    alice.allocate(transaction_id=new_transaction_id())
    assert alice.relay.peers == {}
    assert alice.relay.channels == {}
    alice.send(indication(Method.SEND, (XOR_PEER_ADDRESS, PEER), (DATA, b"x")))
    assert harness.plane.sent == []


@pytest.mark.rfc(8656, "10.2")
def test_a_reload_with_fewer_permissions_takes_none_from_those_who_have_more(harness: RelayHarness) -> None:
    client = harness.client()
    client.allocate()
    peers = [peer("8.8.8.8"), peer("9.9.9.9"), peer("1.1.1.1")]
    assert client.permit(*peers).code == 0
    assert client.bind(0x4000, peers[0]).code == 0
    harness.configure(quota={"permissions_per_allocation": 2})
    assert client.permit(peers[0]).code == 0
    assert client.permit(*peers).code == 0
    assert client.bind(0x4000, peers[0]).code == 0
    assert client.permit(peer("208.67.222.222")).code == 508
