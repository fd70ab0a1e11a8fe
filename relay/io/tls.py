"""TLS without a socket: ciphertext in, ciphertext out (RFC 8446), for connections that read and write by themselves.

An `ssl.SSLSocket` asks the kernel twice for every record it reads, and once more to learn that there is none left; it
also keeps back what it could not write, so that the owner never knows what has gone out. Here one system call fetches
all records that are there, and what a record looks like on the wire is in the owner's hands from the start.
"""

import contextlib
import ssl
from collections.abc import Callable
from typing import Final, cast

MAX_RECORD: Final = 16_384  # bytes of plaintext in one record (RFC 8446 §5.1)
# Given to the session at once: its input buffer grows to what it is fed, and stays that large.
FEED_BYTES: Final = 16_384
MAX_PLAINTEXT: Final = 3 * MAX_RECORD  # bytes: of what was fed, of a record that waited for its end, and of one more


class TlsSession:
    """The server's side of one TLS connection."""

    __slots__ = ("_incoming", "_outgoing", "_read", "_write", "ssl_object")

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.ssl_object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        # With a buffer it answers with a number, which its type does not tell.
        self._read = cast("Callable[[int, memoryview], int]", self.ssl_object.read)
        self._write = self.ssl_object.write

    def shake_hands(self, ciphertext: memoryview | bytes) -> bool:
        """Take bytes from the wire, and go on as far as they allow; True as soon as the handshake is complete.

        Args:
            ciphertext: `FEED_BYTES` at most; what is behind the handshake waits for `decrypt_into`.

        Raises:
            OSError: it failed; `take_output` may hold an alert for the client. `ssl.SSLError` is an OSError.
        """
        self._incoming.write(ciphertext)
        try:
            self.ssl_object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def decrypt_into(self, view: memoryview, start: int, ciphertext: memoryview | bytes) -> tuple[int, bool]:
        """Take bytes from the wire, and decrypt all whole records into `view[start:]`.

        Args:
            view: has room for `MAX_PLAINTEXT` bytes behind `start`.
            start: where the first plaintext goes.
            ciphertext: `FEED_BYTES` at most.

        Returns:
            where the plaintext ends, and whether the client has said that no more will come.

        Raises:
            OSError: what came is no TLS, or has been tampered with.
        """
        if ciphertext:
            self._incoming.write(ciphertext)
        incoming, read = self._incoming, self._read
        at = start
        try:
            while incoming.pending:
                size = read(MAX_RECORD, view[at : at + MAX_RECORD])
                if not size:
                    return at, True
                at += size
        except ssl.SSLWantReadError:
            pass  # a part of a record: it waits inside
        except ssl.SSLZeroReturnError:
            return at, True
        return at, False

    def encrypt(self, plaintext: bytes | memoryview) -> bytes:
        """Make one record, or several of a plaintext longer than `MAX_RECORD`; they have to be sent, in this order."""
        self._write(plaintext)
        return self._outgoing.read()

    def has_output(self) -> bool:
        """Whether the session itself wants to say something."""
        return self._outgoing.pending > 0

    def take_output(self) -> bytes:
        """What the session itself wants to say: messages of the handshake, tickets, alerts; often nothing."""
        return self._outgoing.read()

    def close_notify(self) -> bytes:
        """The end of our side (RFC 8446 §6.1); the client's own need not be waited for."""
        with contextlib.suppress(OSError):  # the client's has not come yet, or it never will
            self.ssl_object.unwrap()
        return self.take_output()
