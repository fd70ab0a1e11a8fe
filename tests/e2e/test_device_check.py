"""Camera, microphone and loudspeaker, tried on the entry page before the room, and what is said if they are missing."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Playwright, expect

from tests.support.browser import Participant, chromium, firefox
from tests.support.service import Service

# Counts how often the page asks for devices, and keeps what it got.
COUNTER = """
  window.__asked = [];
  const ask = MediaDevices.prototype.getUserMedia;
  MediaDevices.prototype.getUserMedia = async function (constraints) {
    const stream = await ask.call(this, constraints);
    window.__asked.push(stream);
    return stream;
  };
"""
# A machine without a loudspeaker: nothing ever starts to play.
SILENT = "AudioContext.prototype.resume = () => new Promise(() => {});"
# A camera that another program holds.
BUSY = """
  const ask = MediaDevices.prototype.getUserMedia;
  MediaDevices.prototype.getUserMedia = async function (constraints) {
    if (constraints.video) throw new DOMException("Could not start video source", "NotReadableError");
    return ask.call(this, constraints);
  };
"""
# A loudspeaker and a microphone with different sample rates, in Firefox.
RATES_DIFFER = """
  AudioContext.prototype.createMediaStreamSource = () => {
    throw new DOMException("Connecting AudioNodes from AudioContexts with different sample-rate", "NotSupportedError");
  };
"""
WITHOUT = {
    "denied": "Kamera und Mikrofon sind für diese Seite gesperrt. Erlauben Sie beide über das Symbol links in der "
    "Adresszeile und drücken Sie dann „Kamera“ und „Mikrofon“.",
    "missing": "Es wurde keine Kamera gefunden. Schließen Sie eine Kamera an und drücken Sie dann „Kamera“.",
}


def test_the_check_shows_the_own_picture_and_level_and_hands_both_to_the_room(
    service: Service, invite: Callable[..., Participant]
) -> None:
    patient = invite(script=COUNTER)
    patient.open(service.create_appointment().participant_link)
    page = patient.page
    expect(page.get_by_test_id("check")).to_be_hidden()
    page.get_by_role("button", name="Kamera und Mikrofon prüfen").click()
    page.wait_for_function("() => document.getElementById('check-video').videoWidth > 0")
    page.wait_for_function("() => Number(document.getElementById('check-level').ariaValueNow) > 30")
    expect(page.get_by_role("button", name="Testgeräusch abspielen")).to_be_visible()
    expect(page.get_by_test_id("check-problem")).to_be_hidden()
    page.get_by_test_id("check-microphone").click()
    patient.join("Petra Muster")
    expect(page.get_by_test_id("camera-button")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_test_id("microphone-button")).to_have_attribute("aria-pressed", "false")
    page.wait_for_function("() => document.getElementById('local-video').videoWidth > 0")
    assert page.evaluate("() => window.__asked.length") == 1
    assert page.evaluate("() => document.getElementById('check-video').srcObject") is None
    patient.hang_up()
    patient.text("ended-text")
    assert set(page.evaluate("() => window.__asked[0].getTracks().map((track) => track.readyState)")) == {"ended"}


def test_the_check_can_be_ended_and_begun_again_and_an_error_of_the_form_does_not_end_it(
    service: Service, invite: Callable[..., Participant]
) -> None:
    patient = invite(script=COUNTER)
    patient.open(service.create_appointment("2027-07-01 14:30").participant_link)
    page = patient.page
    page.get_by_test_id("check-button").click()
    page.wait_for_function("() => document.getElementById('check-video').videoWidth > 0")
    patient.join("Petra Muster")
    assert patient.text("error-text").startswith("Ihr Termin beginnt am 01.07.2027")
    expect(page.get_by_test_id("check")).to_be_visible()
    assert set(page.evaluate("() => window.__asked[0].getTracks().map((track) => track.readyState)")) == {"live"}
    page.get_by_test_id("check-end").click()
    expect(page.get_by_test_id("check")).to_be_hidden()
    expect(page.get_by_test_id("check-button")).to_be_focused()
    assert set(page.evaluate("() => window.__asked[0].getTracks().map((track) => track.readyState)")) == {"ended"}
    page.get_by_test_id("check-button").click()
    page.wait_for_function("() => window.__asked.length === 2")


@pytest.fixture(params=list(WITHOUT))
def browser_without(request: pytest.FixtureRequest, playwright: Playwright) -> Iterator[tuple[Browser, str]]:
    """A browser that gives nothing, or has no camera, and what the page has to say about it."""
    denied = request.param == "denied"
    with chromium(playwright, denied=denied, cameras=3 if denied else 0) as started:
        yield started, WITHOUT[request.param]


def test_what_is_missing_is_named_with_its_mend_and_nobody_is_kept_out(
    service: Service, browser_without: tuple[Browser, str]
) -> None:
    browser, words = browser_without
    patient = Participant(browser)
    patient.open(service.create_appointment().participant_link)
    patient.page.get_by_test_id("check-button").click()
    assert patient.text("check-problem") == words
    patient.join("Petra Muster")
    assert patient.text("waiting-text") == "Bitte warten – Ihr Gesprächspartner ist noch nicht da."
    assert patient.text("device-notice") == words
    assert patient.complaints == []


@pytest.mark.long
def test_a_busy_camera_is_named_and_the_microphone_is_used_all_the_same(
    service: Service, invite: Callable[..., Participant]
) -> None:
    patient = invite(script=BUSY)
    patient.open(service.create_appointment().participant_link)
    patient.page.get_by_test_id("check-button").click()
    assert patient.text("check-problem") == (
        "Die Kamera wird von einem anderen Programm verwendet. "
        "Schließen Sie dieses Programm und drücken Sie dann „Kamera“."
    )
    expect(patient.page.get_by_test_id("check-microphone")).to_have_attribute("aria-pressed", "true")
    expect(patient.page.get_by_test_id("check-camera")).to_have_attribute("aria-pressed", "false")


@pytest.mark.long
def test_a_microphone_that_cannot_be_measured_is_used_all_the_same(
    service: Service, invite: Callable[..., Participant]
) -> None:
    patient = invite(script=COUNTER + RATES_DIFFER)
    patient.open(service.create_appointment().participant_link)
    page = patient.page
    page.get_by_test_id("check-button").click()
    page.wait_for_function("() => document.getElementById('check-video').videoWidth > 0")
    for device in ("camera", "microphone"):
        expect(page.get_by_test_id(f"check-{device}")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_test_id("check-level")).to_have_attribute("aria-valuetext", "lässt sich hier nicht messen")
    expect(page.get_by_test_id("check-problem")).to_be_hidden()
    assert page.evaluate("() => window.__asked.length") == 1


@pytest.mark.long
def test_a_loudspeaker_that_does_not_start_is_told(service: Service, invite: Callable[..., Participant]) -> None:
    patient = invite(script=SILENT)
    patient.open(service.create_appointment().participant_link)
    patient.page.get_by_test_id("check-button").click()
    patient.page.get_by_test_id("check-sound").click()
    problem = patient.page.get_by_text("Dieser Lautsprecher ließ sich nicht öffnen.").first
    expect(problem).to_be_visible()


@pytest.mark.long
def test_check_settings_and_full_screen_work_in_firefox_too(service: Service, playwright: Playwright) -> None:
    with firefox(playwright) as browser:
        patient = Participant(browser)
        patient.open(service.create_appointment().participant_link)
        page = patient.page
        page.get_by_test_id("check-button").click()
        page.wait_for_function("() => document.getElementById('check-video').videoWidth > 0")
        patient.join("Petra Muster")
        page.get_by_test_id("menu-button").click()
        page.get_by_test_id("settings-button").click()
        expect(page.get_by_test_id("camera-select")).not_to_have_value("")
        page.get_by_test_id("panel-close").click()
        page.get_by_test_id("full-screen-button").click()
        page.wait_for_function("() => document.fullscreenElement !== null")
        page.get_by_test_id("full-screen-button").click()
        page.wait_for_function("() => document.fullscreenElement === null")
        assert patient.complaints == []
