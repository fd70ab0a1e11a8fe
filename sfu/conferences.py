"""All rooms of a worker, which share its engine and nothing else."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from sfu.conference import Conference, ConferenceBounds, Connections, Directory
from sfu.conference_messages import MediaState, Refusal, Said, Side, Source, State, Wish
from sfu.media_engine import (
    Bandwidth,
    KeyFrameWanted,
    LayerGone,
    LayerSeen,
    Loudness,
    MediaEngine,
    MediaEvent,
    SessionId,
    Switched,
)

MAX_MEMBERS: Final = 500  # of all rooms: half of the connections that a worker may have


class Bounds(NamedTuple):
    """Of a worker."""

    max_rooms: int = 100
    max_members: int = MAX_MEMBERS
    room: ConferenceBounds = ConferenceBounds()


class Conferences:
    """The rooms. After each call `poll_said` is to be drained."""

    def __init__(self, connections: Connections, engine: MediaEngine, bounds: Bounds = Bounds()) -> None:  # noqa: B008  # immutable
        self._connections = connections
        self._engine = engine
        self._bounds = bounds
        self._directory = Directory()
        self._rooms: dict[bytes, Conference] = {}
        self._said: list[tuple[bytes, str, Said]] = []  # drained after each call
        self.is_draining = False
        self.switches = 0  # of layers, of all that is forwarded

    @property
    def rooms(self) -> int:
        """Rooms in which somebody is."""
        return len(self._rooms)

    @property
    def members(self) -> int:
        """Of all rooms."""
        return sum(map(len, self._rooms.values()))

    @property
    def connected_sessions(self) -> int:
        """Sessions that have done ICE and DTLS."""
        return sum(room.connected_sessions for room in self._rooms.values())

    def poll_said(self) -> Sequence[tuple[bytes, str, Said]]:
        """All that is to be told since the last time: in which room, to whom, what."""
        for name, room in self._rooms.items():
            self._collect(name, room)
        said, self._said = self._said, []
        return said

    def poll_timeout(self) -> float | None:
        """When `handle_timeout` has something to do; None if nobody is anywhere."""
        return min((at for room in self._rooms.values() if (at := room.poll_timeout()) is not None), default=None)

    def enter(self, room: bytes, pid: str, now: float) -> None:
        """Let somebody into a room, which begins with its first member. See `Conference.enter`."""
        if room not in self._rooms:
            if self.is_draining or len(self._rooms) >= self._bounds.max_rooms:
                self._refuse(room, pid)
                return
            self._rooms[room] = Conference(self._connections, self._engine, self._directory, self._bounds.room)
        conference = self._rooms[room]
        if pid not in conference and self.members >= self._bounds.max_members:
            self._refuse(room, pid)
        else:
            conference.enter(pid, now)
        self._forget_if_empty(room)

    def leave(self, room: bytes, pid: str, now: float) -> None:
        """Let somebody go; a room ends with its last member."""
        if room in self._rooms:
            self._rooms[room].leave(pid, now)
            self._forget_if_empty(room)

    def publish(self, room: bytes, pid: str, sdp: str, version: int, sources: Mapping[str, Source], now: float) -> None:
        """See `Conference.publish`."""
        if room in self._rooms:
            self._rooms[room].publish(pid, sdp, version, sources, now)

    def subscribed(self, room: bytes, pid: str, sdp: str, version: int, now: float) -> None:
        """See `Conference.subscribed`."""
        if room in self._rooms:
            self._rooms[room].subscribed(pid, sdp, version, now)

    def want(self, room: bytes, pid: str, wishes: Sequence[Wish], now: float) -> None:
        """See `Conference.want`."""
        if room in self._rooms:
            self._rooms[room].want(pid, wishes, now)

    def restart(self, room: bytes, pid: str, now: float) -> None:
        """See `Conference.restart`."""
        if room in self._rooms:
            self._rooms[room].restart(pid, now)

    def connected(self, session: SessionId, now: float) -> None:
        """ICE and DTLS of a session are done."""
        room = self._directory.sessions.get(session)
        if room is not None:
            room.connected(session, now)

    def ended(self, session: SessionId, reason: str | None, now: float) -> None:
        """A session is over. See `Conference.ended`."""
        room = self._directory.sessions.get(session)
        if room is not None:
            room.ended(session, reason, now)

    def estimates(self) -> list[float]:
        """What the paths to all who are sent to are thought to carry, bits per second."""
        return [estimate for room in self._rooms.values() for estimate in room.estimates()]

    def receive_media(self, events: Sequence[MediaEvent], now: float) -> None:
        """Take in what the engine tells; of what has gone meanwhile it says nothing any more."""
        touched: dict[int, Conference] = {}
        for event in events:
            room: Conference | None = None
            match event:
                case Loudness() | LayerSeen() | LayerGone():
                    room = self._directory.tracks.get(event.track)
                case Bandwidth():
                    room = self._directory.sessions.get(event.session)
                case Switched():
                    self.switches += 1
                    room = self._directory.downs.get(event.down_track)
                case KeyFrameWanted():
                    pass  # the engine has asked for it
            if room is not None:
                room.receive_media(event, now)
                touched[id(room)] = room
        for room in touched.values():
            room.handle_timeout(now)

    def handle_timeout(self, now: float) -> None:
        """Do what time brings about."""
        for room in self._rooms.values():
            at = room.poll_timeout()
            if at is not None and now >= at:
                room.handle_timeout(now)

    def _refuse(self, room: bytes, pid: str) -> None:
        for side in Side:
            self._said.append((room, pid, MediaState(side, State.FAILED, Refusal.FULL)))

    def _forget_if_empty(self, name: bytes) -> None:
        room = self._rooms[name]
        if not len(room):
            self._collect(name, room)
            del self._rooms[name]

    def _collect(self, name: bytes, room: Conference) -> None:
        while (said := room.poll_said()) is not None:
            self._said.append((name, *said))
