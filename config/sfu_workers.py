"""The SFU of a machine with many cores: workers with a UDP port each, and conferences that outlive their worker."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge

from config.__main__ import SFU_WORKER
from config.channel import ChannelError, Message
from config.crew import Crew, CrewCollector, Patience, Place
from config.schema import Settings
from config.sfu_messages import decode_said, encode_command
from config.sfu_rooms import SfuRooms, WorkerBounds
from config.worker_process import WorkerProcess
from sfu.rate_limit import RateLimit
from signaling import conference_media as media

# Who stands still for two seconds is replaced: the conferences are to be back five seconds after it stopped.
PATIENCE: Final = Patience(reply=2.0, between_pings=0.25)
SAID_PER_SECOND: Final = 5_000.0  # messages of one worker: 500 people hear who speaks 3.3 times a second
SAID_AT_ONCE: Final = 20_000  # when all of them come at once, each is offered what all of its conference publish
# systemd tells every process of a service to end, the supervisor among them: then nobody is to move.
RETIRE_AFTER_SECONDS: Final = 0.5
LINGER_SECONDS: Final = 5.0  # a worker that is to end forwards for so long, until the pages have made other connections

_Cause = Literal["died", "retired"]

_LOGGER: Final = logging.getLogger(__name__)


class SfuWorkersMetrics:
    """What conferences go through when workers come and go."""

    def __init__(self, registry: CollectorRegistry, count_waiting: Callable[[], int]) -> None:
        self._moved = Counter(
            "redconnect_sfu_rooms_moved",
            "Conferences that went on in another worker, by what became of theirs.",
            ["cause"],
            registry=registry,
        )
        for cause in get_args(_Cause):
            self._moved.labels(cause)
        waiting = Gauge("redconnect_sfu_rooms_waiting", "Conferences without a worker right now.", registry=registry)
        waiting.set_function(count_waiting)

    def count_moved(self, cause: _Cause, rooms: int) -> None:
        """Count conferences whose worker died, or retired because it was told to end."""
        self._moved.labels(cause).inc(rooms)


class SfuWorkers(Crew[Place]):
    """The workers as one SFU. `start`, then `stop`; in between it looks like the SFU of one process."""

    def __init__(
        self, settings: Settings, registry: CollectorRegistry, tell: media.Tell, patience: Patience = PATIENCE
    ) -> None:
        """Prepare; nothing is opened before `start`.

        Args:
            settings: of the whole service.
            registry: where the metrics go; call `refresh` before reading it.
            tell: hears what participants are to be told, never from within a command.
            patience: for workers.
        """
        super().__init__("SFU worker", patience)
        self._settings = settings
        self._registry = registry
        self._tell = tell
        bounds = WorkerBounds(settings.sfu.max_rooms, settings.sfu.max_members_in_all)
        self._rooms = SfuRooms(settings.sfu.workers, bounds)
        self._said = RateLimit[int](SAID_PER_SECOND, SAID_AT_ONCE, settings.sfu.workers)
        self.media: Final[media.ConferenceMedia] = _Media(self._receive_command)
        self._metrics = SfuWorkersMetrics(registry, lambda: self._rooms.waiting)

    @property
    def ready(self) -> bool:
        """Whether new conferences are welcome; while one worker is replaced the others take them."""
        return not self._rooms.is_draining and any(place.is_ready for place in self._places)

    @property
    def members(self) -> int:
        """People in conferences."""
        return self._rooms.members

    async def start(self) -> None:
        """Start every worker, or nothing.

        Raises:
            WorkerFailed: one did not start; its port may be taken.
        """
        try:
            await self._begin([Place(number) for number in range(self._settings.sfu.workers)])
        except BaseException:
            await self.stop()
            raise
        self._registry.register(CrewCollector(self._places, "redconnect_sfu_worker"))
        _LOGGER.info("SFU ready: %d workers", len(self._places))

    async def stop(self) -> None:
        """End every worker, which says farewell to everybody."""
        await self._end()

    def drain(self) -> None:
        """Let no conference begin any more; those that have begun go on."""
        self._rooms.drain()

    async def reload(self, settings: Settings) -> None:
        """Let every worker, and those that replace them, log as these settings say; the rest waits for a restart."""
        self._settings = settings
        await self._ask_all("reload", **self._fields())

    # Workers that come and go

    async def _spawn(self, place: Place) -> tuple[WorkerProcess, Message]:
        def hear(message: Message) -> None:
            self._hear(place, message)

        return await WorkerProcess.spawn(SFU_WORKER, place.number, [], hear), self._fields()

    def _fields(self) -> Message:
        settings = self._settings
        return {"sfu": settings.sfu.model_dump(mode="json"), "log": settings.log.model_dump(mode="json")}

    def _on_up(self, place: Place) -> None:
        self._rooms.open(place.number)
        self._settle()

    async def _on_end(self, place: Place, status: int) -> None:
        moved = self._rooms.close(place.number)
        self._metrics.count_moved("died", moved)
        level = logging.ERROR if status else logging.INFO
        _LOGGER.log(level, "SFU worker %d ended with status %d; it had %d conferences", place.number, status, moved)
        self._settle()

    def _hear(self, place: Place, message: Message) -> None:
        """Take what a worker says unasked.

        Raises:
            ChannelError: it is nothing that a worker says, or it says too much.
        """
        if not self._said.admits(place.number, time.monotonic()):
            raise ChannelError("it says too much")
        match message:
            case {"said": said}:
                self._rooms.receive_said(place.number, *decode_said(said))
                self._settle()
            case {"retires": True}:
                asyncio.get_running_loop().call_later(RETIRE_AFTER_SECONDS, self._retire, place, place.process)
            case _:
                raise ChannelError("an unknown message")

    def _retire(self, place: Place, process: WorkerProcess | None) -> None:
        """Somebody wants this worker to end: let its conferences go to others, and then it end."""
        if process is None or place.process is not process or self._rooms.is_draining:
            return
        moved = self._rooms.retire(place.number)
        if moved is None:
            _LOGGER.warning("SFU worker %d stays: there is no other one that takes its conferences", place.number)
            return
        self._metrics.count_moved("retired", moved)
        _LOGGER.info("SFU worker %d ends as it was asked to; %d conferences have moved", place.number, moved)
        self._settle()
        asyncio.get_running_loop().call_later(LINGER_SECONDS, process.tell_to_stop)

    # What is said

    def _receive_command(self, command: media.MediaCommand) -> None:
        self._rooms.receive_command(command)
        self._settle()

    def _settle(self) -> None:
        """Have done and told what is to be done and told."""
        while (order := self._rooms.poll_order()) is not None:
            process = self._places[order.worker].process
            if process is None:
                continue  # it has just ended, and its conferences are about to move
            try:
                process.tell("media", order=encode_command(order.command))
            except ChannelError:
                _LOGGER.error("SFU worker %d does not listen, and is killed", order.worker)  # noqa: TRY400
                process.kill()
        loop = asyncio.get_running_loop()
        while (told := self._rooms.poll_told()) is not None:
            loop.call_soon(self._tell, *told)  # whoever hears it may give the next command


class _Media:
    """The SFU as the rooms see it."""

    def __init__(self, receive: Callable[[media.MediaCommand], None]) -> None:
        self._receive = receive

    def enter(self, room: bytes, pid: str) -> None:
        self._receive(media.Enter(room, pid))

    def leave(self, room: bytes, pid: str) -> None:
        self._receive(media.Leave(room, pid))

    def publish(self, room: bytes, pid: str, sdp: str, version: int, sources: Mapping[str, media.Source]) -> None:
        self._receive(media.Offer(room, pid, sdp, version, sources))

    def subscribed(self, room: bytes, pid: str, sdp: str, version: int) -> None:
        self._receive(media.Answer(room, pid, sdp, version))

    def want(self, room: bytes, pid: str, wishes: Sequence[media.Wish]) -> None:
        self._receive(media.Look(room, pid, tuple(wishes)))

    def restart(self, room: bytes, pid: str) -> None:
        self._receive(media.OfferAgain(room, pid))
