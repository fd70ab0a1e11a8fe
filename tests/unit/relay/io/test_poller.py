"""The poller on a real event loop, with sockets that are ready when the test wants it."""

import asyncio
import select
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from relay.io.poller import FAILED, READABLE, WRITABLE, Poller
from tests.support.udp_endpoint import PATIENCE


@pytest.fixture
async def poller() -> AsyncIterator[Poller]:
    poller = Poller(asyncio.get_running_loop())
    yield poller
    poller.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        yield one, other


class Events:
    """Reads what has come and remembers with which events."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.queue: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()

    def __call__(self, events: int) -> None:
        self.queue.put_nowait((events, self.sock.recv(100)))

    async def next(self) -> tuple[int, bytes]:
        async with asyncio.timeout(PATIENCE):
            return await self.queue.get()


async def test_a_callback_gets_the_events_that_came(poller: Poller, pair: tuple[socket.socket, socket.socket]) -> None:
    events = Events(pair[0])
    poller.watch(pair[0].fileno(), events)
    pair[1].send(b"one")
    assert await events.next() == (READABLE, b"one")
    pair[1].send(b"two")
    poller.change(pair[0].fileno(), READABLE | WRITABLE)
    assert await events.next() == (READABLE | WRITABLE, b"two")
    poller.forget(pair[0].fileno())


async def test_what_is_left_behind_is_reported_again(poller: Poller, pair: tuple[socket.socket, socket.socket]) -> None:
    events = Events(pair[0])
    poller.watch(pair[0].fileno(), events)
    for _ in range(3):
        pair[1].send(b"x")
    assert [await events.next() for _ in range(3)] == [(READABLE, b"x")] * 3
    assert events.queue.empty()


async def test_more_sockets_than_one_round_takes_all_get_their_turn(poller: Poller) -> None:
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(200)]
    watched = [Events(one) for one, _ in pairs]
    for events, (one, other) in zip(watched, pairs, strict=True):
        poller.watch(one.fileno(), events)
        other.send(b"x")
    assert len(poller) == 200
    assert [await events.next() for events in watched] == [(READABLE, b"x")] * 200
    for one, other in pairs:
        poller.forget(one.fileno())
        one.close()
        other.close()
    assert len(poller) == 0


async def test_a_callback_may_close_a_socket_that_is_ready_in_the_same_round(poller: Poller) -> None:
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
    done = asyncio.Event()
    called: list[int] = []

    def close_both(_events: int) -> None:
        called.append(1)
        for one, _ in pairs:
            poller.forget(one.fileno())
            one.close()
        done.set()

    for one, other in pairs:
        poller.watch(one.fileno(), close_both)
        other.send(b"x")
    async with asyncio.timeout(PATIENCE):
        await done.wait()
    await asyncio.sleep(0)
    assert called == [1]
    for _, other in pairs:
        other.close()


async def test_a_failure_is_reported_without_being_asked_for(poller: Poller) -> None:
    one, other = socket.socketpair()
    failed: asyncio.Queue[int] = asyncio.Queue()

    def on_ready(events: int) -> None:
        failed.put_nowait(events)
        poller.forget(one.fileno())

    poller.watch(one.fileno(), on_ready, 0)
    other.close()
    async with asyncio.timeout(PATIENCE):
        assert await failed.get() & FAILED
    one.close()


async def test_a_poller_may_be_closed_twice_and_then_calls_nobody(pair: tuple[socket.socket, socket.socket]) -> None:
    poller = Poller(asyncio.get_running_loop())
    events = Events(pair[0])
    poller.watch(pair[0].fileno(), events)
    poller.close()
    poller.close()
    pair[1].send(b"x")
    await asyncio.sleep(0)
    assert select.select([pair[0]], [], [], 0)[0] == [pair[0]]
    assert events.queue.empty()
