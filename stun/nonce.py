"""Stateless nonces, bound to the client's address (RFC 8489 §9.2.4, §9.2.5)."""

import binascii
import hashlib
import hmac
import struct
from collections.abc import Sequence
from typing import Final

from stun.address import TransportAddress
from stun.errors import StaleNonceError

NONCE_LENGTH: Final = 24  # characters: a 401 must stay small, see docs/turn.md on reflection
_MAC_BYTES: Final = 14
_EXPIRY: Final = struct.Struct("!I")


class NonceSealer:
    """Issues and verifies nonces that need no memory: expiry and a MAC over expiry and client address.

    The first key signs, all of them verify, so that keys can change without a storm of 438. Relays that share
    the keys accept each other's nonces.
    """

    def __init__(self, keys: Sequence[bytes], lifetime: int) -> None:
        if not keys or not all(16 <= len(key) <= 64 for key in keys):
            raise ValueError("a nonce key has 16 to 64 bytes")
        self._keys = tuple(keys)
        self._lifetime = lifetime  # seconds

    def issue(self, client: TransportAddress, unix_time: float) -> str:
        """A nonce of 24 characters for this client address."""
        expiry = _EXPIRY.pack(int(unix_time) + self._lifetime)
        return binascii.b2a_base64(expiry + _mac(self._keys[0], expiry, client), newline=False).decode()

    def verify(self, nonce: str, client: TransportAddress, unix_time: float) -> None:
        """Accept only what `issue` made for this address and what has not expired.

        Raises:
            StaleNonceError: anything else.
        """
        if len(nonce) != NONCE_LENGTH or not nonce.isascii():
            raise StaleNonceError("not a nonce of ours")
        try:
            sealed = binascii.a2b_base64(nonce, strict_mode=True)
        except binascii.Error as error:
            raise StaleNonceError("not a nonce of ours") from error
        expiry, mac = sealed[:4], sealed[4:]
        if not any(hmac.compare_digest(_mac(key, expiry, client), mac) for key in self._keys):
            raise StaleNonceError("not a nonce of ours for this address")
        if _EXPIRY.unpack(expiry)[0] <= unix_time:
            raise StaleNonceError("expired")


def _mac(key: bytes, expiry: bytes, client: TransportAddress) -> bytes:
    # Keyed BLAKE2 is a MAC by itself (RFC 7693 §2.9) and takes a third of the time of HMAC through OpenSSL.
    return hashlib.blake2b(expiry + client.port.to_bytes(2) + client.ip, key=key, digest_size=_MAC_BYTES).digest()
