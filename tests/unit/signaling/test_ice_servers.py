import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.appointments import Appointment, Role, Seat, Tier
from signaling.ice_servers import (
    InvalidHost,
    RelayPorts,
    list_ice_servers,
    name_subject,
    parse_authority,
    parse_host,
    resolve_host,
)

PORTS = RelayPorts(udp=(3478, 3479), tcp=(3478, 3479), tls=(5349, 5350))


class CountingIssuer:
    def __init__(self) -> None:
        self.issued = 0

    def issue(self, now_unix: int, subject: bytes) -> tuple[str, str]:
        self.issued += 1
        return f"{now_unix + 600}:{subject.decode()}", "secret-password"


def test_the_list_has_one_entry_for_stun_and_one_for_turn() -> None:
    stun, turn = list_ice_servers("relay.example.org", PORTS, CountingIssuer(), 1_000, b"subject")
    assert stun.model_dump(mode="json", exclude_none=True) == {"urls": ["stun:relay.example.org:3478"]}
    assert turn.model_dump(mode="json") == {
        "urls": [
            "turn:relay.example.org:3478?transport=udp",
            "turn:relay.example.org:3478?transport=tcp",
            "turns:relay.example.org:5349?transport=tcp",
        ],
        "username": "1600:subject",
        "credential": "secret-password",
    }


def test_an_ipv6_host_stands_in_brackets() -> None:
    stun, turn = list_ice_servers("2001:db8::1", PORTS, CountingIssuer(), 0, b"subject")
    assert stun.urls == ("stun:[2001:db8::1]:3478",)
    assert turn.urls[2] == "turns:[2001:db8::1]:5349?transport=tcp"


def test_without_a_relay_no_credential_is_issued() -> None:
    issuer = CountingIssuer()
    assert list_ice_servers("example.org", RelayPorts(), issuer, 0, b"subject") == ()
    assert issuer.issued == 0


def test_without_udp_there_is_no_stun_url() -> None:
    (turn,) = list_ice_servers("example.org", RelayPorts(tls=(443,)), CountingIssuer(), 0, b"subject")
    assert turn.urls == ("turns:example.org:443?transport=tcp",)


def test_repr_hides_the_credential() -> None:
    assert "secret-password" not in repr(list_ice_servers("example.org", PORTS, CountingIssuer(), 0, b"subject"))


@pytest.mark.parametrize(
    ("header", "host"),
    [
        ("localhost:8080", "localhost"),
        ("Video.Example.ORG", "video.example.org"),
        ("203.0.113.7:443", "203.0.113.7"),
        ("[2001:DB8:0::1]:8080", "2001:db8::1"),
        ("[::1]", "::1"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ],
)
def test_the_host_of_the_request_is_read(header: str, host: str) -> None:
    assert resolve_host("", header) == host


@pytest.mark.parametrize(
    "header",
    [
        "",
        ":80",
        "a b",
        "exa_mple.org",
        "-a.example",
        "a..b",
        "example.org.",
        "example.org:0",
        "example.org:65536",
        "example.org:80:80",
        "example.org/path",
        "user@example.org",
        "1.2.3",
        "01.2.3.4",
        "256.1.1.1",
        "[fe80::1%25eth0]",
        "[1.2.3.4]",
        "[::1",
        "::1",
        "example.org\n",
        "b\u00fccher.example",
        "a" * 64 + ".example",
        "a." * 126 + "aa",
        "example.org?transport=udp",
    ],
)
def test_a_malformed_host_header_is_refused(header: str) -> None:
    with pytest.raises(InvalidHost):
        resolve_host("", header)


def test_the_configured_host_wins_but_the_header_is_checked_too() -> None:
    assert resolve_host("relay.example.org", "localhost") == "relay.example.org"
    with pytest.raises(InvalidHost):
        resolve_host("relay.example.org", "no host")


@pytest.mark.parametrize("host", ["fe80::1%eth0", "", "a:b"])
def test_parse_host_refuses(host: str) -> None:
    with pytest.raises(InvalidHost):
        parse_host(host)


@given(st.text(max_size=60))
def test_resolve_host_raises_nothing_but_its_own_error(text: str) -> None:
    with contextlib.suppress(InvalidHost):
        assert set(resolve_host("", text)) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-:")


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("Video.example.org", ("video.example.org", None)),
        ("video.example.org:8443", ("video.example.org", 8443)),
        ("[2001:DB8::1]:443", ("2001:db8::1", 443)),
    ],
)
def test_an_authority_is_a_host_and_perhaps_a_port(text: str, read: tuple[str, int | None]) -> None:
    assert parse_authority(text) == read


@pytest.mark.parametrize("text", ["", "[::1", "a:0", "a:65536", "me@a", "a/b", '"><script>'])
def test_what_is_no_authority_is_refused(text: str) -> None:
    with pytest.raises(InvalidHost):
        parse_authority(text)


ROOM = Appointment(bytes(16), Tier.BASIS, datetime(2026, 11, 22, 9, 0, tzinfo=UTC))
OTHER_ROOM = Appointment(bytes(15) + b"1", Tier.BASIS, datetime(2026, 11, 22, 9, 0, tzinfo=UTC))
SEAT = Seat(ROOM, Role.PARTICIPANT, 1)


@pytest.mark.parametrize("again", ["2001:db8::1", "2001:db8:0:ffff::1"])
def test_whoever_joins_again_from_the_same_48_is_the_same_subject(again: str) -> None:
    assert name_subject(SEAT, again) == name_subject(SEAT, "2001:db8::1")


@pytest.mark.parametrize(
    ("seat", "address"),
    [
        (SEAT, "192.0.2.2"),
        (SEAT, "2001:db8::1"),
        (SEAT, None),
        (Seat(ROOM, Role.ORGANISER, 0), "192.0.2.1"),
        (Seat(OTHER_ROOM, Role.PARTICIPANT, 1), "192.0.2.1"),
    ],
)
def test_another_seat_or_network_is_another_subject(seat: Seat, address: str | None) -> None:
    assert name_subject(seat, address) != name_subject(SEAT, "192.0.2.1")


def test_each_participant_of_a_conference_is_a_subject_of_its_own() -> None:
    conference = Appointment(bytes(16), Tier.PLUS, datetime(2026, 11, 22, 9, 0, tzinfo=UTC), participants=2)
    seats = [Seat(conference, Role.ORGANISER, 0), *(Seat(conference, Role.PARTICIPANT, number) for number in (1, 2))]
    assert len({name_subject(seat, "192.0.2.1") for seat in seats}) == 3
