"""Conferences as their clients see them: the desk, its rooms and the lobby around them."""

import dataclasses
from typing import Any

import pytest

from signaling import events
from signaling.appointments import Tier
from signaling.conference_desk import MEDIA_PACE
from signaling.conference_media import (
    Answer,
    ConnectionState,
    Enter,
    Layers,
    Leave,
    Look,
    MediaState,
    Offer,
    OfferAgain,
    Published,
    Side,
    Source,
    Speakers,
    Subscribe,
    TrackName,
    Wish,
)
from signaling.refusals import RESTART_RETRY_SECONDS
from tests.unit.signaling.harness import START, Harness

ROOM = bytes([1]) * 16
SDP = "v=0\r\n"
PUBLISH = {"type": "publish", "sdp": SDP, "version": 4, "sources": {"0": "camera"}}


@dataclasses.dataclass
class Conference:
    """A conference of four, with its organiser seated."""

    harness: Harness
    locators: list[str]
    organiser: int

    def __post_init__(self) -> None:
        self.pids = {self.organiser: self.harness.pid(self.organiser)}

    def join(self, number: int, resume: str | None = None, address: str = "192.0.2.1") -> int:
        client = self.harness.join(self.locators[number], resume, address)
        if client not in self.harness.closed:
            self.pids[client] = self.harness.pid(client)
        return client

    def admit(self, client: int, *, ok: bool = True) -> None:
        self.harness.send(self.organiser, type="admit", peer=self.harness.pid(client), ok=ok)

    def join_and_admit(self, number: int) -> int:
        client = self.join(number)
        self.admit(client)
        return client

    def take(self, *clients: int) -> list[list[dict[str, Any]]]:
        return [self.harness.take(client) for client in clients]

    def peer(self, client: int, number: int, *, present: bool = True, admitted: bool = True) -> dict[str, Any]:
        """What is told about a client."""
        return {
            "type": "peer",
            "pid": self.pids[client],
            "role": "participant" if number else "organiser",
            "present": present,
            "index": number,
            "admitted": admitted,
        }


@pytest.fixture
def conference() -> Conference:
    harness = Harness(media=True, seat_hold_seconds=30)
    locators = harness.plan_conference(1, 3)
    return Conference(harness, locators, harness.join(locators[0]))


def of(messages: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    return [message for message in messages if message["type"] in kinds]


def test_joined_says_what_a_conference_is_and_who_must_wait(conference: Conference) -> None:
    waiting = conference.join(2)
    told = [conference.harness.joined(client)["conference"] for client in (conference.organiser, waiting)]
    assert told == [
        {"index": 0, "limit": 4, "admitted": True, "locked": False},
        {"index": 2, "limit": 4, "admitted": False, "locked": False},
    ]


def test_the_organiser_and_who_waits_hear_of_each_other(conference: Conference) -> None:
    waiting = conference.join(1)
    heard = of(conference.harness.inbox[conference.organiser], "peer")
    assert heard == [conference.peer(waiting, 1, admitted=False)]
    assert of(conference.harness.inbox[waiting], "peer") == [conference.peer(conference.organiser, 0)]


def test_who_waits_longer_than_the_organiser_is_told_with_its_time() -> None:
    harness = Harness(media=True)
    locators = harness.plan_conference(1, 2)
    harness.join(locators[1])
    harness.advance(60)
    organiser = harness.join(locators[0])
    later = harness.join(locators[2])
    since = [message.get("since") for message in of(harness.inbox[organiser], "peer")]
    assert since == [f"{START:%Y-%m-%dT%H:%M:%SZ}", None]
    assert "since" not in harness.inbox[later][-1]


def test_admission_introduces_everybody_who_was_hidden(conference: Conference) -> None:
    inside, waiting, other = conference.join_and_admit(1), conference.join(2), conference.join(3)
    conference.take(conference.organiser, inside, other)
    introduced = conference.peer(waiting, 2)
    before = len(conference.harness.inbox[waiting])
    conference.admit(waiting)
    assert conference.harness.inbox[waiting][before:] == [{"type": "admitted"}, conference.peer(inside, 1)]
    assert conference.take(conference.organiser, inside, other) == [[introduced], [introduced], []]
    assert events.AdmissionDecided(admitted=True) in conference.harness.events


def test_nobody_is_admitted_by_an_arrival_or_by_what_participants_say(conference: Conference) -> None:
    inside, waiting = conference.join_and_admit(1), conference.join(2)
    conference.harness.send(waiting, type="paired", peer=conference.harness.pid(conference.organiser), ok=True)
    conference.harness.send(conference.organiser, type="paired", peer=conference.harness.pid(waiting), ok=True)
    assert not of(conference.harness.inbox[waiting], "admitted")
    conference.harness.send(inside, type="admit", peer=conference.harness.pid(waiting), ok=True)
    assert inside not in conference.harness.closed
    conference.harness.send(waiting, type="admit", peer=conference.harness.pid(waiting), ok=True)
    assert conference.harness.error(waiting) == {"type": "error", "code": "bad_message"}
    assert not of(conference.harness.inbox[waiting], "admitted")
    assert conference.harness.media == [
        Enter(ROOM, conference.pids[conference.organiser]),
        Enter(ROOM, conference.pids[inside]),
    ]


def test_who_is_not_let_in_is_told_and_closed_and_may_come_again(conference: Conference) -> None:
    waiting = conference.join(1)
    conference.take(conference.organiser)
    gone = conference.peer(waiting, 1, present=False, admitted=False)
    pid = conference.pids[waiting]
    conference.harness.send(conference.organiser, type="admit", peer=pid, ok=False)
    assert conference.harness.error(waiting) == {"type": "error", "code": "refused"}
    assert conference.take(conference.organiser) == [[gone]]
    assert events.ClaimEnded(events.Departure.REFUSED) in conference.harness.events
    assert events.AdmissionDecided(admitted=False) in conference.harness.events
    again = conference.join(1, resume="unknown")
    assert conference.harness.joined(again)["conference"]["admitted"] is False


@pytest.mark.parametrize("message", [{"type": "admit", "ok": True}, {"type": "admit", "ok": False}, {"type": "remove"}])
def test_a_decision_about_nobody_changes_nothing(conference: Conference, message: dict[str, Any]) -> None:
    waiting = conference.join(1)
    conference.take(conference.organiser)
    own = conference.harness.lobby._rooms[ROOM].claims()[0].pid
    for pid in ("nobody", own):
        conference.harness.send(conference.organiser, peer=pid, **message)
    assert conference.take(conference.organiser) == [[]]
    assert {conference.organiser, waiting}.isdisjoint(conference.harness.closed)


def test_who_is_admitted_cannot_be_refused_any_more_but_removed(conference: Conference) -> None:
    inside = conference.join_and_admit(1)
    pid = conference.pids[inside]
    conference.harness.send(conference.organiser, type="admit", peer=pid, ok=False)
    assert inside not in conference.harness.closed
    conference.harness.send(conference.organiser, type="remove", peer=pid)
    assert conference.harness.error(inside) == {"type": "error", "code": "removed"}
    assert conference.harness.media[-1] == Leave(ROOM, pid)
    again = conference.join(1)
    assert conference.harness.joined(again)["conference"]["admitted"] is False
    assert conference.harness.media[-1] == Leave(ROOM, pid)


def test_who_is_removed_while_away_does_not_come_back_by_its_token(conference: Conference) -> None:
    inside = conference.join_and_admit(1)
    pid, token = conference.pids[inside], conference.harness.token(inside)
    conference.harness.disconnect(inside)
    conference.harness.send(conference.organiser, type="remove", peer=pid)
    assert conference.harness.media[-1] == Leave(ROOM, pid)
    again = conference.join(1, resume=token)
    assert conference.harness.joined(again)["conference"]["admitted"] is False


def test_a_locked_room_refuses_newcomers_and_tells_everybody_admitted(conference: Conference) -> None:
    inside, waiting = conference.join_and_admit(1), conference.join(2)
    conference.take(conference.organiser)
    before = len(conference.harness.inbox[waiting])
    conference.harness.send(conference.organiser, type="lock", locked=True)
    conference.harness.send(conference.organiser, type="lock", locked=True)
    assert conference.take(conference.organiser) == [[{"type": "locked", "locked": True}]]
    assert of(conference.harness.inbox[inside], "locked") == [{"type": "locked", "locked": True}]
    assert len(conference.harness.inbox[waiting]) == before
    newcomer = conference.join(3)
    assert conference.harness.error(newcomer) == {"type": "error", "code": "locked"}
    conference.admit(waiting)
    told = conference.harness.inbox[waiting][before : before + 2]
    assert told == [{"type": "admitted"}, {"type": "locked", "locked": True}]
    conference.harness.send(conference.organiser, type="lock", locked=False)
    assert conference.harness.joined(conference.join(3))["conference"]["index"] == 3


def test_a_lock_keeps_nobody_out_who_comes_back(conference: Conference) -> None:
    inside = conference.join_and_admit(1)
    token = conference.harness.token(inside)
    conference.harness.send(conference.organiser, type="lock", locked=True)
    conference.harness.disconnect(inside)
    back = conference.harness.joined(conference.join(1, resume=token))
    assert back["conference"] == {"index": 1, "limit": 4, "admitted": True, "locked": True}
    conference.harness.disconnect(conference.organiser)
    assert conference.harness.joined(conference.join(0))["conference"]["locked"] is True


def test_the_code_of_somebody_admitted_is_in_use(conference: Conference) -> None:
    conference.join_and_admit(1)
    for number in (0, 1):
        assert conference.harness.error(conference.join(number)) == {"type": "error", "code": "code_in_use"}


def test_of_two_who_wait_with_one_code_the_other_must_go_when_one_is_admitted(conference: Conference) -> None:
    first, second = conference.join(1), conference.join(1)
    conference.admit(second)
    assert conference.harness.error(first) == {"type": "error", "code": "code_in_use"}
    assert of(conference.harness.inbox[second], "admitted")


def test_the_conference_goes_on_when_the_organiser_goes_and_comes_back(conference: Conference) -> None:
    first, second, waiting = conference.join_and_admit(1), conference.join_and_admit(2), conference.join(3)
    token = conference.harness.token(conference.organiser)
    conference.take(first)
    harness, pid = conference.harness, conference.pids[conference.organiser]
    harness.disconnect(conference.organiser)
    assert [message["present"] for message in conference.take(first)[0]] == [False]
    harness.send(first, type="relay", to=harness.pid(second), blob="still")
    assert harness.inbox[second][-1]["blob"] == "still"
    back = conference.join(0, resume=token)
    assert harness.joined(back)["pid"] == pid
    assert [message["present"] for message in conference.take(first)[0]] == [True]
    harness.send(back, type="admit", peer=harness.pid(waiting), ok=True)
    assert of(harness.inbox[waiting], "admitted")
    harness.send(back, type="leave")
    assert waiting not in harness.closed
    assert Leave(ROOM, pid) in harness.media


def test_when_the_organiser_has_gone_the_lowest_number_stands_in_and_meets_who_waits(conference: Conference) -> None:
    harness = conference.harness
    second, first, waiting = conference.join_and_admit(2), conference.join_and_admit(1), conference.join(3)
    conference.take(first, second, waiting)
    gone = conference.peer(conference.organiser, 0, present=False)
    harness.send(conference.organiser, type="leave")
    stand_in = {"type": "stand_in", "pid": conference.pids[first]}
    seen = conference.take(first, second, waiting)
    assert seen == [
        [gone, stand_in, conference.peer(waiting, 3, admitted=False)],
        [gone, stand_in],
        [gone, conference.peer(first, 1)],
    ]
    harness.send(first, type="relay", to=conference.pids[waiting], blob="ke1")
    harness.send(first, type="admit", peer=conference.pids[waiting], ok=True)
    assert of(harness.inbox[waiting], "admitted", "stand_in", "relay")[-2:] == [{"type": "admitted"}, stand_in]
    harness.send(first, type="lock", locked=True)
    harness.send(first, type="remove", peer=conference.pids[second])
    assert of(harness.inbox[waiting], "locked") == [{"type": "locked", "locked": True}]
    assert harness.error(second) == {"type": "error", "code": "removed"}


def test_an_organiser_who_only_falls_silent_is_in_charge_until_its_claim_has_ended(conference: Conference) -> None:
    harness = conference.harness
    inside, waiting = conference.join_and_admit(1), conference.join(2)
    harness.disconnect(conference.organiser)
    conference.take(inside)
    harness.send(inside, type="admit", peer=conference.pids[waiting], ok=True)
    assert conference.take(inside) == [[]]
    harness.advance(30)
    assert of(harness.inbox[inside], "stand_in") == [{"type": "stand_in", "pid": conference.pids[inside]}]
    harness.send(inside, type="admit", peer=conference.pids[waiting], ok=True)
    assert of(harness.inbox[waiting], "admitted")


def test_an_organiser_who_comes_back_is_in_charge_at_once(conference: Conference) -> None:
    harness = conference.harness
    inside, waiting = conference.join_and_admit(1), conference.join(2)
    harness.send(conference.organiser, type="leave")
    conference.take(inside, waiting)
    back = conference.join(0)
    own, other = conference.take(inside, waiting)
    here, unseen = conference.peer(back, 0), conference.peer(waiting, 2, present=False, admitted=False)
    assert own == [{"type": "stand_in"}, unseen, here]
    assert other == [conference.peer(inside, 1, present=False), here]
    assert harness.inbox[back][0]["type"] == "joined"
    assert not of(harness.inbox[back], "stand_in")
    harness.send(inside, type="admit", peer=conference.pids[waiting], ok=True)
    harness.send(inside, type="lock", locked=True)
    assert not of(harness.inbox[waiting], "admitted")
    assert not of(harness.inbox[back], "locked")
    assert inside not in harness.closed
    harness.send(back, type="admit", peer=conference.pids[waiting], ok=True)
    assert of(harness.inbox[waiting], "admitted")


def test_nobody_who_is_let_in_takes_the_charge_from_who_stands_in(conference: Conference) -> None:
    harness = conference.harness
    second, first = conference.join_and_admit(2), conference.join(1)
    harness.send(conference.organiser, type="leave")
    conference.take(second)
    harness.send(second, type="admit", peer=conference.pids[first], ok=True)
    assert not of(conference.take(second)[0], "stand_in")
    harness.send(second, type="leave")
    assert of(harness.inbox[first], "stand_in")[-1] == {"type": "stand_in", "pid": conference.pids[first]}


def test_who_comes_back_hears_who_stands_in(conference: Conference) -> None:
    harness = conference.harness
    first, second = conference.join_and_admit(1), conference.join_and_admit(2)
    token = harness.token(second)
    harness.disconnect(second)
    harness.send(conference.organiser, type="leave")
    back = conference.join(2, resume=token)
    assert of(harness.inbox[back], "stand_in") == [{"type": "stand_in", "pid": conference.pids[first]}]


def test_without_anybody_admitted_nobody_is_in_charge_until_the_organiser_comes(conference: Conference) -> None:
    harness = conference.harness
    waiting = conference.join(1)
    harness.send(conference.organiser, type="leave")
    assert not of(harness.inbox[waiting], "stand_in")
    back = conference.join(0)
    harness.send(back, type="admit", peer=conference.pids[waiting], ok=True)
    assert of(harness.inbox[waiting], "admitted")


def test_the_rightful_organiser_sends_somebody_away_who_took_the_seat_meanwhile(conference: Conference) -> None:
    harness = conference.harness
    token, pid = harness.token(conference.organiser), conference.pids[conference.organiser]
    harness.disconnect(conference.organiser)
    stranger = conference.join(0, address="192.0.2.9")
    assert harness.media[-2:] == [Leave(ROOM, pid), Enter(ROOM, harness.pid(stranger))]
    waiting = conference.join(1)
    assert harness.inbox[waiting][-1] == conference.peer(stranger, 0)
    back = conference.join(0, resume=token)
    told = [conference.peer(stranger, 0, present=False), conference.peer(back, 0)]
    assert harness.inbox[waiting][-2:] == told
    assert harness.error(stranger) == {"type": "error", "code": "code_in_use"}
    assert harness.joined(back)["pid"] == pid
    assert harness.media[-2:] == [Leave(ROOM, conference.pids[stranger]), Enter(ROOM, pid)]


def test_of_many_who_took_the_organisers_seat_everybody_hears_that_the_one_in_charge_has_gone(
    conference: Conference,
) -> None:
    harness = conference.harness
    token = harness.token(conference.organiser)
    harness.disconnect(conference.organiser)
    harness.disconnect(conference.join(0, address="192.0.2.8"))
    stranger = conference.join(0, address="192.0.2.9")
    waiting = conference.join(1)
    back = conference.join(0, resume=token)
    assert harness.inbox[waiting][-2:] == [conference.peer(stranger, 0, present=False), conference.peer(back, 0)]


def test_an_admitted_claim_comes_back_after_a_reload_with_all_it_had(conference: Conference) -> None:
    harness, inside = conference.harness, conference.join_and_admit(1)
    other = conference.join_and_admit(2)
    before = len(harness.media)
    harness.disconnect(inside)
    assert of(harness.inbox[other], "peer")[-1] == conference.peer(inside, 1, present=False)
    harness.advance(29)
    back = conference.join(1, resume=harness.token(inside))
    joined = harness.joined(back)
    assert (joined["pid"], joined["conference"]["admitted"]) == (conference.pids[inside], True)
    assert of(harness.inbox[other], "peer")[-1] == conference.peer(inside, 1)
    assert harness.media[before:] == [], "the media server has noticed"


def test_media_end_with_the_claim_and_no_sooner(conference: Conference) -> None:
    harness, inside = conference.harness, conference.join_and_admit(1)
    leaving = Leave(ROOM, conference.pids[inside])
    harness.disconnect(inside)
    harness.advance(29)
    assert leaving not in harness.media
    harness.advance(1)
    assert harness.media[-1] == leaving


def test_a_blob_reaches_only_whom_its_sender_may_meet(conference: Conference) -> None:
    harness = conference.harness
    inside, first, second = conference.join_and_admit(1), conference.join(2), conference.join(3)
    allowed = {(conference.organiser, client) for client in (inside, first, second)}
    allowed |= {(client, conference.organiser) for client in (inside, first, second)}
    everybody = (conference.organiser, inside, first, second)
    for sender in everybody:
        for receiver in everybody:
            blob = f"{sender}-{receiver}"
            harness.send(sender, type="relay", to=harness.pid(receiver), blob=blob)
            heard = {client for client in everybody if any(m.get("blob") == blob for m in harness.inbox[client])}
            assert heard == ({receiver} if (sender, receiver) in allowed else set())


def test_who_is_admitted_asks_the_media_server(conference: Conference) -> None:
    harness, inside = conference.harness, conference.join_and_admit(1)
    pid, other = conference.pids[inside], conference.pids[conference.organiser]
    waiting = harness.pid(conference.join(2))
    before = len(harness.media)
    wish = {"source": "camera", "visible": True, "width": 320, "height": 180, "pinned": True}
    harness.send(inside, **PUBLISH)
    harness.send(inside, type="subscribed", sdp=SDP, version=4)
    harness.send(inside, type="want", tracks=[{"pid": who, **wish} for who in (other, waiting, pid, "nobody")])
    harness.send(inside, type="restart", side="subscribe")
    assert harness.media[before:] == [
        Offer(ROOM, pid, SDP, 4, {"0": Source.CAMERA}),
        Answer(ROOM, pid, SDP, 4),
        Look(ROOM, pid, (Wish(other, Source.CAMERA, visible=True, width=320, height=180, pinned=True),)),
        OfferAgain(ROOM, pid),
    ]
    asked = [event.kind for event in harness.events if isinstance(event, events.MediaRequested)]
    assert asked == ["publish", "subscribed", "want", "restart"]


@pytest.mark.parametrize(
    "message",
    [
        PUBLISH,
        {"type": "subscribed", "sdp": SDP, "version": 1},
        {"type": "want", "tracks": []},
        {"type": "restart", "side": "subscribe"},
    ],
)
def test_nothing_reaches_the_media_server_before_admission(conference: Conference, message: dict[str, Any]) -> None:
    waiting = conference.join(1)
    conference.harness.send(waiting, **message)
    assert conference.harness.error(waiting) == {"type": "error", "code": "bad_message"}
    assert conference.harness.media == [Enter(ROOM, conference.pids[conference.organiser])]


@pytest.mark.parametrize(
    "message",
    [
        PUBLISH,
        {"type": "subscribed", "sdp": SDP, "version": 1},
        {"type": "want", "tracks": []},
        {"type": "restart", "side": "subscribe"},
    ],
)
def test_requests_of_each_kind_have_a_pace_that_a_new_socket_does_not_forgive(
    conference: Conference, message: dict[str, Any]
) -> None:
    harness, inside = conference.harness, conference.join_and_admit(1)
    token = harness.token(inside)
    for _ in range(MEDIA_PACE.burst):
        harness.send(inside, **message)
    assert inside not in harness.closed
    back = conference.join(1, resume=token)
    harness.send(back, **message)
    assert harness.error(back) == {"type": "error", "code": "bad_message"}
    again = conference.join(1, resume=token)
    harness.advance(MEDIA_PACE.interval)
    harness.send(again, **message)
    assert again not in harness.closed


def test_what_the_media_server_says_reaches_whom_it_is_for(conference: Conference) -> None:
    harness, inside = conference.harness, conference.join_and_admit(1)
    own, other = conference.pids[inside], conference.pids[conference.organiser]
    conference.take(conference.organiser)
    before = len(harness.inbox[inside])
    harness.tell(inside, Published(SDP, 4))
    harness.tell(inside, Subscribe(SDP, 2, {"0": TrackName(other, Source.MICROPHONE)}))
    harness.tell(inside, Speakers((other, own)))
    harness.tell(inside, Layers(("f",)))
    harness.tell(inside, MediaState(Side.PUBLISH, ConnectionState.FAILED, "sdp"))
    assert harness.inbox[inside][before:] == [
        {"type": "published", "sdp": SDP, "version": 4},
        {"type": "subscribe", "sdp": SDP, "version": 2, "tracks": {"0": {"pid": other, "source": "microphone"}}},
        {"type": "speakers", "pids": [other, own]},
        {"type": "layers", "unwanted": ["f"]},
        {"type": "media", "side": "publish", "state": "failed", "reason": "sdp"},
    ]
    assert conference.take(conference.organiser) == [[]]


def test_when_conferences_are_to_end_everybody_in_one_is_told_and_whoever_comes_to_one_later(
    conference: Conference,
) -> None:
    harness, inside = conference.harness, conference.join_and_admit(1)
    waiting = conference.join(2)
    ending = {"type": "ending", "seconds": 90}
    before = {client: len(harness.inbox[client]) for client in (conference.organiser, inside, waiting)}
    harness.lobby.end_conferences(90, harness.now)
    harness.settle()
    told = [harness.inbox[client][seen:] for client, seen in before.items()]
    assert told == [[ending], [ending], []]
    conference.admit(waiting)
    assert harness.inbox[waiting].count(ending) == 1


def test_whoever_comes_or_comes_back_later_is_told_only_the_time_that_is_left(conference: Conference) -> None:
    harness, inside = conference.harness, conference.join_and_admit(1)
    waiting = conference.join(2)
    harness.lobby.end_conferences(90, harness.now)
    harness.advance(60)
    conference.admit(waiting)
    harness.disconnect(inside)
    back = conference.join(1, resume=harness.token(inside))
    assert of(harness.inbox[waiting], "ending") == [{"type": "ending", "seconds": 30}]
    assert of(harness.inbox[back], "ending") == [{"type": "ending", "seconds": 30}]
    harness.advance(31)
    harness.disconnect(back)
    late = conference.join(1, resume=harness.token(back))
    assert of(harness.inbox[late], "ending") == [{"type": "ending", "seconds": 0}]


def test_when_conferences_are_to_end_none_begins_and_the_page_comes_again(conference: Conference) -> None:
    harness = conference.harness
    harness.lobby.end_conferences(90, harness.now)
    client = harness.join(harness.plan_conference(2, 2)[0])
    assert harness.error(client) == {"type": "error", "code": "overload", "retry_after": RESTART_RETRY_SECONDS}


def test_what_is_said_to_nobody_is_dropped(conference: Conference) -> None:
    harness, waiting = conference.harness, conference.join(1)
    before = len(harness.inbox[waiting])
    harness.tell(waiting, Published(SDP, 4))
    harness.lobby.tell(ROOM, "nobody", Published(SDP, 4))
    harness.lobby.tell(bytes(16), harness.pid(waiting), Published(SDP, 4))
    harness.settle()
    assert len(harness.inbox[waiting]) == before


def test_who_comes_back_hears_the_newest_offer_again_but_no_answer(conference: Conference) -> None:
    harness, inside = conference.harness, conference.join_and_admit(1)
    harness.tell(inside, Published(SDP, 4))
    harness.tell(inside, Subscribe(SDP, 1, {}))
    harness.disconnect(inside)
    harness.tell(inside, Subscribe(SDP, 2, {}))
    harness.tell(inside, Speakers(()))
    back = conference.join(1, resume=harness.token(inside))
    said = of(harness.inbox[back], "published", "subscribe", "speakers", "layers")
    assert said == [
        {"type": "subscribe", "sdp": SDP, "version": 2, "tracks": {}},
        {"type": "speakers", "pids": []},
    ]
    assert harness.inbox[back][0]["type"] == "joined"


def test_a_conference_of_another_tier_is_refused_at_join() -> None:
    harness = Harness(media=True)
    client = harness.join(harness.plan_conference(1, 2, Tier.BASIS)[0])
    assert harness.error(client) == {"type": "error", "code": "tier"}
    assert harness.media == []
    assert not harness.lobby.has_room(ROOM)


@pytest.mark.parametrize(
    "settings",
    [{"media": False}, {"media": True, "max_participants": 2}, {"media": True, "redis_url": "redis://localhost"}],
)
def test_where_there_are_no_conferences_only_two_may_meet(settings: dict[str, Any]) -> None:
    harness = Harness(**settings)
    client = harness.join(harness.plan_conference(1, 2)[0])
    assert harness.error(client) == {"type": "error", "code": "no_conferences"}
    assert not harness.lobby.has_room(ROOM)


def test_nobody_beyond_the_limit_gets_in() -> None:
    harness = Harness(media=True, max_participants=3)
    locators = harness.plan_conference(1, 5)
    conference = Conference(harness, locators, harness.join(locators[0]))
    conference.join_and_admit(1)
    last, late = conference.join(2), conference.join(3)
    conference.admit(last)
    conference.admit(late)
    assert harness.error(late) == {"type": "error", "code": "room_full", "limit": 3}
    assert harness.error(conference.join(4)) == {"type": "error", "code": "room_full", "limit": 3}
    assert len([command for command in harness.media if isinstance(command, Enter)]) == 3


@pytest.mark.parametrize("tier", Tier)
@pytest.mark.parametrize(
    "message",
    [
        PUBLISH,
        {"type": "subscribed", "sdp": SDP, "version": 1},
        {"type": "want", "tracks": []},
        {"type": "restart", "side": "subscribe"},
        {"type": "admit", "peer": "x", "ok": True},
        {"type": "remove", "peer": "x"},
        {"type": "lock", "locked": True},
    ],
)
def test_two_people_never_reach_the_media_server_whatever_they_say(tier: Tier, message: dict[str, Any]) -> None:
    harness = Harness(media=True)
    organiser, participant = (harness.join(locator) for locator in harness.plan(1, tier))
    harness.pair(organiser, participant)
    assert "conference" not in harness.joined(organiser)
    assert {"index", "admitted"}.isdisjoint(harness.inbox[participant][1])
    for client in (organiser, participant):
        harness.tell(client, Published(SDP, 4))
        assert not of(harness.inbox[client], "published")
        harness.send(client, **message)
        assert harness.error(client) == {"type": "error", "code": "bad_message"}
    assert harness.media == []


def test_when_the_server_stops_everybody_leaves_the_media_server(conference: Conference) -> None:
    harness = conference.harness
    conference.join_and_admit(1)
    conference.join(2)
    harness.lobby.drain(harness.now)
    harness.settle()
    entered = [command.pid for command in harness.media if isinstance(command, Enter)]
    left = [command.pid for command in harness.media if isinstance(command, Leave)]
    assert len(entered) == 2
    assert sorted(entered) == sorted(left)
    assert events.RoomClosed(Tier.PLUS, 0.0, paired=True, conference=True) in harness.events
