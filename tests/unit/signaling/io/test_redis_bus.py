"""The bus against a real Redis that others write to, and against something that is no Redis."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from signaling.appointments import Role
from signaling.exchange import Placement, Post, Release, Save
from signaling.io import redis_bus
from signaling.io.bus_metrics import BusFault, BusMetrics
from signaling.io.redis_bus import RedisBus
from signaling.io.websocket import BusError
from signaling.node_messages import MAX_NODE_MESSAGE_BYTES, Gone, NodeId, NodeMessage
from signaling.room import ClaimRecord
from tests.support.redis_server import RedisServer, run_redis

KEY = bytes(range(32))
PATIENCE = 10.0  # seconds; nothing waits them out
ROOM = bytes(16)
CLAIMS = (ClaimRecord("pid", Role.ORGANISER, b"address", "token", confirmed=True),)
PREFIX = "redconnect_signaling_bus"


class Node:
    """A bus and what it has said."""

    def __init__(self, url: str, key: bytes = KEY) -> None:
        self.registry = CollectorRegistry()
        self.bus = RedisBus(url, key, self, hold_seconds=30, metrics=BusMetrics(self.registry))
        self.ids: list[NodeId] = []
        self.losses = 0
        self.lost_nodes: list[NodeId] = []
        self.lost_rooms: list[bytes] = []
        self.forgotten: list[bytes] = []
        self.heard: list[tuple[NodeId, NodeMessage]] = []
        self.linked: set[NodeId] = set()
        self.rooms: list[bytes] = []
        self._changed = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def on_bus_joined(self, node: NodeId) -> None:
        self.ids.append(node)
        self._changed.set()

    def on_bus_lost(self) -> None:
        self.losses += 1
        self._changed.set()

    def on_node_lost(self, node: NodeId) -> None:
        self.lost_nodes.append(node)
        self.linked.discard(node)
        self._changed.set()

    def on_room_lost(self, room_id: bytes) -> None:
        self.lost_rooms.append(room_id)
        self._changed.set()

    def on_room_forgotten(self, room_id: bytes) -> None:
        self.forgotten.append(room_id)
        self._changed.set()

    def on_node_message(self, sender: NodeId, message: NodeMessage) -> None:
        self.heard.append((sender, message))
        self._changed.set()

    def linked_nodes(self) -> Iterable[NodeId]:
        return list(self.linked)

    def local_rooms(self) -> Iterable[bytes]:
        return list(self.rooms)

    def refused(self, fault: BusFault) -> float | None:
        return self.registry.get_sample_value(f"{PREFIX}_refused_total", {"fault": fault})


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with run_redis(tmp_path) as server:
        yield server


@pytest.fixture
async def nodes(redis: RedisServer) -> AsyncIterator[tuple[Node, Node]]:
    first, second = Node(redis.url), Node(redis.url)
    for node in (first, second):
        await node.bus.start()
    for node in (first, second):
        await node.until(lambda node=node: bool(node.ids))  # type: ignore[misc]
    yield first, second
    for node in (first, second):
        await node.bus.stop()


async def placed(node: Node) -> Placement:
    async with asyncio.timeout(PATIENCE):
        return await node.bus.place(ROOM)


async def test_a_room_has_one_home_until_that_has_released_it(nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    assert await placed(first) == Placement(first.ids[0])
    assert await placed(second) == Placement(first.ids[0])
    second.bus.submit(Save(ROOM, CLAIMS))
    await second.until(lambda: second.lost_rooms == [ROOM])
    second.bus.submit(Release(ROOM))
    assert await placed(second) == Placement(first.ids[0]), "only its home may release it"
    first.bus.submit(Release(ROOM))
    assert await placed(first) == Placement(first.ids[0])


async def test_a_room_is_kept_for_a_bounded_time_and_a_released_one_is_gone_from_redis(
    nodes: tuple[Node, Node], redis: RedisServer
) -> None:
    node, _ = nodes
    await placed(node)
    node.bus.submit(Save(ROOM, CLAIMS))
    await placed(node)  # and so the claims have been saved
    (key,) = (word for word in redis.ask("KEYS redconnect:room:*").decode().split() if word.startswith("redconnect:"))
    left = int(redis.ask(f"PTTL {key}").decode().strip().removeprefix(":"))
    assert 0 < left <= node.bus._keep_ms
    node.bus.submit(Release(ROOM))
    await node.bus._flush()
    assert b"redconnect:room:" not in redis.ask("KEYS redconnect:room:*")


@pytest.mark.parametrize("leaves", [True, False], ids=["it leaves", "its connection ends"])
async def test_a_room_moves_with_its_claims_when_its_home_is_gone(nodes: tuple[Node, Node], leaves: bool) -> None:  # noqa: FBT001
    first, second = nodes
    await placed(first)
    first.bus.submit(Save(ROOM, CLAIMS))
    await placed(first)  # and so the claims have been saved
    if leaves:
        await first.bus.leave()
    await first.bus.stop()
    assert await placed(second) == Placement(second.ids[0], CLAIMS)


async def test_claims_are_told_again_after_somebody_gave_up_who_had_asked_for_them(nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    await placed(first)
    first.bus.submit(Save(ROOM, CLAIMS))
    await placed(first)  # and so the claims have been saved
    await first.bus.stop()
    second.bus.place(ROOM).cancel()
    assert await placed(second) == Placement(second.ids[0], CLAIMS)


async def test_a_node_that_does_not_hear_its_own_channel_begins_anew(
    nodes: tuple[Node, Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = nodes
    monkeypatch.setattr(redis_bus, "HEARTBEAT_SECONDS", 0.02)
    monkeypatch.setattr(redis_bus, "LEASE_SECONDS", 0.5)
    monkeypatch.setattr(first.bus, "_receive", lambda _sealed: None)
    await first.until(lambda: first.losses == 1)
    monkeypatch.undo()
    await first.until(lambda: len(first.ids) > 1)


async def test_messages_arrive_in_order_and_only_where_they_are_meant_to(nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    for number in range(300):
        first.bus.submit(Post(second.ids[0], Gone(number)))
    await second.until(lambda: len(second.heard) == 300)
    assert second.heard == [(first.ids[0], Gone(number)) for number in range(300)]
    assert first.heard == []


async def test_whoever_speaks_to_a_node_that_is_gone_learns_it(nodes: tuple[Node, Node]) -> None:
    first, second = nodes
    first.linked.add(second.ids[0])
    await second.bus.stop()
    first.bus.submit(Post(second.ids[0], Gone(1)))
    await first.until(lambda: first.lost_nodes == second.ids)


async def test_what_strangers_write_is_counted_and_dropped(nodes: tuple[Node, Node], redis: RedisServer) -> None:
    first, second = nodes
    channel = f"redconnect:inbox:{first.ids[0].hex()}"
    redis.ask(f"PUBLISH {channel} hello")
    redis.ask(f"PUBLISH {channel} {'x' * 60_000}")
    second.bus.submit(Post(first.ids[0], Gone(1)))
    await first.until(lambda: len(first.heard) == 1)
    assert first.refused(BusFault.SEAL) == 2
    sealed = second.bus._cipher.seal(b"no message", b"post" + first.ids[0])
    late = second.bus._cipher.seal(b"\x03" + bytes(8), b"post" + first.ids[0])
    for data in (sealed, late, late, bytes(MAX_NODE_MESSAGE_BYTES + 100)):
        second.bus._put(("PUBLISH", channel, data))
    second.bus.submit(Post(first.ids[0], Gone(2)))
    await first.until(lambda: len(first.heard) == 3)
    assert first.heard[-2:] == [(second.ids[0], Gone(0)), (second.ids[0], Gone(2))]
    faults = (BusFault.MALFORMED, BusFault.REPEATED, BusFault.TOO_LONG)
    assert [first.refused(fault) for fault in faults] == [1, 1, 1]
    assert first.losses == 0


async def test_claims_that_somebody_else_wrote_are_no_claims(nodes: tuple[Node, Node], redis: RedisServer) -> None:
    first, _ = nodes
    key = first.bus._room_key(ROOM)
    redis.ask(f"HSET {key} owner {'00' * 12} claims nonsense")
    assert await placed(first) == Placement(first.ids[0])
    assert first.refused(BusFault.SEAL) == 1


async def test_a_room_that_redis_has_forgotten_is_reported(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_bus, "HEARTBEAT_SECONDS", 0.0)
    monkeypatch.setattr(redis_bus, "TOUCH_SHARE", 10**9)
    node = Node(redis.url)
    node.rooms.append(ROOM)
    await node.bus.start()
    await node.until(lambda: ROOM in node.forgotten)
    await node.bus.stop()


async def test_a_node_comes_back_under_another_id_when_its_lease_or_channel_has_ended(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_bus, "HEARTBEAT_SECONDS", 0.01)
    monkeypatch.setattr(redis_bus, "RETRY_SECONDS", 0.01)
    node = Node(redis.url)
    await node.bus.start()
    await node.until(lambda: len(node.ids) == 1)
    redis.ask(f"DEL redconnect:node:{node.ids[0].hex()}")
    await node.until(lambda: len(node.ids) == 2)
    redis.ask("CLIENT KILL TYPE pubsub")
    await node.until(lambda: len(node.ids) == 3)
    assert node.losses == 2
    assert len(set(node.ids)) == 3
    await node.bus.stop()


async def test_commands_that_pile_up_end_the_connection(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_bus, "MAX_QUEUED_COMMANDS", 50)
    monkeypatch.setattr(redis_bus, "RETRY_SECONDS", 0.01)
    node = Node(redis.url)
    await node.bus.start()
    await node.until(lambda: len(node.ids) == 1)
    for _ in range(60):
        node.bus.submit(Release(ROOM))
    await node.until(lambda: len(node.ids) == 2)
    assert (node.refused(BusFault.OVERFLOW) or 0) >= 1
    await node.bus.stop()


async def test_what_is_no_redis_is_tried_again_and_never_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_bus, "RETRY_SECONDS", 0.0)
    tries = 0
    enough = asyncio.Event()

    async def talk_nonsense(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        writer.write((b"HTTP/1.1 200 OK\r\n\r\n", b"*1000000\r\n", b"$-7\r\n", b"")[tries % 4])
        writer.close()
        if tries > 12:
            enough.set()

    async with await asyncio.start_server(talk_nonsense, "127.0.0.1", 0) as server:
        node = Node(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await node.bus.start()
        async with asyncio.timeout(PATIENCE):
            await enough.wait()
        assert not node.bus.failed
        assert not node.bus.connected
        with pytest.raises(BusError):
            await node.bus.place(ROOM)
        await node.bus.stop()
    assert node.ids == []


async def test_whoever_waits_for_a_home_is_told_when_the_connection_ends(
    nodes: tuple[Node, Node], redis: RedisServer
) -> None:
    first, _ = nodes
    redis.stop()
    future = first.bus.place(ROOM)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(BusError):
            await future
    await first.until(lambda: first.losses == 1)
    assert first.registry.get_sample_value(f"{PREFIX}_connected") == 0
