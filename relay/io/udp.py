"""A UDP listener: ChannelData and Send indications straight to the relays, all other STUN up to the control plane."""

import socket
import time
from collections.abc import Callable, Collection
from typing import Final

from relay.datapath import Drop
from relay.five_tuple import FiveTuple, Transport
from relay.io.clients import ClientLink, ClientRelay
from relay.io.datapath.datagrams import DatagramSocket, Inbox
from relay.io.datapath.segments import DatagramLink, SocketAddress
from relay.io.datapath.switchboard import socket_address
from relay.io.poller import Poller
from stun.address import TransportAddress

RECEIVE_BUFFER_BYTES: Final = 4 << 20  # a burst of many clients must wait here, not get lost
SEND_BUFFER_BYTES: Final = 4 << 20  # what waits in the queue of an interface is charged to the socket that sent it
SLOTS: Final = 32  # datagrams or joined runs taken before other sockets have their turn
# Services that answer a datagram with another one. A request that seems to come from there was forged to make the two
# of us talk to each other, or to reflect our answer: echo, daytime, quote, chargen, DNS, TFTP, portmapper, NTP,
# NetBIOS, SNMP, LDAP, RIP, SSDP, mDNS, memcached.
REFLECTOR_PORTS: Final = frozenset((7, 13, 17, 19, 53, 69, 111, 123, 137, 161, 389, 520, 1900, 5353, 11211))
_SO_RCVBUFFORCE: Final = 33  # Linux; this and the next one are missing in the socket module
_SO_SNDBUFFORCE: Final = 32
_UDP: Final = Transport.UDP


class UdpListener:
    """One bound UDP socket. All state of its clients is a table from socket address to relay."""

    def __init__(
        self,
        poller: Poller,
        address: TransportAddress,
        sock: socket.socket,
        drops: dict[Drop, int],
        upcall: Callable[[bytes, FiveTuple], None],
        *,
        own_listeners: Collection[TransportAddress] = frozenset(),
        joins_runs: bool = True,
    ) -> None:
        """Listen on a bound socket.

        Args:
            poller: where it is watched.
            address: what it is bound to.
            sock: non-blocking; it belongs to the listener from now on.
            drops: where datagrams that are not relayed are counted.
            upcall: takes every message that is not for a relay.
            own_listeners: addresses from which only a forged message can come; looked at anew each time.
            joins_runs: whether the kernel shall join runs of datagrams of one client (UDP_GRO).
        """
        self.address = address
        self._poller = poller
        self._sock = sock
        self._drops = drops
        self._upcall = upcall
        self._own_listeners = own_listeners
        self._relays: dict[SocketAddress, ClientRelay] = {}
        self._paths: dict[SocketAddress, FiveTuple] = {}  # of the same clients
        self._inbox = Inbox(SLOTS)
        self._views = self._inbox.views
        self._socket = DatagramSocket(sock, self._inbox)
        self._family = sock.family
        self._asking: TransportAddress | None = None  # the client whose message was passed up last
        self._asking_at: SocketAddress = ("", 0)
        enlarge_buffers(sock)
        if joins_runs:
            self.join_runs()
        poller.watch_alone(sock.fileno(), self._on_ready)

    def join_runs(self) -> None:
        """Have the kernel join runs of datagrams of one client from now on."""
        self._socket.join()

    def close(self) -> None:
        """Stop listening."""
        self._poller.forget_alone(self._sock.fileno())
        self._socket.close()

    def link(self, client: TransportAddress) -> ClientLink:
        """How relayed messages reach a client."""
        return DatagramLink(self._socket, self._socket_address(client))

    def attach(self, path: FiveTuple, relay: ClientRelay) -> None:
        """Hand what this client sends to this relay."""
        address = self._socket_address(path.client)
        self._relays[address] = relay
        self._paths[address] = path

    def detach(self, client: TransportAddress) -> None:
        """The client has no relay any more."""
        address = self._socket_address(client)
        self._relays.pop(address, None)
        self._paths.pop(address, None)

    def send(self, data: bytes, client: TransportAddress) -> None:
        """Send a STUN message to a client; if the buffer is full it is lost, and the client retransmits."""
        try:
            self._sock.sendto(data, self._socket_address(client))
        except OSError:
            self._drops[Drop.SEND_FAILED] += 1

    def _on_ready(self, _events: int) -> None:
        now = time.monotonic()
        relays = self._relays
        for slot, (size, segment, address, head) in enumerate(self._socket.receive()):
            relay = relays.get(address)
            if 0 < segment < size:
                if relay is None or not relay.relay_run(self._views[slot], size, segment, head, now):
                    self._take_apart(self._views[slot], size, segment, address, now)
            elif relay is None or not relay.relay_one(self._views[slot], size, head, now):
                self._pass_up(self._views[slot], 0, size, address)

    def _take_apart(self, view: memoryview, size: int, segment: int, address: SocketAddress, now: float) -> None:
        """Look at each datagram of a run: it may mix channels, indications and requests."""
        relay = self._relays.get(address)
        for start in range(0, size, segment):
            end = min(start + segment, size)
            if relay is not None:
                if relay.from_client(view, start, end, now):
                    continue
                relay.flush()  # in order, and before the control plane may close it
            self._pass_up(view, start, end, address)
            relay = self._relays.get(address)
        if relay is not None:
            relay.flush()

    def _pass_up(self, view: memoryview, start: int, end: int, address: SocketAddress) -> None:
        if end - start < 4:
            self._drops[Drop.MALFORMED] += 1
            return
        if 0x40 <= view[start] <= 0x7F:
            self._drops[Drop.NO_ALLOCATION] += 1
            return
        path = self._paths.get(address)
        if path is None:
            client = TransportAddress(socket.inet_pton(self._family, address[0]), address[1])
            if client.port in REFLECTOR_PORTS or client in self._own_listeners:
                self._drops[Drop.REFLECTOR] += 1
                return
            path = FiveTuple(_UDP, self.address, client)
        self._asking, self._asking_at = path.client, address
        self._upcall(view[start:end].tobytes(), path)

    def _socket_address(self, client: TransportAddress) -> SocketAddress:
        # Nearly always the client whose message is being dealt with.
        return self._asking_at if client is self._asking else socket_address(client.ip, client.port)


def enlarge_buffers(sock: socket.socket) -> None:
    """Let a socket that all clients share hold a burst of them, in and out."""
    for forced, usual, size in (
        (_SO_RCVBUFFORCE, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES),
        (_SO_SNDBUFFORCE, socket.SO_SNDBUF, SEND_BUFFER_BYTES),
    ):
        try:
            sock.setsockopt(socket.SOL_SOCKET, forced, size)
        except PermissionError:  # without CAP_NET_ADMIN the kernel's limits net.core.rmem_max and wmem_max hold
            sock.setsockopt(socket.SOL_SOCKET, usual, size)
