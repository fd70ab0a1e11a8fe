import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sfu.rewriter import MAX_BREAKS, ContinuousNumbers, Picture, Rewriter, SenderClock

VIDEO = 90_000  # Hz


@pytest.fixture
def numbers() -> ContinuousNumbers:
    numbers = ContinuousNumbers(100)
    numbers.join(5000)
    return numbers


def test_numbers_go_on_from_where_they_are(numbers: ContinuousNumbers) -> None:
    assert [numbers.translate(number) for number in (5000, 5001, 5002)] == [100, 101, 102]
    numbers.join(7)
    assert [numbers.translate(number) for number in (7, 8)] == [103, 104]


def test_what_the_publisher_lost_stays_a_hole_and_may_come_late(numbers: ContinuousNumbers) -> None:
    assert [numbers.translate(number) for number in (5000, 5003, 5001)] == [100, 103, 101]
    assert numbers.highest == 103


def test_what_is_left_out_is_no_hole(numbers: ContinuousNumbers) -> None:
    assert numbers.translate(5000) == 100
    assert numbers.drop(5001) is None
    assert numbers.drop(5002) is None
    assert numbers.translate(5003) == 101
    assert numbers.translate(5001) is None
    assert numbers.drop(5002) is None


def test_a_hole_next_to_what_is_left_out_stays_one(numbers: ContinuousNumbers) -> None:
    numbers.translate(5000)
    numbers.drop(5002)
    assert numbers.translate(5003) == 102
    assert numbers.translate(5001) == 101
    assert numbers.translate(5002) is None


def test_a_number_whose_successors_went_out_must_be_filled_when_it_is_left_out_late(numbers: ContinuousNumbers) -> None:
    numbers.translate(5000)
    numbers.translate(5002)
    assert numbers.drop(5001) == 101


def test_what_is_older_than_the_switch_is_late_for_good(numbers: ContinuousNumbers) -> None:
    numbers.translate(5000)
    assert numbers.translate(4999) is None
    numbers.join(0)
    assert numbers.translate(0xFFFF) is None
    assert numbers.translate(0) == 101


def test_a_source_may_begin_by_leaving_out(numbers: ContinuousNumbers) -> None:
    assert numbers.drop(5000) is None
    assert numbers.translate(5001) == 100
    assert numbers.translate(5000) is None


def test_numbers_are_extended_over_the_wrap_on_both_sides() -> None:
    numbers = ContinuousNumbers(0xFFFF)
    numbers.join(0xFFFE)
    assert [numbers.translate(number) for number in (0xFFFE, 0xFFFF, 1, 0)] == [0xFFFF, 0x10000, 0x10002, 0x10001]


def test_places_where_numbers_were_left_out_are_forgotten_one_by_one(numbers: ContinuousNumbers) -> None:
    for number in range(5000, 5000 + 2 * MAX_BREAKS + 4, 2):
        numbers.drop(number)
        numbers.translate(number + 1)
    assert numbers.translate(5001) is None
    assert numbers.translate(5000 + 2 * MAX_BREAKS + 1) == 100 + MAX_BREAKS


class Numbers(RuleBasedStateMachine):
    """A publisher's numbers arrive in any order; some are left out, and sources change."""

    @initialize(first=st.integers(0, 0xFFFF), begin=st.integers(0, 0xFFFF))
    def start(self, first: int, begin: int) -> None:
        self.numbers = ContinuousNumbers(first)
        self.given: dict[int, int] = {}
        self.taken: set[int] = set()
        self.numbers.join(begin)
        self.begin = self.next = begin
        self.first = first

    @rule(begin=st.integers(0, 0xFFFF))
    def switch(self, begin: int) -> None:
        self.numbers.join(begin)
        self.begin = self.next = begin
        self.first = self.numbers.highest + 1
        self.given = {}

    @rule(skip=st.integers(0, 3), is_dropped=st.booleans())
    def newer(self, skip: int, is_dropped: bool) -> None:  # noqa: FBT001
        number = self.next + skip
        self.next = number + 1
        if is_dropped:
            assert self.numbers.drop(number & 0xFFFF) is None
            return
        out = self.numbers.translate(number & 0xFFFF)
        assert out is not None
        assert out not in self.taken
        if self.given:
            assert out > max(self.given.values())
        self.taken.add(out)
        self.given[number] = out

    @rule(back=st.integers(1, 20))
    def later(self, back: int) -> None:
        number = self.next - back
        out = self.numbers.translate(number & 0xFFFF)
        if number in self.given:
            assert out == self.given[number]
        elif out is not None:
            assert number >= self.begin
            assert out >= self.first
            assert out not in self.taken
            self.taken.add(out)
            self.given[number] = out

    @invariant()
    def order_is_kept(self) -> None:
        outs = [self.given[number] for number in sorted(self.given)]
        assert outs == sorted(set(outs))


TestNumbers = Numbers.TestCase


def _rewriter() -> Rewriter:
    return Rewriter(VIDEO, 1000, 50_000, 10)


def test_the_first_packet_goes_out_under_the_first_numbers() -> None:
    rewriter = _rewriter()
    rewriter.join(7, 90, 0.0, picture=Picture(300, 15, 8), frame_number=77)
    out = rewriter.translate(7, 90, 0.0, Picture(300, 15, 8), 77)
    assert out == (1000, 50_000, 10, 0, 0)
    out = rewriter.translate(8, 3090, 0.033, Picture(301, 15, 9), 78)
    assert out == (1001, 53_000, 11, 1, 1)


def test_without_reports_a_switch_takes_the_time_that_has_passed_here() -> None:
    rewriter = _rewriter()
    rewriter.join(7, 90, 0.0, picture=Picture(300, 15, 8))
    rewriter.translate(7, 90, 0.0, Picture(300, 15, 8))
    rewriter.join(20_000, 0xFFFFFFFF, 0.1, picture=Picture(5, 7, 200), frame_number=9)
    assert rewriter.translate(20_000, 0xFFFFFFFF, 0.1, Picture(5, 7, 200), 9) == (1001, 59_000, 11, 1, 1)
    assert rewriter.translate(20_001, 0, 0.1, Picture(6, 7, 201), 10) == (1002, 59_001, 12, 2, 2)


def test_with_reports_a_switch_takes_the_time_of_the_sender() -> None:
    rewriter = _rewriter()
    rewriter.join(7, 90, 0.0, clock=SenderClock(5 << 32, 0))
    rewriter.translate(7, 90, 0.0)
    # 50 ms later by the sender's clock, though the packet took 100 ms: it came by way of the larger layer.
    rewriter.join(9, 4500 + 90 + 1_000_000, 0.1, clock=SenderClock(5 << 32, 1_000_000))
    out = rewriter.translate(9, 4500 + 90 + 1_000_000, 0.1)
    assert out is not None
    assert out.timestamp == 50_000 + 4500


@pytest.mark.parametrize("seconds", [-1, 0, 100])
def test_reports_that_cannot_be_true_do_not_move_time(seconds: int) -> None:
    rewriter = _rewriter()
    rewriter.join(7, 90, 0.0, clock=SenderClock(5 << 32, 90))
    rewriter.translate(7, 90, 0.0)
    rewriter.join(9, 90, 0.1, clock=SenderClock(5 + seconds << 32, 90))
    out = rewriter.translate(9, 90, 0.1)
    assert out is not None
    assert out.timestamp == 50_000 + 9000


def test_time_never_stands_still_at_a_switch() -> None:
    rewriter = _rewriter()
    rewriter.join(7, 90, 0.0)
    rewriter.translate(7, 90, 0.0)
    rewriter.join(9, 90, 0.0)
    out = rewriter.translate(9, 90, 0.0)
    assert out is not None
    assert out.timestamp == 50_001


def test_a_late_packet_does_not_turn_time_back() -> None:
    rewriter = _rewriter()
    rewriter.join(7, 0, 0.0)
    rewriter.translate(7, 0, 0.0)
    rewriter.translate(9, 9000, 0.1)
    rewriter.translate(8, 4500, 0.11)
    rewriter.join(1, 0, 0.2)
    out = rewriter.translate(1, 0, 0.2)
    assert out is not None
    assert out.timestamp == 50_000 + 18_000


def test_pictures_that_are_left_out_leave_no_hole() -> None:
    rewriter = _rewriter()
    rewriter.join(1, 0, 0.0, picture=Picture(100, 15, 50))
    first = rewriter.translate(1, 0, 0.0, Picture(100, 15, 50))
    for number in (2, 3):  # two packets of one picture
        assert rewriter.drop(number, Picture(101, 15, 50)) is None
    second = rewriter.translate(4, 6000, 0.06, Picture(102, 15, 51))
    assert first is not None and second is not None
    assert (first.sequence_number, first.picture_id, first.tl0_pic_idx) == (1000, 10, 0)
    assert (second.sequence_number, second.picture_id, second.tl0_pic_idx) == (1001, 11, 1)


def test_a_report_of_the_publisher_is_told_in_the_timestamps_of_the_down_track() -> None:
    rewriter = _rewriter()
    rewriter.join(1, 90, 0.0)
    rewriter.translate(1, 90, 0.0)
    assert rewriter.timestamp_at(SenderClock(0, 90), 0.0) == 50_000
    assert rewriter.timestamp_at(SenderClock(0, 90 + 9000), 0.5) == 50_000 + 9000 + 45_000


@given(st.integers(0, 0xFFFFFFFF), st.integers(0, 0xFFFFFFFF), st.integers(1, 1 << 20))
def test_timestamps_wrap_on_both_sides(first_out: int, first_in: int, step: int) -> None:
    rewriter = Rewriter(VIDEO, 0xFFFF, first_out)
    rewriter.join(0xFFFF, first_in, 0.0)
    rewriter.translate(0xFFFF, first_in, 0.0)
    out = rewriter.translate(0, first_in + step & 0xFFFFFFFF, 0.0)
    assert out is not None
    assert out.sequence_number == 0x10000
    assert out.timestamp == first_out + step & 0xFFFFFFFF


STEP = st.tuples(st.sampled_from(("send", "send", "send", "late", "drop", "join")), st.integers(1, 5), st.booleans())


@given(st.integers(0, 0xFFFF), st.sampled_from((0, 7, 15)), st.lists(STEP, max_size=40))
def test_after_a_steady_packet_the_next_ones_in_order_are_moved_by_as_much(
    first: int, bits: int, steps: list[tuple[str, int, bool]]
) -> None:
    rewriter = Rewriter(VIDEO, 60_000, 0xFFFF_0000, 30)
    number = picture = first
    rewriter.join(number, 3000, 0.0, picture=Picture(first & (1 << bits) - 1, bits, 0))
    moved: list[int] | None = None
    for action, ahead, new_picture in steps:
        if action == "join":
            number = number * 3 + 11
            rewriter.join(number & 0xFFFF, 5, 0.0, picture=Picture(picture & (1 << bits) - 1, bits, 0))
        number, picture = number + ahead, picture + new_picture
        sent = number - 2 * ahead if action == "late" else number
        come = Picture(picture & (1 << bits) - 1, bits, picture & 0xFF)
        if action == "drop":
            rewriter.drop(number & 0xFFFF, come)
        out = rewriter.translate(sent & 0xFFFF, 3000 * sent & 0xFFFF_FFFF, 0.0, come, sent & 0xFFFF)
        before, moved = moved, None
        if out is None:
            continue
        steps_now = [
            out.sequence_number - sent,
            out.timestamp - 3000 * sent & 0xFFFF_FFFF,
            out.picture_id - picture if bits else 0,
            out.tl0_pic_idx - picture & 0xFF,
            out.frame_number - sent & 0xFFFF,
        ]
        if before is not None and action == "send":
            assert steps_now == before
        if rewriter.is_steady(sent & 0xFFFF, come):
            moved = steps_now


def test_a_late_number_behind_what_was_left_out_is_not_given_out_again(numbers: ContinuousNumbers) -> None:
    assert numbers.drop(5001) is None
    assert numbers.translate(5000) == 100
    numbers.join(7)
    assert numbers.translate(7) == 101
