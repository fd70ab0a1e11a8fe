"""Dual allocations (RFC 8656 §7.2, §8.2): one IPv4 and one IPv6 relayed transport address for one client."""

import pytest

from relay.events import AllocationCreated, AllocationDeleted, Ending, HalfDeleted
from relay.five_tuple import Transport
from stun.address import IPV4, IPV6
from stun.attributes import (
    ADDITIONAL_ADDRESS_FAMILY,
    ADDRESS_ERROR_CODE,
    EVEN_PORT,
    LIFETIME,
    REQUESTED_ADDRESS_FAMILY,
    RESERVATION_TOKEN,
    XOR_RELAYED_ADDRESS,
)
from stun.registry import ErrorCode, Method
from tests.support.fake_datapath import FakeRelay
from tests.support.relay_harness import RELAY_V4, RELAY_V6, RelayedClient, RelayHarness, peer

PEER, PEER_V6 = peer("8.8.8.8"), peer("2606:4700::1111")
DUAL = (ADDITIONAL_ADDRESS_FAMILY, IPV6)


@pytest.fixture
def harness() -> RelayHarness:
    return RelayHarness()


@pytest.fixture
def alice(harness: RelayHarness) -> RelayedClient:
    """A client with a dual allocation."""
    client = harness.client()
    assert client.allocate(DUAL).code == 0
    return client


def relays_of(harness: RelayHarness) -> dict[bytes, FakeRelay]:
    return {relay.address.bound: relay for relay in harness.plane.relays.values()}


@pytest.mark.rfc(8656, "7.2")
def test_a_dual_allocation_has_an_address_of_each_family(harness: RelayHarness) -> None:
    client = harness.client()
    response = client.allocate(DUAL)
    relayed = response.message.get_all(XOR_RELAYED_ADDRESS)
    assert [address.ip for address in relayed] == [RELAY_V4, RELAY_V6]
    assert not response.has(ADDRESS_ERROR_CODE)
    assert harness.held("alice") == 2
    assert AllocationCreated(Transport.UDP, (IPV4, IPV6), "") in harness.events


@pytest.mark.rfc(8656, "7.2")
def test_a_half_that_cannot_be_had_is_told_by_its_error_code() -> None:
    harness = RelayHarness(families=1)
    response = harness.client().allocate(DUAL)
    assert response.code == 0
    assert [address.ip for address in response.message.get_all(XOR_RELAYED_ADDRESS)] == [RELAY_V4]
    family, code = response.get(ADDRESS_ERROR_CODE)[:2]
    assert (family, code) == (IPV6, ErrorCode.ADDRESS_FAMILY_NOT_SUPPORTED)
    assert harness.held("alice") == 1


@pytest.mark.rfc(8656, "7.2")
def test_a_half_without_a_free_port_is_told_by_508(harness: RelayHarness) -> None:
    while harness.ports[IPV4].taken < harness.ports[IPV4].limit:
        harness.ports[IPV4].take()
    response = harness.client().allocate(DUAL)
    assert response.code == 0
    assert [address.ip for address in response.message.get_all(XOR_RELAYED_ADDRESS)] == [RELAY_V6]
    assert response.get(ADDRESS_ERROR_CODE)[:2] == (IPV4, ErrorCode.INSUFFICIENT_CAPACITY)


@pytest.mark.rfc(8656, "7.2")
def test_if_no_half_can_be_had_the_request_is_refused_and_nothing_is_held(harness: RelayHarness) -> None:
    harness.plane.every_port_taken = True
    assert harness.client().allocate(DUAL).code == 508
    assert harness.held("alice") == 0
    assert {ports.taken for ports in harness.ports.values()} == {0}


@pytest.mark.rfc(8656, "7.2")
@pytest.mark.parametrize(
    "fields",
    [
        (DUAL, (REQUESTED_ADDRESS_FAMILY, IPV4)),
        (DUAL, (EVEN_PORT, True)),
        (DUAL, (RESERVATION_TOKEN, bytes(8))),
        ((ADDITIONAL_ADDRESS_FAMILY, IPV4),),
    ],
)
def test_contradictory_wishes_for_families_are_bad_requests(harness: RelayHarness, fields: tuple[object, ...]) -> None:
    assert harness.client().allocate(*fields).code == 400  # type: ignore[arg-type]
    assert harness.plane.relays == {}


@pytest.mark.rfc(8656, "7.2")
def test_both_ports_are_even_if_that_is_asked_for(harness: RelayHarness) -> None:
    response = harness.client().allocate(DUAL, (EVEN_PORT, False))
    assert [address.port % 2 for address in response.message.get_all(XOR_RELAYED_ADDRESS)] == [0, 0]


@pytest.mark.rfc(8656, "8.2")
def test_a_refresh_without_family_refreshes_both_halves(harness: RelayHarness, alice: RelayedClient) -> None:
    harness.advance(100)
    assert alice.refresh(900).get(LIFETIME) == 900
    assert {relay.expires_at for relay in harness.plane.relays.values()} == {harness.now + 900}


@pytest.mark.rfc(8656, "8.2")
def test_a_refresh_with_a_family_refreshes_that_half_and_the_other_expires(
    harness: RelayHarness, alice: RelayedClient
) -> None:
    alice.refresh(900, (REQUESTED_ADDRESS_FAMILY, IPV6))
    alice.permit(PEER)
    harness.advance(601)
    assert list(relays_of(harness)) == [RELAY_V6]
    assert alice.permit(PEER).code == 443
    assert alice.permit(PEER_V6).code == 0
    harness.advance(300)
    assert harness.server.allocations == 0
    assert harness.held("alice") == 0


@pytest.mark.rfc(8656, "8.2")
@pytest.mark.parametrize(("family", "left"), [(IPV4, RELAY_V6), (IPV6, RELAY_V4)])
def test_a_refresh_to_zero_with_a_family_deletes_that_half_only(
    harness: RelayHarness, alice: RelayedClient, family: int, left: bytes
) -> None:
    alice.permit(PEER, PEER_V6)
    alice.bind(0x4000, PEER)
    alice.bind(0x4001, PEER_V6)
    assert alice.refresh(0, (REQUESTED_ADDRESS_FAMILY, family)).get(LIFETIME) == 0
    assert list(relays_of(harness)) == [left]
    assert harness.held("alice") == 1
    gone, here = (PEER, PEER_V6) if family == IPV4 else (PEER_V6, PEER)
    assert alice.permit(gone).code == 443
    assert alice.bind(0x4002, gone).code == 443
    assert alice.permit(here).code == 0
    assert alice.refresh(0, (REQUESTED_ADDRESS_FAMILY, family)).code == 443
    assert alice.refresh(0).code == 0
    assert harness.server.allocations == 0
    ended = [event for event in harness.events if isinstance(event, AllocationDeleted)]
    assert [event.ending for event in ended] == [Ending.REFRESH_ZERO]


@pytest.mark.rfc(8656, "10.2")
def test_one_request_may_permit_peers_of_both_families(harness: RelayHarness, alice: RelayedClient) -> None:
    assert alice.permit(PEER, PEER_V6).code == 0
    relays = relays_of(harness)
    assert list(relays[RELAY_V4].peers) == [PEER.ip]
    assert list(relays[RELAY_V6].peers) == [PEER_V6.ip]


@pytest.mark.rfc(8656, "12.2")
def test_a_channel_belongs_to_the_half_of_its_peer(harness: RelayHarness, alice: RelayedClient) -> None:
    assert alice.bind(0x4000, PEER).code == alice.bind(0x4001, PEER_V6).code == 0
    relays = relays_of(harness)
    assert relays[RELAY_V4].channels.keys() == {0x4000}
    assert relays[RELAY_V6].channels.keys() == {0x4001}
    assert alice.bind(0x4000, PEER_V6).code == 400


@pytest.mark.rfc(8656, "7.2")
def test_a_retransmitted_dual_allocate_is_answered_alike(harness: RelayHarness) -> None:
    client = harness.client()
    first = client.allocate(DUAL)
    assert client.allocate(DUAL, transaction_id=client.turn.transaction_id).raw == first.raw
    assert harness.held("alice") == 2


@pytest.mark.rfc(8656, "8.2")
def test_the_end_of_the_half_that_would_have_lived_longer_shortens_the_allocation(
    harness: RelayHarness, alice: RelayedClient
) -> None:
    assert alice.refresh(3600, (REQUESTED_ADDRESS_FAMILY, IPV6)).code == 0
    assert alice.refresh(0, (REQUESTED_ADDRESS_FAMILY, IPV6)).code == 0
    harness.advance(601)
    assert harness.server.allocations == harness.held("alice") == 0
    assert alice.refresh().code == 437


@pytest.mark.rfc(8656, "8.2")
def test_a_refresh_revives_no_half_that_has_expired(harness: RelayHarness, alice: RelayedClient) -> None:
    assert alice.refresh(3600, (REQUESTED_ADDRESS_FAMILY, IPV6)).code == 0
    harness.jump(600.5)  # the shell is late
    assert alice.refresh(900).code == 0
    assert alice.refresh(900, (REQUESTED_ADDRESS_FAMILY, IPV4)).code == 443
    harness.advance(1)
    assert [relay.address.bound for relay in alice.relays] == [RELAY_V6]


@pytest.mark.rfc(8489, "6.3.1")
def test_a_retransmitted_end_of_one_half_is_answered_alike(harness: RelayHarness, alice: RelayedClient) -> None:
    fields = ((LIFETIME, 0), (REQUESTED_ADDRESS_FAMILY, IPV6))
    first = alice.ask(Method.REFRESH, *fields)
    again = alice.ask(Method.REFRESH, *fields, transaction_id=alice.turn.transaction_id)
    assert again.raw == first.raw
    assert alice.ask(Method.REFRESH, *fields).code == 443
    assert list(relays_of(harness)) == [RELAY_V4]


def test_the_end_of_one_half_is_reported_once_and_the_other_later(harness: RelayHarness, alice: RelayedClient) -> None:
    alice.refresh(0, (REQUESTED_ADDRESS_FAMILY, IPV6))
    assert harness.events.count(HalfDeleted(Transport.UDP, IPV6, Ending.REFRESH_ZERO)) == 1
    alice.refresh(0)
    (ended,) = [event for event in harness.events if isinstance(event, AllocationDeleted)]
    assert ended.families == (IPV4,)
