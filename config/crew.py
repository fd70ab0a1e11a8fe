"""Worker processes in numbered places: started, watched, replaced when they end or hang; what they count is added up.

What the relay's workers and the SFU's have in common. A subclass says how one is started and what its end means.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Final, Generic, NamedTuple, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from config.backoff import Backoff
from config.channel import Message
from config.metrics_sum import Snapshot, add_up, decode_snapshot, keep_counted, to_metrics
from config.worker_process import WorkerGone, WorkerProcess

_LOGGER: Final = logging.getLogger(__name__)


class WorkerFailed(Exception):
    """A worker cannot do its work; the message says why."""

    is_for_operator: ClassVar = True  # what it says is about the machine and its settings


class Patience(NamedTuple):
    """How long workers are waited for, in seconds."""

    start: float = 20.0
    reply: float = 10.0  # then it hangs, and is replaced; pings have half of it each, and two come before that
    scrape: float = 1.5  # then its last figures have to do
    stop: float = 4.0  # then it is killed
    between_pings: float = 1.0


class Place:
    """What belongs to one number: a process most of the time."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: WorkerProcess | None = None
        self.is_up = False  # it works, maybe for old clients only
        self.is_ready = False  # it welcomes new clients
        self.answered = False  # the last scrape
        self.load = 0  # allocations or people, as of the last reply that told
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
        self.load = 0


P = TypeVar("P", bound=Place)


class Crew(ABC, Generic[P]):
    """The workers of one kind."""

    def __init__(self, name: str, patience: Patience) -> None:
        """Prepare; nothing is started before `_begin`.

        Args:
            name: what one of them is called in the log.
            patience: for them.
        """
        self._name = name
        self._patience = patience
        self._places: list[P] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._refreshing: asyncio.Task[None] | None = None
        self._is_draining = False

    @property
    def ready(self) -> bool:
        """Whether every worker welcomes new clients."""
        return not self._is_draining and bool(self._places) and all(place.is_ready for place in self._places)

    @property
    def places(self) -> Sequence[P]:
        """Every place, by its number."""
        return self._places

    @property
    def pids(self) -> list[int]:
        """The processes, by number of the worker; 0 where there is none right now."""
        return [0 if place.process is None else place.process.pid for place in self._places]

    async def refresh(self) -> None:
        """Fetch what the workers have counted; one that does not answer keeps its last figures.

        Takes `patience.scrape` seconds at most.
        """
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh())
        await asyncio.shield(self._refreshing)

    # What a subclass says

    @abstractmethod
    async def _spawn(self, place: P) -> tuple[WorkerProcess, Message]:
        """Start a process, and say what it is to be told with the command `start`.

        Raises:
            OSError: the system has no room for another one.
        """

    @abstractmethod
    async def _on_end(self, place: P, status: int) -> None:
        """The worker of this place has ended, and the place is empty."""

    def _on_up(self, place: P) -> None:
        """The worker of this place works, for the first time or again."""

    # What a subclass uses

    async def _begin(self, places: Sequence[P]) -> None:
        """Start a worker in every place and watch over them; whoever calls stops them if one does not start.

        Raises:
            WorkerFailed: one did not start.
        """
        self._places = list(places)
        _raise_first(await asyncio.gather(*map(self._launch, self._places), return_exceptions=True))
        self._tasks = [asyncio.create_task(self._keep(place)) for place in self._places]
        for task in self._tasks:
            task.add_done_callback(_report)

    async def _end(self) -> None:
        """End every worker, within `patience.stop` and a moment."""
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
                    _LOGGER.warning("%s with PID %d does not end, and is killed", self._name, process.pid)
                    process.kill()
                    await process.ended
        for place in self._places:
            place.vacate()

    async def _ask_all(self, command: str, **fields: Any) -> list[Message]:  # noqa: ANN401
        """Give a command to all; who has gone or hangs is replaced, and its successor knows what there is to know."""
        return await asyncio.gather(*(self._ask(place, command, **fields) for place in self._places))

    async def _ask(self, place: P, command: str, **fields: Any) -> Message:  # noqa: ANN401
        if place.process is None:
            return {}
        try:
            return await place.process.ask(command, self._patience.reply, **fields)
        except (WorkerGone, TimeoutError):
            return {}

    # What it does by itself

    async def _refresh(self) -> None:
        await asyncio.gather(*map(self._fetch, self._places))

    async def _fetch(self, place: P) -> None:
        process = place.process
        place.answered = False
        if process is None:
            return
        try:
            reply = await process.ask("metrics", self._patience.scrape)
        except (WorkerGone, TimeoutError):
            return
        if place.process is process:  # else it was replaced meanwhile, and its last figures are kept already
            try:
                place.snapshot = decode_snapshot(reply["metrics"])
            except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
                kind = type(error).__name__  # what it said stays out of the log
                _LOGGER.error("%s %d is killed: its figures are none: %s", self._name, place.number, kind)  # noqa: TRY400
                process.kill()
            else:
                place.answered = True

    async def _launch(self, place: P) -> None:
        """Start a worker and wait until it works.

        Raises:
            WorkerFailed: it does not.
        """
        named = f"{self._name} {place.number}"
        try:
            process, fields = await self._spawn(place)
        except OSError as error:
            raise WorkerFailed(f"{named}: {error.strerror}") from error
        place.process = process
        try:
            reply = await process.ask("start", self._patience.start, **fields)
            if self._is_draining:
                await process.ask("drain", self._patience.reply)
        except WorkerGone:
            raise WorkerFailed(f"{named} ended as it started") from None
        except TimeoutError:
            raise WorkerFailed(f"{named} did not start within {self._patience.start:g} s") from None
        if "failed" in reply:
            process.kill()
            await process.ended
            raise WorkerFailed(reply["failed"])
        place.is_up = place.is_ready = place.answered = True
        self._on_up(place)

    async def _keep(self, place: P) -> None:
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
                await self._on_end(place, status)
            await asyncio.sleep(place.backoff.delay(lived))
            place.restarts += 1
            try:
                await self._launch(place)
            except WorkerFailed as failure:
                _LOGGER.error("%s", failure)  # noqa: TRY400  # a traceback would not help the operator
                if place.process is not None:
                    place.process.kill()
            else:
                _LOGGER.info("%s %d works again", self._name, place.number)

    async def _attend(self, place: P, process: WorkerProcess) -> None:
        """Ask the worker how it is, until it has ended or says nothing any more."""
        while not process.ended.done():
            try:
                reply = await self._ping(process)
            except WorkerGone:
                await asyncio.wait([process.ended], timeout=self._patience.stop)  # it has hung up to end by itself
                return
            except TimeoutError:
                _LOGGER.error("%s %d hangs, and is killed", self._name, place.number)  # noqa: TRY400
                return
            match reply:
                case {"ready": bool(ready), "load": int(load)}:
                    place.is_ready, place.load = ready, load
                case _:
                    _LOGGER.error("%s %d is killed: it does not say how it is", self._name, place.number)
                    return
            await asyncio.wait([process.ended], timeout=self._patience.between_pings)

    async def _ping(self, process: WorkerProcess) -> Message:
        """Ask twice: it may have been this process that stood still, and the answer lies there unread."""
        half = self._patience.reply / 2
        try:
            return await process.ask("ping", half)
        except TimeoutError:
            return await process.ask("ping", half)


class CrewCollector(Collector):
    """Shows the workers of a crew as one, and each one's process."""

    def __init__(self, places: Sequence[Place], prefix: str) -> None:
        """Show these places; `prefix` begins the names of the metrics about processes."""
        self._places = places
        self._prefix = prefix

    def collect(self) -> Iterator[Metric]:
        """Yield the sums, as of the last `refresh`, and the figures of the processes, as of now."""
        yield from to_metrics(add_up([part for place in self._places for part in (place.retired, place.snapshot)]))
        label = ["worker"]
        up = GaugeMetricFamily(
            f"{self._prefix}_up",
            "1 if the worker works and answered this scrape; else its last figures are shown.",
            labels=label,
        )
        restarts = CounterMetricFamily(
            f"{self._prefix}_restarts", "How often a worker that ended was started again.", labels=label
        )
        cpu = CounterMetricFamily(f"{self._prefix}_cpu_seconds", "CPU time used.", labels=label)
        memory = GaugeMetricFamily(f"{self._prefix}_resident_memory_bytes", "Resident memory.", labels=label)
        descriptors = GaugeMetricFamily(
            f"{self._prefix}_open_fds", "Open file descriptors; process_max_fds may be open.", labels=label
        )
        for place in self._places:
            values = [str(place.number)]
            up.add_metric(values, int(place.is_up and place.answered))
            restarts.add_metric(values, place.restarts)
            used = place.retired_cpu_seconds
            if place.process is not None:
                usage = place.process.usage()
                used += usage.cpu_seconds
                memory.add_metric(values, usage.resident_bytes)
                descriptors.add_metric(values, place.process.open_descriptors())
            cpu.add_metric(values, used)
        yield from (up, restarts, cpu, memory, descriptors)


def _raise_first(results: Sequence[BaseException | None]) -> None:
    """One is enough to tell: all fail for the same reason."""
    for failure in filter(None, results):
        raise failure


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _LOGGER.critical("nobody looks after a worker any more: a bug", exc_info=error)
