"""A five-tuple to a STUN or TURN server, by UDP or over a stream: requests are repeated, answers find their request."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from typing import Final, Protocol, cast

from check.conversation import TRANSACTION_ID_BYTES, Answer, Conversation, PeerData
from check.findings import Outcome, Step
from check.io.dial import READ_LIMIT_BYTES, Streams, close, connected_datagram_socket, outcome_of, since
from check.plan import REQUEST_SECONDS
from stun.address import TransportAddress
from stun.demux import MIN_CHANNEL, StreamDecoder
from stun.errors import IntegrityError, MessageParseError

RETRANSMIT_SECONDS: Final = 0.35  # the first; each further one waits twice as long (RFC 8489 §6.2.1)
_FIRST_CHANNEL_BYTE: Final = MIN_CHANNEL >> 8
FAREWELL_SECONDS: Final = 0.2  # for the last bytes to leave
MAX_PENDING: Final = 512  # requests without an answer

Request = Callable[[bytes], bytes]  # a transaction id in, a request out


class LinkClosed(ConnectionError):
    """The way broke: the other end closed it, an ICMP error came, or what came was not STUN."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome.value)
        self.outcome = outcome


class Carrier(Protocol):
    """What carries messages."""

    is_reliable: bool

    def send(self, message: bytes) -> None:
        """Send one message."""

    async def close(self) -> None:
        """Give the way up."""


class Link:
    """Requests and answers over one carrier; data of peers goes to `on_data`."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.on_data: Callable[[PeerData, float], None] = lambda _data, _now: None
        self.on_answer: Callable[[Answer, float], None] = lambda _answer, _now: None
        self.is_answered = False  # whether the server has said anything that makes sense
        self.junk = 0  # messages that could not be read
        self._carrier: Carrier | None = None
        self._pending: dict[bytes, asyncio.Future[Answer]] = {}
        self._closed: Outcome | None = None

    @property
    def carrier(self) -> Carrier:
        """What carries the messages.

        Raises:
            LinkClosed: nothing does.
        """
        if self._carrier is None:
            raise LinkClosed(Outcome.NOT_TRIED)
        return self._carrier

    def carried_by(self, carrier: Carrier) -> None:
        """Begin to use a carrier."""
        self._carrier = carrier

    def receive(self, message: bytes) -> None:
        """Take in one message of the server."""
        now = time.monotonic()
        try:
            found = self.conversation.read(message)
        except (MessageParseError, IntegrityError):
            self.junk += 1
            return
        self.is_answered = True
        if isinstance(found, PeerData):
            self.on_data(found, now)
        elif isinstance(found, Answer):
            waiting = self._pending.get(found.transaction_id)
            if waiting is None:
                self.on_answer(found, now)
            elif not waiting.done():
                waiting.set_result(found)

    def broke(self, outcome: Outcome) -> None:
        """The carrier is of no more use: whoever waits is told, and whoever asks from now on."""
        self._closed = self._closed or outcome
        for waiting in self._pending.values():
            if not waiting.done():
                waiting.set_exception(LinkClosed(outcome))

    async def ask(self, request: Request, seconds: float = REQUEST_SECONDS) -> tuple[Answer, float]:
        """Send a request until it is answered; the answer, and the milliseconds since it was first sent.

        Raises:
            TimeoutError: it is not, within `seconds`.
            LinkClosed: the way broke meanwhile.
        """
        if self._closed is not None:
            raise LinkClosed(self._closed)
        if len(self._pending) >= MAX_PENDING:
            raise LinkClosed(Outcome.TIMED_OUT)
        transaction_id = os.urandom(TRANSACTION_ID_BYTES)
        message = request(transaction_id)
        waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._pending[transaction_id] = waiting
        began = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                pause = seconds if self.carrier.is_reliable else RETRANSMIT_SECONDS
                while True:
                    self.carrier.send(message)
                    done, _ = await asyncio.wait([waiting], timeout=pause)
                    if done:
                        return waiting.result(), since(began)
                    pause *= 2
        finally:
            del self._pending[transaction_id]
            if not waiting.cancel() and not waiting.cancelled():
                waiting.exception()  # seen, whoever was cancelled before it could be: else asyncio would log it

    async def step(self, request: Request, expected: int = 0) -> tuple[Step, Answer | None]:
        """Ask, and say what became of it; anything but the error code expected (0: success) counts as rejected."""
        try:
            answer, milliseconds = await self.ask(request)
        except LinkClosed as error:
            return Step(error.outcome), None
        except TimeoutError:
            return Step(Outcome.WRONG_ANSWER if self.junk else Outcome.TIMED_OUT), None
        outcome = Outcome.OK if answer.code == expected else Outcome.REJECTED
        return Step(outcome, milliseconds, answer.code or None), answer

    def send_to_peer(self, peer: TransportAddress, data: bytes) -> None:
        """Send data to a peer, unless the way is broken."""
        self.send(self.conversation.send(os.urandom(TRANSACTION_ID_BYTES), peer, data))

    def send(self, message: bytes) -> None:
        """Send one message that nobody waits for, unless the way is broken."""
        if self._closed is None and self._carrier is not None:
            self._carrier.send(message)

    async def close(self) -> None:
        """Give the way up."""
        self.broke(Outcome.CLOSED)
        if self._carrier is not None:
            await self._carrier.close()


class Datagrams(asyncio.DatagramProtocol):
    """The UDP socket of a link. Use `open_datagram_link`."""

    is_reliable = False

    def __init__(self, link: Link) -> None:
        self._link = link
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast("asyncio.DatagramTransport", transport)  # no subclass of it, but one in all it does

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:  # noqa: ARG002  # the socket is connected
        """Hand on a message."""
        self._link.receive(data)

    def error_received(self, exc: Exception) -> None:
        """An ICMP error: port unreachable, host unreachable, prohibited. After an answer it is stray, or forged."""
        if not self._link.is_answered:
            self._link.broke(outcome_of(exc))

    def send(self, message: bytes) -> None:
        """Send one datagram."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(message)

    async def close(self) -> None:
        """Close the socket."""
        if self._transport is not None:
            self._transport.close()


class _Stream:
    """The TCP or TLS connection of a link."""

    is_reliable = True

    def __init__(self, link: Link, streams: Streams) -> None:
        self._link = link
        self._streams = streams
        self._reading = asyncio.ensure_future(self._read())

    def send(self, message: bytes) -> None:
        if not self._streams.writer.is_closing():
            self._streams.writer.write(message)

    async def close(self) -> None:
        """Let what was written go out, for a moment, then end."""
        with contextlib.suppress(OSError):
            async with asyncio.timeout(FAREWELL_SECONDS):
                await self._streams.writer.drain()
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        await close(self._streams)

    async def _read(self) -> None:
        decoder = StreamDecoder()
        outcome = Outcome.CLOSED
        try:
            while data := await self._streams.reader.read(READ_LIMIT_BYTES):
                # We bind no channel, so no ChannelData comes: what looks like it is another protocol's text.
                if not decoder.buffered and data[0] >= _FIRST_CHANNEL_BYTE:
                    outcome = Outcome.WRONG_ANSWER
                    break
                for message in decoder.receive(data):
                    self._link.receive(message)
        except MessageParseError:
            outcome = Outcome.WRONG_ANSWER
        except OSError as error:
            outcome = outcome_of(error)
        self._link.broke(outcome)


async def open_datagram_link(address: str, port: int, conversation: Conversation) -> Link:
    """A link by UDP.

    Raises:
        OSError: there is no way there.
    """
    link = Link(conversation)
    sock = connected_datagram_socket(address, port)
    _, protocol = await asyncio.get_running_loop().create_datagram_endpoint(lambda: Datagrams(link), sock=sock)
    link.carried_by(protocol)
    return link


def open_stream_link(streams: Streams, conversation: Conversation) -> Link:
    """A link over an open connection, which it will close."""
    link = Link(conversation)
    link.carried_by(_Stream(link, streams))
    return link
