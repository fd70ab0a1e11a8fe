"""What the control plane reports to metrics and logs. No event carries an address, a user name or a payload."""

from dataclasses import dataclass
from enum import Enum

from relay.datapath import Traffic
from relay.five_tuple import Transport
from stun.errors import ParseFault
from stun.registry import ErrorCode, Method


class Ending(Enum):
    """Why an allocation ended."""

    REFRESH_ZERO = "refresh_zero"
    EXPIRED = "expired"
    DISCONNECTED = "disconnected"
    SHUTDOWN = "shutdown"


@dataclass(frozen=True, slots=True)
class RequestAnswered:
    """A request got a success response."""

    method: Method
    transport: Transport


@dataclass(frozen=True, slots=True)
class RequestRefused:
    """A request got an error response. `cause` is one of the constants that the code raises with."""

    method: Method
    code: ErrorCode
    cause: str


@dataclass(frozen=True, slots=True)
class MessageDropped:
    """Bytes that were no message, or a message that gets no answer."""

    fault: ParseFault | None


@dataclass(frozen=True, slots=True)
class AllocationCreated:
    """A relayed transport address was given to a client."""

    transport: Transport
    family: int


@dataclass(frozen=True, slots=True)
class AllocationDeleted:
    """A relayed transport address was taken back."""

    transport: Transport
    family: int
    ending: Ending
    seconds: float
    traffic: Traffic


Event = RequestAnswered | RequestRefused | MessageDropped | AllocationCreated | AllocationDeleted
