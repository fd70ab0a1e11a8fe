import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfu.throughput import AcknowledgedRate, ApplicationLimit


def arriving(rate: AcknowledgedRate, bits_per_second: float, begin: float, end: float) -> None:
    at, step = begin, 8000 / bits_per_second
    while at < end:
        rate.receive(at - 0.1, at, 1000)
        at += step


def test_the_rate_is_what_arrived_in_the_last_half_second() -> None:
    rate = AcknowledgedRate()
    arriving(rate, 1e6, 10.0, 11.0)
    assert rate.bits_per_second == pytest.approx(1e6)
    arriving(rate, 200e3, 11.0, 11.6)
    assert rate.bits_per_second == pytest.approx(200e3, rel=0.1)


def test_nothing_is_said_before_enough_has_arrived() -> None:
    rate = AcknowledgedRate()
    assert rate.bits_per_second is None
    arriving(rate, 1e6, 10.0, 10.14)
    assert rate.bits_per_second is None
    arriving(rate, 1e6, 10.14, 10.2)
    assert rate.bits_per_second == pytest.approx(1e6, rel=0.1)


def test_after_a_restart_only_what_left_since_then_counts() -> None:
    rate = AcknowledgedRate()
    arriving(rate, 300e3, 10.0, 11.0)
    rate.restart(2e6, 11.0)
    assert rate.bits_per_second == 2e6
    arriving(rate, 300e3, 11.0, 11.09)  # they had left before
    assert rate.bits_per_second == 2e6
    arriving(rate, 1.5e6, 11.1, 11.5)
    assert rate.bits_per_second == pytest.approx(1.5e6, rel=0.05)


def test_bytes_of_which_no_feedback_speaks_count_as_arrived() -> None:
    rate = AcknowledgedRate()
    for step in range(100):
        rate.receive(step * 0.01, step * 0.01, 600)
        rate.skip(600)
    assert rate.bits_per_second == pytest.approx(1200 * 8 * 100, rel=0.05)


@given(st.lists(st.tuples(st.floats(-10, 10), st.integers(0, 1500), st.integers(0, 10_000)), max_size=100))
def test_whatever_arrives_the_rate_is_none_or_a_rate(course: list[tuple[float, int, int]]) -> None:
    rate = AcknowledgedRate()
    for at, size, skipped in course:
        rate.receive(at, at, size)
        rate.skip(skipped)
        now = rate.bits_per_second
        assert now is None or 0 <= now < float("inf")


def limited_after(sent: list[float], estimate: float = 1e6) -> bool:
    """Whether the application is limited after a second of each of these rates."""
    limit = ApplicationLimit()
    now = 0.0
    for rate in sent:
        for _ in range(20):
            now += 0.05
            limit.send(int(rate * 0.05 / 8))
            limit.update(estimate, now)
    return limit.limited


@pytest.mark.parametrize(
    ("sent", "limited"),
    [([1e6], False), ([850e3] * 5, False), ([100e3], True), ([700e3] * 5, True), ([100e3, 1e6, 1e6], False)],
)
def test_who_sends_clearly_less_than_the_estimate_is_limited(sent: list[float], limited: bool) -> None:  # noqa: FBT001
    assert limited_after(sent) is limited
