"""Rooms against an engine and connections that refuse whatever the real ones would."""

from collections.abc import Iterable
from typing import TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sfu.conference import LOOK_SECONDS, RESUME_BITS_PER_SECOND, Conference, ConferenceBounds, Directory
from sfu.conference_layers import MAX_SOUND
from sfu.conference_messages import (
    Layers,
    MediaState,
    Published,
    Refusal,
    Said,
    Side,
    Source,
    Speakers,
    State,
    Subscribe,
    Wish,
)
from sfu.layer_demand import LayerDemand
from sfu.media_engine import Bandwidth, DownTrackId, Kind, LayerGone, LayerSeen, Loudness, SessionId, Switched, TrackId
from sfu.sdp.publish import PublishedTrack
from sfu.sdp.subscribe import SubscribeAnswer
from tests.support.fake_media import MALFORMED, FakeConnections, FakeEngine, camera, microphone

T = TypeVar("T")
SOURCES = {"0": Source.MICROPHONE, "1": Source.CAMERA, "2": Source.SCREEN}
RATES = ((50e3, 100e3), (200e3, 400e3), (700e3, 1.4e6))


class Room:
    """A room with the shell that it needs: connections connect, offers are answered, everything is kept."""

    def __init__(self, bounds: ConferenceBounds = ConferenceBounds(), directory: Directory | None = None) -> None:  # noqa: B008  # immutable
        self.engine = FakeEngine()
        self.connections = FakeConnections(self.engine)
        self.directory = directory or Directory()
        self.conference = Conference(self.connections, self.engine, self.directory, bounds)
        self.now = 100.0
        self.said: list[tuple[str, Said]] = []
        self.tracks: dict[str, dict[str, tuple[str, Source]]] = {}
        self.subscribers: dict[str, SessionId] = {}

    def enter(self, pid: str, *tracks: PublishedTrack) -> None:
        """Somebody comes, publishes and is connected both ways."""
        before = set(self.connections.subscribers)
        self.conference.enter(pid, self.now)
        (self.subscribers[pid],) = set(self.connections.subscribers) - before
        self.publish(pid, *(tracks or (microphone(), camera())))
        self.connect(self.publisher(pid))
        self.answer_all()
        self.connect(self.subscribers[pid])
        self.answer_all()

    def publish(self, pid: str, *tracks: PublishedTrack) -> None:
        offer = f"{pid} publishes {len(self.connections.offers)}"
        self.connections.offers[offer] = tracks
        self.conference.publish(pid, offer, 1, SOURCES, self.now)

    def publisher(self, pid: str) -> SessionId:
        return next(session for session, page in self.connections.certificates.items() if page == pid)

    def connect(self, session: SessionId) -> None:
        self.connections.connect(session)
        self.conference.connected(session, self.now)

    def lose(self, session: SessionId, reason: str | None = "ice") -> None:
        self.connections.lose(session)
        self.conference.ended(session, reason, self.now)

    def answer_all(self, refused: str = "") -> None:
        """Answer offers until there are none."""
        while offers := [(pid, said) for pid, said in self.drain() if isinstance(said, Subscribe)]:
            for pid, said in offers:
                self.conference.subscribed(pid, refused, said.version, self.now)

    def drain(self) -> list[tuple[str, Said]]:
        fresh = list(iter(self.conference.poll_said, None))
        for pid, said in fresh:
            if isinstance(said, Subscribe):
                self.tracks[pid] = dict(said.tracks)
        self.said += fresh
        return fresh

    def later(self, seconds: float = LOOK_SECONDS) -> None:
        """Time passes, and the room is woken whenever it wants to be."""
        until = self.now + seconds
        while (at := self.conference.poll_timeout()) is not None and at <= until:
            self.now = max(self.now, at)
            self.conference.handle_timeout(self.now)
        self.now = until

    def track(self, pid: str, source: Source) -> TrackId:
        mid = next(mid for mid, named in SOURCES.items() if named is source)
        session = self.publisher(pid)
        return next(track for track, (owner, up) in self.engine.ups.items() if owner == session and up.mid == mid)

    def fed(self, pid: str) -> dict[tuple[str, Source], tuple[int, int]]:
        """What is routed to a member: layer and highest temporal layer, by whose it is."""
        found = {}
        for owner in self.connections.certificates.values():
            for source in Source:
                for down, (track, layer, temporal) in self.engine.routes.items():
                    if self.engine.downs[down][0] != self.subscribers[pid] or track not in self.engine.ups:
                        continue
                    session, up = self.engine.ups[track]
                    if self.connections.certificates[session] == owner and SOURCES[up.mid] is source:
                        found[owner, source] = (layer, temporal)
        return found

    def told(self, kind: type[T]) -> list[tuple[str, T]]:
        self.drain()
        return [(pid, said) for pid, said in self.said if isinstance(said, kind)]

    def sends(self, pid: str, layers: Iterable[int] = (0, 1, 2)) -> None:
        """All layers of a camera come and are measured."""
        track = self.track(pid, Source.CAMERA)
        self.engine.rates[track] = tuple(RATES[layer] if layer in layers else () for layer in range(3))
        for layer in layers:
            self.conference.receive_media(LayerSeen(track, layer), self.now)

    def pictured(self, pid: str) -> None:
        """The first picture reaches a member."""
        for down, (track, layer, _) in list(self.engine.routes.items()):
            if self.engine.downs[down][0] == self.subscribers[pid] and self.engine.ups[track][1].kind is Kind.VIDEO:
                self.conference.receive_media(Switched(down, layer), self.now)

    def budget(self, pid: str, bits_per_second: float) -> None:
        self.conference.receive_media(Bandwidth(self.subscribers[pid], bits_per_second), self.now)
        self.conference.handle_timeout(self.now)


def test_each_gets_the_sound_and_the_smallest_picture_of_the_other_before_a_packet_has_come() -> None:
    room = Room()
    room.enter("ada")
    room.enter("ben")
    for pid, other in (("ada", "ben"), ("ben", "ada")):
        assert room.fed(pid) == {(other, Source.MICROPHONE): (0, 7), (other, Source.CAMERA): (0, 0)}
        assert sorted(room.tracks[pid].values()) == [(other, Source.CAMERA), (other, Source.MICROPHONE)]


def test_a_member_is_told_what_became_of_its_connections() -> None:
    room = Room()
    room.enter("ada")
    assert [(pid, said.side, said.state) for pid, said in room.told(MediaState)] == [
        ("ada", Side.PUBLISH, State.CONNECTED),
        ("ada", Side.SUBSCRIBE, State.CONNECTED),
    ]
    assert len(room.told(Published)) == 1


def test_there_is_one_offer_at_a_time_and_the_next_one_holds_all_that_came_meanwhile() -> None:
    room = Room()
    room.enter("ada")
    room.conference.enter("ben", room.now)
    room.publish("ben", microphone())
    room.conference.enter("cy", room.now)
    room.publish("cy", microphone())
    (first,) = [said for pid, said in room.drain() if pid == "ada" and isinstance(said, Subscribe)]
    assert set(first.tracks.values()) == {("ben", Source.MICROPHONE)}
    room.conference.subscribed("ada", "", first.version, room.now)
    (second,) = [said for pid, said in room.drain() if pid == "ada" and isinstance(said, Subscribe)]
    assert second.version > first.version
    assert set(second.tracks.values()) == {("ben", Source.MICROPHONE), ("cy", Source.MICROPHONE)}


def test_the_answer_to_an_earlier_offer_says_nothing_any_more() -> None:
    room = Room()
    room.conference.enter("ada", room.now)
    ((_, first),) = room.told(Subscribe)
    room.conference.restart("ada", room.now)
    room.conference.subscribed("ada", MALFORMED, first.version, room.now)
    assert not room.told(MediaState)
    room.conference.subscribed("ada", "", first.version + 1, room.now)
    assert not room.drain()


def test_who_leaves_is_taken_from_all_others() -> None:
    room = Room()
    for pid in ("ada", "ben", "cy"):
        room.enter(pid)
    room.conference.leave("cy", room.now)
    room.answer_all()
    assert {owner for owner, _ in room.fed("ada")} == {"ben"}
    assert {owner for owner, _ in room.tracks["ada"].values()} == {"ben"}
    assert len(room.engine.ups) == 4 and len(room.engine.downs) == 4
    room.conference.leave("ada", room.now)
    room.conference.leave("ben", room.now)
    assert room.directory.sessions == {} and room.directory.tracks == {}
    assert room.engine.sessions == set() and room.conference.poll_timeout() is None


def test_a_subscriber_whose_path_carries_more_gets_a_larger_layer_and_a_smaller_one_at_once_when_it_carries_less() -> (
    None
):
    room = Room()
    room.enter("ada")
    room.enter("ben")
    room.sends("ben")
    room.pictured("ada")
    room.budget("ada", 3e6)
    room.later(4.0)
    assert room.fed("ada")["ben", Source.CAMERA] == (2, 1)
    room.budget("ada", 500e3)
    assert room.fed("ada")["ben", Source.CAMERA] == (1, 1)
    room.budget("ada", 100e3)
    assert ("ben", Source.CAMERA) not in room.fed("ada")
    assert room.fed("ada")["ben", Source.MICROPHONE] == (0, 7)


def test_a_path_on_which_no_picture_has_been_sent_gets_one_although_its_estimate_fell() -> None:
    room = Room()
    room.enter("ada")
    room.enter("ben")
    room.sends("ben", [0])
    room.budget("ada", 60e3)
    assert ("ben", Source.CAMERA) in room.fed("ada")
    room.pictured("ada")
    room.later()
    assert ("ben", Source.CAMERA) not in room.fed("ada")


def test_paused_pictures_are_wanted_enough_to_come_back() -> None:
    room = Room()
    room.enter("ada")
    room.enter("ben")
    room.pictured("ada")
    room.budget("ada", 60e3)
    assert room.engine.wanted[room.subscribers["ada"]] >= RESUME_BITS_PER_SECOND
    room.conference.want("ada", [], room.now)
    assert room.engine.wanted[room.subscribers["ada"]] < RESUME_BITS_PER_SECOND


def test_who_looks_at_a_small_view_gets_a_small_layer_whatever_its_path_carries() -> None:
    room = Room()
    room.enter("ada")
    room.enter("ben")
    room.sends("ben")
    room.budget("ada", 9e6)
    room.later(4.0)
    room.conference.want("ada", [Wish("ben", Source.CAMERA, width=640, height=360)], room.now)
    assert room.fed("ada")["ben", Source.CAMERA] == (1, 1)
    room.conference.want("ada", [Wish("ben", Source.CAMERA, visible=False)], room.now)
    assert ("ben", Source.CAMERA) not in room.fed("ada")


def test_publishers_hear_which_layers_nobody_looks_at() -> None:
    room = Room()
    room.enter("ada")
    room.enter("ben")
    room.enter("cy")
    room.conference.want("ada", [Wish("ben", Source.CAMERA, width=320, height=180)], room.now)
    room.conference.want("cy", [Wish("ben", Source.CAMERA, width=640, height=360)], room.now)
    room.later(LayerDemand.STOP_AFTER + LOOK_SECONDS)
    assert [said for pid, said in room.told(Layers) if pid == "ben"] == [Layers(()), Layers(("f",))]
    room.conference.leave("cy", room.now)
    room.later(LayerDemand.STOP_AFTER + LOOK_SECONDS)
    assert dict(room.told(Layers))["ben"] == Layers(("h", "f"))
    room.conference.want("ada", [Wish("ben", Source.CAMERA, width=1280, height=720)], room.now)
    assert dict(room.told(Layers))["ben"] == Layers(())


def test_who_is_alone_need_not_send_a_picture_until_somebody_comes() -> None:
    room = Room()
    room.enter("ada")
    assert room.told(Layers) == [("ada", Layers(("q", "h", "f")))]
    room.enter("ben")
    assert [said for pid, said in room.told(Layers)[1:] if pid == "ada"] == [Layers(())]


def test_whoever_begins_to_publish_hears_also_that_all_its_layers_are_wanted() -> None:
    """It may have heard of a server before that they are not, and would go on sending nothing."""
    room = Room()
    room.enter("ada")
    room.enter("ben")
    assert [said for pid, said in room.told(Layers) if pid == "ben"] == [Layers(())]
    assert len(room.told(Layers)) == len(set(room.told(Layers)))


def test_a_layer_that_has_gone_feeds_nobody() -> None:
    room = Room()
    room.enter("ada")
    room.enter("ben")
    room.sends("ben")
    room.budget("ada", 3e6)
    room.later(4.0)
    track = room.track("ben", Source.CAMERA)
    room.engine.rates[track] = (RATES[0], RATES[1], ())
    room.conference.receive_media(LayerGone(track, 2), room.now)
    room.later()
    assert room.fed("ada")["ben", Source.CAMERA] == (1, 1)


def test_only_the_loudest_are_forwarded_and_the_one_who_begins_to_speak_is_at_once() -> None:
    room = Room(ConferenceBounds(audio_places=1))
    for pid in ("ada", "ben", "cy"):
        room.enter(pid, microphone())
    for _ in range(100):
        room.now += 0.02
        for pid, level in (("ada", -20), ("ben", -60), ("cy", -100)):
            room.conference.receive_media(Loudness(room.track(pid, Source.MICROPHONE), level), room.now)
        room.conference.handle_timeout(room.now)
    assert set(room.fed("cy")) == {("ada", Source.MICROPHONE)}
    assert room.fed("ada") == {}
    assert room.told(Speakers)[-1][1] == Speakers(("ada",))
    room.now += 0.02
    room.conference.receive_media(Loudness(room.track("ben", Source.MICROPHONE), -10), room.now)
    room.conference.handle_timeout(room.now)
    assert set(room.fed("cy")) == {("ben", Source.MICROPHONE)}


def test_a_description_that_is_not_accepted_ends_its_side_and_the_member_may_begin_anew() -> None:
    room = Room()
    room.enter("ada")
    room.enter("ben")
    session = room.publisher("ben")
    room.conference.publish("ben", "nobody knows this", 1, SOURCES, room.now)
    room.answer_all()
    assert room.told(MediaState)[-1] == ("ben", MediaState(Side.PUBLISH, State.FAILED, Refusal.SDP))
    assert room.connections.closed == [session] and room.fed("ada") == {}
    room.publish("ben", microphone())
    room.connect(room.publisher("ben"))
    room.answer_all()
    assert set(room.fed("ada")) == {("ben", Source.MICROPHONE)}


def test_a_page_that_was_loaded_anew_publishes_with_another_certificate() -> None:
    room = Room()
    room.enter("ada")
    room.enter("ben")
    old = room.publisher("ben")
    room.connections.certificates[old] = "what ben had before"
    room.publish("ben", microphone(), camera())
    assert room.connections.closed == [old]
    room.connect(room.publisher("ben"))
    room.answer_all()
    assert {source for _, source in room.fed("ada")} == {Source.MICROPHONE, Source.CAMERA}


def test_an_answer_that_is_not_accepted_ends_the_subscribing_side_until_a_restart() -> None:
    room = Room()
    room.enter("ada")
    room.enter("ben")
    room.publish("ben", microphone())
    (offer,) = [said for pid, said in room.drain() if pid == "ada" and isinstance(said, Subscribe)]
    room.conference.subscribed("ada", MALFORMED, offer.version, room.now)
    assert room.told(MediaState)[-1] == ("ada", MediaState(Side.SUBSCRIBE, State.FAILED, Refusal.SDP))
    room.conference.restart("ada", room.now)
    room.answer_all()
    (room.subscribers["ada"],) = set(room.connections.subscribers) - {room.subscribers["ben"]}
    room.connect(room.subscribers["ada"])
    assert set(room.fed("ada")) == {("ben", Source.MICROPHONE)}


def test_a_restart_offers_new_credentials_even_while_an_answer_is_missing() -> None:
    room = Room()
    room.conference.enter("ada", room.now)
    (session,) = room.connections.subscribers
    room.conference.restart("ada", room.now)
    assert room.connections.subscribers[session].restarts == 1
    assert [said.version for _, said in room.told(Subscribe)] == [1, 2]


def test_a_session_that_fails_is_told_one_that_the_client_ended_is_not() -> None:
    room = Room()
    room.enter("ada")
    room.enter("ben")
    room.drain()
    room.lose(room.publisher("ben"), None)
    room.answer_all()
    assert room.fed("ada") == {} and room.tracks["ada"] == {}
    room.lose(room.subscribers["ada"], "ice")
    assert [said for _, said in room.told(MediaState)][4:] == [MediaState(Side.SUBSCRIBE, State.FAILED, "ice")]


def test_a_track_that_was_refused_is_not_sent_and_the_others_are() -> None:
    room = Room()
    room.enter("ada")
    room.conference.enter("ben", room.now)
    room.publish("ben", microphone(), camera())
    room.connect(room.publisher("ben"))
    (offer,) = [said for pid, said in room.drain() if pid == "ada" and isinstance(said, Subscribe)]
    refused = next(mid for mid, (_, source) in offer.tracks.items() if source is Source.CAMERA)
    room.conference.subscribed("ada", refused, offer.version, room.now)
    assert set(room.fed("ada")) == {("ben", Source.MICROPHONE)}


def test_a_track_that_was_refused_and_is_accepted_later_goes_on_as_the_stream_that_it_was() -> None:
    room = Room()
    room.enter("ada")
    room.enter("ben")
    mid = next(mid for mid, (_, source) in room.tracks["ada"].items() if source is Source.CAMERA)
    room.conference.restart("ada", room.now)
    room.answer_all(refused=mid)
    assert set(room.fed("ada")) == {("ben", Source.MICROPHONE)}
    room.later()
    assert set(room.fed("ada")) == {("ben", Source.MICROPHONE)}
    room.conference.restart("ada", room.now)
    room.answer_all()
    assert set(room.fed("ada")) == {("ben", Source.MICROPHONE), ("ben", Source.CAMERA)}


def test_sound_that_no_codec_of_ours_makes_is_forwarded_to_nobody_until_it_is_less() -> None:
    room = Room()
    for pid in ("ada", "ben"):
        room.enter(pid, microphone())
    flood = room.track("ben", Source.MICROPHONE)
    room.engine.rates[flood] = ((MAX_SOUND * 1.01,),)
    room.later()
    assert room.fed("ada") == {}
    for _ in range(3):  # not even as he begins to speak
        room.now += 0.02
        room.conference.receive_media(Loudness(flood, -10), room.now)
        room.conference.handle_timeout(room.now)
    assert room.fed("ada") == {}
    room.engine.rates[flood] = ((MAX_SOUND,),)
    room.later()
    assert set(room.fed("ada")) == {("ben", Source.MICROPHONE)}


def test_a_screen_comes_and_goes_twenty_times_and_leaves_nothing_behind() -> None:
    room = Room()
    room.enter("ada")
    room.enter("ben")
    for _ in range(20):
        room.publish("ben", microphone(), camera(), camera("2", ()))
        room.answer_all()
        room.later()
        assert ("ben", Source.SCREEN) in room.fed("ada")
        room.publish("ben", microphone(), camera())
        room.answer_all()
    assert len(room.engine.downs) == 4 and len(room.engine.ups) == 4


@pytest.mark.parametrize("text", ["", MALFORMED])
def test_a_handshake_that_fails_while_its_answer_is_taken_is_told_once(text: str) -> None:
    room = Room()
    room.conference.enter("ada", room.now)
    ((_, offer),) = room.told(Subscribe)
    (session,) = room.connections.subscribers
    take = room.connections.answer

    def answer_and_fail(session: SessionId, text: str) -> SubscribeAnswer:
        room.conference.ended(session, "dtls_protocol", room.now)
        return take(session, text)

    room.connections.answer = answer_and_fail  # type: ignore[method-assign]
    room.conference.subscribed("ada", text, offer.version, room.now)
    assert room.told(MediaState) == [("ada", MediaState(Side.SUBSCRIBE, State.FAILED, "dtls_protocol"))]
    assert session not in room.directory.sessions


def test_beyond_its_members_nobody_gets_in() -> None:
    room = Room(ConferenceBounds(max_members=1))
    room.enter("ada")
    room.drain()
    room.conference.enter("ben", room.now)
    assert [said for pid, said in room.drain() if pid == "ben"] == [
        MediaState(side, State.FAILED, Refusal.FULL) for side in Side
    ]
    assert "ben" not in room.conference


def test_whoever_has_not_entered_is_ignored() -> None:
    room = Room()
    room.publish("ben", microphone())
    room.conference.want("ben", [], room.now)
    room.conference.subscribed("ben", "", 1, room.now)
    room.conference.restart("ben", room.now)
    room.conference.leave("ben", room.now)
    assert room.drain() == [] and room.connections.certificates == {}


PIDS = st.sampled_from(["ada", "ben", "cy", "dee", "eve"])
TRACKS = st.sampled_from(
    [
        (microphone(),),
        (microphone(), camera()),
        (camera(),),
        (microphone(), camera(), camera("2", ())),
        (microphone(), camera("1", ("q",))),
        (microphone(), camera("0")),
    ]
)


class Rooms(RuleBasedStateMachine):
    """Whatever members do in whatever order, the fakes' own rules hold and nothing reaches a stranger."""

    def __init__(self) -> None:
        super().__init__()
        self.room = Room(ConferenceBounds(max_members=4, audio_places=3))
        self.outstanding: dict[str, int] = {}
        self.entered: set[str] = set()

    def settle(self) -> None:
        for pid, said in self.room.drain():
            if isinstance(said, Subscribe):
                assert len(set(said.tracks.values())) == len(said.tracks)  # each track exactly once
                assert all(owner != pid and owner in self.room.conference for owner, _ in said.tracks.values())
                self.outstanding[pid] = said.version
            if isinstance(said, MediaState) and said.state is State.FAILED and said.side is Side.SUBSCRIBE:
                self.outstanding.pop(pid, None)

    @rule(pid=PIDS)
    def enter(self, pid: str) -> None:
        self.room.conference.enter(pid, self.room.now)
        self.settle()

    @rule(pid=PIDS)
    def leave(self, pid: str) -> None:
        self.room.conference.leave(pid, self.room.now)
        self.outstanding.pop(pid, None)
        self.settle()

    @rule(pid=PIDS, tracks=TRACKS)
    def publish(self, pid: str, tracks: tuple[PublishedTrack, ...]) -> None:
        self.room.publish(pid, *tracks)
        self.settle()

    @rule(pid=PIDS)
    def publish_nonsense(self, pid: str) -> None:
        self.room.conference.publish(pid, "nonsense", 1, SOURCES, self.room.now)
        self.settle()

    @rule(pid=PIDS, text=st.sampled_from(["", "", MALFORMED]), late=st.integers(0, 1))
    def answer(self, pid: str, text: str, late: int) -> None:
        version = self.outstanding.get(pid, 0)
        self.room.conference.subscribed(pid, text, version - late, self.room.now)
        if not late:
            self.outstanding.pop(pid, None)
        self.settle()

    @rule(pid=PIDS)
    def refuse(self, pid: str) -> None:
        """Refuse every first m-line there is."""
        text = " ".join(mid for each in self.room.connections.subscribers.values() for mid in list(each.lines)[:1])
        self.room.conference.subscribed(pid, text, self.outstanding.pop(pid, 0), self.room.now)
        self.settle()

    @rule(pid=PIDS)
    def restart(self, pid: str) -> None:
        self.room.conference.restart(pid, self.room.now)
        self.settle()

    @rule(pid=PIDS, of=PIDS, source=st.sampled_from(list(Source)), width=st.sampled_from([0, 160, 640, 1280]))
    def want(self, pid: str, of: str, source: Source, width: int) -> None:
        self.room.conference.want(pid, [Wish(of, source, width > 0, width, width * 9 // 16)], self.room.now)
        self.settle()

    def sessions(self) -> list[SessionId]:
        return [*self.room.connections.certificates, *self.room.connections.subscribers]

    @precondition(lambda self: self.sessions())
    @rule(data=st.data())
    def connect(self, data: st.DataObject) -> None:
        session = data.draw(st.sampled_from(self.sessions()))
        if session not in self.room.connections.connected:
            self.room.connect(session)
        self.settle()

    @precondition(lambda self: self.sessions())
    @rule(data=st.data(), reason=st.sampled_from(["ice", None]))
    def lose(self, data: st.DataObject, reason: str | None) -> None:
        self.room.lose(data.draw(st.sampled_from(self.sessions())), reason)
        # Its own farewell is not told, so whoever waited for an answer waits in vain.
        self.settle()

    @precondition(lambda self: self.room.engine.ups)
    @rule(data=st.data(), layer=st.integers(0, 2), rate=st.sampled_from([0.0, 100e3, 900e3]))
    def send(self, data: st.DataObject, layer: int, rate: float) -> None:
        track = data.draw(st.sampled_from(sorted(self.room.engine.ups)))
        rids = self.room.engine.ups[track][1].rids
        layer = min(layer, max(len(rids), 1) - 1)
        measured = [list(each) for each in self.room.engine.bitrates(track, 0.0)]
        measured[layer] = [rate] if rate else []
        self.room.engine.rates[track] = tuple(map(tuple, measured))
        event = LayerSeen(track, layer) if rate else LayerGone(track, layer)
        self.room.conference.receive_media(event, self.room.now)
        self.settle()

    @precondition(lambda self: self.room.connections.subscribers)
    @rule(data=st.data(), budget=st.sampled_from([40e3, 200e3, 600e3, 5e6]))
    def estimate(self, data: st.DataObject, budget: float) -> None:
        session = data.draw(st.sampled_from(list(self.room.connections.subscribers)))
        self.room.conference.receive_media(Bandwidth(session, budget), self.room.now)
        self.room.conference.handle_timeout(self.room.now)
        self.settle()

    @rule(seconds=st.sampled_from([0.02, 0.3, 5.0]))
    def wait(self, seconds: float) -> None:
        for track, (_, up) in self.room.engine.ups.items():
            if not up.rids:
                self.room.conference.receive_media(Loudness(track, -30 - track), self.room.now)
        self.room.later(seconds)
        self.settle()

    @invariant()
    def the_engine_forwards_to_members_what_others_publish(self) -> None:
        engine, connections = self.room.engine, self.room.connections
        subscribers = {session for session in connections.subscribers if session in connections.connected}
        assert {session for session, _ in engine.downs.values()} <= subscribers
        for down, (track, _, _) in engine.routes.items():
            assert down in engine.downs and track in engine.ups
        assert set(self.room.directory.tracks) >= set(engine.ups)
        assert set(self.room.directory.sessions) == set(self.sessions())
        assert set(self.room.directory.downs) >= set(engine.downs)
        assert len(self.sessions()) <= 2 * len(self.room.conference)

    @invariant()
    def nothing_is_kept_of_whoever_has_left(self) -> None:
        if not len(self.room.conference):
            assert not self.room.engine.downs and not self.room.engine.ups and not self.sessions()
            assert not self.room.directory.downs and not self.room.directory.tracks


TestRooms = Rooms.TestCase
TestRooms.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_what_is_not_known_to_a_room_is_an_error_of_the_caller() -> None:
    with pytest.raises(KeyError):
        Room().conference.connected(SessionId(9), 0.0)


def test_down_tracks_of_one_subscriber_have_different_ssrcs() -> None:
    room = Room()
    for pid in ("ada", "ben", "cy"):
        room.enter(pid)
    ssrcs: dict[SessionId, list[int]] = {}
    for session, down in room.engine.downs.values():
        ssrcs.setdefault(session, []).extend(ssrc for ssrc in (down.ssrc, down.rtx_ssrc) if ssrc)
    assert all(len(set(each)) == len(each) == 6 for each in ssrcs.values())
    assert DownTrackId(0) not in room.engine.downs
