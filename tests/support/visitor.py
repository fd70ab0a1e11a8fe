"""One who opens a link: joins through the WebSocket of the pages and says what the answer was."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from aiohttp import ClientSession

PATIENCE: Final = 15.0  # seconds; the service answers sooner, whatever is broken


def join(port: int, code: str) -> dict[str, Any]:
    """The first answer to a join with this access code; who got a seat leaves it.

    Args:
        port: of the pages, on loopback.
        code: as it was printed.
    """

    async def ask() -> dict[str, Any]:
        origin = f"http://localhost:{port}"
        async with ClientSession() as session, session.ws_connect(f"{origin}/ws", origin=origin) as socket:
            await socket.send_json({"type": "join", "loc": code.replace("-", "")[:6]})
            answer: dict[str, Any] = await socket.receive_json(timeout=PATIENCE)
            await socket.send_json({"type": "leave"})
            return answer

    with ThreadPoolExecutor(max_workers=1) as elsewhere:  # a loop may run in this thread
        return elsewhere.submit(asyncio.run, ask()).result()
