import pytest

from signaling.connection_test import (
    ALL_TESTS_PER_MINUTE,
    MAX_LIMITED_ADDRESSES,
    TESTS_PER_MINUTE,
    TrialLimiter,
    list_test_urls,
)
from signaling.ice_servers import RelayPorts
from signaling.rate_limiter import RateExceeded, address_key


def take(limiter: TrialLimiter, address: str, now: float = 0.0) -> None:
    limiter.take(address_key(address), now)


def test_every_port_is_named_with_its_transport() -> None:
    assert list_test_urls("relay.example.org", RelayPorts((3478, 3479), (3478,), (5349, 5350))) == (
        "stun:relay.example.org:3478",
        "stun:relay.example.org:3479",
        "turn:relay.example.org:3478?transport=udp",
        "turn:relay.example.org:3479?transport=udp",
        "turn:relay.example.org:3478?transport=tcp",
        "turns:relay.example.org:5349?transport=tcp",
        "turns:relay.example.org:5350?transport=tcp",
    )


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert list_test_urls("2001:db8::1", RelayPorts((), (), (5349,))) == ("turns:[2001:db8::1]:5349?transport=tcp",)


def test_an_address_is_held_up_and_its_neighbour_is_not() -> None:
    limiter = TrialLimiter(0.0)
    for _ in range(TESTS_PER_MINUTE):
        take(limiter, "2001:db8::1")
    with pytest.raises(RateExceeded) as raised:
        take(limiter, "2001:db8::2")  # of the same /64
    assert raised.value.retry_after == pytest.approx(60 / TESTS_PER_MINUTE)
    take(limiter, "2001:db8:0:1::1")
    take(limiter, "2001:db8::1", raised.value.retry_after)


def test_all_addresses_together_are_held_up() -> None:
    limiter = TrialLimiter(0.0)
    for number in range(ALL_TESTS_PER_MINUTE):
        take(limiter, f"203.0.{number >> 8}.{number & 255}")
    with pytest.raises(RateExceeded):
        take(limiter, "198.51.100.1")
    take(limiter, "198.51.100.1", 60 / ALL_TESTS_PER_MINUTE)


def test_what_is_refused_counts_for_nobody() -> None:
    limiter = TrialLimiter(0.0)
    for attempt in range(2 * ALL_TESTS_PER_MINUTE):
        try:
            take(limiter, "203.0.113.7")
        except RateExceeded:
            continue
        assert attempt < TESTS_PER_MINUTE
    take(limiter, "203.0.113.8")


def test_no_more_addresses_are_remembered_than_there_is_room_for() -> None:
    limiter = TrialLimiter(0.0)
    for number in range(MAX_LIMITED_ADDRESSES + 10):
        take(limiter, f"10.0.{number >> 8}.{number & 255}", float(number))
    assert len(limiter._by_address) <= MAX_LIMITED_ADDRESSES
