"""What all relays of a plane share: buffers, counters, limits, and who is reached under which relayed address."""

import functools
import os
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from relay.datapath import Drop, Limits
from relay.errors import NotSent
from relay.io.datapath.datagrams import MAX_DATAGRAM, Inbox
from relay.io.datapath.indications import HEADROOM, TAILROOM, TransactionIds
from relay.io.datapath.limits import Rates
from relay.io.datapath.segments import SocketAddress
from relay.trial import limits_of
from stun.address import TransportAddress

if TYPE_CHECKING:
    from relay.io.datapath.relay_socket import RelaySocket
    from relay.io.datapath.routes import Route

_REMEMBERED_TEXTS: Final = 4096  # a peer is named several times in a row, and the C library's conversion is slow
BUSY_PACKETS: Final = 32  # of a relay and direction: after so many, one of them is shown to whoever watches; 2 ** n
SLOTS: Final = 16  # datagrams or joined runs taken from one socket before the others have their turn
_FAMILIES: Final = {4: socket.AF_INET, 16: socket.AF_INET6}

OnBusyRoute = Callable[["Route"], object]
OnBusyPeer = Callable[["RelaySocket", SocketAddress], object]
IsRelayedElsewhere = Callable[[int, int, str], bool]  # address family (0x01, 0x02), port and circle


class Switchboard:
    """Everything runs on one thread and nothing is kept across packets, so one inbox serves all relay sockets."""

    def __init__(
        self,
        own_relays: frozenset[bytes],
        is_relayed_elsewhere: IsRelayedElsewhere | None,
        limits: Limits,
        own_services: Iterable[TransportAddress] = (),
    ) -> None:
        self.own_relays = own_relays
        self.own_services = frozenset(socket_address(*service) for service in own_services)
        self.is_relayed_elsewhere = is_relayed_elsewhere or _nowhere
        self.rates = Rates(limits)
        self.trial_rates = Rates(limits_of(limits))  # of clients in a circle with a name
        self.relays: dict[SocketAddress, RelaySocket] = {}  # by the relayed transport address, as peers see it
        self.drops = dict.fromkeys(Drop, 0)
        self.ids = TransactionIds(int.from_bytes(os.urandom(4)))
        self.inbox = Inbox(SLOTS, HEADROOM, TAILROOM)  # where payloads of peers are received
        self.views = self.inbox.views
        self.outbox = memoryview(bytearray(HEADROOM + MAX_DATAGRAM + TAILROOM))  # where runs to clients get their heads
        self.joins_runs = True  # whether relay sockets may ask the kernel for joined runs (UDP_GRO)
        # Called with where one packet in `BUSY_PACKETS` went, or came from: a sample instead of a count for each flow,
        # so the packet path pays for one comparison, and a peer with ever new ports leaves nothing behind.
        self.on_busy_to_peer: OnBusyRoute = _unwatched_route
        self.on_busy_to_client: OnBusyPeer = _unwatched_peer

    def set_limits(self, limits: Limits) -> None:
        """Change what each allocation may carry."""
        self.rates.set(limits)
        self.trial_rates.set(limits_of(limits))

    def count_failure(self, error: OSError, count: int) -> None:
        """Count messages that could not be sent, or of which at least one could not.

        Full buffers, unreachable networks, oversized datagrams: UDP promises nothing (RFC 8656 §12.6).
        """
        self.drops[error.reason if isinstance(error, NotSent) else Drop.SEND_FAILED] += count


def socket_address(ip: bytes, port: int) -> SocketAddress:
    """The form in which the socket module gives and takes an address."""
    return (_text(ip), port) if len(ip) == 4 else (_text(ip), port, 0, 0)


@functools.lru_cache(_REMEMBERED_TEXTS)
def _text(ip: bytes) -> str:
    return socket.inet_ntop(_FAMILIES[len(ip)], ip)


def _unwatched_route(_route: "Route") -> None:
    """Nobody wants to know."""


def _unwatched_peer(_relay: "RelaySocket", _peer: SocketAddress) -> None:
    """Nobody wants to know."""


def _nowhere(_family: int, _port: int, _circle: str) -> bool:
    return False
