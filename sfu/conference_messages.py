"""What is said about media between a conference and its clients, whatever carries it (docs/conferences.md)."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Source(StrEnum):
    """Where a track comes from; a member has one of each at most."""

    MICROPHONE = "microphone"
    CAMERA = "camera"
    SCREEN = "screen"


class Side(StrEnum):
    """Which of the two connections of a member."""

    PUBLISH = "publish"
    SUBSCRIBE = "subscribe"


class State(StrEnum):
    """What has become of a connection."""

    CONNECTED = "connected"
    FAILED = "failed"


class Refusal(StrEnum):
    """Why a connection failed without a fault of ICE or DTLS; a bounded set, fit for a metric label."""

    SDP = "sdp"  # the description is malformed, or wants what is not accepted
    FULL = "full"  # more rooms or members than are allowed


class Wish(NamedTuple):
    """How a member looks at a track of another one."""

    pid: str
    source: Source
    visible: bool = True
    width: int = 0  # pixels; 0 where it does not say
    height: int = 0
    pinned: bool = False


@dataclass(frozen=True, slots=True)
class Published:
    """The answer to the offer of the publishing side that had this version."""

    sdp: str
    version: int


@dataclass(frozen=True, slots=True)
class Subscribe:
    """An offer of everything that is forwarded to a member; its answer names the version."""

    sdp: str
    version: int
    tracks: Mapping[str, tuple[str, Source]]  # of each m-line that is in use, by its mid: whose it is, and what


@dataclass(frozen=True, slots=True)
class Speakers:
    """Who is heard: the one who holds the floor first."""

    pids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Layers:
    """RIDs of the own camera that nobody has use for; empty when all are wanted."""

    unwanted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MediaState:
    """What has become of a connection. After a failure nobody knows it any more, and the member may begin anew."""

    side: Side
    state: State
    reason: str | None = None


Said = Published | Subscribe | Speakers | Layers | MediaState
