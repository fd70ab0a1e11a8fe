from hypothesis import given
from hypothesis import strategies as st

from sfu.rate_limit import RateLimit


def test_a_burst_is_admitted_and_then_as_many_as_the_rate_allows() -> None:
    limit = RateLimit[str](per_second=8, burst=3, max_keys=8)
    assert [limit.admits("a", 0.0) for _ in range(5)] == [True, True, True, False, False]
    assert [limit.admits("a", 0.125) for _ in range(2)] == [True, False]
    assert [limit.admits("a", 100.0) for _ in range(4)] == [True, True, True, False]


def test_a_burst_of_any_rate_is_admitted_to_the_last_one() -> None:
    for per_second in (3, 50, 400):
        limit = RateLimit[str](per_second=per_second, burst=1600, max_keys=1)
        assert [limit.admits("a", 12345.6) for _ in range(1601)].count(True) == 1600


def test_one_key_does_not_use_up_the_share_of_another() -> None:
    limit = RateLimit[str](per_second=1, burst=1, max_keys=8)
    assert limit.admits("a", 0.0) and not limit.admits("a", 0.0)
    assert limit.admits("b", 0.0)


def test_who_was_silent_for_longest_is_forgotten_first() -> None:
    limit = RateLimit[str](per_second=1, burst=1, max_keys=2)
    limit.admits("a", 0.0)
    limit.admits("b", 0.0)
    limit.admits("a", 0.0)
    limit.admits("c", 0.0)
    assert not limit.admits("a", 0.0)
    assert limit.admits("b", 0.0)


@given(st.lists(st.tuples(st.integers(0, 20), st.floats(0, 1)), max_size=100))
def test_nobody_gets_more_than_burst_and_rate_and_the_table_stays_bounded(steps: list[tuple[int, float]]) -> None:
    limit = RateLimit[int](per_second=5, burst=4, max_keys=21)
    now, admitted = 0.0, dict.fromkeys(range(21), 0)
    for key, pause in steps:
        now += pause
        admitted[key] += limit.admits(key, now)
        assert admitted[key] <= 4 + 5 * now + 1e-4
        assert len(limit) <= 21
