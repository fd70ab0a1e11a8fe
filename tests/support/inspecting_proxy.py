"""A proxy that breaks TLS open, as some companies have one: its own certificate here, a connection of its own there.

    python -m tests.support.inspecting_proxy CERTIFICATE KEY LISTEN:HOST:PORT...

Prints "ready" and serves until it is ended. What it could read it passes on unchanged, and it agrees on no ALPN.
"""

import asyncio
import contextlib
import ssl
import sys

READ_BYTES = 65_536


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(READ_BYTES):
            writer.write(data)
            await writer.drain()
    writer.close()


async def _serve(certificate: str, key: str, doors: list[str]) -> None:
    inward = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    inward.load_cert_chain(certificate, key)
    outward = ssl.create_default_context()
    outward.check_hostname, outward.verify_mode = False, ssl.CERT_NONE
    async with contextlib.AsyncExitStack() as stack:
        for door in doors:
            listen, host, port = door.split(":")

            async def forward(
                reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str = host, port: int = int(port)
            ) -> None:
                try:
                    far_reader, far_writer = await asyncio.open_connection(host, port, ssl=outward)
                except OSError:
                    writer.close()
                    return
                await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))

            await stack.enter_async_context(await asyncio.start_server(forward, None, int(listen), ssl=inward))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], sys.argv[2], sys.argv[3:]))
