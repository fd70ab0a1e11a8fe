from hypothesis import given
from hypothesis import strategies as st

from sfu.send_log import SendLog
from sfu.transport_feedback import ArrivalLog, TransportFeedback, decode_transport_feedback


def feedback(base: int, *ticks: int | None, reference_time: int = 0) -> TransportFeedback:
    arrivals = tuple((offset, tick) for offset, tick in enumerate(ticks) if tick is not None)
    return TransportFeedback(base & 0xFFFF, len(ticks), reference_time, 0, arrivals)


def sent(count: int, first: int = 0) -> SendLog:
    log = SendLog(first)
    for step in range(count):
        log.send(100 + step, 10.0 + step)
    return log


def test_packets_are_numbered_one_after_another_and_around_the_end() -> None:
    log = SendLog(0xFFFE)
    assert [log.send(100, 1.0) for _ in range(4)] == [0xFFFE, 0xFFFF, 0, 1]


def test_each_packet_is_matched_with_what_feedback_says_of_it() -> None:
    log = SendLog(0xFFFF)
    log.send(100, 10.0)
    log.send(200, 10.5, cluster=3)
    told = [
        (result.number, result.sent_at, result.received_at, result.size, result.cluster, result.was_lost)
        for result in log.acknowledge(feedback(0xFFFF, 4, 8, reference_time=1))
    ]
    assert told == [(0xFFFF, 10.0, 0.065, 100, 0, False), (0x10000, 10.5, 0.066, 200, 3, False)]


def test_a_packet_is_told_once() -> None:
    log = sent(2)
    assert len(log.acknowledge(feedback(0, 1, 2))) == 2
    assert log.acknowledge(feedback(0, 1, 2)) == []


def test_a_lost_packet_is_told_as_lost_once_and_as_received_when_it_turns_up() -> None:
    log = sent(3)
    assert [result.received_at for result in log.acknowledge(feedback(0, 0, None, 0))] == [0, None, 0]
    assert log.acknowledge(feedback(0, 0, None, 0)) == []
    [late] = log.acknowledge(feedback(1, 8))
    assert (late.number, late.received_at, late.was_lost) == (1, 0.002, True)


def test_what_feedback_skips_has_no_verdict_but_its_bytes_are_told() -> None:
    log = sent(5)
    assert [result.number for result in log.acknowledge(feedback(3, 1, 2))] == [3, 4]
    assert log.skipped_bytes == 100 + 101 + 102
    assert log.acknowledge(feedback(0, 1, None, None)) == []
    assert log.skipped_bytes == 0


def test_feedback_about_packets_that_never_left_is_ignored() -> None:
    log = sent(2)
    assert log.acknowledge(feedback(2, 1, None, 1)) == []
    assert [result.number for result in log.acknowledge(feedback(0, 1, 1, 1, 1))] == [0, 1]


def test_the_log_awaits_feedback_until_it_came_to_the_last_packet() -> None:
    log = SendLog(7)
    awaits = [log.awaits_feedback]
    log.send(100, 1.0)
    log.send(100, 1.0)
    log.acknowledge(feedback(7, 0))
    awaits.append(log.awaits_feedback)
    log.acknowledge(feedback(8, None))
    awaits.append(log.awaits_feedback)
    assert awaits == [False, True, False]


def test_only_the_last_packets_are_remembered() -> None:
    log = SendLog()
    for _ in range(SendLog.MAX_PACKETS + 3):
        log.send(100, 1.0)
    assert log.acknowledge(feedback(0, 1, 1, 1)) == []
    assert [result.number for result in log.acknowledge(feedback(3, 1))] == [3]


def test_the_clock_of_the_receiver_goes_on_when_its_reference_time_wraps() -> None:
    log = sent(2)
    [before] = log.acknowledge(feedback(0, 0, reference_time=0x7FFFFF))
    [after] = log.acknowledge(feedback(1, 0, reference_time=-0x800000))
    assert before.received_at is not None and after.received_at is not None
    assert round(after.received_at - before.received_at, 6) == 0.064


deliveries = st.lists(
    st.tuples(
        st.sampled_from(["arrives", "is lost", "comes later"]),
        st.booleans(),  # whether feedback that is due now gets through
        st.floats(0.001, 0.1),
    ),
    max_size=150,
)


@given(st.integers(0, 0xFFFF), deliveries)
def test_no_packet_is_told_twice_or_with_a_verdict_that_is_not_its_own(
    first: int, course: list[tuple[str, bool, float]]
) -> None:
    log, arrivals = SendLog(first), ArrivalLog()
    received: set[int] = set()
    told_received: list[int] = []
    told_lost: list[int] = []
    late: list[int] = []
    now = 100.0
    for step, (fate, heard, wait) in enumerate(course):
        now += wait
        sequence = log.send(100, now)
        number = first + step
        assert sequence == number & 0xFFFF
        came = [number] if fate == "arrives" else []
        if fate == "comes later":
            late.append(number)
        elif late:
            came.append(late.pop())
        for arrival in came:
            received.add(arrival)
            arrivals.receive(arrival & 0xFFFF, now)
        while (raw := arrivals.poll_feedback(now)) is not None:
            if heard:
                for result in log.acknowledge(decode_transport_feedback(raw)):
                    assert result.was_lost == (result.received_at is None or result.number in told_lost)
                    (told_lost if result.received_at is None else told_received).append(result.number)
    assert len(set(told_received)) == len(told_received)
    assert len(set(told_lost)) == len(told_lost)
    assert set(told_received) <= received


@given(
    st.lists(
        st.one_of(
            st.integers(1, 300).map(lambda count: ("send", count)),
            st.tuples(st.integers(0, 0xFFFF), st.integers(1, 0xFFFF), st.lists(st.integers(0, 500), max_size=20)),
        ),
        max_size=30,
    )
)
def test_feedback_of_a_hostile_receiver_tells_nothing_but_packets_that_left(steps: list[tuple[object, ...]]) -> None:
    log = SendLog()
    count = 0
    told: set[tuple[int, float | None]] = set()
    for step in steps:
        match step:
            case ("send", int(more)):
                for _ in range(more):
                    log.send(100, 1.0)
                count += more
            case (int(base), int(statuses), list(offsets)):
                known = sorted({offset for offset in offsets if offset < statuses})
                arrivals = tuple((offset, 0) for offset in known)
                for result in log.acknowledge(TransportFeedback(base, statuses, 0, 0, arrivals)):
                    assert 0 <= result.number < count
                    assert (result.number, result.received_at) not in told
                    told.add((result.number, result.received_at))
