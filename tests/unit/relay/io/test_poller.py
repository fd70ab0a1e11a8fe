"""The poller on a real event loop, with sockets that are ready when the test wants it."""

import asyncio
import itertools
import os
import select
import socket
from collections.abc import AsyncIterator, Iterator
from functools import partial

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


async def test_a_callback_that_fails_keeps_no_other_from_its_turn_and_is_told(poller: Poller) -> None:
    loop = asyncio.get_running_loop()
    told: list[str] = []
    loop.set_exception_handler(lambda _loop, context: told.append(str(context["exception"])))
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]

    def fail(_events: int) -> None:
        raise ValueError("a bug")

    events = Events(pairs[1][0])
    poller.watch(pairs[0][0].fileno(), fail)
    poller.watch(pairs[1][0].fileno(), events)
    for _, other in pairs:
        other.send(b"x")
    assert await events.next() == (READABLE, b"x")
    assert set(told) == {"a bug"}
    for one, other in pairs:
        poller.forget(one.fileno())
        one.close()
        other.close()


async def test_events_of_a_closed_socket_do_not_reach_the_one_that_got_its_number(poller: Poller) -> None:
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2)]
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    stale: list[int] = []
    made: list[socket.socket] = []

    def replace_the_other(at: int, _events: int) -> None:
        one, other = pairs[1 - at]
        number = one.fileno()
        for watched in (one, pairs[at][0]):
            poller.forget(watched.fileno())
        one.close()
        new, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        if new.fileno() != number:
            os.dup2(new.fileno(), number)
            new.close()
            new = socket.socket(fileno=number)
        new.setblocking(False)  # noqa: FBT003  # its only argument
        made.extend((new, far, other))

        def on_ready(events: int) -> None:
            try:
                heard.put_nowait(new.recv(100))
            except BlockingIOError:
                stale.append(events)

        poller.watch(number, on_ready)
        loop.call_soon(far.send, b"new")

    loop = asyncio.get_running_loop()
    for at, (one, other) in enumerate(pairs):
        poller.watch(one.fileno(), partial(replace_the_other, at))
        other.send(b"x")
    async with asyncio.timeout(PATIENCE):
        assert await heard.get() == b"new"
    assert stale == []
    assert len(poller) == 1
    poller.forget(made[0].fileno())
    assert len(poller) == 0
    for each in (*made, *itertools.chain(*pairs)):
        each.close()


async def test_a_socket_watched_and_forgotten_within_a_round_is_never_told(
    poller: Poller, pair: tuple[socket.socket, socket.socket]
) -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    done = asyncio.Event()
    called: list[int] = []

    def on_ready(_events: int) -> None:
        poller.watch(one.fileno(), called.append)
        poller.forget(one.fileno())
        poller.forget(pair[0].fileno())
        done.set()

    poller.watch(pair[0].fileno(), on_ready)
    other.send(b"x")
    pair[1].send(b"x")
    async with asyncio.timeout(PATIENCE):
        await done.wait()
    await asyncio.sleep(0)
    assert called == []
    assert len(poller) == 0
    one.close()
    other.close()


async def test_a_socket_watched_and_closed_within_a_round_leaves_nothing(
    poller: Poller, pair: tuple[socket.socket, socket.socket]
) -> None:
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def open_and_close(_events: int) -> None:
        pair[0].recv(100)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as short_lived:
            poller.watch(short_lived.fileno(), lambda _: None)
            poller.forget_closing(short_lived.fileno())
        ended.set_result(None)

    poller.watch(pair[0].fileno(), open_and_close)
    pair[1].send(b"x")
    async with asyncio.timeout(PATIENCE):
        await ended
    assert len(poller) == 1
