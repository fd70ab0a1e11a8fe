"""What the lobby reports for metrics and log lines: kinds and sizes, never a name, code, address or id."""

from dataclasses import dataclass
from enum import StrEnum

from signaling.appointments import Role, Tier
from signaling.messages import ErrorCode, MessageFault


class Departure(StrEnum):
    """How a claim ended."""

    LEFT = "left"
    HOLD_EXPIRED = "hold_expired"
    DISPLACED = "displaced"
    EVICTED = "evicted"
    DRAINED = "drained"
    MOVED = "moved"  # another node has the room now
    REFUSED = "refused"  # an organiser did not let it in
    REMOVED = "removed"  # an organiser sent it away


class MediaKind(StrEnum):
    """What a participant of a conference asks of the media server."""

    PUBLISH = "publish"
    SUBSCRIBED = "subscribed"
    WANT = "want"
    RESTART = "restart"


@dataclass(frozen=True, slots=True)
class ClientConnected:
    """A socket was counted in."""


@dataclass(frozen=True, slots=True)
class ClientDisconnected:
    """A socket was counted out, whoever closed it."""


@dataclass(frozen=True, slots=True)
class SeatClaimed:
    """A join succeeded."""

    role: Role
    resumed: bool


@dataclass(frozen=True, slots=True)
class JoinRefused:
    """A join failed."""

    code: ErrorCode


@dataclass(frozen=True, slots=True)
class MessageRefused:
    """A client broke the protocol and was closed."""

    fault: MessageFault


@dataclass(frozen=True, slots=True)
class BlobRelayed:
    """A blob went to another client."""

    size: int


@dataclass(frozen=True, slots=True)
class BlobDropped:
    """A blob was for nobody who may get it now, or of a stranger for somebody who reads slowly."""


@dataclass(frozen=True, slots=True)
class PairingConfirmed:
    """Two clients verified each other for the first time."""

    tier: Tier


@dataclass(frozen=True, slots=True)
class PairingFailed:
    """A client could not verify its peer: a mistake, or somebody who guesses."""


@dataclass(frozen=True, slots=True)
class ClaimEnded:
    """A claim was forgotten."""

    departure: Departure


@dataclass(frozen=True, slots=True)
class RoomOpened:
    """The first client took a seat of this appointment."""

    tier: Tier
    conference: bool = False


@dataclass(frozen=True, slots=True)
class RoomClosed:
    """The last claim of this room was forgotten, `seconds` after the first.

    `paired` says that two have verified each other, and of a conference that somebody was admitted to it.
    """

    tier: Tier
    seconds: float
    paired: bool
    conference: bool = False


@dataclass(frozen=True, slots=True)
class AdmissionDecided:
    """An organiser has let a participant in, or sent it away from the lobby."""

    admitted: bool


@dataclass(frozen=True, slots=True)
class MediaRequested:
    """A participant of a conference has asked something of the media server."""

    kind: MediaKind


Event = (
    ClientConnected
    | ClientDisconnected
    | SeatClaimed
    | JoinRefused
    | MessageRefused
    | BlobRelayed
    | BlobDropped
    | PairingConfirmed
    | PairingFailed
    | ClaimEnded
    | RoomOpened
    | RoomClosed
    | AdmissionDecided
    | MediaRequested
)
