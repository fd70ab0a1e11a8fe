from datetime import datetime, timedelta

from signaling.appointments import Appointment, Role, Tier
from signaling.conference_room import ConferenceRoom
from signaling.messages import Peer
from signaling.peer_news import announce
from signaling.room import Claim, Room
from tests.unit.signaling.harness import START

EARLIER, LATER = START, START + timedelta(minutes=1)


def claim(pid: str, role: Role, since: datetime, number: int) -> Claim:
    return Claim(pid, role, b"a", f"token-{pid}", client=1, waiting_since=since, number=number)


def test_an_organiser_is_told_since_when_a_participant_waits_and_nobody_else_is() -> None:
    room = Room(Appointment(bytes(16), Tier.BASIS, START), 4, 0.0)
    organiser, participant = claim("o", Role.ORGANISER, LATER, 0), claim("p", Role.PARTICIPANT, EARLIER, 1)
    told = Peer(pid="p", role=Role.PARTICIPANT, present=True, since=EARLIER)
    assert announce(room, participant, organiser) == told
    assert announce(room, participant, organiser, present=False) == Peer(pid="p", role=Role.PARTICIPANT, present=False)
    assert announce(room, organiser, participant) == Peer(pid="o", role=Role.ORGANISER, present=True)


def test_in_a_conference_it_is_told_which_seat_it_is_and_whether_it_was_admitted() -> None:
    room = ConferenceRoom(Appointment(bytes(16), Tier.PLUS, START, 3), 4, 0.0, limit=8)
    organiser, participant = claim("o", Role.ORGANISER, LATER, 0), claim("p", Role.PARTICIPANT, LATER, 2)
    room.add(organiser)
    room.add(participant)
    told = announce(room, participant, organiser)
    assert (told.index, told.admitted) == (2, False)
    assert room.admit("p") is not None
    assert announce(room, participant, organiser).admitted is True
    assert (announce(room, organiser, participant).index, announce(room, organiser, participant).admitted) == (0, True)
