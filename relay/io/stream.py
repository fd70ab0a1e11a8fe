"""Clients over TCP and TLS: framing, deadlines and a bounded way out (RFC 8656 §2.1, §12.5)."""

import asyncio
import time
from typing import Final, Protocol, cast

from relay.five_tuple import FiveTuple, Transport
from relay.io.clients import Buffer, ClientLink, ClientRelay
from relay.io.datapath.plain import Drop, NotSent, PlainDataPath
from stun.address import TransportAddress
from stun.demux import StreamDecoder
from stun.errors import MessageParseError

FIRST_MESSAGE_SECONDS: Final = 10.0  # a connection that says nothing holds a descriptor for nothing
ALLOCATION_SECONDS: Final = 60.0  # from the first message, or from the end of an allocation
MAX_MEDIA_OUT_BYTES: Final = 256 << 10  # beyond it media is dropped, as a full router queue would; STUN is kept
MAX_OUT_BYTES: Final = 1 << 20  # beyond it the client does not read at all, and the connection is closed


class StreamOwner(Protocol):
    """Who a connection belongs to."""

    def connection_opened(self, connection: "StreamConnection") -> None:
        """Register a connection."""
        ...

    def connection_closed(self, connection: "StreamConnection") -> None:
        """Forget a connection, and the allocation that came over it."""
        ...

    def receive(self, data: bytes, path: FiveTuple) -> None:
        """Take a message that is not for the forwarding plane."""
        ...


class StreamLink:
    """The forwarding plane's way to the client of a connection."""

    pads = True

    def __init__(self, connection: "StreamConnection") -> None:
        self._connection = connection

    def send(self, message: Buffer) -> None:
        """Send one whole message."""
        self._connection.send_media(message)

    def send_burst(self, parts: list[Buffer], _size: int) -> None:
        """Send several messages."""
        self._connection.send_media(b"".join(parts))


class StreamConnection(asyncio.Protocol):
    """One TCP or TLS connection of a client."""

    path: FiveTuple

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport_kind: Transport, plane: PlainDataPath, owner: StreamOwner
    ) -> None:
        self._loop = loop
        self._kind = transport_kind
        self._plane = plane
        self._owner = owner
        self._decoder = StreamDecoder()
        self._relay: ClientRelay | None = None
        self._transport: asyncio.Transport | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._has_spoken = False
        self.ended: asyncio.Future[None] = loop.create_future()  # done as soon as the connection is lost

    def connection_made(self, base: asyncio.BaseTransport) -> None:
        """Learn the five-tuple and give the client ten seconds for its first message."""
        transport = cast("asyncio.Transport", base)  # uvloop's transports are of no common class
        client, server = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if client is None or server is None:  # gone before we looked
            transport.abort()
            return
        self._transport = transport
        self.path = FiveTuple(self._kind, TransportAddress.parse(*server[:2]), TransportAddress.parse(*client[:2]))
        self._owner.connection_opened(self)
        self._close_after(FIRST_MESSAGE_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # why it broke changes nothing
        """Let go of the allocation: it lives as long as its connection."""
        if self._deadline is not None:
            self._deadline.cancel()
        if not self.ended.done():
            self.ended.set_result(None)
        if self._transport is not None:
            self._transport = None
            self._owner.connection_closed(self)

    def data_received(self, data: bytes) -> None:
        """Cut the stream into messages and hand each to the relay or to the control plane."""
        try:
            frames = self._decoder.receive(data)
        except MessageParseError:
            self._plane.drops[Drop.MALFORMED] += 1
            self.abort()
            return
        if frames and not self._has_spoken:
            self._has_spoken = True
            self._close_after(ALLOCATION_SECONDS)
        now = time.monotonic()
        for frame in frames:
            relay = self._relay
            if relay is not None and relay.from_client(memoryview(frame), 0, len(frame), now):
                relay.flush()
            elif frame[0] >= 0x40:
                self._plane.drops[Drop.NO_ALLOCATION] += 1
            else:
                self._owner.receive(frame, self.path)

    def link(self) -> ClientLink:
        """How relayed messages reach this client."""
        return StreamLink(self)

    def attach(self, relay: ClientRelay) -> None:
        """Hand what this client sends to this relay, and let the connection live as long as it."""
        self._relay = relay
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def detach(self) -> None:
        """The client has no relay any more, and a minute to ask for another."""
        self._relay = None
        if self._transport is not None:
            self._close_after(ALLOCATION_SECONDS)

    def send(self, data: bytes) -> None:
        """Send a STUN message; a client that does not read at all is disconnected."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size() > MAX_OUT_BYTES:
            self.abort()
            return
        transport.write(data)

    def abort(self) -> None:
        """Close without a farewell."""
        if self._transport is not None:
            self._transport.abort()

    def send_media(self, message: Buffer) -> None:
        """Send relayed data, unless too much of it waits already."""
        transport = self._transport
        if transport is None or transport.is_closing():
            raise NotSent(Drop.SEND_FAILED)
        if transport.get_write_buffer_size() > MAX_MEDIA_OUT_BYTES:
            raise NotSent(Drop.CLIENT_SLOW)
        transport.write(bytes(message))  # it lies in a buffer that the next packet overwrites

    def _close_after(self, seconds: float) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._loop.call_later(seconds, self.abort)
