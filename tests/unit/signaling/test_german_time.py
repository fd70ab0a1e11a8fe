import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.german_time import StartError, format_clock, format_date, format_short, parse_start

NOW = datetime(2026, 10, 1, 12, 0, 0, 5, tzinfo=UTC)


def mistake(text: str) -> str:
    with pytest.raises(StartError) as caught:
        parse_start(text, NOW)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-12-01 14:30", "2026-12-01T13:30:00+00:00"),
        ("01.12.2026 14:30", "2026-12-01T13:30:00+00:00"),
        ("2026-12-01T14:30", "2026-12-01T13:30:00+00:00"),
        ("2027-07-01 14:30", "2027-07-01T12:30:00+00:00"),
        ("2026-12-01T14:30Z", "2026-12-01T14:30:00+00:00"),
        ("2026-12-01T14:30-05:00", "2026-12-01T19:30:00+00:00"),
        ("2027-03-28 01:59", "2027-03-28T00:59:00+00:00"),
        ("2027-03-28 03:00", "2027-03-28T01:00:00+00:00"),
        ("2026-10-25T02:30+02:00", "2026-10-25T00:30:00+00:00"),
        ("2026-10-25T02:30+01:00", "2026-10-25T01:30:00+00:00"),
        ("2026-10-25 03:00", "2026-10-25T02:00:00+00:00"),
        (" now ", "2026-10-01T12:00:00+00:00"),
    ],
)
def test_a_start_is_german_time_unless_it_has_an_offset(text: str, instant: str) -> None:
    assert parse_start(text, NOW).isoformat() == instant


def test_an_hour_that_summer_time_skips_does_not_exist() -> None:
    assert mistake("2027-03-28 02:30") == (
        'there is no 02:30 on 2027-03-28, summer time begins; write "2027-03-28 03:30"'
    )


def test_an_hour_that_comes_twice_is_asked_back() -> None:
    assert mistake("2026-10-25 02:30") == (
        '02:30 comes twice on 2026-10-25, summer time ends; write "2026-10-25T02:30+02:00" or "2026-10-25T02:30+01:00"'
    )


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-12-01", "20261201", "2026-13-01 10:00", "14:30", "x" * 500])
def test_what_is_no_time_is_told_with_an_example(text: str) -> None:
    assert mistake(text).endswith('is no date with a time; write it like "2026-12-01 14:30"')


@pytest.mark.parametrize("text", ["2062-12-01 14:30", "0001-01-01 00:00", "9999-12-31T23:59-23:59", "1999-01-01 00:00"])
def test_a_year_that_must_be_a_slip_is_refused(text: str) -> None:
    assert mistake(text).endswith("is too far from today")


def test_the_written_date_is_german() -> None:
    instant = datetime(2027, 3, 1, 23, 5, tzinfo=UTC)
    assert format_date(instant) == "Dienstag, 2. März 2027"
    assert format_clock(instant) == "00:05 Uhr"
    assert format_short(instant) == "2027-03-02 00:05"


@given(st.text(max_size=40) | st.datetimes().map(str))
def test_arbitrary_text_raises_nothing_but_its_own_error(text: str) -> None:
    with contextlib.suppress(StartError):
        assert parse_start(text, NOW).tzinfo is UTC
