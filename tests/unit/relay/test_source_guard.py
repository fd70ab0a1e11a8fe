import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.source_guard import MAX_CELLS, SourceGuard
from stun.address import TransportAddress

SALT = b"salt of this process"


def ip(text: str) -> bytes:
    return TransportAddress.parse(text, 0).ip


CLINIC = ip("91.198.174.192")


def test_a_burst_passes_and_then_the_rate() -> None:
    guard = SourceGuard(SALT, per_second=50, burst=500)
    assert [guard.admit(CLINIC, 1_000.0) for _ in range(501)] == [True] * 500 + [False]
    assert [guard.admit(CLINIC, 1_000.02) for _ in range(2)] == [True, False]
    assert [guard.admit(CLINIC, 1_001.02) for _ in range(51)] == [True] * 50 + [False]
    assert guard.refused == 3


def test_a_hospital_behind_one_address_passes_at_nine_o_clock() -> None:
    guard = SourceGuard(SALT)
    for second in range(20):  # a thousand clients with two challenges each, within twenty seconds
        for _ in range(70):
            assert guard.admit(CLINIC, 32_400.0 + second)


def test_what_is_refused_costs_nothing() -> None:
    guard = SourceGuard(SALT, per_second=1, burst=1)
    assert guard.admit(CLINIC, 0.0)
    for tenth in range(1, 10):
        assert not guard.admit(CLINIC, tenth / 10)
    assert guard.admit(CLINIC, 1.0)


def test_ipv4_sources_are_told_apart_to_the_last_bit() -> None:
    guard = SourceGuard(SALT, per_second=1, burst=1)
    assert guard.admit(ip("91.198.174.192"), 0.0)
    assert guard.admit(ip("91.198.174.193"), 0.0)
    assert not guard.admit(ip("91.198.174.192"), 0.0)


def test_ipv6_sources_of_one_subscriber_share_a_bucket() -> None:
    guard = SourceGuard(SALT, per_second=1, burst=1)
    assert guard.admit(ip("2a02:8109:1:2200::1"), 0.0)
    assert not guard.admit(ip("2a02:8109:1:22ff:ffff::2"), 0.0)
    assert guard.admit(ip("2a02:8109:1:2300::1"), 0.0)


def test_a_flood_of_forged_sources_does_not_free_a_noisy_one() -> None:
    guard = SourceGuard(SALT)
    while guard.admit(CLINIC, 0.0):
        pass
    for number in range(3 * MAX_CELLS):
        guard.admit(number.to_bytes(4), 0.0)
    assert not guard.admit(CLINIC, 0.0)


def test_a_flood_of_forged_sources_keeps_no_good_one_out() -> None:
    guard = SourceGuard(SALT)
    for number in range(300_000):  # within one second
        guard.admit(number.to_bytes(4), number / 300_000)
    assert all(guard.admit(ip(f"91.198.{third}.1"), 1.0) for third in range(256))


def test_few_good_sources_suffer_from_a_thousand_noisy_ones() -> None:
    guard = SourceGuard(SALT, per_second=1, burst=2)
    for number in range(1_000):
        guard.admit(number.to_bytes(4), 0.0)
        guard.admit(number.to_bytes(4), 0.0)
    refused = sum(not guard.admit((1 << 24 | number).to_bytes(4), 0.0) for number in range(10_000))
    assert refused < 100  # ten are to be expected


@pytest.mark.parametrize(
    ("salt", "options"),
    [
        (b"short", {}),
        (SALT, {"per_second": 0}),
        (SALT, {"burst": 0}),
        (SALT, {"cells": 3}),
        (SALT, {"cells": 0}),
        (SALT, {"cells": 2 * MAX_CELLS}),
    ],
)
def test_senseless_bounds_are_refused(salt: bytes, options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"bytes|above zero|power of two"):
        SourceGuard(salt, **options)


@given(st.lists(st.tuples(st.sampled_from([bytes(4), b"\0\0\0\1", bytes(16)]), st.floats(0.0, 2.0))), st.integers(0, 4))
def test_no_source_gets_more_than_its_rate_however_small_the_table(
    steps: list[tuple[bytes, float]], exponent: int
) -> None:
    guard = SourceGuard(SALT, per_second=2.0, burst=3, cells=1 << exponent)
    now = 0.0
    admitted: dict[bytes, list[float]] = {}
    for source, pause in steps:
        now += pause
        if guard.admit(source, now):
            admitted.setdefault(source, []).append(now)
    for instants in admitted.values():
        for start in range(len(instants)):
            for end in range(start, len(instants)):
                assert end - start + 1 <= 3 + 2.0 * (instants[end] - instants[start]) + 1e-5
