"""A talk with devices that are refused, or that go in the middle of it: nobody is kept out, and the rest goes on."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Playwright, expect

from tests.support.browser import Participant, chromium, talk, watch_both
from tests.support.service import Service

# What a page sees when a device is pulled out: its track ends, and the device is not listed any more.
PULL_OUT = """(kind) => {
  const { track } = window.__connections.at(-1).getSenders().find((sender) => sender.track?.kind === kind);
  track.stop();
  track.dispatchEvent(new Event("ended"));
}"""


def test_who_allows_neither_camera_nor_microphone_sees_and_hears_the_partner_all_the_same(
    service: Service, doctor: Participant, playwright: Playwright
) -> None:
    with chromium(playwright, denied=True) as browser:
        patient = Participant(browser)
        codes = service.create_appointment()
        doctor.open(codes.organiser_link)
        doctor.join("Dr. Anna Beispiel")
        patient.open(codes.participant_link)
        patient.join("Petra Muster")
        patient.await_connected()
        for figure in ("framesDecoded", "totalAudioEnergy"):
            patient.await_growth(figure)
        assert patient.text("device-notice").startswith("Kamera und Mikrofon sind für diese Seite gesperrt.")
        for sign in ("remote-placeholder", "remote-microphone-off"):
            expect(doctor.page.get_by_test_id(sign)).to_be_visible()
        assert doctor.text("remote-name") == "Petra Muster"
        assert doctor.figures()["framesDecoded"] == 0
        patient.hang_up()
        doctor.text("ended-text")
        assert patient.complaints == []


@pytest.mark.long
def test_a_camera_pulled_out_in_the_talk_is_named_and_comes_back_by_its_button(
    service: Service, invite: Callable[..., Participant], doctor: Participant
) -> None:
    patient = invite()
    talk(service.create_appointment(), doctor, patient)
    placeholder = expect(doctor.page.get_by_test_id("remote-placeholder"))
    for device, kind in (("camera", "video"), ("microphone", "audio")):
        patient.page.evaluate(PULL_OUT, kind)
        name = {"camera": "zur Kamera", "microphone": "zum Mikrofon"}[device]
        expect(patient.page.get_by_test_id("device-notice")).to_contain_text(f"Die Verbindung {name} ist abgebrochen.")
        expect(patient.page.get_by_test_id(f"{device}-button")).to_have_attribute("aria-pressed", "false")
    placeholder.to_be_visible()
    expect(doctor.page.get_by_test_id("remote-microphone-off")).to_be_visible()
    patient.await_growth("framesDecoded")
    patient.await_growth("totalAudioEnergy")
    for device in ("camera", "microphone"):
        patient.page.get_by_test_id(f"{device}-button").click()
        expect(patient.page.get_by_test_id(f"{device}-button")).to_have_attribute("aria-pressed", "true")
    placeholder.to_be_hidden()
    expect(patient.page.get_by_test_id("device-notice")).to_be_hidden()
    doctor.await_growth("totalAudioEnergy")
    watch_both(doctor, patient, seconds=2)
