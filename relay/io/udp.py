"""A UDP listener: ChannelData and Send indications straight to the relays, all other STUN up to the control plane."""

import socket
import time
from collections.abc import Callable, Collection
from typing import Final

from relay.datapath import Drop
from relay.five_tuple import FiveTuple, Transport
from relay.io.clients import Buffer, ClientLink, ClientRelay
from relay.io.datapath.datagrams import DatagramSocket, Inbox
from relay.io.datapath.segments import Destination, SocketAddress, send_run
from relay.io.datapath.switchboard import socket_address
from relay.io.poller import Poller
from stun.address import TransportAddress

RECEIVE_BUFFER_BYTES: Final = 4 << 20  # a burst of many clients must wait here, not get lost
SLOTS: Final = 32  # datagrams or joined runs taken before other sockets have their turn
# Services that answer a datagram with another one. A request that seems to come from there was forged to make the two
# of us talk to each other, or to reflect our answer: echo, daytime, quote, chargen, DNS, TFTP, portmapper, NTP,
# NetBIOS, SNMP, LDAP, RIP, SSDP, mDNS, memcached.
REFLECTOR_PORTS: Final = frozenset((7, 13, 17, 19, 53, 69, 111, 123, 137, 161, 389, 520, 1900, 5353, 11211))
_SO_RCVBUFFORCE: Final = 33  # Linux; missing in the socket module
_UDP: Final = Transport.UDP


class UdpLink(Destination):
    """How relayed messages reach one client of a listener."""

    __slots__ = ("_socket",)
    pads = False  # RFC 8656 §12.5 asks for it over streams only

    def __init__(self, sock: DatagramSocket, address: SocketAddress) -> None:
        super().__init__(address)
        self._socket = sock

    def send(self, message: Buffer) -> None:
        """Send one message.

        Raises:
            OSError: it was not sent.
        """
        self._socket.send(message, 0, len(message), self.target)

    def send_burst(self, parts: list[Buffer], size: int) -> None:
        """Send messages of `size` bytes, the last may be shorter, in one system call if the kernel can cut them.

        Raises:
            OSError: at least one of them was not sent.
        """
        send_run(self._socket.sock, parts, size, self)


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
    ) -> None:
        """Listen on a bound socket.

        Args:
            poller: where it is watched.
            address: what it is bound to.
            sock: non-blocking; it belongs to the listener from now on.
            drops: where datagrams that are not relayed are counted.
            upcall: takes every message that is not for a relay.
            own_listeners: addresses from which only a forged message can come; looked at anew each time.
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
        enlarge_receive_buffer(sock)
        self._socket.join()
        poller.watch_alone(sock.fileno(), self._on_ready)

    def close(self) -> None:
        """Stop listening."""
        self._poller.forget_alone(self._sock.fileno())
        self._socket.close()

    def link(self, client: TransportAddress) -> ClientLink:
        """How relayed messages reach a client."""
        return UdpLink(self._socket, self._socket_address(client))

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
                self._take_run(self._views[slot], size, segment, address, now)
            elif relay is None or not relay.relay_one(self._views[slot], size, head, now):
                self._pass_up(self._views[slot], 0, size, address)

    def _take_run(self, view: memoryview, size: int, segment: int, address: SocketAddress, now: float) -> None:
        """Take a run apart: it may mix channels, indications and requests."""
        relay = self._relays.get(address)
        if relay is not None and relay.take_run(view, size, segment, now):
            relay.flush()
            return
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


def enlarge_receive_buffer(sock: socket.socket) -> None:
    """Let a socket that all clients share hold a burst of them."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
    except PermissionError:  # without CAP_NET_ADMIN the kernel's limit net.core.rmem_max holds
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
