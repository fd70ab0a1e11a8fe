"""The last packets of a layer, for retransmissions to subscribers; and by the way: which packet comes twice."""

from typing import Final

from sfu.sequence import extend

CACHE_SIZE: Final = 1024  # packets: about 3 s of 3 Mbit/s
MAX_AGE: Final = 2.0  # seconds; whoever asks for an older packet could not show it any more


class PacketCache:
    """Packets by sequence number in slots that are there from the beginning. They stay as they came: encrypted."""

    def __init__(self, size: int = CACHE_SIZE, max_age: float = MAX_AGE) -> None:
        """Make an empty cache.

        Args:
            size: slots, a power of two.
            max_age: seconds after which a packet is not given out any more.
        """
        if size <= 0 or size & size - 1:
            raise ValueError("the number of slots is a power of two")
        self._mask = size - 1
        self._max_age = max_age
        self._packets: list[bytes] = [b""] * size
        self._numbers = [0] * size
        self._arrivals = [0.0] * size
        self.highest: int | None = None  # extended

    def put(self, sequence_number: int, packet: bytes, now: float) -> int | None:
        """Keep a packet.

        Returns:
            its extended sequence number; None if it is there already, or older than all slots.
        """
        highest = self.highest
        if highest is None:
            number = self.highest = sequence_number
        else:
            number = extend(sequence_number, highest)
            if number > highest:
                self.highest = number
            elif number <= highest - len(self._packets):
                return None
        slot = number & self._mask
        if self._numbers[slot] == number and self._packets[slot]:
            return None
        self._packets[slot] = packet
        self._numbers[slot] = number
        self._arrivals[slot] = now
        return number

    def get(self, number: int, now: float) -> bytes | None:
        """A packet by its extended sequence number; None if it is not there, or too old."""
        slot = number & self._mask
        packet = self._packets[slot]
        if packet and self._numbers[slot] == number and now - self._arrivals[slot] <= self._max_age:
            return packet
        return None

    def clear(self) -> None:
        """Forget all packets, at once and not when newer ones take their place."""
        self._packets = [b""] * len(self._packets)
