import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.rate_limiter import (
    AddressLimiter,
    Pace,
    RateExceeded,
    TokenBucket,
    address_key,
    networks_around,
    peer_key,
)

PACE = Pace(interval=6.0, burst=10)
NOW = 3_000_000.1


def test_a_burst_passes_and_one_more_does_not() -> None:
    bucket = TokenBucket(PACE, NOW)
    for _ in range(10):
        bucket.take(NOW)
    with pytest.raises(RateExceeded) as caught:
        bucket.take(NOW)
    assert caught.value.retry_after == pytest.approx(6.0, abs=1e-3)


def test_a_token_comes_back_with_every_interval() -> None:
    bucket = TokenBucket(PACE, NOW)
    for _ in range(10):
        bucket.take(NOW)
    bucket.take(NOW + 6.0)
    with pytest.raises(RateExceeded):
        bucket.take(NOW + 6.0)


@given(st.lists(st.floats(0, 30), max_size=200))
def test_no_minute_lets_more_than_burst_and_refill_pass(pauses: list[float]) -> None:
    bucket = TokenBucket(PACE, 0.0)
    passed: list[float] = []
    now = 0.0
    for pause in pauses:
        now += pause
        try:
            bucket.take(now)
        except RateExceeded:
            continue
        passed.append(now)
    for first in passed:
        assert sum(first <= instant < first + 60 for instant in passed) <= 20


def test_a_check_takes_nothing() -> None:
    limiter = AddressLimiter(PACE, 8)
    limiter.check(b"a", NOW)
    assert len(limiter) == 0
    assert limiter.next_expiry() is None


def test_several_tokens_are_taken_at_once_or_not_at_all() -> None:
    bucket = TokenBucket(PACE, NOW)
    bucket.take(NOW, 6)
    with pytest.raises(RateExceeded):
        bucket.take(NOW, 5)
    bucket.take(NOW, 4)


def test_what_is_charged_beyond_an_empty_bucket_is_owed_but_no_more_than_the_debt() -> None:
    limiter = AddressLimiter(PACE, 8, max_debt=2)
    for _ in range(50):
        limiter.charge(b"a", NOW)
    with pytest.raises(RateExceeded) as caught:
        limiter.check(b"a", NOW)
    assert caught.value.retry_after == pytest.approx(18.0, abs=1e-3)
    limiter.check(b"a", NOW + 18.0)
    assert limiter.next_expiry() == NOW + 72


def test_attempts_count_by_address() -> None:
    limiter = AddressLimiter(PACE, 8)
    for _ in range(10):
        limiter.take(b"a", NOW)
    with pytest.raises(RateExceeded):
        limiter.take(b"a", NOW)
    limiter.take(b"b", NOW)


def test_the_table_is_bounded_by_forgetting_the_oldest() -> None:
    limiter = AddressLimiter(PACE, 3)
    for number in range(9):
        limiter.take(bytes([number]), NOW + number)
    assert len(limiter) == 3


def test_an_address_is_forgotten_when_its_attempts_no_longer_count() -> None:
    limiter = AddressLimiter(PACE, 8)
    limiter.take(b"a", NOW)
    assert limiter.next_expiry() == NOW + 60
    limiter.expire(NOW + 59)
    assert len(limiter) == 1
    limiter.expire(NOW + 60)
    assert len(limiter) == 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
    ],
)
def test_addresses_count_together_by_ipv4_address_and_ipv6_64(one: str, other: str, same: bool) -> None:  # noqa: FBT001
    assert (address_key(one) == address_key(other)) is same


def test_a_path_is_no_address() -> None:
    with pytest.raises(ValueError, match="address"):
        address_key("/run/socket")


@pytest.mark.parametrize("address", [None, "", "a.socket"])
def test_what_is_no_ip_transport_has_a_key_too(address: str | None) -> None:
    assert peer_key(address) == b""


def test_a_peer_is_counted_by_its_address() -> None:
    assert peer_key("2001:db8::1%eth0") == address_key("2001:db8::1")


def test_an_ipv6_address_lies_in_a_56_and_a_48() -> None:
    ip = bytes.fromhex("20010db8112233445566")
    assert networks_around("2001:db8:1122:3344:5566::1") == (ip[:7], ip[:6])


@pytest.mark.parametrize("address", ["192.0.2.1", "::ffff:192.0.2.1", "a.socket", None])
def test_nothing_else_lies_in_a_wider_network(address: str | None) -> None:
    assert networks_around(address) == ()
