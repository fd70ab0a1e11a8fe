"""What an operator may change while the relay runs: alternates, draining, realms, secrets, strictness."""

import pytest

from relay.peer_policy import PeerPolicy
from relay.realm import NO_LIMIT, Realm
from stun.address import TransportAddress
from stun.attributes import ALTERNATE_SERVER, REALM, REQUESTED_TRANSPORT
from stun.credentials import CredentialBook, issue_credential
from stun.registry import Method
from tests.support.relay_harness import SECRET, SERVER, RelayedClient, RelayHarness, peer
from tests.support.turn_client import TurnClient

OTHER = TransportAddress.parse("198.41.0.9", 3478)
THIRD = TransportAddress.parse("198.41.0.10", 3478)
OTHER_SECRET = b"another secret of thirty-two bytes, or even more"


@pytest.fixture
def harness() -> RelayHarness:
    return RelayHarness()


@pytest.fixture
def alice(harness: RelayHarness) -> RelayedClient:
    client = harness.client()
    assert client.allocate().code == 0
    return client


# Draining


def test_a_draining_server_refuses_new_allocations_and_keeps_the_old_ones(
    harness: RelayHarness, alice: RelayedClient
) -> None:
    harness.server.drain()
    assert harness.client().allocate().code == 508
    assert (
        alice.refresh(900).code == alice.permit(peer("8.8.8.8")).code == alice.bind(0x4000, peer("8.8.8.8")).code == 0
    )
    harness.advance(500)
    assert harness.server.allocations == 1


def test_a_draining_server_answers_the_retransmission_of_an_old_allocate(
    harness: RelayHarness, alice: RelayedClient
) -> None:
    transaction_id = alice.turn.transaction_id
    harness.server.drain()
    assert alice.allocate(transaction_id=transaction_id).code == 0


@pytest.mark.rfc(8656, "7.2")
@pytest.mark.rfc(8489, "10")
def test_a_draining_server_names_its_alternates_in_turn() -> None:
    harness = RelayHarness(alternate_servers=[str(OTHER), str(THIRD)])
    harness.server.drain()
    responses = [harness.client().allocate() for _ in range(3)]
    assert [response.code for response in responses] == [300] * 3
    assert all(response.message.integrity is not None for response in responses)
    named = [response.get(ALTERNATE_SERVER) for response in responses]
    assert set(named) == {OTHER, THIRD}
    assert named[0] == named[2] != named[1]


@pytest.mark.rfc(8489, "10")
def test_an_alternate_of_the_other_family_is_no_alternate() -> None:
    harness = RelayHarness(alternate_servers=["[2a02:8109::9]:3478"])
    harness.server.drain()
    assert harness.client().allocate().code == 508


@pytest.mark.rfc(8656, "7.2")
def test_a_full_server_names_its_alternate() -> None:
    harness = RelayHarness(alternate_servers=[str(OTHER)])
    harness.plane.every_port_taken = True
    assert harness.client().allocate().get(ALTERNATE_SERVER) == OTHER


def test_the_alternate_is_told_to_nobody_who_has_not_proved_who_he_is() -> None:
    harness = RelayHarness(alternate_servers=[str(OTHER)])
    harness.server.drain()
    response = harness.client().ask_once(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17))
    assert response.code == 401
    assert not response.has(ALTERNATE_SERVER)


# Channel numbers


@pytest.mark.rfc(8656, "12")
@pytest.mark.parametrize(
    ("strict", "number", "code"),
    [
        (False, 0x4FFF, 0),
        (False, 0x5000, 0),
        (False, 0x7FFE, 0),
        (False, 0x7FFF, 400),
        (True, 0x4000, 0),
        (True, 0x4FFF, 0),
        (True, 0x5000, 400),
        (True, 0x7FFE, 400),
        (True, 0x3FFF, 400),
    ],
)
def test_the_strict_range_ends_where_the_rfc_ends_it(strict: bool, number: int, code: int) -> None:  # noqa: FBT001
    client = RelayHarness(strict_channels=strict).client()
    client.allocate()
    assert client.bind(number, peer("8.8.8.8")).code == code


# Secrets and realms


def of_secret(harness: RelayHarness, secret: bytes) -> RelayedClient:
    credential = issue_credential(secret, int(harness.unix_time) + 3600, "x")
    return harness.client(credential.username, credential.password)


def test_an_old_and_a_new_secret_overlap_until_the_old_one_is_taken_away(harness: RelayHarness) -> None:
    old = of_secret(harness, SECRET)
    assert old.allocate().code == 0
    book = CredentialBook(harness.settings.realm, {}, {"new": OTHER_SECRET, "old": SECRET})
    harness.reconfigure_general(book)
    assert of_secret(harness, SECRET).allocate().code == of_secret(harness, OTHER_SECRET).allocate().code == 0
    harness.reconfigure_general(CredentialBook(harness.settings.realm, {}, {"new": OTHER_SECRET}))
    assert of_secret(harness, SECRET).allocate().code == 401
    assert of_secret(harness, OTHER_SECRET).allocate().code == 0
    assert old.refresh().code == 401  # what was issued with the old secret ends with it


def clinic(*, per_user: int = 24, total: int = NO_LIMIT, deny: tuple[str, ...] = ()) -> Realm:
    """A realm that is offered at port 3479."""
    book = CredentialBook("clinic", {"alice": "another"}, {})
    return Realm("clinic", book, PeerPolicy(deny=deny), per_user, total, ports=frozenset({3479}))


def clinic_client(harness: RelayHarness) -> RelayedClient:
    client = harness.client("alice", "another")
    client.path = client.path._replace(server=SERVER._replace(port=3479))
    return client


@pytest.mark.rfc(8489, "9.2.4")
def test_the_challenge_names_the_realm_of_the_port(harness: RelayHarness) -> None:
    harness.configure(clinic())
    challenge = clinic_client(harness).ask_once(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17))
    assert challenge.get(REALM) == "clinic"
    assert harness.client().ask_once(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17)).get(REALM) == "redconnect"


def test_a_user_of_one_realm_is_nobody_in_another(harness: RelayHarness) -> None:
    harness.configure(clinic())
    assert clinic_client(harness).allocate().code == 0
    stranger = harness.client("alice", "another")
    assert stranger.allocate().code == 401
    assert harness.held("alice") == 0


def test_a_realm_has_its_own_quota_for_a_user_and_for_all(harness: RelayHarness) -> None:
    harness.configure(clinic(per_user=1))
    assert [clinic_client(harness).allocate().code for _ in range(2)] == [0, 486]
    harness.configure(clinic(total=1))
    assert clinic_client(harness).allocate().code == 486
    assert harness.client().allocate().code == 0


def test_a_realm_has_its_own_peer_policy(harness: RelayHarness) -> None:
    harness.configure(clinic(deny=("8.8.8.0/24",)))
    client, other = clinic_client(harness), harness.client()
    assert client.allocate().code == other.allocate().code == 0
    assert client.permit(peer("8.8.8.8")).code == 403
    assert other.permit(peer("8.8.8.8")).code == 0


@pytest.mark.rfc(8656, "5")
def test_the_same_user_name_in_another_realm_has_the_wrong_credentials(
    harness: RelayHarness, alice: RelayedClient
) -> None:
    harness.configure(clinic())
    intruder = RelayedClient(harness, alice.path, TurnClient("alice", "another"))
    intruder.turn.realm, intruder.turn.nonce = "clinic", alice.turn.nonce
    assert intruder.ask_once(Method.REFRESH).code == 441


def test_a_reload_keeps_what_is_allocated(harness: RelayHarness, alice: RelayedClient) -> None:
    alice.bind(0x4000, peer("8.8.8.8"))
    harness.configure(default_lifetime_seconds=1200)
    assert alice.relay.channels.keys() == {0x4000}
    assert alice.refresh().code == 0
    assert alice.relay.expires_at == harness.now + 1200
