"""What the signaling protocol says in conferences beyond what it says to two (docs/conferences.md, "Messages")."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from signaling.appointments import MAX_PEOPLE
from signaling.conference_media import ConnectionState, Side, Source
from signaling.message_base import Message, OpaqueId

MAX_SDP_CHARACTERS = 49_152  # ASCII, so they are bytes; as JSON it fits a message, which has 64 KiB
MAX_SOURCES = 8  # m-lines of one publishing connection
MAX_WISHES = 64
MAX_MID_CHARACTERS = 16  # what a one-byte header extension (RFC 8285 §4.2) can carry
MAX_PIXELS = 16_384  # along one edge

Sdp = Annotated[str, StringConstraints(pattern=r"^[\r\n\t -~]+$", max_length=MAX_SDP_CHARACTERS)]
Mid = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.+-]+$", max_length=MAX_MID_CHARACTERS)]
Pixels = Annotated[int, Field(ge=0, le=MAX_PIXELS)]


class Admit(Message):
    """Let somebody in who waits, or send it away; from who is in charge."""

    type: Literal["admit"] = "admit"
    peer: OpaqueId
    ok: bool


class Remove(Message):
    """Send a participant away, who may come back into the lobby; from who is in charge."""

    type: Literal["remove"] = "remove"
    peer: OpaqueId


class Lock(Message):
    """Let nobody else come, or again; from who is in charge."""

    type: Literal["lock"] = "lock"
    locked: bool


class Publish(Message):
    """The offer of the own publishing connection, and what each of its m-lines carries."""

    type: Literal["publish"] = "publish"
    sdp: Sdp
    version: int = Field(default=0, ge=0, lt=2**31)  # a page of before an update has none
    sources: Annotated[dict[Mid, Source], Field(min_length=1, max_length=MAX_SOURCES)]


class Subscribed(Message):
    """The answer to the `subscribe` of the same version."""

    type: Literal["subscribed"] = "subscribed"
    sdp: Sdp
    version: int = Field(ge=0, lt=2**31)


class TrackWish(Message):
    """One track of somebody else, and how large it is shown."""

    pid: OpaqueId
    source: Source
    visible: bool
    width: Pixels
    height: Pixels
    pinned: bool


class Want(Message):
    """What of the others is looked at, in place of the last list."""

    type: Literal["want"] = "want"
    tracks: Annotated[tuple[TrackWish, ...], Field(max_length=MAX_WISHES)]


class Restart(Message):
    """New ICE credentials for the subscribing side, please; the publishing side restarts by `publish`."""

    type: Literal["restart"] = "restart"
    side: Literal["subscribe"]


MediaRequest = Publish | Subscribed | Want | Restart
OrganiserRequest = Admit | Remove | Lock
ConferenceRequest = OrganiserRequest | MediaRequest


class ConferenceSeat(Message):
    """What `joined` says of a seat in a conference beyond what it says of one in a talk."""

    index: int = Field(ge=0, lt=MAX_PEOPLE)
    limit: int = Field(ge=2, le=MAX_PEOPLE)
    admitted: bool
    locked: bool


class Admitted(Message):
    """The lobby is over."""

    type: Literal["admitted"] = "admitted"


class Locked(Message):
    """Nobody else can come, or again."""

    type: Literal["locked"] = "locked"
    locked: bool


class StandIn(Message):
    """A participant decides in place of the organiser; without `pid` nobody does any more."""

    type: Literal["stand_in"] = "stand_in"
    pid: OpaqueId | None = None


class PublishAnswer(Message):
    """The answer to the `publish` of the same version."""

    type: Literal["published"] = "published"
    sdp: str
    version: int


class Track(Message):
    """Whose media an m-line carries, and which of theirs."""

    pid: OpaqueId
    source: Source


class SubscribeOffer(Message):
    """Everything that is forwarded to this client; m-lines that are absent from `tracks` are inactive."""

    type: Literal["subscribe"] = "subscribe"
    sdp: str
    version: int
    tracks: dict[str, Track]


class LoudestSpeakers(Message):
    """Who is heard loudest, the dominant one first."""

    type: Literal["speakers"] = "speakers"
    pids: tuple[OpaqueId, ...]


class UnwantedLayers(Message):
    """RIDs of the own camera that nobody looks at."""

    type: Literal["layers"] = "layers"
    unwanted: tuple[str, ...]


class SideState(Message):
    """What has become of one of the own two connections."""

    type: Literal["media"] = "media"
    side: Side
    state: ConnectionState
    reason: str | None = None


class ServerEnding(Message):
    """The server is about to stop: the conference breaks off within so many seconds."""

    type: Literal["ending"] = "ending"
    seconds: int = Field(ge=0)


ConferenceNews = (
    Admitted
    | Locked
    | StandIn
    | PublishAnswer
    | SubscribeOffer
    | LoudestSpeakers
    | UnwantedLayers
    | SideState
    | ServerEnding
)
