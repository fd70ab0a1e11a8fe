"""Accepts TCP connections, bounded from the first byte: a TLS handshake counts as a connection, too."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Final

from relay.io.stream import StreamConnection

HANDSHAKE_SECONDS: Final = 10.0
BACKLOG: Final = 512  # connections that wait to be accepted
_BATCH: Final = 64  # connections accepted before the loop looks at the others
_PAUSE_SECONDS: Final = 1.0  # after running out of descriptors: a ready listener would keep the loop busy
_OUT_OF_RESOURCES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class StreamListener:
    """One listening socket for TCP or TLS."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        tls: ssl.SSLContext | None,
        make_connection: Callable[[], StreamConnection],
        has_room: Callable[[], bool],
    ) -> None:
        """Listen on a bound socket.

        Args:
            loop: where the socket is watched.
            sock: bound and non-blocking.
            tls: server side of TLS; None for plain TCP.
            make_connection: the protocol of a new connection.
            has_room: whether one more connection may be accepted.
        """
        self._loop = loop
        self._sock = sock
        self._tls = tls
        self._make_connection = make_connection
        self._has_room = has_room
        self._tasks: set[asyncio.Task[None]] = set()  # one for each accepted connection, for as long as it lives
        self._pause: asyncio.TimerHandle | None = None
        sock.listen(BACKLOG)
        self._watch()

    def __len__(self) -> int:
        """Accepted connections that have not ended, those in their handshake included."""
        return len(self._tasks)

    async def close(self) -> None:
        """Stop listening, and break off every connection and handshake."""
        if self._pause is not None:
            self._pause.cancel()
        else:
            self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _watch(self) -> None:
        self._pause = None
        self._loop.add_reader(self._sock.fileno(), self._on_readable)

    def _on_readable(self) -> None:
        for _ in range(_BATCH):
            try:
                accepted, _address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _OUT_OF_RESOURCES:
                    raise
                self._loop.remove_reader(self._sock.fileno())
                self._pause = self._loop.call_later(_PAUSE_SECONDS, self._watch)
                return
            if not self._has_room():
                accepted.close()
                continue
            accepted.setblocking(False)  # noqa: FBT003  # its only argument
            task = self._loop.create_task(self._serve(accepted))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, accepted: socket.socket) -> None:
        connection = self._make_connection()
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if self._tls is not None else None,
            )
            await connection.ended
        except OSError:
            # A handshake that fails is the client's affair: a scanner, a time-out, an old protocol version.
            accepted.close()
        except asyncio.CancelledError:
            connection.abort()
            accepted.close()
            raise
