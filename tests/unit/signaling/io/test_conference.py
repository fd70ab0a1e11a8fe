"""Conferences over real sockets, with a media server that writes down what it is told."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from signaling.appointments import Tier
from signaling.conference_media import Source, Speakers, Wish
from signaling.io.store import AppointmentStore
from tests.unit.signaling.io.bench import START, WAIT_SECONDS, Bench, Browser
from tests.unit.signaling.io.recording_media import ANSWER, RecordingMedia

OFFER = "v=0\r\ns=offer\r\n"


@pytest.fixture
def media() -> RecordingMedia:
    return RecordingMedia()


@pytest.fixture
async def bench(store: AppointmentStore, web_root: Path, media: RecordingMedia) -> AsyncIterator[Bench]:
    async with Bench(store, web_root, media=media) as bench:
        media.tell = bench.service.tell
        yield bench


async def plan(bench: Bench, participants: int = 2) -> tuple[str, ...]:
    new = await bench.store.create(START, Tier.PLUS, participants=participants)
    return (new.organiser_locator, *new.participant_locators)


async def enter(bench: Bench, locator: str, **resume: str) -> tuple[Browser, Any]:
    browser = await bench.browser()
    return browser, await browser.join(locator, **resume)


async def meet(bench: Bench) -> tuple[list[Browser], list[str], tuple[str, ...], list[str]]:
    """Let an organiser and two participants meet. Returns browsers, pids, locators and tokens."""
    locators = await plan(bench)
    organiser, joined = await enter(bench, locators[0])
    browsers, pids, tokens = [organiser], [joined["pid"]], [joined["resume"]]
    for locator in locators[1:]:
        browser, seat = await enter(bench, locator)
        assert (await organiser.receive())["admitted"] is False
        assert (await browser.receive())["pid"] == pids[0]
        await organiser.send(type="admit", peer=seat["pid"], ok=True)
        assert (await browser.receive()) == {"type": "admitted"}
        for other in browsers[1:]:
            assert (await browser.receive())["type"] == "peer"
            assert (await other.receive())["pid"] == seat["pid"]
        assert (await organiser.receive())["admitted"] is True
        browsers.append(browser)
        pids.append(seat["pid"])
        tokens.append(seat["resume"])
    return browsers, pids, locators, tokens


async def test_three_people_meet_and_their_media_go_through_the_media_server(
    bench: Bench, media: RecordingMedia, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    browsers, pids, *_ = await meet(bench)
    assert media.calls == [("enter", pid) for pid in pids]
    organiser, first, second = browsers
    await first.send(type="publish", sdp=OFFER, version=6, sources={"0": "microphone", "1": "camera"})
    assert await first.receive() == {"type": "published", "sdp": ANSWER, "version": 6}
    for version, browser in enumerate((organiser, second), start=1):
        offer = await browser.receive()
        tracks = {"0": {"pid": pids[1], "source": "microphone"}, "1": {"pid": pids[1], "source": "camera"}}
        assert offer == {"type": "subscribe", "sdp": OFFER, "version": version, "tracks": tracks}
    await second.send(type="subscribed", sdp=ANSWER, version=2)
    wish = {"pid": pids[1], "source": "camera", "visible": True, "width": 640, "height": 360, "pinned": False}
    await second.send(type="want", tracks=[wish])
    await second.send(type="restart", side="subscribe")
    await second.send(type="publish", sdp="bad", sources={"0": "camera"})
    assert await second.receive() == {"type": "media", "side": "publish", "state": "failed", "reason": "sdp"}
    assert media.calls[3:] == [
        ("publish", pids[1], OFFER, 6, {"0": Source.MICROPHONE, "1": Source.CAMERA}),
        ("subscribed", pids[2], ANSWER, 2),
        ("want", pids[2], (Wish(pids[1], Source.CAMERA, visible=True, width=640, height=360, pinned=False),)),
        ("restart", pids[2]),
        ("publish", pids[2], "bad", 0, {"0": Source.CAMERA}),
    ]
    room = next(iter(media.rooms))
    bench.service.tell(room, pids[0], Speakers((pids[1],)))
    assert await organiser.receive() == {"type": "speakers", "pids": [pids[1]]}
    assert bench.metric("conferences") == 1
    assert bench.metric("admissions_total", result="admitted") == 2
    assert bench.metric("media_requests_total", kind="publish") == 2
    for browser in browsers:
        await browser.send(type="leave")
    for browser in browsers:
        while (await browser.socket.receive(timeout=WAIT_SECONDS)).data != 1000:
            pass
    assert media.rooms == {room: []}
    assert bench.metric("conferences") == 0
    assert caplog.messages == ["conference opened, plus", "conference closed after 0 s, plus, begun"]
    assert not [text for text in (*pids, room.hex()) if text in caplog.text]


async def test_a_participant_comes_back_after_a_reload_and_hears_the_offer_again(
    bench: Bench, media: RecordingMedia
) -> None:
    browsers, pids, locators, tokens = await meet(bench)
    await browsers[1].send(type="publish", sdp=OFFER, sources={"0": "camera"})
    offered = await browsers[2].receive()
    await browsers[2].socket.close()
    while (await browsers[0].receive())["type"] != "peer":
        pass
    back, joined = await enter(bench, locators[2], resume=tokens[2])
    assert (joined["pid"], joined["conference"]["admitted"]) == (pids[2], True)
    peers = [(await back.receive())["pid"] for _ in range(2)]
    assert peers == pids[:2]
    assert await back.receive() == offered
    assert [call for call in media.calls if call[0] == "leave"] == []


async def test_media_end_when_the_hold_of_a_lost_socket_has_passed(bench: Bench, media: RecordingMedia) -> None:
    browsers, pids, *_ = await meet(bench)
    await browsers[2].socket.close()
    assert (await browsers[0].receive())["present"] is False
    bench.pass_time(bench.settings.seat_hold_seconds)
    assert media.calls[-1] == ("leave", pids[2])


async def test_each_refusal_is_told_and_closed_with_1008(bench: Bench, media: RecordingMedia) -> None:
    browsers, pids, locators, _ = await meet(bench)
    organiser, first, _ = browsers
    await organiser.send(type="remove", peer=pids[1])
    assert await first.receive() == {"type": "error", "code": "removed"}
    assert await first.closed() == 1008
    again, seat = await enter(bench, locators[1])
    assert (await again.receive())["pid"] == pids[0]
    await organiser.send(type="admit", peer=seat["pid"], ok=False)
    assert await again.receive() == {"type": "error", "code": "refused"}
    assert await again.closed() == 1008
    await organiser.send(type="lock", locked=True)
    while (await organiser.receive())["type"] != "locked":
        pass
    late, error = await enter(bench, locators[1])
    assert error == {"type": "error", "code": "locked"}
    assert await late.closed() == 1008
    assert media.calls.count(("leave", pids[1])) == 1


async def test_when_the_service_stops_everybody_has_left_the_media_server(
    store: AppointmentStore, web_root: Path, media: RecordingMedia
) -> None:
    async with Bench(store, web_root, media=media) as bench:
        media.tell = bench.service.tell
        _, pids, *_ = await meet(bench)
    assert sorted(media.calls) == sorted([(kind, pid) for kind in ("enter", "leave") for pid in pids])


async def test_a_talk_of_two_never_reaches_the_media_server(bench: Bench, media: RecordingMedia) -> None:
    organiser, participant, first, _ = await bench.pair(await bench.plan(Tier.PLUS))
    assert "conference" not in first
    await participant.send(type="publish", sdp=OFFER, sources={"0": "camera"})
    assert await participant.receive() == {"type": "error", "code": "bad_message"}
    assert (await organiser.receive())["present"] is False
    assert media.calls == []


async def test_without_a_media_server_only_two_may_meet(store: AppointmentStore, web_root: Path) -> None:
    async with Bench(store, web_root) as bench:
        _, error = await enter(bench, (await plan(bench))[0])
        assert error == {"type": "error", "code": "no_conferences"}
