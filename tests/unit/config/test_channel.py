import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.channel import MAX_BACKLOG_BYTES, MAX_MESSAGE_BYTES, Channel, ChannelError, Message


@contextlib.asynccontextmanager
async def channel() -> AsyncIterator[tuple[Channel, socket.socket]]:
    """A channel, and the bare socket of the other side."""
    ours, theirs = socket.socketpair()
    opened = await Channel.open(ours)
    with theirs:
        try:
            yield opened, theirs
        finally:
            opened.close()


async def test_messages_arrive_whole_and_in_order() -> None:
    ours, theirs = socket.socketpair()
    one, other = await Channel.open(ours), await Channel.open(theirs)
    sent: list[Message] = [{"id": 1}, {"text": "ü" * 100_000}, {}]
    for message in sent:
        one.send(message)
    assert [await other.receive() for _ in sent] == sent
    other.send({"reply": 1})
    assert await one.receive() == {"reply": 1}
    one.close()
    assert await other.receive() is None
    other.send({"to": "nobody"})
    other.close()


@pytest.mark.parametrize("left_behind", [b"", b"\0\0", b"\0\0\0\x09{}"], ids=["nothing", "half a length", "half"])
async def test_the_end_of_the_other_side_is_no_message(left_behind: bytes) -> None:
    async with channel() as (ours, theirs):
        theirs.sendall(left_behind)
        theirs.close()
        assert await ours.receive() is None


async def test_a_message_beyond_the_bound_is_neither_sent_nor_read() -> None:
    async with channel() as (ours, theirs):
        with pytest.raises(ChannelError):
            ours.send({"text": "x" * MAX_MESSAGE_BYTES})
        theirs.sendall((MAX_MESSAGE_BYTES + 1).to_bytes(4))
        with pytest.raises(ChannelError):
            await ours.receive()


async def test_one_who_does_not_read_fills_no_memory() -> None:
    async with channel() as (ours, _theirs):
        sent = 0
        with contextlib.suppress(ChannelError):
            for sent in range(1, 401):  # noqa: B007  # looked at below
                ours.send({"text": "x" * 100_000})
        assert MAX_BACKLOG_BYTES < 100_000 * sent < 1.5 * MAX_BACKLOG_BYTES


@given(st.binary(max_size=40))
def test_what_comes_may_be_anything(data: bytes) -> None:
    async def receive() -> None:
        async with channel() as (ours, theirs):
            theirs.sendall(len(data).to_bytes(4) + data)
            theirs.close()
            with contextlib.suppress(ChannelError):
                assert isinstance(await ours.receive(), dict)

    asyncio.run(receive())


async def test_a_message_that_is_nested_too_deeply_is_refused() -> None:
    async with channel() as (ours, theirs):
        data = b"[" * 100_000
        theirs.sendall(len(data).to_bytes(4) + data)
        with pytest.raises(ChannelError):
            await ours.receive()
