"""Why a client is not seated, in the words of the protocol."""

from signaling.appointments import Appointment, EntryRefused, TooEarly
from signaling.conference_desk import NoConferences, TierMissing
from signaling.conference_room import RoomFull, RoomLocked
from signaling.messages import Error, ErrorCode
from signaling.room import SeatTaken


def explain_refusal(
    refusal: EntryRefused | SeatTaken | RoomFull | RoomLocked | TierMissing | NoConferences, appointment: Appointment
) -> Error:
    """Say why a seat of this appointment cannot be taken."""
    match refusal:
        case TooEarly():
            return Error(code=ErrorCode.TOO_EARLY, start=appointment.start)
        case EntryRefused():
            return Error(code=ErrorCode.EXPIRED)
        case SeatTaken():
            return Error(code=ErrorCode.CODE_IN_USE)
        case RoomFull(limit=limit):
            return Error(code=ErrorCode.ROOM_FULL, limit=limit)
        case RoomLocked():
            return Error(code=ErrorCode.LOCKED)
        case TierMissing():
            return Error(code=ErrorCode.TIER)
        case NoConferences():
            return Error(code=ErrorCode.NO_CONFERENCES)
