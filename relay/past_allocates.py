"""Allocate transactions that are over: what comes again of them is answered as before, and begins nothing.

Over datagrams a request comes again: its answer was lost or slow, or the network doubled it. A client that has read a
refusal has ended the transaction, so a success that followed it would be an allocation nobody knows of: it would hold a
port and a place in the quota until it expires, and stand in the way of the client's next Allocate (437). The same goes
for an allocation that has been given back meanwhile. So answers are remembered for as long as RFC 8489 §6.3.1 says.
"""

from typing import Final, NamedTuple

from relay.events import RequestRefused
from relay.five_tuple import STREAMS, FiveTuple

REMEMBERED_SECONDS: Final = 40.0  # RFC 8489 §6.3.1
MAX_REMEMBERED: Final = 8192  # transactions, of authenticated clients only; half a kilobyte each


class Transaction(NamedTuple):
    """Which one: answers are signed for their user, so another one on this five-tuple has others."""

    path: FiveTuple
    transaction_id: bytes
    holder: str  # of `relay.allocation.holder_of`


class PastAnswer(NamedTuple):
    """How a transaction has ended."""

    response: bytes  # the refusal; empty if the allocation that it made is no more
    refused: RequestRefused | None


ENDED: Final = PastAnswer(b"", None)


class PastAllocates:
    """Remembers the last so many; of those that come faster than that the oldest are forgotten early."""

    def __init__(self) -> None:
        """Begin with nothing remembered."""
        self._answers: dict[Transaction, tuple[float, PastAnswer]] = {}

    def remember(self, transaction: Transaction, answer: PastAnswer, now: float) -> None:
        """Keep how a transaction has ended; over a stream nothing comes again (RFC 8489 §6.2.2).

        Args:
            transaction: which one.
            answer: what it got.
            now: monotonic time, in seconds.
        """
        if transaction.path.transport in STREAMS:
            return
        answers = self._answers
        answers.pop(transaction, None)
        answers[transaction] = (now + REMEMBERED_SECONDS, answer)
        oldest = next(iter(answers))
        while len(answers) > MAX_REMEMBERED or answers[oldest][0] <= now:
            del answers[oldest]
            oldest = next(iter(answers))

    def recall(self, transaction: Transaction, now: float) -> PastAnswer | None:
        """How a transaction has ended, None if it is not known."""
        found = self._answers.get(transaction)
        return found[1] if found is not None and found[0] > now else None

    def __len__(self) -> int:
        return len(self._answers)
