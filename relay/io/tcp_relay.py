"""The sockets of TCP allocations (RFC 6062 §5): listening, dialling, and pipes between peers and clients.

`relay.tcp_allocation` decides; this carries out its commands and reports what happens. The service implements
`PeerEvents` by a call of the core's method of the same meaning, followed by its usual drain:

    Dial -> dial        Pair -> pair(connection_id, connections[client])        Close -> drop

A socket that dials is bound to the relayed transport address that another one listens on (RFC 6062 §5.2), which Linux
allows if both have SO_REUSEPORT. The listening socket gets it only after it listens, so that a port which somebody else
listens on is never shared silently.

Until a connection is bound, nothing is read from the peer: what it sends waits in the kernel, whose window closes.
After that each direction holds at most `HIGH_WATER_BYTES` and one read before its source is held back.
"""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable
from typing import Final, Protocol

from relay.datapath import Traffic
from relay.errors import PortTaken
from relay.io.listening import OUT_OF_RESOURCES
from relay.io.poller import FAILED, READABLE, WRITABLE, Poller
from stun.address import TransportAddress

HIGH_WATER_BYTES: Final = 256 << 10  # waiting in one direction; from then on its source is held back
LOW_WATER_BYTES: Final = 64 << 10  # waiting in one direction; from then on its source is read again
READ_BYTES: Final = 64 << 10  # taken from a peer at once
LINGER_SECONDS: Final = 5.0  # a peer that reads slowly has this long to take what its client sent before it left
BACKLOG: Final = 32  # peers that wait to be accepted: as many as an allocation may have
_PAUSE_SECONDS: Final = 1.0  # after running out of descriptors: a ready listener would keep the loop busy


class DataConnection(Protocol):
    """A client's TCP or TLS connection that has become a pipe, as `relay.io.stream.StreamConnection`."""

    @property
    def unsent(self) -> int:
        """Bytes that wait until the kernel takes more."""
        ...

    def take_over(
        self,
        on_data: Callable[[bytes], None],
        on_lost: Callable[[], None],
        on_sent: Callable[[], None] | None = None,
    ) -> bytes:
        """Begin the pipe, and return what the client has sent behind its ConnectionBind."""
        ...

    def write(self, data: bytes) -> None:
        """Send bytes; what the kernel does not take waits in `unsent`."""
        ...

    def pause_reading(self) -> None:
        """Leave what the client sends to the kernel; those bytes of one read may still follow."""
        ...

    def resume_reading(self) -> None:
        """Read again."""
        ...

    def close(self) -> None:
        """Send what waits, then close."""
        ...


class PeerEvents(Protocol):
    """The service, as the sockets see it. Each may be called from within a command; `drop` may follow at once."""

    def peer_accepted(self, allocation: int, peer: TransportAddress) -> int | None:
        """A peer has connected: `TcpAllocations.accept`, with whether a permission holds."""
        ...

    def peer_dialled(self, connection_id: int) -> None:
        """A peer has accepted: `TcpAllocations.dialled`."""
        ...

    def peer_dial_failed(self, connection_id: int) -> None:
        """A peer cannot be reached: `TcpAllocations.dial_failed`."""
        ...

    def peer_closed(self, connection_id: int) -> None:
        """Either end of a connection is lost: `TcpAllocations.closed`."""
        ...


class TcpRelays:
    """The sockets of all TCP allocations of a server."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        poller: Poller,
        events: PeerEvents,
        own_relays: frozenset[bytes] = frozenset(),
    ) -> None:
        """Begin without allocations.

        Args:
            loop: where pauses and farewells are timed.
            poller: where sockets are watched.
            events: the service.
            own_relays: packed IP addresses on which nothing but relayed transport addresses may be dialled, or the
                relay would be a way around the peer policy to every service of this machine; may be replaced.
        """
        self.own_relays = own_relays
        self._loop = loop
        self._poller = poller
        self._events = events
        self._listeners: dict[int, _Listener] = {}  # by allocation
        self._sockets: dict[int, _PeerSocket] = {}  # by CONNECTION-ID
        self._lingering: set[_PeerSocket] = set()

    def __len__(self) -> int:
        """Peer sockets, those included that have something left to send."""
        return len(self._sockets) + len(self._lingering)

    def open(self, allocation: int, address: TransportAddress) -> None:
        """Listen on a relayed transport address, as bound.

        Raises:
            PortTaken: somebody else listens there.
            OSError: the system has no socket left.
        """
        self._listeners[allocation] = _Listener(self._loop, self._poller, address, self._accept, allocation)

    def close(self, allocation: int) -> Traffic:
        """Stop listening, after the connections were dropped by the commands that `TcpAllocations.end` gave.

        Returns:
            what was relayed: bytes, for a stream has no packets.
        """
        listener = self._listeners.pop(allocation)
        listener.close()
        return listener.traffic()

    def traffic(self, allocation: int) -> Traffic:
        """What has been relayed so far."""
        return self._listeners[allocation].traffic()

    def dial(self, connection_id: int, allocation: int, peer: TransportAddress) -> None:
        """Connect to a peer from the relayed transport address."""
        listener = self._listeners[allocation]
        # Its own address: the socket would connect to itself.
        if peer == listener.address or (peer.ip in self.own_relays and not self._is_relayed(peer)):
            self._events.peer_dial_failed(connection_id)
            return
        try:
            sock = _dial(listener.address, peer)
        except OSError:
            self._events.peer_dial_failed(connection_id)
            return
        if not self._add(sock, connection_id, listener, is_connecting=True):
            self._events.peer_dial_failed(connection_id)

    def pair(self, connection_id: int, client: DataConnection) -> None:
        """Make a pipe of a peer's connection and a client's, beginning with what waits on either side."""
        peer = self._sockets.get(connection_id)
        if peer is None:  # lost in the meantime
            client.close()
            return
        peer.begin(client)

    def drop(self, connection_id: int) -> None:
        """Close both ends, each after what waits for it. An unknown connection is let pass: it is closed already."""
        peer = self._sockets.pop(connection_id, None)
        if peer is not None and not peer.end():
            self._lingering.add(peer)

    def abort(self) -> None:
        """Close every socket at once, as the service stops."""
        for allocation in list(self._listeners):
            self.close(allocation)
        for peer in [*self._sockets.values(), *self._lingering]:
            peer.abort()
        self._sockets.clear()
        self._lingering.clear()

    def _is_relayed(self, peer: TransportAddress) -> bool:
        relayed = (listener.address for listener in self._listeners.values())
        return any(peer.port == address.port and peer.family == address.family for address in relayed)

    def _accept(self, listener: "_Listener", sock: socket.socket, peer: TransportAddress) -> None:
        connection_id = self._events.peer_accepted(listener.allocation, peer)
        if connection_id is None:
            sock.close()
        elif not self._add(sock, connection_id, listener, is_connecting=False):
            self._events.peer_closed(connection_id)

    def _add(self, sock: socket.socket, connection_id: int, listener: "_Listener", *, is_connecting: bool) -> bool:
        """Watch a peer's socket; False if the kernel has no room for another watch."""
        try:
            self._sockets[connection_id] = _PeerSocket(
                self._loop, self._poller, sock, self._events, connection_id, listener, is_connecting=is_connecting
            )
        except OSError:
            sock.close()
            return False
        self._sockets[connection_id].on_gone = self._lingering.discard
        return True


class _Listener:
    """The listening socket of one allocation, and what its connections have relayed."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        poller: Poller,
        address: TransportAddress,
        on_accepted: "Callable[[_Listener, socket.socket, TransportAddress], None]",
        allocation: int,
    ) -> None:
        self.address = address
        self.allocation = allocation
        self.bytes_to_peer = 0
        self.bytes_to_client = 0
        self._loop = loop
        self._poller = poller
        self._on_accepted = on_accepted
        self._pause: asyncio.TimerHandle | None = None
        self._sock = _listen(address)
        try:
            poller.watch(self._sock.fileno(), self._on_ready)
        except OSError:
            self._sock.close()
            raise

    def traffic(self) -> Traffic:
        return Traffic(0, self.bytes_to_peer, 0, self.bytes_to_client)

    def close(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        self._poller.forget(self._sock.fileno())
        self._sock.close()

    def _on_ready(self, _events: int) -> None:
        """Accept one peer; further ones are reported again."""
        try:
            sock, address = self._sock.accept()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in OUT_OF_RESOURCES:
                self._poller.change(self._sock.fileno(), 0)
                self._pause = self._loop.call_later(_PAUSE_SECONDS, self._go_on)
            return
        sock.setblocking(False)  # noqa: FBT003  # its only argument
        with contextlib.suppress(OSError):  # gone already
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._on_accepted(self, sock, TransportAddress.parse(*address[:2]))

    def _go_on(self) -> None:
        self._pause = None
        self._poller.change(self._sock.fileno(), READABLE)


class _PeerSocket:
    """One connection to a peer: being dialled, waiting for its client, a pipe, or sending what is left."""

    __slots__ = (
        "_client",
        "_connection_id",
        "_events",
        "_is_client_held_back",
        "_is_connecting",
        "_is_held_back",
        "_is_open",
        "_linger",
        "_listener",
        "_loop",
        "_poller",
        "_sock",
        "_waiting",
        "_watched",
        "on_gone",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        poller: Poller,
        sock: socket.socket,
        events: PeerEvents,
        connection_id: int,
        listener: _Listener,
        *,
        is_connecting: bool,
    ) -> None:
        self._loop = loop
        self._poller = poller
        self._sock = sock
        self._events = events
        self._connection_id = connection_id
        self._listener = listener
        self._is_connecting = is_connecting
        self._client: DataConnection | None = None
        self._waiting = bytearray()  # for the peer
        self._is_held_back = False  # the peer, because its client reads slowly
        self._is_client_held_back = False  # and the other way round
        self._is_open = True
        self._linger: asyncio.TimerHandle | None = None
        self.on_gone: Callable[[_PeerSocket], object] | None = None
        self._watched = WRITABLE if is_connecting else 0
        poller.watch(sock.fileno(), self._on_ready, self._watched)

    def begin(self, client: DataConnection) -> None:
        """Become a pipe."""
        self._client = client
        leftover = client.take_over(self._on_client_data, self._on_client_lost, self._on_client_sent)
        self._watch()
        if leftover:
            self._on_client_data(leftover)

    def end(self) -> bool:
        """Close both ends; False if the socket stays a little longer, until the peer has taken what waits for it."""
        client, self._client = self._client, None
        if client is not None:
            client.close()
        if not self._waiting or not self._is_open:
            self.abort()
            return True
        self._linger = self._loop.call_later(LINGER_SECONDS, self.abort)
        self._watch()
        return False

    def abort(self) -> None:
        """Close the peer's socket at once, and the client's connection if there still is one."""
        client, self._client = self._client, None
        if client is not None:
            client.close()
        if not self._is_open:
            return
        self._is_open = False
        if self._linger is not None:
            self._linger.cancel()
        self._poller.forget(self._sock.fileno())
        self._sock.close()
        self._waiting.clear()
        if self.on_gone is not None:
            self.on_gone(self)

    # The peer's side

    def _on_ready(self, events: int) -> None:
        if self._is_connecting:
            self._finish_dial()
            return
        if events & WRITABLE and self._waiting:
            self._flush()
        if not self._is_open:
            return
        if self._watched & READABLE and events & (READABLE | FAILED):
            self._read()
        elif events & FAILED:
            self._break()

    def _finish_dial(self) -> None:
        if self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._events.peer_dial_failed(self._connection_id)
            return
        self._is_connecting = False
        self._watch()
        self._events.peer_dialled(self._connection_id)

    def _read(self) -> None:
        client = self._client
        if client is None:
            return
        try:
            data = self._sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._break()
            return
        if not data:
            self._lose()
            return
        self._listener.bytes_to_client += len(data)
        client.write(data)
        if self._is_open and client.unsent > HIGH_WATER_BYTES:
            self._is_held_back = True
            self._watch()

    def _flush(self) -> None:
        try:
            sent = self._sock.send(self._waiting)
        except BlockingIOError:
            return
        except OSError:
            self._break()
            return
        self._listener.bytes_to_peer += sent
        del self._waiting[:sent]
        if self._client is not None:
            if self._is_client_held_back and len(self._waiting) <= LOW_WATER_BYTES:
                self._is_client_held_back = False
                self._client.resume_reading()
        elif not self._waiting:
            self.abort()  # it only lingered for this
            return
        self._watch()

    def _break(self) -> None:
        self._waiting.clear()  # the peer takes nothing more
        self._lose()

    def _lose(self) -> None:
        if self._linger is not None:
            self.abort()
        else:
            self._events.peer_closed(self._connection_id)

    def _watch(self) -> None:
        wanted = WRITABLE if self._waiting or self._is_connecting else 0
        if self._client is not None and not self._is_held_back:
            wanted |= READABLE
        if wanted != self._watched:
            self._watched = wanted
            self._poller.change(self._sock.fileno(), wanted)

    # The client's side

    def _on_client_data(self, data: bytes) -> None:
        if self._client is None or not self._is_open:
            return
        if not self._waiting:
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._break()
                return
            self._listener.bytes_to_peer += sent
            if sent == len(data):
                return
            data = data[sent:]
        self._waiting += data
        if len(self._waiting) > HIGH_WATER_BYTES and not self._is_client_held_back:
            self._is_client_held_back = True
            self._client.pause_reading()
        self._watch()

    def _on_client_lost(self) -> None:
        if self._client is not None:
            self._events.peer_closed(self._connection_id)

    def _on_client_sent(self) -> None:
        client = self._client
        if client is not None and self._is_held_back and client.unsent <= LOW_WATER_BYTES:
            self._is_held_back = False
            self._watch()


def _listen(address: TransportAddress) -> socket.socket:
    sock = _socket(address)
    try:
        sock.bind(_socket_address(address))
        sock.listen(BACKLOG)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError as error:
        sock.close()
        if error.errno in {errno.EADDRINUSE, errno.EACCES}:
            raise PortTaken(error.errno, os.strerror(error.errno)) from error
        raise
    return sock


def _dial(address: TransportAddress, peer: TransportAddress) -> socket.socket:
    sock = _socket(address)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind(_socket_address(address))
        with contextlib.suppress(BlockingIOError):
            sock.connect(_socket_address(peer))
    except OSError:
        sock.close()
        raise
    return sock


def _socket(address: TransportAddress) -> socket.socket:
    family = socket.AF_INET if len(address.ip) == 4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # an earlier allocation's connections may linger
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock


def _socket_address(address: TransportAddress) -> tuple[str, int]:
    family = socket.AF_INET if len(address.ip) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, address.ip), address.port
