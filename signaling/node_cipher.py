"""Seals what signaling nodes hand to the bus: whoever runs it learns who talks when, and can forge nothing."""

import hashlib
import hmac
import struct
from collections import OrderedDict
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from signaling.node_messages import NODE_ID_BYTES, NodeId

MIN_KEY_BYTES = 32
MAX_SENDERS = 256  # whose keys and numbers are remembered; far more nodes than one Redis serves

_NUMBER = struct.Struct("!Q")
_NONCE_PADDING = bytes(4)
_TAG_BYTES = 16
SEAL_BYTES = NODE_ID_BYTES + _NUMBER.size + _TAG_BYTES  # by which a sealed text is longer


class CipherError(Exception):
    """The bytes were not sealed by a node with our key for this purpose."""


class Opened(NamedTuple):
    """What was sealed, by whom, and the how manieth text of this sender it is."""

    sender: NodeId
    number: int
    data: bytes


class NodeCipher:
    """AES-256-GCM under a key for each sender, with its count of texts as nonce: no nonce comes twice."""

    def __init__(self, key: bytes) -> None:
        """Prepare for sealing and opening.

        Args:
            key: a secret that all nodes share, at least 32 bytes.

        Raises:
            ValueError: the key is too short.
        """
        if len(key) < MIN_KEY_BYTES:
            raise ValueError(f"the key has {len(key)} bytes, at least {MIN_KEY_BYTES} are needed")
        self._key = hmac.digest(key, b"redconnect nodes/1", hashlib.sha256)
        self._ciphers: OrderedDict[NodeId, AESGCM] = OrderedDict()
        self._sender: NodeId | None = None
        self._number = 0

    def name(self, purpose: bytes, data: bytes) -> bytes:
        """Name something without telling it: 16 bytes that are the same on every node."""
        return hmac.digest(self._key, purpose + b"\0" + data, hashlib.sha256)[:16]

    def begin(self, sender: NodeId) -> None:
        """Seal as this sender from now on. An id must never have been used before, not even in another process."""
        self._sender = sender
        self._number = 0

    def seal(self, data: bytes, context: bytes) -> bytes:
        """Seal a text for one purpose, which `open` must name, too.

        Raises:
            RuntimeError: `begin` has not been called.
        """
        if self._sender is None:
            raise RuntimeError("nobody is named as the sender")
        self._number += 1
        number = _NUMBER.pack(self._number)
        sealed = self._cipher(self._sender).encrypt(_NONCE_PADDING + number, data, context)
        return self._sender + number + sealed

    def open(self, sealed: bytes, context: bytes) -> Opened:
        """Open a text.

        Raises:
            CipherError: it is cut short, altered, meant for another purpose, or sealed with another key.
        """
        if len(sealed) < SEAL_BYTES:
            raise CipherError(f"{len(sealed)} bytes")
        sender = sealed[:NODE_ID_BYTES]
        start = NODE_ID_BYTES + _NUMBER.size
        number = sealed[NODE_ID_BYTES:start]
        try:
            data = self._cipher(sender).decrypt(_NONCE_PADDING + number, sealed[start:], context)
        except InvalidTag:
            raise CipherError("it does not open: is secrets.locator_key the same on every node?") from None
        return Opened(sender, int.from_bytes(number), data)

    def _cipher(self, sender: NodeId) -> AESGCM:
        cipher = self._ciphers.get(sender)
        if cipher is None:
            cipher = AESGCM(hmac.digest(self._key, b"sender\0" + sender, hashlib.sha256))
            self._ciphers[sender] = cipher
            if len(self._ciphers) > MAX_SENDERS:
                self._ciphers.popitem(last=False)
        return cipher
