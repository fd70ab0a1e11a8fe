"""Appointments, their seats, and the time in which their codes open the room."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, Self

ROOM_ID_BYTES = 16
APPOINTMENT_ID_BYTES = 16
MAX_PEOPLE = 20  # of a conference, the organiser included


class Role(StrEnum):
    """Who somebody is in an appointment: there is one organiser, and one participant or several."""

    ORGANISER = "organiser"
    PARTICIPANT = "participant"


class Tier(StrEnum):
    """What the organisation has booked."""

    BASIS = "basis"
    PLUS = "plus"


class EntryRefused(Exception):
    """The code is known, but its time is not now."""


class TooEarly(EntryRefused):
    """Entry has not opened yet."""


class Expired(EntryRefused):
    """The codes of this appointment have ended."""


@dataclass(frozen=True, slots=True)
class Appointment:
    """A planned consultation, as far as a server may know it.

    Attributes:
        room_id: 16 random bytes; all seats share it.
        tier: decides the features of the room.
        start: planned start, an aware instant; kept in UTC.
        participants: seats beside the organiser's, 1 to 19; with more than one it is a conference.
    """

    room_id: bytes
    tier: Tier
    start: datetime
    participants: int = 1

    def __post_init__(self) -> None:
        if len(self.room_id) != ROOM_ID_BYTES:
            raise ValueError(f"a room id has {ROOM_ID_BYTES} bytes")
        if self.start.tzinfo is None:
            raise ValueError("a start needs a time zone")
        if not 1 <= self.participants < MAX_PEOPLE:
            raise ValueError(f"an appointment has 1 to {MAX_PEOPLE - 1} participants")
        object.__setattr__(self, "start", self.start.astimezone(UTC))

    @property
    def is_conference(self) -> bool:
        """Whether more than two people may meet, whose media go through the SFU."""
        return self.participants > 1


class Seat(NamedTuple):
    """What a locator leads to: one seat of one appointment.

    Attributes:
        appointment: which.
        role: whose the seat is.
        number: 0 for the organiser, 1 and up for the participants in the order of creation.
    """

    appointment: Appointment
    role: Role
    number: int


class PlannedAppointment(NamedTuple):
    """What the organisation that made an appointment may read back: nothing that opens its room.

    Attributes:
        id: 16 random bytes. Not the room's: whoever may list appointments need not know what rooms are called.
        tier: decides the features of the room.
        start: planned start, an instant in UTC.
        participants: seats beside the organiser's.
    """

    id: bytes
    tier: Tier
    start: datetime
    participants: int = 1


class EntryWindow(NamedTuple):
    """From `opens_at` until before `closes_at` a code opens the room."""

    opens_at: datetime
    closes_at: datetime

    @classmethod
    def around(cls, start: datetime, *, opens_minutes: int, closes_hours: int) -> Self:
        """Span the window around a planned start: minutes before it, hours after it."""
        return cls(start - timedelta(minutes=opens_minutes), start + timedelta(hours=closes_hours))

    def admit(self, now: datetime) -> None:
        """Let a join at `now` (an aware instant) pass.

        Raises:
            TooEarly: the window has not opened.
            Expired: the window has closed.
        """
        if now < self.opens_at:
            raise TooEarly
        if now >= self.closes_at:
            raise Expired
