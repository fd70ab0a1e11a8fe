"""Real browsers in one conference over one port: what each publishes, and what it gets of the others."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import pytest
import uvloop
from playwright.sync_api import Browser, BrowserContext, Page
from prometheus_client import CollectorRegistry

from sfu.conference_messages import (
    Layers,
    MediaState,
    Published,
    Said,
    Side,
    Source,
    Speakers,
    State,
    Subscribe,
    Wish,
)
from sfu.io.engine.py_engine import PyEngine
from sfu.io.peer_connections import Send
from sfu.io.service import SfuService
from sfu.media_engine import MediaEngine
from sfu.settings import SfuAddress, SfuSettings
from sfu.transport_feedback import ArrivalLog
from stun.address import TransportAddress
from tests.support.ports import free_port

T = TypeVar("T")

PATIENCE: Final = 40.0  # seconds: two cores encode and decode everything
START: Final = 6_000_000  # bits per second: everything in full size
ROOM: Final = b"room"
BLANK: Final = "http://localhost/blank"  # fulfilled by the test; a secure context, so that there is a camera
PAGE: Final = """<!doctype html><script>
window.publish = async (video) => {
  const media = await navigator.mediaDevices.getUserMedia({ audio: true, video });
  const connection = (window.publisher = new RTCPeerConnection({ bundlePolicy: "max-bundle" }));
  const microphone = connection.addTransceiver(media.getAudioTracks()[0], { direction: "sendonly" });
  const camera = connection.addTransceiver(media.getVideoTracks()[0], {
    direction: "sendonly",
    sendEncodings: [
      { rid: "q", scaleResolutionDownBy: 4, maxBitrate: 150000 },
      { rid: "h", scaleResolutionDownBy: 2, maxBitrate: 500000 },
      { rid: "f", maxBitrate: 1500000 },
    ],
  });
  await connection.setLocalDescription();
  const sources = { [microphone.mid]: "microphone", [camera.mid]: "camera" };
  return { sdp: connection.localDescription.sdp, sources };
};
// On busy CPUs Chromium's own estimate would leave out the larger layers.
const generous = "x-google-start-bitrate=3000;x-google-min-bitrate=3000";
window.published = (sdp) => window.publisher.setRemoteDescription({
  type: "answer",
  sdp: sdp.replace(/a=rtpmap:(\\d+) VP8\\/90000\\r\\n/, (line, type) => `${line}a=fmtp:${type} ${generous}\\r\\n`),
});
window.subscribe = async (sdp) => {
  if (!window.subscriber) {
    window.subscriber = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
    window.subscriber.ontrack = ({ track }) => {
      const element = document.createElement(track.kind);
      element.srcObject = new MediaStream([track]);
      element.muted = track.kind === "video";
      document.body.append(element);
      element.play();
    };
  }
  await window.subscriber.setRemoteDescription({ type: "offer", sdp });
  await window.subscriber.setLocalDescription();
  return window.subscriber.localDescription.sdp;
};
window.figures = async () => {
  const found = {};
  if (!window.subscriber) return found;
  for (const entry of (await window.subscriber.getStats()).values()) {
    if (entry.type !== "inbound-rtp") continue;
    found[entry.mid] = {
      frames: entry.framesDecoded ?? 0,
      energy: entry.totalAudioEnergy ?? 0,
      width: entry.frameWidth ?? 0,
    };
  }
  return found;
};
window.directions = () => Object.fromEntries(
  window.subscriber.getTransceivers().map(({ mid, currentDirection }) => [mid, currentDirection]));
</script>"""


class SteadyPaths(SfuService):
    """Takes every path to carry what the settings begin with.

    An estimate says more of the CPUs, which all the browsers share with the SFU, than of what is tested here.
    """

    def _make_engine(self, send: Send) -> MediaEngine:
        return PyEngine(send, make_arrivals=ArrivalLog)


class Conference:
    """The SFU on a thread of its own, and the pages, which are driven on that of the test."""

    def __init__(self, context: BrowserContext, make: type[SfuService]) -> None:
        self._context = context
        self._said: queue.Queue[tuple[str, Said]] = queue.Queue()
        self.pages: dict[str, Page] = {}
        self.tracks: dict[str, dict[str, tuple[str, Source]]] = {}
        self.heard: list[tuple[str, Said]] = []
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        settings = SfuSettings(udp_port=free_port(), start_bits_per_second=START if make is SteadyPaths else 300_000)
        address = TransportAddress.parse("127.0.0.1", settings.udp_port)
        self.registry = CollectorRegistry()
        self.sfu = make(
            settings, [SfuAddress(address, (address,))], self.registry, lambda _, pid, said: self._said.put((pid, said))
        )
        asyncio.run_coroutine_threadsafe(self.sfu.start(), self._loop).result(PATIENCE)

    def call(self, function: Callable[[], T]) -> T:
        async def run() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(PATIENCE)

    def enter(self, pid: str, height: int = 360) -> None:
        page = self.pages[pid] = self._context.new_page()
        page.route("**/*", lambda route: route.fulfill(body=PAGE, content_type="text/html"))
        page.goto(BLANK)
        self.call(lambda: self.sfu.enter(ROOM, pid))
        offer = page.evaluate("(video) => window.publish(video)", {"width": height * 16 // 9, "height": height})
        sources = {mid: Source(name) for mid, name in offer["sources"].items()}
        self.call(lambda: self.sfu.publish(ROOM, pid, offer["sdp"], 0, sources))

    def leave(self, pid: str) -> None:
        self.call(lambda: self.sfu.leave(ROOM, pid))
        self.pages.pop(pid).close()

    def want(self, pid: str, of: str, width: int, height: int) -> None:
        wishes = [Wish(other, Source.CAMERA, other == of, width, height, other == of) for other in self.pages]
        self.call(lambda: self.sfu.want(ROOM, pid, wishes))

    def figures(self, pid: str) -> dict[tuple[str, Source], dict[str, float]]:
        """What a member gets, by whose it is."""
        by_mid: dict[str, Any] = self.pages[pid].evaluate("() => window.figures()")
        return {name: by_mid[mid] for mid, name in self.tracks.get(pid, {}).items() if mid in by_mid}

    def until(self, fact: Callable[[], bool]) -> None:
        """Let the pages hear what the SFU says until something is so."""
        deadline = time.monotonic() + PATIENCE
        while not fact():
            self._carry()
            if time.monotonic() > deadline:
                counters = self.call(lambda: dict(self.sfu.engine_counters()))
                seen = {pid: self.figures(pid) for pid in self.pages}
                raise AssertionError(f"not in {PATIENCE:g} s: {seen} {counters} {self.states()}")

    def states(self) -> list[tuple[str, MediaState]]:
        return [(pid, said) for pid, said in self.heard if isinstance(said, MediaState)]

    def _carry(self) -> None:
        try:
            pid, said = self._said.get(timeout=0.1)
        except queue.Empty:
            return
        self.heard.append((pid, said))
        page = self.pages.get(pid)
        if page is None:
            return
        match said:
            case Published(sdp=sdp):
                page.evaluate("(sdp) => window.published(sdp)", sdp)
            case Subscribe(sdp=sdp, version=version, tracks=tracks):
                self.tracks[pid] = dict(tracks)
                answer = page.evaluate("(sdp) => window.subscribe(sdp)", sdp)
                self.call(lambda: self.sfu.subscribed(ROOM, pid, answer, version))

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.sfu.stop(), self._loop).result(PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def running(browser: Browser, make: type[SfuService] = SteadyPaths) -> Iterator[Conference]:
    with browser.new_context() as context:
        conference = Conference(context, make)
        try:
            yield conference
        finally:
            conference.stop()


def others(conference: Conference, pid: str) -> set[tuple[str, Source]]:
    return {
        (other, source) for other in conference.pages if other != pid for source in (Source.MICROPHONE, Source.CAMERA)
    }


def everybody_gets_everybody(conference: Conference) -> Callable[[], bool]:
    """From now on every picture moves and every sound sounds, at each member, of each other one."""
    before: dict[str, dict[tuple[str, Source], dict[str, float]]] = {}

    def grows() -> bool:
        for pid in conference.pages:
            now = conference.figures(pid)
            first = before.setdefault(pid, {})
            for name in others(conference, pid):
                if name not in now:
                    return False
                earlier = first.setdefault(name, now[name])
                value = "energy" if name[1] is Source.MICROPHONE else "frames"
                if now[name][value] <= earlier[value]:
                    return False
        return True

    return grows


@pytest.mark.long
def test_three_see_and_hear_each_other_a_fourth_comes_late_and_one_leaves(browser: Browser) -> None:
    with running(browser) as conference:
        for pid in ("ada", "ben", "cy"):
            conference.enter(pid)
        conference.until(everybody_gets_everybody(conference))
        assert {(pid, state.side) for pid, state in conference.states() if state.state is State.CONNECTED} == {
            (pid, side) for pid in conference.pages for side in Side
        }

        conference.enter("dee")
        conference.until(everybody_gets_everybody(conference))

        mids = {mid for mid, (owner, _) in conference.tracks["ada"].items() if owner == "cy"}
        conference.leave("cy")
        page = conference.pages["ada"]
        conference.until(lambda: mids.isdisjoint(conference.tracks["ada"]))
        conference.until(
            lambda: all(
                page.evaluate("() => window.directions()").get(mid) in {None, "stopped", "inactive"} for mid in mids
            )
        )
        conference.until(everybody_gets_everybody(conference))

        assert [state for _, state in conference.states() if state.state is State.FAILED] == []
        assert any(isinstance(said, Speakers) and said.pids for _, said in conference.heard)


@pytest.mark.long
def test_who_looks_at_a_picture_in_small_gets_a_small_one_and_the_publisher_may_spare_the_large_ones(
    browser: Browser,
) -> None:
    with running(browser) as conference:
        conference.enter("ben", 720)  # first: all pages share the one camera, which stays as it was opened
        conference.enter("ada")
        camera = ("ben", Source.CAMERA)

        def width() -> float:
            return conference.figures("ada").get(camera, {"width": 0})["width"]

        conference.want("ada", "ben", 1280, 720)
        conference.until(lambda: width() >= 640)
        large = width()
        conference.want("ada", "ben", 160, 90)
        conference.until(lambda: 0 < width() <= large / 2)
        conference.until(lambda: ("ben", Layers(("h", "f"))) in conference.heard)
        conference.want("ada", "ben", 1280, 720)
        conference.until(lambda: ("ben", Layers(())) in conference.heard)


@pytest.mark.long
def test_what_a_path_carries_is_estimated_from_what_the_browser_feeds_back(browser: Browser) -> None:
    with running(browser, SfuService) as conference:
        conference.enter("ada")
        conference.enter("ben")
        conference.until(everybody_gets_everybody(conference))

        def estimates() -> list[float]:
            return conference.call(conference.sfu.estimates)

        conference.until(lambda: any(estimate != 300_000 for estimate in estimates()))
        assert len(estimates()) == 2
