"""People in one conference, each in front of a page: how they come together, and what reaches each of them."""

import json
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, cast

from playwright.sync_api import Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeout

from tests.support.browser import CONNECT_MS, Participant
from tests.support.service import Service

# Every line that comes in on any connection of the page, by its SSRC: an m-line that changes hands is another line.
# `grewAt` is when it last brought a picture or sound. `__samples` is all of it, taken every second while watched.
OBSERVER: Final = r"""
(() => {
  // On busy CPUs Chromium's own estimate would leave out the larger layers; what is tested is the way to the others.
  const take = RTCPeerConnection.prototype.setRemoteDescription;
  RTCPeerConnection.prototype.setRemoteDescription = function ({ type, sdp } = {}) {
    const rates = "x-google-start-bitrate=2000;x-google-min-bitrate=2000";
    const generous = (line, number) => `${line}a=fmtp:${number} ${rates}\r\n`;
    const adapted = type === "answer" ? sdp.replace(/a=rtpmap:(\d+) VP8\/90000\r\n/, generous) : sdp;
    return take.call(this, { type, sdp: adapted });
  };
  const inbound = async () => {
    const lines = {};
    for (const connection of window.__connections) {
      if (connection.connectionState === "closed") continue;
      for (const { type, ssrc, ...line } of (await connection.getStats()).values()) {
        if (type === "inbound-rtp") lines[ssrc] = line;
      }
    }
    return lines;
  };
  // How each connection reaches the server: by what, and if by the relay, over what.
  window.__paths = async () => {
    const paths = [];
    for (const connection of window.__connections) {
      if (connection.connectionState !== "connected") continue;
      const stats = await connection.getStats();
      let pair = null;
      for (const entry of stats.values()) {
        if (entry.type === "transport") pair = stats.get(entry.selectedCandidatePairId);
        if (entry.type === "candidate-pair" && entry.selected) pair = entry;
      }
      const { candidateType, relayProtocol = null } = stats.get(pair.localCandidateId);
      paths.push([candidateType, relayProtocol]);
    }
    return paths;
  };
  window.__lines = {};
  setInterval(async () => {
    for (const [ssrc, line] of Object.entries(await inbound())) {
      const { kind, framesDecoded, totalAudioEnergy, frameWidth: width } = line;
      const count = (kind === "video" ? framesDecoded : totalAudioEnergy) ?? 0;
      const known = window.__lines[ssrc] ?? { kind, count: 0, grewAt: -1 };
      window.__lines[ssrc] = { kind, width, count, grewAt: count > known.count ? performance.now() : known.grewAt };
    }
  }, 300);
  window.__watchLines = () => {
    window.__lineSamples = [];
    const take = async () => window.__lineSamples.push(await inbound());
    window.__lineWatch = setInterval(take, 1000);
  };
})();
"""
_FLOWS: Final = """([kind, count, since]) =>
  Object.values(window.__lines).filter((line) => line.kind === kind && line.grewAt > since).length >= count"""

_WIDE: Final = """([count, least, most]) => {
  const widths = Object.values(window.__lines).filter((line) => line.kind === "video").map((line) => line.width);
  return widths.filter((width) => width >= least && width <= most).length >= count;
}"""
_STATES: Final = """() => {
  const states = window.__connections.map(({ connectionState }) => connectionState);
  return [performance.now(), window.__lines, states];
}"""

Line = dict[str, Any]
"""An `inbound-rtp` entry of the browser's statistics (W3C webrtc-stats)."""


class Links(NamedTuple):
    """Of the organiser and the participants of one conference."""

    organiser: str
    participants: tuple[str, ...]


def create_conference(service: Service, participants: int = 2) -> Links:
    """Make an appointment for an organiser and so many participants."""
    options = ["--start", "now", "--json", "--plus", "--participants", str(participants)]
    made = service.command("appointment", "create", *options)
    assert made.returncode == 0, made.stderr
    created = json.loads(made.stdout)
    return Links(created["organiser"]["link"], tuple(each["link"] for each in created["participants"]))


def begin(links: Links, organiser: Participant, name: str) -> None:
    """The organiser comes, and is in the room."""
    organiser.open(links.organiser)
    organiser.join(name)
    organiser.page.get_by_test_id("conference").wait_for(state="visible", timeout=CONNECT_MS)


def let_in(organiser: Participant, link: str, person: Participant, name: str) -> None:
    """A participant comes, and the organiser, who runs in this thread, lets it in."""
    person.open(link)
    person.join(name)
    knock = organiser.page.get_by_test_id("knock")
    expect(knock).to_contain_text(f"{name} möchte teilnehmen.", timeout=CONNECT_MS)
    organiser.page.get_by_test_id("knock-admit").click()
    expect(knock).to_be_hidden(timeout=CONNECT_MS)


def await_everybody(people: Sequence[Participant], timeout_ms: float = 2 * CONNECT_MS, *, later_ms: float = 0) -> None:
    """Wait until each of them gets pictures and sound of all others, from now on or from a while later."""
    for person in people:
        await_flow(person, len(people) - 1, timeout_ms, later_ms=later_ms)


def await_flow(person: Participant, others: int, timeout_ms: float = 2 * CONNECT_MS, *, later_ms: float = 0) -> None:
    """Wait until so many pictures and so many voices have been decoded since now, or since a while later."""

    def look(page: Page) -> None:
        since = page.evaluate("(later) => performance.now() + later", later_ms)
        for kind in ("video", "audio"):
            _await(page, _FLOWS, [kind, others, since], timeout_ms)

    person.do(look)


def await_widths(person: Participant, count: int, *, least: int = 0, most: int = 10_000) -> None:
    """Wait until so many pictures that come in have a width within these bounds, in pixels."""
    person.do(lambda page: _await(page, _WIDE, [count, least, most], 2 * CONNECT_MS))


def _await(page: Page, predicate: str, arg: list[Any], timeout_ms: float) -> None:
    try:
        page.wait_for_function(predicate, arg=arg, timeout=timeout_ms)
    except PlaywrightTimeout as error:
        raise AssertionError(f"not {arg}: {page.evaluate(_STATES)}") from error


def paths(person: Participant) -> list[tuple[str, str | None]]:
    """For each connection that stands: the type of the own candidate, and the protocol to the relay if it is one."""
    found: list[list[str | None]] = person.do(lambda page: page.evaluate("() => window.__paths()"))
    return [(str(kind), protocol) for kind, protocol in found]


def await_paths(person: Participant, wanted: Sequence[tuple[str, str | None]], timeout_ms: float = CONNECT_MS) -> None:
    """Wait until both connections go these ways: a browser may begin with one that it likes less."""

    def look(page: Page) -> list[list[str | None]]:
        deadline = time.monotonic() + timeout_ms / 1000
        while (found := page.evaluate("() => window.__paths()")) != [list(way) for way in wanted]:
            if time.monotonic() > deadline:
                break
            page.wait_for_timeout(200)
        return cast("list[list[str | None]]", found)

    assert person.do(look) == [list(way) for way in wanted]


def tiles(person: Participant) -> set[str]:
    """Whose cameras are shown, by the numbers that the server gives to claims; the own one, too."""

    def look(page: Page) -> set[str]:
        shown = page.locator(".conference-tile[data-source=camera]")
        return {str(tile.get_attribute("data-testid")) for tile in shown.all()}

    return person.do(look)


def total(lines: Iterable[Line], kind: str, figure: str) -> float:
    """A figure of all lines of one kind together; what a line does not tell counts as nothing."""
    return float(sum(line.get(figure, 0) for line in lines if line["kind"] == kind))


def begin_watch(person: Participant) -> None:
    """Take all that comes in once a second from now on."""
    person.do(lambda page: page.evaluate("() => window.__watchLines()"))


def end_watch(person: Participant, seconds: int) -> list[dict[str, Line]]:
    """What came in at each second, by SSRC, once there is enough of it."""

    def look(page: Page) -> list[dict[str, Line]]:
        enough = "(count) => window.__lineSamples.length > count"
        page.wait_for_function(enough, arg=seconds, timeout=(seconds + 20) * 1000)
        samples: list[dict[str, Line]] = page.evaluate(
            "() => { clearInterval(window.__lineWatch); return window.__lineSamples; }"
        )
        return samples

    return person.do(look)
