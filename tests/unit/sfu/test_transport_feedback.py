import contextlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfu.transport_feedback import (
    Arrival,
    ArrivalLog,
    TransportFeedback,
    TransportFeedbackError,
    decode_transport_feedback,
    encode_transport_feedback,
)
from stun.errors import ParseFault
from tests.support.feedback_samples import feedback

HEADER = "0005 {count:04x} 000001 07"


def fci(count: int, rest: str) -> bytes:
    return bytes.fromhex(HEADER.format(count=count) + rest)


def arrived(*ticks: int | None) -> tuple[Arrival, ...]:
    return tuple((offset, tick) for offset, tick in enumerate(ticks) if tick is not None)


# The chunks as the draft draws them (§3.1.3, §3.1.4), with deltas of 250 us.
RUNS = {
    "small deltas": (3, "2003 04 08 0c 000000", arrived(4, 12, 24)),
    "large deltas": (2, "4002 0100 fffe 0000", arrived(256, 254)),
    "lost packets": (222, "00dd 2001 05 000000", ((221, 5),)),  # the first example of §3.1.3
}


@pytest.mark.parametrize(("count", "rest", "arrivals"), RUNS.values(), ids=RUNS)
def test_a_run_is_written_and_read_as_the_draft_draws_it(count: int, rest: str, arrivals: tuple[Arrival, ...]) -> None:
    expected = TransportFeedback(5, count, 1, 7, arrivals)
    assert decode_transport_feedback(fci(count, rest)) == expected
    assert encode_transport_feedback(expected) == fci(count, rest)


def test_a_vector_of_one_bit_symbols_is_read_from_the_left() -> None:
    # The first example of §3.1.4: one lost, five received, three lost, three received, two lost.
    expected = arrived(None, 1, 2, 3, 4, 5, None, None, None, 6, 7, 8, None, None)
    assert decode_transport_feedback(fci(14, "9f1c" + "01" * 8)).arrivals == expected


def test_a_vector_of_two_bit_symbols_is_read_from_the_left() -> None:
    # 0b11 01 10 01 00 00 10 00: small, large, small, lost, lost, large, lost
    read = decode_transport_feedback(fci(7, "d908 01 0100 02 ffff 0000"))
    assert read.arrivals == arrived(1, 257, 259, None, None, 258)


@given(feedback())
def test_what_is_written_reads_as_it_was(written: TransportFeedback) -> None:
    raw = encode_transport_feedback(written)
    assert len(raw) % 4 == 0
    assert decode_transport_feedback(raw) == written


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"", ParseFault.TRUNCATED),
        (bytes(7), ParseFault.TRUNCATED),
        (fci(0, ""), ParseFault.BAD_VALUE),
        (fci(1, ""), ParseFault.TRUNCATED),
        (fci(1, "20"), ParseFault.TRUNCATED),
        (fci(1, "2001"), ParseFault.TRUNCATED),
        (fci(2, "4002 0100 00"), ParseFault.TRUNCATED),
        (fci(0xFFFF, "3fff" * 9), ParseFault.TRUNCATED),
        (fci(1, "2000 2001 01"), ParseFault.BAD_VALUE),
        (fci(1, "6001 01"), ParseFault.BAD_VALUE),
        (fci(7, "f000 01"), ParseFault.BAD_VALUE),
        (fci(1, "2001 01 00000000"), ParseFault.BAD_LENGTH),
    ],
)
def test_malformed_feedback_is_refused_with_its_fault(raw: bytes, fault: ParseFault) -> None:
    with pytest.raises(TransportFeedbackError) as caught:
        decode_transport_feedback(raw)
    assert caught.value.fault is fault


def test_a_last_run_beyond_the_status_count_is_cut() -> None:
    assert decode_transport_feedback(fci(2, "3fff 01 01")).arrivals == arrived(1, 2)


def test_a_status_count_of_lost_packets_is_not_spelled_out() -> None:
    assert decode_transport_feedback(fci(0xFFFF, "1fff" * 9)).arrivals == ()


@pytest.mark.parametrize(
    "wrong",
    [
        TransportFeedback(0x10000, 1, 0, 0, ()),
        TransportFeedback(0, 0, 0, 0, ()),
        TransportFeedback(0, 0x10000, 0, 0, ()),
        TransportFeedback(0, 1, 0x800000, 0, ()),
        TransportFeedback(0, 1, 0, 256, ()),
        TransportFeedback(0, 1, 0, 0, ((1, 0),)),
        TransportFeedback(0, 3, 0, 0, ((1, 0), (1, 0))),
        TransportFeedback(0, 1, 0, 0, ((0, 0x8000),)),
        TransportFeedback(0, 1, 0, 0, ((0, -0x8001),)),
    ],
)
def test_what_does_not_fit_the_format_is_not_written(wrong: TransportFeedback) -> None:
    with pytest.raises(TransportFeedbackError):
        encode_transport_feedback(wrong)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_but_their_own_error(raw: bytes) -> None:
    with contextlib.suppress(TransportFeedbackError):
        read = decode_transport_feedback(raw)
        assert len(read.arrivals) <= len(raw)
        assert decode_transport_feedback(encode_transport_feedback(read)) == read


def messages(log: ArrivalLog, now: float) -> list[TransportFeedback]:
    told = []
    while (raw := log.poll_feedback(now)) is not None:
        told.append(decode_transport_feedback(raw))
    return told


def arrival_times(told: list[TransportFeedback]) -> dict[int, float]:
    """The first that was told of each number, in seconds."""
    times: dict[int, float] = {}
    for message in told:
        for offset, ticks in message.arrivals:
            times.setdefault(message.base_sequence + offset & 0xFFFF, message.reference_time * 0.064 + ticks / 4000)
    return times


def test_an_empty_log_has_nothing_to_tell() -> None:
    log = ArrivalLog()
    assert log.poll_timeout() is None
    assert log.poll_feedback(1e9) is None


def test_few_packets_are_told_after_a_quarter_of_a_second_and_many_after_a_twentieth() -> None:
    log = ArrivalLog()
    log.receive(1, 10.0)
    assert log.poll_feedback(10.049) is None
    assert messages(log, 10.05) != []
    log.receive(2, 10.06)
    assert log.poll_timeout() == pytest.approx(10.3)
    assert log.poll_feedback(10.299) is None
    for number in range(3, 10):
        log.receive(number, 10.07)
    assert log.poll_timeout() == pytest.approx(10.1)
    assert messages(log, 10.101) != []
    assert log.poll_timeout() is None


def test_very_many_packets_are_told_at_once_in_messages_that_fit_a_datagram() -> None:
    log = ArrivalLog()
    generator = random.Random(1)  # noqa: S311  # not for secrets
    numbers = sorted(generator.sample(range(8000), 1000))
    for step, number in enumerate(numbers):
        log.receive(number, 5 + step * 0.0004 + generator.choice([0, 0.3]))
    assert log.poll_timeout() is not None and (log.poll_timeout() or 0) <= 5.3
    raws = []
    while (raw := log.poll_feedback(5.4)) is not None:
        raws.append(raw)
    assert max(map(len, raws)) <= 1180
    assert sorted(arrival_times([decode_transport_feedback(raw) for raw in raws])) == numbers


def test_each_message_goes_on_where_the_last_one_ended_and_says_what_is_missing() -> None:
    log = ArrivalLog()
    for number in (65534, 65535, 1):
        log.receive(number, 10.0)
    [first] = messages(log, 11.0)
    assert (first.base_sequence, first.status_count, first.feedback_count) == (65534, 4, 0)
    assert [offset for offset, _ in first.arrivals] == [0, 1, 3]
    log.receive(4, 12.0)
    [second] = messages(log, 13.0)
    assert (second.base_sequence, second.status_count, second.feedback_count) == (2, 3, 1)


def test_a_packet_that_comes_late_is_told_with_all_that_followed_it() -> None:
    log = ArrivalLog()
    for number in (10, 12, 13):
        log.receive(number, 10.0)
    messages(log, 10.1)
    log.receive(11, 10.2)
    [again] = messages(log, 10.5)
    assert again.base_sequence == 11
    times = arrival_times([again])
    assert times[11] == pytest.approx(10.2, abs=0.0003)
    assert times[12] == times[13] == pytest.approx(10.0, abs=0.0003)


def test_a_duplicate_does_not_change_when_a_packet_arrived() -> None:
    log = ArrivalLog()
    log.receive(7, 10.0)
    log.receive(7, 10.2)
    assert log.duplicates == 1
    assert arrival_times(messages(log, 10.3))[7] == pytest.approx(10.0, abs=0.0003)


def test_what_lies_far_behind_is_counted_and_forgotten() -> None:
    log = ArrivalLog()
    log.receive(20_000, 10.0)
    log.receive(20_000 - ArrivalLog.WINDOW, 10.0)
    assert log.too_old == 1
    assert list(arrival_times(messages(log, 11.0))) == [20_000]


def test_a_jump_forwards_gives_up_what_lay_before_it() -> None:
    log = ArrivalLog()
    log.receive(0, 10.0)
    log.receive(30_000, 10.01)
    [told] = messages(log, 11.0)
    assert told.status_count <= ArrivalLog.WINDOW
    assert list(arrival_times([told])) == [30_000]


def test_arrivals_that_lie_minutes_apart_are_told_in_two_messages() -> None:
    log = ArrivalLog()
    log.receive(1, 10.0)
    log.receive(2, 100.0)
    told = messages(log, 101.0)
    assert [message.base_sequence for message in told] == [1, 2]
    assert arrival_times(told) == {1: pytest.approx(10.0, abs=0.0003), 2: pytest.approx(100.0, abs=0.0003)}


steps = st.lists(st.tuples(st.integers(-40, 60) | st.integers(-40_000, 40_000), st.floats(0, 0.3)), max_size=200)


@given(st.integers(0, 0xFFFF), steps, st.integers(1, 20))
def test_whatever_arrives_is_told_once_it_is_due_unless_it_is_too_old(
    first: int, moves: list[tuple[int, float]], polled_every: int
) -> None:
    log = ArrivalLog()
    number, now = first, 100.0
    told: list[TransportFeedback] = []
    received: dict[int, float] = {}
    for step, (move, wait) in enumerate(moves):
        now += wait
        number = number + move & 0xFFFF
        old, known = log.too_old, number in received
        log.receive(number, now)
        if log.too_old == old and not known:
            received[number] = now
        if step % polled_every == 0:
            told += messages(log, now)
        assert len(log) <= ArrivalLog.MAX_ARRIVALS
    told += messages(log, now + ArrivalLog.MAX_INTERVAL)
    assert log.poll_timeout() is None
    assert all(1 <= message.status_count <= ArrivalLog.WINDOW for message in told)
    counts = [message.feedback_count for message in told]
    assert counts == [count & 0xFF for count in range(len(told))]
    times = arrival_times(told)
    assert times.keys() <= received.keys()
    if max((abs(move) for move, _ in moves), default=0) <= 60:  # no jump that gives anything up
        assert times == {number: pytest.approx(at, abs=0.0003) for number, at in received.items()}


def test_the_log_stays_bounded_however_much_arrives_unasked() -> None:
    log = ArrivalLog()
    for number in range(3 * ArrivalLog.MAX_ARRIVALS):
        log.receive(number & 0xFFFF, 10 + number * 0.0001)
    assert len(log) == ArrivalLog.MAX_ARRIVALS
