"""How long somebody waits for the other one's picture, from the button to the first frame, in real browsers.

    .venv/bin/python -m tests.bench.first_frame

Two pages of one Chromium on this machine, with cameras that are fakes. The first person waits in the room; the clock
runs in the page of the second one, from "Raum beitreten" on. The steps are what its own page has heard and said, read
from outside: the first answer of the server, its word that the other one is verified, the state of its connection, and
the first picture that its browser has put before it.
"""

import argparse
import statistics
from typing import Any, Final

from playwright.sync_api import Browser, sync_playwright

from signaling.codes import SECRET_SYMBOLS, AccessCode, link
from tests.bench.signaling_server import Locators, SignalingServer, run_signaling
from tests.support.browser import CONNECT_MS, Participant, chromium

TALKS: Final = 30
STEPS: Final = {
    "joined": "seat taken",
    "verified": "other one verified",
    "connected": "connection stands",
    "frame": "first picture",
}
PATHS: Final[dict[str, dict[str, Any]]] = {"direct": {}, "relay, UDP": {"relayOnly": True}}
_CLIENTS: Final = 16
_WAITING: Final = """() => window.__marks.joined !== undefined
  && document.querySelector("[data-testid=local-video]").readyState >= HTMLMediaElement.HAVE_CURRENT_DATA"""
_SECRET: Final = "7" * SECRET_SYMBOLS
# Notes instants without changing what the page does: the browser's own classes, before any script of the page runs.
_STOPWATCH: Final = """
(() => {
  const marks = (window.__marks = {});
  const mark = (name) => (marks[name] ??= performance.now());
  const Socket = window.WebSocket;
  window.WebSocket = class extends Socket {
    constructor(...given) {
      super(...given);
      this.addEventListener("message", (event) => {
        if (JSON.parse(event.data).type === "joined") mark("joined");
      });
    }
    send(text) {
      const message = JSON.parse(text);
      if (message.type === "paired" && message.ok) mark("verified");
      super.send(text);
    }
  };
  const Connection = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Connection {
    constructor(configuration) {
      super(configuration);
      this.addEventListener("connectionstatechange", () => {
        if (this.connectionState === "connected") mark("connected");
      });
    }
  };
  document.addEventListener("DOMContentLoaded", () => {
    document.querySelector("[data-testid=join-button]").addEventListener("click", () => mark("pressed"), true);
    document.querySelector("[data-testid=remote-video]").requestVideoFrameCallback(() => mark("frame"));
  });
})();
"""


def measure(server: SignalingServer, browser: Browser, wish: dict[str, Any], locators: Locators) -> dict[str, float]:
    """Bring two people together once.

    Returns:
        Milliseconds from the button to each of the steps.
    """
    links = [link(server.url, AccessCode.compose(locator, _SECRET)) for locator in locators]
    people: list[Participant] = []
    try:
        people.append(first := Participant(browser, wish=wish, script=_STOPWATCH))
        people.append(second := Participant(browser, wish=wish, script=_STOPWATCH))
        first.open(links[0])
        first.join("Dr. Anna Beispiel")
        first.page.wait_for_function(_WAITING, timeout=CONNECT_MS)
        second.open(links[1])
        second.join("Petra Muster")
        second.page.wait_for_function("() => window.__marks.frame !== undefined", timeout=CONNECT_MS)
        marks: dict[str, float] = second.page.evaluate("() => window.__marks")
        figures = second.figures()
        if ("relayOnly" in wish) != (figures["local"] == "relay"):
            raise RuntimeError(f"a path by {figures['local']}")
        complaints = [complaint for person in people for complaint in person.complaints]
        if complaints:
            raise RuntimeError(f"the pages complain: {complaints}")
    finally:
        for person in people:
            person.close()
    return {step: marks[step] - marks["pressed"] for step in STEPS}


def print_first_frame(talks: int = TALKS) -> None:
    """Measure and print a Markdown table."""
    print(f"\n### From the button to the first picture, {talks} talks each\n")
    print("| path | step | p50 ms | p95 ms | least and most |")
    print("|---|---|--:|--:|--:|")
    with run_signaling(_CLIENTS) as server, sync_playwright() as playwright, chromium(playwright) as browser:
        plan = server.plan(1 + talks * len(PATHS))
        measure(server, browser, {}, plan.pop())  # once for nothing: what is loaded and cached with the first pages
        samples: dict[str, list[dict[str, float]]] = {path: [] for path in PATHS}
        for _ in range(talks):
            for path, wish in PATHS.items():
                samples[path].append(measure(server, browser, wish, plan.pop()))
    for path in PATHS:
        for step, what in STEPS.items():
            values = sorted(sample[step] for sample in samples[path])
            p95 = statistics.quantiles(values, n=20, method="inclusive")[-1] if talks > 1 else values[0]
            cells = f"{statistics.median(values):.0f} | {p95:.0f} | {values[0]:.0f}, {values[-1]:.0f}"
            print(f"| {path} | {what} | {cells} |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--talks", type=int, default=TALKS, help="by each path")
    options = parser.parse_args()
    print_first_frame(options.talks)


if __name__ == "__main__":
    main()
