"""The numbers of STUN and TURN (IANA "STUN Parameters"; RFC 8489 §18, RFC 8656 §18, RFC 6062 §6, RFC 8016 §5)."""

from enum import Enum, IntEnum
from typing import Final

MAGIC_COOKIE: Final = bytes.fromhex("2112a442")
HEADER_LENGTH: Final = 20  # bytes (RFC 8489 §5)


class Method(IntEnum):
    """STUN methods (RFC 8489 §18.2, RFC 8656 §17, RFC 6062 §6.1)."""

    BINDING = 0x001
    ALLOCATE = 0x003
    REFRESH = 0x004
    SEND = 0x006
    DATA = 0x007
    CREATE_PERMISSION = 0x008
    CHANNEL_BIND = 0x009
    CONNECT = 0x00A
    CONNECTION_BIND = 0x00B
    CONNECTION_ATTEMPT = 0x00C


class MessageClass(IntEnum):
    """The two class bits, at their place in the message type (RFC 8489 §5)."""

    REQUEST = 0x000
    INDICATION = 0x010
    SUCCESS = 0x100
    ERROR = 0x110


class ErrorCode(IntEnum):
    """ERROR-CODE numbers (RFC 8489 §14.8, RFC 8656 §19, RFC 6062 §6.3, RFC 8016 §5)."""

    TRY_ALTERNATE = 300
    BAD_REQUEST = 400
    UNAUTHENTICATED = 401
    FORBIDDEN = 403
    MOBILITY_FORBIDDEN = 405
    UNKNOWN_ATTRIBUTE = 420
    ALLOCATION_MISMATCH = 437
    STALE_NONCE = 438
    ADDRESS_FAMILY_NOT_SUPPORTED = 440
    WRONG_CREDENTIALS = 441
    UNSUPPORTED_TRANSPORT_PROTOCOL = 442
    PEER_ADDRESS_FAMILY_MISMATCH = 443
    CONNECTION_ALREADY_EXISTS = 446
    CONNECTION_TIMEOUT_OR_FAILURE = 447
    ALLOCATION_QUOTA_REACHED = 486
    SERVER_ERROR = 500
    INSUFFICIENT_CAPACITY = 508


class PasswordAlgorithm(IntEnum):
    """How a key is made of a password (RFC 8489 §18.5)."""

    MD5 = 0x0001
    SHA256 = 0x0002


class IntegrityAlgorithm(Enum):
    """Hash of the integrity attribute: hashlib's name, attribute type, size of the value in bytes."""

    SHA1 = ("sha1", 0x0008, 20)
    SHA256 = ("sha256", 0x001C, 32)

    def __init__(self, digest: str, attribute_type: int, size: int) -> None:
        self.digest = digest
        self.attribute_type = attribute_type
        self.size = size


REASONS: Final = {
    ErrorCode.TRY_ALTERNATE: "Try Alternate",
    ErrorCode.BAD_REQUEST: "Bad Request",
    ErrorCode.UNAUTHENTICATED: "Unauthenticated",
    ErrorCode.FORBIDDEN: "Forbidden",
    ErrorCode.MOBILITY_FORBIDDEN: "Mobility Forbidden",
    ErrorCode.UNKNOWN_ATTRIBUTE: "Unknown Attribute",
    ErrorCode.ALLOCATION_MISMATCH: "Allocation Mismatch",
    ErrorCode.STALE_NONCE: "Stale Nonce",
    ErrorCode.ADDRESS_FAMILY_NOT_SUPPORTED: "Address Family not Supported",
    ErrorCode.WRONG_CREDENTIALS: "Wrong Credentials",
    ErrorCode.UNSUPPORTED_TRANSPORT_PROTOCOL: "Unsupported Transport Protocol",
    ErrorCode.PEER_ADDRESS_FAMILY_MISMATCH: "Peer Address Family Mismatch",
    ErrorCode.CONNECTION_ALREADY_EXISTS: "Connection Already Exists",
    ErrorCode.CONNECTION_TIMEOUT_OR_FAILURE: "Connection Timeout or Failure",
    ErrorCode.ALLOCATION_QUOTA_REACHED: "Allocation Quota Reached",
    ErrorCode.SERVER_ERROR: "Server Error",
    ErrorCode.INSUFFICIENT_CAPACITY: "Insufficient Capacity",
}


def message_type(method: int, message_class: MessageClass) -> int:
    """Weave the twelve method bits around the two class bits (RFC 8489 §5, figure 3)."""
    return (method & 0x00F) | (method & 0x070) << 1 | (method & 0xF80) << 2 | message_class


def split_message_type(value: int) -> tuple[int, MessageClass]:
    """Take a 14-bit message type apart into method and class."""
    method = (value & 0x000F) | (value & 0x00E0) >> 1 | (value & 0x3E00) >> 2
    return method, _CLASSES[value & 0x0110]


_CLASSES: Final = {int(member): member for member in MessageClass}
