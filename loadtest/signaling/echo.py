"""A WebSocket server without any logic, on the same libraries as the service: what no server on them gets below.

python -m loadtest.signaling.echo PORT
"""

import asyncio
import sys

import uvloop
from aiohttp import WSMsgType, web

HEARTBEAT_SECONDS = 15.0
MAX_MESSAGE_BYTES = 131_072


async def echo(request: web.Request) -> web.WebSocketResponse:
    """Send every text back."""
    socket = web.WebSocketResponse(compress=False, heartbeat=HEARTBEAT_SECONDS, max_msg_size=MAX_MESSAGE_BYTES)
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data)
    return socket


async def serve(port: int) -> None:
    """Listen on loopback until the process is ended."""
    app = web.Application()
    app.router.add_get("/ws", echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print("listening", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
