"""What every worker does: it obeys its supervisor over a channel, counts, and ends when the supervisor does.

`python -m config KIND NUMBER DESCRIPTOR`: which kind of worker, which one, and where its end of the channel is.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final

import prometheus_client
import uvloop
from prometheus_client import CollectorRegistry

from config.channel import Channel, ChannelError, Message
from config.crash import install_hooks, on_loop_failure
from config.garbage import spare_the_collector
from config.logs import configure_logging
from config.loop_lag import LoopLag
from config.metrics_sum import encode_snapshot, take_snapshot
from config.schema import LogSettings

_STOP_SECONDS: Final = 4  # then the kernel ends a worker that cannot end by itself
_FAILED: Final = 1

_LOGGER = logging.getLogger(__name__)


class Worker(ABC):
    """Does what the supervisor says. Every command that has a number gets exactly one reply, with that number."""

    def __init__(self, number: int, channel: Channel, lag_metric: str) -> None:
        """Prepare; `lag_metric` is what its loop's lag is called, for the supervisor has one of its own."""
        self._number = number
        self._channel = channel
        self._registry = CollectorRegistry()
        self._lag = LoopLag(self._registry, lag_metric)

    async def run(self) -> None:
        """Serve the channel until its end or `stop`; then close everything.

        Raises:
            ChannelError: the supervisor does not speak as it should.
        """
        self._lag.start()
        try:
            while (message := await self._channel.receive()) is not None:
                if message.get("command") == "stop":
                    break
                reply = await self._take(message)
                if "id" in message:
                    self._channel.send({"reply": message["id"], **reply})
        finally:
            signal.alarm(_STOP_SECONDS)
            await self._lag.stop()
            await self._stop()
            self._channel.close()

    async def _take(self, message: Message) -> Message:
        match message:
            case {"command": "start"}:
                reply = await self._start(message)
                spare_the_collector()
                return reply
            case {"command": "metrics"}:
                return {"metrics": encode_snapshot(take_snapshot(self._registry))}
        obeyed = await self._obey(message)
        if obeyed is None:
            raise ChannelError(f"unknown command {message.get('command')!r}")
        return obeyed

    @abstractmethod
    async def _start(self, message: Message) -> Message:
        """Begin to work with what the supervisor gives; {"failed": why} if that cannot be."""

    @abstractmethod
    async def _obey(self, message: Message) -> Message | None:
        """Do one thing and return the reply; None for a command that is unknown, or too early."""

    @abstractmethod
    async def _stop(self) -> None:
        """Close everything; also if nothing was started."""


def serve(make: Callable[[int, Channel], Worker], number: int, descriptor: int) -> None:
    """Run a worker until its end; `descriptor` is its end of the channel to the supervisor."""
    # A terminal and systemd send these to every process of the service. It is for the supervisor to say when: a
    # worker may have to drain first. Without the supervisor the channel ends, and the worker with it.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    install_hooks()
    configure_logging(LogSettings(), process=f"process {os.getpid()}")  # until it is told how
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        uvloop.run(_run(make, number, descriptor))
    except Exception:
        _LOGGER.exception("worker %d ends: a bug", number)
        sys.exit(_FAILED)


async def _run(make: Callable[[int, Channel], Worker], number: int, descriptor: int) -> None:
    asyncio.get_running_loop().set_exception_handler(on_loop_failure)
    channel = await Channel.open(socket.socket(fileno=descriptor))
    await make(number, channel).run()
