import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfu.delay_trend import PathUse
from sfu.rate_control import LinkCapacity, RateControl

FLOOR, CEILING = 30e3, 5e6
TICK = 0.05
ROUND_TRIP = 0.1


class Course:
    def __init__(self, start: float = 1e6) -> None:
        self.control = RateControl(start, FLOOR, CEILING)
        self.now = 10.0

    def go(self, use: PathUse, seconds: float, *, arrives: float | None = None, limited: bool = False) -> list[float]:
        """Update every 50 ms; everything that is sent arrives unless something else is said."""
        rates = []
        for _ in range(round(seconds / TICK)):
            self.now += TICK
            acknowledged = self.control.rate if arrives is None else arrives
            self.control.update(use, acknowledged, ROUND_TRIP, self.now, limited=limited)
            rates.append(self.control.rate)
        return rates


def test_far_from_where_a_queue_grew_the_rate_rises_by_eight_percent_a_second() -> None:
    course = Course()
    course.go(PathUse.NORMAL, TICK)
    course.go(PathUse.NORMAL, 3.0)
    assert course.control.rate == pytest.approx(1e6 * 1.08**3, rel=1e-6)


def test_a_queue_lowers_the_rate_below_what_arrives() -> None:
    course = Course()
    assert course.go(PathUse.OVERUSE, TICK, arrives=800e3) == [pytest.approx(680e3)]


def test_what_arrives_of_little_lowers_the_rate_by_steps_until_the_queue_has_grown_for_half_a_second() -> None:
    course = Course()
    lowered = course.go(PathUse.OVERUSE, 0.5, arrives=100e3, limited=True)
    assert lowered[0] == pytest.approx(850e3)
    assert lowered[-1] == pytest.approx(1e6 * 0.85**5)  # once in a round trip
    assert course.go(PathUse.OVERUSE, TICK, arrives=100e3, limited=True) == [pytest.approx(85e3)]


def test_a_queue_that_has_emptied_is_doubted_anew() -> None:
    course = Course()
    for _ in range(3):
        course.go(PathUse.OVERUSE, 0.2, arrives=100e3, limited=True)
        course.go(PathUse.NORMAL, 0.2, arrives=100e3, limited=True)
    assert course.control.rate == pytest.approx(1e6 * 0.85**6)


def test_near_where_a_queue_grew_the_rate_rises_by_half_a_packet_for_each_response_time() -> None:
    course = Course()
    course.go(PathUse.OVERUSE, TICK, arrives=900e3)
    course.go(PathUse.NORMAL, TICK)
    before = course.control.rate
    course.go(PathUse.NORMAL, 1.0)
    # 765 kbit/s at 30 frames a second are three packets of 8.5 kbit each; twice (100 ms + 100 ms) for one of them
    assert course.control.rate - before == pytest.approx(8500 / 0.4, rel=0.02)


def test_when_clearly_more_arrives_than_where_the_queue_grew_the_rate_rises_fast_again() -> None:
    course = Course()
    course.go(PathUse.OVERUSE, TICK, arrives=1e6)
    course.go(PathUse.NORMAL, TICK)
    course.go(PathUse.NORMAL, TICK, arrives=2e6)
    assert not course.control.link.known


def test_the_rate_is_lowered_once_in_a_round_trip_unless_half_of_it_is_gone() -> None:
    course = Course()
    course.go(PathUse.OVERUSE, TICK, arrives=1e6)
    assert course.go(PathUse.OVERUSE, TICK, arrives=700e3) == [pytest.approx(850e3)]
    assert course.go(PathUse.OVERUSE, TICK, arrives=700e3) == [pytest.approx(595e3)]
    assert course.go(PathUse.OVERUSE, TICK, arrives=200e3) == [pytest.approx(170e3)]


def test_while_a_queue_empties_the_rate_holds() -> None:
    assert set(Course().go(PathUse.UNDERUSE, 2.0)) == {1e6}


def test_the_rate_rises_to_a_quarter_above_what_arrives_and_no_further() -> None:
    assert max(Course(300e3).go(PathUse.NORMAL, 60.0, arrives=300e3)) == pytest.approx(385e3)
    assert set(Course(1e6).go(PathUse.NORMAL, 60.0, arrives=300e3)) == {1e6}


def test_a_queue_never_raises_the_rate() -> None:
    course = Course(300e3)
    assert course.go(PathUse.OVERUSE, TICK, arrives=2e6) == [300e3]


def test_before_anything_is_known_to_arrive_a_queue_halves_the_rate() -> None:
    control = RateControl(300e3, FLOOR, CEILING)
    control.update(PathUse.OVERUSE, None, ROUND_TRIP, 1.0)
    assert control.rate == pytest.approx(150e3)


@given(
    st.lists(
        st.tuples(st.sampled_from(PathUse), st.none() | st.floats(0, 1e8), st.floats(0, 10)),
        max_size=60,
    )
)
def test_the_rate_stays_within_its_bounds(course: list[tuple[PathUse, float | None, float]]) -> None:
    control = RateControl(300e3, FLOOR, CEILING)
    now = 1.0
    for use, acknowledged, wait in course:
        now += wait
        before = control.rate
        lowered = control.update(use, acknowledged, wait, now)
        assert FLOOR <= control.rate <= CEILING
        assert lowered == (control.rate < before)
        assert use is PathUse.NORMAL or control.rate <= before


def test_the_capacity_is_contradicted_only_by_what_lies_outside_its_spread() -> None:
    link = LinkCapacity()
    assert not link.contradicted_from_above(1e9) and not link.contradicted_from_below(0)
    for sample in (1.0e6, 1.02e6, 0.98e6):
        link.observe_overuse(sample)
    assert link.bits_per_second == pytest.approx(1e6, rel=0.01)
    assert not link.contradicted_from_above(1.05e6) and not link.contradicted_from_below(0.95e6)
    assert link.contradicted_from_above(1.2e6) and link.contradicted_from_below(0.8e6)
