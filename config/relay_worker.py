"""A relay worker: a process of its own that the supervisor starts, talks to over a channel, and replaces."""

import os
import socket
from functools import partial
from typing import Any

from config.channel import Channel, Message
from config.handover import decode_settings, decode_state
from config.logs import configure_logging
from config.relay import LocalRelay
from config.reload import ReloadFailed
from config.schema import Settings
from config.state import StateError
from config.worker import Worker, serve
from relay.five_tuple import Transport
from relay.io.listening import BoundSocket
from relay.io.service import Shared
from relay.io.shared_ledger import SharedLedger


class RelayWorker(Worker):
    """Relays on the sockets that it is given."""

    def __init__(self, number: int, channel: Channel) -> None:
        super().__init__(number, channel, "redconnect_worker_event_loop_lag_seconds")
        self._shared: SharedLedger | None = None
        self._relay: LocalRelay | None = None

    async def _start(self, message: Message) -> Message:
        settings = decode_settings(message["settings"])
        self._configure_logging(settings)
        bound = [
            BoundSocket(Transport(transport), host, port, socket.socket(fileno=descriptor))
            for transport, host, port, descriptor in message["sockets"]
        ]
        self._shared = SharedLedger.open(message["ledger"])
        counts = self._shared.ledger(self._number, os.urandom)
        try:
            shared = Shared(bound, counts, partial(self._shared.is_relayed_by_another, self._number))
            self._relay = LocalRelay(settings, decode_state(message["state"]), self._registry, shared=shared)
            await self._relay.start()
        except (OSError, StateError) as error:
            self._relay = None  # nothing to stop: it stopped by itself
            return {"failed": str(error)}
        return {}

    async def _obey(self, message: Message) -> Message | None:
        if self._relay is None:
            return None
        match message:
            case {"command": "ping"}:
                return {"ready": self._relay.ready, "load": self._relay.allocations}
            case {"command": "drain"}:
                await self._relay.drain()
                return {"load": self._relay.allocations}
            case {"command": "reload", "settings": settings, "state": state}:
                return await self._reload(self._relay, settings, state)
        return None

    async def _stop(self) -> None:
        if self._relay is not None:
            await self._relay.stop()
        if self._shared is not None:
            self._shared.close()

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
    """Run a relay worker; `descriptor` is its end of the channel to the supervisor."""
    serve(RelayWorker, number, descriptor)
