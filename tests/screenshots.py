"""Pictures of every state of the room page, on a desktop and on a phone, for docs/states.md.

    make screenshots

Real pages of the real service in Chromium; nothing is drawn by hand. States that need a broken network are brought
about in the page: a bad connection by statistics that say so, one without a path by a relay that is not there.
"""

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from playwright.sync_api import Browser, sync_playwright

from tests.support.browser import Participant, chromium, talk
from tests.support.fake_devices import NO_CAMERA, SCREEN
from tests.support.service import Codes, Service, free_port, run_service

DOCS: Final = Path(__file__).resolve().parents[1] / "docs"
FOLDER: Final = DOCS / "img" / "states"
QUALITY: Final = 72  # of JPEG, in percent
PATIENT: Final = "Petra Muster"
DOCTOR: Final = "Dr. Anna Beispiel"
# Statistics as a line has them that loses every eighth packet.
BAD_LINE: Final = """
  const getStats = RTCPeerConnection.prototype.getStats;
  RTCPeerConnection.prototype.getStats = async function () {
    const report = await getStats.call(this);
    return new Map([...report].map(([id, entry]) =>
      [id, entry.type === "inbound-rtp" ? { ...entry, packetsLost: Math.round(entry.packetsReceived / 7) } : entry]));
  };
"""


class Screen(NamedTuple):
    """A kind of device."""

    name: str
    size: tuple[int, int]
    phone: bool


SCREENS: Final = (Screen("desktop", (1280, 800), phone=False), Screen("phone", (360, 740), phone=True))


class Studio:
    """Takes the pictures of one kind of device."""

    def __init__(self, browser: Browser, service: Service, screen: Screen) -> None:
        self._browser = browser
        self._screen = screen
        self.service = service
        self.taken: list[str] = []

    @contextmanager
    def guest(self, *, script: str = "", wish: dict[str, object] | None = None) -> Iterator[Participant]:
        """Somebody in front of this device."""
        with self._person(self._screen, script, wish) as person:
            yield person

    @contextmanager
    def other(self) -> Iterator[Participant]:
        """Somebody elsewhere, at a desk."""
        with self._person(SCREENS[0], "", None) as person:
            yield person

    @contextmanager
    def _person(self, screen: Screen, script: str, wish: dict[str, object] | None) -> Iterator[Participant]:
        person = Participant(self._browser, viewport=screen.size, phone=screen.phone, script=script, wish=wish)
        try:
            yield person
        finally:
            person.close()

    def take(self, person: Participant, name: str) -> None:
        """Keep what the page shows now."""
        FOLDER.mkdir(parents=True, exist_ok=True)
        path = FOLDER / f"{name}-{self._screen.name}.jpg"
        person.page.screenshot(path=path, type="jpeg", quality=QUALITY, animations="disabled")
        self.taken.append(name)


def entry(studio: Studio, codes: Codes) -> None:
    """The form, in both languages, and what it refuses."""
    with studio.guest() as patient:
        patient.open(codes.participant_link)
        patient.page.get_by_test_id("join-button").wait_for()
        studio.take(patient, "01-entry")
        patient.page.get_by_test_id("language").click()
        patient.page.get_by_text("Your name").wait_for()
        studio.take(patient, "02-entry-english")
        patient.page.get_by_test_id("language").click()
        patient.join(PATIENT, "0000-0000-0001")
        patient.text("error-text")
        studio.take(patient, "03-unknown-code")
    with studio.guest() as patient:
        patient.open(studio.service.create_appointment("2030-03-01 14:30").participant_link)
        patient.join(PATIENT)
        patient.text("error-text")
        studio.take(patient, "04-too-early")


def check(studio: Studio, codes: Codes) -> None:
    """The check of the devices, with and without a camera."""
    for name, script in (("05-check", ""), ("06-check-no-camera", NO_CAMERA)):
        with studio.guest(script=script) as patient:
            patient.open(codes.participant_link)
            patient.page.get_by_test_id("check-button").click()
            patient.page.get_by_test_id("check-problem" if script else "check-video").wait_for()
            patient.page.get_by_test_id("check").scroll_into_view_if_needed()
            patient.page.wait_for_function("() => document.querySelector('#check-level').ariaValueText !== null")
            studio.take(patient, name)


def waiting(studio: Studio, codes: Codes) -> None:
    """Alone in the room, and an organiser who finds somebody waiting."""
    with studio.guest() as patient:
        patient.open(codes.participant_link)
        patient.join(PATIENT)
        patient.text("waiting-text")
        studio.take(patient, "07-waiting")
    with studio.other() as patient, studio.guest(wish={"scheme": "turn:", "suffix": "none"}) as doctor:
        codes = studio.service.create_appointment()
        patient.open(codes.participant_link)
        patient.join(PATIENT)
        patient.text("waiting-text")
        doctor.open(codes.organiser_link)
        doctor.join(DOCTOR)
        doctor.page.get_by_text(re.compile("Patient wartet seit")).first.wait_for()
        studio.take(doctor, "08-patient-waits")


def in_talk(studio: Studio, codes: Codes) -> None:
    """The talk, its panel and its end."""
    with studio.other() as doctor, studio.guest() as patient:
        talk(codes, doctor, patient)
        patient.page.locator("#quality-word").wait_for()
        studio.take(patient, "09-talk")
        doctor.page.get_by_test_id("camera-button").click()
        patient.page.get_by_test_id("remote-placeholder").wait_for()
        studio.take(patient, "10-partner-without-camera")
        doctor.page.get_by_test_id("camera-button").click()
        patient.page.get_by_test_id("remote-placeholder").wait_for(state="hidden")
        patient.page.get_by_test_id("microphone-button").click()
        patient.page.get_by_test_id("menu-button").click()
        patient.text("safety-code")
        studio.take(patient, "11-panel")
        patient.page.get_by_test_id("settings-button").click()
        patient.page.get_by_test_id("microphone-level").wait_for()
        studio.take(patient, "12-settings")
        patient.page.get_by_test_id("panel-close").click()
        patient.page.get_by_test_id("full-screen-button").click()
        studio.take(patient, "13-full-screen")
        patient.page.get_by_test_id("full-screen-button").click()
        patient.hang_up()
        patient.text("ended-text")
        studio.take(patient, "14-ended")


def screen_shared(studio: Studio, _codes: Codes) -> None:
    """A screen in place of the camera."""
    codes = studio.service.create_appointment("now", "--plus")
    with studio.other() as patient, studio.guest(script=SCREEN) as doctor:
        talk(codes, doctor, patient)
        doctor.page.get_by_test_id("screen-button").click()
        doctor.page.get_by_test_id("sharing-note").wait_for()
        studio.take(doctor, "15-screen-shared")


def bad_line(studio: Studio, _codes: Codes) -> None:
    """A bad connection, and sound alone."""
    codes = studio.service.create_appointment()
    with studio.other() as doctor, studio.guest(script=BAD_LINE) as patient:
        talk(codes, doctor, patient)
        patient.page.get_by_test_id("audio-only-accept").wait_for()
        studio.take(patient, "16-bad-connection")
        patient.page.get_by_test_id("audio-only-accept").click()
        patient.page.get_by_test_id("pictures-button").wait_for()
        studio.take(patient, "17-sound-only")


def no_path(studio: Studio, _codes: Codes) -> None:
    """No way to the other one."""
    codes = studio.service.create_appointment()
    nowhere = {"relayOnly": True, "scheme": "turn:", "suffix": "none"}
    with studio.other() as doctor, studio.guest(wish=nowhere) as patient:
        doctor.open(codes.organiser_link)
        doctor.join(DOCTOR)
        doctor.text("waiting-text")
        patient.open(codes.participant_link)
        patient.join(PATIENT)
        patient.page.get_by_test_id("try-again-button").wait_for(timeout=60_000)
        studio.take(patient, "18-no-path")


STATES: Final[tuple[Callable[[Studio, Codes], None], ...]] = (
    entry,
    check,
    waiting,
    in_talk,
    screen_shared,
    bad_line,
    no_path,
)


def main() -> None:
    """Take all pictures anew."""
    port = free_port()
    settings = {
        "signaling": {"port": port, "public_url": f"http://localhost:{port}"},
        "relay": {"udp_ports": [free_port()], "tcp_ports": [free_port()], "tls_ports": [free_port()]},
    }
    with (
        tempfile.TemporaryDirectory() as folder,
        run_service(Path(folder), settings) as service,
        sync_playwright() as playwright,
        chromium(playwright) as browser,
    ):
        for screen in SCREENS:
            studio = Studio(browser, service, screen)
            for state in STATES:
                state(studio, service.create_appointment())
            print(f"{screen.name}: {len(studio.taken)} pictures")


if __name__ == "__main__":
    main()
