import itertools
import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfu.delay_trend import DelayTrend, PathUse

STEP = 0.01  # seconds between packets


def uses(delay: Callable[[int], float], packets: int = 400) -> list[PathUse]:
    """What is said after each packet, when each is delayed by so many seconds more than the clocks differ."""
    trend = DelayTrend()
    said = []
    for number in range(packets):
        sent_at = 5.0 + number * STEP
        trend.receive(sent_at, sent_at + 1000 + delay(number))
        said.append(trend.use)
    return said


def test_a_steady_delay_is_normal() -> None:
    assert set(uses(lambda _: 0.04)) == {PathUse.NORMAL}


def test_a_queue_that_grows_is_overuse_within_a_third_of_a_second() -> None:
    said = uses(lambda number: max(number - 200, 0) * 0.002)
    assert PathUse.OVERUSE not in said[:200]
    assert PathUse.OVERUSE in said[200:233]


@pytest.mark.parametrize("percent", [1.2, 2.0])
def test_a_queue_that_grows_too_slowly_for_a_slope_is_overuse_within_some_seconds(percent: float) -> None:
    said = uses(lambda number: number * STEP * percent / 100, 1000)
    assert PathUse.OVERUSE not in said[:350]
    assert PathUse.OVERUSE in said[350:500]


def test_clocks_that_drift_apart_are_no_queue() -> None:
    assert set(uses(lambda number: number * STEP * 0.001, 3000)) == {PathUse.NORMAL}


def test_a_queue_that_empties_is_underuse() -> None:
    said = uses(lambda number: 0.5 - min(max(number - 200, 0), 150) * 0.003)
    assert PathUse.UNDERUSE in said[200:233]
    assert PathUse.OVERUSE not in said


def test_a_queue_that_stays_full_is_normal_again() -> None:
    said = uses(lambda number: min(max(number - 100, 0) * 0.002, 0.2), 1000)
    assert PathUse.OVERUSE in said[100:200]
    assert set(said[250:]) == {PathUse.NORMAL}


@pytest.mark.parametrize("seed", range(5))
def test_jitter_of_some_milliseconds_is_normal(seed: int) -> None:
    generator = random.Random(seed)  # noqa: S311  # not for secrets
    said = uses(lambda _: abs(generator.gauss(0, 0.003)), 2000)
    assert said.count(PathUse.OVERUSE) <= len(said) * 0.01


def test_packets_that_are_held_up_and_let_go_together_are_no_queue() -> None:
    # A radio link that hands everything over four times in a hundred milliseconds.
    said = uses(lambda number: -(number * STEP) % 0.05, 2000)
    assert set(said) == {PathUse.NORMAL}


@pytest.mark.parametrize("apart", [0.0, 1e-4, 1e-3])
def test_frames_that_are_held_up_together_are_no_queue_however_close_their_packets_leave(apart: float) -> None:
    # Three packets a frame; the receiver does nothing for a quarter of each second, and tells times in ticks of 250 us.
    trend = DelayTrend()
    said = set()
    for frame, packet in itertools.product(range(600), range(3)):
        sent_at = 5.0 + frame / 30 + packet * apart
        arrived_at = sent_at + 0.0205
        awake_at = math.floor(arrived_at) + 0.25
        ticks = round(4000 * (max(arrived_at, awake_at) + packet * 3e-5))
        trend.receive(sent_at, 1000 + ticks / 4000)
        said.add(trend.use)
    assert PathUse.OVERUSE not in said


def test_a_packet_out_of_order_says_nothing() -> None:
    trend, other = DelayTrend(), DelayTrend()
    for number in range(300):
        sent_at = number * STEP
        for each in (trend, other):
            each.receive(sent_at, sent_at + max(number - 200, 0) * 0.002)
        trend.receive(sent_at - 3 * STEP, sent_at + 0.004)
        assert trend.use is other.use


def test_after_a_long_silence_nothing_is_compared_with_what_was_before() -> None:
    trend = DelayTrend()
    for number in range(100):
        trend.receive(number * STEP, number * STEP + number * 0.002)
    before = trend.use
    trend.receive(10.0, 10.0)
    assert (before, trend.use) == (PathUse.OVERUSE, PathUse.NORMAL)


def test_what_is_overuse_on_a_calm_path_is_normal_where_it_was_worse_for_a_while() -> None:
    gentle, steep = 0.06 * STEP, 0.075 * STEP
    calm = uses(lambda number: gentle * max(number - 200, 0), 350)
    worse_before = uses(lambda number: steep * min(number, 200) + gentle * max(number - 200, 0), 350)
    assert set(calm[260:]) == {PathUse.OVERUSE}
    assert set(worse_before[260:]) == {PathUse.NORMAL}


times = st.floats(-1e6, 1e6)


@given(st.lists(st.tuples(times, times), max_size=100))
def test_any_times_give_an_answer(course: list[tuple[float, float]]) -> None:
    trend = DelayTrend()
    for sent_at, received_at in course:
        trend.receive(sent_at, received_at)
        assert trend.use in PathUse
