"""Appointments are planned in German time, wherever the machine and the participants are."""

from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

MAX_AHEAD: Final = timedelta(days=5 * 366)  # later than that is a typing error

_ZONE_NAME: Final = "Europe/Berlin"
_GERMAN_FORMAT: Final = "%d.%m.%Y %H:%M"
_WEEKDAYS: Final = ("Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag", "Sonntag")
_MONTHS: Final = (
    *("Januar", "Februar", "März", "April", "Mai", "Juni"),
    *("Juli", "August", "September", "Oktober", "November", "Dezember"),
)


class StartError(ValueError):
    """A start cannot be understood or does not exist; the message says what to write instead."""


def parse_start(text: str, now: datetime) -> datetime:
    """Read the planned start of an appointment; the answer is in UTC.

    Args:
        text: `now`, `2026-12-01 14:30` or `01.12.2026 14:30` (German time), or ISO 8601 with an offset.
        now: aware time.

    Raises:
        StartError: it is no time, too far from now, or a time that the clock shows never or twice that day.
    """
    if text.strip().lower() == "now":
        return now.astimezone(UTC).replace(microsecond=0)
    moment = _read(text.strip())
    distance = moment.replace(tzinfo=None) - now.astimezone(UTC).replace(tzinfo=None)
    if abs(distance) > MAX_AHEAD:
        raise StartError(f"{moment.year} is too far from today")
    return (moment if moment.tzinfo else _in_germany(moment)).astimezone(UTC)


def format_date(instant: datetime) -> str:
    """`Dienstag, 1. Dezember 2026`, in German time."""
    local = instant.astimezone(ZoneInfo(_ZONE_NAME))
    return f"{_WEEKDAYS[local.weekday()]}, {local.day}. {_MONTHS[local.month - 1]} {local.year}"


def format_clock(instant: datetime) -> str:
    """`14:30 Uhr`, in German time."""
    return instant.astimezone(ZoneInfo(_ZONE_NAME)).strftime("%H:%M Uhr")


def format_short(instant: datetime) -> str:
    """`2026-12-01 14:30`, in German time."""
    return instant.astimezone(ZoneInfo(_ZONE_NAME)).strftime("%Y-%m-%d %H:%M")


def _read(text: str) -> datetime:
    try:
        return datetime.strptime(text, _GERMAN_FORMAT)  # noqa: DTZ007 (German time, see parse_start)
    except ValueError:
        pass  # then it is ISO 8601, or nothing
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or ":" not in text:  # a date alone would silently mean midnight
        raise StartError(f'{text[:40]!a} is no date with a time; write it like "2026-12-01 14:30"') from None
    return moment


def _in_germany(local: datetime) -> datetime:
    """Give a wall clock time its offset; the two hours a year in which that is not one offset are refused."""
    zone = ZoneInfo(_ZONE_NAME)
    first, second = (local.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    if first.utcoffset() == second.utcoffset():
        return first
    day, clock = local.strftime("%Y-%m-%d"), local.strftime("%H:%M")
    if first.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != local:
        later = first.astimezone(UTC).astimezone(zone).strftime("%H:%M")
        raise StartError(f'there is no {clock} on {day}, summer time begins; write "{day} {later}"')
    choices = " or ".join(f'"{moment.isoformat(timespec="minutes")}"' for moment in (first, second))
    raise StartError(f"{clock} comes twice on {day}, summer time ends; write {choices}")
