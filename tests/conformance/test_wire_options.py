"""What settings change, over real sockets: password algorithms, families, realms, strictness, alternates, drain."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.settings import RelaySettings
from stun.address import IPV4, IPV6, TransportAddress
from stun.attributes import (
    ADDITIONAL_ADDRESS_FAMILY,
    ADDRESS_ERROR_CODE,
    ALTERNATE_SERVER,
    DRAFT_ADDITIONAL_ADDRESS_FAMILY,
    LIFETIME,
    PASSWORD_ALGORITHMS,
    REALM,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    XOR_RELAYED_ADDRESS,
    PasswordAlgorithmEntry,
)
from stun.registry import IntegrityAlgorithm, Method, PasswordAlgorithm
from tests.conformance.conftest import Connect
from tests.support.ports import free_port
from tests.support.turn_client import TurnClient
from tests.support.wire_client import Server, WireClient, run_relay

PUBLIC = TransportAddress.parse("9.9.9.9", 4000)
PUBLIC_V6 = TransportAddress.parse("2620:fe::fe", 4000)
ALTERNATES = {IPV4: TransportAddress.parse("198.41.0.9", 3478), IPV6: TransportAddress.parse("2620:fe::9", 3478)}
SHA256 = PasswordAlgorithm.SHA256


# Password algorithms, USERHASH and bid-down (RFC 8489 §9.2)


@pytest.fixture
def modern(connect: Connect) -> WireClient:
    """A client that obeys the challenge."""
    known = connect().turn
    return connect(TurnClient(known.username, known.password, is_modern=True))


@pytest.mark.rfc(8489, "9.2.4")
def test_a_challenge_offers_sha256_before_md5(modern: WireClient) -> None:
    offered = modern.get_challenged().get(PASSWORD_ALGORITHMS)
    assert [entry.algorithm for entry in offered] == [SHA256, PasswordAlgorithm.MD5]


@pytest.mark.rfc(8489, "9.2.4")
def test_a_modern_client_allocates_with_sha256_for_key_and_integrity(modern: WireClient) -> None:
    response = modern.allocate()
    assert response.code == 0
    assert modern.turn.password_algorithm is SHA256
    assert response.message.integrity is IntegrityAlgorithm.SHA256
    assert modern.permit(PUBLIC).code == modern.refresh(0).code == 0


@pytest.mark.rfc(8489, "9.2.4")
def test_a_client_that_lowers_the_offer_it_repeats_is_a_400(modern: WireClient) -> None:
    modern.get_challenged()
    modern.turn.offered = (PasswordAlgorithmEntry(PasswordAlgorithm.MD5),)
    modern.turn.password_algorithm = PasswordAlgorithm.MD5
    assert modern.allocate().code == 400


@pytest.mark.rfc(8489, "9.2.4")
def test_a_client_that_names_an_algorithm_without_the_offer_is_a_400(modern: WireClient) -> None:
    modern.get_challenged()
    modern.turn.offered = None
    assert modern.allocate().code == 400


@pytest.mark.rfc(8489, "9.2.4")
def test_a_nonce_whose_features_were_taken_out_on_the_way_is_stale(connect: Connect) -> None:
    client = connect()
    client.get_challenged()
    assert client.turn.nonce is not None
    client.turn.nonce = client.turn.nonce[:9] + "AAAA" + client.turn.nonce[13:]
    assert client.allocate().code == 438


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A relay with static users, a second realm at another port, strict channels, and no relayed IPv6."""
    ports = {name: free_port() for name in ("udp", "clinic")}
    with run_relay(
        tmp_path_factory.mktemp("clinic"),
        udp_ports=list(ports.values()),
        users={"alice": "wonderland"},
        realms={"clinic": {"ports": [ports["clinic"]], "users": {"alice": "another"}, "max_allocations": 2}},
        relay_addresses=["127.0.0.1"],
        strict_channels=True,
        dtls_ports=[],
    ) as server:
        yield Server(server.service, {**server.ports, **ports})


@contextlib.contextmanager
def user(server: Server, password: str, transport: str = "udp", *, is_modern: bool = False) -> Iterator[WireClient]:
    turn = TurnClient("alice", password, is_modern=is_modern)
    with contextlib.closing(server.client_of(turn, transport)) as client:
        yield client


@pytest.fixture
def at_clinic(clinic: Server) -> Server:
    """The same relay, asked at the port of the other realm."""
    return clinic._replace(ports={**clinic.ports, "udp": clinic.ports["clinic"]})


@pytest.mark.rfc(8489, "9.2.4")
def test_a_static_user_is_found_by_the_hash_of_its_name(at_clinic: Server) -> None:
    with user(at_clinic, "another", is_modern=True) as client:
        client.get_challenged()
        assert b"alice" not in client.turn.build(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17))
        assert client.allocate().code == 0


# Realms


@pytest.mark.rfc(8489, "9.2.4")
def test_each_port_challenges_with_its_own_realm(clinic: Server, at_clinic: Server) -> None:
    with user(clinic, "wonderland") as general, user(at_clinic, "another") as special:
        assert general.get_challenged().get(REALM) == "example.org"
        assert special.get_challenged().get(REALM) == "clinic"


@pytest.mark.rfc(8489, "9.2.4")
def test_a_password_of_one_realm_is_wrong_in_the_other(clinic: Server, at_clinic: Server) -> None:
    with user(clinic, "another") as general, user(at_clinic, "wonderland") as special:
        assert general.allocate().code == special.allocate().code == 401


@pytest.mark.rfc(8656, "7.2")
def test_a_full_realm_is_a_486_and_leaves_the_others_alone(clinic: Server, at_clinic: Server) -> None:
    with (
        user(at_clinic, "another") as one,
        user(at_clinic, "another") as two,
        user(at_clinic, "another") as three,
        user(clinic, "wonderland") as general,
    ):
        assert [client.allocate().code for client in (one, two, three)] == [0, 0, 486]
        assert general.allocate().code == 0
        assert one.refresh(0).code == 0
        assert three.allocate().code == 0


# Channel numbers


@pytest.mark.rfc(8656, "12")
@pytest.mark.parametrize(("number", "code"), [(0x3FFF, 400), (0x4000, 0), (0x4FFF, 0), (0x5000, 400), (0x7FFE, 400)])
def test_strict_channels_end_where_the_rfc_ends_them(clinic: Server, number: int, code: int) -> None:
    with user(clinic, "wonderland") as client:
        client.relayed()
        assert client.bind(number, PUBLIC).code == code


@pytest.mark.rfc(8656, "12")
def test_without_strictness_the_channels_of_deployed_clients_are_taken(connect: Connect) -> None:
    client = connect()
    client.relayed()
    assert client.bind(0x5000, PUBLIC).code == client.bind(0x7FFE, PUBLIC._replace(port=4001)).code == 0


# Both families (RFC 8656 §7.2)


@pytest.mark.rfc(8656, "7.2")
def test_a_dual_allocation_has_an_address_of_each_family(connect: Connect) -> None:
    client = connect()
    response = client.allocate((ADDITIONAL_ADDRESS_FAMILY, IPV6))
    assert {address.family for address in response.message.get_all(XOR_RELAYED_ADDRESS)} == {IPV4, IPV6}
    assert not response.has(ADDRESS_ERROR_CODE)
    assert client.permit(PUBLIC, PUBLIC_V6).code == 0


def test_a_client_of_debian_gets_both_families_with_the_number_of_a_draft(connect: Connect) -> None:
    response = connect().allocate((DRAFT_ADDITIONAL_ADDRESS_FAMILY, IPV6))
    assert {address.family for address in response.message.get_all(XOR_RELAYED_ADDRESS)} == {IPV4, IPV6}


@pytest.mark.rfc(8656, "8.2")
@pytest.mark.parametrize(("family", "lost", "kept"), [(IPV4, PUBLIC, PUBLIC_V6), (IPV6, PUBLIC_V6, PUBLIC)])
def test_a_refresh_to_zero_of_one_family_leaves_the_other(
    connect: Connect, family: int, lost: TransportAddress, kept: TransportAddress
) -> None:
    client = connect()
    assert client.allocate((ADDITIONAL_ADDRESS_FAMILY, IPV6)).code == 0
    assert client.refresh(0, (REQUESTED_ADDRESS_FAMILY, family)).get(LIFETIME) == 0
    assert client.permit(lost).code == 443
    assert client.permit(kept).code == 0
    assert client.refresh(900, (REQUESTED_ADDRESS_FAMILY, family)).code == 443
    assert client.refresh(900, (REQUESTED_ADDRESS_FAMILY, IPV4 + IPV6 - family)).get(LIFETIME) == 900


@pytest.mark.rfc(8656, "7.2")
@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
def test_a_family_that_is_not_relayed_is_named_with_its_error(clinic: Server, transport: str) -> None:
    with user(clinic, "wonderland", transport) as client:
        response = client.allocate((ADDITIONAL_ADDRESS_FAMILY, IPV6))
        assert response.code == 0
        assert [address.family for address in response.message.get_all(XOR_RELAYED_ADDRESS)] == [IPV4]
        error = response.get(ADDRESS_ERROR_CODE)
        assert (error.family, error.code) == (IPV6, 440)


@pytest.mark.rfc(8656, "7.2")
def test_a_single_family_that_is_not_relayed_is_a_440(clinic: Server) -> None:
    with user(clinic, "wonderland") as client:
        assert client.allocate((REQUESTED_ADDRESS_FAMILY, IPV6)).code == 440


@pytest.mark.rfc(8656, "7.2")
@pytest.mark.parametrize(
    "fields",
    [
        ((ADDITIONAL_ADDRESS_FAMILY, IPV4),),
        ((ADDITIONAL_ADDRESS_FAMILY, IPV6), (REQUESTED_ADDRESS_FAMILY, IPV4)),
    ],
    ids=["IPv4 as the second", "two wishes"],
)
def test_contradictory_wishes_for_families_are_a_400(connect: Connect, fields: tuple[tuple[object, int], ...]) -> None:
    assert connect().allocate(*fields).code == 400  # type: ignore[arg-type]


# Alternates and draining (RFC 8489 §10)


ALTERNATE_TEXTS = ["198.41.0.9:3478", "[2620:fe::9]:3478"]


@pytest.mark.rfc(8489, "10")
@pytest.mark.parametrize(("host", "family"), [("127.0.0.1", IPV4), ("::1", IPV6)])
@pytest.mark.parametrize("transport", ["udp", "tcp", "tls", "dtls"])
def test_a_full_relay_names_an_alternate_of_the_clients_family(
    full: Server, transport: str, host: str, family: int
) -> None:
    with contextlib.closing(full.client(transport, host)) as client:
        response = client.allocate()
        assert response.code == 300
        assert response.get(ALTERNATE_SERVER) == ALTERNATES[family]
        assert response.message.integrity is not None


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A relay with one port, which is taken."""
    with (
        run_relay(
            tmp_path_factory.mktemp("full"),
            port_min=49_990,
            port_max=49_990,
            relay_addresses=["127.0.0.1"],
            quota={"total_share_percent": 100},
            alternate_servers=ALTERNATE_TEXTS,
        ) as server,
        contextlib.closing(server.client()) as first,
    ):
        assert first.allocate().code == 0
        yield server


@pytest.mark.rfc(8489, "10")
@pytest.mark.parametrize(("alternates", "code"), [(ALTERNATE_TEXTS, 300), ([], 508)], ids=["alternates", "none"])
def test_a_draining_relay_sends_new_clients_away_and_refreshes_the_old_ones(
    tmp_path: Path, alternates: list[str], code: int
) -> None:
    with (
        run_relay(tmp_path, alternate_servers=alternates, drain_seconds=60) as server,
        contextlib.closing(server.client()) as old,
        contextlib.closing(server.client()) as new,
    ):
        assert old.allocate().code == 0
        server.service.process.terminate()
        answers = iter(lambda: new.allocate().code, code)
        for answer in answers:  # those that came before the signal
            assert answer == 0
            assert new.refresh(0).code == 0
        assert old.refresh(900).get(LIFETIME) == 900
        assert old.bind(0x4000, PUBLIC).code == 0
        assert old.refresh(0).code == 0  # the last one: the service ends by itself, long before the deadline
        assert server.service.process.wait(timeout=10) == 0


# Off by default


def test_everything_that_opens_something_is_off_by_default() -> None:
    settings = RelaySettings()
    assert not (settings.dtls_ports or settings.proxy_sources or settings.alternate_servers)
    for name in ("tcp_allocations", "mobility", "behaviour_discovery", "share_with_pages", "strict_channels"):
        assert getattr(settings, name) is False
    assert settings.peers.allow == ()
    assert not (settings.users or settings.realms or settings.secrets)


def test_without_dtls_ports_nobody_listens_there(clinic: Server) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", clinic.ports["dtls"]))
        sock.settimeout(5)
        sock.send(b"\x16\xfe\xfd")
        with pytest.raises(ConnectionRefusedError):
            sock.recv(1)


def test_dtls_on_a_udp_port_is_junk(clinic: Server) -> None:
    with contextlib.closing(clinic.client()) as client:
        client.wire.send(bytes.fromhex("16fefd0000000000000000000c") + bytes(12))
        assert client.hears_nothing_more()
