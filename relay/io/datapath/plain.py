"""The portable forwarding plane: one socket per relayed transport address, one loop, the standard library.

The packet path is plain on purpose: no object, event or log line per packet, buffers are shared by all sockets
(everything runs on one thread and nothing is kept across packets), and one clock reading serves a whole burst.
"""

import asyncio
import errno
import logging
import os
import socket
import struct
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Final, Protocol

from relay.datapath import RelayAddress, Traffic
from relay.errors import PortTaken
from relay.five_tuple import FiveTuple, Transport
from relay.io.datapath.indications import (
    HEADROOM,
    MAX_PAYLOAD,
    TAILROOM,
    find_send,
    unmask_v4,
    unmask_v6,
    wrap_data_v4,
    wrap_data_v6,
)
from stun.address import IPV4, IPV6, TransportAddress

_log = logging.getLogger(__name__)

SocketAddress = tuple[str, int] | tuple[str, int, int, int]
Sender = Callable[[memoryview, SocketAddress], object]

MAX_DATAGRAM: Final = 65536  # bytes, of a buffer; no UDP payload is larger than the next
MAX_UDP_PAYLOAD: Final = 65507  # bytes, over IPv4
# Datagrams taken from one socket before the loop looks at the others. As many as came last time are expected, up to
# this: to ask an empty socket costs a system call and an exception, and epoll tells again what was left behind.
MAX_BATCH: Final = 64
_MAX_SEND_TARGETS: Final = 64  # peers of Send indications remembered per allocation
_COMPLAINT_SECONDS: Final = 10.0  # between two warnings of the same kind
_CHANNEL_HEADER: Final = struct.Struct("!HH")
_FAMILIES: Final = {4: socket.AF_INET, 16: socket.AF_INET6}


class Drop(StrEnum):
    """Why a packet was not relayed; a bounded set, fit for a metric label."""

    NO_ALLOCATION = "no_allocation"
    NO_CHANNEL = "no_channel"
    NO_PERMISSION = "no_permission"
    MALFORMED = "malformed"
    SEND_FAILED = "send_failed"
    CLIENT_SLOW = "client_slow"
    OWN_ADDRESS = "own_address"


# On the packet path: looking a member up in its class costs more than the rest of the line.
_NO_CHANNEL: Final = Drop.NO_CHANNEL
_NO_PERMISSION: Final = Drop.NO_PERMISSION
_MALFORMED: Final = Drop.MALFORMED


class NotSent(OSError):
    """A sender dropped a message by itself; to the packet path it is one more reason why a send fails."""

    def __init__(self, reason: Drop) -> None:
        super().__init__(reason)
        self.reason = reason


class _Permission:
    """A peer IP address that may be sent to and heard from until `live_until`."""

    __slots__ = ("expires_at", "ip", "live_until")

    def __init__(self, ip: int) -> None:
        self.ip = ip
        self.expires_at = 0.0
        self.live_until = 0.0  # the earlier of the permission's and the allocation's expiry


class _Channel:
    """A bound channel: the peer's socket address and how to get there."""

    __slots__ = ("address", "expires_at", "live_until", "number", "permission", "send")

    def __init__(self, number: int, address: SocketAddress, permission: _Permission, send: Sender) -> None:
        self.number = number
        self.address = address
        self.permission = permission
        self.send = send
        self.expires_at = 0.0
        self.live_until = 0.0  # the earliest of the binding's, the permission's and the allocation's expiry


class _Target:
    """A peer that Send indications go to."""

    __slots__ = ("address", "permission", "send")

    def __init__(self, address: SocketAddress, permission: _Permission, send: Sender) -> None:
        self.address = address
        self.permission = permission
        self.send = send


class Relay:
    """One relayed transport address: its socket, and what the control plane lets through."""

    __slots__ = (
        "_batch",
        "_by_peer",
        "_channels",
        "_client",
        "_client_send",
        "_expires_at",
        "_peer_size",
        "_permissions",
        "_plane",
        "_recv_into",
        "_sendto",
        "_targets",
        "_v6",
        "bytes_to_client",
        "bytes_to_peer",
        "handle",
        "packets_to_client",
        "packets_to_peer",
        "path",
        "relayed",
        "sock",
    )

    def __init__(
        self,
        plane: "PlainDataPath",
        path: FiveTuple,
        sock: socket.socket,
        relayed: SocketAddress,
        client: tuple[Sender, SocketAddress],
    ) -> None:
        self._plane = plane
        self._client_send, self._client = client
        self._channels: dict[int, _Channel] = {}
        self._by_peer: dict[SocketAddress, _Channel] = {}
        self._permissions: dict[str, _Permission] = {}
        self._targets: dict[bytes, _Target] = {}
        self._expires_at = 0.0
        self._batch = 1
        self._recv_into = sock.recvfrom_into
        self._sendto: Sender = sock.sendto
        self._v6 = sock.family == socket.AF_INET6
        self._peer_size = 18 if self._v6 else 6  # bytes of port and IP address
        self.handle = sock.fileno()
        self.path = path
        self.sock = sock
        self.relayed = relayed  # as peers see it
        self.packets_to_peer = self.bytes_to_peer = self.packets_to_client = self.bytes_to_client = 0

    # Client to peer

    def from_client_channel(self, view: memoryview, size: int, now: float) -> None:
        """Relay the ChannelData message in `view[:size]`; padding behind the data is left out (RFC 8656 §12.6)."""
        number, length = _CHANNEL_HEADER.unpack_from(view)
        channel = self._channels.get(number)
        if channel is None or channel.live_until <= now:
            self._plane.drops[_NO_CHANNEL] += 1
        elif 4 + length > size:
            self._plane.drops[_MALFORMED] += 1
        else:
            try:
                channel.send(view[4 : 4 + length], channel.address)
            except OSError as error:
                self._plane.count_failure(error)
            else:
                self.packets_to_peer += 1
                self.bytes_to_peer += length

    def from_client_indication(self, view: memoryview, size: int, now: float) -> bool:
        """Relay the Send indication in `view[:size]`; False if the control plane has to look at it."""
        found = find_send(view, size)
        if found is None:
            return False
        peer, start, end = found
        if len(peer) != self._peer_size:
            return False
        if self._v6:  # the transaction ID takes part in the XOR, so the masked form is new each time
            peer = unmask_v6(peer, bytes(view[8:20]))
        target = self._targets.get(peer) or self._make_target(peer)
        if target is None or target.permission.live_until <= now:
            self._plane.drops[_NO_PERMISSION] += 1
        else:
            self._send(target.send, view[start:end], end - start, target.address)
        return True

    def send_to_peer(self, data: bytes, peer: TransportAddress, now: float) -> None:
        """Relay one payload to a permitted peer; without permission it is dropped and counted."""
        address = socket_address(peer.ip, peer.port)
        permission = self._permissions.get(address[0])
        if permission is None or permission.live_until <= now:
            self._plane.drops[_NO_PERMISSION] += 1
        else:
            self._send(self._sender_to(peer.ip), memoryview(data), len(data), address)

    def _send(self, send: Sender, data: memoryview, length: int, address: SocketAddress) -> None:
        try:
            send(data, address)
        except OSError as error:
            self._plane.count_failure(error)
        else:
            self.packets_to_peer += 1
            self.bytes_to_peer += length

    def _make_target(self, peer: bytes) -> _Target | None:
        plain = peer if self._v6 else unmask_v4(peer)
        ip = plain[2:]
        address = socket_address(ip, int.from_bytes(plain[:2]))
        permission = self._permissions.get(address[0])
        if permission is None:
            return None
        if len(self._targets) >= _MAX_SEND_TARGETS:
            self._targets.clear()
        target = self._targets[peer] = _Target(address, permission, self._sender_to(ip))
        return target

    def _sender_to(self, ip: bytes) -> Sender:
        return self._to_own_relay if ip in self._plane.own_relays else self._sendto

    def _to_own_relay(self, data: memoryview, address: SocketAddress) -> None:
        """Two relayed clients meet: hand the payload over without a detour through two sockets.

        Nothing but relayed transport addresses is reachable on an own address, or the relay would be a way
        around the peer policy to every UDP service of this machine.
        """
        other = self._plane.relay_at(address)
        if other is None:
            if not self._plane.is_relayed_elsewhere(IPV6 if ":" in address[0] else IPV4, address[1]):
                raise NotSent(Drop.OWN_ADDRESS)
            self._sendto(data, address)  # another worker of ours relays there
            return
        size = len(data)
        if size > MAX_UDP_PAYLOAD:
            raise NotSent(Drop.SEND_FAILED)  # as the socket would have said
        self._plane.window[:size] = data
        other.deliver(size, self.relayed, time.monotonic())

    # Peer to client

    def on_readable(self) -> None:
        """Relay what peers have sent to this relayed transport address (RFC 8656 §12.7)."""
        now = time.monotonic()
        window = self._plane.window
        recv_into = self._recv_into
        for count in range(self._batch):
            try:
                size, address = recv_into(window)
            except BlockingIOError:
                self._batch = count or 1
                return
            except OSError:
                continue  # an ICMP error of an earlier datagram: it has been read, the next one may be data
            self.deliver(size, address, now)
        self._batch = min(2 * self._batch, MAX_BATCH)

    def deliver(self, size: int, address: SocketAddress, now: float) -> None:
        """Relay the payload of `size` bytes in the plane's window to the client, if its sender may do that.

        A stranger is told nothing: an answer would show a port scanner that the address is alive.
        """
        plane = self._plane
        channel = self._by_peer.get(address)
        if channel is not None and channel.live_until > now:
            _CHANNEL_HEADER.pack_into(plane.buffer, HEADROOM - 4, channel.number, size)
            start, end = HEADROOM - 4, HEADROOM + size
        else:
            permission = self._permissions.get(address[0])
            if permission is None or permission.live_until <= now:
                plane.drops[_NO_PERMISSION] += 1
                return
            if size > MAX_PAYLOAD:
                plane.drops[_MALFORMED] += 1
                return
            wrap = wrap_data_v6 if self._v6 else wrap_data_v4
            start, end = wrap(plane.buffer, size, plane.next_transaction_id(), permission.ip, address[1])
        try:
            self._client_send(plane.view[start:end], self._client)
        except OSError as error:
            plane.count_failure(error)
            return
        self.packets_to_client += 1
        self.bytes_to_client += size

    # Commands of the control plane

    def set_expiry(self, expires_at: float) -> None:
        """The allocation ends at `expires_at`, and with it all that it lets through."""
        self._expires_at = expires_at
        for permission in self._permissions.values():
            permission.live_until = min(permission.expires_at, expires_at)
        for channel in self._channels.values():
            channel.live_until = min(channel.expires_at, channel.permission.live_until)

    def allow_peer(self, ip: bytes, expires_at: float) -> None:
        """Install or refresh a permission, also for the channels that lean on it."""
        text = socket_address(ip, 0)[0]
        permission = self._permissions.get(text)
        if permission is None:
            permission = self._permissions[text] = _Permission(int.from_bytes(ip))
            for channel in self._channels.values():  # they outlive it, and speak again with a new one
                if channel.address[0] == text:
                    channel.permission = permission
        permission.expires_at = expires_at
        permission.live_until = min(expires_at, self._expires_at)
        for channel in self._channels.values():
            if channel.permission is permission:
                channel.live_until = min(channel.expires_at, permission.live_until)

    def forget_peer(self, ip: bytes) -> None:
        """Remove a permission; channels of this peer fall silent."""
        permission = self._permissions.pop(socket_address(ip, 0)[0], None)
        if permission is None:
            return
        permission.expires_at = permission.live_until = 0.0
        self._targets = {key: target for key, target in self._targets.items() if target.permission is not permission}
        for channel in self._channels.values():
            if channel.permission is permission:
                channel.live_until = 0.0

    def bind_channel(self, number: int, peer: TransportAddress, expires_at: float) -> None:
        """Bind a channel to a permitted peer, or refresh its binding."""
        address = socket_address(peer.ip, peer.port)
        permission = self._permissions[address[0]]
        channel = self._channels.get(number)
        if channel is None:
            channel = _Channel(number, address, permission, self._sender_to(peer.ip))
            self._channels[number] = self._by_peer[address] = channel
        channel.permission = permission
        channel.expires_at = expires_at
        channel.live_until = min(expires_at, permission.live_until)

    def unbind_channel(self, number: int) -> None:
        """Remove a channel binding."""
        channel = self._channels.pop(number, None)
        if channel is not None:
            del self._by_peer[channel.address]

    def traffic(self) -> Traffic:
        """What has been relayed so far."""
        return Traffic(self.packets_to_peer, self.bytes_to_peer, self.packets_to_client, self.bytes_to_client)


class ClientLinks(Protocol):
    """Where the listeners and connections of clients are found."""

    def sender(self, path: FiveTuple) -> tuple[Sender, SocketAddress]:
        """How messages reach this client."""
        ...

    def attach(self, path: FiveTuple, relay: Relay) -> None:
        """Hand what this client sends to this relay."""
        ...

    def detach(self, path: FiveTuple) -> None:
        """The client has no relay any more."""
        ...


class PlainDataPath:
    """The forwarding plane in pure Python: works everywhere, and is the reference for its faster twins."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        own_relays: frozenset[bytes],
        clients: ClientLinks,
        is_relayed_elsewhere: Callable[[int, int], bool] = lambda _family, _port: False,
    ) -> None:
        """Build a plane without relays.

        Args:
            loop: where relay sockets are watched.
            own_relays: packed IP addresses on which nothing but relayed transport addresses may be sent to.
            clients: where clients are reached.
            is_relayed_elsewhere: whether another process of ours relays this family and port on an own address.
        """
        self._loop = loop
        self.is_relayed_elsewhere = is_relayed_elsewhere
        self._clients = clients
        self._relays: dict[int, Relay] = {}
        self._by_relayed: dict[SocketAddress, Relay] = {}
        self._finished = {transport: Traffic(0, 0, 0, 0) for transport in Transport}
        self._id_salt = os.urandom(4)
        self._id_count = 0
        self._quiet_until = 0.0
        self.own_relays = own_relays
        self.drops = dict.fromkeys(Drop, 0)
        self.buffer = bytearray(HEADROOM + MAX_DATAGRAM + TAILROOM)
        self.view = memoryview(self.buffer)
        self.window = self.view[HEADROOM : HEADROOM + MAX_DATAGRAM]  # where payloads of peers are received

    def open_relay(self, path: FiveTuple, address: RelayAddress, port: int, expires_at: float) -> int:
        """Bind a relayed transport address. See `relay.datapath.DataPath`, also for all other commands."""
        sock = socket.socket(_FAMILIES[len(address.bound)], socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            if sock.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(socket_address(address.bound, port))
        except OSError as error:
            sock.close()
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                raise PortTaken(error.errno, "the relayed port is taken") from error
            self._complain(error)
            raise
        relayed = socket_address(address.advertised, port)
        try:
            relay = Relay(self, path, sock, relayed, self._clients.sender(path))
            self._clients.attach(path, relay)
        except BaseException:  # the client has gone in the meantime
            sock.close()
            raise
        relay.set_expiry(expires_at)
        self._relays[relay.handle] = self._by_relayed[relayed] = relay
        self._loop.add_reader(relay.handle, relay.on_readable)
        return relay.handle

    def _complain(self, error: OSError) -> None:
        """Tell the operator what the clients only see as 508, without a line for every one of them."""
        now = time.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + _COMPLAINT_SECONDS
            _log.warning("cannot open a relayed address: %s", os.strerror(error.errno or 0))

    def close_relay(self, handle: int) -> Traffic:
        """Stop relaying and close the socket."""
        relay = self._relays.pop(handle)
        del self._by_relayed[relay.relayed]
        self._loop.remove_reader(handle)
        self._clients.detach(relay.path)
        relay.sock.close()
        traffic = relay.traffic()
        self._finished[relay.path.transport] = _sum(self._finished[relay.path.transport], traffic)
        return traffic

    def set_expiry(self, handle: int, expires_at: float) -> None:
        """Relay nothing for this allocation from `expires_at` on."""
        self._relays[handle].set_expiry(expires_at)

    def allow_peer(self, handle: int, ip: bytes, expires_at: float) -> None:
        """Install or refresh a permission."""
        self._relays[handle].allow_peer(ip, expires_at)

    def forget_peer(self, handle: int, ip: bytes) -> None:
        """Remove a permission."""
        self._relays[handle].forget_peer(ip)

    def bind_channel(self, handle: int, number: int, peer: TransportAddress, expires_at: float) -> None:
        """Bind a channel or refresh its binding."""
        self._relays[handle].bind_channel(number, peer, expires_at)

    def unbind_channel(self, handle: int, number: int) -> None:
        """Remove a channel binding."""
        self._relays[handle].unbind_channel(number)

    def send_to_peer(self, handle: int, data: bytes, peer: TransportAddress) -> None:
        """Relay one payload to a permitted peer."""
        self._relays[handle].send_to_peer(data, peer, time.monotonic())

    def counters(self, handle: int) -> Traffic:
        """What has been relayed so far."""
        return self._relays[handle].traffic()

    def totals(self) -> dict[Transport, Traffic]:
        """All traffic since the start by the client's transport, live allocations included; for a scrape."""
        totals = dict(self._finished)
        for relay in self._relays.values():
            totals[relay.path.transport] = _sum(totals[relay.path.transport], relay.traffic())
        return totals

    def relay_at(self, address: SocketAddress) -> Relay | None:
        """The relay with this relayed transport address, if there is one."""
        return self._by_relayed.get(address)

    def count_failure(self, error: OSError) -> None:
        """Count a message that could not be sent.

        Full buffers, unreachable networks, oversized datagrams: UDP promises nothing (RFC 8656 §12.6).
        """
        self.drops[error.reason if isinstance(error, NotSent) else Drop.SEND_FAILED] += 1

    def next_transaction_id(self) -> bytes:
        """A transaction ID for a Data indication: unique, though nothing depends on it (RFC 8489 §5)."""
        self._id_count += 1
        return self._id_salt + self._id_count.to_bytes(8)


def socket_address(ip: bytes, port: int) -> SocketAddress:
    """The form in which the socket module gives and takes an address."""
    text = socket.inet_ntop(_FAMILIES[len(ip)], ip)
    return (text, port) if len(ip) == 4 else (text, port, 0, 0)


def _sum(one: Traffic, other: Traffic) -> Traffic:
    return Traffic(*(left + right for left, right in zip(one, other, strict=True)))
