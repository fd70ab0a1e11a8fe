from datetime import UTC, datetime, timedelta, timezone

import pytest

from signaling.appointments import Appointment, EntryWindow, Expired, Tier, TooEarly

START = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
WINDOW = EntryWindow.around(START, opens_minutes=30, closes_hours=24)
SECOND = timedelta(seconds=1)


def test_entry_opens_at_its_very_second() -> None:
    WINDOW.admit(START - timedelta(minutes=30))
    with pytest.raises(TooEarly):
        WINDOW.admit(START - timedelta(minutes=30) - SECOND)


def test_entry_is_open_until_the_codes_end() -> None:
    WINDOW.admit(START + timedelta(hours=24) - SECOND)
    with pytest.raises(Expired):
        WINDOW.admit(START + timedelta(hours=24))


def test_the_time_zone_of_now_does_not_matter() -> None:
    WINDOW.admit(START.astimezone(timezone(timedelta(hours=-11))))


def test_the_start_is_kept_in_utc() -> None:
    berlin_winter = timezone(timedelta(hours=1))
    appointment = Appointment(bytes(16), Tier.BASIS, datetime(2026, 11, 22, 10, 0, tzinfo=berlin_winter))
    assert appointment.start == START
    assert appointment.start.tzinfo is UTC


def test_a_start_without_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        Appointment(bytes(16), Tier.BASIS, datetime(2026, 11, 22, 9, 0))  # noqa: DTZ001 - that is the point


def test_a_room_id_has_sixteen_bytes() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        Appointment(bytes(15), Tier.BASIS, START)
