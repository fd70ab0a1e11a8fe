"""The SFU over loopback, between clients that no browser helps."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from prometheus_client import CollectorRegistry

from sfu.conference_messages import MediaState, Published, Refusal, Said, Side, Source, State, Subscribe, Wish
from sfu.io.service import SfuService
from sfu.settings import SfuAddress, SfuSettings
from stun.address import TransportAddress
from tests.support.peer_client import PeerClient
from tests.support.ports import free_port
from tests.support.udp_endpoint import PATIENCE, udp_endpoint

T = TypeVar("T")

HOST = "127.0.0.1"
ROOM = b"room"
SOURCES = {"0": Source.MICROPHONE, "1": Source.CAMERA}


class Running:
    """The service, and what it tells."""

    def __init__(self, settings: SfuSettings) -> None:
        self.registry = CollectorRegistry()
        self.where = (HOST, settings.udp_port)
        address = TransportAddress.parse(*self.where)
        self._said: asyncio.Queue[tuple[bytes, str, Said]] = asyncio.Queue()
        self.service = SfuService(
            settings, [SfuAddress(address, (address,))], self.registry, lambda *told: self._said.put_nowait(told)
        )

    async def told(self, pid: str, kind: type[T]) -> T:
        """The next thing of a kind that somebody is told; what comes before it is of no interest here."""
        async with asyncio.timeout(PATIENCE):
            while True:
                room, to, said = await self._said.get()
                assert room == ROOM
                if to == pid and isinstance(said, kind):
                    return said

    def sample(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"redconnect_sfu_{name}", labels)


@contextlib.asynccontextmanager
async def running(**settings: int) -> AsyncIterator[Running]:
    sfu = Running(SfuSettings(udp_port=free_port(), **settings))
    await sfu.service.start()
    try:
        yield sfu
    finally:
        await sfu.service.stop()


@contextlib.asynccontextmanager
async def client_of(sfu: Running) -> AsyncIterator[PeerClient]:
    async with udp_endpoint(HOST) as endpoint:
        yield PeerClient(endpoint, sfu.where)


async def published(sfu: Running, pid: str, client: PeerClient) -> None:
    sfu.service.publish(ROOM, pid, client.offer(), 1, SOURCES)
    await client.connect((await sfu.told(pid, Published)).sdp)
    assert await sfu.told(pid, MediaState) == MediaState(Side.PUBLISH, State.CONNECTED)


async def test_sound_of_one_member_reaches_the_other_one() -> None:
    async with running() as sfu, client_of(sfu) as ada, client_of(sfu) as ben:
        sfu.service.enter(ROOM, "ada")
        await published(sfu, "ada", ada)
        sfu.service.enter(ROOM, "ben")
        offer = await sfu.told("ben", Subscribe)
        assert set(offer.tracks.values()) == {("ada", Source.MICROPHONE), ("ada", Source.CAMERA)}
        sfu.service.subscribed(ROOM, "ben", ben.answer(offer.sdp), offer.version)
        await ben.connect(offer.sdp)
        assert await sfu.told("ben", MediaState) == MediaState(Side.SUBSCRIBE, State.CONNECTED)
        ada.endpoint.send(ada.protect(), sfu.where)
        while (datagram := await ben.endpoint.receive())[0] < 128 or datagram[1] & 0x7F != 111:
            pass
        assert sfu.sample("packets_total", direction="in") == 1
        assert sfu.sample("packets_total", direction="out") == 1
        assert sfu.sample("sessions", state="connected") == 2
        assert sfu.sample("sessions", state="connecting") == 1  # what ada would be sent
        assert (sfu.sample("rooms"), sfu.sample("members")) == (1, 2)
        sfu.service.leave(ROOM, "ada")
        await ada.hear_farewell()
        assert not (await sfu.told("ben", Subscribe)).tracks


async def test_nothing_that_is_forwarded_is_written_to_a_file() -> None:
    opened: list[object] = []
    watching = False

    def note(event: str, details: tuple[Any, ...]) -> None:
        if watching and event == "open" and details[2] & (os.O_WRONLY | os.O_RDWR):
            opened.append(details[0])

    sys.addaudithook(note)  # for good: Python takes none back
    async with running() as sfu, client_of(sfu) as ada, client_of(sfu) as ben:
        watching = True
        sfu.service.enter(ROOM, "ada")
        await published(sfu, "ada", ada)
        sfu.service.enter(ROOM, "ben")
        offer = await sfu.told("ben", Subscribe)
        sfu.service.subscribed(ROOM, "ben", ben.answer(offer.sdp), offer.version)
        await ben.connect(offer.sdp)
        ada.endpoint.send(ada.protect(), sfu.where)
        while (datagram := await ben.endpoint.receive())[0] < 128 or datagram[1] & 0x7F != 111:
            pass
        sfu.service.leave(ROOM, "ada")
        sfu.service.leave(ROOM, "ben")
        watching = False
    assert opened == []
    watching = True
    Path("/dev/null").open("ab").close()  # noqa: ASYNC230 - a file that is opened would be seen
    watching = False
    assert len(opened) == 1


async def test_who_says_farewell_is_taken_from_the_others_and_is_not_told() -> None:
    async with running() as sfu, client_of(sfu) as ada:
        sfu.service.enter(ROOM, "ada")
        await published(sfu, "ada", ada)
        sfu.service.enter(ROOM, "ben")
        offer = await sfu.told("ben", Subscribe)
        ada.say_farewell()
        sfu.service.subscribed(ROOM, "ben", PeerClient(ada.endpoint, sfu.where).answer(offer.sdp), offer.version)
        assert not (await sfu.told("ben", Subscribe)).tracks
        assert sfu.sample("sessions_failed_total", side="publish", reason="ice") is None


async def test_a_description_that_is_no_description_is_told_and_counted() -> None:
    async with running() as sfu:
        sfu.service.enter(ROOM, "ada")
        sfu.service.publish(ROOM, "ada", "v=0\r\n", 1, {})
        assert await sfu.told("ada", MediaState) == MediaState(Side.PUBLISH, State.FAILED, Refusal.SDP)
        assert sfu.sample("sessions_failed_total", side="publish", reason="sdp") == 1


async def test_a_member_may_go_as_soon_as_it_hears_something() -> None:
    settings = SfuSettings(udp_port=free_port())
    address = TransportAddress.parse(HOST, settings.udp_port)
    heard: asyncio.Queue[Said] = asyncio.Queue()

    def tell(room: bytes, pid: str, said: Said) -> None:
        service.leave(room, pid)
        heard.put_nowait(said)

    service = SfuService(settings, [SfuAddress(address, (address,))], CollectorRegistry(), tell)
    await service.start()
    service.enter(ROOM, "ada")
    assert isinstance(await heard.get(), Subscribe)
    assert service.members == 0
    await service.stop()


async def test_while_it_drains_no_conference_begins() -> None:
    async with running() as sfu:
        sfu.service.enter(ROOM, "ada")
        before = sfu.service.ready
        sfu.service.drain()
        assert (before, sfu.service.ready) == (True, False)
        sfu.service.enter(b"another", "ben")
        assert (sfu.service.rooms, sfu.service.members) == (1, 1)
        sfu.service.restart(ROOM, "ada")
        sfu.service.want(ROOM, "ada", [Wish("ben", Source.CAMERA)])
        assert (await sfu.told("ada", Subscribe)).version == 1


async def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_open() -> None:
    async with udp_endpoint(HOST) as other:
        sfu = Running(SfuSettings(udp_port=other.address[1]))
        with pytest.raises(OSError, match="in use"):
            await sfu.service.start()
        assert not sfu.service.ready


async def test_a_service_that_does_not_run_takes_no_commands() -> None:
    sfu = Running(SfuSettings())
    with pytest.raises(RuntimeError, match="does not run"):
        sfu.service.enter(ROOM, "ada")
    assert sfu.sample("members") == 0
