"""Conferences in real browsers: who is in one, and what becomes of every line of media between two of them."""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from playwright.sync_api import Browser, Locator, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

from tests.support.browser import CONNECT_MS, STANDSTILL_MS, Participant
from tests.support.ports import free_port
from tests.support.service import Service, run_service

DOCTOR, PETRA, UWE, LENA = "Dr. Anna Beispiel", "Petra Muster", "Uwe Probe", "Lena Versuch"
LOBBY: Final = "Bitte warten – Sie werden gleich eingelassen."
PATIENCE_MS: Final = 3 * CONNECT_MS  # a dozen encoders share two cores with everybody else
VIEWPORT: Final = (640, 480)  # what is painted in software costs as much as what is encoded
# Changes are gathered for a second, a new key is used a second after it was told: by then the earlier one is history.
NEW_KEY_MS: Final = 3_000

# Two cores encode the pictures of everybody: small ones say as much about who gets what of whom.
SMALL_CAMERA: Final = """
  const askForCamera = MediaDevices.prototype.getUserMedia;
  MediaDevices.prototype.getUserMedia = function (constraints) {
    const { video } = constraints;
    const small = { ...(typeof video === "object" ? video : {}), width: 160, height: 120 };
    return askForCamera.call(this, video ? { ...constraints, video: small } : constraints);
  };
"""
# The picker of the browser cannot be driven. This screen is higher than wide, as no camera is, and ends with its track.
SMALL_SCREEN: Final = """
  window.__screens = [];
  MediaDevices.prototype.getDisplayMedia = async function () {
    const canvas = Object.assign(document.createElement("canvas"), { width: 120, height: 240 });
    const context = canvas.getContext("2d");
    const stream = canvas.captureStream(5);
    const [track] = stream.getVideoTracks();
    window.__screens.push(track);
    const painting = setInterval(() => {
      context.fillStyle = `hsl(${performance.now() / 10} 90% 50%)`;
      context.fillRect(0, 0, 120, 240);
      if (track.readyState === "ended") clearInterval(painting);
    }, 200);
    return stream;
  };
"""
# The page has no hook for tests: this stands between it and the browser's own classes before any script of the page
# runs. Lines are named by whose they are, as the server has said it: `pid source`. An m-line that changes hands has
# another mid and another SSRC.
_WITNESS: Final = """
(() => {
  let session = "";
  let owners = {};
  window.__pid = "";
  window.__lines = {};
  window.__sent = {};
  window.__said = {};
  window.WebSocket = class extends window.WebSocket {
    constructor(...options) {
      super(...options);
      this.addEventListener("message", ({ data }) => {
        const said = JSON.parse(data);
        window.__said[said.type] = (window.__said[said.type] ?? 0) + 1;
        if (said.type === "joined") {
          window.__pid = said.pid;
          window.__joinedAt ??= performance.now();
        }
        if (said.type !== "subscribe") return;
        const begun = /^o=\\S+ (\\d+) /m.exec(said.sdp)[1];
        if (begun !== session) owners = {};
        session = begun;
        Object.assign(owners, said.tracks);
      });
    }
  };
  // What the worker of the encryption is told, and what it tells. `__bend` may change an order.
  const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  window.__keys = { own: [], received: [], held: {} };
  window.__counts = [];
  const post = Worker.prototype.postMessage;
  Worker.prototype.postMessage = function (order, ...rest) {
    const { own, received, held } = window.__keys;
    if (order.do === "send_with") own.push({ kid: order.kid, base: hex(order.base), at: performance.now() });
    if (order.do === "receive_with") {
      received.push({ kid: order.kid, base: hex(order.base), at: performance.now() });
      held[order.kid] = hex(order.base);
    }
    if (order.do === "forget") delete held[order.kid];
    return post.call(this, window.__bend ? window.__bend(order) : order, ...rest);
  };
  window.Worker = class extends window.Worker {
    constructor(...options) {
      super(...options);
      this.addEventListener("message", ({ data }) => { if (data.told === "counts") window.__counts = data.counts; });
    }
  };
  const look = async () => {
    for (const connection of window.__connections) {
      if (connection.connectionState !== "connected") continue;
      for (const entry of (await connection.getStats()).values()) {
        if (entry.type === "outbound-rtp") {
          const { kind, rid, pliCount = 0, keyFramesEncoded = 0 } = entry;
          window.__sent[entry.ssrc] = { kind, rid, pliCount, keyFramesEncoded };
        }
        if (entry.type !== "inbound-rtp") continue;
        const { pid, source } = owners[entry.mid] ?? { pid: "nobody", source: entry.mid };
        const count = entry.kind === "video" ? (entry.framesDecoded ?? 0) : (entry.totalAudioEnergy ?? 0);
        const known = window.__lines[entry.ssrc] ?? { name: `${pid} ${source}`, count: 0, grewAt: -1 };
        const grewAt = count > known.count ? performance.now() : known.grewAt;
        const { packetsReceived = 0, pliCount = 0 } = entry;
        window.__lines[entry.ssrc] = { ...known, count, grewAt, packetsReceived, pliCount };
      }
    }
  };
  let looking = false;
  setInterval(async () => {
    if (looking) return;
    looking = true;
    await look().finally(() => { looking = false; });
  }, 400);
})();
"""
_FLOW: Final = """([names, since]) => names.every((name) =>
  Object.values(window.__lines).some((line) => line.name === name && line.grewAt > since))"""
_STILL: Final = """([name, since, still]) => Object.values(window.__lines).every((line) =>
  line.name !== name || performance.now() - Math.max(since, line.grewAt) >= still)"""
_NAMES: Final = """() => {
  const tiles = document.querySelector("[data-testid=conference-tiles]");
  const read = () => [...tiles.querySelectorAll("bdi")].map(({ textContent }) => textContent).sort().join(", ");
  const shown = (window.__names = [read()]);
  const note = () => { if (read() !== shown.at(-1)) shown.push(read()); };
  new MutationObserver(note).observe(tiles, { subtree: true, childList: true, characterData: true });
}"""
_PEOPLE: Final = """() => Object.fromEntries(
  [...document.querySelectorAll("[data-testid=people] > li:has(output)")].map((row) =>
    [row.querySelector("bdi").textContent, row.querySelector("output").textContent]))"""
_WEIGHT: Final = """() => {
  const open = window.__connections.filter(({ connectionState }) => connectionState !== "closed");
  const lines = ({ localDescription }) => localDescription?.sdp.match(/^m=/gm)?.length ?? 0;
  const ends = (connection) => [...connection.getSenders(), ...connection.getReceivers()];
  const tracks = (connection) => ends(connection).filter(({ track }) => track?.readyState === "live");
  return {
    connections: open.length,
    lines: open.map(lines),
    transceivers: open.map((connection) => connection.getTransceivers().length),
    tracks: open.map((connection) => tracks(connection).length),
    worker: window.__counts.length,
    elements: document.querySelectorAll("video, audio").length,
  };
}"""
_STATE: Final = """() => JSON.stringify({
  now: Math.round(performance.now()),
  connections: window.__connections.map(({ connectionState }) => connectionState),
  lines: window.__lines, sent: window.__sent, counts: window.__counts, said: window.__said })"""


@contextlib.contextmanager
def run_conference_service(folder: Path, tap: Path | None = Path(os.devnull)) -> Iterator[Service]:
    """The whole service with its media server, on free ports of loopback; what paths carry is not measured.

    Args:
        folder: takes the configuration and the state.
        tap: takes what the media server gets, see `bugged_sfu`. None: the service as it is, compiled, and measuring.
    """
    port = free_port()
    settings: dict[str, Any] = {
        "services": ["relay", "signaling", "sfu"],
        "signaling": {"port": port, "public_url": f"http://localhost:{port}"},
        "relay": {"udp_ports": [free_port()], "tcp_ports": [free_port()], "tls_ports": [free_port()]},
        "sfu": {"udp_port": free_port(), "listen_addresses": ["127.0.0.1"], "start_bits_per_second": 10_000_000},
    }
    # A dozen encoders of browsers on the same two cores would leave it less than any server has.
    program = ("config",) if tap is None else ("tests.support.bugged_sfu", str(tap))
    with run_service(folder, settings, program=program, niceness=-10) as started:
        yield started


class Attendee(Participant):
    """Somebody in a conference."""

    def __init__(self, browser: Browser, name: str, *, script: str = "") -> None:
        """Open a tab with a small camera; `script` runs before any script of the page."""
        super().__init__(browser, viewport=VIEWPORT, script=_WITNESS + SMALL_CAMERA + script)
        self.name = name
        self.page.set_default_timeout(PATIENCE_MS)

    @property
    def pid(self) -> str:
        """Under which the server knows this one."""
        pid: str = self.page.evaluate("() => window.__pid")
        assert pid, f"{self.name} has not joined"
        return pid

    @property
    def now(self) -> float:
        """Milliseconds of the page's clock."""
        now: float = self.page.evaluate("() => performance.now()")
        return now

    @property
    def tiles(self) -> Locator:
        """The pictures, one's own among them."""
        return self.page.locator(".conference-tile")

    def tile_of(self, other: "Attendee", source: str = "camera") -> Locator:
        """Where the picture of somebody else is."""
        return self.page.get_by_test_id(f"tile-{other.pid}-{source}")

    def keys(self) -> dict[str, Any]:
        """What the worker was told: `own` and `received` in their order, `held` by KID."""
        keys: dict[str, Any] = self.page.evaluate("() => window.__keys")
        return keys

    def lines_of(self, other: "Attendee") -> list[dict[str, Any]]:
        """Counters of what has come of somebody else."""
        lines: list[dict[str, Any]] = self.page.evaluate("() => Object.values(window.__lines)")
        return [line for line in lines if line["name"].startswith(f"{other.pid} ")]

    def await_media_of(
        self,
        others: "Iterable[Attendee]",
        sources: Sequence[str] = ("camera", "microphone"),
        *,
        later_ms: float = 0,
        since: float | None = None,
    ) -> None:
        """Wait until something of each of these has been decoded since an instant: now by default, or a while later."""
        names = [f"{other.pid} {source}" for other in others for source in sources]
        self.await_true(_FLOW, [names, (self.now if since is None else since) + later_ms])

    def await_silence_of(self, other: "Attendee", source: str) -> None:
        """Wait until nothing of it has been decoded for a while."""
        self.await_true(_STILL, [f"{other.pid} {source}", self.now, STANDSTILL_MS])

    def watch_names(self) -> None:
        """From now on, note which names are on the pictures."""
        self.page.evaluate(_NAMES)

    def shown_names(self) -> list[str]:
        """What was on the pictures since `watch_names`, from change to change."""
        shown: list[str] = self.page.evaluate("() => window.__names")
        return shown

    def weight(self) -> dict[str, Any]:
        """How much there is of what may pile up: m-lines, transceivers, tracks, lines of the worker, elements."""
        weight: dict[str, Any] = self.page.evaluate(_WEIGHT)
        return weight

    def await_true(self, predicate: str, arg: object = None) -> None:
        """Wait for something in the page.

        Raises:
            AssertionError: it does not come true; says what there is.
        """
        try:
            self.page.wait_for_function(predicate, arg=arg, timeout=PATIENCE_MS)
        except PlaywrightTimeoutError:
            state = self.page.evaluate(_STATE)
            raise AssertionError(f"{self.name}: not {arg}: {state} {self.complaints}") from None

    def people(self) -> dict[str, str]:
        """The safety codes that the panel shows, or would show if it were open, by the names of the others."""
        read: dict[str, str] = self.page.evaluate(_PEOPLE)
        return read

    def await_codes(self, count: int) -> None:
        """Wait until there are so many safety codes, however often somebody has to agree on one anew."""
        self.await_true(f"(count) => Object.values(({_PEOPLE})()).filter(Boolean).length === count", count)

    def row_of(self, other: "Attendee") -> Locator:
        """Somebody else in the panel."""
        self.open_panel()
        return self.page.get_by_test_id(f"person-{other.pid}")

    def open_panel(self) -> Locator:
        """The panel, opened if it is not."""
        panel = self.page.get_by_test_id("panel")
        if not panel.is_visible():
            self.page.get_by_test_id("menu-button").click()
        return panel

    def let_in(self, name: str) -> None:
        """Wait until somebody knocks, and open."""
        self._answer(name, "knock-admit")

    def send_away(self, name: str) -> None:
        """Wait until somebody knocks, and refuse."""
        self._answer(name, "knock-refuse")

    def _answer(self, name: str, button: str) -> None:
        close = self.page.get_by_test_id("panel-close")
        if close.is_visible():
            close.click()  # in a narrow window the panel covers who knocks
        knock = self.page.get_by_test_id("knock")
        expect(knock).to_contain_text(f"{name} möchte teilnehmen.", timeout=PATIENCE_MS)
        self.page.get_by_test_id(button).click()
        expect(knock).to_be_hidden(timeout=PATIENCE_MS)


class Links(NamedTuple):
    """Of one conference."""

    organiser: str
    participants: list[str]


def create_conference(service: Service, participants: int) -> Links:
    """Create an appointment on the command line, as an operator would."""
    made = service.command(
        "appointment", "create", "--start", "now", "--json", "--plus", "--participants", str(participants)
    )
    assert made.returncode == 0, made.stderr
    created = json.loads(made.stdout)
    return Links(created["organiser"]["link"], [each["link"] for each in created["participants"]])


class Meeting:
    """One conference and who is in it, the organiser first."""

    def __init__(self, browser: Browser, service: Service, participants: int) -> None:
        """Create it; nobody is there yet.

        Args:
            browser: of everybody.
            service: where it takes place.
            participants: for how many there are codes, beside the organiser.
        """
        self.service = service
        self.people: list[Attendee] = []
        self._browser = browser
        links = create_conference(service, participants)
        self._unused = iter([links.organiser, *links.participants])
        self._link_of: dict[str, str] = {}
        self._visitors: list[Attendee] = []

    @property
    def organiser(self) -> Attendee:
        """Who came first."""
        return self.people[0]

    def visit(self, name: str, *, script: str = "") -> Attendee:
        """Somebody opens the own link, or the next one, and asks to come in: the first one as organiser."""
        visitor = Attendee(self._browser, name, script=script)
        self._visitors.append(visitor)
        if name not in self._link_of:
            self._link_of[name] = next(self._unused)
        visitor.open(self._link_of[name])
        visitor.join(name)
        return visitor

    def enter(self, *names: str, script: str = "") -> list[Attendee]:
        """People come one after the other, and are let in."""
        for name in names:
            visitor = self.visit(name, script=script)
            if self.people:
                expect(visitor.page.get_by_test_id("waiting-text")).to_have_text(LOBBY, timeout=PATIENCE_MS)
                try:
                    self.organiser.let_in(name)
                except AssertionError as error:
                    states = [(each.name, each.page.evaluate(_STATE), each.complaints) for each in self._visitors]
                    raise AssertionError(f"{name} is not let in: {states}") from error
            visitor.page.get_by_test_id("conference").wait_for(state="visible", timeout=PATIENCE_MS)
            self.people.append(visitor)
        return self.people[-len(names) :]

    def others_than(self, person: Attendee) -> list[Attendee]:
        """Everybody else."""
        return [each for each in self.people if each is not person]

    def await_everybody(self, *, later_ms: float = 0) -> None:
        """Everybody sees and hears everybody else, from now on or from a while later."""
        begun = [person.now + later_ms for person in self.people]
        for person, since in zip(self.people, begun, strict=True):
            expect(person.tiles).to_have_count(len(self.people), timeout=PATIENCE_MS)
            person.await_media_of(self.others_than(person), since=since)

    @property
    def complaints(self) -> list[str]:
        """Errors of all pages."""
        return [f"{visitor.name}: {complaint}" for visitor in self._visitors for complaint in visitor.complaints]

    def close(self) -> None:
        """Close all tabs."""
        for visitor in self._visitors:
            visitor.close()


@contextlib.contextmanager
def meeting(browser: Browser, service: Service, participants: int) -> Iterator[Meeting]:
    """A conference whose tabs are closed at the end; no page may have complained by then."""
    begun = Meeting(browser, service, participants)
    try:
        yield begun
    except BaseException as error:
        error.add_note(f"the pages complained: {begun.complaints}")
        raise
    finally:
        begun.close()
    assert not begun.complaints, begun.complaints
