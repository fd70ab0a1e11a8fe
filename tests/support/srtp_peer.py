"""SRTP written from the RFCs, without libsrtp: an independent other end for single packets with rollover counter 0."""

import hashlib
import hmac

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def derive(key: bytes, salt: bytes, label: int, length: int) -> bytes:
    """A session key by AES in counter mode (RFC 3711 §4.3); a salt of 12 bytes is filled up to 14 (RFC 7714 §11)."""
    salt = salt + bytes(14 - len(salt))
    nonce = (int.from_bytes(salt) ^ label << 48).to_bytes(14) + bytes(2)
    return _keystream(key, nonce, length)


def _keystream(key: bytes, nonce: bytes, length: int) -> bytes:
    return Cipher(algorithms.AES(key), modes.CTR(nonce)).encryptor().update(bytes(length))


def protect_gcm(master: bytes, key_length: int, packet: bytes) -> bytes:
    """AEAD_AES_128_GCM or AEAD_AES_256_GCM (RFC 7714 §8, §9) on a packet with a header of 12 bytes."""
    key, salt = master[:key_length], master[key_length:]
    session_key, session_salt = derive(key, salt, 0, key_length), derive(key, salt, 2, 12)
    header = packet[:12]
    nonce = int.from_bytes(bytes(2) + header[8:12] + bytes(4) + header[2:4]) ^ int.from_bytes(session_salt)
    return header + AESGCM(session_key).encrypt(nonce.to_bytes(12), packet[12:], header)


def protect_cm(master: bytes, packet: bytes) -> bytes:
    """AES128_CM_SHA1_80 (RFC 3711 §4.1.1, §4.2.1) on a packet with a header of 12 bytes."""
    key, salt = master[:16], master[16:]
    session_key, session_salt = derive(key, salt, 0, 16), derive(key, salt, 2, 14)
    header = packet[:12]
    mask = int.from_bytes(session_salt) << 16
    nonce = mask ^ int.from_bytes(header[8:12]) << 64 ^ int.from_bytes(header[2:4]) << 16
    stream = _keystream(session_key, nonce.to_bytes(16), len(packet) - 12)
    body = header + bytes(a ^ b for a, b in zip(packet[12:], stream, strict=True))
    tag = hmac.digest(derive(key, salt, 1, 20), body + bytes(4), hashlib.sha1)
    return body + tag[:10]
