"""A media server that writes down what it is told, and answers every offer at once."""

from collections.abc import Mapping, Sequence
from typing import Any

from signaling.conference_media import (
    ConferenceMedia,
    ConnectionState,
    MediaState,
    Published,
    Side,
    Source,
    Subscribe,
    Tell,
    TrackName,
    Wish,
)

ANSWER = "v=0\r\ns=answer\r\n"


class RecordingMedia(ConferenceMedia):
    """Each publication is answered, and offered to everybody else of its room."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.rooms: dict[bytes, list[str]] = {}
        self.tell: Tell | None = None
        self._version = 0

    def enter(self, room: bytes, pid: str) -> None:
        self.calls.append(("enter", pid))
        self.rooms.setdefault(room, []).append(pid)

    def leave(self, room: bytes, pid: str) -> None:
        self.calls.append(("leave", pid))
        self.rooms[room].remove(pid)

    def publish(self, room: bytes, pid: str, sdp: str, version: int, sources: Mapping[str, Source]) -> None:
        self.calls.append(("publish", pid, sdp, version, dict(sources)))
        assert self.tell is not None
        if sdp == "bad":
            self.tell(room, pid, MediaState(Side.PUBLISH, ConnectionState.FAILED, "sdp"))
            return
        self.tell(room, pid, Published(ANSWER, version))
        for other in self.rooms[room]:
            if other != pid:
                self._version += 1
                tracks = {mid: TrackName(pid, source) for mid, source in sources.items()}
                self.tell(room, other, Subscribe(sdp, self._version, tracks))

    def subscribed(self, room: bytes, pid: str, sdp: str, version: int) -> None:
        del room
        self.calls.append(("subscribed", pid, sdp, version))

    def want(self, room: bytes, pid: str, wishes: Sequence[Wish]) -> None:
        del room
        self.calls.append(("want", pid, tuple(wishes)))

    def restart(self, room: bytes, pid: str) -> None:
        del room
        self.calls.append(("restart", pid))
