"""The control bar: its order, full screen, the own picture, the shared screen, and the keys that do the same."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.support.browser import Participant, talk, watch_both
from tests.support.fake_devices import SCREEN, TAKEN_AWAY, WATCHED
from tests.support.service import Service


def test_the_bar_has_its_buttons_in_the_agreed_order_and_the_screen_in_plus_only(
    service: Service, doctor: Participant, patient: Participant
) -> None:
    enter(service.create_appointment("now", "--plus").organiser_link, doctor)
    expect(bar(doctor.page)).to_have_text(["Kamera", "Mikrofon", "Bildschirm", "Vollbild", "Auflegen"])
    enter(service.create_appointment().organiser_link, patient)
    expect(bar(patient.page)).to_have_text(["Kamera", "Mikrofon", "Vollbild", "Auflegen"])


@pytest.mark.long
@pytest.mark.parametrize("viewport", [(360, 740), (740, 360)])
def test_every_button_of_the_bar_is_on_a_phone_however_it_is_held(
    service: Service, invite: Callable[..., Participant], viewport: tuple[int, int]
) -> None:
    doctor = invite(viewport=viewport)
    enter(service.create_appointment("now", "--plus").organiser_link, doctor)
    boxes = [button.bounding_box() for button in bar(doctor.page).all()]
    assert len(boxes) == 5
    for box in boxes:
        assert box is not None
        assert min(box["width"], box["height"]) >= 44
        assert box["x"] >= 0
        assert box["y"] >= 0
        assert box["x"] + box["width"] <= viewport[0]
        assert box["y"] + box["height"] <= viewport[1]


@pytest.mark.long
def test_a_shared_screen_takes_the_place_of_the_camera_without_a_new_offer_and_gives_it_back(
    service: Service, invite: Callable[..., Participant], patient: Participant
) -> None:
    doctor = invite(script=SCREEN)
    talk(service.create_appointment("now", "--plus"), doctor, patient)
    page, button = doctor.page, doctor.page.get_by_test_id("screen-button")
    offers = page.evaluate(ORIGINS)
    endings: list[Callable[[], object]] = [
        button.click,
        lambda: page.evaluate("() => window.__screen.getTracks()[0].dispatchEvent(new Event('ended'))"),
    ]
    for end in endings:
        button.click()
        patient.page.wait_for_function(TALLER_THAN_WIDE)
        expect(button).to_have_attribute("aria-pressed", "true")
        expect(page.get_by_test_id("sharing-note")).to_have_text("Ihr Gesprächspartner sieht Ihren Bildschirm.")
        watch_both(doctor, patient, seconds=2)
        end()
        patient.page.wait_for_function(f"() => !({TALLER_THAN_WIDE})()")
        expect(button).to_have_attribute("aria-pressed", "false")
        expect(page.get_by_test_id("sharing-note")).to_be_hidden()
        watch_both(doctor, patient, seconds=2)
    assert page.evaluate(ORIGINS) == offers


@pytest.mark.long
def test_a_camera_that_is_off_is_closed_and_the_same_one_is_opened_again_without_a_new_offer(
    service: Service, invite: Callable[..., Participant], patient: Participant
) -> None:
    doctor = invite(script=WATCHED)
    talk(service.create_appointment(), doctor, patient)
    page, button = doctor.page, doctor.page.get_by_test_id("camera-button")
    offers, asked = page.evaluate(ORIGINS), page.evaluate("() => window.__opened.length")
    placeholder = expect(patient.page.get_by_test_id("remote-placeholder"))
    button.click()
    placeholder.to_contain_text("Kamera aus")
    assert page.evaluate(LIVE) == ["audio"]
    patient.await_growth("totalAudioEnergy")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    placeholder.to_be_hidden()
    watch_both(doctor, patient, seconds=2)
    assert page.evaluate("() => window.__opened.length") == asked + 1
    first, again = page.evaluate(CAMERAS)
    assert first == again
    assert page.evaluate(ORIGINS) == offers
    doctor.hang_up()
    doctor.text("ended-text")
    assert page.evaluate(LIVE) == []


@pytest.mark.long
def test_who_comes_with_the_camera_off_is_not_asked_for_it_and_can_be_seen_later_without_a_new_offer(
    service: Service, invite: Callable[..., Participant], patient: Participant
) -> None:
    doctor = invite(script=WATCHED)
    enter(service.create_appointment().organiser_link, doctor)
    page, button = doctor.page, doctor.page.get_by_test_id("camera-button")
    button.click()
    doctor.hang_up()
    doctor.text("ended-text")
    page.evaluate("() => { sessionStorage.clear(); window.__opened.length = 0; }")
    codes = service.create_appointment()
    page.goto(
        codes.organiser_link.partition("#")[0] + "impressum"
    )  # else the link would change no more than the fragment
    doctor.open(codes.organiser_link)
    doctor.join("Dr. Anna Beispiel")
    patient.open(codes.participant_link)
    patient.join("Petra Muster")
    doctor.await_connected()
    patient.await_growth("totalAudioEnergy")
    expect(button).to_have_attribute("aria-pressed", "false")
    expect(page.get_by_test_id("device-notice")).to_be_hidden()
    assert page.evaluate("() => window.__opened.map((stream) => stream.getVideoTracks().length)") == [0]
    offers = page.evaluate(ORIGINS)
    button.click()
    watch_both(doctor, patient, seconds=2)
    assert page.evaluate(ORIGINS) == offers


@pytest.mark.long
def test_a_camera_that_another_program_took_while_it_was_off_is_told(
    service: Service, invite: Callable[..., Participant], patient: Participant
) -> None:
    doctor = invite(script=TAKEN_AWAY)
    talk(service.create_appointment(), doctor, patient)
    page, button = doctor.page, doctor.page.get_by_test_id("camera-button")
    button.click()
    expect(button).to_have_attribute("aria-pressed", "false")
    page.evaluate("() => { window.__taken = true; }")
    button.click()
    expect(page.get_by_test_id("device-notice")).to_contain_text(
        "Die Kamera wird von einem anderen Programm verwendet."
    )
    expect(button).to_have_attribute("aria-pressed", "false")
    page.evaluate("() => { window.__taken = false; }")
    button.click()
    expect(page.get_by_test_id("device-notice")).to_be_hidden()
    patient.await_growth("framesDecoded")


@pytest.mark.long
def test_a_screen_is_seen_also_while_the_camera_is_off_and_stops_when_the_talk_ends(
    service: Service, invite: Callable[..., Participant], patient: Participant
) -> None:
    doctor = invite(script=SCREEN)
    talk(service.create_appointment("now", "--plus"), doctor, patient)
    placeholder = expect(patient.page.get_by_test_id("remote-placeholder"))
    doctor.page.get_by_test_id("camera-button").click()
    placeholder.to_be_visible()
    doctor.page.get_by_test_id("screen-button").click()
    placeholder.to_be_hidden()
    patient.page.wait_for_function(TALLER_THAN_WIDE)
    doctor.page.get_by_test_id("screen-button").click()
    placeholder.to_be_visible()
    doctor.page.get_by_test_id("screen-button").click()
    placeholder.to_be_hidden()
    doctor.hang_up()
    doctor.text("ended-text")
    assert doctor.page.evaluate("() => window.__screen.getTracks()[0].readyState") == "ended"


@pytest.mark.long
def test_to_think_better_of_sharing_is_no_fault_and_a_system_that_forbids_it_is_named(
    service: Service, invite: Callable[..., Participant]
) -> None:
    doctor = invite(script=SCREEN)
    enter(service.create_appointment("now", "--plus").organiser_link, doctor)
    page, notice = doctor.page, doctor.page.get_by_test_id("device-notice")
    refuse = "(message) => { window.__picker = new DOMException(message, 'NotAllowedError'); }"
    page.evaluate(refuse, "Permission denied by system")
    page.get_by_test_id("screen-button").click()
    expect(notice).to_contain_text("Das Betriebssystem lässt den Browser den Bildschirm nicht aufnehmen.")
    page.evaluate(refuse, "Permission denied")
    page.get_by_test_id("screen-button").click()
    expect(notice).to_be_hidden()
    expect(page.get_by_test_id("screen-button")).to_have_attribute("aria-pressed", "false")


@pytest.mark.long
def test_full_screen_shows_the_partner_alone_and_escape_leaves_it(
    service: Service, doctor: Participant, patient: Participant
) -> None:
    talk(service.create_appointment(), doctor, patient)
    page, button = doctor.page, doctor.page.get_by_test_id("full-screen-button")
    own = expect(page.get_by_test_id("local-video"))
    leave: list[Callable[[], object]] = [lambda: page.keyboard.press("Escape"), button.click]
    for end in leave:
        button.click()
        page.wait_for_function("() => document.fullscreenElement === document.documentElement")
        expect(button).to_have_attribute("aria-pressed", "true")
        own.to_be_hidden()
        partner = page.get_by_test_id("remote-video").bounding_box()
        assert partner == {"x": 0, "y": 0, "width": 1280, "height": 800}
        end()
        page.wait_for_function("() => document.fullscreenElement === null")
        expect(button).to_have_attribute("aria-pressed", "false")
        own.to_be_visible()
    button.click()
    page.wait_for_function("() => document.fullscreenElement !== null")
    doctor.hang_up()
    page.wait_for_function("() => document.fullscreenElement === null")


@pytest.mark.long
def test_a_browser_without_full_screen_gives_its_whole_window(
    service: Service, invite: Callable[..., Participant], patient: Participant
) -> None:
    doctor = invite(script="delete Element.prototype.requestFullscreen;")
    talk(service.create_appointment(), doctor, patient)
    doctor.page.get_by_test_id("full-screen-button").click()
    expect(doctor.page.get_by_test_id("local-video")).to_be_hidden()
    doctor.page.keyboard.press("Escape")
    expect(doctor.page.get_by_test_id("local-video")).to_be_visible()


@pytest.mark.long
def test_the_own_picture_is_hidden_and_shown_again_while_the_partner_goes_on_seeing_it(
    service: Service, doctor: Participant, patient: Participant
) -> None:
    talk(service.create_appointment(), doctor, patient)
    page, own = doctor.page, expect(doctor.page.get_by_test_id("local-video"))
    page.get_by_role("button", name="Das eigene Bild ausblenden").click()
    own.to_be_hidden()
    expect(page.get_by_test_id("own-show")).to_be_focused()
    patient.await_growth("framesDecoded")
    page.get_by_role("button", name="Vollbild").click()
    page.get_by_role("button", name="Vollbild").click()
    own.to_be_hidden()
    page.get_by_role("button", name="Das eigene Bild einblenden").click()
    own.to_be_visible()
    page.get_by_test_id("menu-button").click()
    page.get_by_test_id("settings-button").click()
    page.get_by_role("checkbox", name="Das eigene Bild ausblenden").check()
    own.to_be_hidden()


def test_keys_switch_microphone_camera_and_full_screen_until_they_are_switched_off(
    service: Service, doctor: Participant
) -> None:
    enter(service.create_appointment().organiser_link, doctor)
    page = doctor.page
    for key, device, name in (("m", "microphone", "Mikrofon"), ("k", "camera", "Kamera")):
        button = expect(page.get_by_test_id(f"{device}-button"))
        button.to_have_attribute("aria-keyshortcuts", key.upper())
        page.keyboard.press(key)
        button.to_have_attribute("aria-pressed", "false")
        expect(page.locator("#announcer")).to_contain_text(f"{name} aus")
        page.keyboard.press(key)
        button.to_have_attribute("aria-pressed", "true")
        expect(page.locator("#announcer")).to_contain_text(f"{name} an")
    full = expect(page.get_by_test_id("full-screen-button"))
    page.keyboard.press("f")
    full.to_have_attribute("aria-pressed", "true")
    page.keyboard.press("f")
    full.to_have_attribute("aria-pressed", "false")

    page.get_by_test_id("menu-button").click()
    page.get_by_test_id("settings-button").click()
    page.get_by_test_id("camera-select").focus()
    page.keyboard.press("m")
    page.get_by_role("checkbox", name="Tastenkürzel verwenden").uncheck()
    page.get_by_test_id("panel-close").click()
    page.keyboard.press("m")
    microphone = page.get_by_test_id("microphone-button")
    expect(microphone).to_have_attribute("aria-pressed", "true")
    assert microphone.get_attribute("aria-keyshortcuts") is None
    page.reload()
    expect(page.get_by_test_id("full-screen-button")).to_be_visible()
    page.keyboard.press("f")
    full.to_have_attribute("aria-pressed", "false")


ORIGINS = """() => [window.__connections.at(-1).localDescription, window.__connections.at(-1).remoteDescription]
  .map(({ sdp }) => sdp.match(/^o=.*$/m)[0])"""
# Kinds of what is open of all that has been opened, and which cameras those were.
LIVE = """() => window.__opened.flatMap((stream) => stream.__tracks)
  .filter(({ readyState }) => readyState === "live").map(({ kind }) => kind)"""
CAMERAS = """() => window.__opened.flatMap((stream) => stream.__tracks)
  .filter(({ kind }) => kind === "video").map((track) => track.getSettings().deviceId)"""
TALLER_THAN_WIDE = """() => {
  const { videoWidth, videoHeight } = document.getElementById("remote-video");
  return videoHeight > videoWidth;
}"""


def bar(page: Page) -> Locator:
    """The buttons of the control bar that are there, from left to right."""
    return page.get_by_role("group", name="Steuerung").get_by_role("button")


def enter(link: str, person: Participant) -> None:
    """Bring one person into a room, with camera and microphone."""
    person.open(link)
    person.join("Dr. Anna Beispiel")
    for device in ("camera", "microphone"):
        expect(person.page.get_by_test_id(f"{device}-button")).to_have_attribute("aria-pressed", "true")
