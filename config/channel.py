"""The wire between the supervisor and a worker: JSON objects with their length in front, over a Unix socket pair.

A channel and not arguments or the environment, because settings hold secrets, and those can be read by others. Its
end says that the other process has ended.
"""

import asyncio
import json
import socket
from typing import Any, ClassVar, Final, Self

MAX_MESSAGE_BYTES: Final = 4 << 20  # settings with many realms; the metrics of a worker have some 50 KiB
MAX_BACKLOG_BYTES: Final = 16 << 20  # not read yet; a full SFU worker takes 3 MiB to tell another one when it has died
_LENGTH_BYTES: Final = 4

Message = dict[str, Any]


class ChannelError(Exception):
    """What came is no message, or what should go is too much."""

    is_for_operator: ClassVar = True  # what it says is about the machine and its settings


class Channel:
    """One end of the wire."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, sock: socket.socket) -> Self:
        """Take over a connected socket."""
        return cls(*await asyncio.open_unix_connection(sock=sock))

    async def receive(self) -> Message | None:
        """The next message, or None when the other side has gone.

        Raises:
            ChannelError: it is too long or not an object.
        """
        try:
            size = int.from_bytes(await self._reader.readexactly(_LENGTH_BYTES))
            if size > MAX_MESSAGE_BYTES:
                raise ChannelError(f"a message of {size} bytes")
            data = await self._reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        try:
            message = json.loads(data)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise ChannelError("a message that is not an object")
        return message

    def send(self, message: Message) -> None:
        """Send a message; if the other side has gone, `receive` says so.

        Raises:
            ChannelError: it is too long, or the other side has not read for long.
        """
        data = json.dumps(message, separators=(",", ":")).encode()
        backlog = self._writer.transport.get_write_buffer_size()
        if len(data) > MAX_MESSAGE_BYTES or len(data) + backlog > MAX_BACKLOG_BYTES:
            raise ChannelError(f"{len(data)} bytes are too much for the channel, where {backlog} wait")
        if not self._writer.is_closing():
            self._writer.write(len(data).to_bytes(_LENGTH_BYTES) + data)

    async def flush(self) -> None:
        """Wait until what was sent has left, or the other side has gone."""
        try:
            await self._writer.drain()
        except ConnectionError:
            return

    def close(self) -> None:
        """Hang up."""
        self._writer.close()
