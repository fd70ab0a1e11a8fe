"""Long-term credentials: static users and time-limited ones (RFC 8489 §9.2, draft-uberti-behave-turn-rest-00)."""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from stun.errors import CredentialError, CredentialFault

MIN_SECRET_BYTES: Final = 32
_MAX_EXPIRY_DIGITS: Final = 12  # seconds since 1970: enough for the next 30,000 years


class Credential(NamedTuple):
    """A user name with its password, as an `RTCIceServer` takes them."""

    username: str
    password: str


def long_term_key(username: str, realm: str, password: str) -> bytes:
    """MD5(username ":" realm ":" password), the key of MESSAGE-INTEGRITY (RFC 8489 §9.2.2)."""
    return hashlib.md5(f"{username}:{realm}:{password}".encode(), usedforsecurity=False).digest()


def issue_credential(secret: bytes, expires_at: int, identity: str = "") -> Credential:
    """Make a time-limited credential: user name `expiry[:identity]`, password base64(HMAC-SHA1(secret, user name)).

    Args:
        secret: shared with the relay, at least 32 bytes.
        expires_at: Unix time, in seconds, from which the relay refuses it.
        identity: anything without a meaning for strangers; random rather than a name.

    Raises:
        ValueError: the secret is too short.
    """
    check_secret(secret)
    username = f"{expires_at}:{identity}" if identity else str(expires_at)
    return Credential(username, _password(secret, username))


def check_secret(secret: bytes) -> None:
    """Refuse a shared secret of fewer than 32 bytes.

    Raises:
        ValueError: it is too short.
    """
    if len(secret) < MIN_SECRET_BYTES:
        raise ValueError(f"a shared secret needs at least {MIN_SECRET_BYTES} bytes, this one has {len(secret)}")


class CredentialBook:
    """Knows which keys a user name may have: one for a static user, one per shared secret for a time-limited one."""

    def __init__(self, realm: str, users: Mapping[str, str], secrets: Sequence[bytes]) -> None:
        for secret in secrets:
            check_secret(secret)
        self.realm = realm
        self._users = {name: long_term_key(name, realm, password) for name, password in users.items()}
        self._secrets = tuple(secrets)

    def keys(self, username: str, unix_time: float) -> tuple[bytes, ...]:
        """Every key that a message of this user may be signed with.

        Args:
            username: the value of USERNAME.
            unix_time: seconds since 1970.

        Raises:
            CredentialError: the user is unknown, or the credential has expired.
        """
        static = self._users.get(username)
        if static is not None:
            return (static,)
        expiry = username.partition(":")[0]
        if not (self._secrets and expiry.isascii() and expiry.isdigit() and len(expiry) <= _MAX_EXPIRY_DIGITS):
            raise CredentialError(CredentialFault.UNKNOWN_USER)
        if int(expiry) <= unix_time:
            raise CredentialError(CredentialFault.EXPIRED)
        return tuple(long_term_key(username, self.realm, _password(secret, username)) for secret in self._secrets)


def _password(secret: bytes, username: str) -> str:
    return base64.b64encode(hmac.digest(secret, username.encode(), "sha1")).decode()
