"""Real browsers with fake cameras, driven through Playwright, and what a test wants to know of their connections."""

import contextlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Self, TypeVar, cast

from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright

from tests.support.lab import Lab
from tests.support.service import Codes

T = TypeVar("T")

CHROMIUM: Final = "/usr/bin/chromium"
FIREFOX: Final = "/usr/bin/firefox-esr"
_CAMERAS: Final = 3  # the second one of the fakes measures depth: it is shown, but not sent to anybody
# Few pictures a second: a dozen pages on two CPUs encode and decode them in software.
_FAKE_DEVICES: Final = "--use-fake-device-for-media-stream=device-count={},fps=5"
_TRUSTING: Final = "--ignore-certificate-errors"
_FAKE_CONSENT: Final = "--use-fake-ui-for-media-stream"
_CHROMIUM_OPTIONS: Final = [
    "--no-sandbox",
    "--allow-loopback-in-peer-connection",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
_FIREFOX_PREFERENCES: Final[dict[str, str | float | bool]] = {
    "media.navigator.streams.fake": True,
    "media.navigator.permission.disabled": True,
    "media.autoplay.default": 0,
    "media.peerconnection.ice.obfuscate_host_addresses": False,
}
# The page itself has no hook for tests: this wraps the browser's own class before any script of the page runs, so that
# a test can choose the path and read the statistics.
_OBSERVER: Final = """
(() => {
  const Native = window.RTCPeerConnection;
  window.__connections = [];
  window.RTCPeerConnection = class extends Native {
    constructor(configuration) {
      const wish = window.__wish ?? {};
      const adapted = { ...configuration };
      if (wish.relayOnly) adapted.iceTransportPolicy = "relay";
      if (wish.scheme) {
        adapted.iceServers = (configuration.iceServers ?? []).map((server) => ({
          ...server,
          urls: [server.urls].flat().filter((url) => url.startsWith(wish.scheme) && url.endsWith(wish.suffix)),
        })).filter((server) => server.urls.length > 0);
      }
      super(adapted);
      window.__connections.push(this);
    }
  };
  window.__figures = async () => {
    const figures = { framesDecoded: 0, totalAudioEnergy: 0, state: "none", at: performance.now() };
    const connection = window.__connections.at(-1);
    if (!connection) return figures;
    figures.state = connection.connectionState;
    const stats = await connection.getStats();
    let pair = null;
    for (const entry of stats.values()) {
      if (entry.type === "transport" && entry.selectedCandidatePairId) pair = stats.get(entry.selectedCandidatePairId);
      if (entry.type === "candidate-pair" && entry.selected) pair = entry;
      if (entry.type !== "inbound-rtp") continue;
      figures.framesDecoded += entry.framesDecoded ?? 0;
      figures.totalAudioEnergy += entry.totalAudioEnergy ?? 0;
    }
    if (pair) {
      const local = stats.get(pair.localCandidateId);
      figures.local = local.candidateType;
      figures.relayProtocol = local.relayProtocol ?? null;
      figures.remote = stats.get(pair.remoteCandidateId)?.candidateType ?? null;
    }
    return figures;
  };
  // All that was said of the connection since the page was loaded: what passes quickly is not missed.
  window.__statuses = [];
  // For `wait_for_function`, which takes a promise for a truth.
  window.__latest = { framesDecoded: 0, totalAudioEnergy: 0, state: "none", at: 0 };
  window.__grewAt = { framesDecoded: 0, totalAudioEnergy: 0 };
  // Since when each has grown without a pause.
  const PAUSE_MS = 1000;
  window.__growsSince = { framesDecoded: Infinity, totalAudioEnergy: Infinity };
  setInterval(async () => {
    const earlier = window.__latest;
    const latest = await window.__figures();
    for (const name of Object.keys(window.__grewAt)) {
      if (latest[name] > earlier[name]) {
        window.__grewAt[name] = latest.at;
        window.__growsSince[name] = Math.min(window.__growsSince[name], latest.at);
      } else if (latest.at - window.__grewAt[name] > PAUSE_MS) {
        window.__growsSince[name] = Infinity;
      }
    }
    window.__latest = latest;
  }, 200);
  setInterval(() => {
    const status = document.querySelector("[data-testid=connection-status]");
    const words = status && !status.hidden ? status.textContent : "";
    if (words !== (window.__statuses.at(-1) ?? "")) window.__statuses.push(words);
  }, 50);
})();
"""
_PHONE: Final = (
    "Mozilla/5.0 (Linux; Android 16; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0 Mobile Safari/537.36"
)
CONNECT_MS: Final = 30_000
FLOW_MS: Final = 2_000
STANDSTILL_MS: Final = 2_000  # longer than the fake microphone is ever silent between two beeps


@contextlib.contextmanager
def chromium(
    playwright: Playwright,
    program: Path | str = CHROMIUM,
    *,
    cameras: int = _CAMERAS,
    denied: bool = False,
    trusting: bool | Sequence[str] = True,
    film: Path | None = None,
) -> Iterator[Browser]:
    """Debian's Chromium, or a script that starts it elsewhere.

    Args:
        playwright: drives it.
        program: what to start.
        cameras: how many it has; a microphone there is always.
        denied: the person refuses every question of the browser.
        trusting: it takes every certificate, as people's browsers never do; or only those with these keys, named by
            the SHA-256 of their SubjectPublicKeyInfo in base64.
        film: what its only camera sees, as YUV4MPEG2; see `noise`.
    """
    options = [
        _FAKE_DEVICES.format(cameras),
        *_CHROMIUM_OPTIONS,
        *([_TRUSTING] if trusting is True else [f"{_TRUSTING}-spki-list={','.join(trusting)}"] if trusting else []),
        "--deny-permission-prompts" if denied else _FAKE_CONSENT,
        *([f"--use-file-for-fake-video-capture={film}"] if film else []),
    ]
    browser = playwright.chromium.launch(executable_path=program, args=options)
    try:
        yield browser
    finally:
        browser.close()


@contextlib.contextmanager
def firefox(playwright: Playwright, program: Path | str = FIREFOX) -> Iterator[Browser]:
    """Debian's Firefox ESR, or a script that starts it elsewhere."""
    browser = playwright.firefox.launch(
        channel="moz-firefox", executable_path=program, firefox_user_prefs=_FIREFOX_PREFERENCES
    )
    try:
        yield browser
    finally:
        browser.close()


def noise(file: Path) -> Path:
    """Write a film that costs what a layer may cost at most: Chromium's own fake picture costs next to nothing."""
    width, height, block = 1280, 720, 16
    generator = random.Random(1)  # noqa: S311  # nobody has to guess it
    with file.open("wb") as stream:
        stream.write(f"YUV4MPEG2 W{width} H{height} F5:1 Ip A1:1 C420jpeg\n".encode())
        for _ in range(10):
            stream.write(b"FRAME\n")
            for _ in range(height // block):
                row = b"".join(bytes([value]) * block for value in generator.randbytes(width // block))
                stream.write(row * block)
            stream.write(bytes([128]) * (width * height // 2))
    return file


class FirefoxInside:
    """Firefox in a namespace, with a Playwright of its own there.

    Playwright speaks to Firefox over a loopback port, and each namespace has its own loopback; and a thread can drive
    one Playwright only. So there is a thread that enters the namespace, starts a driver and does what it is told.
    """

    def __init__(self, lab: Lab, namespace: str, folder: Path) -> None:
        self._lab = lab
        self._namespace = namespace
        self._program = lab.wrapper(namespace, FIREFOX, folder)
        self._stack = contextlib.ExitStack()
        self._thread = ThreadPoolExecutor(max_workers=1)

    def __enter__(self) -> Self:
        self._thread.submit(self._start).result()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.submit(self._stack.close).result()
        self._thread.shutdown()

    def participant(self, wish: dict[str, Any], script: str = "") -> "Participant":
        """A participant whose methods run in that thread."""
        made = self._thread.submit(lambda: Participant(self._browser, wish=wish, script=script)).result()
        return cast("Participant", _Elsewhere(self._thread, made))

    def _start(self) -> None:
        with self._lab.inside(self._namespace):
            playwright = self._stack.enter_context(sync_playwright())
        self._browser = self._stack.enter_context(firefox(playwright, self._program))


class _Elsewhere:
    """Passes every call on to another thread."""

    def __init__(self, thread: ThreadPoolExecutor, target: object) -> None:
        self._thread = thread
        self._target = target

    def __getattr__(self, name: str) -> object:
        found = getattr(self._target, name)
        if not callable(found):
            return found
        return lambda *args, **kwargs: self._thread.submit(found, *args, **kwargs).result()


class Participant:
    """One person in front of one page: drives it as a person would, and reads what a person cannot see."""

    def __init__(
        self,
        browser: Browser,
        *,
        wish: dict[str, Any] | None = None,
        viewport: tuple[int, int] = (1280, 800),
        phone: bool = False,
        script: str = "",
        locale: str = "de-DE",
    ) -> None:
        """Open a tab.

        Args:
            browser: where.
            wish: what the observer of the connections is to change, for example `{"relayOnly": True}`.
            viewport: width and height in CSS pixels.
            phone: the browser says that it is one, and is touched.
            script: runs before any script of the page, to stand for a device that this machine has not.
            locale: the language that the browser asks for.
        """
        self.context: BrowserContext = browser.new_context(
            ignore_https_errors=True,
            locale=locale,
            viewport={"width": viewport[0], "height": viewport[1]},
            user_agent=_PHONE if phone else None,
            has_touch=phone,
        )
        if wish:
            self.context.add_init_script(f"window.__wish = {json.dumps(wish)};")
        self.context.add_init_script(_OBSERVER)
        if script:
            self.context.add_init_script(script)
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("console", self._note_console)
        self.requested: list[str] = []
        self.page.on("request", lambda request: self.requested.append(request.url))

    def do(self, action: Callable[[Page], T]) -> T:
        """Do something with the page, in the thread that drives it, and return what came of it."""
        return action(self.page)

    def open(self, link: str) -> None:
        """Follow a link."""
        self.page.goto(link)

    def join(self, name: str, code: str | None = None) -> None:
        """Fill in the form and press the button."""
        self.page.get_by_test_id("name-input").fill(name)
        if code is not None:
            self.page.get_by_test_id("code-input").fill(code)
        self.page.get_by_test_id("join-button").click()

    def text(self, test_id: str) -> str:
        """What an element says, once it is visible."""
        element = self.page.get_by_test_id(test_id)
        element.wait_for(state="visible", timeout=CONNECT_MS)
        return element.inner_text()

    def await_connected(self) -> None:
        """Wait until the connection to the partner stands."""
        self.page.wait_for_function("() => window.__latest.state === 'connected'", timeout=CONNECT_MS)

    def await_connection_lost(self) -> None:
        """Wait until the connection to the partner is noticed to be dead."""
        self.page.wait_for_function("() => window.__latest.state !== 'connected'", timeout=CONNECT_MS)

    def await_growth(self, figure: str, timeout_ms: float = CONNECT_MS) -> None:
        """Wait until more has been decoded than up to now: `framesDecoded` or `totalAudioEnergy`."""
        self._await_figure(figure, "window.__grewAt[name] > since", timeout_ms)

    def await_flow(self, timeout_ms: float = CONNECT_MS) -> None:
        """Wait until pictures have come for two seconds on end, all of them from now on: one may come before a rest."""
        flow = f"window.__latest.at - Math.max(since, window.__growsSince[name]) >= {FLOW_MS}"
        self._await_figure("framesDecoded", flow, timeout_ms)

    def await_standstill(self, figure: str) -> None:
        """Wait until nothing more has been decoded for a while."""
        predicate = f"window.__latest.at - Math.max(since, window.__grewAt[name]) >= {STANDSTILL_MS}"
        self._await_figure(figure, predicate)

    def _await_figure(self, figure: str, predicate: str, timeout_ms: float = CONNECT_MS) -> None:
        since = self.page.evaluate("() => performance.now()")
        self.page.wait_for_function(f"([name, since]) => {predicate}", arg=[figure, since], timeout=timeout_ms)

    def await_status(self, words: str) -> None:
        """Wait until the page has said this of the connection, for however short a time, since `forget_statuses`."""
        self.page.wait_for_function("(words) => window.__statuses.includes(words)", arg=words, timeout=CONNECT_MS)

    def forget_statuses(self) -> None:
        """Forget what the page has said of the connection up to now."""
        self.page.evaluate("() => { window.__statuses.length = 0; }")

    def safety_code(self) -> str:
        """The six digits that the panel shows, or would show; empty while there are none."""
        shown = self.page.get_by_test_id("safety-code")
        return (shown.text_content() or "") if self.page.get_by_test_id("lock").is_visible() else ""

    def await_that(self, predicate: str, arg: object = None) -> None:
        """Wait until a JavaScript function, which must not be asynchronous, finds it true in the page."""
        self.page.wait_for_function(predicate, arg=arg, timeout=2 * CONNECT_MS)

    def connections(self) -> int:
        """How many connections the page has made since it was loaded."""
        made: int = self.page.evaluate("() => window.__connections.length")
        return made

    def figures(self) -> dict[str, Any]:
        """Statistics of the newest connection."""
        figures: dict[str, Any] = self.page.evaluate("() => window.__figures()")
        return figures

    def begin_watch(self) -> None:
        """From the first picture on, take a figure every second."""
        self.page.wait_for_function("() => window.__latest.framesDecoded > 0", timeout=CONNECT_MS)
        self.page.evaluate(
            """() => {
              window.__samples = [];
              const take = async () => window.__samples.push((await window.__figures()).framesDecoded);
              window.__watch = setInterval(take, 1000);
            }"""
        )

    def end_watch(self, seconds: int) -> list[int]:
        """The decoded frames at each second, once there are enough of them."""
        self.page.wait_for_function(
            "(count) => window.__samples.length > count", arg=seconds, timeout=(seconds + 20) * 1000
        )
        samples: list[int] = self.page.evaluate("() => { clearInterval(window.__watch); return window.__samples; }")
        return samples

    def hang_up(self) -> None:
        """Press the receiver button."""
        self.page.get_by_test_id("hangup-button").click()

    def close(self) -> None:
        """Close the tab."""
        self.context.close()

    def _note_console(self, message: Any) -> None:  # noqa: ANN401  # ConsoleMessage, or BiDi's twin of it
        if message.type == "error" or "Content Security Policy" in message.text:
            self.complaints.append(f"{message.type}: {message.text}")


def watch_both(first: Participant, second: Participant, seconds: int = 5) -> None:
    """Both sides decode pictures all through the next seconds."""
    for participant in (first, second):
        participant.begin_watch()
    for participant in (first, second):
        assert_no_standstill(participant.end_watch(seconds))


def assert_no_standstill(samples: list[int]) -> None:
    """The decoded frames have grown within any two seconds; a busy machine may take a whole one off."""
    last = samples[2:] if len(samples) > 2 else samples[1:]
    assert all(later > earlier for earlier, later in zip(samples, last, strict=False)), f"it stood still: {samples}"


def talk(codes: Codes, doctor: Participant, patient: Participant) -> None:
    """Bring two people into a running consultation."""
    doctor.open(codes.organiser_link)
    doctor.join("Dr. Anna Beispiel")
    patient.open(codes.participant_link)
    patient.join("Petra Muster")
    for participant in (doctor, patient):
        participant.await_connected()
        participant.await_growth("framesDecoded")
