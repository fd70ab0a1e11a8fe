"""Unpredictable bytes for what is drawn often."""

import os
from typing import Final

_POOL_BYTES: Final = 4096


class Entropy:
    """`os.urandom` in larger pieces: a system call for each relayed port is a hundredth of what an allocation costs."""

    def __init__(self) -> None:
        self._pool = b""
        self._at = 0

    def __call__(self, size: int) -> bytes:
        """Bytes that were never given before, at most 4096 at once."""
        end = self._at + size
        if end > len(self._pool):
            self._pool = os.urandom(_POOL_BYTES)
            self._at, end = 0, size
        piece = self._pool[self._at : end]
        self._at = end
        return piece
