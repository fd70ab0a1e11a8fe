"""What a TURN client can do wrong, each with the ERROR-CODE that tells it so."""

from typing import ClassVar

from relay.datapath import Drop
from stun.address import TransportAddress
from stun.registry import ErrorCode


class RequestRejected(Exception):
    """A request that gets an error response; raised anywhere in a handler, answered in one place.

    `cause` is a constant of the code, never data of a client: it becomes a metric label.
    """

    code: ClassVar[ErrorCode] = ErrorCode.SERVER_ERROR

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause

    def __str__(self) -> str:
        return f"{int(self.code)} {self.cause}"


class BadRequest(RequestRejected):
    """400: something is missing, malformed or contradictory."""

    code = ErrorCode.BAD_REQUEST


class Unauthenticated(RequestRejected):
    """401: no credentials, or wrong ones (RFC 8489 §9.2.4)."""

    code = ErrorCode.UNAUTHENTICATED


class Forbidden(RequestRejected):
    """403: the peer policy denies the address (RFC 8656 §10.2)."""

    code = ErrorCode.FORBIDDEN


class AllocationMismatch(RequestRejected):
    """437: an allocation is missing where one is needed, or there where none may be."""

    code = ErrorCode.ALLOCATION_MISMATCH


class StaleNonce(RequestRejected):
    """438: the NONCE has expired or belongs to another address."""

    code = ErrorCode.STALE_NONCE


class AddressFamilyNotSupported(RequestRejected):
    """440: no relayed transport address of this family can be had."""

    code = ErrorCode.ADDRESS_FAMILY_NOT_SUPPORTED


class WrongCredentials(RequestRejected):
    """441: the allocation belongs to another user."""

    code = ErrorCode.WRONG_CREDENTIALS


class UnsupportedTransportProtocol(RequestRejected):
    """442: REQUESTED-TRANSPORT is not UDP."""

    code = ErrorCode.UNSUPPORTED_TRANSPORT_PROTOCOL


class PeerAddressFamilyMismatch(RequestRejected):
    """443: the peer's family is not that of the relayed transport address."""

    code = ErrorCode.PEER_ADDRESS_FAMILY_MISMATCH


class AllocationQuotaReached(RequestRejected):
    """486: this user holds as many allocations as one may."""

    code = ErrorCode.ALLOCATION_QUOTA_REACHED


class InsufficientCapacity(RequestRejected):
    """508: no port, or no room in a table of this allocation."""

    code = ErrorCode.INSUFFICIENT_CAPACITY


class TryAlternate(RequestRejected):
    """300: another server has room (RFC 8489 §10, RFC 8656 §7.2)."""

    code = ErrorCode.TRY_ALTERNATE

    def __init__(self, server: TransportAddress) -> None:
        super().__init__("alternate")
        self.server = server


class PortTaken(OSError):
    """The data path could not bind a port, because somebody else on this machine holds it."""


class NotSent(OSError):
    """A link dropped a message by itself; to the packet path it is one more reason why a send fails."""

    def __init__(self, reason: Drop) -> None:
        super().__init__(reason)
        self.reason = reason
