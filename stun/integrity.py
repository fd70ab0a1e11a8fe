"""MESSAGE-INTEGRITY, MESSAGE-INTEGRITY-SHA256 and FINGERPRINT (RFC 8489 §14.5 to §14.7)."""

import hmac
import zlib
from enum import Enum
from typing import Final

from stun.errors import IntegrityError
from stun.registry import HEADER_LENGTH

_FINGERPRINT_MASK: Final = 0x5354554E  # "STUN" (RFC 8489 §14.7)


class IntegrityAlgorithm(Enum):
    """Hash of the integrity attribute: hashlib's name, attribute type, size of the value in bytes."""

    SHA1 = ("sha1", 0x0008, 20)
    SHA256 = ("sha256", 0x001C, 32)

    def __init__(self, digest: str, attribute_type: int, size: int) -> None:
        self.digest = digest
        self.attribute_type = attribute_type
        self.size = size


def integrity_of(message: bytes, at: int, key: bytes, algorithm: IntegrityAlgorithm) -> bytes:
    """The HMAC over everything before offset `at`.

    The length field counts the integrity attribute as the last one, whatever follows it (RFC 8489 §14.5).
    """
    length = at + 4 + algorithm.size - HEADER_LENGTH
    covered = message[:2] + length.to_bytes(2) + message[4:at]
    return hmac.digest(key, covered, algorithm.digest)


def verify_integrity(message: bytes, at: int, key: bytes, algorithm: IntegrityAlgorithm) -> None:
    """Check the integrity attribute that begins at offset `at`.

    Raises:
        IntegrityError: it does not match the key.
    """
    expected = integrity_of(message, at, key, algorithm)
    if not hmac.compare_digest(expected, message[at + 4 : at + 4 + algorithm.size]):
        raise IntegrityError(f"{algorithm.name} integrity does not match")


def fingerprint_of(covered: bytes | memoryview) -> int:
    """The CRC-32 of the message before its FINGERPRINT, whose length field already counts it (RFC 8489 §14.7)."""
    return zlib.crc32(covered) ^ _FINGERPRINT_MASK
