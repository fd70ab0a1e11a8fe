import pytest

from sfu.probing import ProbeCluster, Prober
from sfu.send_log import SentPacket


def result(number: int, sent_at: float, received_at: float | None, size: int = 1200) -> SentPacket:
    packet = SentPacket(number, sent_at, size, cluster=1)
    packet.received_at = received_at
    packet.was_lost = received_at is None
    return packet


def played(rate: float, capacity: float, *, lost: tuple[int, ...] = (), tick: float = 0.005) -> ProbeCluster:
    """A cluster of this rate over a link of this capacity, sent by a timer, with some of its packets lost."""
    cluster = ProbeCluster(1, rate, 10.0)
    now, free_at, number = 10.0, 0.0, 0
    while not cluster.is_sent:
        while (size := cluster.poll(now)) is not None:
            cluster.send(size, now, asked=True)
            free_at = max(free_at, now) + size * 8 / capacity
            cluster.receive(result(number, now, None if number in lost else free_at + 0.03, size))
            number += 1
        now += tick
    return cluster


def test_a_cluster_is_at_least_five_packets_and_thirty_milliseconds_long() -> None:
    for rate in (60e3, 300e3, 900e3, 10e6):
        cluster = ProbeCluster(1, rate, 10.0)
        times = []
        now = 10.0
        while not cluster.is_sent:
            if (size := cluster.poll(now)) is not None:
                cluster.send(size, now, asked=True)
                times.append(now)
            now += 0.0001
        assert len(times) >= ProbeCluster.MIN_PACKETS
        assert times[-1] - times[0] + cluster.packet_size * 8 / rate >= ProbeCluster.MIN_SECONDS * 0.99
        assert cluster.poll(now + 1) is None


def test_a_path_that_carries_the_cluster_is_measured_at_its_rate() -> None:
    assert played(900e3, 5e6).measure() == pytest.approx(900e3, rel=0.15)


def test_a_path_that_is_filled_is_measured_a_little_below_what_it_carries() -> None:
    assert played(3e6, 1e6).measure() == pytest.approx(950e3, rel=0.02)


def test_one_lost_packet_of_five_is_endured_and_two_say_nothing() -> None:
    assert played(900e3, 5e6, lost=(2,)).measure() is not None
    assert played(900e3, 5e6, lost=(1, 2)).measure() is None


def test_packets_that_were_held_up_and_let_go_together_say_nothing() -> None:
    cluster = ProbeCluster(1, 900e3, 10.0)
    for number in range(5):
        cluster.poll(10.0 + number * 0.011)
        cluster.send(1200, 10.0 + number * 0.011, asked=True)
        cluster.receive(result(number, 10.0 + number * 0.011, 10.1 + number * 0.001))
    assert cluster.is_judged
    assert cluster.measure() is None


def test_media_that_leaves_meanwhile_counts_as_part_of_the_cluster() -> None:
    cluster = ProbeCluster(1, 1e6, 10.0)
    assert cluster.poll(10.0) == 1200
    cluster.send(1200, 10.0, asked=True)
    cluster.send(1000, 10.001, asked=False)
    assert cluster.poll(10.0 + 2200 * 8 / 1e6 - 0.001) is None
    assert cluster.poll(10.0 + 2200 * 8 / 1e6 + 0.001) == 1200


def begun(prober: Prober, estimate: float, now: float, *, limited: bool = False, settled: bool = False) -> float | None:
    """The rate of the cluster that begins, if one does."""
    prober.begin(estimate, 100e6, now, limited=limited, settled=settled)
    return None if prober.cluster is None else prober.cluster.rate


def answer(prober: Prober, received: float, now: float) -> float | None:
    """All of a cluster leaves and arrives at this rate."""
    cluster = prober.cluster
    assert cluster is not None
    number, at = 0, now
    while (size := cluster.poll(at)) is not None:
        cluster.send(size, at, asked=True)
        cluster.receive(result(number, at, now + 0.03 + number * size * 8 / received, size))
        at = cluster.next_at + 1e-9
        number += 1
    return prober.finish(at)


def test_the_first_cluster_begins_at_once_with_three_times_the_start() -> None:
    assert begun(Prober(), 300e3, 1.0) == 900e3


def test_who_came_through_goes_on_at_once_with_twice_the_estimate() -> None:
    prober = Prober()
    begun(prober, 300e3, 1.0)
    assert answer(prober, 900e3, 1.0) == pytest.approx(900e3)
    assert begun(prober, 900e3, 1.2) == 1800e3
    assert answer(prober, 1e6, 1.2) == pytest.approx(950e3, rel=0.01)
    assert begun(prober, 950e3, 1.4) is None


def test_who_came_through_and_won_nothing_does_not_go_on() -> None:
    prober = Prober()
    prober.begin(950e3, 1300e3, 1.0, limited=True, settled=False)
    assert answer(prober, 1e6, 1.0) == pytest.approx(950e3, rel=0.01)
    assert begun(prober, 950e3, 1.2, limited=True) is None


def test_a_cluster_of_which_nothing_is_learnt_is_tried_twice_again_at_most() -> None:
    prober = Prober()
    now = 1.0
    rates = []
    for _ in range(5):
        rates.append(begun(prober, 300e3, now))
        now += Prober.RESULT_SECONDS
        assert prober.finish(now) is None
    assert rates == [900e3, 600e3, 600e3, None, None]


def spent(prober: Prober) -> Prober:
    """A prober whose first cluster found the limit, at 1.0."""
    begun(prober, 300e3, 1.0)
    answer(prober, 320e3, 1.0)
    return prober


def test_an_application_that_sends_little_is_probed_for_every_five_seconds() -> None:
    prober = spent(Prober())
    assert begun(prober, 300e3, 5.9, limited=True) is None
    assert begun(prober, 300e3, 6.0, limited=True) == 600e3


def test_one_that_sends_all_it_may_is_probed_for_every_ten_seconds_until_the_limit_is_known() -> None:
    prober = spent(Prober())
    assert begun(prober, 300e3, 10.9) is None
    assert begun(prober, 300e3, 30.0, settled=True) is None
    assert begun(prober, 300e3, 11.0) == 450e3


def test_after_a_large_drop_what_was_before_is_tried_again_soon() -> None:
    prober = spent(Prober())
    prober.lowered(2e6, 50.0)
    assert begun(prober, 600e3, 52.9, settled=True) is None
    assert begun(prober, 600e3, 53.0, settled=True) == 1.7e6


def test_after_a_small_drop_it_is_not() -> None:
    prober = spent(Prober())
    prober.lowered(1e6, 50.0)
    assert begun(prober, 850e3, 59.0, settled=True) is None


def test_the_queue_of_a_cluster_is_an_echo_for_two_seconds() -> None:
    prober = Prober()
    assert not prober.echoes(1.0)
    begun(prober, 300e3, 1.0)
    assert [prober.echoes(now) for now in (1.0, 2.9, 3.0)] == [True, True, False]


def test_nothing_is_probed_for_that_is_not_worth_it() -> None:
    rates = []
    for goal in (320e3, 400e3):
        prober = Prober()
        prober.begin(300e3, goal, 1.0, limited=False, settled=False)
        rates.append(prober.cluster and prober.cluster.rate)
    assert rates == [None, 400e3]
