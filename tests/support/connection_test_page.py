"""The page `/test` as somebody in front of it sees it."""

import json
from typing import Final, NamedTuple

from playwright.sync_api import Page

WITHIN_MS: Final = 30_000  # that a test may take


class Line(NamedTuple):
    """A row of the table."""

    transport: str
    port: str
    state: str
    words: str


def run_test(page: Page, address: str) -> None:
    """Open the page, run the test, and wait until its verdict stands there.

    Raises:
        TimeoutError: it took longer than a test may.
    """
    page.goto(f"{address}/test")
    page.get_by_test_id("test-start").click()
    page.get_by_test_id("test-verdict").wait_for(timeout=WITHIN_MS)


def lines(page: Page) -> list[Line]:
    """All rows."""
    rows = page.get_by_test_id("test-rows").locator("tr").all()
    found = []
    for row in rows:
        cells = row.locator("td").all_inner_texts()
        found.append(Line(cells[0], cells[1], row.get_attribute("data-state") or "", " ".join(cells[2].split())))
    return found


def states(page: Page) -> dict[str, str]:
    """The state of every port, by transport and port."""
    return {f"{line.transport} {line.port}": line.state for line in lines(page)}


def step(page: Page) -> str:
    """`good`, `weak` or `bad`."""
    return page.get_by_test_id("test-verdict").get_attribute("data-step") or ""


def failing_ports(*schemes: str) -> str:
    """A script that lets attempts at URLs that begin so fail at once and without a reason, as those over TLS do."""
    return """
      window.RTCPeerConnection = class extends window.RTCPeerConnection {
        constructor(configuration) {
          const [url] = configuration.iceServers[0].urls;
          super(SCHEMES.some((each) => url.startsWith(each)) ? { ...configuration, iceServers: [] } : configuration);
        }
      };
    """.replace("SCHEMES", json.dumps(schemes))


def closed_ports(*schemes: str) -> str:
    """A script that keeps the page from URLs that begin or end so, as a firewall would that drops everything."""
    return """
      window.RTCPeerConnection = class extends window.RTCPeerConnection {
        constructor(configuration) {
          const [url] = configuration.iceServers[0].urls;
          const closed = SCHEMES.some((each) => url.startsWith(each) || url.endsWith(each));
          super(closed ? { ...configuration, iceServers: [] } : configuration);
          if (closed) Object.defineProperty(this, "iceGatheringState", { value: "gathering" });
        }
      };
    """.replace("SCHEMES", json.dumps(schemes))
