"""Organisations that make appointments by the API, and the tokens by which they are known."""

import hashlib
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
        self._known: dict[bytes, Organisation] = {
            bytes.fromhex(digest): Organisation(name, organisation.tier)
            for name, organisation in organisations.items()
            for digest in organisation.tokens_sha256
        }

    def authenticate(self, authorization: str) -> Organisation:
        """Tell whose token this is.

        Args:
            authorization: the value of the Authorization header (RFC 6750 §2.1).

        Raises:
            UnknownToken: it is no bearer token, or nobody's.
        """
        match = _BEARER.fullmatch(authorization)
        if match is None or not _TOKEN.fullmatch(match[1]):
            raise UnknownToken
        digest = hashlib.sha256(match[1].encode()).digest()
        # Its time could tell how a digest compares with one in the table. Nobody can choose the digest of a token bit
        # by bit, so that tells nothing of a token; and an attempt costs the same however many organisations there are.
        organisation = self._known.get(digest)
        if organisation is None:
            raise UnknownToken
        return organisation


def hash_token(token: str) -> str:
    """Write the hash of a token as the settings take it."""
    return hashlib.sha256(token.encode()).hexdigest()
