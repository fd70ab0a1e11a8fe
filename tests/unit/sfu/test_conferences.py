from sfu.conference import ConferenceBounds
from sfu.conference_messages import MediaState, Published, Refusal, Side, Source, State, Subscribe
from sfu.conferences import Bounds, Conferences
from sfu.media_engine import (
    Bandwidth,
    DownTrackId,
    KeyFrameWanted,
    LayerSeen,
    Loudness,
    SessionId,
    Switched,
    TrackId,
)
from tests.support.fake_media import FakeConnections, FakeEngine, microphone

FULL = [MediaState(side, State.FAILED, Refusal.FULL) for side in Side]


class Worker:
    def __init__(self, bounds: Bounds = Bounds()) -> None:  # noqa: B008  # immutable
        self.engine = FakeEngine()
        self.connections = FakeConnections(self.engine)
        self.connections.offers["offer"] = (microphone(),)
        self.rooms: dict[SessionId, bytes] = {}
        self.conferences = Conferences(self.connections, self.engine, bounds)

    def enter(self, room: bytes, pid: str) -> None:
        """Somebody comes, publishes a microphone, is connected and takes what is offered."""
        known = {*self.connections.subscribers, *self.connections.certificates}
        self.conferences.enter(room, pid, 0.0)
        self.conferences.publish(room, pid, "offer", 8, {"0": Source.MICROPHONE}, 0.0)
        for session in {*self.connections.subscribers, *self.connections.certificates} - known:
            self.rooms[session] = room
            self.connections.connect(session)
            self.conferences.connected(session, 0.0)
        self.answer_all()

    def answer_all(self) -> None:
        while offers := [said for said in self.conferences.poll_said() if isinstance(said[2], Subscribe)]:
            for room, pid, said in offers:
                assert isinstance(said, Subscribe)
                self.conferences.subscribed(room, pid, "", said.version, 0.0)


def test_nothing_of_one_room_reaches_another_even_under_the_same_names() -> None:
    worker = Worker()
    for room in (b"one", b"two"):
        worker.enter(room, "ada")
        worker.enter(room, "ben")
    assert (worker.conferences.rooms, worker.conferences.members) == (2, 4)
    # Four hear one other each: in one room of four it would be three each.
    assert len(worker.engine.routes) == 4
    for down, (track, _, _) in worker.engine.routes.items():
        to, of = worker.engine.downs[down][0], worker.engine.ups[track][0]
        assert worker.rooms[to] == worker.rooms[of]


def test_a_room_ends_with_its_last_member() -> None:
    worker = Worker()
    worker.enter(b"one", "ada")
    assert worker.conferences.poll_timeout() is not None
    worker.conferences.leave(b"one", "ada", 1.0)
    assert (worker.conferences.rooms, worker.conferences.poll_timeout()) == (0, None)
    assert not worker.engine.sessions


def test_there_are_no_more_rooms_and_members_than_allowed() -> None:
    worker = Worker(Bounds(max_rooms=1, max_members=2, room=ConferenceBounds(max_members=3)))
    worker.enter(b"one", "ada")
    worker.conferences.enter(b"two", "ben", 0.0)
    assert [said for _, _, said in worker.conferences.poll_said()] == FULL
    worker.enter(b"one", "cy")
    worker.conferences.enter(b"one", "dee", 0.0)
    assert [said for _, _, said in worker.conferences.poll_said()] == FULL
    assert (worker.conferences.rooms, worker.conferences.members) == (1, 2)


def test_while_it_drains_no_room_begins_but_people_still_come_to_one_that_has() -> None:
    worker = Worker()
    worker.enter(b"one", "ada")
    worker.conferences.is_draining = True
    worker.conferences.enter(b"two", "ben", 0.0)
    assert [said for _, _, said in worker.conferences.poll_said()] == FULL
    worker.enter(b"one", "cy")
    assert worker.conferences.members == 2


def test_what_names_a_room_that_is_not_there_is_ignored() -> None:
    worker = Worker()
    worker.conferences.publish(b"one", "ada", "offer", 8, {}, 0.0)
    worker.conferences.subscribed(b"one", "ada", "", 1, 0.0)
    worker.conferences.want(b"one", "ada", [], 0.0)
    worker.conferences.restart(b"one", "ada", 0.0)
    worker.conferences.leave(b"one", "ada", 0.0)
    worker.conferences.connected(SessionId(1), 0.0)
    worker.conferences.ended(SessionId(1), "ice", 0.0)
    worker.conferences.receive_media(
        [
            Loudness(TrackId(1), -20),
            LayerSeen(TrackId(1), 0),
            Bandwidth(SessionId(1), 1e6),
            KeyFrameWanted(TrackId(1), 0),
            Switched(DownTrackId(1), 0),
        ],
        0.0,
    )
    assert not worker.conferences.poll_said()
    assert worker.conferences.switches == 1


def test_an_estimate_is_kept_for_the_one_it_is_about() -> None:
    worker = Worker()
    worker.enter(b"one", "ada")
    worker.enter(b"one", "ben")
    first = min(worker.connections.subscribers)
    worker.conferences.receive_media([Bandwidth(first, 777e3)], 1.0)
    assert sorted(worker.conferences.estimates()) == [300e3, 777e3]
    assert worker.conferences.connected_sessions == 4


def test_the_answer_to_an_offer_goes_to_whoever_made_it() -> None:
    worker = Worker()
    worker.conferences.enter(b"one", "ada", 0.0)
    worker.conferences.publish(b"one", "ada", "offer", 8, {"0": Source.MICROPHONE}, 0.0)
    assert (b"one", "ada", Published("answer to offer", 8)) in worker.conferences.poll_said()
