"""Stateless nonces, bound to the client's address, that say what the server can (RFC 8489 §9.2, §9.2.4, §18.1)."""

import hashlib
import struct
from binascii import a2b_base64, b2a_base64
from collections.abc import Sequence
from enum import IntFlag
from hmac import compare_digest
from typing import Final

from stun.address import TransportAddress
from stun.errors import StaleNonceError

NONCE_LENGTH: Final = 24  # characters: a 401 must stay small, see docs/turn.md on reflection
MAX_LIFETIME: Final = (1 << 18) - 1  # seconds: what the 18 bits of the expiry tell apart

_COOKIE: Final = "obMatJos2"
_COOKIE_END: Final = len(_COOKIE) + 4  # the 24 feature bits in base64
_EXPIRY_MASK: Final = MAX_LIFETIME
_MAC_BYTES: Final = 6
_COVERED: Final = struct.Struct("!IQH")  # features, expiry, port; the IP address follows


class SecurityFeatures(IntFlag):
    """STUN Security Features: bit 0 is the most significant of 24 (RFC 8489 §9.2, §18.1).

    The nonce in the sample message of appendix B.1 counts from the other end; the text of the RFC decides.
    """

    NONE = 0
    PASSWORD_ALGORITHMS = 1 << 23
    USERNAME_ANONYMITY = 1 << 22


_PASSWORD_ALGORITHMS: Final = int(SecurityFeatures.PASSWORD_ALGORITHMS)


def security_features(nonce: str) -> int:
    """The feature bits that a nonce claims, genuine or not; 0 for one without the nonce cookie (RFC 8489 §9.2)."""
    if not nonce.startswith(_COOKIE):
        return 0
    encoded = nonce[len(_COOKIE) : _COOKIE_END]
    try:
        packed = a2b_base64(encoded, strict_mode=True)
    except ValueError:
        return 0
    return int.from_bytes(packed) if len(packed) == 3 else 0


class NonceSealer:
    """Issues and verifies nonces that need no memory: features, expiry, and a MAC over both and the client's address.

    Nine characters of nonce cookie, four of features, three of expiry (the low 18 bits of its Unix second: the MAC
    covers all of it, and the verifier finds it again, because it must lie ahead and no nonce lives that long), eight
    of MAC. 48 bits suffice: whoever guesses a nonce can only offer it, one request a guess, together with a message
    integrity that covers it.

    The first key signs, all of them verify, so that keys can change without a storm of 438. Relays that share
    the keys accept each other's nonces.
    """

    def __init__(self, keys: Sequence[bytes], lifetime: int) -> None:
        """Prepare the keys.

        Args:
            keys: 16 to 64 bytes each.
            lifetime: of a nonce, in seconds.

        Raises:
            ValueError: there is no key, one has another length, or nonces would live too long.
        """
        if not keys or not all(16 <= len(key) <= 64 for key in keys):
            raise ValueError("a nonce key has 16 to 64 bytes")
        if not 0 < lifetime <= MAX_LIFETIME:
            raise ValueError(f"a nonce lives 1 to {MAX_LIFETIME} seconds")
        # Keyed BLAKE2 is a MAC by itself (RFC 7693 §2.9). Copies of a state that has taken in the key cost a fifth
        # of HMAC through OpenSSL. BLAKE2s takes keys of 32 bytes, hence the first hash.
        self._states = tuple(
            hashlib.blake2s(key=hashlib.blake2b(key, digest_size=32).digest(), digest_size=_MAC_BYTES) for key in keys
        )
        self._lifetime = lifetime

    def issue(self, client: TransportAddress, unix_time: float, features: int = 0) -> str:
        """A nonce of 24 characters for this client address, which names these security features."""
        expiry = int(unix_time) + self._lifetime
        mac = self._states[0].copy()
        mac.update(_COVERED.pack(features, expiry, client.port) + client.ip)
        # 9 bytes are 12 characters; the first one is empty, because an expiry has 18 bits of its 24.
        sealed = b2a_base64((expiry & _EXPIRY_MASK).to_bytes(3) + mac.digest(), newline=False)
        return f"{_COOKIE}{b2a_base64(features.to_bytes(3), newline=False).decode()}{sealed[1:].decode()}"

    def verify(self, nonce: str, client: TransportAddress, unix_time: float) -> int:
        """Accept only what `issue` made for this address and what has not expired; returns its security features.

        Raises:
            StaleNonceError: anything else.
        """
        if len(nonce) != NONCE_LENGTH or not nonce.startswith(_COOKIE):
            raise StaleNonceError("not a nonce of ours")
        try:
            # 15 characters behind the cookie and one in front of the expiry: 12 bytes in one go.
            opened = a2b_base64(f"{nonce[9:13]}A{nonce[13:]}", strict_mode=True)
        except ValueError as error:
            raise StaleNonceError("not a nonce of ours") from error
        if len(opened) != 12:  # fewer, if it ends in padding
            raise StaleNonceError("not a nonce of ours")
        features, low = int.from_bytes(opened[:3]), int.from_bytes(opened[3:6])
        after = int(unix_time) + 1  # the first second at which a nonce that is alive may expire
        expiry = after + (low - after & _EXPIRY_MASK)
        ip, port = client
        covered = _COVERED.pack(features, expiry, port) + ip
        given = opened[6:]
        for state in self._states:
            mac = state.copy()
            mac.update(covered)
            if compare_digest(mac.digest(), given):
                return features
        raise StaleNonceError("expired, or not a nonce of ours for this address")
