"""The queue between the lobby, which never waits, and one socket, which may be slow."""

import asyncio
import struct
from collections import deque

from aiohttp import WSMsgType, web

MAX_QUEUED_MESSAGES = 256
MAX_QUEUED_BYTES = 1_048_576
DROPPABLE_SHARE = 2  # what may be dropped has one part in so many of the queue
SEND_TIMEOUT_SECONDS = 10.0  # for one message, or the close frame

_CLOSE_CODE = struct.Struct("!H")  # RFC 6455 §5.5.1


class QueueOverflow(Exception):
    """The socket does not read as fast as its room talks to it."""


class OutboundQueue:
    """Texts for one socket, in order, and the code to close it with after the last one."""

    def __init__(self) -> None:
        self._texts: deque[str] = deque()
        self._bytes = 0
        self._close_code: int | None = None
        self._changed = asyncio.Event()

    def put(self, text: str, *, droppable: bool = False) -> None:
        """Queue a message. The texts are ASCII, so characters are bytes.

        Args:
            text: the message.
            droppable: leave room for what is not: half of the queue.

        Raises:
            QueueOverflow: there is no room for it.
        """
        share = DROPPABLE_SHARE if droppable else 1
        if len(self._texts) >= MAX_QUEUED_MESSAGES // share or self._bytes + len(text) > MAX_QUEUED_BYTES // share:
            raise QueueOverflow
        self._texts.append(text)
        self._bytes += len(text)
        self._changed.set()

    def close(self, code: int) -> None:
        """Close the socket after what is queued. A second call changes nothing."""
        if self._close_code is None:
            self._close_code = code
        self._changed.set()

    async def write_to(self, socket: web.WebSocketResponse) -> None:
        """Send what is queued until `close`, and then the close frame. Its owner calls that whenever the socket ends.

        Raises:
            TimeoutError: the peer does not read.
            ConnectionError: the peer is gone.
        """
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._texts:
                text = self._texts.popleft()
                self._bytes -= len(text)
                async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                    await socket.send_str(text)
            if self._close_code is not None:
                async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                    # `close` would also read what the peer still sends, all of it at once.
                    await socket.send_frame(_CLOSE_CODE.pack(self._close_code), WSMsgType.CLOSE)
                return
