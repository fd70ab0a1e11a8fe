import pytest

from signaling.appointments import Appointment, EntryRefused, Expired, Tier, TooEarly
from signaling.conference_desk import TierMissing
from signaling.conference_room import RoomFull, RoomLocked
from signaling.messages import Error, ErrorCode
from signaling.refusals import explain_refusal
from signaling.room import SeatTaken
from tests.unit.signaling.harness import START

APPOINTMENT = Appointment(bytes(16), Tier.PLUS, START)


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (TooEarly(), Error(code=ErrorCode.TOO_EARLY, start=START)),
        (Expired(), Error(code=ErrorCode.EXPIRED)),
        (SeatTaken(), Error(code=ErrorCode.CODE_IN_USE)),
        (RoomFull(5), Error(code=ErrorCode.ROOM_FULL, limit=5)),
        (RoomLocked(), Error(code=ErrorCode.LOCKED)),
        (TierMissing(), Error(code=ErrorCode.TIER)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_refusal_has_its_word_and_what_the_text_needs(
    refusal: EntryRefused | SeatTaken | RoomFull | RoomLocked | TierMissing, error: Error
) -> None:
    assert explain_refusal(refusal, APPOINTMENT) == error
