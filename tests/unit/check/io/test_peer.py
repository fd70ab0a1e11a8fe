import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from check.echo import EchoSeries
from check.io import peer as peers
from check.io.peer import Peer, open_peer
from check.plan import Family
from stun.address import TransportAddress
from stun.binding import answer_binding
from stun.message import decode_message

SEEN_AS = TransportAddress.parse("198.51.100.4", 4000)
Address = tuple[str, int]


class Server(asyncio.DatagramProtocol):
    """Answers Binding requests with what it is told to see, and sends everything else back."""

    def __init__(self, *, is_silent: bool = False) -> None:
        self.is_silent = is_silent

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Address) -> None:
        if self.is_silent:
            return
        if data[0] < 4:
            data = answer_binding(decode_message(data), SEEN_AS)
        self.transport.sendto(data, addr)


@contextlib.asynccontextmanager
async def serving(*, is_silent: bool = False) -> AsyncIterator[Address]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: Server(is_silent=is_silent), local_addr=("127.0.0.1", 0))
    yield transport.get_extra_info("sockname")
    transport.close()


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    opened = await open_peer(Family.IPV4)
    yield opened
    opened.close()


async def test_it_learns_how_it_is_seen_from_whichever_server_answers(peer: Peer) -> None:
    async with serving(is_silent=True) as silent, serving() as server:
        await peer.learn([silent, server])
    assert peer.mapped == SEEN_AS


async def test_where_no_server_answers_it_gives_up(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "LEARN_SECONDS", 0.05)
    async with serving(is_silent=True) as silent:
        await peer.learn([silent])
    assert peer.mapped is None


async def test_without_a_server_it_asks_nobody(peer: Peer) -> None:
    await peer.learn([])
    assert peer.mapped is None


async def test_packets_that_come_back_are_counted_in_their_series(peer: Peer) -> None:
    first, second = EchoSeries(b"11111111"), EchoSeries(b"22222222")
    peer.add(first)
    peer.add(second)
    for _ in range(3):
        peer.datagram_received(second.send(0.0), ("127.0.0.1", 9))
    assert (first.result().received, second.result().received) == (0, 3)


async def test_an_answer_to_somebody_elses_request_teaches_nothing(peer: Peer) -> None:
    forged = answer_binding(decode_message(bytes.fromhex("000100002112a442") + bytes(12)), SEEN_AS)
    peer.datagram_received(forged, ("127.0.0.1", 9))
    peer.datagram_received(b"\xff" * 40, ("127.0.0.1", 9))
    assert peer.mapped is None


async def test_after_its_end_it_sends_nothing(peer: Peer) -> None:
    peer.close()
    peer.send(b"late", ("127.0.0.1", 9))
