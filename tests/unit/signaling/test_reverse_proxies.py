import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.reverse_proxies import MAX_HOPS, ReverseProxies

PROXY = "192.0.2.1"
CLIENT = "203.0.113.9"


@pytest.fixture
def proxies() -> ReverseProxies:
    return ReverseProxies(["192.0.2.0/28", "2001:db8:1::/64"])


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (CLIENT, CLIENT),
        (f" {CLIENT} ", CLIENT),
        (f"198.51.100.7, {CLIENT}", CLIENT),
        (f"{CLIENT}, 192.0.2.2, 2001:db8:1::5", CLIENT),
        ("2001:db8::9", "2001:db8::9"),
        ("", PROXY),
        ("unknown", PROXY),
        ("_hidden, 192.0.2.2", "192.0.2.2"),
        (f"{CLIENT}:1234", PROXY),
    ],
    ids=[
        "alone",
        "blanks",
        "what the client claims",
        "two proxies",
        "IPv6",
        "nothing",
        "words",
        "a word first",
        "a port",
    ],
)
def test_the_client_is_the_last_address_that_is_no_proxy(proxies: ReverseProxies, header: str, client: str) -> None:
    assert proxies.find_client(PROXY, header) == client


def test_who_is_named_is_a_proxy_and_nobody_else(proxies: ReverseProxies) -> None:
    assert PROXY in proxies
    assert "2001:db8:1::1" in proxies
    assert CLIENT not in proxies
    assert None not in proxies
    assert "no address" not in proxies


def test_without_networks_nobody_is_believed_and_a_reload_changes_that() -> None:
    proxies = ReverseProxies()
    assert PROXY not in proxies
    proxies.configure(["192.0.2.1/32"])
    assert PROXY in proxies


def test_a_header_of_proxies_alone_is_not_read_to_its_beginning(proxies: ReverseProxies) -> None:
    header = ", ".join([CLIENT, *["192.0.2.2"] * MAX_HOPS])
    assert proxies.find_client(PROXY, header) == "192.0.2.2"


@given(st.text(max_size=200))
def test_whatever_the_header_says_an_address_comes_out(header: str) -> None:
    found = ReverseProxies(["192.0.2.0/28"]).find_client(PROXY, header)
    assert str(ipaddress.ip_address(found)) == found
