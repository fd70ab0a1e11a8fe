"""The media of one call, without I/O: when packets are due, how long each was on its way, and which never arrived."""

import struct
from collections import OrderedDict
from typing import Final

TICK_SECONDS: Final = 0.02  # a packet of sound every 20 ms, as browsers send Opus
AUDIO_BYTES: Final = 120
VIDEO_BYTES: Final = 1_000
PICTURE_PACKETS: Final = 4  # every second tick: 25 pictures a second, 800 kbit/s
MAX_LATE_TICKS: Final = 10  # what is later than 200 ms is not made up for: no sender of media does
PACKET_PATIENCE_SECONDS: Final = 10.0  # what takes longer is lost; what is merely late says so by its latency

_HEADER: Final = struct.Struct("!IId")  # flow, number, when it was sent


class StrayPacket(Exception):
    """A packet that this flow has not sent, or that has arrived before."""


class Schedule:
    """When the packets of one direction are due."""

    def __init__(self, now: float, *, video: bool) -> None:
        """Begin.

        Args:
            now: monotonic time, in seconds.
            video: pictures as well as sound.
        """
        self.next_at = now
        self.skipped = 0  # ticks that were given up: the generator could not keep up
        self._ticks = 0
        self._video = video

    def due(self, now: float) -> list[int]:
        """Sizes in bytes of the packets that are due by now, oldest first."""
        late = int((now - self.next_at) / TICK_SECONDS) - MAX_LATE_TICKS
        if late > 0:
            self.skipped += late
            self.next_at += late * TICK_SECONDS
        sizes: list[int] = []
        while self.next_at <= now:
            sizes.append(AUDIO_BYTES)
            if self._video and not self._ticks % 2:
                sizes += [VIDEO_BYTES] * PICTURE_PACKETS
            self._ticks += 1
            self.next_at += TICK_SECONDS
        return sizes


class Flow:
    """One direction of a call. Remembers no packet for longer than `PACKET_PATIENCE_SECONDS`."""

    def __init__(self, number: int) -> None:
        """Begin.

        Args:
            number: tells this flow from all others; 32 bits.
        """
        self.number = number
        self.sent = 0
        self.lost = 0
        self._under_way: OrderedDict[int, float] = OrderedDict()

    @property
    def under_way(self) -> int:
        """How many packets have neither arrived nor been given up."""
        return len(self._under_way)

    def packet(self, size: int, now: float) -> bytes:
        """The next packet, of `size` bytes; never shorter than its own header of 16 bytes."""
        self._under_way[self.sent] = now
        head = _HEADER.pack(self.number, self.sent, now)
        self.sent += 1
        return head + bytes(size - len(head))

    def receive(self, data: bytes, now: float) -> float:
        """Take a packet in; returns for how many seconds it was on its way.

        Raises:
            StrayPacket: it is none of those that are under way; what comes twice or too late is one as well.
        """
        if len(data) < _HEADER.size:
            raise StrayPacket(f"{len(data)} bytes")
        flow, number, sent_at = _HEADER.unpack_from(data)
        if flow != self.number or self._under_way.get(number) != sent_at:
            raise StrayPacket("not under way")
        del self._under_way[number]
        return now - float(sent_at)

    def give_up(self, now: float) -> None:
        """Count the packets as lost that have been under way for too long."""
        while self._under_way and next(iter(self._under_way.values())) <= now - PACKET_PATIENCE_SECONDS:
            self._under_way.popitem(last=False)
            self.lost += 1
