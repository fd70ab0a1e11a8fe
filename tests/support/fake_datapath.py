"""A forwarding plane that moves nothing and remembers what it was told."""

import errno
import operator
from dataclasses import dataclass, field

from relay.datapath import Drop, RelayAddress, Traffic
from relay.errors import PortTaken
from relay.five_tuple import FiveTuple, Transport
from stun.address import TransportAddress


@dataclass
class FakeRelay:
    """One relayed transport address, and all that is installed for it."""

    path: FiveTuple
    address: RelayAddress
    port: int
    expires_at: float
    peers: dict[bytes, float] = field(default_factory=dict)
    channels: dict[int, tuple[TransportAddress, float]] = field(default_factory=dict)
    traffic: Traffic = field(default_factory=lambda: Traffic(0, 0, 0, 0))
    circle: str = ""


class FakeDataPath:
    """Implements `relay.datapath.DataPath`; refuses what a real one would refuse."""

    def __init__(self) -> None:
        self.relays: dict[int, FakeRelay] = {}
        self.sent: list[tuple[int, bytes, TransportAddress]] = []
        self.sent_unfragmented: list[tuple[int, bytes, TransportAddress]] = []  # those of them with DONT-FRAGMENT
        self.drops = dict.fromkeys(Drop, 0)
        self.moves: list[FiveTuple] = []  # where clients were moved to
        self.attempts: list[int] = []  # ports that somebody tried to open
        self.taken_ports: set[int] = set()  # held by another program
        self.every_port_taken = False
        self.failure: BaseException | None = None  # what `open_relay` raises
        self._handles = 0

    def open_relay(self, path: FiveTuple, address: RelayAddress, port: int, expires_at: float, circle: str = "") -> int:
        self.attempts.append(port)
        if self.failure is not None:
            raise self.failure
        families = [len(relay.address.bound) for relay in self.relays.values() if relay.path == path]
        assert len(address.bound) not in families, "a client has two relays of one family"
        held = any(relay.port == port and relay.address == address for relay in self.relays.values())
        assert not held, "a port was handed out twice"
        if self.every_port_taken or port in self.taken_ports:
            raise PortTaken(errno.EADDRINUSE, "the relayed port is taken")
        self._handles += 1
        self.relays[self._handles] = FakeRelay(path, address, port, expires_at, circle=circle)
        return self._handles

    def close_relay(self, handle: int) -> Traffic:
        return self.relays.pop(handle).traffic

    def move_client(self, handle: int, path: FiveTuple) -> None:
        old = self.relays[handle].path
        assert path == old or all(relay.path != path for relay in self.relays.values()), "two clients in one place"
        for relay in self.relays.values():
            if relay.path == old:
                relay.path = path
        self.moves.append(path)

    def set_expiry(self, handle: int, expires_at: float) -> None:
        self.relays[handle].expires_at = expires_at

    def allow_peer(self, handle: int, ip: bytes, expires_at: float) -> None:
        relay = self.relays[handle]
        assert len(ip) == len(relay.address.bound), "a peer of the other family"
        relay.peers[ip] = expires_at

    def forget_peer(self, handle: int, ip: bytes) -> None:
        del self.relays[handle].peers[ip]

    def bind_channel(self, handle: int, number: int, peer: TransportAddress, expires_at: float) -> None:
        relay = self.relays[handle]
        assert peer.ip in relay.peers, "a channel needs a permission"
        assert relay.channels.get(number, (peer, 0.0))[0] == peer, "a bound channel changed its peer"
        assert all(other == number or held != peer for other, (held, _) in relay.channels.items()), (
            "one peer, two channels"
        )
        relay.channels[number] = (peer, expires_at)

    def unbind_channel(self, handle: int, number: int) -> None:
        del self.relays[handle].channels[number]

    def send_to_peer(self, handle: int, data: bytes, peer: TransportAddress, *, dont_fragment: bool = False) -> None:
        assert peer.ip in self.relays[handle].peers, "sent without a permission"
        self.sent.append((handle, data, peer))
        if dont_fragment:
            self.sent_unfragmented.append((handle, data, peer))

    def traffic(self, handle: int) -> Traffic:
        return self.relays[handle].traffic

    def totals(self) -> dict[Transport, Traffic]:
        totals = dict.fromkeys(Transport, Traffic(0, 0, 0, 0))
        for relay in self.relays.values():
            total = totals[relay.path.transport]
            totals[relay.path.transport] = Traffic(*map(operator.add, total, relay.traffic))
        return totals
