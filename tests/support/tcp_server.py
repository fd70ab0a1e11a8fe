"""A TCP or TLS server for one test, which leaves nothing open behind."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[object]]


@contextlib.asynccontextmanager
async def serve_tcp(handle: Handle, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve on a free port of loopback, which is handed over; at the end wait for those who are being served.

    Whoever connects must have ended by then, or be ended by `handle`.
    """
    served: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        served.append(task)
        with contextlib.suppress(OSError, EOFError):  # clients here hang up whenever they like
            await handle(reader, writer)
        writer.transport.abort()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]
        while unfinished := [task for task in served if not task.done()]:
            await asyncio.gather(*unfinished)
        await asyncio.sleep(0)  # the loop closes what was aborted


def saying(greeting: bytes) -> Handle:
    """Says something, then listens to the end."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await reader.read()

    return handle
