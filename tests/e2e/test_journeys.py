"""The ways of a patient and of a doctor through a consultation, from the link to the last word, as people go them."""

import base64
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Page, Playwright, expect

from tests.support.browser import CHROMIUM, CONNECT_MS, FirefoxInside, Participant, chromium, talk, watch_both
from tests.support.lab import SERVER_NAME, Lab, open_lab
from tests.support.service import Service, run_service

pytestmark = pytest.mark.long

DOCTOR, PATIENT = "Dr. Anna Beispiel", "Petra Muster"
WAITING: Final = "Bitte warten – Ihr Gesprächspartner ist noch nicht da."
INTERRUPTED: Final = "Verbindung unterbrochen, wird wiederhergestellt…"
GERMAN_TIME: Final = ZoneInfo("Europe/Berlin")
# The picker of the browser cannot be driven. This screen is twice as high as it is wide, as no camera is.
SCREEN: Final = """
  MediaDevices.prototype.getDisplayMedia = async function () {
    const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 640 });
    const context = canvas.getContext("2d");
    setInterval(() => {
      context.fillStyle = `hsl(${performance.now() / 10} 90% 50%)`;
      context.fillRect(0, 0, 320, 640);
    }, 50);
    return canvas.captureStream(20);
  };
"""
TALLER_THAN_WIDE: Final = """() => {
  const { videoWidth, videoHeight } = document.getElementById("remote-video");
  return videoHeight > videoWidth;
}"""

Scene = tuple[Lab, Service, Path]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Two networks that reach each other, and the service between them."""
    folder = tmp_path_factory.mktemp("scene")
    with open_lab(routed=True) as lab:
        page = f"https://{SERVER_NAME}:8443"
        settings = {
            "relay": {"relay_addresses": [lab.server_ip]},
            "signaling": {"port": 8443, "https": True, "public_url": page, "ice": {"host": lab.server_ip}},
        }
        with run_service(folder, settings, lab.server) as service:
            yield lab, service, folder


@pytest.fixture
def both(scene: Scene, playwright: Playwright) -> Iterator[tuple[Participant, Participant]]:
    """A doctor in Firefox and a patient in Chromium, each in a network of their own."""
    lab, _, folder = scene
    program = lab.wrapper(lab.bob, CHROMIUM, folder)
    with FirefoxInside(lab, lab.alice, folder) as firefox, chromium(playwright, program) as patients:
        yield firefox.participant({}), Participant(patients)


def test_a_patient_comes_by_a_link_and_talks_through_an_interruption(
    scene: Scene, both: tuple[Participant, Participant]
) -> None:
    lab, service, _ = scene
    doctor, patient = both
    start = datetime.now(GERMAN_TIME)
    codes = service.create_appointment(f"{start:%Y-%m-%d %H:%M}")

    # The link carries the code and the name; the address bar keeps neither.
    patient.open(f"{codes.participant_link}.{base64.urlsafe_b64encode(PATIENT.encode()).decode().rstrip('=')}")
    patient.do(lambda page: expect(page.get_by_test_id("name-input")).to_have_value(PATIENT))
    assert patient.do(lambda page: page.url) == f"https://{SERVER_NAME}:8443/"

    # Camera, microphone and loudspeaker are tried before anybody else sees or hears anything.
    patient.do(check_devices)
    patient.do(lambda page: page.get_by_role("button", name="Raum beitreten").click())
    assert patient.text("waiting-text") == WAITING
    planned = f"Geplanter Beginn: {start:%d.%m.%Y}, {start:%H:%M} Uhr (deutsche Zeit)"
    assert patient.text("waiting-planned") == planned

    # The doctor comes: name, picture, lock, and six digits that both can read to each other.
    doctor.open(codes.organiser_link)
    doctor.join(DOCTOR)
    for participant, partner in ((patient, DOCTOR), (doctor, PATIENT)):
        assert participant.text("remote-name") == partner
        participant.await_connected()
        participant.do(lambda page: expect(page.get_by_label("Ende-zu-Ende verschlüsselt")).to_be_visible())
    watch_both(doctor, patient, seconds=2)
    digits = [participant.do(read_safety_code) for participant in both]
    assert re.fullmatch(r"\d{3} \d{3}", digits[0])
    assert digits[0] == digits[1]

    # The bar does what it says, and behind the settings the talk runs on.
    mute = "remote-microphone-off"
    patient.do(lambda page: page.get_by_test_id("microphone-button").click())
    doctor.do(lambda page: expect(page.get_by_test_id(mute)).to_be_visible())
    patient.do(lambda page: page.get_by_test_id("microphone-button").click())
    doctor.do(lambda page: expect(page.get_by_test_id(mute)).to_be_hidden())
    patient.do(open_settings)
    watch_both(doctor, patient, seconds=2)
    patient.do(lambda page: page.get_by_test_id("panel-close").click())

    # The WLAN drops and comes back, and nobody touches anything.
    lab.unplug(lab.bob)
    for participant in both:
        participant.await_status(INTERRUPTED)
    lab.plug_in(lab.bob)
    for participant in both:
        participant.do(lambda page: expect(page.get_by_label("Ende-zu-Ende verschlüsselt")).to_be_visible())
        participant.await_growth("framesDecoded")
    watch_both(doctor, patient, seconds=2)

    # The patient hangs up, and may come again.
    patient.hang_up()
    end = re.escape(f"{start + timedelta(days=1):%d.%m.%Y}")
    said = rf"Das Gespräch wurde beendet\. Sie können bis .*{end}.* erneut beitreten\."
    assert re.fullmatch(said, patient.text("ended-text"))


def test_a_doctor_comes_by_the_organisers_link_sees_who_is_there_shares_the_screen_and_comes_back(
    service: Service, invite: Callable[..., Participant], patient: Participant
) -> None:
    doctor = invite(script=SCREEN)
    codes = service.create_appointment("now", "--plus")

    # The patient is there already.
    patient.open(codes.participant_link)
    patient.join(PATIENT)
    assert patient.text("waiting-text") == WAITING
    doctor.open(codes.organiser_link)
    doctor.join(DOCTOR)
    watch_both(doctor, patient, seconds=1)
    page = doctor.page
    page.get_by_test_id("menu-button").click()
    assert doctor.text("participant-partner") == PATIENT
    page.get_by_test_id("panel-close").click()

    # The screen takes the place of the camera, and gives it back.
    page.get_by_role("button", name="Bildschirm").click()
    patient.page.wait_for_function(TALLER_THAN_WIDE, timeout=CONNECT_MS)
    page.get_by_role("button", name="Bildschirm").click()
    patient.page.wait_for_function(f"() => !({TALLER_THAN_WIDE})()", timeout=CONNECT_MS)

    # Who closes the tab by mistake follows the same link again, and the patient has only waited.
    page.close()
    again = invite()
    again.open(codes.organiser_link)
    again.join(DOCTOR)
    assert again.text("remote-name") == PATIENT
    watch_both(again, patient, seconds=1)
    again.hang_up()
    for participant in (again, patient):
        assert participant.text("ended-text").startswith("Das Gespräch wurde beendet. Sie können bis ")


def test_in_basis_no_screen_is_offered_to_either_of_the_two(
    service: Service, doctor: Participant, patient: Participant
) -> None:
    talk(service.create_appointment(), doctor, patient)
    for participant in (doctor, patient):
        expect(participant.page.get_by_test_id("hangup-button")).to_be_visible()
        expect(participant.page.get_by_test_id("screen-button")).to_be_hidden()


def check_devices(page: Page) -> None:
    """Look at the own picture and level, and listen to the test sound."""
    page.get_by_role("button", name="Kamera und Mikrofon prüfen").click()
    page.wait_for_function("() => document.getElementById('check-video').videoWidth > 0", timeout=CONNECT_MS)
    page.wait_for_function(
        "() => Number(document.getElementById('check-level').ariaValueNow ?? "
        "document.getElementById('check-level').getAttribute('aria-valuenow')) > 0",
        timeout=CONNECT_MS,
    )
    page.get_by_role("button", name="Testgeräusch abspielen").click()
    expect(page.get_by_test_id("check-problem")).to_be_hidden()


def read_safety_code(page: Page) -> str:
    """Open the panel, read, and close it again."""
    page.get_by_test_id("menu-button").click()
    code = page.get_by_test_id("safety-code")
    code.wait_for(state="visible", timeout=CONNECT_MS)
    read = code.inner_text()
    page.get_by_test_id("panel-close").click()
    return read


def open_settings(page: Page) -> None:
    """Open the settings in the panel."""
    page.get_by_test_id("menu-button").click()
    page.get_by_role("button", name="Einstellungen").click()
    expect(page.get_by_role("heading", name="Einstellungen", exact=True)).to_be_visible()
