"""A relay worker: a process of its own that the supervisor starts, talks to over a channel, and replaces.

`python -m config --relay-worker NUMBER DESCRIPTOR`: which worker it is, and where its end of the channel is.
"""

import logging
import os
import signal
import socket
import sys
from functools import partial
from typing import Any, Final

import prometheus_client
import uvloop
from prometheus_client import CollectorRegistry

from config.channel import Channel, ChannelError, Message
from config.garbage import spare_the_collector
from config.handover import decode_settings, decode_state
from config.logs import configure_logging
from config.loop_lag import LoopLag
from config.metrics_sum import encode_snapshot, take_snapshot
from config.relay import LocalRelay
from config.reload import ReloadFailed
from config.schema import Settings
from config.state import StateError
from relay.five_tuple import Transport
from relay.io.listening import BoundSocket
from relay.io.service import Shared
from relay.io.shared_ledger import SharedLedger

_STOP_SECONDS: Final = 4  # then the kernel ends a worker that cannot end by itself
_FAILED: Final = 1

_LOGGER = logging.getLogger(__name__)


class Worker:
    """Does what the supervisor says. Every command gets exactly one reply, with its number."""

    def __init__(self, number: int, channel: Channel) -> None:
        self._number = number
        self._channel = channel
        self._registry = CollectorRegistry()
        self._shared: SharedLedger | None = None
        self._relay: LocalRelay | None = None

    async def run(self) -> None:
        """Serve the channel until its end or `stop`; then end the relay.

        Raises:
            ChannelError: the supervisor does not speak as it should.
        """
        lag = LoopLag(self._registry, "redconnect_worker_event_loop_lag_seconds")  # the supervisor has one of its own
        lag.start()
        try:
            while (message := await self._channel.receive()) is not None:
                if message.get("command") == "stop":
                    break
                self._reply(message, await self._obey(message))
        finally:
            signal.alarm(_STOP_SECONDS)
            await lag.stop()
            if self._relay is not None:
                await self._relay.stop()
            if self._shared is not None:
                self._shared.close()
            self._channel.close()

    def _reply(self, message: Message, reply: Message) -> None:
        self._channel.send({"reply": message.get("id"), **reply})

    async def _obey(self, message: Message) -> Message:
        match message:
            case {"command": "start", "settings": settings, "state": state, "sockets": sockets, "ledger": ledger}:
                return await self._start(settings, state, sockets, ledger)
            case {"command": "ping"} if self._relay is not None:
                return {"ready": self._relay.ready, "allocations": self._relay.allocations}
            case {"command": "metrics"}:
                return {"metrics": encode_snapshot(take_snapshot(self._registry))}
            case {"command": "drain"} if self._relay is not None:
                await self._relay.drain()
                return {"allocations": self._relay.allocations}
            case {"command": "reload", "settings": settings, "state": state} if self._relay is not None:
                return await self._reload(self._relay, settings, state)
        raise ChannelError(f"unknown command {message.get('command')!r}")

    async def _start(self, settings: object, state: dict[str, Any], sockets: list[Any], ledger: int) -> Message:
        decoded = decode_settings(settings)
        self._configure_logging(decoded)
        bound = [
            BoundSocket(Transport(transport), host, port, socket.socket(fileno=descriptor))
            for transport, host, port, descriptor in sockets
        ]
        self._shared = SharedLedger.open(ledger)
        counts = self._shared.ledger(self._number, os.urandom)
        try:
            shared = Shared(bound, counts, partial(self._shared.is_relayed_by_another, self._number))
            self._relay = LocalRelay(decoded, decode_state(state), self._registry, shared=shared)
            await self._relay.start()
            spare_the_collector()
        except (OSError, StateError) as error:
            self._relay = None  # nothing to stop: it stopped by itself
            return {"failed": str(error)}
        return {}

    async def _reload(self, relay: LocalRelay, settings: object, state: dict[str, Any]) -> Message:
        try:
            decoded = decode_settings(settings), decode_state(state)
            await relay.reload(*decoded)
        except (ReloadFailed, ValueError) as error:
            return {"failed": str(error)}
        self._configure_logging(decoded[0])
        return {}

    def _configure_logging(self, settings: Settings) -> None:
        configure_logging(settings.log, process=f"worker {self._number}")


def main(number: int, descriptor: int) -> None:
    """Run a worker; `descriptor` is its end of the channel to the supervisor."""
    # A terminal and systemd send these to every process of the service. It is for the supervisor to say when: a
    # worker may have to drain first. Without the supervisor the channel ends, and the worker with it.
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        uvloop.run(_run(number, descriptor))
    except Exception:
        _LOGGER.exception("worker %d ends: a bug", number)
        sys.exit(_FAILED)


async def _run(number: int, descriptor: int) -> None:
    channel = await Channel.open(socket.socket(fileno=descriptor))
    await Worker(number, channel).run()
