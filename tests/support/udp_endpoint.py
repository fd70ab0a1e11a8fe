"""A UDP socket for tests: sends at once, receives with a timeout."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

PATIENCE = 20.0  # seconds; a packet over loopback that takes longer is lost, however busy the machine is


class UdpEndpoint:
    """What arrives waits in order. A plain socket: the transports of asyncio send no empty datagrams."""

    def __init__(self, host: str) -> None:
        self._arrived: asyncio.Queue[tuple[bytes, tuple[str, int]]] = asyncio.Queue()
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)  # noqa: FBT003  # its only argument
        self._socket.bind((host, 0))
        asyncio.get_running_loop().add_reader(self._socket, self._on_readable)

    @property
    def address(self) -> tuple[str, int]:
        name: tuple[str, int] = self._socket.getsockname()[:2]
        return name

    @property
    def is_silent(self) -> bool:
        """Whether nothing has arrived that nobody has read."""
        return self._arrived.empty()

    def send(self, data: bytes, to: tuple[str, int]) -> None:
        self._socket.sendto(data, to)

    async def receive(self) -> bytes:
        return (await self.receive_from())[0]

    async def receive_from(self) -> tuple[bytes, tuple[str, int]]:
        async with asyncio.timeout(PATIENCE):
            return await self._arrived.get()

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _on_readable(self) -> None:
        with contextlib.suppress(OSError):  # nothing left, or an ICMP error of something sent before
            data, sender = self._socket.recvfrom(65536)
            self._arrived.put_nowait((data, sender[:2]))


@contextlib.asynccontextmanager
async def udp_endpoint(host: str = "127.0.0.1") -> AsyncIterator[UdpEndpoint]:
    """A bound UDP socket."""
    endpoint = UdpEndpoint(host)
    try:
        yield endpoint
    finally:
        endpoint.close()
