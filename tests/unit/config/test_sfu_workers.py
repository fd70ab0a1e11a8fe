"""The workers of the SFU as real processes: conferences outlive them, and nothing that one says is believed blindly."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import pytest
from prometheus_client import CollectorRegistry

from config.channel import ChannelError
from config.crew import Patience, WorkerFailed
from config.schema import Settings
from config.sfu_rooms import MOVED
from config.sfu_workers import SAID_AT_ONCE, SfuWorkers
from signaling.conference_media import (
    ConnectionState,
    MediaMessage,
    MediaState,
    Published,
    Side,
    Source,
    Subscribe,
    Wish,
)
from signaling.conference_messages import MAX_PIXELS, MAX_SDP_CHARACTERS, MAX_SOURCES, MAX_WISHES
from signaling.message_base import MAX_ID_CHARACTERS
from tests.support.peer_client import PeerClient
from tests.support.ports import free_ports
from tests.support.udp_endpoint import udp_endpoint

HOST = "127.0.0.1"
ROOM, OTHER = b"r" * 16, b"o" * 16
SOURCES = {"0": Source.MICROPHONE, "1": Source.CAMERA}
BEGIN_ANEW = MediaState(Side.PUBLISH, ConnectionState.FAILED, MOVED)
PATIENCE = Patience(reply=1.0, scrape=1.0, between_pings=0.05)
PATIENT_SECONDS = 30.0  # a worker begins in one or two; more on a machine that has other things to do

T = TypeVar("T", bound=MediaMessage)


def configure(port: int) -> Settings:
    return Settings.model_validate(
        {
            "services": ["signaling", "sfu"],
            "sfu": {"workers": 2, "udp_port": port, "listen_addresses": [HOST]},
        }
    )


class Scene:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.port = free_ports(3)[0]  # the third for who starts beside it
        self.sfu = SfuWorkers(configure(self.port), self.registry, self._hear, PATIENCE)
        self._told: list[tuple[bytes, str, MediaMessage]] = []
        self._news = asyncio.Event()

    def _hear(self, room: bytes, pid: str, message: MediaMessage) -> None:
        self._told.append((room, pid, message))
        self._news.set()

    async def told(self, pid: str, kind: type[T], room: bytes = ROOM) -> T:
        """The next thing of a kind that somebody is told; what comes before it to the same one is of no interest."""
        async with asyncio.timeout(PATIENT_SECONDS):
            while True:
                for number, (where, to, message) in enumerate(self._told):
                    if (where, to) == (room, pid) and isinstance(message, kind):
                        del self._told[: number + 1]
                        return message
                self._news.clear()
                await self._news.wait()

    def sample(self, name: str, **labels: str) -> float:
        value = self.registry.get_sample_value(f"redconnect_sfu_{name}", labels)
        assert value is not None, name
        return value


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENT_SECONDS):
        while not condition():  # noqa: ASYNC110  # other processes set no event
            await asyncio.sleep(0.01)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    opened = Scene()
    await opened.sfu.start()
    pids = opened.sfu.pids
    try:
        yield opened
    finally:
        pids += opened.sfu.pids
        await opened.sfu.stop()
    for pid in filter(None, pids):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def publish(scene: Scene, client: PeerClient, pid: str = "ada") -> None:
    scene.sfu.media.publish(ROOM, pid, client.offer(), 1, SOURCES)
    answer = await scene.told(pid, Published)
    await client.connect(answer.sdp)
    state = await scene.told(pid, MediaState)
    assert (state.side, state.state) == (Side.PUBLISH, ConnectionState.CONNECTED)


@pytest.mark.parametrize(
    ("how", "cause"), [(signal.SIGKILL, "died"), (signal.SIGSTOP, "died"), (signal.SIGTERM, "retired")]
)
async def test_a_conference_goes_on_in_the_other_worker(scene: Scene, how: signal.Signals, cause: str) -> None:
    media = scene.sfu.media
    media.enter(ROOM, "ada")
    first = await scene.told("ada", Subscribe)
    media.want(ROOM, "ada", [Wish("ben", Source.CAMERA, visible=True, width=320, height=180, pinned=False)])
    async with udp_endpoint(HOST) as endpoint:
        await publish(scene, PeerClient(endpoint, (HOST, scene.port)))
    before = scene.sfu.pids
    os.kill(before[0], how)
    assert await scene.told("ada", MediaState) == BEGIN_ANEW
    second = await scene.told("ada", Subscribe)
    assert second.version > first.version
    assert f" {scene.port + 1} typ host" in second.sdp
    async with udp_endpoint(HOST) as endpoint:
        await publish(scene, PeerClient(endpoint, (HOST, scene.port + 1)))
    await eventually(lambda: scene.sfu.pids[0] not in (0, before[0]))
    assert scene.sfu.pids[1] == before[1]
    assert scene.sample("rooms_moved_total", cause=cause) == 1
    await eventually(lambda: scene.sfu._places[0].is_up)
    media.enter(OTHER, "cia")
    offer = await scene.told("cia", Subscribe, OTHER)
    assert f" {scene.port} typ host" in offer.sdp
    media.leave(ROOM, "ada")
    media.leave(OTHER, "cia")
    assert scene.sfu.members == 0


async def test_figures_are_those_of_all_workers_and_no_counter_goes_down(scene: Scene) -> None:
    media = scene.sfu.media
    media.enter(ROOM, "ada")
    media.enter(OTHER, "ben")
    await scene.told("ben", Subscribe, OTHER)
    async with udp_endpoint(HOST) as endpoint:
        await publish(scene, PeerClient(endpoint, (HOST, scene.port)))
    await scene.sfu.refresh()
    assert (scene.sample("rooms"), scene.sample("members"), scene.sample("rooms_waiting")) == (2, 2, 0)
    checks = scene.sample("port_events_total", event="ice_answered")
    assert checks > 0
    before = scene.sfu.pids[0]
    os.kill(before, signal.SIGKILL)
    await eventually(lambda: scene.sfu.pids[0] not in (0, before) and scene.sfu._places[0].is_up)
    await scene.sfu.refresh()
    assert scene.sample("port_events_total", event="ice_answered") >= checks
    assert scene.sample("worker_restarts_total", worker="0") == 1
    assert scene.sample("rooms") == 2


async def test_without_any_worker_a_conference_waits_for_the_first_that_comes(scene: Scene) -> None:
    before = scene.sfu.pids
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    await eventually(lambda: scene.sfu.pids == [0, 0] or not scene.sfu.ready)
    scene.sfu.media.enter(ROOM, "ada")
    assert (await scene.told("ada", Subscribe)).version == 1


async def test_draining_lets_none_begin_and_a_worker_that_is_asked_to_end_stays(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("config.sfu_workers.RETIRE_AFTER_SECONDS", 0.0)
    scene.sfu.media.enter(ROOM, "ada")
    await scene.told("ada", Subscribe)
    before_it = scene.sfu.ready
    scene.sfu.drain()
    assert (before_it, scene.sfu.ready) == (True, False)
    scene.sfu.media.enter(OTHER, "ben")
    assert (await scene.told("ben", MediaState, OTHER)).reason == "full"
    before = scene.sfu.pids
    os.kill(before[0], signal.SIGTERM)
    scene.sfu.media.restart(ROOM, "ada")
    await scene.told("ada", Subscribe)
    assert scene.sfu.pids == before
    assert scene.sfu.members == 1


async def test_nothing_that_a_page_may_say_ends_a_worker(scene: Scene) -> None:
    media = scene.sfu.media
    pid = "p" * MAX_ID_CHARACTERS
    media.enter(ROOM, pid)
    offer = await scene.told(pid, Subscribe)
    before = scene.sfu.pids
    longest = "x" * MAX_SDP_CHARACTERS
    wish = Wish(pid, Source.SCREEN, visible=True, width=MAX_PIXELS, height=MAX_PIXELS, pinned=True)
    for version in (0, offer.version + 1, 2**31 - 1):
        media.subscribed(ROOM, pid, longest, version)
    media.want(ROOM, pid, [wish] * MAX_WISHES)
    media.want(ROOM, pid, [])
    media.publish(ROOM, pid, longest, 1, {f"{mid:016}": Source.CAMERA for mid in range(MAX_SOURCES)})
    assert (await scene.told(pid, MediaState)).side is Side.PUBLISH
    media.restart(ROOM, pid)
    offer = await scene.told(pid, Subscribe)
    media.subscribed(ROOM, pid, longest, offer.version)
    assert (await scene.told(pid, MediaState)).side is Side.SUBSCRIBE
    assert scene.sfu.pids == before


async def test_a_worker_that_says_what_no_worker_says_is_not_listened_to(scene: Scene) -> None:
    place = scene.sfu._places[0]
    for message in ({"said": {"kind": "gossip"}}, {"says": "hello"}, {"retires": "maybe"}):
        with pytest.raises(ChannelError):
            scene.sfu._hear(place, message)


async def test_a_worker_that_says_too_much_is_not_listened_to(scene: Scene) -> None:
    said = {"said": {"kind": "speakers", "room": ROOM.hex(), "pid": "ada", "pids": []}}
    place = scene.sfu._places[0]

    def say_it_all() -> None:
        for _ in range(2 * SAID_AT_ONCE):
            scene.sfu._hear(place, said)

    with pytest.raises(ChannelError, match="too much"):
        say_it_all()


async def test_a_port_that_is_taken_is_told_and_nothing_stays_open(scene: Scene) -> None:
    second = SfuWorkers(configure(scene.port + 1), CollectorRegistry(), lambda *_: None, PATIENCE)
    with pytest.raises(WorkerFailed, match=f"cannot listen on UDP port {scene.port + 1} for conferences: Address"):
        await second.start()
    assert second.pids == [0, 0]
    assert not second.ready
