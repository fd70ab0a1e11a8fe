"""Organisations that make appointments by the API, and the tokens by which they are known."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import NamedTuple

from signaling.appointments import Tier
from signaling.settings import OrganisationSettings

TOKEN_ENTROPY_BYTES = 32
TOKEN_CHARACTERS = 43  # 32 bytes in base64url

_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_BEARER = re.compile(r"bearer +([^ ]+)", re.ASCII | re.IGNORECASE)


class UnknownToken(Exception):
    """The request carries no token, or one of nobody. Which of both is told to nobody."""


class Organisation(NamedTuple):
    """Who makes a request."""

    name: str
    tier: Tier


class OrganisationBook:
    """Knows the organisations by the SHA-256 of their tokens.

    A token is 32 random bytes, so that its plain hash tells nothing of it: no salt, no slow function is needed.
    """

    def __init__(self, organisations: Mapping[str, OrganisationSettings]) -> None:
        self._known = {
            bytes.fromhex(digest): (bytes.fromhex(digest), Organisation(name, organisation.tier))
            for name, organisation in organisations.items()
            for digest in organisation.tokens_sha256
        }

    def authenticate(self, authorization: str) -> Organisation:
        """Tell whose token this is, in a time that does not depend on how much of it is right.

        Args:
            authorization: the value of the Authorization header (RFC 6750 §2.1).

        Raises:
            UnknownToken: it is no bearer token, or nobody's.
        """
        match = _BEARER.fullmatch(authorization)
        if match is None or not _TOKEN.fullmatch(match[1]):
            raise UnknownToken
        digest = hashlib.sha256(match[1].encode()).digest()
        # The dictionary finds candidates by a keyed hash of the digest, so its time tells nothing of the digests in it,
        # and a stranger's attempt costs the same with ten thousand organisations as with one.
        known, organisation = self._known.get(digest, (b"", None))
        if organisation is None or not hmac.compare_digest(known, digest):
            raise UnknownToken
        return organisation


def hash_token(token: str) -> str:
    """Write the hash of a token as the settings take it."""
    return hashlib.sha256(token.encode()).hexdigest()
