"""Where an engine asks about bandwidth: what arrives is noted for the publisher, what leaves for the estimate."""

from collections.abc import Sequence
from typing import Protocol


class Arrivals(Protocol):
    """What arrives from one publisher, by transport-wide sequence number."""

    def receive(self, sequence: int, now: float, /) -> None:
        """Note a packet."""

    def poll_feedback(self, now: float, /) -> bytes | None:
        """The feedback control information that is due; to be called until it gives None."""


class PathEstimator(Protocol):
    """What the path to one subscriber carries."""

    @property
    def bits_per_second(self) -> float:
        """The estimate."""

    def want(self, bits_per_second: float, /) -> None:
        """Say how much there would be use for."""

    def send(self, size: int, now: float, /, *, probe: bool = False) -> int:
        """Note a packet that leaves, by its bytes; gives its transport-wide sequence number, 16 bits."""

    @property
    def is_plain(self) -> bool:
        """Whether no probe is under way: packets are merely numbered and noted, and many may be told at once."""

    def send_many(self, sizes: Sequence[int], instants: Sequence[float], /) -> None:
        """Note packets that left since the last call, each by its bytes and instant, numbered one after the other."""

    def poll_probe(self, now: float, /) -> int | None:
        """The bytes of a packet that is to be sent now to probe; to be called until it gives None."""

    def receive_feedback(self, fci: bytes, now: float, /) -> None:
        """Take in feedback. Raises ValueError if it does not parse."""

    def handle_timeout(self, now: float, /) -> None:
        """Do what time alone brings about."""
