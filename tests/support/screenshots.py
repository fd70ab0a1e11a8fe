"""Pictures of every state of the pages, on a desktop and on a phone, for the documentation: `make screenshots`.

A real service on this machine and a real Chromium make them; the only thing that is put on is what a fake camera
shows and what the browser says of the line.
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from playwright.sync_api import Browser, expect, sync_playwright

from signaling.codes import LOCATOR_BITS, SECRET_BITS, AccessCode, locator_from, secret_from
from signaling.info_pages import PAGES
from tests.support.browser import CONNECT_MS, Participant, chromium
from tests.support.conference_scenes import ConferenceScenes
from tests.support.connection_test_page import closed_ports, failing_ports, run_test
from tests.support.fake_devices import BAD_WAY, MEASURED, NO_MICROPHONE, SCREEN
from tests.support.portraits import PORTRAITS
from tests.support.ports import free_port
from tests.support.service import Codes, Service, run_service

SIZES: Final = {"desktop": (1280, 800), "phone": (360, 740)}
DOCTOR, PATIENT = "Dr. Anna Beispiel", "Petra Muster"
JPEG_QUALITY: Final = 72

# What a fake camera shows is a test pattern. A face it cannot show either, but the outline of one on a calm wall.
PORTRAIT: Final = (
    PORTRAITS
    + """
  MediaDevices.prototype.getUserMedia = ((ask) => async function (constraints) {
    const stream = await ask.call(this, constraints);
    if (!constraints.video || stream.getVideoTracks().length === 0) return stream;
    const track = window.__portrait(window.__looks[window.__look ?? 0], 640, 480);
    const [camera] = stream.getVideoTracks();
    track.getSettings = () => camera.getSettings();
    const stop = track.stop.bind(track);
    track.stop = () => { camera.stop(); stop(); };
    stream.removeTrack(camera);
    stream.addTrack(track);
    return stream;
  })(MediaDevices.prototype.getUserMedia);
"""
)
OF_PATIENT: Final = "window.__look = 1;"
NOWHERE: Final = {"relayOnly": True, "scheme": "turns:", "suffix": "through no port"}


class Photographer:
    """Takes the states of one size of window, one after the other."""

    def __init__(self, browser: Browser, service: Service, folder: Path, size: str) -> None:
        """Prepare to photograph windows of a size of `SIZES` into a folder."""
        self._browser = browser
        self._service = service
        self._folder = folder
        self._size = size
        self._stack = ExitStack()

    def take_all(self) -> Iterator[str]:
        """Take every state, and tell each name."""
        for scene in (
            self._pages,
            self._connection_test,
            self._form,
            self._check,
            self._refusals,
            self._waiting,
            self._talk,
            self._sharing,
            self._bad_line,
            self._no_path,
            self._conference,
        ):
            with self._stack:
                yield from scene()

    def _pages(self) -> Iterator[str]:
        person = self._person()
        for path, page in PAGES.items():
            person.open(self._address + path)
            yield self._take(person, f"page-{page.template}")

    def _connection_test(self) -> Iterator[str]:
        """The ports of this machine are open: what a firewall closes, a script keeps the page from."""
        person = self._person()
        run_test(person.page, self._address)
        expect(person.page.get_by_test_id("test-verdict")).to_have_attribute(
            "data-step", "good"
        )  # busy machines are weak
        yield self._take(person, "test-good", whole=True)
        person = self._person(closed_ports("transport=udp"))
        person.open(f"{self._address}/test")
        person.page.get_by_test_id("test-start").wait_for()
        yield self._take(person, "test")
        person.page.get_by_test_id("test-start").click()
        person.page.get_by_test_id("test-rows").locator("[data-state=running]").first.wait_for()
        yield self._take(person, "test-running")
        person.page.get_by_test_id("test-verdict").wait_for(timeout=CONNECT_MS)
        yield self._take(person, "test-without-udp", whole=True)
        person.page.get_by_test_id("language").click()
        expect(person.page.locator("html")).to_have_attribute("lang", "en")
        yield self._take(person, "test-without-udp-english", whole=True)
        person.page.get_by_test_id("check-button").click()
        person.page.wait_for_function("() => document.querySelector('[data-testid=check-video]').videoWidth > 0")
        person.page.get_by_test_id("check").scroll_into_view_if_needed()
        yield self._take(person, "test-devices")
        person = self._person(failing_ports("turns:"))
        run_test(person.page, self._address)
        expect(person.page.get_by_test_id("test-certificate")).to_be_visible()
        yield self._take(person, "test-certificate", whole=True)
        person = self._person(closed_ports("turn"))
        run_test(person.page, self._address)
        yield self._take(person, "test-nothing", whole=True)

    def _form(self) -> Iterator[str]:
        person = self._person()
        person.open(self._address)
        person.page.get_by_test_id("join-button").wait_for()
        yield self._take(person, "form")
        person.page.get_by_test_id("language").click()
        expect(person.page.locator("html")).to_have_attribute("lang", "en")
        yield self._take(person, "form-english")

    def _check(self) -> Iterator[str]:
        person = self._person()
        person.open(self._codes().participant_link)
        person.page.get_by_test_id("check-button").click()
        expect(person.page.get_by_test_id("check-camera")).to_have_attribute("aria-pressed", "true")
        person.page.wait_for_function("() => document.querySelector('[data-testid=check-video]').videoWidth > 0")
        yield self._take(person, "check")
        person = self._person(NO_MICROPHONE)
        person.open(self._codes().participant_link)
        person.page.get_by_test_id("check-button").click()
        person.text("check-problem")
        yield self._take(person, "check-without-microphone")

    def _refusals(self) -> Iterator[str]:
        person = self._person()
        person.open(self._address)
        unknown = AccessCode.compose(locator_from(2**LOCATOR_BITS - 7), secret_from(2**SECRET_BITS - 3))
        person.join(PATIENT, unknown.display)
        person.text("error-text")
        yield self._take(person, "unknown-code")
        person.join(PATIENT, self._service.create_appointment("2027-07-01 14:30").participant)
        expect(person.page.get_by_test_id("error-text")).to_contain_text("Ihr Termin beginnt")
        yield self._take(person, "too-early")

    def _waiting(self) -> Iterator[str]:
        person = self._person()
        person.open(self._codes().participant_link)
        person.page.clock.install()
        person.page.reload()
        person.join(PATIENT)
        person.text("waiting-text")
        yield self._take(person, "waiting")
        person.page.clock.fast_forward(61_000)
        person.text("waiting-hint")
        yield self._take(person, "waiting-for-long")

    def _talk(self) -> Iterator[str]:
        codes = self._codes()
        doctor, patient = self._person(), self._person(OF_PATIENT)
        self._meet(codes, doctor, patient)
        yield self._take(doctor, "talk")
        page = doctor.page
        page.get_by_test_id("menu-button").click()
        doctor.text("safety-code")
        yield self._take(doctor, "panel")
        page.get_by_test_id("settings-button").click()
        yield self._take(doctor, "settings")
        page.get_by_test_id("panel-close").click()
        for button in ("camera-button", "microphone-button"):
            patient.page.get_by_test_id(button).click()
        doctor.text("remote-reason")
        page.get_by_test_id("remote-microphone-off").wait_for()
        yield self._take(doctor, "partner-without-camera-and-microphone")
        patient.page.get_by_test_id("camera-button").click()
        expect(page.get_by_test_id("remote-reason")).to_be_hidden()
        page.get_by_test_id("full-screen-button").click()
        page.wait_for_function("() => document.fullscreenElement !== null")
        yield self._take(doctor, "full-screen")
        page.get_by_test_id("full-screen-button").click()
        page.wait_for_function("() => document.fullscreenElement === null")
        third = self._person()
        third.open(codes.participant_link)
        third.join("Peter Dritter")
        third.text("error-text")
        yield self._take(third, "code-in-use")
        doctor.hang_up()
        doctor.text("ended-text")
        yield self._take(doctor, "ended")

    def _sharing(self) -> Iterator[str]:
        doctor, patient = self._person(SCREEN), self._person(OF_PATIENT)
        self._meet(self._service.create_appointment("now", "--plus"), doctor, patient)
        doctor.page.get_by_test_id("screen-button").click()
        doctor.text("sharing-note")
        yield self._take(doctor, "sharing-the-screen")
        patient.page.wait_for_function(
            "() => { const v = document.getElementById('remote-video'); return v.videoHeight > v.videoWidth; }"
        )
        yield self._take(patient, "seeing-a-screen")

    def _bad_line(self) -> Iterator[str]:
        doctor, patient = self._person(MEASURED), self._person(OF_PATIENT)
        self._meet(self._codes(), doctor, patient)
        doctor.page.evaluate(BAD_WAY)
        doctor.page.get_by_test_id("audio-only-offer").wait_for(timeout=2 * CONNECT_MS)
        yield self._take(doctor, "sound-alone-is-offered")
        doctor.page.get_by_test_id("audio-only-accept").click()
        doctor.text("remote-reason")
        yield self._take(doctor, "sound-alone")
        patient.text("remote-reason")
        yield self._take(patient, "sound-alone-of-the-other")

    def _no_path(self) -> Iterator[str]:
        doctor, patient = self._person(wish=NOWHERE), self._person(wish=NOWHERE)
        codes = self._codes()
        doctor.open(codes.organiser_link)
        doctor.page.clock.install()
        doctor.page.reload()
        doctor.join(DOCTOR)
        patient.open(codes.participant_link)
        patient.join(PATIENT)
        status = doctor.page.get_by_test_id("connection-status")
        expect(status).to_have_text("Verbindung wird aufgebaut…", timeout=CONNECT_MS)
        yield self._take(doctor, "connecting")
        for _ in range(2):  # attempts, each of which has its time
            expect(status).to_have_text("Verbindung wird aufgebaut…")
            doctor.page.clock.fast_forward(16_000)
        doctor.text("error-text")
        yield self._take(doctor, "no-path")

    def _conference(self) -> Iterator[str]:
        for state, person in ConferenceScenes(self._person, self._codes()).play():
            person.page.mouse.move(0, 0)
            yield self._take(person, state)

    @property
    def _address(self) -> str:
        return str(self._service.settings["signaling"]["public_url"])

    def _codes(self) -> Codes:
        return self._service.create_appointment()

    def _person(self, script: str = "", wish: dict[str, object] | None = None) -> Participant:
        person = Participant(self._browser, viewport=SIZES[self._size], wish=wish, script=PORTRAIT + script)
        self._stack.callback(person.close)
        return person

    def _meet(self, codes: Codes, doctor: Participant, patient: Participant) -> None:
        for person, link, name in ((doctor, codes.organiser_link, DOCTOR), (patient, codes.participant_link, PATIENT)):
            person.open(link)
            person.join(name)
        for person in (doctor, patient):
            person.await_connected()
            person.await_growth("framesDecoded")
            expect(person.page.get_by_test_id("quality")).to_be_visible(timeout=CONNECT_MS)

    def _take(self, person: Participant, state: str, *, whole: bool = False) -> str:
        """Take the window, or the `whole` page behind it."""
        name = f"{state}-{self._size}.jpg"
        person.page.screenshot(path=self._folder / name, type="jpeg", quality=JPEG_QUALITY, full_page=whole)
        return name


def main() -> None:
    """Take all pictures, in both sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the pictures go")
    folder: Path = parser.parse_args().folder
    port = free_port()
    settings = {
        "signaling": {"port": port, "public_url": f"http://localhost:{port}"},
        "relay": {"udp_ports": [free_port()], "tcp_ports": [free_port()], "tls_ports": [free_port()]},
    }
    with (
        tempfile.TemporaryDirectory() as name,
        run_service(Path(name), settings) as service,
        sync_playwright() as playwright,
        chromium(playwright) as browser,
    ):
        for size in SIZES:
            for picture in Photographer(browser, service, folder, size).take_all():
                print(picture, flush=True)  # noqa: T201  # what a program of the command line says


if __name__ == "__main__":
    main()
