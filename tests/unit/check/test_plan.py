import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from check.plan import (
    CONNECT_SECONDS,
    HANDSHAKE_SECONDS,
    LOOKUP_SECONDS,
    MAX_POINTS,
    PAGES_SECONDS,
    TOTAL_SECONDS,
    PlanError,
    Point,
    Ports,
    Purpose,
    Transport,
    pages_point,
    parse_ports,
    points_of_urls,
    relay_points,
)
from check.target import Target

RELAY = "relay.example.org"


def test_without_a_service_the_documented_ports_are_tried() -> None:
    tried = [(point.transport.value, point.port) for point in relay_points(RELAY, Ports())]
    assert tried == [("udp", 3478), ("udp", 3479), ("tcp", 3478), ("tcp", 3479), ("tls", 5349), ("tls", 5350)]


def test_a_stun_address_where_turn_is_too_makes_no_second_point() -> None:
    assert points_of_urls([f"stun:{RELAY}:3478", f"turn:{RELAY}:3478?transport=udp"]) == [
        Point(Purpose.TURN, Transport.UDP, RELAY, 3478)
    ]


def test_a_stun_host_of_its_own_is_a_point_for_stun() -> None:
    points = points_of_urls(["stun:stun.example.org", f"turns:{RELAY}"])
    assert points == [
        Point(Purpose.STUN, Transport.UDP, "stun.example.org", 3478),
        Point(Purpose.TURN, Transport.TLS, RELAY, 5349),
    ]


def test_a_port_over_udp_and_over_tcp_is_two_points() -> None:
    assert len(points_of_urls([f"turn:{RELAY}:3478?transport={each}" for each in ("udp", "tcp")])) == 2


def test_dtls_is_left_out() -> None:
    assert points_of_urls([f"turns:{RELAY}:5349?transport=udp"]) == []


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert points_of_urls(["turn:[2001:db8::7]:3478?transport=tcp"])[0].host == "2001:db8::7"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://relay.example.org",
        "turn:",
        "turn:relay.example.org:0",
        "turn:relay.example.org:99999",
        "turn:relay.example.org?transport=sctp",
        "turn:user@relay.example.org",
        "turn:\x1b[31m",
        "turn:" + "a" * 600,
    ],
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(PlanError):
        points_of_urls([url])


def test_a_service_cannot_make_us_knock_at_any_number_of_ports() -> None:
    with pytest.raises(PlanError, match=f"more than {MAX_POINTS}"):
        points_of_urls([f"turn:{RELAY}:{port}" for port in range(3000, 3001 + MAX_POINTS)])


@given(st.lists(st.text(max_size=60) | st.from_regex(r"(stun|turns?):[a-z\[\]:.0-9?=]*", fullmatch=True), max_size=5))
def test_any_addresses_make_points_or_a_mistake(urls: list[str]) -> None:
    with contextlib.suppress(PlanError):
        assert all(1 <= point.port <= 65535 for point in points_of_urls(urls))


def test_ports_are_read_once_each() -> None:
    assert parse_ports("3478, 443,3478") == (3478, 443)
    assert parse_ports("") == ()


@pytest.mark.parametrize("text", ["0", "65536", "a", "1;2", "-1", "٣", "1,2,3,4,5,6,7,8,9"])
def test_ports_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(PlanError):
        parse_ports(text)


def test_pages_over_http_are_a_point_without_tls() -> None:
    assert pages_point(Target("localhost", 8080, is_https=False)).transport is Transport.TCP
    assert pages_point(Target("localhost", 443)).transport is Transport.TLS


def test_there_is_time_for_every_port_after_the_slowest_names_and_pages() -> None:
    assert TOTAL_SECONDS - 2 * LOOKUP_SECONDS - PAGES_SECONDS >= CONNECT_SECONDS + HANDSHAKE_SECONDS
