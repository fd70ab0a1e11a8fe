"""Clients over TCP and TLS: who they are, framing, deadlines and a bounded way out (RFC 8656 §2.1, §12.5).

A connection begins with a PROXY header if it comes from a load balancer, then perhaps with a TLS handshake; the first
byte behind that tells STUN from HTTP. ChannelData never comes first, because an allocation belongs to its connection:
so what looks like a channel there is a letter of a HTTP request line, or junk.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable, Sequence
from enum import StrEnum
from time import monotonic
from typing import Final

from relay.datapath import Drop
from relay.errors import NotSent
from relay.five_tuple import FiveTuple, Transport
from relay.io.clients import Buffer, ClientRelay, Clients
from relay.io.handover import StreamTransport
from relay.io.poller import READABLE, WRITABLE, Poller
from relay.io.tls import FEED_BYTES, MAX_PLAINTEXT, TlsSession
from relay.out_queue import MAX_MESSAGE_BYTES, OutQueue
from relay.proxy_protocol import (
    MAX_HEADER,
    ProxyHeader,
    ProxyHeaderError,
    decode_proxy_header,
    may_become_proxy_header,
)
from stun.address import TransportAddress
from stun.demux import MAX_FRAME, find_frames

# A connection that says nothing holds a descriptor for nothing. With TLS the time begins anew after the handshake.
FIRST_MESSAGE_SECONDS: Final = 10.0
ALLOCATION_SECONDS: Final = 60.0  # from the first message, or from the end of an allocation
LINGER_SECONDS: Final = 10.0  # for what waits to be sent when we close
READ_BYTES: Final = 64 << 10  # taken from a connection before the others have their turn
MAX_WRITE: Final = 16_384  # bytes given to the kernel at once, and the most that cannot be taken back: one TLS record
MAX_PIPE_BYTES: Final = 16 << 20  # waiting for a client that was taken over; its owner has to hold back long before

_MAX_DRAINS: Final = 64  # writes to one connection before the others have their turn
_CLOSED: Final = -1
_TLS_HANDSHAKE: Final = 0x16  # the first byte of a ClientHello's record (RFC 7983 §7)
_MAX_STUN_FIRST: Final = 0x03  # the first two bits of a STUN message are zero, and no method needs more (RFC 7983)
_LETTERS: Final = range(ord("A"), ord("Z") + 1)  # how the request line of every HTTP method begins


class Closing(StrEnum):
    """Why we closed a connection; a bounded set, fit for a metric label."""

    BAD_PROXY_HEADER = "bad_proxy_header"
    HANDSHAKE_FAILED = "handshake_failed"
    NO_HANDSHAKE = "no_handshake"
    NO_MESSAGE = "no_message"
    NO_ALLOCATION = "no_allocation"
    MALFORMED = "malformed"
    UNREAD = "unread"
    REPLACED = "replaced"
    LINGERED = "lingered"


class Streams:
    """What all connections of a relay share: where they belong, the buffers they are read into, and counters."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        poller: Poller,
        clients: Clients,
        drops: dict[Drop, int],
        *,
        tls: ssl.SSLContext | None = None,
        proxy_sources: Sequence[str] = (),
        http: Callable[[], asyncio.Protocol] | None = None,
        http_needs_tls: bool = False,
    ) -> None:
        """Prepare for connections.

        Args:
            loop: where deadlines run.
            poller: where sockets are watched.
            clients: the service.
            drops: counts packets that were not relayed.
            tls: server side of TLS; None: a ClientHello is junk.
            proxy_sources: networks whose connections begin with a PROXY header, and only they may.
            http: makes the protocol for a connection that speaks HTTP; None: HTTP is junk.
            http_needs_tls: HTTP is junk on a connection without TLS.
        """
        self.loop = loop
        self.poller = poller
        self.clients = clients
        self.drops = drops
        self.tls = tls
        self.http = http
        self.http_needs_tls = http_needs_tls
        self.set_proxy_sources(proxy_sources)
        self.by_path: dict[FiveTuple, StreamConnection] = {}
        self.closings = dict.fromkeys(Closing, 0)
        # A read goes behind what is left of the frame before; every connection is read and dealt with in one go.
        self.buffer = bytearray(MAX_FRAME + max(READ_BYTES, MAX_PLAINTEXT))
        self.view = memoryview(self.buffer)
        self.window = self.view[:READ_BYTES]
        self.ciphertext = memoryview(bytearray(READ_BYTES))

    def set_proxy_sources(self, networks: Sequence[str]) -> None:
        """Expect a PROXY header from these networks, on connections that begin from now on."""
        self._proxies = tuple(map(ipaddress.ip_network, networks))

    def is_proxy(self, host: str) -> bool:
        """Whether connections from here begin with a PROXY header."""
        if not self._proxies:
            return False
        ip = ipaddress.ip_address(host.partition("%")[0])
        return any(ip in network for network in self._proxies)


class StreamConnection:
    """One TCP or TLS connection of a client."""

    __slots__ = (
        "_client",
        "_committed",
        "_cursor",
        "_deadline",
        "_descriptor",
        "_ending",
        "_events",
        "_has_spoken",
        "_on_data",
        "_on_end",
        "_on_lost",
        "_on_sent",
        "_queue",
        "_read",
        "_recv_into",
        "_relay",
        "_rest",
        "_send",
        "_server",
        "_streams",
        "_take",
        "_tls",
        "_wanted",
        "path",
        "sock",
    )

    pads = True  # RFC 8656 §12.5

    def __init__(
        self,
        streams: Streams,
        sock: socket.socket,
        client: tuple[str, int],
        on_end: Callable[["StreamConnection"], object],
    ) -> None:
        """Begin with a connection that was just accepted.

        Args:
            streams: what it shares with the others.
            sock: connected and non-blocking; it is ours from now on, unless this fails.
            client: its IP address and port, as `accept` tells them.
            on_end: called once, as soon as the connection has ended.

        Raises:
            OSError: it is gone already, or there is no room for another watch.
        """
        self._streams = streams
        self.sock = sock
        self._client = TransportAddress.parse(client[0], client[1])
        self._server = TransportAddress.parse(*sock.getsockname()[:2])
        self.path = FiveTuple(Transport.TCP, self._server, self._client)  # certain from the first message on
        self._on_end = on_end
        self._send = sock.send
        self._recv_into = sock.recv_into
        self._tls: TlsSession | None = None
        self._relay: ClientRelay | None = None
        self._rest = bytearray()  # of an incomplete frame
        self._wanted = 0  # bytes of that frame before it is worth another look
        self._cursor: tuple[int, int] | None = None  # what lies in the shared buffer behind the message in hand
        self._queue: OutQueue | None = None  # only while the kernel takes no more
        self._committed: Buffer = b""  # begun to be sent, or encrypted: the next bytes on the wire
        self._has_spoken = False
        self._ending = False  # nothing is read any more, and the end comes when all is sent
        self._on_data: Callable[[bytes], None] | None = None
        self._on_lost: Callable[[], None] | None = None
        self._on_sent: Callable[[], None] | None = None
        self._read: Callable[[], None] = self._read_opening if streams.is_proxy(client[0]) else self._read_first
        self._take: Callable[[int, int], None] = self._take_first
        self._deadline: asyncio.TimerHandle | None = None
        self._descriptor = sock.fileno()
        self._events = READABLE
        streams.poller.watch(self._descriptor, self._on_ready, READABLE)
        self._close_after(FIRST_MESSAGE_SECONDS)

    # What the service and the forwarding plane ask for

    def attach(self, relay: ClientRelay) -> None:
        """Hand what this client sends to this relay, and let the connection live as long as it."""
        self._relay = relay
        self._lift_deadline()

    def detach(self) -> None:
        """The client has no relay any more, and a minute to ask for another."""
        self._relay = None
        if self._descriptor != _CLOSED and self._on_data is None:
            self._close_after(ALLOCATION_SECONDS)

    def send(self, message: Buffer) -> None:
        """Send one media message, padded; if the connection is full it waits for as long as it is of use."""
        if self._queue is not None:
            self._queue_media(bytes(message), 1)
            return
        tls = self._tls
        wire = message if tls is None else tls.encrypt(message)
        try:
            sent = self._send(wire)
        except BlockingIOError:
            sent = 0
        if sent == len(wire):
            return
        if tls is None and not sent:
            self._wait_for_room()
            self._queue_media(bytes(message), 1)
        else:
            self._commit(wire[sent:])

    def send_burst(self, messages: Buffer, size: int) -> None:
        """Send media messages of `size` bytes each in as few writes, and TLS records, as possible."""
        data = bytes(messages)
        step = max(size, MAX_WRITE // size * size)
        for at in range(0, len(data), step):
            self._send_pieces(data[at : at + step] if len(data) > step else data, size)

    def send_message(self, data: bytes) -> None:
        """Send a STUN message, ahead of media that waits; a client that does not read at all is disconnected."""
        if self._descriptor == _CLOSED or self._ending:
            return
        try:
            self._send_all(data)
        except OSError:
            return  # it is broken, and the poller will say so; the service is busy with its queues
        if self._queue is not None and self._queue.message_bytes > MAX_MESSAGE_BYTES:
            self._streams.loop.call_soon(self._end, Closing.UNREAD)

    def abort(self) -> None:
        """Close without a farewell."""
        self._end(None)

    def give_way(self) -> None:
        """Close in favour of a newer connection with the same five-tuple."""
        self._end(Closing.REPLACED)

    # RFC 6062 and HTTP: the connection becomes a pipe

    def take_over(
        self,
        on_data: Callable[[bytes], None],
        on_lost: Callable[[], None],
        on_sent: Callable[[], None] | None = None,
    ) -> bytes:
        """Turn the connection into a raw pipe: from now on it is not ours to understand.

        No deadline holds any more, and no message of ours is sent, save what waited already. To hold one side back
        while the other is slow, look at `unsent` after each `write`, pause what is read on the far side when it is too
        much, and go on when `on_sent` finds it small enough again. `Clients.disconnected` is called at the end as for
        any connection that was registered.

        Args:
            on_data: takes bytes as they come; after `pause_reading` those of one read may still follow.
            on_lost: called once when the connection has ended, whoever ended it.
            on_sent: called whenever some of what waited has gone to the kernel.

        Returns:
            what the client has sent behind the message in hand; the pipe begins with it.
        """
        self._lift_deadline()
        self._relay = None
        self._on_data, self._on_lost, self._on_sent = on_data, on_lost, on_sent
        self._take = self._take_raw
        if self._cursor is None:
            leftover = bytes(self._rest)
        else:
            start, end = self._cursor
            leftover = bytes(self._streams.view[start:end])
        self._rest = bytearray()
        return leftover

    @property
    def unsent(self) -> int:
        """Bytes that wait until the kernel takes more."""
        return len(self._committed) + (0 if self._queue is None else len(self._queue))

    @property
    def is_closing(self) -> bool:
        """Whether the connection has ended, or will as soon as all is sent."""
        return self._ending or self._descriptor == _CLOSED

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """TLS, if the client speaks it."""
        return None if self._tls is None else self._tls.ssl_object

    def write(self, data: Buffer) -> None:
        """Send bytes of the pipe; nothing of them is ever dropped, and beyond `MAX_PIPE_BYTES` the connection ends."""
        if self.is_closing or not data:
            return
        view = memoryview(data).cast("B")
        try:
            for at in range(0, len(view), MAX_WRITE):
                self._send_all(view[at : at + MAX_WRITE])
        except OSError:
            self._end(None)
        if self.unsent > MAX_PIPE_BYTES:
            self._end(Closing.UNREAD)

    def pause_reading(self) -> None:
        """Leave what the client sends to the kernel, whose window then closes."""
        if not self.is_closing:
            self._watch_for(self._events & ~READABLE)

    def resume_reading(self) -> None:
        """Read again."""
        if not self.is_closing:
            self._watch_for(self._events | READABLE)

    def close(self) -> None:
        """Send what waits, say good-bye if it is TLS, then close."""
        if self.is_closing:
            return
        self._ending = True
        if self._queue is None:
            self._say_goodbye()
        else:
            self._watch_for(WRITABLE)
            self._close_after(LINGER_SECONDS)

    # Reading

    def _on_ready(self, events: int) -> None:
        if events == READABLE:
            self._read()
            return
        if events & WRITABLE:
            self._drain()
        if events & ~WRITABLE and self._descriptor != _CLOSED:
            if self._events & READABLE:
                self._read()
            elif events & ~(WRITABLE | READABLE):  # broken, and nobody reads: epoll would tell it for ever
                self._end(None)

    def _read_opening(self) -> None:
        """Read the PROXY header, and nothing of what is behind it."""
        try:
            data = self.sock.recv(MAX_HEADER, socket.MSG_PEEK)
            if data:
                begun = bytes(self._rest)
                header = decode_proxy_header(begun + data)
                # What is taken away cannot wake us again: epoll would tell of half a header for ever.
                taken = self.sock.recv(len(data) if header is None else header.length - len(begun))
                if header is None:
                    self._rest += taken
                    return
                self._rest = bytearray()
                self._learn_client(header)
                return
        except BlockingIOError:
            return
        except ProxyHeaderError:
            self._end(Closing.BAD_PROXY_HEADER)
            return
        except OSError:
            pass
        self._end(None)

    def _learn_client(self, header: ProxyHeader) -> None:
        if header.client is not None:
            self._client = header.client
        self._read = self._read_first

    def _read_first(self) -> None:
        """Tell TLS from everything else; the byte stays where it is."""
        try:
            first = self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            first = b""
        if not first:
            self._end(None)
        elif first[0] == _TLS_HANDSHAKE and self._streams.tls is not None:
            self._tls = TlsSession(self._streams.tls)
            self._read = self._read_handshake
            self._read()
        else:
            self._read = self._read_plain
            self._read()

    def _read_handshake(self) -> None:
        tls = self._tls
        assert tls is not None  # noqa: S101  # for the type checker; set where this method is
        at, size = 0, self._receive_ciphertext()
        done = False
        try:
            while at < size and not done:
                end = min(at + FEED_BYTES, size)
                done = tls.shake_hands(self._streams.ciphertext[at:end])
                at = end
        except OSError:
            self._send_last(tls.take_output())
            self._end(Closing.HANDSHAKE_FAILED)
            return
        self._say(tls.take_output())
        if done and not self.is_closing:
            self._read = self._read_tls
            self._close_after(FIRST_MESSAGE_SECONDS)
            self._take_records(b"")  # the client may have spoken on in the same breath
            self._take_pieces(at, size)

    def _receive_ciphertext(self) -> int:
        """Read from the wire into the shared buffer; returns how much came, 0 if nothing or the end."""
        try:
            size = self._recv_into(self._streams.ciphertext)
        except BlockingIOError:
            return 0
        except OSError:
            size = 0
        if not size:
            self._reach_end()
        return size

    def _read_tls(self) -> None:
        size = self._receive_ciphertext()
        if 0 < size <= FEED_BYTES:
            self._take_records(self._streams.ciphertext[:size])
        elif size:
            self._take_pieces(0, size)

    def _take_pieces(self, start: int, end: int) -> None:
        """Decrypt `ciphertext[start:end]` bit by bit, so that the session's own buffer stays small."""
        for at in range(start, end, FEED_BYTES):
            self._take_records(self._streams.ciphertext[at : min(at + FEED_BYTES, end)])
            if self.is_closing:
                return

    def _take_records(self, ciphertext: memoryview | bytes) -> None:
        tls = self._tls
        assert tls is not None  # noqa: S101  # for the type checker; set where this method is
        start = len(self._rest)
        try:
            end, is_last = tls.decrypt_into(self._streams.view, start, ciphertext)
        except OSError:
            self._send_last(tls.take_output())
            self._fail()
            return
        if end > start:
            self._take(start, end)
        if is_last:
            self._send_last(tls.close_notify())
            self._reach_end()
        elif tls.has_output():
            self._say(tls.take_output())

    def _read_plain(self) -> None:
        start = len(self._rest)
        try:
            if start:
                size = self._recv_into(self._streams.view[start : start + READ_BYTES])
            else:
                size = self._recv_into(self._streams.window)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if size:
            self._take(start, start + size)
        else:
            self._reach_end()

    # What was read: `buffer[start:end]` is new, and in front of it there is room for the rest of what came before

    def _take_first(self, start: int, end: int) -> None:
        """Tell STUN from HTTP by the first byte."""
        streams = self._streams
        streams.view[:start] = self._rest
        first = streams.buffer[0]
        if first <= _MAX_STUN_FIRST:
            self._rest = bytearray()
            self._begin()
            self._take_frames(0, end)
        elif first in _LETTERS and streams.http is not None and (self._tls is not None or not streams.http_needs_tls):
            head = bytes(streams.view[: min(end, MAX_HEADER)])
            if not may_become_proxy_header(head):
                self._hand_over(streams.http(), end)
            elif len(head) < len("PROXY "):
                self._rest = bytearray(head)
            else:
                self._fail()
        else:
            self._fail()

    def _begin(self) -> None:
        """A TURN client has begun to speak: register it."""
        streams = self._streams
        kind = Transport.TCP if self._tls is None else Transport.TLS
        self.path = FiveTuple(kind, self._server, self._client)
        older = streams.by_path.get(self.path)
        if older is not None:  # a load balancer that uses a client's address again has closed the older one
            older.give_way()
        streams.by_path[self.path] = self
        self._take = self._take_frames
        streams.clients.connected(self)

    def _hand_over(self, protocol: asyncio.Protocol, end: int) -> None:
        self._cursor = 0, end
        try:
            StreamTransport(self._streams.loop, self, protocol, self._client, self._server).begin()
        finally:
            self._cursor = None

    def _take_frames(self, start: int, end: int) -> None:
        """Cut the stream into messages and hand each to the relay or to the control plane."""
        buffer, view = self._streams.buffer, self._streams.view
        if start:
            if end < self._wanted:
                self._rest += view[start:end]
                return
            view[:start] = self._rest
            self._rest = bytearray()
        bounds, at, wanted, fault = find_frames(buffer, 0, end)
        if bounds and not self._dispatch(bounds, end):
            return
        if fault is not None:
            self._fail()
        elif at < end:
            self._rest = bytearray(view[at:end])
            self._wanted = wanted

    def _dispatch(self, bounds: list[tuple[int, int]], end: int) -> bool:
        """Hand over the messages at `bounds`; False if what is behind the last of them is not ours to read."""
        streams = self._streams
        buffer, view = streams.buffer, streams.view
        relay = self._relay
        if not self._has_spoken:
            self._has_spoken = True
            self._close_after(ALLOCATION_SECONDS)
        now = monotonic()
        for first, last in bounds:
            if relay is not None:
                if relay.from_client(view, first, last, now):
                    continue
                relay.flush()  # what was collected goes out before the control plane changes anything
            elif buffer[first] > _MAX_STUN_FIRST:
                streams.drops[_NO_ALLOCATION] += 1
                continue
            self._cursor = last, end
            try:
                streams.clients.receive(bytes(view[first:last]), self.path)
            finally:
                self._cursor = None
            if self._on_data is not None or self.is_closing:
                return False
            relay = self._relay
        if relay is not None:
            relay.flush()
        return True

    def _take_raw(self, start: int, end: int) -> None:
        if self._on_data is not None:
            self._on_data(bytes(self._streams.view[start:end]))

    def _reach_end(self) -> None:
        """The client sends no more: a pipe still empties itself, an allocation has nobody to answer to."""
        if self._on_data is not None and self._queue is not None:
            self.close()
        else:
            self._end(None)

    def _fail(self) -> None:
        self._streams.drops[Drop.MALFORMED] += 1
        self._end(Closing.MALFORMED)

    # Writing

    def _send_pieces(self, data: bytes, size: int) -> None:
        """Send messages of `size` bytes each, `MAX_WRITE` bytes at most."""
        if self._queue is not None:
            self._queue_media(data, -(-len(data) // size))
            return
        tls = self._tls
        wire = data if tls is None else tls.encrypt(data)
        try:
            sent = self._send(wire)
        except BlockingIOError:
            sent = 0
        if sent == len(wire):
            return
        if tls is not None:
            self._commit(wire[sent:])
            return
        boundary = -(-sent // size) * size
        self._commit(data[sent:boundary])
        if boundary < len(data):
            self._queue_media(data[boundary:], -(-(len(data) - boundary) // size))

    def _send_all(self, data: Buffer) -> None:
        """Send bytes that are never dropped, `MAX_WRITE` at most.

        Raises:
            OSError: the connection is broken; it is told by the poller, too.
        """
        if self._queue is not None:
            self._queue.put_message(bytes(data))
            return
        wire = data if self._tls is None else self._tls.encrypt(data)
        try:
            sent = self._send(wire)
        except BlockingIOError:
            sent = 0
        if sent != len(wire):
            self._commit(wire[sent:])

    def _say(self, wire: bytes) -> None:
        """Send what the TLS session has to say by itself, behind what is on the wire already."""
        if not wire or self._descriptor == _CLOSED:
            return
        if self._queue is not None:
            self._committed = bytes(self._committed) + wire
            return
        try:
            sent = self._send(wire)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._end(None)
            return
        if sent != len(wire):
            self._commit(wire[sent:])

    def _send_last(self, wire: bytes) -> None:
        """Send an alert if there is room; whoever is told has no claim to it."""
        if wire and self._queue is None:
            try:
                self._send(wire)
            except OSError:
                return

    def _commit(self, wire: Buffer) -> None:
        """These bytes are the next ones on the wire, because a part of them is there, or because they are encrypted."""
        self._committed = bytes(wire)
        self._wait_for_room()

    def _wait_for_room(self) -> None:
        self._queue = OutQueue()
        self._watch_for(self._events | WRITABLE)

    def _queue_media(self, data: bytes, count: int) -> None:
        queue = self._queue
        if self._ending or queue is None:
            raise NotSent(Drop.SEND_FAILED)
        queue.put_media(data, count, monotonic())
        if queue.dropped:
            self._count_dropped(queue)

    def _count_dropped(self, queue: OutQueue) -> None:
        self._streams.drops[_CLIENT_SLOW] += queue.dropped
        queue.dropped = 0

    def _drain(self) -> None:
        """The kernel takes more: what has begun, STUN messages, then media that is still of use."""
        queue, tls = self._queue, self._tls
        if queue is None:
            return
        now = monotonic()
        for _ in range(_MAX_DRAINS):
            wire = self._committed
            if not wire:
                data = queue.take(now, MAX_WRITE)
                if queue.dropped:
                    self._count_dropped(queue)
                if not data:
                    self._queue = None
                    break
                wire = data if tls is None else tls.encrypt(data)
            try:
                sent = self._send(wire)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._end(None)
                return
            self._committed = wire[sent:]
            if self._committed:
                break
        if self._queue is None:
            if self._ending:
                self._say_goodbye()
                return
            self._watch_for(self._events & ~WRITABLE)
        if self._on_sent is not None:
            self._on_sent()

    # Ending

    def _say_goodbye(self) -> None:
        if self._tls is not None:
            self._send_last(self._tls.close_notify())
        self._end(None)

    def _watch_for(self, events: int) -> None:
        if events != self._events:
            self._events = events
            self._streams.poller.change(self._descriptor, events)

    def _close_after(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._streams.loop.call_later(seconds, self._expire)

    def _expire(self) -> None:
        if self._ending:
            self._end(Closing.LINGERED)
        elif self._has_spoken:
            self._end(Closing.NO_ALLOCATION)
        elif self._tls is not None and self._read == self._read_handshake:
            self._end(Closing.NO_HANDSHAKE)
        else:
            self._end(Closing.NO_MESSAGE)

    def _lift_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end(self, reason: Closing | None) -> None:
        """Close the socket and tell everybody, once; `reason` only if it was our wish."""
        if self._descriptor == _CLOSED:
            return
        streams = self._streams
        if reason is not None:
            streams.closings[reason] += 1
        self._lift_deadline()
        streams.poller.forget(self._descriptor)
        self._descriptor = _CLOSED
        self._queue, self._committed, self._rest = None, b"", bytearray()
        self._read, self._take = _read_nothing, _take_nothing  # our own methods would keep us from being freed
        self.sock.close()
        self._on_end(self)
        if streams.by_path.get(self.path) is self:
            del streams.by_path[self.path]
            streams.clients.disconnected(self)
        on_lost, self._on_data, self._on_lost, self._on_sent = self._on_lost, None, None, None
        if on_lost is not None:
            on_lost()


def _read_nothing() -> None:
    """Stand in for the way an ended connection was read."""


def _take_nothing(start: int, end: int) -> None:
    """Stand in for what was done with the bytes of an ended connection."""


# On the packet path: looking a member up in its class costs more than the rest of the line.
_NO_ALLOCATION: Final = Drop.NO_ALLOCATION
_CLIENT_SLOW: Final = Drop.CLIENT_SLOW
