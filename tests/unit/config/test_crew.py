"""What watches workers, with processes that answer as the test wants; real ones are in test_supervisor.py."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from config.channel import Message
from config.crew import Crew, CrewCollector, Patience, Place, WorkerFailed
from config.worker_process import Usage, WorkerProcess

PATIENCE = Patience(start=0.1, reply=0.1, scrape=0.1, stop=0.1, between_pings=0.01)
WELL: Message = {"ready": True, "load": 3}
FIGURES = [["jobs", "counter", "Jobs.", [["jobs_total", {}, 5.0]]]]
Script = dict[str, list[Any]]  # by command: the replies in order, the last one for ever; None: there is none


class FakeProcess:
    """Answers by a script, and is dead when it was killed."""

    pid = 4711
    last_usage = Usage(0.0, 0)

    def __init__(self, script: Script) -> None:
        loop = asyncio.get_running_loop()
        self.started_at = loop.time()
        self.ended: asyncio.Future[int] = loop.create_future()
        self.script: Script = {"start": [{}], "ping": [WELL], "metrics": [{"metrics": FIGURES}], **script}
        self.asked: list[str] = []

    async def ask(self, command: str, timeout: float, **_fields: object) -> Message:  # noqa: ASYNC109
        self.asked.append(command)
        replies = self.script[command]
        reply: Message | None = replies.pop(0) if len(replies) > 1 else replies[0]
        if reply is None:
            await asyncio.sleep(timeout)
            raise TimeoutError
        return reply

    def kill(self) -> None:
        if not self.ended.done():
            self.ended.set_result(-9)

    def tell_to_stop(self) -> None:
        if not self.ended.done():
            self.ended.set_result(0)

    def open_descriptors(self) -> int:
        return 7

    def usage(self) -> Usage:
        return self.last_usage


class FakeCrew(Crew[Place]):
    """One place, and the processes that are to come to it."""

    def __init__(self, *scripts: Script) -> None:
        super().__init__("helper", PATIENCE)
        self.scripts = list(scripts)
        self.made: list[FakeProcess] = []
        self.ends: list[int] = []
        self.another = asyncio.Event()

    async def start(self) -> None:
        await self._begin([Place(0)])

    async def stop(self) -> None:
        await self._end()

    @property
    def place(self) -> Place:
        return self._places[0]

    async def _spawn(self, place: Place) -> tuple[WorkerProcess, Message]:  # noqa: ARG002  # there is one
        self.made.append(FakeProcess(self.scripts.pop(0) if self.scripts else {}))
        return cast("WorkerProcess", self.made[-1]), {}

    async def _on_end(self, place: Place, status: int) -> None:  # noqa: ARG002  # there is one
        self.ends.append(status)

    def _on_up(self, place: Place) -> None:  # noqa: ARG002  # there is one
        if len(self.made) > 1:
            self.another.set()


@pytest.fixture
async def crews() -> AsyncIterator[list[FakeCrew]]:
    made: list[FakeCrew] = []
    yield made
    for crew in made:
        await crew.stop()


async def begin(crews: list[FakeCrew], *scripts: Script) -> FakeCrew:
    crew = FakeCrew(*scripts)
    crews.append(crew)
    await crew.start()
    return crew


async def until_replaced(crew: FakeCrew) -> None:
    async with asyncio.timeout(10):
        await crew.another.wait()


async def test_one_ping_without_an_answer_is_no_sign_of_death_but_two_are(
    crews: list[FakeCrew], caplog: pytest.LogCaptureFixture
) -> None:
    crew = await begin(crews, {"ping": [None, WELL, None, None]})
    await until_replaced(crew)
    assert crew.made[0].asked == ["start", "ping", "ping", "ping", "ping"]
    assert crew.ends == [-9]
    assert "helper 0 hangs, and is killed" in caplog.text
    assert crew.place.restarts == 1


@pytest.mark.parametrize("reply", [{}, {"ready": "yes", "load": 1}, {"ready": True, "load": None}], ids=str)
async def test_a_worker_that_does_not_say_how_it_is_is_replaced(
    crews: list[FakeCrew], reply: Message, caplog: pytest.LogCaptureFixture
) -> None:
    crew = await begin(crews, {"ping": [reply]})
    await until_replaced(crew)
    assert "helper 0 is killed: it does not say how it is" in caplog.text


@pytest.mark.parametrize("figures", [None, [["jobs"]], [["jobs", "counter", "", [["jobs_total", 5, 1.0]]]]], ids=str)
async def test_a_worker_whose_figures_are_none_is_killed_and_what_was_counted_stays(
    crews: list[FakeCrew], figures: object, caplog: pytest.LogCaptureFixture
) -> None:
    crew = await begin(crews, {"metrics": [{"metrics": FIGURES}, {"metrics": figures}]})
    await crew.refresh()
    await crew.refresh()
    await until_replaced(crew)
    assert "helper 0 is killed: its figures are none" in caplog.text
    counted = [sample.value for metric in CrewCollector([crew.place], "x").collect() for sample in metric.samples]
    assert 5.0 in counted


async def test_a_worker_that_says_why_it_cannot_start_is_told(crews: list[FakeCrew]) -> None:
    with pytest.raises(WorkerFailed, match="no port"):
        await begin(crews, {"start": [{"failed": "no port"}]})
    assert crews[0].made[0].ended.result() == -9


async def test_a_worker_that_does_not_start_in_time_is_told(crews: list[FakeCrew]) -> None:
    with pytest.raises(WorkerFailed, match=r"helper 0 did not start within 0\.1 s"):
        await begin(crews, {"start": [None]})


async def test_what_a_ping_tells_is_known_until_the_worker_ends(
    crews: list[FakeCrew], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    crew = await begin(crews, {})
    async with asyncio.timeout(10):
        while crew.place.load == 0:  # noqa: ASYNC110  # a ping sets no event
            await asyncio.sleep(0.001)
    before = (crew.place.load, crew.ready)
    crew.made[0].kill()
    await until_replaced(crew)
    assert before == (3, True)
    assert crew.ends == [-9]
