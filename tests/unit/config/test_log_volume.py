from hypothesis import given
from hypothesis import strategies as st

from config.log_volume import (
    ALL_LINES_AT_ONCE,
    ALL_LINES_PER_SECOND,
    LINES_AT_ONCE,
    LINES_PER_SECOND,
    MAX_KINDS,
    SUMMARY_SECONDS,
    LogVolume,
    Suppressed,
)


def admitted(volume: LogVolume[str], kind: str, count: int, now: float) -> int:
    return sum(volume.admits(kind, now) for _ in range(count))


def test_a_flood_of_one_kind_is_cut_off_and_counted() -> None:
    volume: LogVolume[str] = LogVolume(0.0)
    assert admitted(volume, "flood", 10_000, 0.0) == LINES_AT_ONCE
    assert admitted(volume, "flood", 10_000, 1.0) == LINES_PER_SECOND
    assert list(volume.poll_suppressed()) == []
    assert volume.admits("flood", SUMMARY_SECONDS)
    assert list(volume.poll_suppressed()) == [Suppressed("flood", 20_000 - LINES_AT_ONCE - int(LINES_PER_SECOND))]


def test_a_flood_that_goes_on_is_summed_up_once_in_a_while() -> None:
    volume: LogVolume[str] = LogVolume(0.0)
    summaries = 0
    for tenth in range(600):
        admitted(volume, "flood", 50, tenth / 10)
        summaries += len(list(volume.poll_suppressed()))
    assert summaries == 5  # in a minute


def test_another_kind_is_not_cut_off_with_it() -> None:
    volume: LogVolume[str] = LogVolume(0.0)
    admitted(volume, "flood", 10_000, 0.0)
    assert volume.admits("worker died", 0.0)


def test_when_the_flood_has_ended_any_later_line_brings_the_summary() -> None:
    volume: LogVolume[str] = LogVolume(0.0)
    admitted(volume, "flood", LINES_AT_ONCE + 7, 0.0)
    assert volume.admits("another", SUMMARY_SECONDS)
    assert list(volume.poll_suppressed()) == [Suppressed("flood", 7)]


def test_the_end_brings_what_has_not_been_told() -> None:
    volume: LogVolume[str] = LogVolume(0.0)
    admitted(volume, "flood", LINES_AT_ONCE + 7, 0.0)
    assert list(volume.finish()) == [Suppressed("flood", 7)]
    assert list(volume.finish()) == []


def test_as_many_kinds_as_somebody_likes_are_bounded_too() -> None:
    volume: LogVolume[int] = LogVolume(0.0)
    assert sum(volume.admits(kind, 0.0) for kind in range(100_000)) == ALL_LINES_AT_ONCE
    assert len(volume._kinds) == MAX_KINDS


@given(st.lists(st.tuples(st.integers(0, 400), st.floats(0, 0.5)), max_size=300))
def test_every_line_is_either_written_or_counted_and_the_rate_holds(lines: list[tuple[int, float]]) -> None:
    volume: LogVolume[int] = LogVolume(0.0)
    now, written, told = 0.0, 0, 0
    for kind, pause in lines:
        now += pause
        written += volume.admits(kind, now)
        told += sum(each.lines for each in volume.poll_suppressed())
    told += sum(each.lines for each in volume.finish())
    assert written + told == len(lines)
    assert written <= ALL_LINES_AT_ONCE + now * ALL_LINES_PER_SECOND
