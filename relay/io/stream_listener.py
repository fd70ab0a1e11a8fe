"""Accepts TCP connections, bounded from the first byte: a TLS handshake counts as a connection, too."""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

from relay.io.listening import BACKLOG, OUT_OF_RESOURCES
from relay.io.poller import READABLE
from relay.io.stream import StreamConnection, Streams

# What the kernel holds for one client. Not yet sent: 16 KiB are 65 ms of a video of 2 Mbit/s; beyond it a send fails,
# and our own queue decides what is still worth sending. Sent and not acknowledged: 256 KiB carry 20 Mbit/s over a
# round trip of 100 ms; without a bound the kernel would let it grow to megabytes in the queue of a slow router.
UNSENT_BYTES: Final = 16 << 10
SEND_BUFFER_BYTES: Final = 256 << 10

_TCP_NOTSENT_LOWAT: Final = 25  # Linux; missing in the socket module
_BATCH: Final = 64  # connections accepted before the loop looks at the others
_PAUSE_SECONDS: Final = 1.0  # after running out of descriptors: a ready listener would keep the loop busy


class StreamListener:
    """One listening socket, for TCP and TLS alike."""

    def __init__(self, streams: Streams, sock: socket.socket, has_room: Callable[[], bool]) -> None:
        """Listen on a bound socket.

        Args:
            streams: what the connections share.
            sock: bound and non-blocking; ours from now on.
            has_room: whether one more connection may be accepted.
        """
        self._streams = streams
        self._sock = sock
        self._has_room = has_room
        self._connections: set[StreamConnection] = set()
        self._pause: asyncio.TimerHandle | None = None
        # Accepted sockets inherit these from the listening one.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, UNSENT_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        sock.listen(BACKLOG)
        streams.poller.watch(sock.fileno(), self._on_ready)

    def __len__(self) -> int:
        """Accepted connections that have not ended, those in their handshake and those of the pages included."""
        return len(self._connections)

    def close(self) -> None:
        """Stop listening, and break off every connection and handshake."""
        if self._sock.fileno() < 0:
            return
        if self._pause is not None:
            self._pause.cancel()
        self._streams.poller.forget(self._sock.fileno())
        self._sock.close()
        for connection in list(self._connections):
            connection.abort()

    def _on_ready(self, _events: int) -> None:
        for _ in range(_BATCH):
            try:
                accepted, client = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in OUT_OF_RESOURCES:
                    return  # of the connection that was to be accepted: Linux tells network errors here, see accept(2)
                self._streams.poller.change(self._sock.fileno(), 0)
                self._pause = self._streams.loop.call_later(_PAUSE_SECONDS, self._resume)
                return
            if not self._has_room():
                accepted.close()
                continue
            accepted.setblocking(False)  # noqa: FBT003  # its only argument
            try:
                connection = StreamConnection(self._streams, accepted, client[:2], self._connections.discard)
            except OSError:  # reset before we looked, or no more sockets can be watched
                accepted.close()
                continue
            self._connections.add(connection)

    def _resume(self) -> None:
        self._pause = None
        self._streams.poller.change(self._sock.fileno(), READABLE)
