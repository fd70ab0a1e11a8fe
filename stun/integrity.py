"""MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 and FINGERPRINT (RFC 8489 §14.5 to §14.7)."""

import hashlib
import zlib
from hmac import compare_digest
from typing import TYPE_CHECKING, Final

from stun.errors import IntegrityError
from stun.registry import HEADER_LENGTH, IntegrityAlgorithm

if TYPE_CHECKING:
    from hashlib import _Hash

_FINGERPRINT_MASK: Final = 0x5354554E  # "STUN" (RFC 8489 §14.7)
_BLOCK: Final = 64  # bytes; SHA-1 and SHA-256 agree in it
_INNER_PAD: Final = bytes(each ^ 0x36 for each in range(256))
_OUTER_PAD: Final = bytes(each ^ 0x5C for each in range(256))


_SHA1: Final = IntegrityAlgorithm.SHA1  # an enum's members are slow to look up


class IntegrityKey:
    """A key of integrity attributes, ready for use: HMAC states that have taken in the padded key already.

    `hmac` pads and hashes the key for each message anew, which is half of the work for messages as short as these
    (RFC 2104 §4 describes this way). SHA-256 is prepared when first asked for: browsers never do.
    """

    __slots__ = ("_inner", "_inner_sha256", "_key", "_outer", "_outer_sha256")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._inner, self._outer = _states(key, "sha1")
        self._inner_sha256: _Hash | None = None
        self._outer_sha256: _Hash | None = None

    def digest(self, data: bytes, algorithm: IntegrityAlgorithm) -> bytes:
        """The HMAC of `data`."""
        if algorithm is _SHA1:
            inner, outer = self._inner.copy(), self._outer.copy()
        else:
            if self._inner_sha256 is None or self._outer_sha256 is None:
                self._inner_sha256, self._outer_sha256 = _states(self._key, "sha256")
            inner, outer = self._inner_sha256.copy(), self._outer_sha256.copy()
        inner.update(data)
        outer.update(inner.digest())
        return outer.digest()

    def verify(self, message: bytes, at: int, algorithm: IntegrityAlgorithm) -> None:
        """Check the integrity attribute that begins at offset `at`.

        The length field counts that attribute as the last one, whatever follows it (RFC 8489 §14.5).

        Raises:
            IntegrityError: it does not match the key.
        """
        end = at + (24 if algorithm is _SHA1 else 36)
        if end == len(message):
            covered = message[:at]
        else:
            covered = message[:2] + (end - HEADER_LENGTH).to_bytes(2) + message[4:at]
        if not compare_digest(self.digest(covered, algorithm), message[at + 4 : end]):
            raise IntegrityError(f"{algorithm.name} integrity does not match")


def fingerprint_of(covered: bytes | memoryview) -> int:
    """The CRC-32 of the message before its FINGERPRINT, whose length field already counts it (RFC 8489 §14.7)."""
    return zlib.crc32(covered) ^ _FINGERPRINT_MASK


def _states(key: bytes, name: str) -> "tuple[_Hash, _Hash]":
    """The states of the inner and the outer hash (RFC 2104 §2)."""
    if len(key) > _BLOCK:
        key = hashlib.new(name, key).digest()
    padded = key.ljust(_BLOCK, b"\0")
    return hashlib.new(name, padded.translate(_INNER_PAD)), hashlib.new(name, padded.translate(_OUTER_PAD))
