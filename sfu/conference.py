"""One room: who gets what of whom. Decides by what its members say and the engine measures; moves no packet.

Nothing is asked of an engine that it has forgotten: when a session ends, it forgets that session's tracks by itself.
"""

import itertools
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from sfu.allocator import MAX_TEMPORAL_LAYERS, NOTHING, Allocation, Allocator, Content, wanted_layer
from sfu.conference_layers import unwanted_rids
from sfu.conference_member import (
    ForwardedSource,
    Member,
    PublishedSource,
    PublishingSide,
    SubscribingSide,
    accepted_sources,
    spent_on,
)
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
from sfu.conference_speakers import RoomSpeakers
from sfu.layer_demand import LayerDemand
from sfu.media_engine import (
    Bandwidth,
    DownTrackId,
    LayerGone,
    LayerSeen,
    Loudness,
    MediaEngine,
    MediaEvent,
    SessionId,
    Switched,
    TrackId,
    UpTrack,
)
from sfu.sdp.description import SdpError
from sfu.sdp.publish import PublishedTrack
from sfu.sdp.subscribe import OfferedTrack, SubscribeAnswer

LOOK_SECONDS: Final = 0.25  # between two looks at what layers carry, and who speaks
HURRY_SECONDS: Final = 0.05  # the same, when a layer has come or gone: whoever sends may do that as often as it likes
RESUME_BITS_PER_SECOND: Final = Allocator.PAUSE_BELOW * Allocator.ROOM * 1.1  # and a little, for estimates waver
SOUND: Final = Allocation(0, MAX_TEMPORAL_LAYERS - 1)  # as an allocation routes it
_FIRST_SSRC: Final = 4096  # small ones are the engine's own, and those that browsers report with
_SSRCS: Final = (1 << 32) - _FIRST_SSRC


class Publication(Protocol):
    """What became of an offer of a publisher."""

    @property
    def session(self) -> SessionId:
        """Of its connection."""
        ...

    @property
    def answer(self) -> str:
        """The description that answers it."""
        ...

    @property
    def tracks(self) -> tuple[PublishedTrack, ...]:
        """M-lines that are accepted and flow."""
        ...


class Connections(Protocol):
    """The PeerConnections of a worker. What becomes of a session may be told while one of these runs."""

    def publish(self, offer: str, /) -> Publication:
        """Make one for a publisher. Raises SdpError."""
        ...

    def publish_again(self, session: SessionId, offer: str, /) -> Publication:
        """Answer a later offer. Raises SdpError, and then the session stays."""
        ...

    def subscribe(self) -> SessionId:
        """Make one for a subscriber."""
        ...

    def add_track(self, session: SessionId, track: OfferedTrack, /) -> str:
        """Tell of a track with the next offer; gives its mid. Raises ValueError when there is no room."""
        ...

    def remove_track(self, session: SessionId, mid: str, /) -> None:
        """Take it away with the next offer."""
        ...

    def needs_offer(self, session: SessionId, /) -> bool:
        """Whether something has changed since the last one."""
        ...

    def offer(self, session: SessionId, /, *, restart_ice: bool = False) -> str:
        """What the subscriber is to be told."""
        ...

    def answer(self, session: SessionId, text: str, /) -> SubscribeAnswer:
        """Take its answer. Raises SdpError."""
        ...

    def close(self, session: SessionId, /) -> None:
        """End a session; the engine forgets all that belongs to it."""
        ...


class ConferenceBounds(NamedTuple):
    """How large a room may become, and what its members get."""

    max_members: int = 20
    audio_places: int = 5  # whose sound is forwarded at a time
    last_n: int = 20  # cameras that a member gets at most
    start_bits_per_second: float = 300_000.0  # what a path is taken to carry before its estimate changes


@dataclass(slots=True)
class Directory:
    """Numbers that are given once in a worker, and which room each belongs to."""

    sessions: dict[SessionId, "Conference"] = field(default_factory=dict)
    tracks: dict[TrackId, "Conference"] = field(default_factory=dict)
    downs: dict[DownTrackId, "Conference"] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))


class Conference:
    """A room. After each call `poll_said` is to be drained. Whatever names somebody who has not entered is ignored."""

    def __init__(
        self, connections: Connections, engine: MediaEngine, directory: Directory, bounds: ConferenceBounds
    ) -> None:
        """Begin empty.

        Args:
            connections: where its sessions are made.
            engine: what forwards.
            directory: shared by all rooms of that engine.
            bounds: of the room.
        """
        self._connections = connections
        self._engine = engine
        self._directory = directory
        self._bounds = bounds
        self._members: dict[str, Member] = {}
        self._speakers = RoomSpeakers(bounds.audio_places)
        self._demand = LayerDemand()
        self._said: deque[tuple[str, Said]] = deque()  # a few for each call, and drained after it
        self._look_at = self._looked_at = float("-inf")

    def __len__(self) -> int:
        return len(self._members)

    def __contains__(self, pid: str) -> bool:
        return pid in self._members

    @property
    def connected_sessions(self) -> int:
        """Sessions that have done ICE and DTLS."""
        sides = (side for member in self._members.values() for side in (member.publishing, member.subscribing))
        return sum(side.is_connected for side in sides if side is not None)

    def estimates(self) -> list[float]:
        """What the paths to its members are thought to carry, bits per second."""
        sides = (member.subscribing for member in self._members.values())
        return [side.budget for side in sides if side is not None and side.is_connected]

    def poll_said(self) -> tuple[str, Said] | None:
        """Whom to tell what; None when all is said."""
        return self._said.popleft() if self._said else None

    def poll_timeout(self) -> float | None:
        """When `handle_timeout` has something to do; None in an empty room."""
        return self._look_at if self._members else None

    # ------------------------------------------------------------------ what members say

    def enter(self, pid: str, now: float) -> None:
        """Let somebody in and offer all that the others publish; who is in already stays as it is.

        Beyond `max_members` the member is told that both its connections failed, and is not in.
        """
        if pid in self._members:
            return
        if len(self._members) >= self._bounds.max_members:
            for side in Side:
                self._say(pid, MediaState(side, State.FAILED, Refusal.FULL))
            return
        member = self._members[pid] = Member(pid)
        self._begin_subscribing(member)
        if self._speakers.told:
            self._say(pid, Speakers(self._speakers.told))
        self._settle(now)

    def leave(self, pid: str, now: float) -> None:
        """End both connections of a member, and take from the others what it published."""
        member = self._members.get(pid)
        if member is None:
            return
        self._end_publishing(member, close=True)
        self._end_subscribing(member, close=True)
        del self._members[pid]
        self._settle(now)

    def publish(self, pid: str, sdp: str, version: int, sources: Mapping[str, Source], now: float) -> None:
        """Take an offer of the publishing side, first or anew; the answer names its version.

        A member hears `Published`, or that this side failed; then nobody knows it any more.
        """
        member = self._members.get(pid)
        if member is None:
            return
        try:
            publication = self._negotiate(member, sdp)
            accepted = accepted_sources(publication.tracks, sources)
        except SdpError:
            self._end_publishing(member, close=True)
            self._say(pid, MediaState(Side.PUBLISH, State.FAILED, Refusal.SDP))
        else:
            publishing = member.publishing
            if publishing is not None:  # else it has failed meanwhile, and the member was told
                self._say(pid, Published(publication.answer, version))
                self._update_published(member, publishing, accepted)
        self._settle(now)

    def subscribed(self, pid: str, sdp: str, version: int, now: float) -> None:
        """Take the answer to an offer; one to an earlier offer says nothing any more."""
        member = self._members.get(pid)
        subscribing = None if member is None else member.subscribing
        if member is None or subscribing is None or subscribing.outstanding != version:
            return
        try:
            answer = self._connections.answer(subscribing.session, sdp)
        except SdpError:
            if member.subscribing is subscribing:
                self._end_subscribing(member, close=True)
                self._say(pid, MediaState(Side.SUBSCRIBE, State.FAILED, Refusal.SDP))
            return
        if member.subscribing is not subscribing:
            return  # DTLS has failed at once
        subscribing.outstanding = None
        agreed = {track.mid: track for track in answer.tracks}
        for down in subscribing.downs.values():
            if down.mid in agreed:
                down.agreed = agreed[down.mid]
            elif down.mid in answer.refused:
                down.agreed = None
                if down.is_live:  # its stream stays: begun anew, it would begin with numbers that were used
                    self._route(down, NOTHING)
        self._revive(subscribing)
        self._settle(now)

    def want(self, pid: str, wishes: Sequence[Wish], now: float) -> None:
        """Take in what a member looks at, in place of what it said last."""
        member = self._members.get(pid)
        if member is None:
            return
        member.take_wishes(wishes)
        if member.subscribing is not None:
            member.subscribing.is_due = True
        self._settle(now)

    def restart(self, pid: str, now: float) -> None:
        """Offer with new ICE credentials, or, after a failure, with a new connection."""
        member = self._members.get(pid)
        if member is None:
            return
        if member.subscribing is None:
            self._begin_subscribing(member)
        else:
            # An earlier offer may have been lost with the socket: nobody waits for its answer any more.
            self._offer(member, member.subscribing, restart_ice=True)
        self._settle(now)

    # ------------------------------------------------------------------ what becomes of connections

    def connected(self, session: SessionId, now: float) -> None:
        """ICE and DTLS are done."""
        member, side = self._find(session)
        if side is Side.PUBLISH:
            assert member.publishing is not None  # noqa: S101  # that is how it was found
            member.publishing.is_connected = True
            for up in member.publishing.ups.values():
                self._expect(member.publishing, up)
        else:
            assert member.subscribing is not None  # noqa: S101  # that is how it was found
            member.subscribing.is_connected = True
            self._revive(member.subscribing)
        self._say(member.pid, MediaState(side, State.CONNECTED))
        self._settle(now)

    def ended(self, session: SessionId, reason: str | None, now: float) -> None:
        """A session is over, and the engine has forgotten it.

        Args:
            session: which.
            reason: what failed; None if the client itself has ended it, and need not be told.
            now: monotonic time, in seconds.
        """
        member, side = self._find(session)
        if side is Side.PUBLISH:
            self._end_publishing(member, close=False)
        else:
            self._end_subscribing(member, close=False)
        if reason is not None:
            self._say(member.pid, MediaState(side, State.FAILED, reason))
        self._settle(now)

    def receive_media(self, event: MediaEvent, now: float) -> None:
        """Take in what the engine tells of this room; `handle_timeout` follows on a batch of these."""
        match event:
            case Loudness(track=track, decibels=decibels):
                self._speakers.receive(track, decibels, now)
            case LayerSeen(track=track, layer=layer):
                up = self._up(track)
                up.seen = (up.seen or set()) | {layer}
                self._look_at = self._looked_at + HURRY_SECONDS
            case LayerGone(track=track, layer=layer):
                up = self._up(track)
                up.seen = (up.seen or set()) - {layer}
                self._look_at = self._looked_at + HURRY_SECONDS
            case Bandwidth(session=session, bits_per_second=budget):
                subscribing = self._find(session)[0].subscribing
                if subscribing is not None and subscribing.session == session:
                    subscribing.budget = budget
                    subscribing.is_due |= budget < subscribing.spent  # for more there is time until the next look
            case Switched(down_track=down_track, layer=layer) if layer is not None:
                self._note_picture(down_track)
            case _:
                pass  # what the engine has done by itself

    def handle_timeout(self, now: float) -> None:
        """Do what time and measurements bring about."""
        if self._speakers.update(now):
            for member in self._members.values():
                self._route_sound(member)
        if now >= self._look_at:
            self._looked_at = now
            self._look_at = now + LOOK_SECONDS
            self._mark_all()
            self._settle(now)
        else:
            self._allocate_due(now)
            self._tell_speakers(now)

    # ------------------------------------------------------------------ the publishing sides

    def _negotiate(self, member: Member, sdp: str) -> Publication:
        """Answer an offer; gives what became of it, and `member.publishing` is the side that it belongs to."""
        if member.publishing is not None:
            try:
                return self._connections.publish_again(member.publishing.session, sdp)
            except SdpError:
                # It is of another connection, perhaps: the page was loaded anew. Then it is good by itself.
                self._end_publishing(member, close=True)
        publication = self._connections.publish(sdp)
        member.publishing = PublishingSide(publication.session)
        self._directory.sessions[publication.session] = self
        return publication

    def _update_published(
        self, member: Member, publishing: PublishingSide, accepted: Mapping[str, tuple[Source, UpTrack]]
    ) -> None:
        """Take away what is published no more, or as something else, and add what is new."""
        for mid, up in list(publishing.ups.items()):
            if accepted.get(mid) != (up.source, up.announced):
                del publishing.ups[mid]
                self._withdraw(up)
                if up.is_live:
                    self._engine.remove_up_track(up.id)
        for mid, (source, announced) in accepted.items():
            if mid not in publishing.ups:
                up = PublishedSource(TrackId(next(self._directory.numbers)), member.pid, source, announced)
                publishing.ups[mid] = up
                self._directory.tracks[up.id] = self
                if up.is_sound:
                    self._speakers.add(up.id, member.pid)
                if publishing.is_connected:
                    self._expect(publishing, up)

    def _expect(self, publishing: PublishingSide, up: PublishedSource) -> None:
        self._engine.add_up_track(publishing.session, up.id, up.announced)
        up.is_live = True
        self._mark_all()

    def _end_publishing(self, member: Member, *, close: bool) -> None:
        publishing = member.publishing
        if publishing is None:
            return
        member.publishing = None
        for up in publishing.ups.values():
            self._withdraw(up)
        del self._directory.sessions[publishing.session]
        if close:
            self._connections.close(publishing.session)

    def _withdraw(self, up: PublishedSource) -> None:
        """Take a track from everybody who gets it."""
        del self._directory.tracks[up.id]
        self._speakers.remove(up.id)
        for member in self._members.values():
            if member.subscribing is None:
                continue
            down = member.subscribing.downs.pop(up.id, None)
            if down is not None:
                self._silence(down)
                del self._directory.downs[down.id]
                member.subscribing.stopped.append(down.mid)
                member.subscribing.is_due = True  # there is more for the others

    # ------------------------------------------------------------------ the subscribing sides

    def _begin_subscribing(self, member: Member) -> None:
        allocator = Allocator(self._bounds.last_n)
        session = self._connections.subscribe()
        member.subscribing = SubscribingSide(session, allocator, self._bounds.start_bits_per_second)
        self._directory.sessions[session] = self

    def _end_subscribing(self, member: Member, *, close: bool) -> None:
        subscribing = member.subscribing
        if subscribing is None:
            return
        member.subscribing = None
        for down in subscribing.downs.values():
            del self._directory.downs[down.id]
        del self._directory.sessions[subscribing.session]
        if close:
            self._connections.close(subscribing.session)

    def _offer_what_changed(self, member: Member, subscribing: SubscribingSide) -> None:
        """One offer at a time: what changes meanwhile is in the next one."""
        if subscribing.outstanding is not None:
            return
        for mid in subscribing.stopped:
            self._connections.remove_track(subscribing.session, mid)
        subscribing.stopped.clear()
        for up in self._ups():
            if up.pid != member.pid and up.id not in subscribing.downs and not self._add_down(subscribing, up):
                break
        if self._connections.needs_offer(subscribing.session):
            self._offer(member, subscribing)

    def _add_down(self, subscribing: SubscribingSide, up: PublishedSource) -> bool:
        """Make an m-line for a track; whether there was room for it, which there is when stopped ones are answered."""
        number = next(self._directory.numbers)
        ssrc = _FIRST_SSRC + 2 * number % _SSRCS
        codec = up.announced.payloads[0].codec
        group = f"{up.pid}-screen" if up.source is Source.SCREEN else up.pid  # sound is played with the camera
        rtx_ssrc = 0 if up.is_sound else ssrc + 1
        offered = OfferedTrack(codec, group, f"{up.pid}-{up.source}-{number}", up.pid, ssrc, rtx_ssrc)
        try:
            mid = self._connections.add_track(subscribing.session, offered)
        except ValueError:
            return False
        subscribing.downs[up.id] = ForwardedSource(DownTrackId(number), up, mid)
        self._directory.downs[DownTrackId(number)] = self
        return True

    def _offer(self, member: Member, subscribing: SubscribingSide, *, restart_ice: bool = False) -> None:
        sdp = self._connections.offer(subscribing.session, restart_ice=restart_ice)
        member.version += 1
        subscribing.outstanding = member.version
        tracks = {down.mid: (down.up.pid, down.up.source) for down in subscribing.downs.values()}
        self._say(member.pid, Subscribe(sdp, member.version, tracks))

    def _revive(self, subscribing: SubscribingSide) -> None:
        """Have the engine know every track that the client has agreed to."""
        if not subscribing.is_connected:
            return
        subscribing.is_due = True
        for down in subscribing.downs.values():
            if down.agreed is not None and not down.is_live:
                self._engine.add_down_track(subscribing.session, down.id, down.agreed)
                down.is_live = True

    def _note_picture(self, down_track: DownTrackId) -> None:
        for member in self._members.values():
            subscribing = member.subscribing
            if subscribing is not None and not subscribing.has_pictures:
                subscribing.has_pictures = any(
                    down.id == down_track and not down.up.is_sound for down in subscribing.downs.values()
                )

    def _silence(self, down: ForwardedSource) -> None:
        if down.is_live:
            self._engine.remove_down_track(down.id)
            down.is_live = False
            down.routed = None

    # ------------------------------------------------------------------ who gets what

    def _settle(self, now: float) -> None:
        """Offer, allocate and tell what follows on what has changed."""
        for member in self._members.values():
            if member.subscribing is not None:
                self._offer_what_changed(member, member.subscribing)
        self._allocate_due(now)
        self._tell_unwanted(now)
        self._tell_speakers(now)

    def _allocate_due(self, now: float) -> None:
        measured: dict[TrackId, tuple[tuple[float, ...], ...]] = {}
        for member in self._members.values():
            subscribing = member.subscribing
            if subscribing is not None and subscribing.is_due and subscribing.is_connected:
                subscribing.is_due = False
                self._allocate(member, subscribing, measured, now)

    def _allocate(
        self,
        member: Member,
        subscribing: SubscribingSide,
        measured: dict[TrackId, tuple[tuple[float, ...], ...]],
        now: float,
    ) -> None:
        """Decide what a member gets, and route it. `measured` is shared by all who are decided for at a time."""
        offers = []
        downs = [down for down in subscribing.downs.values() if down.can_flow]
        for down in downs:
            up = down.up
            if up.id not in measured:
                measured[up.id] = self._engine.bitrates(up.id, now)
                up.weigh(measured[up.id])
            if up.is_sound and not self._is_heard(up):
                continue
            offers.append(member.offer(down.id, up, up.layers(measured[up.id]), self._speakers.recency(up.pid)))
        # The engine probes with what it has sent of pictures. Before the first one an estimate that fell, by sound
        # alone, could never rise again.
        start = 0.0 if subscribing.has_pictures else self._bounds.start_bits_per_second
        allocations = subscribing.allocator.allocate(offers, max(subscribing.budget, start), now)
        for down in downs:
            self._route(down, allocations.get(down.id, NOTHING))
        subscribing.spent = spent_on(allocations)
        wanted = subscribing.allocator.wanted
        if any(wanted_layer(offer) is not None and offer.content is not Content.AUDIO for offer in offers):
            # Pictures may cost less than what they are paused below: without looking for more they would stay paused.
            wanted = max(wanted, RESUME_BITS_PER_SECOND)
        self._engine.want(subscribing.session, wanted)

    def _route_sound(self, member: Member) -> None:
        """Let a member hear whoever has begun to speak: that waits for no allocation."""
        if member.subscribing is None:
            return
        for down in member.subscribing.downs.values():
            if down.up.is_sound and down.can_flow:
                self._route(down, SOUND if self._is_heard(down.up) else NOTHING)

    def _is_heard(self, up: PublishedSource) -> bool:
        return self._speakers.forwards(up.id) and not up.is_excessive

    def _route(self, down: ForwardedSource, allocation: Allocation) -> None:
        routed = None if allocation.layer is None else (allocation.layer, allocation.max_temporal)
        if routed == down.routed:
            return
        down.routed = routed
        if routed is None:
            self._engine.route(down.id, None)
        else:
            self._engine.route(down.id, down.up.id, *routed)

    def _tell_unwanted(self, now: float) -> None:
        """Tell publishers which layers nobody looks at, whatever the paths of those who look carry."""
        pictures = [up for up in self._ups() if up.announced.rids and up.source is Source.CAMERA]
        offers = (
            member.offer(DownTrackId(0), up, up.sizes, 0)
            for up in pictures
            for member in self._members.values()
            if member.pid != up.pid and member.subscribing is not None
        )
        in_use = self._demand.update([up.id for up in pictures], offers, now)
        for up in pictures:
            unwanted = unwanted_rids(up.announced.rids, in_use[up.id])
            if unwanted != up.unwanted:
                up.unwanted = unwanted
                self._say(up.pid, Layers(unwanted))

    def _tell_speakers(self, now: float) -> None:
        speakers = self._speakers.poll(now)
        if speakers is not None:
            for pid in self._members:
                self._say(pid, Speakers(speakers))

    # ------------------------------------------------------------------ small things

    def _ups(self) -> Iterator[PublishedSource]:
        for member in self._members.values():
            if member.publishing is not None:
                yield from member.publishing.ups.values()

    def _up(self, track: TrackId) -> PublishedSource:
        return next(up for up in self._ups() if up.id == track)

    def _find(self, session: SessionId) -> tuple[Member, Side]:
        for member in self._members.values():
            if member.publishing is not None and member.publishing.session == session:
                return member, Side.PUBLISH
            if member.subscribing is not None and member.subscribing.session == session:
                return member, Side.SUBSCRIBE
        raise KeyError(session)

    def _mark_all(self) -> None:
        for member in self._members.values():
            if member.subscribing is not None:
                member.subscribing.is_due = True

    def _say(self, pid: str, said: Said) -> None:
        self._said.append((pid, said))
