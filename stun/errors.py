"""What can be wrong with bytes that claim to be STUN."""

from enum import Enum


class ParseFault(Enum):
    """Why a parser refused; a bounded set, fit for a metric label."""

    TRUNCATED = "truncated"
    NOT_STUN = "not_stun"
    BAD_COOKIE = "bad_cookie"
    BAD_LENGTH = "bad_length"
    BAD_VALUE = "bad_value"
    BAD_FINGERPRINT = "bad_fingerprint"
    MISPLACED = "misplaced"
    TOO_MANY = "too_many"
    UNKNOWN_FAMILY = "unknown_family"


class MessageParseError(ValueError):
    """Bytes that do not parse. Every parser of this package raises this and nothing else."""

    def __init__(self, fault: ParseFault, detail: str = "") -> None:
        super().__init__(f"{fault.value}: {detail}" if detail else fault.value)
        self.fault = fault


class IntegrityError(ValueError):
    """MESSAGE-INTEGRITY or MESSAGE-INTEGRITY-SHA256 does not match the key (RFC 8489 §14.5, §14.6)."""


class StaleNonceError(ValueError):
    """A NONCE that this server did not issue to this address, or that has expired (RFC 8489 §9.2.4)."""


class CredentialError(ValueError):
    """A user name that no password can be derived for."""

    def __init__(self, reason: "CredentialFault") -> None:
        super().__init__(reason.value)
        self.reason = reason


class CredentialFault(Enum):
    """Why a user name was refused; a bounded set, fit for a metric label."""

    UNKNOWN_USER = "unknown_user"
    EXPIRED = "expired"
