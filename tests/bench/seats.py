"""Memory of the service for each seat that waits, and for each one in a talk.

    .venv/bin/python -m tests.bench.seats

A waiting seat has joined an appointment of its own; a connected one has its partner, both have verified each other
and said as much as two pages say until their pictures come. All sockets stay open.
"""

import argparse
import asyncio
import itertools
import json
import statistics
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from aiohttp import ClientSession, ClientWebSocketResponse, TCPConnector, WSMsgType

from tests.bench.signaling_server import Locators, Memory, SignalingServer, raise_descriptor_limit, run_signaling

BAR_KIB: Final = 60.0  # of resident memory for each seat
STEPS: Final = (1_000, 5_000)
BLOB_SIZES: Final = (256, 600, 1_100, 2_000)  # in turn: keys and candidates are short, descriptions are long
BLOBS_PER_SEAT: Final = 12  # three of the key agreement, hello, state, a description, candidates
_WARMING_TALKS: Final = 20  # what is loaded and cached with the first ones belongs to no seat
_SIDE_BY_SIDE: Final = 16  # joins at a time: the service takes 64 of one address
_SPARE_DESCRIPTORS: Final = 500
_PATIENCE_SECONDS: Final = 60.0


class _Seat:
    """A socket that has joined. Reads all the time, as a page does: pings must be answered."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket = socket
        self._heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._reading = asyncio.create_task(self._read())
        self.pid = ""

    async def join(self, locator: str) -> None:
        await self.send(type="join", loc=locator)
        self.pid = (await self.hear("joined"))["pid"]

    async def send(self, **message: object) -> None:
        await self._socket.send_str(json.dumps(message))

    async def hear(self, wanted: str) -> dict[str, Any]:
        """The next message of this type; anything else but the partner's presence ends the measurement."""
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while (message := await self._heard.get())["type"] != wanted:
                if message["type"] not in {"peer", "relay"}:
                    raise RuntimeError(f"{message['type']} instead of {wanted}")
        return message

    async def close(self) -> None:
        await self._socket.close()
        await self._reading

    async def _read(self) -> None:
        async for message in self._socket:
            if message.type is WSMsgType.TEXT:
                self._heard.put_nowait(json.loads(message.data))
        self._heard.put_nowait({"type": "end of the socket"})


class _Crowd:
    """Seats that are held until the end."""

    def __init__(self, server: SignalingServer, session: ClientSession, stack: AsyncExitStack) -> None:
        self._server = server
        self._session = session
        self._stack = stack
        self._joining = asyncio.Semaphore(_SIDE_BY_SIDE)

    async def wait_alone(self, locators: Locators) -> None:
        async with self._joining:
            await self._sit(locators.organiser)

    async def talk(self, locators: Locators) -> None:
        async with self._joining:
            first = await self._sit(locators.organiser)
            second = await self._sit(locators.participant)
            for seat, peer in ((first, second), (second, first)):
                await seat.send(type="paired", peer=peer.pid, ok=True)
            for size in itertools.islice(itertools.cycle(BLOB_SIZES), BLOBS_PER_SEAT):
                for seat, peer in ((first, second), (second, first)):
                    await seat.send(type="relay", to=peer.pid, blob="x" * size)
                    await peer.hear("relay")

    async def _sit(self, locator: str) -> _Seat:
        headers = {"Origin": self._server.url}
        seat = _Seat(await self._session.ws_connect(f"{self._server.url}/ws", headers=headers, ssl=self._server.trust))
        self._stack.push_async_callback(seat.close)
        await seat.join(locator)
        return seat


async def measure(*, talking: bool, steps: tuple[int, ...], https: bool = False) -> list[Memory]:
    """Memory with no seat and with so many at each step.

    Args:
        talking: two in each room, else one.
        steps: numbers of seats, growing.
        https: over TLS that ends in the service.
    """
    loop = asyncio.get_running_loop()
    with run_signaling(steps[-1], https=https) as server:
        per_room = 2 if talking else 1
        rooms = await loop.run_in_executor(None, server.plan, steps[-1] // per_room + _WARMING_TALKS)
        async with _crowd(server) as warming:
            for locators in rooms[:_WARMING_TALKS]:
                await warming.talk(locators)
        measured = [server.memory()]
        async with _crowd(server) as crowd:
            sit: Callable[[Locators], Any] = crowd.talk if talking else crowd.wait_alone
            begun = _WARMING_TALKS
            for seats in steps:
                end = _WARMING_TALKS + seats // per_room
                async with asyncio.TaskGroup() as tasks:
                    for locators in rooms[begun:end]:
                        tasks.create_task(sit(locators))
                begun = end
                clients = await loop.run_in_executor(None, server.service.metrics)
                if clients["redconnect_signaling_clients"] != seats:
                    raise RuntimeError(f"{clients['redconnect_signaling_clients']:.0f} sockets, not {seats}")
                measured.append(server.memory())
        return measured


def print_memory(rounds: int, steps: tuple[int, ...] = STEPS) -> None:
    """Measure and print a Markdown table."""
    steps = tuple(count for count in steps if count <= raise_descriptor_limit() - _SPARE_DESCRIPTORS)
    print("\n### Memory of the service\n")
    print(f"| seats | RSS KiB | PSS KiB | each KiB | least and most of {rounds} | bar | met |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    _print_kind("waiting", rounds, steps, talking=False)
    _print_kind("in a talk", rounds, steps, talking=True)
    _print_kind("waiting, https", rounds, steps[:1], talking=False, https=True)


def _print_kind(kind: str, rounds: int, steps: tuple[int, ...], *, talking: bool, https: bool = False) -> None:
    runs = [asyncio.run(measure(talking=talking, steps=steps, https=https)) for _ in range(rounds)]
    for at, count in enumerate((0, *steps)):
        rss, pss = (statistics.median(part) for part in zip(*(run[at] for run in runs), strict=True))
        cells = "|  |  |  |  |"
        if count:
            each = [(run[at].rss - run[0].rss) / count for run in runs]
            middle = statistics.median(each)
            bar = "| |" if https else f"≤ {BAR_KIB:.0f} KiB | {'yes' if middle <= BAR_KIB else 'no'} |"
            cells = f"| {middle:.1f} | {min(each):.1f}, {max(each):.1f} | {bar}"
        print(f"| {count} {kind} | {rss:.0f} | {pss:.0f} {cells}", flush=True)


@asynccontextmanager
async def _crowd(server: SignalingServer) -> AsyncIterator[_Crowd]:
    async with (
        ClientSession(connector=TCPConnector(limit=0)) as session,
        AsyncExitStack() as stack,
    ):
        yield _Crowd(server, session, stack)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="repetitions; medians are printed")
    parser.add_argument("--seats", type=int, nargs="+", default=list(STEPS), help="numbers of seats, growing")
    options = parser.parse_args()
    print_memory(options.rounds, tuple(options.seats))


if __name__ == "__main__":
    main()
