"""Relay workers that share the ports: what they are given, and what the end of one means."""

import asyncio
import logging
from typing import Final

from prometheus_client import CollectorRegistry

from config.__main__ import RELAY_WORKER
from config.channel import Message
from config.crew import Crew, CrewCollector, Patience, Place, WorkerFailed
from config.handover import encode_settings, encode_state
from config.reload import ReloadFailed
from config.schema import Settings
from config.state import State
from config.worker_process import WorkerProcess
from relay.io.addresses import relay_addresses
from relay.io.listening import BoundSocket, bind_everywhere, close_all
from relay.io.shared_ledger import Geometry, SharedLedger
from stun.address import TransportAddress

_LOGGER: Final = logging.getLogger(__name__)
_LOCK_RETRY_SECONDS: Final = 0.01
_PATIENCE: Final = Patience()


class _Place(Place):
    """What belongs to one number: its sockets for ever, a process most of the time."""

    def __init__(self, number: int, sockets: list[BoundSocket]) -> None:
        super().__init__(number)
        self.sockets = sockets


class Supervisor(Crew[_Place]):
    """The relay of a machine with many cores. `start`, then `stop`; in between it looks like one relay.

    It binds every socket of every worker and never lets go of one: the group of sockets that share a port stays the
    same when a worker ends, so the other workers keep their clients, and the next one finds what arrived meanwhile.
    """

    def __init__(
        self, settings: Settings, state: State, registry: CollectorRegistry, patience: Patience = _PATIENCE
    ) -> None:
        """Prepare; nothing is opened before `start`.

        Args:
            settings: of the whole service.
            state: secrets and certificate.
            registry: where the metrics go; call `refresh` before reading it.
            patience: for workers.
        """
        super().__init__("worker", patience)
        self._settings = settings
        self._state = state
        self._registry = registry
        self._shared: SharedLedger | None = None

    @property
    def allocations(self) -> int:
        """Live allocations, as of the last ping."""
        return sum(place.load for place in self._places)

    async def start(self) -> None:
        """Bind everything and start every worker, or nothing.

        Raises:
            BindError: a port is taken or an address is not ours.
            WorkerFailed: a worker did not start.
        """
        relay = self._settings.relay
        families = tuple(TransportAddress(address.bound, 0).family for address in relay_addresses(relay))
        geometry = Geometry(relay.workers, relay.port_min, relay.port_max, relay.quota.total_share_percent, families)
        try:
            self._shared = SharedLedger.create(geometry)
        except ValueError as error:
            raise WorkerFailed(str(error)) from error
        try:
            bound = bind_everywhere(relay, relay.workers)
            await self._begin([_Place(number, sockets) for number, sockets in enumerate(bound)])
        except BaseException:
            await self.stop()
            raise
        self._registry.register(CrewCollector(self._places, "redconnect_worker"))
        _LOGGER.info("relay ready: %d workers share %d sockets each", len(self._places), len(self._places[0].sockets))

    async def stop(self) -> None:
        """End every worker, within `patience.stop` and a moment, and close every socket."""
        await self._end()
        close_all([place.sockets for place in self._places])
        if self._shared is not None:
            self._shared.close()
            self._shared = None

    @property
    def ports_left(self) -> int:
        """Relayed ports that may still be taken, of the family that has the fewest."""
        return 0 if self._shared is None else self._shared.count_left()

    def worker_of(self, port: int) -> int:
        """The worker that gives this relayed port to clients.

        Raises:
            LookupError: it is none of ours.
        """
        return self._ledger.geometry.worker_of(port)

    async def drain(self) -> None:
        """Let no worker take new allocations; `allocations` says how many are left."""
        self._is_draining = True
        replies = await self._ask_all("drain")
        for place, reply in zip(self._places, replies, strict=True):  # what the last ping said may be too old by now
            place.load = reply.get("load", 0)

    async def reload(self, settings: Settings, state: State) -> None:
        """Let every worker, and those that replace them, take other settings and secrets into use.

        Raises:
            ReloadFailed: one could not, and all of them go on as before.
        """
        before = self._settings, self._state
        failures = await self._hand_out(settings, state)
        if failures:
            await self._hand_out(*before)
            raise ReloadFailed(failures[0])

    async def _hand_out(self, settings: Settings, state: State) -> list[str]:
        """Give every worker these settings; returns what went wrong."""
        self._settings, self._state = settings, state  # a worker that starts just now gets them at once
        replies = await self._ask_all("reload", settings=encode_settings(settings), state=encode_state(state))
        return [reply["failed"] for reply in replies if "failed" in reply]

    async def _spawn(self, place: _Place) -> tuple[WorkerProcess, Message]:
        shared = self._ledger
        descriptors = [entry.sock.fileno() for entry in place.sockets]
        process = await WorkerProcess.spawn(RELAY_WORKER, place.number, [*descriptors, shared.descriptor])
        sockets = [
            [entry.transport.value, entry.host, entry.port, descriptor]
            for entry, descriptor in zip(place.sockets, descriptors, strict=True)
        ]
        fields = {
            "settings": encode_settings(self._settings),
            "state": encode_state(self._state),
            "sockets": sockets,
            "ledger": shared.descriptor,
        }
        return process, fields

    async def _on_end(self, place: _Place, status: int) -> None:
        await _take_back(self._ledger, place.number)
        _LOGGER.error("worker %d ended with status %d; its clients allocate again", place.number, status)

    @property
    def _ledger(self) -> SharedLedger:
        if self._shared is None:
            raise RuntimeError("the relay does not run")
        return self._shared


async def _take_back(shared: SharedLedger, worker: int) -> None:
    """Free all that a dead worker held. Others hold the lock for microseconds, and one that hangs is killed soon."""
    while True:
        try:
            return shared.clear_worker(worker)
        except BlockingIOError:
            await asyncio.sleep(_LOCK_RETRY_SECONDS)
