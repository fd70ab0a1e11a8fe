"""Generic NACK, both sides (RFC 4585 §6.2.1): what to ask a publisher for, and what to give a subscriber that asks."""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from sfu.rewriter import Rewritten
from sfu.sequence import extend

REORDERING_PACKETS: Final = 3  # that many newer ones arrived: it is lost, not late
REORDERING_SECONDS: Final = 0.010
MIN_RETRY: Final = 0.020  # seconds between two requests, if the round trip is shorter
MAX_REQUESTS: Final = 10  # for one packet
MAX_WAIT: Final = 1.0  # seconds; a picture that is later than that is not waited for
MAX_MISSING: Final = 256  # packets; more at once is an outage, and a key frame is cheaper
MAX_ASKED: Final = 128  # packets in one request
MAX_ANSWERED: Final = 128  # packets for one request
MAX_CREDIT: Final = 256  # packets that are repeated beyond those that went out meanwhile: an outage of two seconds
HISTORY_SIZE: Final = 1024  # packets that went out: what a cache holds
DEFAULT_ROUND_TRIP: Final = 0.1  # seconds, before it was measured


_NEVER: Final = float("-inf")


class _Missing:
    """A packet that did not come."""

    __slots__ = ("asked_at", "missed_at", "requests")

    def __init__(self, missed_at: float) -> None:
        self.missed_at = missed_at
        self.asked_at = 0.0
        self.requests = 0


class NackGenerator:
    """Finds out which packets of one stream are missing, and when to ask for them."""

    def __init__(self) -> None:
        self._highest: int | None = None
        self._missing: dict[int, _Missing] = {}  # by extended number, in ascending order
        self._is_hopeless = False
        self.round_trip = DEFAULT_ROUND_TRIP  # seconds: how long repairs took

    @property
    def missing(self) -> int:
        """How many packets are being waited for."""
        return len(self._missing)

    def receive(self, number: int, now: float) -> None:
        """Note a packet that arrived, by its extended sequence number: in order, late, or by retransmission."""
        highest = self._highest
        if highest is None:
            self._highest = number
            return
        if number <= highest:
            missing = self._missing.pop(number, None)
            if missing is not None and missing.requests == 1:  # of more than one, nobody knows which was answered
                self.round_trip += (now - missing.asked_at - self.round_trip) / 8
            return
        self._highest = number
        lost = number - highest - 1
        if lost > MAX_MISSING:
            self._missing.clear()
            self._is_hopeless = True
            return
        for absent in range(highest + 1, number):
            self._missing[absent] = _Missing(now)
        while len(self._missing) > MAX_MISSING:
            del self._missing[next(iter(self._missing))]
            self._is_hopeless = True

    def ask(self, now: float) -> list[int]:
        """Extended sequence numbers to ask for now, in ascending order, at most MAX_ASKED.

        A packet is asked for when it cannot be merely late any more, then once per round trip, up to MAX_REQUESTS times
        within MAX_WAIT; then it is given up.
        """
        asked: list[int] = []
        hopeless: list[int] = []
        retry = max(self.round_trip, MIN_RETRY)
        for number, missing in self._missing.items():
            if now - missing.missed_at > MAX_WAIT or (
                missing.requests == MAX_REQUESTS and now - missing.asked_at >= retry
            ):
                hopeless.append(number)
            elif missing.requests == MAX_REQUESTS or len(asked) == MAX_ASKED:
                continue
            elif self._is_due(number, missing, now, retry):
                missing.requests += 1
                missing.asked_at = now
                asked.append(number)
        for number in hopeless:
            del self._missing[number]
        self._is_hopeless |= bool(hopeless)
        return asked

    def _is_due(self, number: int, missing: _Missing, now: float, retry: float) -> bool:
        if missing.requests:
            return now - missing.asked_at >= retry
        assert self._highest is not None  # noqa: S101  # nothing is missing before something came
        return self._highest - number >= REORDERING_PACKETS or now - missing.missed_at >= REORDERING_SECONDS

    def take_hopeless(self) -> bool:
        """Whether packets were given up since the last call: then only a key frame helps."""
        was_hopeless, self._is_hopeless = self._is_hopeless, False
        return was_hopeless


class Origin:
    """What packets come from, and whose cache holds them; compared by identity."""

    __slots__ = ()


class Sent(NamedTuple):
    """What went out under a sequence number, and where it can be found again."""

    layer: Origin
    number: int  # extended, in that cache
    rewritten: Rewritten


class NackResponder:
    """Remembers what went out on a down track, and decides what to repeat."""

    def __init__(self, recall: Callable[[int], Sent | None] | None = None) -> None:
        """Make one that remembers nothing.

        Args:
            recall: finds by its extended number what went out and was not noted here.
        """
        self._recall = recall
        self._sent: list[Sent | None] = [None] * HISTORY_SIZE
        self._answered = [-1] * HISTORY_SIZE  # which packet was repeated last,
        self._answered_at = [_NEVER] * HISTORY_SIZE  # and when
        self._highest: int | None = None
        self._awaited: set[int] = set()
        self._credit = MAX_CREDIT  # packets that may be repeated
        self._credited_to = 0  # the number up to which what went out has been added to that
        self.unanswerable = 0  # requests for what never went out, or so long ago that nobody knows, or without credit

    def note(self, sent: Sent) -> bool:
        """Remember a packet that goes out.

        Returns:
            whether the subscriber has asked for it already: it was missing upstream, and was repaired there.
        """
        number = sent.rewritten.sequence_number
        self._sent[number & HISTORY_SIZE - 1] = sent
        if self._highest is None or number > self._highest:
            self._highest = number
        if number in self._awaited:
            self._awaited.remove(number)
            return True
        return False

    def went_on(self, number: int) -> None:
        """Learn that up to this extended number packets went out in order that only `recall` knows of."""
        if self._highest is None or number > self._highest:
            self._highest = number

    def _find(self, number: int) -> Sent | None:
        sent = self._sent[number & HISTORY_SIZE - 1]
        if sent is not None and sent.rewritten.sequence_number == number:
            return sent
        return None if self._recall is None else self._recall(number)

    def newest(self, count: int) -> list[Sent]:
        """What went out last, the newest first; at most so many packets, below HISTORY_SIZE."""
        highest = self._highest
        if highest is None:
            return []
        return [sent for number in range(highest, highest - count, -1) if (sent := self._find(number)) is not None]

    def answer(self, sequence_numbers: Iterable[int], now: float, round_trip: float = DEFAULT_ROUND_TRIP) -> list[Sent]:
        """What to send again for a NACK: each packet once per round trip (seconds), at most MAX_ANSWERED.

        In the long run no more is repeated than goes out: that repairs the loss of every other packet, and whoever asks
        for everything again and again gets no multiple of what he is entitled to. What has not gone out because the
        publisher's path lost it is remembered: it goes out when it is repaired.
        """
        found: list[Sent] = []
        if self._highest is None:
            return found
        self._credit = min(self._credit + self._highest - self._credited_to, MAX_CREDIT)
        self._credited_to = self._highest
        pause = max(round_trip, MIN_RETRY)  # a round trip is what the subscriber says; nobody is that near
        for sequence_number in sequence_numbers:
            number = extend(sequence_number, self._highest)
            slot = number & HISTORY_SIZE - 1
            sent = self._find(number)
            if sent is not None:
                is_due = self._answered[slot] != number or now - self._answered_at[slot] >= pause
                if is_due and len(found) < MAX_ANSWERED:
                    self._answered[slot] = number
                    self._answered_at[slot] = now
                    found.append(sent)
            elif self._highest - HISTORY_SIZE < number < self._highest:
                self._await(number)
            else:
                self.unanswerable += 1
        self.unanswerable += max(len(found) - self._credit, 0)
        del found[self._credit :]
        self._credit -= len(found)
        return found

    def _await(self, number: int) -> None:
        if len(self._awaited) >= MAX_MISSING:  # what lies furthest back comes last, if at all
            self._awaited.remove(min(self._awaited))
        self._awaited.add(number)
