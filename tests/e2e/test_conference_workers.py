"""A conference whose worker of the media server dies, hangs or is asked to end: another one has it by itself."""

import json
import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.support.browser import CONNECT_MS, Participant
from tests.support.ports import free_port, free_ports
from tests.support.service import Service, run_service

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

_LOGGER = logging.getLogger(__name__)  # figures: --log-cli-level=INFO

NAMES = ("Dr. Anna Beispiel", "Petra Muster")
# A tone without pauses in place of the beeps of the fake microphone: whatever is missing of it was lost.
TONE = """
  const getUserMedia = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (wanted) => {
    const stream = await getUserMedia(wanted);
    for (const track of stream.getAudioTracks()) {
      const context = new AudioContext();
      const [tone, out] = [context.createOscillator(), context.createMediaStreamDestination()];
      tone.connect(out);
      tone.start();
      stream.removeTrack(track);
      stream.addTrack(out.stream.getAudioTracks()[0]);
    }
    return stream;
  };
"""
# When sound and picture that the page shows have last grown, by which connection, and how long sound was missing.
WATCH = """
  window.__heard = { at: null, longestGap: 0, by: -1 };
  window.__seen = { at: null, by: -1 };
  window.__begun = {}; // by kind and connection: when the first of it came
  window.__beside = {}; // and the states of all connections then
  const known = new Map();
  const players = new Set(); // sound is played by an element that stands nowhere
  const { get, set } = Object.getOwnPropertyDescriptor(HTMLMediaElement.prototype, "srcObject");
  Object.defineProperty(HTMLMediaElement.prototype, "srcObject", {
    get,
    set(stream) {
      players.add(this);
      set.call(this, stream);
    },
  });
  const isShown = (track) => [...players].some(({ srcObject }) => srcObject?.getTracks().includes(track));
  const look = async () => {
    for (const [number, connection] of window.__connections.entries()) {
      if (connection.connectionState === "closed") continue;
      for (const receiver of connection.getReceivers()) {
        if (!isShown(receiver.track)) continue;
        for (const entry of (await receiver.getStats()).values()) {
          if (entry.type !== "inbound-rtp") continue;
          const now = performance.now();
          const isSound = entry.kind === "audio";
          const which = `${entry.kind} ${number}`;
          const figures = isSound ? [entry.packetsReceived, entry.totalAudioEnergy] : [entry.framesDecoded];
          const before = known.get(receiver.track);
          known.set(receiver.track, figures);
          if (before === undefined || figures.some((figure, index) => !(figure > before[index]))) continue;
          window.__begun[which] ??= now;
          window.__beside[which] ??= window.__connections.map(({ connectionState }) => connectionState);
          if (isSound) {
            const gap = window.__heard.at === null ? 0 : now - window.__heard.at;
            window.__heard = { at: now, longestGap: Math.max(gap, window.__heard.longestGap), by: number };
          } else {
            window.__seen = { at: now, by: number };
          }
        }
      }
    }
    setTimeout(look, 20);
  };
  setTimeout(look, 20);
"""
BACK = """([count, since]) => [window.__heard, window.__seen].every(({ at, by }) => by >= count && at > since)"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """The whole service, with two workers of the media server on two ports in a row."""
    port = free_port()
    settings = {
        "services": ["relay", "signaling", "sfu"],
        "signaling": {"port": port, "public_url": f"http://localhost:{port}"},
        "relay": {"udp_ports": [free_port()], "tcp_ports": [free_port()], "tls_ports": [free_port()]},
        "sfu": {"workers": 2, "udp_port": free_ports(2)[0], "listen_addresses": ["127.0.0.1"]},
    }
    with run_service(tmp_path, settings) as started:
        yield started


@pytest.fixture
def people(service: Service, invite: Callable[..., Participant]) -> tuple[Participant, Participant]:
    """Doctor and patient in a conference for three, who see and hear each other."""
    made = service.command("appointment", "create", "--start", "now", "--json", "--plus", "--participants", "2")
    assert made.returncode == 0, made.stderr
    created = json.loads(made.stdout)
    links = (created["organiser"]["link"], created["participants"][0]["link"])
    doctor, patient = (invite(script=TONE + WATCH) for _ in links)
    for person, link, name in zip((doctor, patient), links, NAMES, strict=True):
        person.open(link)
        person.join(name)
    doctor.page.get_by_test_id("knock-admit").click(timeout=CONNECT_MS)
    for person in (doctor, patient):
        await_media(person, 0, 0)
    return doctor, patient


@pytest.mark.parametrize(
    ("how", "cause"),
    [(signal.SIGKILL, "died"), (signal.SIGSTOP, "died"), (signal.SIGTERM, "retired")],
    ids=["killed", "hung", "asked to end"],
)
def test_everybody_is_back_in_another_worker_with_the_same_identity_and_keys(
    service: Service, people: tuple[Participant, Participant], how: signal.Signals, cause: str
) -> None:
    codes = [safety_code(person) for person in people]
    assert codes[0] == codes[1]
    known = [person.connections() for person in people]
    usual = [person.page.evaluate("() => window.__heard.longestGap") for person in people]  # on a busy machine
    begun = [person.page.evaluate("() => (window.__heard.longestGap = 0, performance.now())") for person in people]
    os.kill(worker_pids(service)[0], how)
    for person, count, since, before in zip(people, known, begun, usual, strict=True):
        await_media(person, count, since)
        seen, heard, gap = person.page.evaluate(
            "() => [`video ${window.__seen.by}`, `audio ${window.__heard.by}`].map((which) => window.__begun[which])"
            ".concat(window.__heard.longestGap)"
        )
        _LOGGER.info(
            "%s: picture %.0f ms, sound %.0f ms, silence %.0f ms, before that %.0f ms",
            *(how.name, seen - since, heard - since, gap, before),
        )
        if cause == "retired":  # nobody hangs up before the other line stands: so no word is lost
            states = person.page.evaluate("() => window.__beside[`audio ${window.__heard.by}`]")
            assert "connected" in states[:count]
    assert [safety_code(person) for person in people] == codes
    for person, count in zip(people, known, strict=True):
        expect(person.page.locator(".conference-tile")).to_have_count(2)
        assert person.connections() == count + 2  # one for each side, and none in vain
    metrics = service.metrics()
    assert metrics[f'redconnect_sfu_rooms_moved_total{{cause="{cause}"}}'] == 1
    replaced = {'redconnect_sfu_worker_restarts_total{worker="0"}': 1, 'redconnect_sfu_worker_up{worker="0"}': 1}
    service.await_that(lambda: replaced.items() <= service.metrics().items(), seconds=60)


def test_who_is_in_a_conference_when_the_service_is_to_end_reads_it_and_talks_on(
    service: Service, people: tuple[Participant, Participant]
) -> None:
    known = [person.connections() for person in people]
    service.reload({"sfu": {"drain_seconds": 600}})
    service.terminate()
    for person in people:
        assert "Der Server wird neu gestartet." in person.text("ending")
        await_media(person, 0, person.page.evaluate("() => performance.now()"))
    assert [person.connections() for person in people] == known
    assert not service.is_ready()
    service.terminate()  # and once more: nobody is waited for
    logged = service.await_end()
    assert "2 people in conferences may go on" in logged
    for person in people:
        person.complaints.clear()  # of a server that has gone


def await_media(person: Participant, count: int, since: float) -> None:
    """Wait until the page shows picture and sound that came after then, by a connection beyond the first `count`."""
    person.page.wait_for_function(BACK, arg=[count, since], timeout=2 * CONNECT_MS)


def safety_code(person: Participant) -> str:
    """What is to be compared with the other one."""
    code = person.page.get_by_test_id("people").locator("output")
    if not code.is_visible():
        person.page.get_by_test_id("menu-button").click()
    text: str = code.inner_text()
    return text


def worker_pids(service: Service) -> dict[int, int]:
    """The processes of the SFU's workers by their number."""
    found = {}
    for text in Path(f"/proc/{service.pid}/task/{service.pid}/children").read_text().split():
        words = Path(f"/proc/{text}/cmdline").read_bytes().split(b"\0")
        if b"--sfu-worker" in words:
            found[int(words[words.index(b"--sfu-worker") + 1])] = int(text)
    return found
