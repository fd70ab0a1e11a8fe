"""The other end of the relayed echoes: one UDP socket of this machine for each family of addresses."""

import asyncio
import os
import time
from collections.abc import Sequence
from typing import Final, cast

from check.conversation import TRANSACTION_ID_BYTES, Answer, Conversation
from check.echo import EchoSeries
from check.plan import Family
from stun.address import TransportAddress
from stun.errors import MessageParseError

LEARN_SECONDS: Final = 1.2  # for the address that a STUN server sees it as
_ASK_EVERY_SECONDS: Final = 0.3
_ANY: Final = {Family.IPV4: "0.0.0.0", Family.IPV6: "::"}  # noqa: S104  # as every client's socket


class Peer(asyncio.DatagramProtocol):
    """Sends packets of series to relayed addresses, and takes in what comes back. Use `open_peer`."""

    def __init__(self) -> None:
        self.mapped: TransportAddress | None = None  # what a STUN server sees the socket as; None: none answered
        self._learnt = asyncio.Event()
        self._conversation = Conversation()
        self._asked: set[bytes] = set()
        self._series: list[EchoSeries] = []
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast("asyncio.DatagramTransport", transport)  # no subclass of it, but one in all it does

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:  # noqa: ARG002  # its token tells
        """Count a packet of a series, or learn the own address."""
        now = time.monotonic()
        for series in self._series:
            if series.owns(data):
                series.receive(data, now)
                return
        try:
            answer = self._conversation.read(data)
        except MessageParseError:
            return
        if isinstance(answer, Answer) and answer.transaction_id in self._asked and answer.mapped is not None:
            self.mapped = self.mapped or answer.mapped
            self._learnt.set()

    def error_received(self, exc: Exception) -> None:
        """An ICMP error about one of many destinations: what comes back, or does not, says more."""

    async def learn(self, servers: Sequence[tuple[str, int]]) -> None:
        """Ask STUN servers, all at once, which address this socket is seen as; for LEARN_SECONDS at most."""
        deadline = time.monotonic() + LEARN_SECONDS
        while servers and not self._learnt.is_set() and time.monotonic() < deadline:
            for server in servers:
                transaction_id = os.urandom(TRANSACTION_ID_BYTES)
                self._asked.add(transaction_id)
                self.send(self._conversation.binding(transaction_id), server)
            try:
                async with asyncio.timeout(_ASK_EVERY_SECONDS):
                    await self._learnt.wait()
            except TimeoutError:
                continue

    def add(self, series: EchoSeries) -> None:
        """Take in the packets of a series from now on."""
        self._series.append(series)

    def send(self, data: bytes, to: tuple[str, int]) -> None:
        """Send one packet."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(data, to)

    def close(self) -> None:
        """Close the socket."""
        if self._transport is not None:
            self._transport.close()


async def open_peer(family: Family) -> Peer:
    """A peer on a port that the kernel chooses.

    Raises:
        OSError: this machine has no sockets of that family.
    """
    loop = asyncio.get_running_loop()
    _, peer = await loop.create_datagram_endpoint(Peer, local_addr=(_ANY[family], 0))
    return peer
