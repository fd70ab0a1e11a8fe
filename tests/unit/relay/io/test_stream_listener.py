"""Accepting connections: bounds, exhaustion and the end."""

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator

import pytest

from relay.io.stream import Closing
from tests.support.stream_harness import REQUEST, Harness, connected, harness, soon


@pytest.fixture
async def server() -> AsyncIterator[Harness]:
    async with harness() as opened:
        yield opened


async def test_connections_beyond_the_bound_are_closed_at_once_and_room_comes_back(server: Harness) -> None:
    server.capacity = 1
    async with connected(server, first=REQUEST):
        await server.message()
        async with connected(server) as other:
            assert await other.is_closed_by_the_server()
    await soon(server.service.lost.get())
    async with connected(server, first=REQUEST):
        assert await server.message() == REQUEST


async def test_a_connection_that_says_nothing_counts_too(server: Harness) -> None:
    server.capacity = 1
    async with connected(server), connected(server) as other:
        assert await other.is_closed_by_the_server()
        assert len(server.listener) == 1


class Exhausted(socket.socket):
    """A listening socket for which there are no descriptors, for a while."""

    refusals = 0
    refused: asyncio.Event
    error = errno.EMFILE

    def accept(self) -> tuple[socket.socket, object]:
        if Exhausted.refusals:
            Exhausted.refusals -= 1
            Exhausted.refused.set()
            raise OSError(Exhausted.error, os.strerror(Exhausted.error))
        return super().accept()


async def test_without_descriptors_the_listener_pauses_and_then_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.support.stream_harness.socket.socket", Exhausted)
    monkeypatch.setattr("relay.io.stream_listener._PAUSE_SECONDS", 0.01)
    async with harness() as opened:
        Exhausted.refusals, Exhausted.refused = 3, asyncio.Event()
        async with connected(opened, first=REQUEST):
            assert await opened.message() == REQUEST
        assert Exhausted.refusals == 0


async def test_a_network_error_of_a_connection_that_was_not_accepted_yet_is_nobodys_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
    monkeypatch.setattr("tests.support.stream_harness.socket.socket", Exhausted)
    monkeypatch.setattr(Exhausted, "error", errno.EPROTO)
    async with harness() as opened:
        Exhausted.refusals, Exhausted.refused = 1, asyncio.Event()
        async with connected(opened, first=REQUEST):
            assert await opened.message() == REQUEST
        assert told == []


async def test_a_listener_can_be_closed_while_it_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.support.stream_harness.socket.socket", Exhausted)
    async with harness() as opened:
        Exhausted.refusals, Exhausted.refused = 1, asyncio.Event()
        async with connected(opened) as client:
            await soon(Exhausted.refused.wait())
            assert opened.listener._pause is not None
            opened.listener.close()
            assert await client.is_closed_by_the_server()
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            with sock, pytest.raises(ConnectionRefusedError):
                sock.connect(opened.address)


async def test_a_watch_that_fails_costs_one_connection_and_no_descriptor(
    server: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "no space for another watch")

    with monkeypatch.context() as patched:
        patched.setattr(server.poller, "watch", refuse)
        async with connected(server) as client:
            assert await client.is_closed_by_the_server()
    assert len(server.listener) == 0
    async with connected(server, first=REQUEST):
        assert await server.message() == REQUEST


async def test_the_end_of_the_listener_is_the_end_of_its_connections() -> None:
    async with harness() as opened, connected(opened, first=REQUEST) as client, connected(opened) as silent:
        await opened.message()
        opened.listener.close()
        assert await client.is_closed_by_the_server()
        assert await silent.is_closed_by_the_server()
        assert opened.service.open == []
        assert len(opened.listener) == 0
        assert opened.streams.closings == dict.fromkeys(Closing, 0)
        assert len(opened.poller) == 0
