from datetime import UTC, datetime, timedelta

import pytest

from signaling.appointments import Appointment, Role, Tier
from signaling.room import Claim, ClaimRecord, Pairing, Room, SeatTaken

APPOINTMENT = Appointment(bytes(16), Tier.BASIS, datetime(2026, 11, 22, 9, 0, tzinfo=UTC))


@pytest.fixture
def room() -> Room:
    return Room(APPOINTMENT, claims_per_seat=2, opened_at=0.0)


def claim(room: Room, pid: str, role: Role, address: bytes = b"home", since: datetime | None = None) -> Claim:
    new = Claim(pid, role, address, f"token-{pid}", client=1, waiting_since=since)
    room.add(new)
    return new


def displaced_by(room: Room, pid: str, address: bytes = b"home") -> Claim | None:
    return room.add(Claim(pid, Role.ORGANISER, address, "token", client=1))


def confirm(room: Room, one: Claim, other: Claim) -> list[Claim]:
    room.report(one, other.pid, ok=True)
    pairing, rivals = room.report(other, one.pid, ok=True)
    assert pairing is Pairing.CONFIRMED
    return rivals


def test_a_pair_is_confirmed_by_both_reports_only(room: Room) -> None:
    organiser, participant = claim(room, "o", Role.ORGANISER), claim(room, "p", Role.PARTICIPANT)
    assert room.report(organiser, "p", ok=True) == (Pairing.NOTED, [])
    assert room.report(organiser, "p", ok=True) == (Pairing.NOTED, [])
    assert [claim.confirmed for claim in room.claims()] == [False, False]
    assert room.report(participant, "o", ok=True) == (Pairing.CONFIRMED, [])
    assert [claim.confirmed for claim in room.claims()] == [True, True]
    assert room.report(participant, "o", ok=True) == (Pairing.NOTED, [])


def test_a_failed_report_takes_an_earlier_one_back(room: Room) -> None:
    organiser, participant = claim(room, "o", Role.ORGANISER), claim(room, "p", Role.PARTICIPANT)
    room.report(organiser, "p", ok=True)
    assert room.report(organiser, "p", ok=False)[0] is Pairing.FAILED
    assert room.report(participant, "o", ok=True)[0] is Pairing.NOTED


def test_a_failed_report_counts_also_when_the_peer_has_gone_before_it(room: Room) -> None:
    organiser, guesser = claim(room, "o", Role.ORGANISER), claim(room, "p", Role.PARTICIPANT)
    room.remove(guesser, at(0))
    assert room.report(organiser, "p", ok=False) == (Pairing.FAILED, [])
    assert room.report(organiser, "p", ok=True) == (Pairing.IGNORED, [])


def test_nobody_pairs_on_the_own_seat_or_with_a_stranger(room: Room) -> None:
    one, other = claim(room, "a", Role.ORGANISER), claim(room, "b", Role.ORGANISER)
    assert room.report(one, other.pid, ok=True)[0] is Pairing.IGNORED
    assert room.report(one, "nobody", ok=True)[0] is Pairing.IGNORED
    assert room.report(one, one.pid, ok=True)[0] is Pairing.IGNORED


def test_confirming_evicts_every_other_claim_of_both_seats(room: Room) -> None:
    organiser, participant = claim(room, "o", Role.ORGANISER), claim(room, "p", Role.PARTICIPANT)
    guesser, other = claim(room, "x", Role.ORGANISER), claim(room, "y", Role.PARTICIPANT)
    assert set(confirm(room, organiser, participant)) == {guesser, other}
    assert room.claims() == [organiser, participant]


def test_only_a_confirmed_claim_with_a_socket_takes_the_seat(room: Room) -> None:
    organiser, participant = claim(room, "o", Role.ORGANISER), claim(room, "p", Role.PARTICIPANT)
    confirm(room, organiser, participant)
    with pytest.raises(SeatTaken):
        claim(room, "x", Role.PARTICIPANT)
    room.detach(participant)
    newcomer = claim(room, "x", Role.PARTICIPANT)
    assert confirm(room, organiser, newcomer) == [participant]


def test_a_confirmed_claim_that_comes_back_evicts_the_newcomer(room: Room) -> None:
    organiser, participant = claim(room, "o", Role.ORGANISER), claim(room, "p", Role.PARTICIPANT)
    confirm(room, organiser, participant)
    room.detach(participant)
    newcomer = claim(room, "x", Role.PARTICIPANT)
    assert room.reclaim(participant) == [newcomer]
    assert participant.client is None, "the next socket is not known to the room yet"


def test_reports_from_before_a_lost_socket_do_not_count(room: Room) -> None:
    organiser, participant = claim(room, "o", Role.ORGANISER), claim(room, "p", Role.PARTICIPANT)
    room.report(organiser, "p", ok=True)
    room.detach(participant)
    assert room.report(organiser, "p", ok=True)[0] is Pairing.IGNORED
    assert room.reclaim(participant) == []
    participant.client = 2
    assert room.report(participant, "o", ok=True)[0] is Pairing.NOTED


def test_a_full_seat_makes_room_by_the_longest_silent_claim_then_by_the_oldest(room: Room) -> None:
    first, second = claim(room, "a", Role.ORGANISER), claim(room, "b", Role.ORGANISER)
    room.detach(second)
    room.detach(first)
    assert displaced_by(room, "c") is second
    assert displaced_by(room, "d") is first
    assert displaced_by(room, "e") is not None
    assert [claim.pid for claim in room.claims()] == ["d", "e"]


def test_the_address_that_crowds_a_seat_makes_room_even_for_itself() -> None:
    room = Room(APPOINTMENT, claims_per_seat=3, opened_at=0.0)
    rightful = claim(room, "r", Role.ORGANISER, b"home")
    guesses = [claim(room, f"g{number}", Role.ORGANISER, b"elsewhere") for number in range(2)]
    room.detach(rightful)
    assert displaced_by(room, "h", b"another home") is guesses[0]
    assert displaced_by(room, "g3", b"elsewhere") is guesses[1], "not the silent claim, nor one of another address"


def test_a_confirmed_claim_never_makes_room() -> None:
    room = Room(APPOINTMENT, claims_per_seat=2, opened_at=0.0)
    organiser, participant = claim(room, "o", Role.ORGANISER), claim(room, "p", Role.PARTICIPANT)
    confirm(room, organiser, participant)
    room.detach(organiser)
    guess = claim(room, "g", Role.ORGANISER)
    assert displaced_by(room, "x") is guess
    assert organiser.pid in room


def test_a_token_opens_only_its_own_seat(room: Room) -> None:
    organiser = claim(room, "o", Role.ORGANISER)
    assert room.find_by_token(Role.ORGANISER, 0, "token-o") is organiser
    assert room.find_by_token(Role.PARTICIPANT, 1, "token-o") is None
    assert room.find_by_token(Role.ORGANISER, 0, "token-x") is None


def test_repr_hides_the_token(room: Room) -> None:
    assert "token" not in repr(claim(room, "o", Role.ORGANISER))


def at(minute: int) -> datetime:
    return APPOINTMENT.start + timedelta(minutes=minute)


def test_whoever_came_first_waits_until_the_two_have_found_each_other(room: Room) -> None:
    participant = claim(room, "p", Role.PARTICIPANT, since=at(1))
    organiser = claim(room, "o", Role.ORGANISER, since=at(5))
    assert Room.waiting_before(participant, organiser) == at(1)
    assert Room.waiting_before(organiser, participant) is None
    room.detach(participant)
    assert Room.waiting_before(participant, organiser) == at(1), "a lost socket does not end the wait"
    participant.client = 2
    confirm(room, organiser, participant)
    assert Room.waiting_before(participant, organiser) is None
    assert [each.waiting_since for each in room.claims()] == [None, None]


def test_two_who_come_at_the_same_instant_wait_for_nobody(room: Room) -> None:
    participant = claim(room, "p", Role.PARTICIPANT, since=at(1))
    assert Room.waiting_before(participant, claim(room, "o", Role.ORGANISER, since=at(1))) is None


def test_an_interruption_of_the_talk_makes_nobody_wait_and_its_end_does(room: Room) -> None:
    participant = claim(room, "p", Role.PARTICIPANT, since=at(1))
    organiser = claim(room, "o", Role.ORGANISER, since=at(5))
    confirm(room, organiser, participant)
    room.detach(organiser)
    assert participant.waiting_since is None, "it may be back in a moment"
    room.remove(organiser, at(9))
    assert participant.waiting_since == at(9)
    again = claim(room, "again", Role.ORGANISER, since=at(20))
    assert Room.waiting_before(participant, again) == at(9)


def test_a_guesser_who_goes_ends_no_talk(room: Room) -> None:
    participant = claim(room, "p", Role.PARTICIPANT, since=at(1))
    guesser = claim(room, "x", Role.ORGANISER, since=at(2))
    room.remove(guesser, at(3))
    assert participant.waiting_since == at(1)
    assert Room.waiting_before(participant, claim(room, "o", Role.ORGANISER, since=at(4))) == at(1)


def test_a_wait_is_restored_with_the_claim(room: Room) -> None:
    claim(room, "p", Role.PARTICIPANT, since=at(1))
    records = [ClaimRecord.of(each) for each in room.claims()]
    (restored,) = Room(APPOINTMENT, claims_per_seat=2, opened_at=9.0).restore(records)
    assert restored.waiting_since == at(1)
