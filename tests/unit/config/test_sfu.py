"""The SFU as the rooms of the signaling see it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry

from config.sfu import LocalSfu
from sfu.settings import SfuSettings
from signaling.conference_media import (
    ConnectionState,
    Layers,
    MediaMessage,
    MediaState,
    Published,
    Side,
    Source,
    Subscribe,
    TrackName,
    Wish,
)
from tests.support.peer_client import PeerClient
from tests.support.ports import free_port
from tests.support.udp_endpoint import PATIENCE, udp_endpoint

HOST = "127.0.0.1"
ROOM = bytes(16)


class Desk:
    """Who carries what is told."""

    def __init__(self) -> None:
        settings = SfuSettings(udp_port=free_port(), listen_addresses=(HOST,))
        self.where = (HOST, settings.udp_port)
        self._heard: asyncio.Queue[tuple[bytes, str, MediaMessage]] = asyncio.Queue()
        self.sfu = LocalSfu(settings, CollectorRegistry(), lambda *told: self._heard.put_nowait(told))

    async def hear(self) -> tuple[bytes, str, MediaMessage]:
        async with asyncio.timeout(PATIENCE):
            return await self._heard.get()


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    made = Desk()
    await made.sfu.start()
    yield made
    await made.sfu.stop()


async def test_what_is_said_to_the_sfu_and_by_it_is_said_in_the_words_of_the_rooms(desk: Desk) -> None:
    media = desk.sfu.media
    media.enter(ROOM, "ada")
    _, _, first = await desk.hear()
    assert isinstance(first, Subscribe) and first.tracks == {}
    async with udp_endpoint(HOST) as endpoint:
        client = PeerClient(endpoint, desk.where)
        media.publish(ROOM, "ada", client.offer(), 3, {"0": Source.MICROPHONE, "1": Source.CAMERA})
        _, pid, answer = await desk.hear()
        assert pid == "ada" and isinstance(answer, Published)
        assert await desk.hear() == (ROOM, "ada", Layers(("q", "h", "f")))  # nobody is there to look
        media.enter(ROOM, "ben")
        room, pid, offer = await desk.hear()
        assert (room, pid) == (ROOM, "ben") and isinstance(offer, Subscribe)
        assert sorted(offer.tracks.values()) == [TrackName("ada", Source.CAMERA), TrackName("ada", Source.MICROPHONE)]
        assert desk.sfu.members == 2
        assert await desk.hear() == (ROOM, "ada", Layers(()))
        media.want(ROOM, "ben", [Wish("ada", Source.CAMERA, visible=True, width=320, height=180, pinned=False)])
        media.subscribed(ROOM, "ben", "nonsense", offer.version)
        assert (await desk.hear())[2] == MediaState(Side.SUBSCRIBE, ConnectionState.FAILED, "sdp")
        media.restart(ROOM, "ben")
        again = (await desk.hear())[2]
        assert isinstance(again, Subscribe) and again.version > offer.version
        media.leave(ROOM, "ada")
        media.leave(ROOM, "ben")
        assert desk.sfu.members == 0


async def test_it_is_ready_until_it_drains(desk: Desk) -> None:
    assert desk.sfu.ready
    desk.sfu.drain()
    assert not desk.sfu.ready


async def test_a_private_address_is_worth_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    settings = SfuSettings(udp_port=free_port(), listen_addresses=(HOST,), external_addresses={HOST: "10.0.0.5"})
    sfu = LocalSfu(settings, CollectorRegistry(), lambda *_: None)
    await sfu.start()
    await sfu.stop()
    assert "sfu.external_addresses" in caplog.text
