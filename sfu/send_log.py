"""What left on one transport and when, until the other end has told what became of it."""

from typing import Final

from sfu.sequence import extend
from sfu.transport_feedback import TICKS_PER_REFERENCE, TICKS_PER_SECOND, TransportFeedback


class SentPacket:
    """A packet that left, and what became of it as far as that is known."""

    __slots__ = ("cluster", "number", "received_at", "sent_at", "size", "was_lost")

    def __init__(self, number: int, sent_at: float, size: int, cluster: int = 0) -> None:
        self.number = number  # transport-wide, extended
        self.sent_at = sent_at  # seconds, of our clock
        self.size = size  # bytes
        self.cluster = cluster  # of the probe that it belongs to; 0 for none
        self.received_at: float | None = (
            None  # seconds, of the receiver's clock; None: not received, as far as is known
        )
        self.was_lost = False  # it was told as lost; it may have arrived after all


class SendLog:
    """Numbers what leaves, and matches feedback with it.

    A packet is told once as received, and at most once before as lost. A verdict of loss is only taken from the first
    feedback that gets so far. What feedback skips, because other feedback was lost, is given up: it has no verdict, and
    only its bytes are told. Feedback about numbers that never left, or that lie too far back, is ignored. All of it
    costs no more than its bytes and the packets sent.
    """

    MAX_PACKETS: Final = 4096  # that are remembered; far less than half of the numbers: none is ambiguous

    __slots__ = ("_judged", "_next", "_reference", "_slots", "skipped_bytes")

    def __init__(self, first: int = 0) -> None:
        """`first` is the first transport-wide sequence number, 16 bit."""
        self._slots: list[SentPacket | None] = [None] * self.MAX_PACKETS
        self._next = first
        self._judged = first - 1  # the newest number that feedback spoke of
        self._reference = 0  # of the newest feedback, extended
        self.skipped_bytes = 0  # of the packets that the newest feedback skipped

    @property
    def awaits_feedback(self) -> bool:
        """Whether anything left that feedback has not come to yet."""
        return self._judged < self._next - 1

    def send(self, size: int, now: float, cluster: int = 0) -> int:
        """Note that a packet leaves, and number it: transport-wide, 16 bit.

        Args:
            size: bytes on the wire, without IP and UDP.
            now: monotonic time, in seconds.
            cluster: the probe that it belongs to; 0 for none.
        """
        number = self._next
        self._next = number + 1
        self._slots[number % self.MAX_PACKETS] = SentPacket(number, now, size, cluster)
        return number & 0xFFFF

    def acknowledge(self, feedback: TransportFeedback) -> list[SentPacket]:
        """What became of the packets that feedback speaks of, by ascending number, each as far as it is news."""
        base = extend(feedback.base_sequence, self._next)
        end = min(base + feedback.status_count, self._next)
        self.skipped_bytes = 0
        if base >= end:
            return []
        self._reference = extend(feedback.reference_time, self._reference, 24)
        reference = self._reference * TICKS_PER_REFERENCE
        self.skipped_bytes = self._skip(base)
        fresh = max(self._judged + 1, self._next - self.MAX_PACKETS, base)  # what is lost from here on is news
        results: list[SentPacket] = []
        for offset, ticks in feedback.arrivals:
            number = base + offset
            if number >= end:
                break
            if number >= fresh:
                self._lose(fresh, number, results)
                fresh = number + 1
            slot = number % self.MAX_PACKETS
            sent = self._slots[slot]
            if sent is not None and sent.number == number:
                self._slots[slot] = None
                sent.received_at = (reference + ticks) / TICKS_PER_SECOND
                results.append(sent)
        self._lose(fresh, end, results)
        self._judged = max(self._judged, end - 1)
        return results

    def _skip(self, end: int) -> int:
        """Give up what lies between the last feedback and this one; gives its bytes."""
        size = 0
        for number in range(max(self._judged + 1, self._next - self.MAX_PACKETS), end):
            sent = self._slots[number % self.MAX_PACKETS]
            if sent is not None and sent.number == number:
                self._slots[number % self.MAX_PACKETS] = None
                size += sent.size
        return size

    def _lose(self, begin: int, end: int, results: list[SentPacket]) -> None:
        for number in range(begin, end):
            sent = self._slots[number % self.MAX_PACKETS]
            if sent is not None and sent.number == number:
                sent.was_lost = True
                results.append(sent)
