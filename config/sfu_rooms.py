"""Which worker of the SFU has which conference, and what has to be said when one moves. Decides; says nothing itself.

A conference is in one worker. When that ends, or is to end, the conference begins in another one, or waits for one:
the members enter there again, and their pages begin both connections anew, with the same identities and keys.
"""

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

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
    Side,
    Speakers,
    Subscribe,
)

MOVED: Final = "moved"  # why a side failed: begin it anew at once, for it is another worker's now
FULL: Final = "full"  # as the SFU itself says it


class WorkerBounds(NamedTuple):
    """What a worker takes."""

    max_rooms: int
    max_members: int  # of all its rooms


class Order(NamedTuple):
    """What a worker is to do."""

    worker: int
    command: MediaCommand


class Told(NamedTuple):
    """What a participant is to be told."""

    room: bytes
    pid: str
    message: MediaMessage


@dataclass(slots=True)
class _Member:
    """What another worker has to know of somebody."""

    look: Look | None = None  # its last wishes
    publishes: bool = False  # it has made an offer
    version: int = 0  # of the last offer that it was told
    earlier: int = 0  # the same, when the worker it is in now took over: that begins to count anew


@dataclass(slots=True)
class _Room:
    worker: int | None  # None: it waits for one
    members: dict[str, _Member] = field(default_factory=dict)
    former: set[int] = field(default_factory=set)  # workers that are to end, and forward until everybody has moved


class SfuRooms:
    """The conferences of all workers. After each call `poll_order` and `poll_told` are to be drained."""

    def __init__(self, workers: int, bounds: WorkerBounds) -> None:
        """Begin without conferences; no worker is up.

        Args:
            workers: how many there are.
            bounds: of each of them.
        """
        self._workers = workers
        self._bounds = bounds
        self._open: set[int] = set()  # workers that take conferences
        self._rooms: dict[bytes, _Room] = {}
        self._orders: deque[Order] = deque()  # drained after each call
        self._told: deque[Told] = deque()  # drained after each call
        self.is_draining = False

    @property
    def members(self) -> int:
        """People in all conferences."""
        return sum(len(room.members) for room in self._rooms.values())

    @property
    def waiting(self) -> int:
        """Conferences for which there is no worker right now."""
        return sum(room.worker is None for room in self._rooms.values())

    def poll_order(self) -> Order | None:
        """What a worker is to do next; the order matters."""
        return self._orders.popleft() if self._orders else None

    def poll_told(self) -> Told | None:
        """Whom to tell what next; the order matters."""
        return self._told.popleft() if self._told else None

    # What the rooms of the signaling ask for

    def receive_command(self, command: MediaCommand) -> None:
        """Take what a room wants; what names somebody who has not entered, or was refused, is ignored."""
        match command:
            case Enter(room=room_id, pid=pid):
                self._enter(room_id, pid)
            case Leave(room=room_id, pid=pid):
                self._leave(room_id, pid)
            case _:
                room = self._rooms.get(command.room)
                member = None if room is None else room.members.get(command.pid)
                if room is not None and member is not None:
                    self._pass_on(room, member, command)

    def drain(self) -> None:
        """Let no conference begin any more; those that have begun go on, also when their worker ends."""
        self.is_draining = True

    # What happens to workers

    def open(self, worker: int) -> None:
        """A worker has begun to work, and is empty: whatever waits goes there."""
        self._open.add(worker)
        for room_id, room in self._rooms.items():
            if room.worker is None:
                self._place(room_id, room)

    def close(self, worker: int) -> int:
        """A worker has ended: its conferences go to others. Returns how many there were."""
        for room in self._rooms.values():
            room.former.discard(worker)
        return self._give_away(worker)

    def retire(self, worker: int) -> int | None:
        """A worker is to end: its conferences go to others, and no new one comes to it. Returns how many there were.

        It may forward until everybody has moved: it hears of those who leave meanwhile, and of nothing else.
        None: there is no other one that takes them, or it has retired before, and all stays as it is.
        """
        if worker not in self._open or not self._open - {worker}:
            return None
        for _, room in self._rooms_of(worker):
            room.former.add(worker)
        return self._give_away(worker)

    def receive_said(self, worker: int, room_id: bytes, pid: str, message: MediaMessage) -> None:
        """Take what a worker says to somebody; about conferences that it has not, or not any more, it has no say."""
        room = self._rooms.get(room_id)
        member = None if room is None or room.worker != worker else room.members.get(pid)
        if member is None:
            return
        if isinstance(message, Subscribe):
            member.version = member.earlier + message.version
            message = replace(message, version=member.version)
        self._told.append(Told(room_id, pid, message))

    # Inside

    def _enter(self, room_id: bytes, pid: str) -> None:
        room = self._rooms.get(room_id)
        if room is None:
            full = len(self._rooms) >= self._workers * self._bounds.max_rooms
            if self.is_draining or full:
                self._told.extend(Told(room_id, pid, _failed(side, FULL)) for side in Side)
                return
            room = self._rooms[room_id] = _Room(self._choose())
        if pid not in room.members:
            room.members[pid] = _Member()
            self._order(room, Enter(room_id, pid))

    def _leave(self, room_id: bytes, pid: str) -> None:
        room = self._rooms.get(room_id)
        if room is None or room.members.pop(pid, None) is None:
            return
        self._order(room, Leave(room_id, pid))
        self._orders.extend(Order(former, Leave(room_id, pid)) for former in sorted(room.former))
        if not room.members:
            del self._rooms[room_id]

    def _pass_on(self, room: _Room, member: _Member, command: MediaCommand) -> None:
        match command:
            case Offer():
                member.publishes = True
            case Look():
                member.look = command
            case Answer(version=version):
                if not member.earlier < version <= member.version:
                    return  # to an offer of a worker that has gone, or to none at all
                command = replace(command, version=version - member.earlier)
        self._order(room, command)

    def _give_away(self, worker: int) -> int:
        self._open.discard(worker)
        given = self._rooms_of(worker)
        for room_id, room in given:
            room.worker = None
            self._place(room_id, room)
        return len(given)

    def _place(self, room_id: bytes, room: _Room) -> None:
        """Let a conference go on in another worker.

        It waits where there is none, and while one is replaced and all others are full.
        """
        worker = self._choose()
        if worker is None or (self._is_full(worker) and len(self._open) < self._workers):
            return
        room.worker = worker
        for pid, member in room.members.items():
            member.earlier = member.version
            self._order(room, Enter(room_id, pid))
            if member.look is not None:
                self._order(room, member.look)
            # The next worker tells only what changes from this on.
            self._told += (Told(room_id, pid, Layers(())), Told(room_id, pid, Speakers(())))
            if member.publishes:
                self._told.append(Told(room_id, pid, _failed(Side.PUBLISH, MOVED)))

    def _order(self, room: _Room, command: MediaCommand) -> None:
        if room.worker is not None:
            self._orders.append(Order(room.worker, command))

    def _choose(self) -> int | None:
        """The worker with the fewest people that has room; where none has any it is for the worker to refuse."""
        return min(self._open, key=self._fullness, default=None)

    def _fullness(self, worker: int) -> tuple[bool, int, int, int]:
        rooms = self._rooms_of(worker)
        members = sum(len(room.members) for _, room in rooms)
        is_full = len(rooms) >= self._bounds.max_rooms or members >= self._bounds.max_members
        return is_full, members, len(rooms), worker

    def _is_full(self, worker: int) -> bool:
        return self._fullness(worker)[0]

    def _rooms_of(self, worker: int) -> list[tuple[bytes, _Room]]:
        return [(room_id, room) for room_id, room in self._rooms.items() if room.worker == worker]


def _failed(side: Side, reason: str) -> MediaState:
    return MediaState(side, ConnectionState.FAILED, reason)
