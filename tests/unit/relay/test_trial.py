"""A test credential in the hands of somebody who wants a relay for nothing."""

from typing import Any

import pytest

from relay import trial
from relay.datapath import Limits
from relay.events import AllocationCreated, AllocationDeleted, RequestRefused
from relay.five_tuple import FiveTuple, Transport
from relay.peer_policy import PeerPolicy
from relay.realm import NO_LIMIT, Realm
from relay.trial import (
    ALLOCATION_BURST,
    ALLOCATION_SECONDS,
    ALLOCATIONS_PER_ADDRESS,
    ALLOCATIONS_PER_SECOND,
    BYTES_PER_SECOND,
    PACKETS_PER_SECOND,
)
from stun.address import IPV6, TransportAddress
from stun.attributes import (
    ADDITIONAL_ADDRESS_FAMILY,
    EVEN_PORT,
    LIFETIME,
    MOBILITY_TICKET,
    REQUESTED_TRANSPORT,
    XOR_PEER_ADDRESS,
)
from stun.credentials import CredentialBook, issue_credential
from stun.registry import Method
from tests.support.relay_harness import (
    RELAY_V4,
    RELAY_V6,
    SECRET,
    SECRETS,
    SERVER,
    RelayedClient,
    RelayHarness,
    peer,
)
from tests.support.turn_client import TurnClient

OWN = "91.198.174.192"
OWN_V6 = "2a02:8109:1:2::7"
STRANGER = "185.60.216.35"
MINUTE = 60


class Prober(RelayedClient):
    """A client with a credential for a test."""

    def __init__(
        self,
        harness: RelayHarness,
        *,
        named: str = OWN,
        address: str = OWN,
        seconds: float = MINUTE,
        transport: Transport = Transport.UDP,
        port: int | None = None,
    ) -> None:
        until = int(harness.unix_time + seconds)
        credential = issue_credential(SECRET, until, f"test:{named}")
        server = SERVER if "." in address else TransportAddress(RELAY_V6, SERVER.port)
        path = FiveTuple(transport, server, peer(address, port or next(harness._client_ports)))
        super().__init__(harness, path, TurnClient(*credential))


@pytest.fixture
def harness() -> RelayHarness:
    return RelayHarness()


def causes(harness: RelayHarness) -> list[str]:
    return [event.cause for event in harness.events if isinstance(event, RequestRefused)]


def own_machine(harness: RelayHarness, *own: str) -> None:
    """Say that these are addresses of the relay's machine."""
    packed = [peer(text).ip for text in own]
    policy = PeerPolicy(own=packed, own_relays=(RELAY_V4, RELAY_V6))
    book = CredentialBook(harness.settings.realm, {}, SECRETS)
    realm = Realm(harness.settings.realm, book, policy, 24, NO_LIMIT)
    harness.server.configure(harness.settings, harness.authenticator_of(realm), harness.guard())


# What a test needs


def test_a_test_allocates_and_reaches_its_own_address(harness: RelayHarness) -> None:
    client = Prober(harness)
    assert client.allocate().code == 0
    assert client.permit(peer(OWN)).code == 0
    assert client.bind(0x4000, peer(OWN, 5000)).code == 0
    assert set(client.permitted) == {peer(OWN).ip}


def test_two_connections_of_one_page_meet_on_the_relay(harness: RelayHarness) -> None:
    one, other = Prober(harness), Prober(harness)
    for client in (one, other):
        assert client.allocate().code == 0
    assert one.permit(TransportAddress(RELAY_V4, other.relay.port)).code == 0
    assert other.bind(0x4000, TransportAddress(RELAY_V4, one.relay.port)).code == 0
    assert one.relay.circle == other.relay.circle != ""


def test_a_secret_that_is_on_its_way_out_serves_for_tests_as_well(harness: RelayHarness) -> None:
    old = Prober(harness)
    fresh = b"another secret of thirty-two bytes, or more"
    harness.reconfigure_general(CredentialBook(harness.settings.realm, {}, {"turn_secret": fresh, "former": SECRET}))
    assert old.allocate().code == 0
    harness.reconfigure_general(CredentialBook(harness.settings.realm, {}, {"turn_secret": fresh}))
    assert old.refresh().code == 401
    assert Prober(harness).allocate().code == 401


# Other peers


@pytest.mark.parametrize("other", [STRANGER, "91.198.174.193", "8.8.8.8"])
def test_no_other_peer_is_permitted_or_bound(harness: RelayHarness, other: str) -> None:
    client = Prober(harness)
    client.allocate()
    assert client.permit(peer(other)).code == 403
    assert client.permit(peer(OWN), peer(other)).code == 403
    assert client.bind(0x4000, peer(other)).code == 403
    assert client.permitted == {} and client.bound == {}
    assert causes(harness)[-1] == "trial_peer"


def test_a_neighbour_in_the_own_ipv6_network_is_no_peer(harness: RelayHarness) -> None:
    client = Prober(harness, named="2a02:8109:1:2::/64", address=OWN_V6)
    client.allocate_v6()
    assert client.permit(peer("2a02:8109:1:2::8")).code == 403
    assert client.permit(peer(OWN_V6)).code == 0


def test_what_the_policy_denies_is_not_opened_because_it_is_the_own_address() -> None:
    harness = RelayHarness(peers={"deny": [f"{OWN}/32"]})
    client = Prober(harness)
    client.allocate()
    assert client.permit(peer(OWN)).code == 403
    assert causes(harness)[-1] == "peer_configured"
    at_home = Prober(harness, named="192.168.1.5", address="192.168.1.5")
    at_home.allocate()
    assert at_home.permit(peer("192.168.1.5")).code == 403


def test_a_relay_address_that_the_operator_opened_whole_is_no_peer() -> None:
    harness = RelayHarness(peers={"allow": ["198.41.0.4/32"]})
    client = Prober(harness)
    client.allocate()
    assert client.permit(TransportAddress(RELAY_V4, 53)).code == 403


# Other clients


@pytest.mark.parametrize("transport", [Transport.UDP, Transport.TCP, Transport.TLS])
def test_a_credential_serves_nobody_at_another_address(harness: RelayHarness, transport: Transport) -> None:
    thief = Prober(harness, address=STRANGER, transport=transport)
    assert thief.allocate().code == 403
    assert not thief.has_relay
    assert causes(harness)[-1] == "trial_client"


def test_a_credential_of_an_ipv6_network_serves_all_of_it_and_no_other(harness: RelayHarness) -> None:
    assert Prober(harness, named="2a02:8109:1:2::/64", address="2a02:8109:1:2::99").allocate_v6().code == 0
    assert Prober(harness, named="2a02:8109:1:2::/64", address="2a02:8109:1:3::99").allocate_v6().code == 403


def test_a_page_that_was_opened_over_the_other_ip_version_is_tested_too(harness: RelayHarness) -> None:
    assert Prober(harness, named="2a02:8109:1:2::/64", address=OWN).allocate().code == 0
    client = Prober(harness, named=OWN, address=OWN_V6)
    assert client.allocate().code == 0
    assert client.permit(peer(OWN)).code == 0, "the named address is the own one, too"
    assert client.permit(peer(STRANGER)).code == 403


def test_strangers_that_share_a_credential_over_the_other_ip_version_do_not_meet(harness: RelayHarness) -> None:
    one = Prober(harness, named=OWN, address=OWN_V6)
    other = Prober(harness, named=OWN, address="2a00:1450:4001::7")
    for client in (one, other):
        assert client.allocate().code == 0
    assert one.relay.circle != other.relay.circle


def test_strangers_with_a_credential_each_do_not_meet(harness: RelayHarness) -> None:
    one, other = Prober(harness), Prober(harness, named=STRANGER, address=STRANGER)
    for client in (one, other):
        assert client.allocate().code == 0
    assert one.relay.circle != other.relay.circle


def test_an_ordinary_allocation_is_in_no_circle(harness: RelayHarness) -> None:
    client = harness.client()
    client.allocate()
    assert not client.relay.circle


def test_on_the_relays_own_machine_its_addresses_are_one_client(harness: RelayHarness) -> None:
    own_machine(harness, "127.0.0.1", "10.0.0.5")
    assert Prober(harness, named="127.0.0.1", address="10.0.0.5").allocate().code == 0
    assert Prober(harness, named="127.0.0.1", address=STRANGER).allocate().code == 403
    assert Prober(harness, named=STRANGER, address="10.0.0.5").allocate().code == 403


def test_a_test_that_was_refused_elsewhere_keeps_nothing_of_the_allocation_alive(harness: RelayHarness) -> None:
    client = Prober(harness, port=4711)
    client.allocate()
    thief = RelayedClient(harness, FiveTuple(Transport.UDP, SERVER, peer(STRANGER, 4711)), client.turn)
    client.turn.nonce = None
    assert thief.ask(Method.REFRESH, (LIFETIME, 600)).code == 403


# Time


def test_nothing_begins_after_a_minute(harness: RelayHarness) -> None:
    client = Prober(harness)
    harness.advance(MINUTE + 1)
    assert client.allocate().code == 401
    assert causes(harness)[-1] == "expired"


@pytest.mark.parametrize("wish", [None, 600, 3600])
def test_an_allocation_ends_after_its_minute_however_often_it_is_refreshed(
    harness: RelayHarness, wish: int | None
) -> None:
    client = Prober(harness, seconds=10 * MINUTE)
    granted = client.allocate(*(() if wish is None else ((LIFETIME, wish),)))
    assert granted.get(LIFETIME) == ALLOCATION_SECONDS
    for passed in range(10, ALLOCATION_SECONDS, 10):
        harness.advance(10)
        assert client.refresh(wish).get(LIFETIME) == ALLOCATION_SECONDS - passed
    assert client.relay.expires_at == harness.now + 10
    harness.advance(10)
    assert not client.has_relay
    assert client.refresh().code == 437


def test_an_expired_name_keeps_nothing_alive(harness: RelayHarness) -> None:
    client = Prober(harness, seconds=10)
    client.allocate()
    harness.advance(11)
    assert client.refresh(600).code == 401
    assert client.permit(peer(OWN)).code == 401
    assert client.bind(0x4000, peer(OWN)).code == 401
    harness.advance(ALLOCATION_SECONDS)
    assert not client.has_relay


# Many


def test_an_address_has_a_few_allocations_at_once_whatever_credentials_it_fetches(harness: RelayHarness) -> None:
    clients = [Prober(harness, seconds=MINUTE - number) for number in range(ALLOCATIONS_PER_ADDRESS + 1)]
    assert [client.allocate().code for client in clients] == [0] * ALLOCATIONS_PER_ADDRESS + [486]
    assert clients[0].refresh(0).code == 0
    assert clients[-1].allocate().code == 0


def test_all_tests_together_leave_the_ports_to_consultations(harness: RelayHarness) -> None:
    most = trial.max_allocations(100)
    codes = [
        Prober(harness, named=f"91.198.174.{number}", address=f"91.198.174.{number}").allocate().code
        for number in range(1, most + 2)
    ]
    assert codes == [0] * most + [486]
    assert harness.client().allocate().code == 0


def test_what_is_counted_is_given_back(harness: RelayHarness) -> None:
    for _ in range(3):
        clients = [
            Prober(harness, named=f"91.198.174.{number}", address=f"91.198.174.{number}")
            for number in range(1, trial.max_allocations(100) + 1)
        ]
        assert {client.allocate().code for client in clients} == {0}
        harness.advance(ALLOCATION_SECONDS + 1)
    assert len(harness.quota) == 0


def test_whoever_frees_what_it_has_begins_at_a_rate_whatever_credentials_it_fetches(harness: RelayHarness) -> None:
    for number in range(ALLOCATION_BURST):
        client = Prober(harness, seconds=MINUTE - number % 30)
        assert (client.allocate().code, client.refresh(0).code) == (0, 0)
    assert [Prober(harness).allocate().code for _ in range(3)] == [486] * 3
    assert causes(harness)[-1] == "trial_rate"
    assert Prober(harness, named=STRANGER, address=STRANGER).allocate().code == 0, "a neighbour is not in its way"
    assert harness.client().allocate().code == 0, "nor is a consultation from the same address"
    harness.advance(1.0)
    codes = [Prober(harness).allocate().code for _ in range(int(ALLOCATIONS_PER_SECOND) + 1)]
    assert codes == [0] * int(ALLOCATIONS_PER_SECOND) + [486]


def test_a_retransmission_is_no_other_beginning(harness: RelayHarness) -> None:
    client = Prober(harness)
    assert {client.allocate(transaction_id=b"the same one").code for _ in range(ALLOCATION_BURST + 1)} == {0}


def test_events_tell_the_allocations_of_tests_from_those_of_consultations(harness: RelayHarness) -> None:
    for client in (Prober(harness), harness.client()):
        client.allocate()
        client.refresh(0)
    told = [event for event in harness.events if isinstance(event, AllocationCreated | AllocationDeleted)]
    assert [event.is_trial for event in told] == [True, True, False, False]


def test_a_test_reserves_no_port(harness: RelayHarness) -> None:
    assert Prober(harness).allocate((EVEN_PORT, True)).code == 403
    assert Prober(harness).allocate((EVEN_PORT, False)).code == 0


def test_a_test_relays_no_tcp() -> None:
    harness = RelayHarness(tcp_allocations=True)
    client = Prober(harness, transport=Transport.TCP)
    assert client.ask(Method.ALLOCATE, (REQUESTED_TRANSPORT, 6)).code == 403
    assert causes(harness)[-1] == "trial_wish"
    assert client.allocate().code == 0
    assert client.ask(Method.CONNECT, (XOR_PEER_ADDRESS, peer(STRANGER))).code == 437


def test_a_test_stays_where_it_is() -> None:
    harness = RelayHarness(mobility=True)
    assert Prober(harness).allocate((MOBILITY_TICKET, b"")).code == 403


def test_a_dual_allocation_counts_twice(harness: RelayHarness) -> None:
    for _ in range(ALLOCATIONS_PER_ADDRESS // 2):
        assert Prober(harness).allocate((ADDITIONAL_ADDRESS_FAMILY, IPV6)).code == 0
    assert Prober(harness).allocate().code == 486


# Names


@pytest.mark.parametrize("named", ["", "everybody", "0.0.0.0/0", "91.198.174.0/24", "::/0", "2a02:8109::/48"])
def test_a_name_for_nobody_or_for_many_is_no_name(harness: RelayHarness, named: str) -> None:
    assert Prober(harness, named=named).allocate().code == 401
    assert causes(harness)[-1] == "trial_name"


def test_nobody_writes_his_own_address_into_a_name(harness: RelayHarness) -> None:
    credential = issue_credential(SECRET, int(harness.unix_time + MINUTE), f"test:{OWN}")
    forged = credential.username.replace(OWN, STRANGER)
    client: Any = Prober(harness, address=STRANGER)
    client.turn = TurnClient(forged, credential.password)
    assert client.allocate().code == 401
    assert causes(harness)[-1] == "wrong_password"


# Rates


def test_the_limits_of_a_test_are_never_wider_than_those_of_everybody() -> None:
    assert trial.limits_of(Limits()) == (BYTES_PER_SECOND, PACKETS_PER_SECOND)
    assert trial.limits_of(Limits(BYTES_PER_SECOND * 10, PACKETS_PER_SECOND * 10)) == (
        BYTES_PER_SECOND,
        PACKETS_PER_SECOND,
    )
    assert trial.limits_of(Limits(100, 10)) == (100, 10)


@pytest.mark.parametrize("ports", [2, 100, 16_384, 64_512])
def test_tests_may_have_a_tenth_of_the_ports_and_not_more_than_their_most(ports: int) -> None:
    most = trial.max_allocations(ports)
    assert most == max(trial.ALLOCATIONS_PER_ADDRESS, min(trial.MAX_ALLOCATIONS, ports // 10))
