"""Transport-wide congestion control feedback: when which packet of a session arrived.

draft-holmer-rmcat-transport-wide-cc-extensions-01. What is read and written here is the feedback control information of
an RTCP packet (type 205, format 15): all that follows the two SSRCs. `ArrivalLog` is the receiving end of it.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from sfu.sequence import extend
from stun.errors import ParseFault

TICKS_PER_SECOND: Final = 4000  # a receive delta counts 250 us
TICKS_PER_REFERENCE: Final = 256  # the reference time counts 64 ms
HEADER_LENGTH: Final = 8  # bytes: base sequence number, status count, reference time, feedback count
MAX_STATUS_COUNT: Final = 0xFFFF
MAX_PADDING: Final = 3  # bytes of zero behind the deltas, up to a multiple of four

_NOT_RECEIVED: Final = 0
_SMALL_DELTA: Final = 1
_LARGE_DELTA: Final = 2
_MAX_SMALL: Final = 0xFF  # ticks: 63.75 ms
_MAX_LARGE: Final = 0x7FFF  # ticks, forwards; one more backwards
_MAX_RUN: Final = 0x1FFF
_ONE_BIT_SYMBOLS: Final = 14  # symbols of a status vector chunk of one bit each
_TWO_BIT_SYMBOLS: Final = 7

# Of a packet that arrived: its sequence number less the base sequence number, modulo 2^16; when, in ticks after the
# reference time, maybe negative. A plain tuple: there is one for each packet.
Arrival = tuple[int, int]
Status = tuple[int, int]  # offset from the base sequence number; a status symbol
Run = tuple[int, int]  # a status symbol, how often in a row


class TransportFeedbackError(ValueError):
    """Feedback that does not parse, or cannot be written. Nothing else leaves this module."""

    def __init__(self, fault: ParseFault, detail: str) -> None:
        super().__init__(f"{fault.value}: {detail}")
        self.fault = fault


class TransportFeedback(NamedTuple):
    """What one feedback packet tells. Which packets did not arrive is what lies between the arrivals."""

    base_sequence: int  # 16 bit
    status_count: int  # 1 to 65535: packets from the base sequence number that it speaks of
    reference_time: int  # of 64 ms on the receiver's clock, 24 bit, signed
    feedback_count: int  # 8 bit, of the receiver's feedback packets
    arrivals: tuple[Arrival, ...]  # by ascending offset


def decode_transport_feedback(fci: bytes) -> TransportFeedback:
    """Read the feedback control information.

    The cost is linear in the bytes, whatever the status count says: a packet that arrived has a delta, and runs of lost
    ones are not spelled out. A last run that goes beyond the status count is cut, as libwebrtc does.

    Raises:
        TransportFeedbackError: fewer or more bytes than the statuses need, an empty run, or the reserved status symbol.
    """
    if len(fci) < HEADER_LENGTH:
        raise TransportFeedbackError(ParseFault.TRUNCATED, f"{len(fci)} bytes of feedback")
    base = int.from_bytes(fci[:2])
    count = int.from_bytes(fci[2:4])
    if count == 0:
        raise TransportFeedbackError(ParseFault.BAD_VALUE, "no packet is spoken of")
    reference_time = int.from_bytes(fci[4:7], signed=True)
    statuses, at = _decode_statuses(fci, count)
    if at + sum(symbol for _, symbol in statuses) > len(fci):  # a small delta has one byte, a large one has two
        raise TransportFeedbackError(ParseFault.TRUNCATED, f"{len(statuses)} packets without all of their deltas")
    arrivals = []
    ticks = 0
    for offset, symbol in statuses:
        delta = fci[at]
        if symbol == _LARGE_DELTA:
            delta = (delta << 8 | fci[at + 1]) - (0x10000 if delta & 0x80 else 0)
        ticks += delta
        arrivals.append((offset, ticks))
        at += symbol
    if len(fci) - at > MAX_PADDING:
        raise TransportFeedbackError(ParseFault.BAD_LENGTH, f"{len(fci) - at} bytes behind the deltas")
    return TransportFeedback(base, count, reference_time, fci[7], tuple(arrivals))


def _decode_statuses(fci: bytes, count: int) -> tuple[list[Status], int]:
    """The packets that arrived, by the status chunks, and where the deltas begin."""
    statuses: list[Status] = []
    at = HEADER_LENGTH
    offset = 0
    while offset < count:
        if at + 2 > len(fci):
            raise TransportFeedbackError(ParseFault.TRUNCATED, f"statuses end at {offset} of {count}")
        chunk = fci[at] << 8 | fci[at + 1]
        at += 2
        left = count - offset
        if not chunk & 0x8000:
            symbol, length = chunk >> 13, min(chunk & _MAX_RUN, left)
            if length == 0:
                raise TransportFeedbackError(ParseFault.BAD_VALUE, "an empty run of statuses")
            _check_symbol(symbol)
            if symbol != _NOT_RECEIVED:
                if length * symbol > len(fci) - at:  # before the run is spelled out
                    raise TransportFeedbackError(ParseFault.TRUNCATED, f"a run of {length} without its deltas")
                statuses += [(offset + step, symbol) for step in range(length)]
            offset += length
        elif chunk & 0x4000:
            for step in range(min(_TWO_BIT_SYMBOLS, left)):
                symbol = chunk >> 12 - 2 * step & 3
                _check_symbol(symbol)
                if symbol != _NOT_RECEIVED:
                    statuses.append((offset + step, symbol))
            offset += _TWO_BIT_SYMBOLS
        else:
            statuses += [
                (offset + step, _SMALL_DELTA) for step in range(min(_ONE_BIT_SYMBOLS, left)) if chunk >> 13 - step & 1
            ]
            offset += _ONE_BIT_SYMBOLS
    return statuses, at


def _check_symbol(symbol: int) -> None:
    if symbol > _LARGE_DELTA:
        raise TransportFeedbackError(ParseFault.BAD_VALUE, "the reserved status symbol")


def encode_transport_feedback(feedback: TransportFeedback) -> bytes:
    """Write the feedback control information, padded with zeros to a multiple of four bytes.

    Raises:
        TransportFeedbackError: a field lies outside its range, arrivals are out of order or beyond the status count, or
            two of them lie more than 8 s apart.
    """
    base, count, reference_time, feedback_count, arrivals = feedback
    if not (0 <= base <= 0xFFFF and 1 <= count <= MAX_STATUS_COUNT and 0 <= feedback_count <= 0xFF):
        raise TransportFeedbackError(ParseFault.BAD_VALUE, "a field outside its range")
    if not -0x800000 <= reference_time <= 0x7FFFFF:
        raise TransportFeedbackError(ParseFault.BAD_VALUE, f"reference time {reference_time}")
    runs: list[Run] = []
    deltas = bytearray()
    expected = ticks = 0
    for offset, arrived in arrivals:
        if not expected <= offset < count:
            raise TransportFeedbackError(ParseFault.MISPLACED, f"packet {offset}, {expected} was expected")
        delta = arrived - ticks
        if not -_MAX_LARGE - 1 <= delta <= _MAX_LARGE:
            raise TransportFeedbackError(ParseFault.BAD_VALUE, f"{delta} ticks between two packets")
        if offset > expected:
            _append_run(runs, _NOT_RECEIVED, offset - expected)
        if 0 <= delta <= _MAX_SMALL:
            deltas.append(delta)
            _append_run(runs, _SMALL_DELTA, 1)
        else:
            deltas += delta.to_bytes(2, signed=True)
            _append_run(runs, _LARGE_DELTA, 1)
        expected, ticks = offset + 1, arrived
    _append_run(runs, _NOT_RECEIVED, count - expected)
    fci = b"".join(
        (
            base.to_bytes(2),
            count.to_bytes(2),
            reference_time.to_bytes(3, signed=True),
            feedback_count.to_bytes(),
            *(chunk.to_bytes(2) for chunk in _encode_chunks(runs)),
            deltas,
        )
    )
    return fci + bytes(-len(fci) % 4)


def _append_run(runs: list[Run], symbol: int, length: int) -> None:
    if runs and runs[-1][0] == symbol:
        runs[-1] = (symbol, runs[-1][1] + length)
    elif length:
        runs.append((symbol, length))


def _encode_chunks(runs: Sequence[Run]) -> Iterator[int]:
    """Status chunks for runs of symbols: a run where it is not shorter than a vector, else the vector that fits."""
    index = used = 0
    while index < len(runs):
        symbol, length = runs[index]
        length -= used
        ahead = list(_symbols(runs, index, used))
        one_bit = _LARGE_DELTA not in ahead
        width = _ONE_BIT_SYMBOLS if one_bit else _TWO_BIT_SYMBOLS
        if length >= width or index == len(runs) - 1:
            taken = min(length, _MAX_RUN)
            yield symbol << 13 | taken
        elif one_bit:
            taken = width
            yield 0x8000 | sum(status << 13 - at for at, status in enumerate(ahead))
        else:
            taken = width
            yield 0xC000 | sum(status << 12 - 2 * at for at, status in enumerate(ahead[:width]))
        used += taken
        while index < len(runs) and used >= runs[index][1]:
            used -= runs[index][1]
            index += 1


def _symbols(runs: Sequence[Run], index: int, used: int) -> Iterator[int]:
    """The next symbols, as many as the longest vector holds."""
    wanted = _ONE_BIT_SYMBOLS
    while wanted > 0 and index < len(runs):
        symbol, length = runs[index]
        taken = min(length - used, wanted)
        for _ in range(taken):
            yield symbol
        wanted -= taken
        used = 0
        index += 1


class ArrivalLog:
    """What arrived on one transport, and the feedback that is due for it.

    A packet that comes late, after feedback that called it lost, has the next feedback begin at it: the sender then
    learns of it, and of what followed a second time. A duplicate changes nothing: the first arrival counts. Numbers
    that lie `WINDOW` or more behind the newest are counted and forgotten; a jump forwards gives up what lay before it.
    """

    WINDOW: Final = 8192  # sequence numbers: a second at 8000 packets a second
    MAX_ARRIVALS: Final = 4096
    KEPT_SECONDS: Final = 0.5  # how long an arrival is known, to be told again when an older one comes late
    MIN_INTERVAL: Final = 0.05  # seconds between feedback, unless very many packets come
    MAX_INTERVAL: Final = 0.25
    PACKETS_DUE: Final = 8  # feedback may wait no longer than its shortest interval when so many have come
    PACKETS_PER_MESSAGE: Final = 180  # at most six bytes each: a message fits a datagram of 1200 bytes

    __slots__ = (
        "_arrivals",
        "_base",
        "_due_since",
        "_feedback_count",
        "_newest",
        "_reported_at",
        "_unreported",
        "duplicates",
        "too_old",
    )

    def __init__(self) -> None:
        # Extended number: ticks; in the order of arrival. (A plain dict that loses its first item again and again
        # looks for the next one among the gaps.)
        self._arrivals: OrderedDict[int, int] = OrderedDict()
        self._newest: int | None = None
        self._base = 0  # the first number that the next feedback speaks of
        self._unreported = 0
        self._due_since = 0.0  # the arrival of the first packet that has not been told
        self._reported_at = float("-inf")
        self._feedback_count = 0
        self.duplicates = 0
        self.too_old = 0

    def __len__(self) -> int:
        return len(self._arrivals)

    def receive(self, sequence: int, now: float) -> None:
        """Note that a packet arrived.

        Args:
            sequence: its transport-wide sequence number, 16 bit.
            now: monotonic time, in seconds.
        """
        newest = self._newest
        number = sequence if newest is None else extend(sequence, newest)
        if newest is None:
            self._newest = self._base = number
        elif number > newest:
            self._newest = number
            if number - self._base >= self.WINDOW:
                self._base = number - self.WINDOW + 1
        elif number <= newest - self.WINDOW:
            self.too_old += 1
            return
        elif number in self._arrivals:
            self.duplicates += 1
            return
        elif number < self._base:
            self._base = number
        if not self._unreported:
            self._due_since = now
        self._unreported += 1
        self._arrivals[number] = int(now * TICKS_PER_SECOND)
        if len(self._arrivals) > self.MAX_ARRIVALS:
            self._arrivals.popitem(last=False)

    def _forget(self, now: float) -> None:
        """Forget what was told long ago, once everything has been told."""
        horizon = (now - self.KEPT_SECONDS) * TICKS_PER_SECOND
        while self._arrivals and next(iter(self._arrivals.values())) < horizon:
            self._arrivals.popitem(last=False)

    def poll_timeout(self) -> float | None:
        """When the next feedback is due; None while there is nothing to tell."""
        if not self._unreported:
            return None
        if self._unreported >= self.PACKETS_PER_MESSAGE:
            return self._due_since
        if self._unreported >= self.PACKETS_DUE:
            return max(self._due_since, self._reported_at + self.MIN_INTERVAL)
        return max(self._due_since + self.MIN_INTERVAL, self._reported_at + self.MAX_INTERVAL)

    def poll_feedback(self, now: float) -> bytes | None:
        """The feedback control information of the next message that is due; to be called until it gives None."""
        due_at = self.poll_timeout()
        if due_at is None or now < due_at:
            return None
        told = self._untold()
        first = self._arrivals[told[0]]
        reference = first // TICKS_PER_REFERENCE
        arrivals: list[Arrival] = []
        previous = reference * TICKS_PER_REFERENCE
        for number in told[: self.PACKETS_PER_MESSAGE]:
            ticks = self._arrivals[number]
            if abs(ticks - previous) > _MAX_LARGE:  # too far apart for one message
                break
            arrivals.append((number - self._base, ticks - reference * TICKS_PER_REFERENCE))
            previous = ticks
        feedback = TransportFeedback(
            self._base & 0xFFFF,
            arrivals[-1][0] + 1,
            extend(reference, 0, 24),
            self._feedback_count,
            tuple(arrivals),
        )
        self._feedback_count = self._feedback_count + 1 & 0xFF
        self._base += feedback.status_count
        if len(arrivals) == len(told):
            self._unreported = 0
            self._reported_at = now
            self._forget(now)
        return encode_transport_feedback(feedback)

    def _untold(self) -> list[int]:
        """The numbers from the base on that have arrived."""
        newest = self._base if self._newest is None else self._newest
        if newest - self._base < len(self._arrivals):
            return [number for number in range(self._base, newest + 1) if number in self._arrivals]
        return sorted(number for number in self._arrivals if number >= self._base)
