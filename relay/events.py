"""What the control plane reports to metrics and logs. No event carries an address, a user name or a payload."""

from enum import StrEnum
from typing import NamedTuple

from relay.datapath import Traffic
from relay.five_tuple import Transport
from stun.errors import ParseFault
from stun.registry import ErrorCode, Method


class Ending(StrEnum):
    """Why an allocation ended."""

    REFRESH_ZERO = "refresh_zero"
    EXPIRED = "expired"
    DISCONNECTED = "disconnected"
    SHUTDOWN = "shutdown"
    MOVED = "moved"  # to another transport of the same client: it goes on there


class NoAnswer(StrEnum):
    """Why a message that parsed got no answer."""

    NOT_A_REQUEST = "not_a_request"
    UNKNOWN_METHOD = "unknown_method"
    BAD_INDICATION = "bad_indication"
    RATE_LIMITED = "rate_limited"


class RequestAnswered(NamedTuple):
    """A request got a success response."""

    method: Method
    transport: Transport


class RequestRefused(NamedTuple):
    """A request got an error response. `cause` is one of the constants that the code raises with."""

    method: Method
    code: ErrorCode
    cause: str


class MessageDropped(NamedTuple):
    """Bytes that were no message, or a message that gets no answer."""

    reason: ParseFault | NoAnswer


class AllocationCreated(NamedTuple):
    """A client was given one relayed transport address, or one of each family."""

    transport: Transport
    families: tuple[int, ...]
    secret: str  # name of the shared secret behind the credential, empty for a static user
    is_trial: bool = False  # of a connection test


class AllocationDeleted(NamedTuple):
    """An allocation ended; its relayed transport addresses, those that were left, were taken back."""

    transport: Transport
    families: tuple[int, ...]
    ending: Ending
    seconds: float
    traffic: Traffic
    secret: str = ""  # as AllocationCreated had it, unless the client has changed its credential since
    is_trial: bool = False


class HalfDeleted(NamedTuple):
    """One relayed transport address of a dual allocation was taken back; the other one lives on."""

    transport: Transport
    family: int
    ending: Ending


class AllocationMoved(NamedTuple):
    """A mobile allocation belongs to another five-tuple of its client (RFC 8016)."""

    before: Transport
    after: Transport
    families: tuple[int, ...]


Event = (
    RequestAnswered
    | RequestRefused
    | MessageDropped
    | AllocationCreated
    | AllocationDeleted
    | AllocationMoved
    | HalfDeleted
)
