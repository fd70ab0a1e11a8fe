"""What waits for a client whose connection is full: all STUN messages, and media for as long as it is of use."""

from collections import deque
from typing import Final

MAX_MEDIA_SECONDS: Final = 0.2  # older media is of no use to a call; bytes would say nothing about its age
MAX_MEDIA_BYTES: Final = 1 << 20  # beyond it the oldest media goes, however young: 200 ms at 40 Mbit/s
MAX_MESSAGE_BYTES: Final = 64 << 10  # of answers, some 600: a client that asks on without reading is not one


class OutQueue:
    """Whole messages in the order of their sending: STUN first, then media.

    Media is dropped from its old end; STUN messages never are.
    """

    __slots__ = ("_media", "_media_bytes", "_messages", "dropped", "message_bytes")

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque()
        self._media: deque[tuple[float, int, bytes]] = deque()  # queued at, number of messages, bytes
        self._media_bytes = 0
        self.message_bytes = 0
        self.dropped = 0  # media messages dropped since the owner last looked

    def __len__(self) -> int:
        """Bytes that wait."""
        return self.message_bytes + self._media_bytes

    def put_message(self, data: bytes) -> None:
        """Queue bytes that must arrive; the owner watches `message_bytes`."""
        self._messages.append(data)
        self.message_bytes += len(data)

    def put_media(self, data: bytes, count: int, now: float) -> None:
        """Queue `count` messages of media, and drop what has become too old or too much.

        Args:
            data: whole messages, padded.
            count: how many they are.
            now: monotonic time, in seconds.
        """
        self._media.append((now, count, data))
        self._media_bytes += len(data)
        self._drop(now)

    def take(self, now: float, limit: int) -> bytes:
        """Up to `limit` bytes of whole messages to be sent next, a longer one alone; nothing if nothing waits."""
        self._drop(now)
        messages, media = self._messages, self._media
        parts: list[bytes] = []
        size = 0
        while messages and (not parts or size + len(messages[0]) <= limit):
            parts.append(messages.popleft())
            size += len(parts[-1])
        self.message_bytes -= size
        media_begin = size
        while media and not messages and (not parts or size + len(media[0][2]) <= limit):
            parts.append(media.popleft()[2])
            size += len(parts[-1])
        self._media_bytes -= size - media_begin
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _drop(self, now: float) -> None:
        media = self._media
        oldest_at = now - MAX_MEDIA_SECONDS
        while media and (media[0][0] < oldest_at or self._media_bytes > MAX_MEDIA_BYTES):
            _, count, data = media.popleft()
            self._media_bytes -= len(data)
            self.dropped += count
