import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sfu.nack import (
    HISTORY_SIZE,
    MAX_ANSWERED,
    MAX_ASKED,
    MAX_CREDIT,
    MAX_MISSING,
    MAX_REQUESTS,
    MAX_WAIT,
    MIN_RETRY,
    REORDERING_PACKETS,
    REORDERING_SECONDS,
    NackGenerator,
    NackResponder,
    Origin,
    Sent,
)
from sfu.rewriter import Rewritten

LAYER = Origin()


@pytest.fixture
def generator() -> NackGenerator:
    generator = NackGenerator()
    generator.receive(10, 0.0)
    return generator


def test_a_packet_that_is_merely_late_is_not_asked_for(generator: NackGenerator) -> None:
    generator.receive(12, 0.0)
    assert generator.ask(0.0) == []
    generator.receive(11, 0.001)
    assert generator.ask(1.0) == []


def test_a_packet_is_lost_when_enough_newer_ones_came(generator: NackGenerator) -> None:
    for number in range(12, 11 + REORDERING_PACKETS):
        generator.receive(number, 0.0)
        assert generator.ask(0.0) == []
    generator.receive(11 + REORDERING_PACKETS, 0.0)
    assert generator.ask(0.0) == [11]


def test_a_packet_is_lost_when_enough_time_has_passed(generator: NackGenerator) -> None:
    generator.receive(12, 0.0)
    assert generator.ask(REORDERING_SECONDS) == [11]


def test_a_packet_is_asked_for_once_per_round_trip_until_it_comes(generator: NackGenerator) -> None:
    generator.round_trip = 0.1
    generator.receive(13, 0.0)
    assert generator.ask(0.02) == [11, 12]
    assert generator.ask(0.11) == []
    generator.receive(11, 0.115)
    assert generator.ask(0.121) == [12]


def test_however_short_the_round_trip_there_is_a_pause(generator: NackGenerator) -> None:
    generator.round_trip = 0.001
    generator.receive(12, 0.0)
    assert generator.ask(0.020) == [11]
    assert generator.ask(0.039) == []
    assert generator.ask(0.041) == [11]


def test_a_packet_is_given_up_after_so_many_requests_and_a_key_frame_is_wanted(generator: NackGenerator) -> None:
    generator.round_trip = 0.025
    generator.receive(12, 0.0)
    instants = [0.02 + 0.03 * turn for turn in range(MAX_REQUESTS + 2)]
    asked = [generator.ask(instant) for instant in instants]
    assert asked == [[11]] * MAX_REQUESTS + [[], []]
    assert generator.missing == 0
    assert generator.take_hopeless()
    assert not generator.take_hopeless()


def test_a_packet_is_given_up_when_nobody_would_wait_for_it(generator: NackGenerator) -> None:
    generator.round_trip = 0.6
    generator.receive(12, 0.0)
    assert generator.ask(MAX_WAIT) == [11]
    assert not generator.take_hopeless()
    assert generator.ask(MAX_WAIT + 0.01) == []
    assert generator.take_hopeless()


def test_an_outage_is_not_asked_for_packet_by_packet(generator: NackGenerator) -> None:
    generator.receive(12, 0.0)
    generator.receive(13 + MAX_MISSING + 1, 0.0)
    assert generator.ask(0.5) == []
    assert generator.take_hopeless()


def test_the_list_has_a_bound_and_the_oldest_go_first(generator: NackGenerator) -> None:
    generator.receive(11 + MAX_MISSING, 0.0)
    assert generator.missing == MAX_MISSING
    generator.receive(13 + MAX_MISSING, 0.0)
    assert generator.missing == MAX_MISSING
    assert generator.take_hopeless()
    assert generator.ask(0.1)[0] == 12


def test_one_request_has_a_bound_and_the_rest_follows(generator: NackGenerator) -> None:
    generator.receive(11 + MAX_MISSING, 0.0)
    assert generator.ask(0.1) == list(range(11, 11 + MAX_ASKED))
    assert generator.ask(0.1) == list(range(11 + MAX_ASKED, 11 + 2 * MAX_ASKED))


def test_the_round_trip_is_how_long_repairs_take(generator: NackGenerator) -> None:
    for turn in range(100):
        generator.receive(12 + 2 * turn, turn)
        generator.ask(turn + 0.1)
        generator.receive(11 + 2 * turn, turn + 0.14)
    assert generator.round_trip == pytest.approx(0.04, rel=0.01)


def test_a_repair_that_was_asked_for_twice_says_nothing_of_the_round_trip(generator: NackGenerator) -> None:
    generator.receive(12, 0.0)
    generator.ask(0.1)
    generator.ask(0.3)
    before = generator.round_trip
    generator.receive(11, 0.31)
    assert generator.round_trip == before


class Generator(RuleBasedStateMachine):
    """Packets come in any order; what is asked for is missing, and never more than the bounds allow."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = NackGenerator()
        self.generator.receive(0, 0.0)
        self.received = {0}
        self.highest = 0
        self.now = 0.0

    @rule(step=st.integers(-20, 40))
    def receive(self, step: int) -> None:
        number = max(0, self.highest + step)
        self.generator.receive(number, self.now)
        self.received.add(number)
        self.highest = max(self.highest, number)

    @rule(seconds=st.floats(0, 0.3))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(round_trip=st.floats(0, 0.5))
    def ask(self, round_trip: float) -> None:
        self.generator.round_trip = round_trip
        asked = self.generator.ask(self.now)
        assert asked == sorted(set(asked))
        assert self.received.isdisjoint(asked)
        assert len(asked) <= MAX_ASKED
        assert all(0 < number < self.highest for number in asked)

    @invariant()
    def is_bounded(self) -> None:
        assert self.generator.missing <= MAX_MISSING


TestGenerator = Generator.TestCase


def _sent(number: int) -> Sent:
    return Sent(LAYER, 5000 + number, Rewritten(number, 0, 0, 0, 0))


@pytest.fixture
def responder() -> NackResponder:
    responder = NackResponder()
    for number in range(0xFFFE, 0x10004):
        responder.note(_sent(number))
    return responder


def test_what_went_out_is_found_by_its_sequence_number(responder: NackResponder) -> None:
    assert responder.answer([0xFFFF, 1], 0.0) == [_sent(0xFFFF), _sent(0x10001)]


def test_a_packet_is_repeated_once_per_round_trip(responder: NackResponder) -> None:
    assert len(responder.answer([1, 1], 0.0, 0.1)) == 1
    assert responder.answer([1], 0.09, 0.1) == []
    assert len(responder.answer([1], 0.11, 0.1)) == 1


def test_a_subscriber_who_claims_to_be_near_gets_no_more(responder: NackResponder) -> None:
    assert len(responder.answer([1], 0.0, 0.0)) == 1
    assert responder.answer([1], MIN_RETRY / 2, 0.0) == []
    assert len(responder.answer([1], MIN_RETRY, 0.0)) == 1


def test_what_was_lost_upstream_is_remembered_until_it_goes_out(responder: NackResponder) -> None:
    responder.note(_sent(0x10006))
    assert responder.answer([4, 5], 0.0) == []
    assert responder.note(_sent(0x10004)) is True
    assert responder.note(_sent(0x10007)) is False
    assert responder.answer([4], 0.0) == [_sent(0x10004)]
    assert responder.unanswerable == 0


def test_the_newest_packets_are_told_from_the_newest_on(responder: NackResponder) -> None:
    assert responder.newest(2) == [_sent(0x10003), _sent(0x10002)]
    responder.note(_sent(0x10005))
    assert responder.newest(3) == [_sent(0x10005), _sent(0x10003)]
    assert len(responder.newest(100)) == 7
    assert NackResponder().newest(3) == []


def test_what_never_went_out_or_long_ago_is_counted(responder: NackResponder) -> None:
    assert responder.answer([4, 100], 0.0) == []
    for number in range(0x10004, 0x10004 + HISTORY_SIZE):
        responder.note(_sent(number))
    assert responder.answer([0xFFFF], 0.0) == []
    assert responder.unanswerable == 3


def test_before_anything_went_out_nothing_is_repeated() -> None:
    assert NackResponder().answer([1, 2], 0.0) == []


def test_one_answer_has_a_bound() -> None:
    responder = NackResponder()
    for number in range(2 * MAX_ANSWERED):
        responder.note(_sent(number))
    assert len(responder.answer(range(2 * MAX_ANSWERED), 0.0)) == MAX_ANSWERED


def test_in_the_long_run_no_more_is_repeated_than_goes_out() -> None:
    responder = NackResponder()
    repeated, number = 0, 0
    for turn in range(200):  # everything that is kept is asked for, fifty times a second
        for _ in range(3):
            responder.note(_sent(number))
            number += 1
        repeated += len(responder.answer(range(max(number - HISTORY_SIZE, 0), number), turn * MIN_RETRY, 0.0))
    assert repeated <= number + MAX_CREDIT
    assert responder.unanswerable > 0


def test_the_loss_of_every_other_packet_is_repaired_for_good() -> None:
    responder = NackResponder()
    for number in range(0, 20 * HISTORY_SIZE, 2):
        responder.note(_sent(number))
        responder.note(_sent(number + 1))
        now = number * 0.01
        assert responder.answer([number & 0xFFFF], now, 0.05) == [_sent(number)]
        if number % 4:  # so is every other repetition
            assert responder.answer([number & 0xFFFF], now + 0.06, 0.05) == [_sent(number)]


def test_what_is_awaited_has_a_bound_and_the_oldest_go_first() -> None:
    responder = NackResponder()
    responder.note(_sent(0))
    responder.note(_sent(MAX_MISSING + 5))
    responder.answer(range(1, MAX_MISSING + 3), 0.0)
    assert responder.note(_sent(2)) is False
    assert responder.note(_sent(3)) is True


def test_what_went_out_elsewhere_is_found_there_and_repeated_once_per_round_trip() -> None:
    elsewhere = {number: _sent(number) for number in range(3, 10)}
    responder = NackResponder(elsewhere.get)
    responder.note(_sent(2))
    responder.went_on(9)
    responder.went_on(5)  # no news
    assert responder.answer([2, 4, 9], 0.0, 0.1) == [_sent(2), _sent(4), _sent(9)]
    assert responder.answer([4], 0.05, 0.1) == []
    assert responder.answer([4], 0.1, 0.1) == [_sent(4)]
    assert responder.newest(3) == [_sent(9), _sent(8), _sent(7)]
    responder.went_on(4 + HISTORY_SIZE)
    elsewhere[4 + HISTORY_SIZE] = _sent(4 + HISTORY_SIZE)
    assert responder.answer([4 + HISTORY_SIZE], 0.11, 0.1) == [_sent(4 + HISTORY_SIZE)]  # in the place of number 4
