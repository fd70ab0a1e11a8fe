"""What makes one outgoing stream of several incoming ones: numbers and timestamps go on as if nothing had happened.

A down track is fed from one layer after another, is paused, and leaves out higher temporal layers. Its receiver knows
nothing of that: a hole in its sequence numbers means loss, and is asked for; a jump of its pictures means waiting.
"""

from collections import deque
from typing import Final, NamedTuple

from sfu.sequence import extend

MAX_BREAKS: Final = 512  # places where numbers were left out, of one source: about ten seconds of a dropped layer
JOIN_TOLERANCE: Final = 2.0  # seconds by which sender reports may differ from what the arrival says

_TIMESTAMP: Final = 0xFFFFFFFF


class SenderClock(NamedTuple):
    """Which instant of a sender's wall clock one of its timestamps is, from its sender report."""

    ntp_timestamp: int  # 64 bits: seconds in 1/2^32 seconds
    rtp_timestamp: int


class ContinuousNumbers:
    """Numbers of one source after another as one sequence: what was lost stays a hole, what was left out is none."""

    def __init__(self, first: int, bits: int = 16) -> None:
        """Begin a sequence.

        Args:
            first: the number that is given out first.
            bits: the width of the numbers that come in.
        """
        self.highest = first - 1  # extended, of what was given out
        self._bits = bits
        self._highest_in = 0
        # Of each stretch without omissions: its first number, what is subtracted, how many were left out before it.
        self._stretches: deque[tuple[int, int, int]] = deque(maxlen=MAX_BREAKS)

    @property
    def has_joined(self) -> bool:
        """Whether there is a source."""
        return bool(self._stretches)

    def join(self, first: int, bits: int = 16) -> None:
        """Go on with another source, of which this is the first number that counts; what is older is late for good."""
        self._bits = bits
        self._highest_in = first - 1
        self._stretches.clear()
        self._stretches.append((first, first - self.highest - 1, 0))

    def translate(self, number: int) -> int | None:
        """The extended number under which one of the source goes out; None for one from before, or left out."""
        highest_in, half = self._highest_in, 1 << self._bits - 1
        ahead = (
            number - highest_in & (half << 1) - 1
        )  # `extend`, without a call: this is done for each packet that leaves
        if ahead >= half:
            return self._give_late(highest_in + ahead - (half << 1))
        start, offset, _ = self._stretches[-1]
        extended = highest_in + ahead
        if not ahead:
            return extended - offset if extended >= start else self._give_late(extended)
        self._highest_in = extended
        self.highest = extended - offset
        return self.highest

    def drop(self, number: int) -> int | None:
        """Leave a number out. What came before it in time but not in number already has one: it is given back.

        Then the receiver misses this number, and must get something else under it.
        """
        extended = extend(number, self._highest_in, self._bits)
        if extended <= self._highest_in:
            return self._give_late(extended)
        self._highest_in = extended
        start, offset, dropped = self._stretches[-1]
        if start == extended:
            self._stretches[-1] = extended + 1, offset + 1, dropped + 1
        else:
            self._stretches.append((extended + 1, offset + 1, 1))
        return None

    def is_newest(self, number: int, bits: int = 16) -> bool:
        """Whether this number of so many bits is the newest of the source that came in, and was not left out."""
        if bits != self._bits or not self._stretches or self._stretches[-1][0] > self._highest_in:
            return False
        return number == self._highest_in & (1 << bits) - 1

    def _give_late(self, extended: int) -> int | None:
        number = self._find(extended)
        if number is not None and number > self.highest:  # all that came before it was left out
            self.highest = number
        return number

    def _find(self, extended: int) -> int | None:
        for start, offset, dropped in reversed(self._stretches):
            if extended >= start:
                return extended - offset
            if extended >= start - dropped:
                return None
        return None


class Picture(NamedTuple):
    """The numbers of the picture that a packet belongs to, as far as its payload descriptor has them."""

    picture_id: int
    picture_id_bits: int  # 7 or 15; 0 for none
    tl0_pic_idx: int


NO_PICTURE: Final = Picture(0, 0, 0)


class Rewritten(NamedTuple):
    """Under which numbers a packet goes out."""

    sequence_number: int  # extended
    timestamp: int  # 32 bits
    picture_id: int  # extended
    tl0_pic_idx: int  # 8 bits
    frame_number: int  # 16 bits, of the Dependency Descriptor


def _rewritten(fields: tuple[int, int, int, int, int]) -> Rewritten:
    # Half the price of the constructor, which matters here: it is called for each packet that leaves.
    return tuple.__new__(Rewritten, fields)


class Rewriter:
    """The numbers of one down track."""

    def __init__(self, clock_rate: int, sequence_number: int, timestamp: int, picture_id: int = 0) -> None:
        """Begin an outgoing stream.

        Args:
            clock_rate: of its timestamps, Hz.
            sequence_number: of the first packet, 16 bits; random, so that outsiders cannot guess it (RFC 3550 §5.1).
            timestamp: of the first packet, 32 bits, random as well.
            picture_id: of the first picture, 15 bits.
        """
        self._clock_rate = clock_rate
        self._numbers = ContinuousNumbers(sequence_number)
        self._pictures = ContinuousNumbers(picture_id, 15)
        self._timestamp = timestamp  # of the newest packet that went out
        self._timestamp_offset = 0
        self._sent_at: float | None = None  # when that was
        self._clock: SenderClock | None = None
        self._tl0_pic_idx = 0xFF
        self._tl0_offset = 0
        self._frame_number = 0xFFFF
        self._frame_offset = 0

    @property
    def highest_sequence_number(self) -> int:
        """Extended, of all that went out; one less than the first one before that."""
        return self._numbers.highest

    @property
    def timestamp(self) -> int:
        """Of the newest packet that went out, 32 bits."""
        return self._timestamp

    def join(
        self,
        sequence_number: int,
        timestamp: int,
        now: float,
        *,
        picture: Picture = NO_PICTURE,
        frame_number: int = 0,
        clock: SenderClock | None = None,
    ) -> None:
        """Go on with a source whose first packet this is: of a key frame, if it is video.

        The timestamp goes on by as much as has passed on the sender's wall clock if both sources have told theirs in a
        sender report, else by what has passed here; in any case it goes on.

        Args:
            sequence_number: of that packet.
            timestamp: of that packet.
            now: monotonic time, in seconds.
            picture: its picture.
            frame_number: of its Dependency Descriptor.
            clock: what the source said of its clock.
        """
        self._timestamp_offset = self._next_timestamp(timestamp, now, clock) - timestamp & _TIMESTAMP
        self._clock = clock
        self._numbers.join(sequence_number)
        if picture.picture_id_bits:
            self._pictures.join(picture.picture_id, picture.picture_id_bits)
        self._tl0_offset = self._tl0_pic_idx + 1 - picture.tl0_pic_idx
        self._frame_offset = self._frame_number + 1 - frame_number

    def _next_timestamp(self, timestamp: int, now: float, clock: SenderClock | None) -> int:
        if self._sent_at is None:
            return self._timestamp
        by_arrival = max(1, round((now - self._sent_at) * self._clock_rate))
        if clock is not None and self._clock is not None:
            instant = _instant(clock, timestamp, self._clock_rate)
            last = _instant(self._clock, self._timestamp - self._timestamp_offset, self._clock_rate)
            by_report = round(extend(instant - last & (1 << 64) - 1, 0, 64) * self._clock_rate / (1 << 32))
            if by_report > 0 and abs(by_report - by_arrival) <= JOIN_TOLERANCE * self._clock_rate:
                return self._timestamp + by_report
        return self._timestamp + by_arrival

    def translate(
        self, sequence_number: int, timestamp: int, now: float, picture: Picture = NO_PICTURE, frame_number: int = 0
    ) -> Rewritten | None:
        """The numbers under which a packet goes out; None for one from before the source was joined, or left out.

        Args:
            sequence_number: of the packet, 16 bits.
            timestamp: of the packet, 32 bits.
            now: monotonic time, in seconds.
            picture: its picture.
            frame_number: of its Dependency Descriptor.
        """
        before = self._numbers.highest
        number = self._numbers.translate(sequence_number)
        if number is None:
            return None
        picture_id = 0
        picture_number, bits, tl0_pic_idx = picture
        if bits and self._pictures.has_joined:
            translated = self._pictures.translate(picture_number)
            if translated is None:
                return None
            picture_id = translated
        timestamp = timestamp + self._timestamp_offset & _TIMESTAMP
        tl0_pic_idx = tl0_pic_idx + self._tl0_offset & 0xFF
        frame_number = frame_number + self._frame_offset & 0xFFFF
        if number > before:
            self._timestamp = timestamp
            self._sent_at = now
            self._tl0_pic_idx = tl0_pic_idx
            self._frame_number = frame_number
        return _rewritten((number, timestamp, picture_id, tl0_pic_idx, frame_number))

    def is_steady(self, sequence_number: int, picture: Picture = NO_PICTURE) -> bool:
        """Whether all that follows in order is moved by as much as this packet was, until a join or an omission.

        Args:
            sequence_number: of the packet that was translated last.
            picture: its picture.
        """
        if not self._numbers.is_newest(sequence_number):
            return False
        bits = picture.picture_id_bits
        return not bits or self._pictures.is_newest(picture.picture_id, bits)

    def drop(self, sequence_number: int, picture: Picture = NO_PICTURE) -> int | None:
        """Leave a packet of a higher temporal layer out.

        Returns:
            an extended sequence number that the receiver misses because of that, and that must be filled; or None.
        """
        if picture.picture_id_bits and self._pictures.has_joined:
            self._pictures.drop(picture.picture_id)
        return self._numbers.drop(sequence_number)

    def learn_clock(self, clock: SenderClock) -> None:
        """Note what the source says of its clock in a sender report."""
        self._clock = clock

    def timestamp_at(self, clock: SenderClock, elapsed: float) -> int:
        """Which outgoing timestamp a sender report of the source means, some seconds after it."""
        return clock.rtp_timestamp + self._timestamp_offset + round(elapsed * self._clock_rate) & _TIMESTAMP


def _instant(clock: SenderClock, timestamp: int, clock_rate: int) -> int:
    """The instant of a timestamp by the sender's wall clock: 64 bits of 1/2^32 seconds."""
    ticks = extend(timestamp - clock.rtp_timestamp & _TIMESTAMP, 0, 32)
    return clock.ntp_timestamp + (ticks << 32) // clock_rate
