"""Long-term credentials: static users and time-limited ones (RFC 8489 §9.2, draft-uberti-behave-turn-rest-00)."""

import base64
import functools
import hashlib
import hmac
import unicodedata
from collections.abc import Mapping
from typing import Final, NamedTuple

from stun.errors import CredentialError, CredentialFault
from stun.integrity import IntegrityKey
from stun.registry import IntegrityAlgorithm, PasswordAlgorithm

MIN_SECRET_BYTES: Final = 32
MAX_CACHED_KEYS: Final = 2048  # user names; a key takes about 1 KiB per shared secret
_MAX_EXPIRY_DIGITS: Final = 12  # seconds since 1970: enough for the next 30,000 years
_DIGESTS: Final = {PasswordAlgorithm.MD5: "md5", PasswordAlgorithm.SHA256: "sha256"}
_MD5: Final = PasswordAlgorithm.MD5
_SHA1: Final = IntegrityAlgorithm.SHA1

Keys = tuple[tuple[str, IntegrityKey], ...]  # with the name of the shared secret, "" for a static user


class Credential(NamedTuple):
    """A user name with its password, as an `RTCIceServer` takes them."""

    username: str
    password: str


def opaque_string(text: str) -> str:
    """What OpaqueString makes of a user name or a password: plain spaces and composed characters (RFC 8265 §4.2.2)."""
    spaced = "".join(" " if unicodedata.category(each) == "Zs" else each for each in text)
    return unicodedata.normalize("NFC", spaced)


def long_term_key(
    username: str, realm: str, password: str, algorithm: PasswordAlgorithm = PasswordAlgorithm.MD5
) -> bytes:
    """Hash of username ":" realm ":" password, the key of integrity attributes (RFC 8489 §9.2.2, §18.5.1)."""
    text = f"{username}:{realm}:{password}".encode()
    return hashlib.new(_DIGESTS[algorithm], text, usedforsecurity=False).digest()


def userhash(username: str, realm: str) -> bytes:
    """The value of USERHASH: SHA-256 of username ":" realm (RFC 8489 §14.4)."""
    return hashlib.sha256(f"{username}:{realm}".encode()).digest()


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


def credential_expiry(username: str) -> int:
    """The Unix second from which a time-limited credential is refused.

    Raises:
        ValueError: the user name is not that of one.
    """
    return int(username.partition(":")[0])


class CredentialBook:
    """Knows which keys a user name may have: one for a static user, one per shared secret for a time-limited one."""

    def __init__(self, realm: str, users: Mapping[str, str], secrets: Mapping[str, bytes]) -> None:
        """Derive the keys of the static users.

        Args:
            realm: the value of REALM.
            users: static users and their passwords.
            secrets: shared secrets of at least 32 bytes by name; several, so that an old and a new one overlap.

        Raises:
            ValueError: a secret is too short.
        """
        for secret in secrets.values():
            check_secret(secret)
        self.realm = realm
        prepared = [(opaque_string(name), opaque_string(password)) for name, password in users.items()]
        self._users: dict[PasswordAlgorithm, dict[str, Keys]] = {
            algorithm: {
                name: (("", IntegrityKey(long_term_key(name, realm, password, algorithm))),)
                for name, password in prepared
            }
            for algorithm in PasswordAlgorithm
        }
        self._static = self._users[_MD5]
        self._by_userhash = {userhash(name, realm): name for name, _ in prepared}
        self._secrets = tuple((name, IntegrityKey(secret)) for name, secret in secrets.items())
        # Two hashes per secret and request are too dear; the expiry is looked at before the cache.
        self._derived = functools.lru_cache(MAX_CACHED_KEYS)(self._derive)

    @property
    def has_anonymous_users(self) -> bool:
        """Whether every user can be found by USERHASH; nobody can know the hashes of time-limited names beforehand."""
        return bool(self._by_userhash) and not self._secrets

    def keys(
        self, username: str, unix_time: float, password_algorithm: PasswordAlgorithm = PasswordAlgorithm.MD5
    ) -> Keys:
        """Every key that a message of this user may be signed with, and the name of the shared secret behind it.

        Args:
            username: the value of USERNAME.
            unix_time: seconds since 1970.
            password_algorithm: how keys are made of passwords.

        Raises:
            CredentialError: the user is unknown, or the credential has expired.
        """
        users = self._static if password_algorithm is _MD5 else self._users[password_algorithm]
        static = users.get(username)
        if static is not None:
            return static
        expiry = username.partition(":")[0]
        if not (self._secrets and expiry.isascii() and expiry.isdigit() and len(expiry) <= _MAX_EXPIRY_DIGITS):
            raise CredentialError(CredentialFault.UNKNOWN_USER)
        if int(expiry) <= unix_time:
            raise CredentialError(CredentialFault.EXPIRED)
        return self._derived(username, password_algorithm)

    def by_userhash(self, value: bytes) -> str:
        """The static user with this USERHASH (RFC 8489 §14.4).

        Raises:
            CredentialError: there is none.
        """
        username = self._by_userhash.get(value)
        if username is None:
            raise CredentialError(CredentialFault.UNKNOWN_USER)
        return username

    def _derive(self, username: str, algorithm: PasswordAlgorithm) -> Keys:
        name = username.encode()
        return tuple(
            (
                secret_name,
                IntegrityKey(long_term_key(username, self.realm, _base64(secret.digest(name, _SHA1)), algorithm)),
            )
            for secret_name, secret in self._secrets
        )


def _password(secret: bytes, username: str) -> str:
    return _base64(hmac.digest(secret, username.encode(), "sha1"))


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
