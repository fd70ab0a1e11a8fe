"""What the control plane reports to metrics and logs. No event carries an address, a user name or a payload."""

from enum import Enum
from typing import NamedTuple

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

    fault: ParseFault | None


class AllocationCreated(NamedTuple):
    """A relayed transport address was given to a client."""

    transport: Transport
    family: int


class AllocationDeleted(NamedTuple):
    """A relayed transport address was taken back."""

    transport: Transport
    family: int
    ending: Ending
    seconds: float
    traffic: Traffic


Event = RequestAnswered | RequestRefused | MessageDropped | AllocationCreated | AllocationDeleted
