import pytest

from signaling.appointments import Appointment, Role, Tier
from signaling.conference_room import ConferenceRoom, RoomFull, RoomLocked
from signaling.room import Claim, Pairing, SeatTaken
from tests.unit.signaling.harness import START

CLAIMS_PER_SEAT = 3


def make_room(participants: int = 3, limit: int = 20) -> ConferenceRoom:
    appointment = Appointment(bytes(16), Tier.PLUS, START, participants)
    return ConferenceRoom(appointment, CLAIMS_PER_SEAT, 0.0, limit=limit)


def sit(room: ConferenceRoom, number: int, pid: str, address: bytes = b"a") -> Claim:
    role = Role.PARTICIPANT if number else Role.ORGANISER
    claim = Claim(pid, role, address, f"token-{pid}", client=None, waiting_since=START, number=number)
    room.add(claim)
    claim.client = sum(pid.encode())
    return claim


def admit(room: ConferenceRoom, number: int, pid: str) -> Claim:
    claim = sit(room, number, pid)
    assert room.admit(pid) is not None
    return claim


def beside(room: ConferenceRoom, claim: Claim) -> set[str]:
    return {other.pid for other in room.present_beside(claim)}


def test_organisers_are_admitted_at_once_and_participants_by_nobodys_arrival() -> None:
    room = make_room()
    early = sit(room, 1, "early")
    organiser = sit(room, 0, "organiser")
    late = sit(room, 2, "late")
    assert organiser.confirmed
    assert not early.confirmed
    assert not late.confirmed
    assert list(room.admitted()) == [organiser]


def test_who_waits_hears_of_the_organiser_and_of_nobody_else() -> None:
    room = make_room()
    organiser, inside = sit(room, 0, "o"), admit(room, 1, "inside")
    first, second = sit(room, 2, "first"), sit(room, 3, "second")
    rival = sit(room, 2, "rival")
    for waiting in (first, second, rival):
        assert beside(room, waiting) == {"o"}
        assert room.reachable(waiting, "o") is organiser
        assert room.reachable(organiser, waiting.pid) is waiting
        assert room.reachable(waiting, "inside") is None
        assert room.reachable(inside, waiting.pid) is None
    assert room.reachable(first, "second") is None
    assert beside(room, inside) == {"o"}
    assert beside(room, organiser) == {"inside", "first", "second", "rival"}


def test_admitted_people_hear_of_each_other_also_without_an_organiser() -> None:
    room = make_room()
    organiser, first, second = sit(room, 0, "o"), admit(room, 1, "a"), admit(room, 2, "b")
    waiting = sit(room, 3, "w")
    room.remove(organiser, START)
    assert room.reachable(first, "b") is second
    assert beside(room, first) == {"b"}
    assert beside(room, waiting) == set()


def test_who_stands_in_keeps_the_charge_without_a_socket_and_until_an_organiser_comes() -> None:
    room = make_room()
    organiser, second, first = sit(room, 0, "o"), admit(room, 2, "b"), admit(room, 1, "a")
    assert room.pass_charge() == (None, organiser)
    room.detach(organiser)
    assert room.pass_charge() is None
    room.remove(organiser, START)
    assert room.pass_charge() == (organiser, first)
    assert room.stand_in is first
    room.detach(first)
    assert room.pass_charge() is None
    room.remove(first, START)
    assert room.pass_charge() == (first, second)
    again = sit(room, 0, "again")
    assert room.pass_charge() == (second, again)
    assert room.stand_in is None


def test_nobody_speaks_to_itself_or_to_somebody_without_a_socket() -> None:
    room = make_room()
    organiser, other = sit(room, 0, "o"), admit(room, 1, "a")
    assert room.reachable(organiser, "o") is None
    room.detach(other)
    assert room.reachable(organiser, "a") is None
    assert room.reachable(organiser, "nobody") is None


def test_an_admitted_claim_with_a_socket_holds_its_seat() -> None:
    room = make_room()
    sit(room, 0, "o")
    admit(room, 1, "a")
    for number in (0, 1):
        with pytest.raises(SeatTaken):
            sit(room, number, "rival")
    assert "rival" not in room


def test_who_waits_on_the_same_seat_must_go_when_one_of_them_is_admitted() -> None:
    room = make_room()
    sit(room, 0, "o")
    chosen, rival, neighbour = sit(room, 1, "chosen"), sit(room, 1, "rival"), sit(room, 2, "neighbour")
    assert room.admit("chosen") == (chosen, [rival])
    assert "rival" not in room
    assert "neighbour" in room
    assert not neighbour.confirmed


def test_a_seat_passes_to_somebody_else_only_by_admission() -> None:
    room = make_room()
    sit(room, 0, "o")
    holder = admit(room, 1, "holder")
    room.detach(holder)
    newcomer = sit(room, 1, "newcomer")
    assert holder.confirmed
    assert not newcomer.confirmed
    assert room.admit("newcomer") == (newcomer, [holder])
    assert room.find("holder") is None


def test_who_comes_back_by_its_token_sends_away_who_waits_on_its_seat() -> None:
    room = make_room()
    sit(room, 0, "o")
    holder = admit(room, 1, "holder")
    room.detach(holder)
    newcomer = sit(room, 1, "newcomer")
    assert room.find_by_token(Role.PARTICIPANT, 1, "token-holder") is holder
    assert room.find_by_token(Role.PARTICIPANT, 2, "token-holder") is None
    assert room.reclaim(holder) == [newcomer]


def test_another_organiser_is_in_charge_while_the_first_is_away_and_no_longer() -> None:
    room = make_room()
    first = sit(room, 0, "first")
    room.detach(first)
    second = sit(room, 0, "second")
    assert list(room.admitted()) == [second]
    assert room.reclaim(first) == [second]
    assert list(room.admitted()) == [first]


def test_only_participants_who_are_here_and_wait_are_admitted() -> None:
    room = make_room()
    organiser, inside = sit(room, 0, "o"), admit(room, 1, "inside")
    gone = sit(room, 2, "gone")
    room.detach(gone)
    for pid in ("o", "inside", "gone", "nobody"):
        assert room.admit(pid) is None
    room.detach(organiser)
    sit(room, 0, "other")
    assert room.admit("o") is None
    assert not gone.confirmed
    assert inside.confirmed


def test_a_report_admits_nobody_and_a_failure_counts() -> None:
    room = make_room()
    organiser, waiting = sit(room, 0, "o"), sit(room, 1, "w")
    assert room.report(organiser, "w", ok=True) == (Pairing.NOTED, [])
    assert room.report(waiting, "o", ok=True) == (Pairing.NOTED, [])
    assert not waiting.confirmed
    assert room.report(organiser, "w", ok=False) == (Pairing.FAILED, [])


def test_a_locked_room_lets_organisers_in_and_participants_only_by_their_claims() -> None:
    room = make_room()
    organiser, inside, waiting = sit(room, 0, "o"), admit(room, 1, "inside"), sit(room, 2, "w")
    room.locked = True
    for number in (1, 2, 3):
        with pytest.raises(RoomLocked):
            sit(room, number, "late")
    room.detach(organiser)
    sit(room, 0, "again")
    room.detach(inside)
    assert room.reclaim(inside) == []
    assert room.admit("w") == (waiting, [])
    room.locked = False
    assert not sit(room, 3, "late").confirmed


def test_the_place_of_the_organiser_is_never_given_away() -> None:
    room = make_room(participants=5, limit=3)
    assert room.limit == 3
    helper = sit(room, 0, "o")
    first, _, waiting = admit(room, 1, "a"), admit(room, 2, "b"), None
    with pytest.raises(RoomFull) as caught:
        sit(room, 3, "c")
    assert caught.value.limit == 3
    room.remove(helper, START)
    with pytest.raises(RoomFull):
        sit(room, 3, "c")
    assert sit(room, 0, "again").confirmed
    room.remove(first, START)
    waiting = sit(room, 3, "c")
    other = sit(room, 4, "d")
    assert room.admit("c") == (waiting, [])
    with pytest.raises(RoomFull):
        room.admit("d")
    assert not other.confirmed


def test_a_full_room_lets_somebody_else_take_a_seat_that_is_admitted() -> None:
    room = make_room(participants=2, limit=3)
    sit(room, 0, "o")
    admit(room, 1, "a")
    holder = admit(room, 2, "b")
    room.detach(holder)
    newcomer = sit(room, 2, "c")
    assert room.admit("c") == (newcomer, [holder])


def test_the_limit_is_no_more_than_the_people_of_the_appointment() -> None:
    assert make_room(participants=3, limit=20).limit == 4
    assert make_room(participants=19, limit=20).limit == 20
    assert make_room(participants=19, limit=8).limit == 8


def test_who_waits_on_a_seat_makes_room_by_address_as_between_two() -> None:
    room = make_room()
    sit(room, 1, "rightful", b"r")
    for pid in ("x", "y", "z"):
        sit(room, 1, pid, b"x")
    assert "rightful" in room
    assert len(room) == CLAIMS_PER_SEAT


def test_a_locator_alone_is_not_trusted_as_admission_is() -> None:
    room = make_room()
    organiser, inside, waiting = sit(room, 0, "o"), admit(room, 1, "a"), sit(room, 2, "w")
    assert [room.trusts(claim) for claim in (organiser, inside, waiting)] == [False, True, False]


def test_nobody_begins_to_wait_because_somebody_goes() -> None:
    room = make_room()
    organiser, inside = sit(room, 0, "o"), admit(room, 1, "a")
    room.remove(organiser, START)
    assert inside.waiting_since is None
