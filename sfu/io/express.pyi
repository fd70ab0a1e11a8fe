# What `express.c` offers, which only `make native` builds.

from collections.abc import Callable, Sequence
from typing import Final

from stun.address import TransportAddress

SLOTS: Final[int]
HISTORY: Final[int]

# Datagrams that leave with one system call (sendmmsg); the kernel cuts those of one size to one address (UDP_SEGMENT).
class Outbox:
    is_blocked: bool
    joins: bool

    def __init__(
        self, send: Callable[[bytes | memoryview, TransportAddress], None], v4: int = ..., v6: int = ...
    ) -> None: ...
    def __call__(self, datagram: bytes | memoryview, address: TransportAddress) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...

# What leaves towards one session: where to, under which keys and transport-wide numbers.
class Line:
    number: int
    is_open: bool
    departed: int

    def __init__(
        self,
        outbox: Outbox,
        owner: object,
        context: int,
        protect: int,
        address: TransportAddress,
        is_noted: bool,
    ) -> None: ...
    def aim(self, address: TransportAddress | None) -> None: ...
    def take_departures(self) -> tuple[list[int], list[float]]: ...

# The numbers of one down track while its packets come in order, and what went out under them.
class Lane:
    is_armed: bool
    number: int
    packets: int
    octets: int

    def __init__(self, line: Line, ssrc: int, payload_type: int) -> None: ...
    def arm(
        self,
        stream: object,
        numbers: tuple[int, int, int, int, int, int, int, int, int],
        rewritten: tuple[int, int, int, int, int],
        temporal: int,
        /,
    ) -> None: ...
    def disarm(self) -> tuple[int, int, int, int, int, int, float, int, int, int] | None: ...
    def recall(self, number: int, /) -> tuple[object, int, tuple[int, int, int, int, int]] | None: ...

def forward(
    lanes: tuple[Lane, ...],
    packet: bytes,
    places: tuple[int, int, int, int, int, int],
    numbers: tuple[int, int, int, int, int, int, int, int, int],
    stream: object,
    now: float,
    /,
) -> tuple[Sequence[int], int, int, int]: ...
