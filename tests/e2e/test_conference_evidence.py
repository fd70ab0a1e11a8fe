"""What the media server, and whoever has come late or has gone, could make of what it gets: nothing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from playwright.sync_api import Browser

from sfu.keyframe_requests import LAYER_INTERVAL
from tests.support.bugged_sfu import captured_frames
from tests.support.conference import (
    DOCTOR,
    NEW_KEY_MS,
    PATIENCE_MS,
    PETRA,
    UWE,
    Attendee,
    meeting,
    run_conference_service,
)
from tests.support.media_judge import KNOWN_MEDIA, judge, opened_with, without_headers
from tests.support.service import Service

pytestmark = [pytest.mark.long, pytest.mark.timeout(520)]

ENOUGH: Final = {"video": 20, "audio": 100}  # frames
# The third page has a wrong key of the second one: one bit of what its worker is told.
WRONG_KEY: Final = """
  window.__bend = (order) => {
    if (order.do !== "receive_with" || order.kid >> 8 !== 1) return order;
    const base = order.base.slice();
    base[0] ^= 1;
    return { ...order, base };
  };
"""
FORGED: Final = """(enough) => {
  const dropped = window.__counts.map((line) => line.dropped.forged ?? 0).filter((count) => count > 0);
  return dropped.length === 2 && Math.min(...dropped) >= enough.video && Math.max(...dropped) >= enough.audio;
}"""


@pytest.fixture
def tap(tmp_path: Path) -> Path:
    return tmp_path / "tap"


@pytest.fixture
def service(tmp_path: Path, tap: Path) -> Iterator[Service]:
    with run_conference_service(tmp_path, tap) as started:
        yield started


def test_what_the_media_server_gets_cannot_be_seen_or_heard_without_the_keys_and_can_with_them(
    browser: Browser, service: Service, tap: Path
) -> None:
    with meeting(browser, service, 2) as conference:
        doctor, petra = conference.enter(DOCTOR, PETRA, script=KNOWN_MEDIA)
        doctor.await_media_of([petra])
        for kind in ("video", "audio"):
            captured = await_captured(service, tap, petra, kind)
            assert judge(doctor.page, kind, captured).recognised == 0
            assert judge(doctor.page, kind, without_headers(doctor.page, kind, captured)).recognised == 0
            opened = opened_with(doctor.page, kind, captured, petra.keys()["own"])
            assert len(opened) == len(captured)
            verdict = judge(doctor.page, kind, opened)
            assert verdict.recognised >= 0.9 * len(opened), verdict


def test_who_comes_late_cannot_decrypt_what_was_before_and_who_has_gone_not_what_is_afterwards(
    browser: Browser, service: Service, tap: Path
) -> None:
    with meeting(browser, service, 2) as conference:
        doctor, petra = conference.enter(DOCTOR, PETRA)
        doctor.await_media_of([petra])
        before = await_captured(service, tap, doctor, "audio")
        [uwe] = conference.enter(UWE)
        conference.await_everybody(later_ms=NEW_KEY_MS)
        during = await_captured(service, tap, doctor, "audio", tap.stat().st_size)
        uwe.hang_up()
        uwe.text("ended-text")
        conference.people.remove(uwe)
        conference.await_everybody(later_ms=NEW_KEY_MS)
        afterwards = await_captured(service, tap, doctor, "audio", tap.stat().st_size)

        held, own = uwe.keys()["received"], doctor.keys()["own"]
        opened = [opened_with(doctor.page, "audio", frames, held) for frames in (before, during, afterwards)]
        assert [len(frames) for frames in opened] == [0, len(during), 0]
        for frames in (before, during, afterwards):
            assert len(opened_with(doctor.page, "audio", frames, own)) == len(frames)


def test_a_wrong_key_shows_no_picture_plays_no_sound_and_asks_for_no_storm_of_key_frames(
    browser: Browser, service: Service
) -> None:
    with meeting(browser, service, 2) as conference:
        doctor, petra = conference.enter(DOCTOR, PETRA)
        [uwe] = conference.enter(UWE, script=WRONG_KEY)
        for person, others in ((doctor, [petra, uwe]), (petra, [doctor, uwe]), (uwe, [doctor])):
            person.await_media_of(others)
        begun = requests_for_key_frames(petra)
        uwe.await_true(FORGED, {"video": 40, "audio": 400})
        doctor.await_media_of([petra])
        ended = requests_for_key_frames(petra)
        lines = uwe.lines_of(petra)
        assert {line["name"].split()[1] for line in lines} == {"camera", "microphone"}
        assert [line["count"] for line in lines] == [0] * len(lines)
        assert sum(line["pliCount"] for line in lines) > 0  # it would like to see her
        seconds = (ended.at - begun.at) / 1000
        asked = [count - begun.plis.get(ssrc, 0) for ssrc, count in ended.plis.items()]
        assert max(asked) <= seconds / LAYER_INTERVAL + 1, (asked, seconds)


class Requests(NamedTuple):
    """What a publisher has been asked."""

    at: float  # milliseconds of its page
    plis: dict[str, int]  # by the SSRC of the layer


def requests_for_key_frames(publisher: Attendee) -> Requests:
    """How often somebody was asked for key frames up to now."""
    at, sent = publisher.page.evaluate("() => [performance.now(), window.__sent]")
    return Requests(at, {ssrc: line["pliCount"] for ssrc, line in sent.items() if line["kind"] == "video"})


def await_captured(service: Service, tap: Path, publisher: Attendee, kind: str, offset: int = 0) -> list[bytes]:
    """Wait until there is enough of somebody at the media server; pictures begin with a key frame."""
    found: list[bytes] = []

    def enough() -> bool:
        sent = publisher.page.evaluate("() => window.__sent")
        ssrcs = [int(ssrc) for ssrc, line in sent.items() if line["kind"] == kind]
        for frames in (captured_frames(tap, ssrc, kind, offset) for ssrc in ssrcs):
            while kind == "video" and frames and frames[0][0] & 1:
                frames.pop(0)
            if len(frames) >= ENOUGH[kind]:
                found[:] = frames
        return bool(found)

    service.await_that(enough, PATIENCE_MS / 1000)
    return found
