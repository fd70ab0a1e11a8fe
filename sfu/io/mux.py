"""One UDP port for everything: STUN, DTLS, SRTP and SRTCP of all clients (RFC 7983).

Media and DTLS are only taken from addresses that were admitted, which follows on a check with integrity. What the
kernel does not take at once waits, a little for each address, and what cannot wait is counted.
"""

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

from sfu.media_engine import SessionId
from stun.address import IPV4, TransportAddress

MAX_DATAGRAM_BYTES: Final = 2048  # longer ones are of nobody that we serve: browsers stay below 1500
MAX_BATCH: Final = 64  # datagrams per readiness event, for the other sockets' and the timers' sake
MAX_QUEUED: Final = 128  # datagrams that wait for one address: 50 ms of a picture at 25 Mbit/s
MAX_WAITING_ADDRESSES: Final = 1024
# Of one session, from all its addresses: a camera in three sizes, a screen, sound and repairs are about 600 a second.
# One that sends more is forwarded to nineteen others, and would take the CPU from all other rooms.
MEDIA_PER_SECOND: Final = 1500
MEDIA_AT_ONCE: Final = 3000
SOCKET_BUFFER_BYTES: Final = 4 << 20  # the default of 208 KiB drops a quarter of 12,000 packets per second

_BUFFER_BYTES: Final = 1 << 16  # any datagram fits, so that none is taken for a shorter one
_SO_SNDBUFFORCE: Final = 32  # Linux, socket(7); missing in the socket module
_SO_RCVBUFFORCE: Final = 33
# The first byte (RFC 7983 §7).
_STUN_MAX: Final = 3
_DTLS_MIN: Final = 20
_DTLS_MAX: Final = 63
_MEDIA_MIN: Final = 128
_MEDIA_MAX: Final = 191

SocketAddress = tuple[str, int] | tuple[str, int, int, int]


class MuxCount(StrEnum):
    """What a mux counts; a bounded set, fit for a metric label."""

    STUN = "stun"
    DTLS = "dtls"
    MEDIA = "media"
    MEDIA_LIMITED = "media_limited"  # more packets of one session than MEDIA_PER_SECOND
    UNKNOWN_SOURCE = "unknown_source"  # media or DTLS from an address that was not admitted
    TOO_LONG = "too_long"
    JUNK = "junk"  # empty, or a first byte of no protocol
    SCOPED = "scoped"  # from an IPv6 address that is valid on one link only
    QUEUED = "queued"  # waited because the kernel was full
    QUEUE_FULL = "queue_full"  # dropped, because too many would have waited for one address, or at too many
    FORGOTTEN = "forgotten"  # dropped with the address that it waited for, or meant for one that is not admitted
    SEND_FAILED = "send_failed"


# Looking a member up in its class costs more than the rest of the line.
_COUNT_MEDIA: Final = MuxCount.MEDIA
_MEDIA_LIMITED: Final = MuxCount.MEDIA_LIMITED
_FORGOTTEN: Final = MuxCount.FORGOTTEN
_SEND_FAILED: Final = MuxCount.SEND_FAILED


class MuxHandler(Protocol):
    """Who gets what arrives. A memoryview is good until the call returns."""

    def receive_stun(self, datagram: bytes, source: TransportAddress, now: float) -> bytes | None:
        """Take a STUN message; returns what to send back."""

    def receive_dtls(self, session: SessionId, datagram: memoryview, now: float) -> None:
        """Take a DTLS datagram from an admitted address."""


class Gathering(Protocol):
    """What an engine gathers to send it at once (`sfu.io.express.Outbox`)."""

    is_blocked: bool  # whether it must not send by itself, so that nothing overtakes what waits

    def flush(self) -> None:
        """Send what was gathered, or hand it to `UdpMux.send`."""

    def close(self) -> None:
        """Do so for the last time."""


MediaReceiver = Callable[[SessionId, memoryview, float], None]


class _Inlet:
    """How much media a session may send; all its addresses share it."""

    __slots__ = ("filled_at", "left", "session")

    def __init__(self, session: SessionId, now: float) -> None:
        self.session = session
        self.left = MEDIA_AT_ONCE
        self.filled_at = now

    def refill(self, now: float) -> bool:
        """Give anew what time has brought since the last time; whether there is any."""
        brought = min(int((now - self.filled_at) * MEDIA_PER_SECOND), MEDIA_AT_ONCE)
        if brought:
            self.left = brought
            self.filled_at = now
        return brought > 0


class _Route(NamedTuple):
    port: "_Port"
    to: SocketAddress


class UdpMux:
    """The sockets of a worker, at most one for each address family."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        handler: MuxHandler,
        receive_media: MediaReceiver,
        gathering: Gathering | None = None,
    ) -> None:
        """Begin to receive; an event loop has to run.

        Args:
            sockets: bound and non-blocking; `close` closes them.
            handler: gets STUN and DTLS.
            receive_media: gets SRTP and SRTCP (`MediaEngine.receive`).
            gathering: is let go after each batch of arrivals.

        Raises:
            ValueError: two sockets are of one family.
        """
        if len({each.family for each in sockets}) != len(sockets):
            raise ValueError("a mux has one socket for each address family")
        self.counts: Final[dict[MuxCount, int]] = dict.fromkeys(MuxCount, 0)
        self._handler = handler
        self._receive_media = receive_media
        self._gathering = gathering
        self._routes: dict[TransportAddress, _Route] = {}
        self._inlets: dict[SessionId, _Inlet] = {}
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._ports = {_ip_bytes(each): _Port(each, self.counts) for each in sockets}
        self._loop = asyncio.get_running_loop()
        for port in self._ports.values():
            self._loop.add_reader(port.sock.fileno(), self._on_ready, port)

    def close(self) -> None:
        """Stop receiving; what still waits is dropped and counted."""
        self.flush()
        if self._gathering is not None:
            self._gathering.close()
        for address in list(self._routes):
            self.forget(address)
        for port in self._ports.values():
            self._loop.remove_reader(port.sock.fileno())
            port.close()
        self._ports.clear()

    def admit(self, address: TransportAddress, session: SessionId) -> None:
        """Take DTLS from this address as of this session.

        Raises:
            KeyError: there is no socket for its family.
        """
        port = self._ports[len(address.ip)]
        to = _socket_address(address)
        self._routes[address] = _Route(port, to)
        port.sessions[to] = session

    def admit_media(self, address: TransportAddress) -> None:
        """Take media from this address, too: its session has keys.

        Raises:
            KeyError: the address was not admitted.
        """
        port, to = self._routes[address]
        session = port.sessions[to]
        inlet = self._inlets.get(session)
        if inlet is None:
            inlet = self._inlets[session] = _Inlet(session, time.monotonic())
        port.media[to] = inlet

    def forget_session(self, session: SessionId) -> None:
        """Forget how much media a session has sent, known or not; its addresses are forgotten one by one."""
        self._inlets.pop(session, None)

    def forget(self, address: TransportAddress) -> None:
        """Take nothing more from this address, and drop what waits for it.

        Raises:
            KeyError: the address was not admitted.
        """
        if address in self._routes:
            self.flush()  # what was gathered may be for it, and is not asked again where it goes
        port, to = self._routes.pop(address)
        del port.sessions[to]
        port.media.pop(to, None)
        port.drop_queue(to)

    def send(self, datagram: bytes | memoryview, address: TransportAddress) -> None:
        """Send to an address, or let it wait until the kernel has room; never blocks, drops only what it counts.

        Args:
            datagram: is copied if it has to wait.
            address: nothing goes to one that was not admitted, or was forgotten: nobody has agreed to get it.
        """
        route = self._routes.get(address)
        if route is None:
            self.counts[_FORGOTTEN] += 1
        else:
            route.port.send(datagram, route.to)

    def flush(self) -> None:
        """Let go what was gathered; to be called after whatever makes an engine send."""
        gathering = self._gathering
        if gathering is not None:
            gathering.is_blocked = any(port.waits for port in self._ports.values())
            gathering.flush()

    def _on_ready(self, port: "_Port") -> None:
        try:
            self._receive_batch(port)
        finally:  # whatever became of the last one, those before it are to leave
            self.flush()

    def _receive_batch(self, port: "_Port") -> None:
        buffer, view, counts, media, receive, monotonic = (
            self._buffer,
            self._view,
            self.counts,
            port.media,
            port.sock.recvfrom_into,
            time.monotonic,
        )
        for _ in range(MAX_BATCH):
            try:
                size, source = receive(buffer)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error of an earlier datagram
            # For each datagram anew: what it sets off leaves then, and a time of departure that lies back looks like a
            # delay of the path.
            now = monotonic()
            is_media = size and _MEDIA_MIN <= buffer[0] <= _MEDIA_MAX and size <= MAX_DATAGRAM_BYTES
            if is_media and (inlet := media.get(source)) is not None:
                if inlet.left or inlet.refill(now):
                    inlet.left -= 1
                    counts[_COUNT_MEDIA] += 1
                    self._receive_media(inlet.session, view[:size], now)
                else:
                    counts[_MEDIA_LIMITED] += 1
            else:
                counts[self._receive_other(port, size, source, now)] += 1
            if not port.is_open:
                return  # what came has closed us

    def _receive_other(self, port: "_Port", size: int, source: SocketAddress, now: float) -> MuxCount:
        if not size:
            return MuxCount.JUNK
        if size > MAX_DATAGRAM_BYTES:
            return MuxCount.TOO_LONG
        first = self._buffer[0]
        if first <= _STUN_MAX:
            return self._receive_stun(port, size, source, now)
        if _DTLS_MIN <= first <= _DTLS_MAX:
            session = port.sessions.get(source)
            if session is None:
                return MuxCount.UNKNOWN_SOURCE
            self._handler.receive_dtls(session, self._view[:size], now)
            return MuxCount.DTLS
        return MuxCount.UNKNOWN_SOURCE if _MEDIA_MIN <= first <= _MEDIA_MAX else MuxCount.JUNK

    def _receive_stun(self, port: "_Port", size: int, source: SocketAddress, now: float) -> MuxCount:
        if len(source) == 4 and source[3]:
            return MuxCount.SCOPED
        address = TransportAddress(socket.inet_pton(port.sock.family, source[0]), source[1])
        response = self._handler.receive_stun(bytes(self._view[:size]), address, now)
        if response is not None and port.is_open:
            port.send(response, source)
        return MuxCount.STUN


class _Port:
    """One socket with what waits to be sent."""

    def __init__(self, sock: socket.socket, counts: dict[MuxCount, int]) -> None:
        self.sock: Final = sock
        self.sessions: Final[dict[SocketAddress, SessionId]] = {}
        self.media: Final[dict[SocketAddress, _Inlet]] = {}
        self.is_open = True
        self._counts = counts
        self._queues: dict[SocketAddress, deque[bytes]] = {}
        self._loop = asyncio.get_running_loop()
        _enlarge_buffers(sock)

    def close(self) -> None:
        self.is_open = False
        for to in list(self._queues):
            self.drop_queue(to)
        self.sock.close()

    @property
    def waits(self) -> bool:
        """Whether anything waits to be sent."""
        return bool(self._queues)

    def send(self, datagram: bytes | memoryview, to: SocketAddress) -> None:
        if self._queues:  # nothing overtakes what waits
            self._enqueue(datagram, to)
            return
        try:
            self.sock.sendto(datagram, to)
        except BlockingIOError:
            self._enqueue(datagram, to)
            self._loop.add_writer(self.sock.fileno(), self._on_writable)
        except OSError:
            self._counts[_SEND_FAILED] += 1

    def drop_queue(self, to: SocketAddress) -> None:
        queue = self._queues.pop(to, None)
        if queue is not None:
            self._counts[MuxCount.FORGOTTEN] += len(queue)
            self._rest_if_idle()

    def _enqueue(self, datagram: bytes | memoryview, to: SocketAddress) -> None:
        queue = self._queues.get(to)
        if queue is None:
            if len(self._queues) == MAX_WAITING_ADDRESSES:
                self._counts[MuxCount.QUEUE_FULL] += 1
                return
            queue = self._queues[to] = deque()
        if len(queue) == MAX_QUEUED:
            queue.popleft()  # the oldest one is worth least
            self._counts[MuxCount.QUEUE_FULL] += 1
        queue.append(bytes(datagram))
        self._counts[MuxCount.QUEUED] += 1

    def _on_writable(self) -> None:
        """Send what waits, in turns, so that a long queue does not hold up a short one."""
        for _ in range(MAX_BATCH):
            if not self._queues:
                break
            to = next(iter(self._queues))
            queue = self._queues.pop(to)
            try:
                self.sock.sendto(queue[0], to)
            except BlockingIOError:
                self._queues[to] = queue
                return
            except OSError:
                self._counts[_SEND_FAILED] += 1
            queue.popleft()
            if queue:
                self._queues[to] = queue
        self._rest_if_idle()

    def _rest_if_idle(self) -> None:
        if not self._queues:
            self._loop.remove_writer(self.sock.fileno())


def bind_udp(address: TransportAddress) -> socket.socket:
    """Make a socket for a mux.

    Args:
        address: of one interface, or the unspecified one on a machine with a single address of that family: answers
            must leave from where the question came in.

    Raises:
        OSError: the address cannot be bound.
    """
    family = socket.AF_INET if address.family == IPV4 else socket.AF_INET6
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)  # noqa: FBT003  # its only argument
        sock.bind(_socket_address(address))
    except OSError:
        sock.close()
        raise
    return sock


def _socket_address(address: TransportAddress) -> SocketAddress:
    if address.family == IPV4:
        return socket.inet_ntop(socket.AF_INET, address.ip), address.port
    return socket.inet_ntop(socket.AF_INET6, address.ip), address.port, 0, 0


def _ip_bytes(sock: socket.socket) -> int:
    """How long packed addresses of the family of a socket are."""
    return 4 if sock.family == socket.AF_INET else 16


def _enlarge_buffers(sock: socket.socket) -> None:
    """Let a socket that all clients share hold a burst of them, as far as the kernel permits."""
    for forced, plain in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, forced, SOCKET_BUFFER_BYTES)
        except PermissionError:  # without CAP_NET_ADMIN the limits net.core.rmem_max and wmem_max hold
            sock.setsockopt(socket.SOL_SOCKET, plain, SOCKET_BUFFER_BYTES)
