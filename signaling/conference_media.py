"""How the conference room drives a media server (docs/conferences.md, "Media"), which it does not import.

The room calls a `ConferenceMedia`; what the media server has to say comes back by a `Tell`. Whoever builds both joins
them. A participant is named by room id and pid, and by nothing else.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol


class Source(StrEnum):
    """What a participant publishes on one m-line."""

    MICROPHONE = "microphone"
    CAMERA = "camera"
    SCREEN = "screen"


class Side(StrEnum):
    """One of the two connections of a participant with the media server."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"


class ConnectionState(StrEnum):
    """What has become of one side. After `failed` the client begins that side anew."""

    CONNECTED = "connected"
    FAILED = "failed"


class Wish(NamedTuple):
    """What a participant looks at of somebody else's.

    Attributes:
        pid: whose.
        source: which of theirs.
        visible: whether it is on the screen at all.
        width: of the element that shows it, in device pixels.
        height: of the same.
        pinned: whether it goes before the others when there is not enough for all.
    """

    pid: str
    source: Source
    visible: bool
    width: int
    height: int
    pinned: bool


class TrackName(NamedTuple):
    """Whose media an m-line carries, and which of theirs."""

    pid: str
    source: Source


class ConferenceMedia(Protocol):
    """A media server, as the room of a conference sees it.

    No method waits, and none raises because of what a client has sent: that is told as `MediaState`. Each `enter` is
    followed by one `leave`, in between come the others; whatever names a participant who has not entered is ignored.
    """

    def enter(self, room: bytes, pid: str) -> None:
        """Let somebody in who has been admitted: from now on it may publish, and it gets what the others publish."""
        ...

    def leave(self, room: bytes, pid: str) -> None:
        """End both connections of a participant. The room ends with the last one."""
        ...

    def publish(self, room: bytes, pid: str, sdp: str, version: int, sources: Mapping[str, Source]) -> None:
        """Take the offer of the publishing connection, the first one or a later one. `Published` answers it.

        Args:
            room: id of the room, 16 bytes.
            pid: who publishes.
            sdp: the offer as it came, bounded in length but not looked at.
            version: comes back with the answer, so that nobody takes it for that to another offer.
            sources: what each m-line carries, by its mid.
        """
        ...

    def subscribed(self, room: bytes, pid: str, sdp: str, version: int) -> None:
        """Take the answer to the `Subscribe` of this version; one to an older version is of no use."""
        ...

    def want(self, room: bytes, pid: str, wishes: Sequence[Wish]) -> None:
        """Take what a participant looks at now, in place of its last list."""
        ...

    def restart(self, room: bytes, pid: str) -> None:
        """Offer the subscribing side again with new ICE credentials: the client's network has changed."""
        ...


@dataclass(frozen=True, slots=True)
class Published:
    """The answer to the `publish` of the same version."""

    sdp: str
    version: int


@dataclass(frozen=True, slots=True)
class Subscribe:
    """An offer: everything that is forwarded to this participant.

    Attributes:
        sdp: the offer.
        version: grows with every offer to this participant.
        tracks: what each m-line carries, by its mid; those that are absent are inactive.
    """

    sdp: str
    version: int
    tracks: Mapping[str, TrackName]


@dataclass(frozen=True, slots=True)
class Speakers:
    """Who is heard loudest, the dominant one first: at most three, told on change only."""

    pids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Layers:
    """RIDs of the own camera that nobody looks at: they need not be sent. Empty: all are wanted."""

    unwanted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MediaState:
    """What has become of one side, and why: a word of docs/conferences.md such as `sdp`."""

    side: Side
    state: ConnectionState
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """The media server ends within so many seconds, and may do so earlier when everybody has gone."""

    seconds: int


@dataclass(frozen=True, slots=True)
class Enter:
    """Call `ConferenceMedia.enter`."""

    room: bytes
    pid: str

    def carry_out(self, media: ConferenceMedia) -> None:
        """Make the call."""
        media.enter(self.room, self.pid)


@dataclass(frozen=True, slots=True)
class Leave:
    """Call `ConferenceMedia.leave`."""

    room: bytes
    pid: str

    def carry_out(self, media: ConferenceMedia) -> None:
        """Make the call."""
        media.leave(self.room, self.pid)


@dataclass(frozen=True, slots=True)
class Offer:
    """Call `ConferenceMedia.publish`."""

    room: bytes
    pid: str
    sdp: str
    version: int
    sources: Mapping[str, Source]

    def carry_out(self, media: ConferenceMedia) -> None:
        """Make the call."""
        media.publish(self.room, self.pid, self.sdp, self.version, self.sources)


@dataclass(frozen=True, slots=True)
class Answer:
    """Call `ConferenceMedia.subscribed`."""

    room: bytes
    pid: str
    sdp: str
    version: int

    def carry_out(self, media: ConferenceMedia) -> None:
        """Make the call."""
        media.subscribed(self.room, self.pid, self.sdp, self.version)


@dataclass(frozen=True, slots=True)
class Look:
    """Call `ConferenceMedia.want`."""

    room: bytes
    pid: str
    wishes: tuple[Wish, ...]

    def carry_out(self, media: ConferenceMedia) -> None:
        """Make the call."""
        media.want(self.room, self.pid, self.wishes)


@dataclass(frozen=True, slots=True)
class OfferAgain:
    """Call `ConferenceMedia.restart`."""

    room: bytes
    pid: str

    def carry_out(self, media: ConferenceMedia) -> None:
        """Make the call."""
        media.restart(self.room, self.pid)


MediaCommand = Enter | Leave | Offer | Answer | Look | OfferAgain
"""What the room asks its shell to do at the media server, in this order."""

MediaMessage = Published | Subscribe | Speakers | Layers | MediaState | Ending

Tell = Callable[[bytes, str, MediaMessage], None]
"""Says something to a participant: room id, pid, what. In the event loop of the room, also from within its methods."""
