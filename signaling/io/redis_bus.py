"""The bus between signaling nodes, over Redis: who has which room, what they say to each other (docs/nodes.md).

Two connections: one listens to this node's channel, one carries every command in order. When either fails, both are
given up, and the node comes back under another id: so nothing that was lost on the way goes unnoticed by anybody.
"""

import asyncio
import logging
import math
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from signaling.exchange import Placement, Post, Release, Save
from signaling.io.bus_metrics import BusFault, BusMetrics
from signaling.io.redis_scripts import CLAIM, RELEASE, SAVE
from signaling.io.websocket import BusError
from signaling.node_cipher import MAX_SENDERS, SEAL_BYTES, CipherError, NodeCipher
from signaling.node_messages import (
    MAX_NODE_MESSAGE_BYTES,
    MAX_STORED_BYTES,
    NODE_ID_BYTES,
    NodeId,
    NodeMessage,
    NodeMessageError,
    encode_claims,
    encode_node_message,
    parse_claims,
    parse_node_message,
)

LEASE_SECONDS = 6.0  # a node whose machine dies without a word is taken for gone after this time
HEARTBEAT_SECONDS = 1.0
CONNECT_TIMEOUT_SECONDS = 3.0
COMMAND_TIMEOUT_SECONDS = 3.0  # for a batch of them; shorter than the lease
RETRY_SECONDS = 0.5
LEAVE_TIMEOUT_SECONDS = 0.3
CANCEL_TIMEOUT_SECONDS = 0.1
MAX_BATCH = 128
MAX_QUEUED_COMMANDS = 32_768
MAX_QUEUED_BYTES = 67_108_864
TOUCH_SHARE = 3  # rooms are kept for one part of their time more than they are held, and renewed as often

_PROCESS_BYTES = 8
_NODE_KEY = "redconnect:node:"
_CHANNEL = "redconnect:inbox:"
_ROOM_KEY = "redconnect:room:"
_ECHO = b"echo"  # what a node says to itself; too short for a sealed message
_logger = logging.getLogger(__name__)

Word = str | bytes | int


class BusUser(Protocol):
    """Who listens to the bus, and whom the bus asks what matters."""

    def on_bus_joined(self, node: NodeId) -> None:
        """Begin anew under this id."""
        ...

    def on_bus_lost(self) -> None:
        """Go on alone."""
        ...

    def on_node_lost(self, node: NodeId) -> None:
        """Another node is gone."""
        ...

    def on_room_lost(self, room_id: bytes) -> None:
        """Another node has this room."""
        ...

    def on_room_forgotten(self, room_id: bytes) -> None:
        """The bus does not know this room any more."""
        ...

    def on_node_message(self, sender: NodeId, message: NodeMessage) -> None:
        """Another node has said something."""
        ...

    def linked_nodes(self) -> Iterable[NodeId]:
        """Name the nodes whose end matters here."""
        ...

    def local_rooms(self) -> Iterable[bytes]:
        """Name the rooms that are here."""
        ...


@dataclass(slots=True, eq=False)
class _Item:
    words: tuple[Word, ...]
    size: int
    answer: Callable[[Any], None]
    fail: Callable[[], None]


class RedisBus:
    """This node on the bus."""

    def __init__(self, url: str, key: bytes, user: BusUser, *, hold_seconds: int, metrics: BusMetrics) -> None:
        """Prepare; nothing is opened before `start`.

        Args:
            url: of the Redis server.
            key: a secret that all nodes share, at least 32 bytes.
            user: listens.
            hold_seconds: for how long the claims of a room survive the node that has it, at least.
            metrics: counts.
        """
        options = {} if url.startswith("unix:") else {"socket_keepalive": True}
        self._pool = ConnectionPool.from_url(url, retry=Retry(NoBackoff(), 0), protocol=2, **options)
        self._cipher = NodeCipher(key)
        self._user = user
        self._metrics = metrics
        self._process = secrets.token_bytes(_PROCESS_BYTES)
        self._connections = 0
        self._id: NodeId | None = None
        self._queue: deque[_Item] = deque()
        self._queued_bytes = 0
        self._heard_at = 0.0  # loop time
        self._in_flight: deque[_Item] = deque()
        self._overflowed = asyncio.Event()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._numbers: OrderedDict[NodeId, int] = OrderedDict()  # the last text of each sender
        self._running: asyncio.Task[None] | None = None
        self._leaving = False
        self._stopping = False
        self.configure(hold_seconds)

    @property
    def connected(self) -> bool:
        """Whether this node is on the bus."""
        return self._id is not None

    @property
    def failed(self) -> bool:
        """Whether a bug has ended the bus."""
        return self._running is not None and self._running.done()

    def configure(self, hold_seconds: int) -> None:
        """Keep claims for another time."""
        self._touch_seconds = hold_seconds / TOUCH_SHARE
        self._keep_ms = round(1000 * (hold_seconds + self._touch_seconds))

    def name_address(self, address: bytes) -> bytes:
        """Name an address for counting, the same on every node, without telling it."""
        return self._cipher.name(b"address", address)

    async def start(self) -> None:
        """Begin to connect, and go on for ever."""
        self._running = asyncio.create_task(self._run(), name="signaling bus")

    async def leave(self) -> None:
        """Let other nodes have the rooms of this one, as they are; messages still go out. Takes a bounded time."""
        self._leaving = True
        node = self._id
        if node is not None:
            self._put(("DEL", _NODE_KEY + node.hex()))
            await self._flush()

    async def stop(self) -> None:
        """Send what is queued within a bounded time, then close.

        Raises:
            Exception: what ended the bus before its time, if anything did.
        """
        task, self._running = self._running, None
        if task is None:
            return
        await self._flush()
        self._stopping = True  # the library may take a cancellation for the end of one of its own timeouts
        while not task.done():
            task.cancel()
            await asyncio.wait([task], timeout=CANCEL_TIMEOUT_SECONDS)
        if not task.cancelled():
            task.result()

    def submit(self, command: Post | Save | Release) -> None:
        """Queue a command. Without a connection it is dropped: who joins the bus begins anew."""
        node = self._id
        if node is None:
            return
        match command:
            case Post(node=other, message=message):
                sealed = self._cipher.seal(encode_node_message(message), b"post" + other)
                self._put(("PUBLISH", _CHANNEL + other.hex(), sealed), lambda heard: self._after_post(other, heard))
                self._metrics.count_sent()
            case Save(room_id=room_id, claims=claims):
                sealed = self._cipher.seal(encode_claims(claims), b"room" + room_id)
                words = ("EVAL", SAVE, 1, self._room_key(room_id), node.hex(), sealed, self._keep_ms)
                self._put(words, lambda saved: self._after_save(room_id, saved))
            case Release(room_id=room_id):
                self._put(("EVAL", RELEASE, 1, self._room_key(room_id), node.hex()))

    def place(self, room_id: bytes) -> asyncio.Future[Placement]:
        """Ask for the home of a room, which is here if no living node has it. The future may raise BusError."""
        future: asyncio.Future[Placement] = asyncio.get_running_loop().create_future()
        node = self._id
        if node is None:
            future.set_exception(BusError("there is no connection to Redis"))
            return future

        def answer(reply: object) -> None:
            if future.done():  # whoever asked has given up; what was claimed is told again, or forgotten by itself
                return
            try:
                future.set_result(self._read_placement(room_id, reply))
            except BusError as error:
                future.set_exception(error)

        def fail() -> None:
            if not future.done():
                future.set_exception(BusError("the connection to Redis was lost"))

        words = ("EVAL", CLAIM, 1, self._room_key(room_id), node.hex(), _NODE_KEY, _CHANNEL, self._keep_ms)
        self._put(words, answer, fail)
        return future

    # --- connections ---

    async def _run(self) -> None:
        while not self._stopping:
            try:
                await self._connect_and_serve()
            except* (RedisError, OSError, TimeoutError, BusError) as group:
                reason = type(group.exceptions[0]).__name__
                _logger.log(logging.WARNING if self._id else logging.DEBUG, "the bus is lost: %s", reason)
            finally:
                self._lose()
            await asyncio.sleep(RETRY_SECONDS)

    async def _connect_and_serve(self) -> None:
        self._connections += 1
        self._overflowed.clear()
        node = self._process + self._connections.to_bytes(NODE_ID_BYTES - _PROCESS_BYTES)
        inbox, commands = _connection_of(self._pool), _connection_of(self._pool)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                for connection in (inbox, commands):
                    await connection.connect()  # type: ignore[no-untyped-call]
                await _call(inbox, [("SUBSCRIBE", _CHANNEL + node.hex())])
                await _call(commands, [self._lease(node)])
            self._join(node)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen(inbox))
                tasks.create_task(self._write(commands))
                tasks.create_task(self._beat(node))
                tasks.create_task(self._await_overflow())
        finally:
            for connection in (inbox, commands):
                await connection.disconnect(nowait=True)

    def _join(self, node: NodeId) -> None:
        self._cipher.begin(node)
        self._id = node
        self._metrics.set_connected(True)
        _logger.info("on the bus")
        self._user.on_bus_joined(node)

    def _lose(self) -> None:
        was_connected, self._id = self._id is not None, None
        items = [*self._in_flight, *self._queue]
        self._in_flight.clear()
        self._queue.clear()
        self._queued_bytes = 0
        for item in items:
            item.fail()
        self._idle.set()
        self._metrics.set_connected(False)
        if was_connected:
            self._metrics.count_loss()
            self._user.on_bus_lost()

    async def _listen(self, connection: AbstractConnection) -> None:
        while True:
            reply = await connection.read_response(timeout=math.inf)  # None would mean five seconds
            if isinstance(reply, list) and len(reply) == 3 and reply[0] == b"message" and isinstance(reply[2], bytes):
                self._receive(reply[2])
            else:
                self._metrics.count_refused(BusFault.MALFORMED)

    async def _write(self, connection: AbstractConnection) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                self._in_flight.extend(self._queue.popleft() for _ in range(min(MAX_BATCH, len(self._queue))))
                self._queued_bytes -= sum(item.size for item in self._in_flight)
                replies = await _call(connection, [item.words for item in self._in_flight])
                for reply in replies:
                    self._in_flight.popleft().answer(reply)
            self._idle.set()

    async def _beat(self, node: NodeId) -> None:
        """Renew the lease, look after the nodes that matter, and keep the rooms that are here."""
        loop = asyncio.get_running_loop()
        touched_at = self._heard_at = loop.time()
        while not self._leaving:
            if loop.time() - self._heard_at > LEASE_SECONDS:
                raise BusError("we do not hear our own channel")
            lease: asyncio.Future[None] = loop.create_future()
            self._put((*self._lease(node), "XX"), partial(_settle_lease, lease))
            self._put(("PUBLISH", _CHANNEL + node.hex(), _ECHO), _check_own_channel)
            for other in self._user.linked_nodes():
                self._look_after(other)
            if loop.time() - touched_at >= self._touch_seconds:
                touched_at = loop.time()
                for room_id in self._user.local_rooms():
                    self._touch(room_id)
            async with asyncio.timeout(LEASE_SECONDS):
                await lease
            await asyncio.sleep(HEARTBEAT_SECONDS)
        await asyncio.Event().wait()  # nothing is renewed, but what is said still goes out

    def _lease(self, node: NodeId) -> tuple[Word, ...]:
        return ("SET", _NODE_KEY + node.hex(), 1, "PX", round(1000 * LEASE_SECONDS))

    def _look_after(self, other: NodeId) -> None:
        def after(known: object) -> None:
            if not known:
                self._lose_node(other)

        def after_channel(counts: object) -> None:
            if isinstance(counts, list) and len(counts) == 2 and not counts[1]:
                self._lose_node(other)

        self._put(("EXISTS", _NODE_KEY + other.hex()), after)
        self._put(("PUBSUB", "NUMSUB", _CHANNEL + other.hex()), after_channel)

    def _touch(self, room_id: bytes) -> None:
        def after(known: object) -> None:
            if not known:
                self._user.on_room_forgotten(room_id)

        self._put(("PEXPIRE", self._room_key(room_id), self._keep_ms), after)

    # --- commands and messages ---

    def _put(
        self,
        words: tuple[Word, ...],
        answer: Callable[[Any], None] = lambda _reply: None,
        fail: Callable[[], None] = lambda: None,
    ) -> None:
        size = sum(len(word) for word in words if isinstance(word, str | bytes))
        if len(self._queue) >= MAX_QUEUED_COMMANDS or self._queued_bytes + size > MAX_QUEUED_BYTES:
            # Redis does not take what we say as fast as we say it. What is dropped here must not go unnoticed.
            self._metrics.count_refused(BusFault.OVERFLOW)
            fail()
            self._overflowed.set()
            return
        self._queue.append(_Item(words, size, answer, fail))
        self._queued_bytes += size
        self._idle.clear()
        self._wake.set()

    async def _await_overflow(self) -> None:
        await self._overflowed.wait()
        raise BusError("commands pile up")

    async def _flush(self) -> None:
        """Wait a bounded time until what is queued has been sent."""
        try:
            async with asyncio.timeout(LEAVE_TIMEOUT_SECONDS):
                await self._idle.wait()
        except TimeoutError:
            _logger.warning("the bus took too long to take the last messages of this node")

    def _after_post(self, other: NodeId, heard: object) -> None:
        if heard == 0:
            self._lose_node(other)

    def _after_save(self, room_id: bytes, saved: object) -> None:
        if saved == 0:
            self._user.on_room_lost(room_id)

    def _lose_node(self, other: NodeId) -> None:
        if other in self._user.linked_nodes():
            self._metrics.count_node_lost()
            self._user.on_node_lost(other)

    def _receive(self, sealed: bytes) -> None:
        """Take the bytes of a message: they may be anything."""
        if sealed == _ECHO:
            self._heard_at = asyncio.get_running_loop().time()
            return
        if len(sealed) > MAX_NODE_MESSAGE_BYTES + SEAL_BYTES:
            self._metrics.count_refused(BusFault.TOO_LONG)
            return
        try:
            opened = self._cipher.open(sealed, b"post" + (self._id or b""))
            message = parse_node_message(opened.data)
        except CipherError as error:
            self._metrics.count_refused(BusFault.SEAL)
            _logger.debug("a message of another node was refused: %s", error)
            return
        except NodeMessageError as error:
            self._metrics.count_refused(BusFault.MALFORMED)
            _logger.debug("a message of another node was refused: %s", error)
            return
        if opened.number <= self._numbers.get(opened.sender, 0):
            self._metrics.count_refused(BusFault.REPEATED)
            return
        self._numbers[opened.sender] = opened.number
        self._numbers.move_to_end(opened.sender)
        if len(self._numbers) > MAX_SENDERS:
            self._numbers.popitem(last=False)
        self._metrics.count_received()
        self._user.on_node_message(opened.sender, message)

    def _read_placement(self, room_id: bytes, reply: object) -> Placement:
        match reply:
            case [bytes() as owner, None | bytes() as sealed] if len(owner) == 2 * NODE_ID_BYTES:
                pass
            case _:
                raise BusError("the home of a room is malformed")
        try:
            home = bytes.fromhex(owner.decode())
        except ValueError:
            raise BusError("the home of a room is malformed") from None
        if sealed is None:
            return Placement(home)
        if len(sealed) > MAX_STORED_BYTES + SEAL_BYTES:
            self._metrics.count_refused(BusFault.TOO_LONG)
            return Placement(home)
        try:
            return Placement(home, parse_claims(self._cipher.open(sealed, b"room" + room_id).data))
        except CipherError:
            self._metrics.count_refused(BusFault.SEAL)
        except NodeMessageError:
            self._metrics.count_refused(BusFault.MALFORMED)
        return Placement(home)

    def _room_key(self, room_id: bytes) -> str:
        return _ROOM_KEY + self._cipher.name(b"room", room_id).hex()


def _connection_of(pool: ConnectionPool) -> AbstractConnection:
    """Make a connection that nobody else uses, and that does not come back by itself: its loss must be seen."""
    connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]
    return connection


async def _call(connection: AbstractConnection, commands: list[tuple[Word, ...]]) -> list[Any]:
    """Send commands at once and read the answer of each, within a bounded time.

    Raises:
        RedisError: the connection failed, or an answer is an error.
        TimeoutError: the answers do not come.
    """
    async with asyncio.timeout(COMMAND_TIMEOUT_SECONDS):
        await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        return [await connection.read_response() for _ in commands]


def _settle_lease(lease: asyncio.Future[None], held: object) -> None:
    if held is None:
        raise BusError("the lease has ended")
    if not lease.done():
        lease.set_result(None)


def _check_own_channel(heard: object) -> None:
    if heard == 0:
        raise BusError("nobody listens to our channel")
