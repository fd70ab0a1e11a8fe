import asyncio

import pytest
from aiohttp import WSMsgType, web

from signaling.io import outbound
from signaling.io.outbound import DROPPABLE_SHARE, MAX_QUEUED_BYTES, MAX_QUEUED_MESSAGES, OutboundQueue, QueueOverflow


class RecordingSocket(web.WebSocketResponse):
    def __init__(self, *, stuck: bool = False) -> None:
        super().__init__()
        self.stuck = stuck
        self.sent: list[str | int] = []

    async def send_str(self, data: str, compress: int | None = None) -> None:
        del compress
        if self.stuck:
            await asyncio.Future()
        self.sent.append(data)

    async def send_frame(self, message: bytes, opcode: WSMsgType, compress: int | None = None) -> None:
        del compress
        assert opcode is WSMsgType.CLOSE
        self.sent.append(int.from_bytes(message))


async def test_what_is_queued_is_sent_in_order_before_the_close() -> None:
    queue, socket = OutboundQueue(), RecordingSocket()
    queue.put("a")
    queue.put("b")
    queue.close(1008)
    queue.close(1000)
    await queue.write_to(socket)
    assert socket.sent == ["a", "b", 1008]


def test_messages_are_bounded() -> None:
    queue = OutboundQueue()
    for _ in range(MAX_QUEUED_MESSAGES):
        queue.put("x")
    with pytest.raises(QueueOverflow):
        queue.put("x")


def test_bytes_are_bounded() -> None:
    queue = OutboundQueue()
    queue.put("x" * MAX_QUEUED_BYTES)
    with pytest.raises(QueueOverflow):
        queue.put("x")


async def test_what_was_sent_makes_room() -> None:
    queue, socket = OutboundQueue(), RecordingSocket()
    queue.put("x" * MAX_QUEUED_BYTES)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(queue.write_to(socket))
        await asyncio.sleep(0)
        queue.put("y" * MAX_QUEUED_BYTES)
        queue.close(1000)
    assert len(socket.sent) == 3


async def test_a_stuck_socket_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbound, "SEND_TIMEOUT_SECONDS", 0.0)
    queue = OutboundQueue()
    queue.put("x")
    with pytest.raises(TimeoutError):
        await queue.write_to(RecordingSocket(stuck=True))


@pytest.mark.parametrize("text", ["x", "x" * (MAX_QUEUED_BYTES // MAX_QUEUED_MESSAGES)])
def test_what_may_be_dropped_leaves_half_of_the_room_to_the_rest(text: str) -> None:
    queue = OutboundQueue()
    for _ in range(MAX_QUEUED_MESSAGES // DROPPABLE_SHARE):
        queue.put(text, droppable=True)
    with pytest.raises(QueueOverflow):
        queue.put(text, droppable=True)
    for _ in range(MAX_QUEUED_MESSAGES // DROPPABLE_SHARE):
        queue.put(text)


def test_the_bytes_of_what_may_be_dropped_are_bounded_too() -> None:
    queue = OutboundQueue()
    queue.put("x" * (MAX_QUEUED_BYTES // DROPPABLE_SHARE), droppable=True)
    with pytest.raises(QueueOverflow):
        queue.put("x", droppable=True)
    queue.put("x")
