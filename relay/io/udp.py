"""A UDP listener: ChannelData and Send indications straight to the relays, all other STUN up to the control plane."""

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Final

from relay.five_tuple import FiveTuple, Transport
from relay.io.datapath.plain import MAX_BATCH, MAX_DATAGRAM, Drop, PlainDataPath, Relay, Sender, SocketAddress
from stun.address import TransportAddress

RECEIVE_BUFFER_BYTES: Final = 4 << 20  # a burst of many clients must wait here, not get lost
_SO_RCVBUFFORCE: Final = 33  # Linux; missing in the socket module


_UDP: Final = Transport.UDP


class UdpListener:
    """One bound UDP socket. All state of its clients is a table from socket address to relay."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: TransportAddress,
        sock: socket.socket,
        plane: PlainDataPath,
        upcall: Callable[[bytes, FiveTuple], None],
    ) -> None:
        self.address = address
        self._loop = loop
        self._sock = sock
        self._plane = plane
        self._upcall = upcall
        self._relays: dict[SocketAddress, Relay] = {}
        self._buffer = bytearray(MAX_DATAGRAM)
        self._view = memoryview(self._buffer)
        self._family = sock.family
        self._batch = 1
        _enlarge_receive_buffer(sock)
        loop.add_reader(sock.fileno(), self._on_readable)

    def close(self) -> None:
        """Stop listening."""
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()

    def sender(self, client: TransportAddress) -> tuple[Sender, SocketAddress]:
        """How messages reach a client."""
        return self._sock.sendto, self._socket_address(client)

    def attach(self, client: TransportAddress, relay: Relay) -> None:
        """Hand what this client sends to this relay."""
        self._relays[self._socket_address(client)] = relay

    def detach(self, client: TransportAddress) -> None:
        """The client has no relay any more."""
        self._relays.pop(self._socket_address(client), None)

    def send(self, data: bytes, client: TransportAddress) -> None:
        """Send a STUN message to a client; if the buffer is full it is lost, and the client retransmits."""
        try:
            self._sock.sendto(data, self._socket_address(client))
        except OSError:
            self._plane.drops[Drop.SEND_FAILED] += 1

    def _on_readable(self) -> None:
        now = time.monotonic()
        recv_into = self._sock.recvfrom_into
        buffer, view, relays, drops = self._buffer, self._view, self._relays, self._plane.drops
        for count in range(self._batch):
            try:
                size, address = recv_into(buffer)
            except BlockingIOError:
                self._batch = count or 1
                return
            except OSError:
                continue  # an ICMP error of an earlier answer: it has been read, the next one may be data
            if size < 4:
                drops[Drop.MALFORMED] += 1
            elif 0x40 <= buffer[0] <= 0x7F:
                relay = relays.get(address)
                if relay is None:
                    drops[Drop.NO_ALLOCATION] += 1
                else:
                    relay.from_client_channel(view, size, now)
            else:
                if buffer[1] == 0x16 and buffer[0] == 0x00:
                    relay = relays.get(address)
                    if relay is not None and relay.from_client_indication(view, size, now):
                        continue
                client = TransportAddress(socket.inet_pton(self._family, address[0]), address[1])
                self._upcall(bytes(view[:size]), FiveTuple(_UDP, self.address, client))
        self._batch = min(2 * self._batch, MAX_BATCH)

    def _socket_address(self, client: TransportAddress) -> SocketAddress:
        text = socket.inet_ntop(self._family, client.ip)
        return (text, client.port) if self._family == socket.AF_INET else (text, client.port, 0, 0)


def _enlarge_receive_buffer(sock: socket.socket) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES)
    except PermissionError:  # without CAP_NET_ADMIN the kernel's limit net.core.rmem_max holds
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
