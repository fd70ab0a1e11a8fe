"""The estimator on a simulated path, where a run gives the same figures on every machine."""

import itertools
import random
from collections.abc import Callable

import pytest

from sfu.allocator import Allocator
from sfu.bandwidth import BandwidthBounds, BandwidthEstimator
from sfu.transport_feedback import (
    TransportFeedback,
    TransportFeedbackError,
    decode_transport_feedback,
    encode_transport_feedback,
)
from tests.support.simulated_path import MTU, LayeredCall, PathShape, Sample, SimulatedCall

LASTING_QUEUE = 0.05  # seconds that nobody should have to wait for long
READ_SECONDS = 3e-5  # that a receiver takes for one packet


def ran(call: SimulatedCall, seconds: float) -> SimulatedCall:
    call.run(seconds)
    return call


def mean(samples: list[Sample]) -> float:
    return sum(sample.estimate for sample in samples) / len(samples)


def lowest(samples: list[Sample]) -> float:
    return min(sample.estimate for sample in samples)


def queued(samples: list[Sample], packet: float = 0.0) -> float:
    """The part of the time with a lasting queue, beyond the seconds that one packet takes."""
    return sum(sample.queue_delay > LASTING_QUEUE + packet for sample in samples) / len(samples)


@pytest.mark.parametrize("capacity", [200e3, 500e3, 1e6, 3e6])
def test_it_converges_to_a_constant_capacity_within_ten_seconds_without_a_lasting_queue(capacity: float) -> None:
    call = ran(SimulatedCall(PathShape([(0, capacity)])), 30)
    assert 0.8 * capacity <= mean(call.between(10, 30)) <= capacity
    assert lowest(call.between(10, 30)) >= 0.75 * capacity
    assert queued(call.between(3, 30), 8 * MTU / capacity) <= 0.02
    assert call.path.dropped == 0 or capacity < BandwidthBounds().start


def test_a_path_far_below_the_start_is_found_within_five_seconds() -> None:
    call = ran(SimulatedCall(PathShape([(0, 100e3)])), 20)
    assert max(sample.estimate for sample in call.between(5, 20)) <= 115e3
    assert lowest(call.between(5, 20)) >= 70e3
    assert queued(call.between(8, 20)) <= 0.1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_jitter_and_reordering_do_not_keep_it_from_converging(seed: int) -> None:
    shape = PathShape([(0, 1e6)], jitter=0.005, reordered=0.01)
    call = ran(SimulatedCall(shape, seed=seed), 30)
    assert 0.75e6 <= mean(call.between(10, 30)) <= 1.05e6
    assert queued(call.between(3, 30)) <= 0.05


def test_a_drop_of_capacity_by_half_is_answered_within_two_seconds() -> None:
    call = ran(SimulatedCall(PathShape([(0, 2e6), (12, 1e6)])), 25)
    assert lowest(call.between(10, 12)) >= 1.6e6
    assert max(sample.estimate for sample in call.between(14, 25)) <= 1.1e6
    assert lowest(call.between(14, 25)) >= 0.7e6
    assert queued(call.between(17, 25)) <= 0.05


def test_a_rise_of_capacity_is_found() -> None:
    call = ran(SimulatedCall(PathShape([(0, 500e3), (10, 2e6)]), wanted=2e6), 40)
    assert mean(call.between(8, 10)) <= 550e3
    assert mean(call.between(35, 40)) >= 1.5e6


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_loss_of_five_percent_alone_does_not_starve_it(seed: int) -> None:
    call = ran(SimulatedCall(PathShape([(0, 1e6)], loss=0.05), seed=seed), 40)
    assert lowest(call.between(5, 40)) >= 0.6e6
    assert call.estimator.fraction_lost == pytest.approx(0.05, abs=0.05)


def test_loss_of_twenty_percent_lowers_it() -> None:
    call = ran(SimulatedCall(PathShape([(0, 1e6)], loss=0.2)), 20)
    assert call.samples[-1].estimate <= 0.3e6


def test_a_queue_too_short_to_show_delay_is_answered_by_its_loss() -> None:
    call = ran(SimulatedCall(PathShape([(0, 2e6), (12, 0.8e6)], queue_seconds=0.02)), 20)
    assert max(sample.estimate for sample in call.between(15, 20)) <= 1.0e6


def test_a_competing_burst_is_yielded_to_and_forgotten() -> None:
    shape = PathShape([(0, 2e6)])
    call = ran(SimulatedCall(shape, others=lambda now: 1.2e6 if 10 < now < 13 else 0.0), 25)
    assert lowest(call.between(11, 13)) <= 1.1e6
    assert lowest(call.between(10, 25)) >= 0.5e6
    assert mean(call.between(18, 25)) >= 1.6e6
    assert queued(call.between(15, 25)) <= 0.05


def test_an_application_that_sends_little_does_not_inflate_the_estimate() -> None:
    call = ran(SimulatedCall(PathShape([(0, 2e6)]), media=lambda _: 100e3, wanted=0.0), 60)
    assert call.estimator.application_limited
    assert max(sample.estimate for sample in call.samples) <= 310e3
    assert call.estimator.probes == 0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_jitter_does_not_take_the_picture_from_somebody_who_needs_little(seed: int) -> None:
    shape = PathShape([(0, 5e6)], jitter=0.03)  # a poor WLAN
    call = ran(SimulatedCall(shape, seed=seed, media=lambda _: 90e3, wanted=180e3), 60)
    assert lowest(call.samples) > Allocator.PAUSE_BELOW


def test_a_path_that_gets_narrower_than_the_little_that_is_sent_is_answered_within_two_seconds() -> None:
    call = ran(SimulatedCall(PathShape([(0, 3e6), (15, 300e3)]), media=lambda _: 500e3, wanted=5e6), 30)
    assert call.estimator.probes > 0
    assert max(sample.estimate for sample in call.between(17, 30)) <= 330e3


def test_an_application_of_a_steady_rate_raises_the_estimate_by_a_quarter_at_most() -> None:
    bounds = BandwidthBounds(start=100e3)
    call = ran(SimulatedCall(PathShape([(0, 2e6)]), bounds=bounds, media=lambda _: 100e3, wanted=0.0), 40)
    assert 110e3 <= max(sample.estimate for sample in call.samples) <= 140e3


def test_what_is_wanted_is_probed_for_while_the_application_sends_little_and_no_further() -> None:
    call = ran(SimulatedCall(PathShape([(0, 5e6)]), media=lambda _: 100e3, wanted=1e6), 20)
    assert 1.0e6 <= call.samples[-1].estimate <= BandwidthEstimator.WANTED_MARGIN * 1e6
    assert call.estimator.probes <= 4


def test_an_estimate_that_was_probed_for_falls_with_the_path_when_it_is_used() -> None:
    shape = PathShape([(0, 2e6), (20, 400e3)])
    call = ran(SimulatedCall(shape, media=lambda now: 100e3 if now < 30 else 5e6), 40)
    assert max(sample.estimate for sample in call.between(35, 40)) <= 450e3


def pauses(seed: int, longest: float) -> Callable[[float], float]:
    """A machine that is short of time: again and again it does nothing for up to so many seconds."""
    source = random.Random(seed)  # noqa: S311  # not for secrets
    begins = itertools.accumulate(source.expovariate(3) + longest for _ in range(300))
    spans = [(begin, begin + source.uniform(longest / 4, longest)) for begin in begins]
    read_at = 0.0

    def reads(arrived_at: float) -> float:
        nonlocal read_at
        awake_at = next((end for begin, end in spans if begin <= arrived_at < end), arrived_at)
        read_at = max(awake_at, read_at + READ_SECONDS)
        return read_at

    return reads


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("longest", [0.1, 0.2, 0.4])
def test_a_receiver_that_is_short_of_time_is_not_taken_for_a_path_that_is_full(longest: float, seed: int) -> None:
    shape = PathShape([(0, 10e6)])
    call = SimulatedCall(shape, wanted=2e6, media=lambda _now: 1.5e6, reads=pauses(seed, longest))
    assert mean(ran(call, 40).between(10, 40)) > 2e6


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_lost_feedback_costs_time_and_no_rate(seed: int) -> None:
    generator = random.Random(seed)  # noqa: S311  # not for secrets
    call = ran(SimulatedCall(PathShape([(0, 1e6)]), hears=lambda _: generator.random() > 0.3), 40)
    assert 0.75e6 <= mean(call.between(25, 40)) <= 1.05e6
    assert call.estimator.fraction_lost == 0


def test_silence_makes_it_careful_and_what_was_before_is_found_again() -> None:
    call = ran(SimulatedCall(PathShape([(0, 1e6)]), hears=lambda now: not 10 < now < 14), 30)
    assert lowest(call.between(10, 10.9)) >= 0.8e6
    assert lowest(call.between(13, 14)) <= 0.4e6
    assert mean(call.between(25, 30)) >= 0.75e6


def test_a_pause_of_our_own_is_no_silence_of_the_other_end() -> None:
    estimator = BandwidthEstimator()
    estimator.send(MTU, 0.0)
    begin = estimator.bits_per_second
    for tick in range(10):
        estimator.handle_timeout(tick / 10)
    estimator.handle_timeout(5.0)  # what came meanwhile has not been read
    assert estimator.bits_per_second == begin
    estimator.handle_timeout(5.05)
    assert estimator.bits_per_second == begin
    estimator.handle_timeout(5.15)
    assert estimator.bits_per_second < begin


def test_without_anything_to_tell_silence_is_no_bad_sign() -> None:
    call = ran(SimulatedCall(PathShape([(0, 1e6)]), media=lambda now: 1e6 if now < 8 else 0.0, wanted=0.0), 30)
    assert call.samples[-1].estimate == pytest.approx(call.between(9, 9.2)[0].estimate)


def test_probes_find_three_times_the_start_in_two_seconds() -> None:
    call = ran(SimulatedCall(PathShape([(0, 900e3)])), 2)
    assert call.samples[-1].estimate >= 0.8 * 900e3


def test_the_ceiling_holds_on_a_path_that_carries_more() -> None:
    call = ran(SimulatedCall(PathShape([(0, 10e6)]), bounds=BandwidthBounds(ceiling=1.5e6)), 10)
    assert 1.4e6 <= call.samples[-1].estimate <= 1.5e6


def test_the_floor_holds_on_a_path_that_carries_less() -> None:
    call = ran(SimulatedCall(PathShape([(0, 20e3)])), 40)
    assert lowest(call.samples) >= 30e3
    assert call.samples[-1].estimate <= 45e3


def test_the_same_seed_gives_the_same_course() -> None:
    shape = PathShape([(0, 1e6)], loss=0.02, jitter=0.003, reordered=0.02)
    one, other = ran(SimulatedCall(shape, seed=7), 5), ran(SimulatedCall(shape, seed=7), 5)
    assert one.samples == other.samples
    assert ran(SimulatedCall(shape, seed=8), 5).samples != one.samples


def test_feedback_that_does_not_parse_changes_nothing() -> None:
    estimator = BandwidthEstimator()
    estimator.send(1200, 1.0)
    before = estimator.poll_timeout()
    with pytest.raises(TransportFeedbackError):
        estimator.receive_feedback(b"\0\0\0\1", 1.1)
    assert (estimator.bits_per_second, estimator.poll_timeout()) == (300e3, before)


def test_the_round_trip_is_that_of_the_newest_packet_that_arrived() -> None:
    estimator = BandwidthEstimator(first_sequence=9)
    estimator.send(1200, 1.0)
    estimator.send(1200, 1.2)
    raw = encode_transport_feedback(TransportFeedback(9, 2, 0, 0, ((0, 0), (1, 800))))
    assert decode_transport_feedback(raw).base_sequence == 9
    estimator.receive_feedback(raw, 1.25)
    assert estimator.round_trip == pytest.approx(0.05)


def layered(shape: PathShape, cameras: int, seconds: float, seed: int = 1) -> LayeredCall:
    layered = LayeredCall(shape, cameras, seed=seed)
    layered.call.run(seconds)
    return layered


@pytest.mark.parametrize(("capacity", "layer"), [(220e3, 0), (300e3, 1), (700e3, 1), (1.5e6, 2)])
def test_a_camera_comes_to_its_layer_in_five_seconds_and_stays_there(capacity: float, layer: int) -> None:
    course = layered(PathShape([(0, capacity)]), 1, 60)
    assert course.at(5) == (layer,)
    assert course.changed(5, 60) == 0


def test_four_cameras_that_do_not_all_fit_come_to_rest() -> None:
    course = layered(PathShape([(0, 2e6)]), 4, 90)
    assert course.changed(5, 90) <= 10
    assert None not in course.at(5)
    assert queued(course.call.between(5, 90)) <= 0.05


def test_a_layer_gives_way_in_two_seconds_when_the_path_gets_worse_and_comes_back_when_it_is_good_again() -> None:
    course = layered(PathShape([(0, 1.5e6), (20, 500e3), (40, 1.5e6)]), 1, 60)
    assert [course.at(instant) for instant in (19.9, 22, 39.9, 55)] == [(2,), (1,), (1,), (2,)]


def test_on_a_path_for_sound_alone_the_picture_pauses_and_comes_back() -> None:
    course = layered(PathShape([(0, 120e3), (20, 1e6)]), 1, 40)
    assert course.at(5) == (None,)
    assert course.changed(5, 20) == 0
    assert queued(course.call.between(8, 20), 8 * MTU / 120e3) <= 0.1
    assert course.at(32) != (None,)


def test_packets_that_are_told_at_once_count_like_packets_told_one_by_one() -> None:
    one_by_one, at_once = BandwidthEstimator(), BandwidthEstimator()
    instants = [0.01 * number for number in range(50)]
    numbers = [one_by_one.send(1000, instant) for instant in instants]
    assert at_once.send(1000, instants[0]) == numbers[0]
    at_once.send_many([1000] * 49, instants[1:])
    arrivals = tuple((offset, 40 * offset) for offset in range(35))
    fci = encode_transport_feedback(TransportFeedback(0, 50, 1, 0, arrivals))
    for estimator in (one_by_one, at_once):
        estimator.receive_feedback(fci, 0.6)
    assert one_by_one.send(1000, 0.6) == 50
    at_once.send_many([1000], [0.6])
    for estimator in (one_by_one, at_once):
        for tenth in range(7, 31):
            estimator.handle_timeout(tenth / 10)
    assert at_once.bits_per_second == one_by_one.bits_per_second < BandwidthBounds().start
    assert at_once.acknowledged == one_by_one.acknowledged is not None
    assert at_once.application_limited == one_by_one.application_limited
    assert at_once.send(1000, 3.0) == one_by_one.send(1000, 3.0) == 51


def test_silence_is_counted_from_the_first_of_the_packets_that_are_told_at_once() -> None:
    estimator = BandwidthEstimator()
    estimator.send_many([1000, 1000], [5.0, 5.9])
    estimator.handle_timeout(5.9)
    before = estimator.bits_per_second
    estimator.handle_timeout(6.1)
    assert estimator.bits_per_second < before


def test_while_a_probe_is_sent_packets_are_not_told_at_once() -> None:
    estimator = BandwidthEstimator()
    estimator.want(3_000_000)
    was_plain = estimator.is_plain
    estimator.handle_timeout(0.0)
    assert (was_plain, estimator.is_plain) == (True, False)
    now = 0.0
    while not estimator.is_plain:
        while (size := estimator.poll_probe(now)) is not None:
            estimator.send(size, now, probe=True)
        now += 0.005
    assert now < 1.0
