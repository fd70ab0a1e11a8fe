import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from check.io import path_size
from check.io.path_size import find_largest_packet
from check.plan import Family
from stun.address import TransportAddress
from stun.binding import answer_binding
from stun.message import decode_message

CLIENT = TransportAddress.parse("192.0.2.5", 4000)


class Narrow(asyncio.DatagramProtocol):
    """A STUN server behind a path that carries so many bytes of IP, and loses the first packet of each size."""

    def __init__(self, largest: int, *, is_lossy: bool) -> None:
        self.largest = largest
        self.is_lossy = is_lossy
        self.seen: set[int] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        is_lost = self.is_lossy and len(data) not in self.seen
        self.seen.add(len(data))
        if len(data) + 28 <= self.largest and not is_lost:
            assert isinstance(self.transport, asyncio.DatagramTransport) or hasattr(self.transport, "sendto")
            self.transport.sendto(b"not STUN", addr)
            self.transport.sendto(answer_binding(decode_message(data), CLIENT), addr)


@asynccontextmanager
async def path(largest: int, *, is_lossy: bool = False) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: Narrow(largest, is_lossy=is_lossy), local_addr=("127.0.0.1", 0)
    )
    yield transport.get_extra_info("sockname")[1]
    transport.close()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(path_size, "ANSWER_SECONDS", 0.15)


@pytest.mark.parametrize(("largest", "found"), [(1500, 1500), (1400, 1400), (1399, 1396), (500, None)])
async def test_the_largest_packet_of_a_path_is_found(largest: int, found: int | None) -> None:
    async with path(largest) as port:
        assert await find_largest_packet("127.0.0.1", port, Family.IPV4) == found


async def test_a_lost_packet_is_no_small_path() -> None:
    async with path(1500, is_lossy=True) as port:
        assert await find_largest_packet("127.0.0.1", port, Family.IPV4) == 1500


async def test_where_nobody_answers_there_is_none() -> None:
    assert await find_largest_packet("127.0.0.1", 9, Family.IPV4) is None
