"""Relay workers that share the ports: starts them, watches them, replaces those that end, adds up what they count."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from config.backoff import Backoff
from config.handover import encode_settings, encode_state
from config.metrics_sum import Snapshot, add_up, decode_snapshot, keep_counted, to_metrics
from config.reload import ReloadFailed
from config.schema import Settings
from config.state import State
from config.worker_process import WorkerGone, WorkerProcess
from relay.io.addresses import relay_addresses
from relay.io.listening import BoundSocket, bind_everywhere, close_all
from relay.io.shared_ledger import Geometry, SharedLedger
from stun.address import TransportAddress

_LOGGER: Final = logging.getLogger(__name__)
_LOCK_RETRY_SECONDS: Final = 0.01


class WorkerFailed(Exception):
    """A worker cannot do its work; the message says why."""


class Patience(NamedTuple):
    """How long the supervisor waits for a worker, in seconds."""

    start: float = 20.0
    reply: float = 10.0  # then it hangs, and is replaced
    scrape: float = 1.5  # then its last figures have to do
    stop: float = 4.0  # then it is killed
    between_pings: float = 1.0


_PATIENCE: Final = Patience()


class Supervisor:
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
        self._settings = settings
        self._state = state
        self._registry = registry
        self._patience = patience
        self._places: list[_Place] = []
        self._shared: SharedLedger | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._refreshing: asyncio.Task[None] | None = None
        self._is_draining = False

    @property
    def ready(self) -> bool:
        """Whether every worker welcomes new clients."""
        return not self._is_draining and bool(self._places) and all(place.is_ready for place in self._places)

    @property
    def allocations(self) -> int:
        """Live allocations, as of the last ping."""
        return sum(place.allocations for place in self._places)

    @property
    def pids(self) -> list[int]:
        """The processes, by number of the worker; 0 where there is none right now."""
        return [0 if place.process is None else place.process.pid for place in self._places]

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
            shared = self._shared = SharedLedger.create(geometry)
        except ValueError as error:
            raise WorkerFailed(str(error)) from error
        try:
            bound = bind_everywhere(relay, relay.workers)
            self._places = [_Place(number, sockets) for number, sockets in enumerate(bound)]
            launches = [self._launch(place, shared) for place in self._places]
            _raise_first(await asyncio.gather(*launches, return_exceptions=True))
        except BaseException:
            await self.stop()
            raise
        self._registry.register(_WorkersCollector(self._places))
        self._tasks = [asyncio.create_task(self._keep(place, shared)) for place in self._places]
        for task in self._tasks:
            task.add_done_callback(_report)
        _LOGGER.info("relay ready: %d workers share %d sockets each", len(self._places), len(self._places[0].sockets))

    async def stop(self) -> None:
        """End every worker, within `patience.stop` and a moment, and close every socket."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        running = [place.process for place in self._places if place.process is not None]
        for process in running:
            process.tell_to_stop()
        if running:
            _done, hanging = await asyncio.wait([process.ended for process in running], timeout=self._patience.stop)
            for process in running:
                if process.ended in hanging:
                    _LOGGER.warning("worker with PID %d does not end, and is killed", process.pid)
                    process.kill()
                    await process.ended
        close_all([place.sockets for place in self._places])
        for place in self._places:
            place.vacate()
        if self._shared is not None:
            self._shared.close()
            self._shared = None

    def is_relayed(self, family: int, port: int) -> bool:
        """Whether a worker relays at this port; for those parts of this process that judge peers."""
        return self._shared is not None and self._shared.is_relayed_by_another(-1, family, port)

    async def drain(self) -> None:
        """Let no worker take new allocations; `allocations` says how many are left."""
        self._is_draining = True
        replies = await asyncio.gather(*(self._ask(place, "drain") for place in self._places))
        for place, reply in zip(self._places, replies, strict=True):  # what the last ping said may be too old by now
            place.allocations = reply.get("allocations", 0)

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
        fields = {"settings": encode_settings(settings), "state": encode_state(state)}
        replies = await asyncio.gather(*(self._ask(place, "reload", **fields) for place in self._places))
        return [reply["failed"] for reply in replies if "failed" in reply]

    async def refresh(self) -> None:
        """Fetch what the workers have counted; one that does not answer keeps its last figures. Takes 1.5 s at most."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh())
        await asyncio.shield(self._refreshing)

    async def _refresh(self) -> None:
        await asyncio.gather(*map(self._fetch, self._places))

    async def _fetch(self, place: "_Place") -> None:
        process = place.process
        place.answered = False
        if process is None:
            return
        try:
            reply = await process.ask("metrics", self._patience.scrape)
        except (WorkerGone, TimeoutError):
            return
        if place.process is process:  # else it was replaced meanwhile, and its last figures are kept already
            place.snapshot = decode_snapshot(reply["metrics"])
            place.answered = True

    async def _ask(self, place: "_Place", command: str, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
        """Give a command; who has gone or hangs is replaced, and its successor knows what there is to know."""
        if place.process is None:
            return {}
        try:
            return await place.process.ask(command, self._patience.reply, **fields)
        except (WorkerGone, TimeoutError):
            return {}

    async def _launch(self, place: "_Place", shared: SharedLedger) -> None:
        """Start a worker and wait until it relays.

        Raises:
            WorkerFailed: it does not.
        """
        descriptors = [entry.sock.fileno() for entry in place.sockets]
        try:
            process = place.process = await WorkerProcess.spawn(place.number, [*descriptors, shared.descriptor])
        except OSError as error:
            raise WorkerFailed(f"worker {place.number}: {error.strerror}") from error
        try:
            reply = await process.ask(
                "start",
                self._patience.start,
                settings=encode_settings(self._settings),
                state=encode_state(self._state),
                sockets=[
                    [entry.transport.value, entry.host, entry.port, descriptor]
                    for entry, descriptor in zip(place.sockets, descriptors, strict=True)
                ],
                ledger=shared.descriptor,
            )
            if self._is_draining:
                await process.ask("drain", self._patience.reply)
        except WorkerGone:
            raise WorkerFailed(f"worker {place.number} ended as it started") from None
        except TimeoutError:
            raise WorkerFailed(f"worker {place.number} did not start within {self._patience.start:g} s") from None
        if "failed" in reply:
            process.kill()
            await process.ended
            raise WorkerFailed(reply["failed"])
        place.is_up = place.is_ready = place.answered = True

    async def _keep(self, place: "_Place", shared: SharedLedger) -> None:
        """See that there is always a worker in this place."""
        while True:
            lived = 0.0
            process = place.process
            if process is not None:
                await self._attend(place, process)
                place.is_up = place.is_ready = place.answered = False
                process.kill()
                status = await process.ended
                lived = asyncio.get_running_loop().time() - process.started_at
                place.vacate()
                await _take_back(shared, place.number)
                _LOGGER.error("worker %d ended with status %d; its clients allocate again", place.number, status)
            await asyncio.sleep(place.backoff.delay(lived))
            place.restarts += 1
            try:
                await self._launch(place, shared)
            except WorkerFailed as failure:
                _LOGGER.error("%s", failure)  # noqa: TRY400  # a traceback would not help the operator
                if place.process is not None:
                    place.process.kill()
            else:
                _LOGGER.info("worker %d relays again", place.number)

    async def _attend(self, place: "_Place", process: WorkerProcess) -> None:
        """Ask the worker how it is, until it has ended or says nothing any more."""
        while not process.ended.done():
            try:
                reply = await process.ask("ping", self._patience.reply)
            except WorkerGone:
                return
            except TimeoutError:
                _LOGGER.error("worker %d hangs, and is killed", place.number)  # noqa: TRY400
                return
            place.is_ready, place.allocations = reply["ready"], reply["allocations"]
            await asyncio.wait([process.ended], timeout=self._patience.between_pings)


class _Place:
    """What belongs to one number: its sockets for ever, a process most of the time."""

    def __init__(self, number: int, sockets: list[BoundSocket]) -> None:
        self.number = number
        self.sockets = sockets
        self.process: WorkerProcess | None = None
        self.is_up = False  # it relays, maybe for old clients only
        self.is_ready = False  # it welcomes new clients
        self.answered = False  # the last scrape
        self.allocations = 0
        self.restarts = 0
        self.backoff = Backoff()
        self.snapshot: Snapshot = {}
        self.retired: Snapshot = {}  # what those that ended had counted when they were asked last
        self.retired_cpu_seconds = 0.0

    def vacate(self) -> None:
        """The process has ended: keep what it had counted, so that no counter goes down."""
        if self.process is not None:
            self.retired_cpu_seconds += self.process.last_usage.cpu_seconds
        self.retired = add_up([self.retired, keep_counted(self.snapshot)])
        self.snapshot = {}
        self.process = None
        self.is_up = self.is_ready = self.answered = False
        self.allocations = 0


class _WorkersCollector(Collector):
    """Shows the workers as one relay, and each one's process."""

    def __init__(self, places: list[_Place]) -> None:
        self._places = places

    def collect(self) -> Iterator[Metric]:
        """Yield the sums, as of the last `refresh`, and the figures of the processes, as of now."""
        yield from to_metrics(add_up([part for place in self._places for part in (place.retired, place.snapshot)]))
        label = ["worker"]
        up = GaugeMetricFamily(
            "redconnect_worker_up",
            "1 if the worker relays and answered this scrape; else its last figures are shown.",
            labels=label,
        )
        restarts = CounterMetricFamily(
            "redconnect_worker_restarts", "How often a worker that ended was started again.", labels=label
        )
        cpu = CounterMetricFamily("redconnect_worker_cpu_seconds", "CPU time used.", labels=label)
        memory = GaugeMetricFamily("redconnect_worker_resident_memory_bytes", "Resident memory.", labels=label)
        for place in self._places:
            values = [str(place.number)]
            up.add_metric(values, int(place.is_up and place.answered))
            restarts.add_metric(values, place.restarts)
            used = place.retired_cpu_seconds
            if place.process is not None:
                usage = place.process.usage()
                used += usage.cpu_seconds
                memory.add_metric(values, usage.resident_bytes)
            cpu.add_metric(values, used)
        yield from (up, restarts, cpu, memory)


async def _take_back(shared: SharedLedger, worker: int) -> None:
    """Free all that a dead worker held. Others hold the lock for microseconds, and one that hangs is killed soon."""
    while True:
        try:
            return shared.clear_worker(worker)
        except BlockingIOError:
            await asyncio.sleep(_LOCK_RETRY_SECONDS)


def _raise_first(results: list[BaseException | None]) -> None:
    """One is enough to tell: all fail for the same reason."""
    for failure in filter(None, results):
        raise failure


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _LOGGER.critical("nobody looks after a worker any more: a bug", exc_info=error)
