"""A series of packets that come back: loss, round trips and their jitter."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final, NamedTuple

PACKETS_PER_SECOND: Final = 50  # as a voice call sends them
SECONDS: Final = 3.0
PAYLOAD_BYTES: Final = 160  # about what 20 ms of speech take
TOKEN_BYTES: Final = 8
_SEQUENCE_BYTES: Final = 4
MIN_PAYLOAD_BYTES: Final = TOKEN_BYTES + _SEQUENCE_BYTES


class EchoResult(NamedTuple):
    """What a series showed. Times are None when nothing came back."""

    sent: int
    received: int
    loss_percent: float
    p50_ms: float | None
    p95_ms: float | None
    jitter_ms: float | None  # mean difference between the round trips of packets that follow each other


class EchoSeries:
    """Counts the packets of one series. Copies of a packet, strange packets and numbers never sent are ignored."""

    def __init__(self, token: bytes) -> None:
        """Begin a series.

        Args:
            token: TOKEN_BYTES bytes that nobody else can guess; they tell the series' packets from all others.
        """
        if len(token) != TOKEN_BYTES:
            raise ValueError(f"a token has {TOKEN_BYTES} bytes, this one {len(token)}")
        self._token = token
        self._sent_at: list[float] = []
        self._round_trips: dict[int, float] = {}

    def send(self, now: float, size: int = PAYLOAD_BYTES) -> bytes:
        """The next packet, `size` bytes long; counted as sent at `now`, in seconds."""
        label = self._token + len(self._sent_at).to_bytes(_SEQUENCE_BYTES)
        self._sent_at.append(now)
        return label.ljust(size, b"\0")

    def receive(self, packet: bytes, now: float) -> bool:
        """Take in what came back; whether it is the first copy of a packet of this series."""
        number = int.from_bytes(packet[TOKEN_BYTES:MIN_PAYLOAD_BYTES])
        if not self.owns(packet) or number >= len(self._sent_at) or number in self._round_trips:
            return False
        self._round_trips[number] = now - self._sent_at[number]
        return True

    def owns(self, packet: bytes) -> bool:
        """Whether a packet bears the token of this series."""
        return len(packet) >= MIN_PAYLOAD_BYTES and packet[:TOKEN_BYTES] == self._token

    def result(self) -> EchoResult:
        """What has been seen so far."""
        sent, received = len(self._sent_at), len(self._round_trips)
        loss = 100 * (sent - received) / sent if sent else 0.0
        in_order = [self._round_trips[number] for number in sorted(self._round_trips)]
        return EchoResult(
            sent, received, round(loss, 1), percentile(in_order, 50), percentile(in_order, 95), jitter(in_order)
        )


def percentile(seconds: Sequence[float], percent: int) -> float | None:
    """The value that so many of a hundred do not exceed, by nearest rank, in milliseconds; None of nothing."""
    if not seconds:
        return None
    rank = -(-percent * len(seconds) // 100)
    return round(1000 * sorted(seconds)[max(rank, 1) - 1], 1)


def jitter(seconds: Sequence[float]) -> float | None:
    """The mean difference between neighbours, in milliseconds; None of fewer than two."""
    if len(seconds) < 2:
        return None
    differences = [abs(later - earlier) for earlier, later in pairwise(seconds)]
    return round(1000 * sum(differences) / len(differences), 1)
