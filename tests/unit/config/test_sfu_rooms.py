from hypothesis import given
from hypothesis import strategies as st

from config.sfu_rooms import FULL, MOVED, Order, SfuRooms, Told, WorkerBounds
from signaling.conference_media import (
    Answer,
    ConnectionState,
    Enter,
    Layers,
    Leave,
    Look,
    MediaCommand,
    MediaMessage,
    MediaState,
    Offer,
    OfferAgain,
    Side,
    Source,
    Speakers,
    Subscribe,
    Wish,
)

ROOM, OTHER, THIRD = b"a" * 16, b"b" * 16, b"c" * 16
BOUNDS = WorkerBounds(max_rooms=2, max_members=4)
OFFER = Offer(ROOM, "ada", "v=0", 1, {"0": Source.MICROPHONE})
LOOK = Look(ROOM, "ada", (Wish("ben", Source.CAMERA, visible=True, width=320, height=180, pinned=False),))
BEGIN_ANEW = MediaState(Side.PUBLISH, ConnectionState.FAILED, MOVED)
RESET = (Layers(()), Speakers(()))


class Scene:
    def __init__(self, workers: int = 2, bounds: WorkerBounds = BOUNDS) -> None:
        self.rooms = SfuRooms(workers, bounds)
        for worker in range(workers):
            self.rooms.open(worker)

    def do(self, *commands: MediaCommand) -> list[Order]:
        for command in commands:
            self.rooms.receive_command(command)
        return self.orders()

    def orders(self) -> list[Order]:
        return list(iter(self.rooms.poll_order, None))

    def told(self) -> list[tuple[str, MediaMessage]]:
        return [(told.pid, told.message) for told in iter(self.rooms.poll_told, None)]


def offer(version: int) -> Subscribe:
    return Subscribe("v=0", version, {})


def test_a_conference_is_in_one_worker_and_the_next_one_where_fewer_people_are() -> None:
    scene = Scene()
    orders = scene.do(Enter(ROOM, "ada"), Enter(OTHER, "cia"), Enter(ROOM, "ben"), OFFER, Enter(THIRD, "dan"))
    assert [(order.worker, order.command.room) for order in orders] == [
        (0, ROOM),
        (1, OTHER),
        (0, ROOM),
        (0, ROOM),
        (1, THIRD),
    ]


def test_what_names_somebody_who_has_not_entered_reaches_no_worker() -> None:
    scene = Scene()
    assert scene.do(OFFER, LOOK, Leave(ROOM, "ada"), Answer(ROOM, "ada", "v=0", 1), OfferAgain(ROOM, "ada")) == []
    assert scene.do(Enter(ROOM, "ben"), OFFER) == [Order(0, Enter(ROOM, "ben"))]
    assert scene.do(Enter(ROOM, "ben")) == []


def test_a_conference_whose_worker_ended_goes_on_in_another_one_with_all_that_its_people_have_said() -> None:
    scene = Scene()
    scene.do(Enter(ROOM, "ada"), Enter(ROOM, "ben"), OFFER, LOOK)
    assert scene.rooms.close(0) == 1
    assert scene.orders() == [Order(1, Enter(ROOM, "ada")), Order(1, LOOK), Order(1, Enter(ROOM, "ben"))]
    assert scene.told() == [*(("ada", said) for said in (*RESET, BEGIN_ANEW)), *(("ben", said) for said in RESET)]


def test_without_a_worker_conferences_wait_and_go_to_the_next_one_that_comes() -> None:
    scene = Scene(workers=1)
    scene.do(Enter(ROOM, "ada"))
    scene.rooms.close(0)
    assert (scene.orders(), scene.told(), scene.rooms.waiting) == ([], [], 1)
    assert scene.do(OFFER, Enter(OTHER, "ben"), Enter(OTHER, "cia"), Leave(OTHER, "cia")) == []
    scene.rooms.open(0)
    assert scene.orders() == [Order(0, Enter(ROOM, "ada")), Order(0, Enter(OTHER, "ben"))]
    assert ("ada", BEGIN_ANEW) in scene.told()
    assert scene.rooms.waiting == 0


def test_where_all_others_are_full_conferences_wait_for_the_worker_that_replaces_theirs() -> None:
    scene = Scene(bounds=WorkerBounds(max_rooms=1, max_members=9))
    scene.do(Enter(ROOM, "ada"), Enter(OTHER, "ben"))
    scene.rooms.close(0)
    assert (scene.orders(), scene.rooms.waiting) == ([], 1)
    scene.rooms.open(0)
    assert (scene.orders(), scene.rooms.waiting) == ([Order(0, Enter(ROOM, "ada"))], 0)


def test_a_worker_retires_once() -> None:
    scene = Scene()
    scene.do(Enter(ROOM, "ada"))
    assert (scene.rooms.retire(0), scene.rooms.retire(0)) == (1, None)


def test_offers_are_counted_on_in_the_next_worker_and_answers_to_the_earlier_one_reach_nobody() -> None:
    scene = Scene()
    scene.do(Enter(ROOM, "ada"))
    scene.rooms.receive_said(0, ROOM, "ada", offer(1))
    scene.rooms.receive_said(0, ROOM, "ada", offer(2))
    scene.rooms.close(0)
    scene.orders()
    scene.told()
    scene.rooms.receive_said(1, ROOM, "ada", offer(1))
    assert scene.told() == [("ada", offer(3))]
    for nothing in (0, 2, 4, 2**31 - 1):
        assert scene.do(Answer(ROOM, "ada", "v=0", nothing)) == []
    assert scene.do(Answer(ROOM, "ada", "v=0", 3)) == [Order(1, Answer(ROOM, "ada", "v=0", 1))]


def test_a_worker_has_no_say_about_conferences_of_others() -> None:
    scene = Scene()
    scene.do(Enter(ROOM, "ada"))
    for worker, room, pid in ((1, ROOM, "ada"), (0, OTHER, "ada"), (0, ROOM, "ben")):
        scene.rooms.receive_said(worker, room, pid, Speakers(("ada",)))
    assert scene.told() == []
    scene.rooms.receive_said(0, ROOM, "ada", Speakers(("ada",)))
    assert scene.told() == [("ada", Speakers(("ada",)))]


def test_a_worker_that_is_to_end_gives_its_conferences_away_and_gets_no_new_one() -> None:
    scene = Scene()
    scene.do(Enter(ROOM, "ada"), OFFER)
    assert scene.rooms.retire(0) == 1
    assert scene.orders() == [Order(1, Enter(ROOM, "ada"))]
    assert scene.told() == [("ada", said) for said in (*RESET, BEGIN_ANEW)]
    assert scene.do(Enter(OTHER, "ben")) == [Order(1, Enter(OTHER, "ben"))]
    assert scene.rooms.close(0) == 0
    assert scene.rooms.retire(1) is None
    assert (scene.orders(), scene.told()) == ([], [])


def test_a_worker_that_is_to_end_hears_of_those_who_leave_and_of_nothing_else() -> None:
    scene = Scene()
    scene.do(Enter(ROOM, "ada"), Enter(ROOM, "ben"))
    scene.rooms.retire(0)
    scene.orders()
    assert scene.do(OFFER, Enter(ROOM, "cia")) == [Order(1, OFFER), Order(1, Enter(ROOM, "cia"))]
    assert scene.do(Leave(ROOM, "ben")) == [Order(1, Leave(ROOM, "ben")), Order(0, Leave(ROOM, "ben"))]
    scene.rooms.close(0)
    assert scene.do(Leave(ROOM, "ada")) == [Order(1, Leave(ROOM, "ada"))]


def test_draining_lets_no_conference_begin_and_those_that_have_begun_go_on_even_without_their_worker() -> None:
    scene = Scene()
    scene.do(Enter(ROOM, "ada"))
    scene.rooms.drain()
    assert scene.do(Enter(OTHER, "ben"), Leave(OTHER, "ben")) == []
    assert scene.told() == [("ben", MediaState(side, ConnectionState.FAILED, FULL)) for side in Side]
    assert scene.do(Enter(ROOM, "cia")) == [Order(0, Enter(ROOM, "cia"))]
    scene.rooms.close(0)
    assert scene.orders() == [Order(1, Enter(ROOM, "ada")), Order(1, Enter(ROOM, "cia"))]


def test_a_worker_that_is_full_gets_a_conference_only_if_all_are() -> None:
    scene = Scene()
    crowd = [Enter(ROOM, name) for name in ("ada", "ben", "cia", "dan")]
    scene.do(*crowd, Enter(OTHER, "eve"), Enter(THIRD, "fay"))
    assert scene.do(Enter(b"d" * 16, "gus")) == [Order(1, Enter(b"d" * 16, "gus"))]
    assert scene.do(Enter(b"e" * 16, "hal")) == []
    assert scene.told() == [("hal", MediaState(side, ConnectionState.FAILED, FULL)) for side in Side]
    assert scene.rooms.members == 7


ACTIONS = st.one_of(
    st.tuples(st.sampled_from(["enter", "leave"]), st.sampled_from([ROOM, OTHER, THIRD]), st.sampled_from("abc")),
    st.tuples(st.sampled_from(["open", "close", "retire"]), st.integers(0, 2)),
)


@given(st.lists(ACTIONS, max_size=60))
def test_whatever_happens_everybody_has_entered_in_one_living_worker_or_waits_for_one(
    actions: list[tuple[str, bytes, str] | tuple[str, int]],
) -> None:
    rooms = SfuRooms(3, WorkerBounds(100, 500))
    entered: dict[int, set[tuple[bytes, str]]] = {}  # by worker, as long as it lives
    retired: set[int] = set()
    wanted: set[tuple[bytes, str]] = set()
    for action in actions:
        match action:
            case ("enter", bytes(room), str(pid)):
                rooms.receive_command(Enter(room, pid))
                wanted.add((room, pid))
            case ("leave", bytes(room), str(pid)):
                rooms.receive_command(Leave(room, pid))
                wanted.discard((room, pid))
            case ("open", int(worker)) if worker not in entered:
                entered[worker] = set()
                rooms.open(worker)
            case ("close", int(worker)) if worker in entered:
                del entered[worker]
                retired.discard(worker)
                rooms.close(worker)
            case ("retire", int(worker)) if worker in entered and rooms.retire(worker) is not None:
                retired.add(worker)
        for order in iter(rooms.poll_order, None):
            where = (order.command.room, order.command.pid)
            if isinstance(order.command, Enter):
                assert order.worker not in retired
                assert where not in entered[order.worker]
                entered[order.worker].add(where)
            elif order.worker not in retired:
                entered[order.worker].remove(where)
            else:
                entered[order.worker].discard(where)  # it may have come after the worker gave the conference away
        placed = [where for worker, each in entered.items() if worker not in retired for where in each]
        assert len(placed) == len(set(placed))
        assert all(each <= wanted for each in entered.values())
        waiting = wanted - set(placed)
        assert (rooms.members, rooms.waiting) == (len(wanted), len({room for room, _ in waiting}))


def test_told_names_room_and_participant() -> None:
    scene = Scene()
    scene.do(Enter(ROOM, "ada"))
    scene.rooms.receive_said(0, ROOM, "ada", offer(1))
    assert scene.rooms.poll_told() == Told(ROOM, "ada", offer(1))
