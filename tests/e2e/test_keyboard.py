"""The whole journey by keyboard alone: every stop is seen, in the order of the page, and the focus is never lost."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.support.browser import CONNECT_MS, Participant
from tests.support.fake_devices import NO_CAMERA
from tests.support.service import Service

pytestmark = pytest.mark.long

BAR = ["camera-button", "microphone-button", "screen-button", "full-screen-button", "hangup-button"]
MAX_STOPS = 60  # more than any state of the page has
# How the element with the focus says that it has it.
STOP = """() => {
  const element = document.activeElement;
  const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(element);
  const { x, y, width, height } = element.getBoundingClientRect();
  const target = document.elementFromPoint(x + width / 2, y + height / 2);
  return {
    name: element.dataset.testid ?? element.getAttribute("href") ?? element.id ?? element.tagName,
    isStop: element !== document.body,
    marked: (outlineStyle !== "none" && parseFloat(outlineWidth) >= 2) || boxShadow !== "none",
    inWindow: x >= 0 && y >= 0 && x + width <= innerWidth + 1 && y + height <= innerHeight + 1,
    uncovered: target !== null && (element.contains(target) || target.contains(element)),
    seen: element.checkVisibility({ opacityProperty: true, visibilityProperty: true }),
  };
}"""


class Keyboard:
    """A person without a mouse: presses keys, and looks where the focus is."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def type(self, text: str) -> None:
        self.page.keyboard.type(text)

    def focus(self) -> str:
        """What has the focus."""
        return str(self.look()["name"])

    def look(self) -> dict[str, Any]:
        stop: dict[str, Any] = self.page.evaluate(STOP)
        return stop

    def tab_to(self, name: str, *, key: str = "Tab") -> list[str]:
        """Go on from stop to stop, each of which must be seen; returns the names of all, the last one included."""
        passed: list[str] = []
        for _ in range(MAX_STOPS):
            self.press(key)
            stop = self.look()
            if not stop["isStop"]:
                continue  # the browser's own bar
            passed.append(stop["name"])
            for quality in ("marked", "inWindow", "uncovered", "seen"):
                assert stop[quality], f"{stop['name']} is not {quality}, after {passed}"
            if stop["name"] == name:
                return passed
        raise AssertionError(f"{name} is not among the stops: {passed}")

    def await_focus(self, name: str) -> None:
        self.page.wait_for_function(
            """(name) => [document.activeElement.dataset.testid, document.activeElement.id].includes(name)""",
            arg=name,
            timeout=CONNECT_MS,
        )


SETTINGS = [
    "speaker-select",
    "test-sound-button",
    "microphone-select",
    "camera-select",
    "own-hidden",
    "settings-language",
    "shortcuts-on",
]


@pytest.fixture
def partner(invite: Callable[..., Participant]) -> Callable[[str], Participant]:
    """Lets the other participant in, by link."""

    def enter(link: str) -> Participant:
        participant = invite()
        participant.open(link)
        participant.join("Petra Muster")
        return participant

    return enter


def test_a_consultation_from_the_form_to_the_second_visit_by_keyboard_alone(
    service: Service, doctor: Participant, partner: Callable[[str], Participant]
) -> None:
    codes = service.create_appointment("now", "--plus")
    doctor.open(codes.organiser_link.partition("#")[0])
    expect(doctor.page.get_by_test_id("join-button")).to_be_visible()
    keys = Keyboard(doctor.page)
    make_a_mistake_in_the_form(keys)
    try_the_devices(keys)
    join(keys, codes.organiser)
    patient = partner(codes.participant_link)
    for participant in (doctor, patient):
        participant.await_connected()
        participant.await_growth("framesDecoded")
    assert keys.focus() == BAR[-1]  # where it was: who comes takes it from nobody
    hide_the_own_picture_and_show_it(keys)
    mute(keys, patient)
    walk_through_the_panel(keys)
    change_the_language(keys)
    enter_and_leave_full_screen(keys)
    hang_up_and_join_again(keys)
    patient.text("ended-text")


def make_a_mistake_in_the_form(keys: Keyboard) -> None:
    assert keys.tab_to("name-input") == ["language", "name-input"]
    keys.type("Dr. Anna Beispiel")
    assert keys.tab_to("code-input") == ["code-input"]
    keys.type("0000 0000 0001")
    keys.press("Enter")
    expect(keys.page.get_by_test_id("error-text")).to_be_visible()
    keys.await_focus("code-input")
    passed = keys.tab_to("/impressum")
    assert passed[:2] == ["join-button", "check-button"]
    assert {"/hilfe", "/nutzungsbedingungen", "/datenschutz"} < set(passed)


def try_the_devices(keys: Keyboard) -> None:
    keys.tab_to("check-button", key="Shift+Tab")
    keys.press("Enter")
    keys.await_focus("check-heading")
    keys.page.wait_for_function("() => document.getElementById('check-video').videoWidth > 0")
    assert keys.tab_to("check-microphone") == ["check-camera", "check-microphone"]
    for pressed in ("false", "true"):
        keys.press("Space")
        expect(keys.page.get_by_test_id("check-microphone")).to_have_attribute("aria-pressed", pressed)
    assert keys.tab_to("check-end") == ["check-sound", "check-end"]
    keys.press("Enter")
    keys.await_focus("check-button")


def join(keys: Keyboard, code: str) -> None:
    keys.tab_to("code-input", key="Shift+Tab")
    keys.press("Control+A")
    keys.type(code)
    keys.press("Enter")
    keys.await_focus("stage-heading")
    expect(keys.page.get_by_test_id("waiting-text")).to_be_visible()
    assert keys.tab_to(BAR[-1]) == ["menu-button", *BAR]


def hide_the_own_picture_and_show_it(keys: Keyboard) -> None:
    assert keys.tab_to("own-hide", key="Shift+Tab") == [*reversed(BAR[:-1]), "own-hide"]
    keys.press("Enter")
    keys.await_focus("own-show")
    expect(keys.page.get_by_test_id("local-video")).to_be_hidden()
    keys.press("Enter")
    keys.await_focus("own-hide")
    expect(keys.page.get_by_test_id("local-video")).to_be_visible()


def mute(keys: Keyboard, patient: Participant) -> None:
    button, sign = keys.page.get_by_test_id("microphone-button"), patient.page.get_by_test_id("remote-microphone-off")
    assert keys.tab_to("microphone-button") == BAR[:2]
    keys.press("Enter")
    expect(button).to_have_attribute("aria-pressed", "false")
    expect(sign).to_be_visible()
    keys.press("m")  # the shortcut does the same
    expect(button).to_have_attribute("aria-pressed", "true")
    expect(sign).to_be_hidden()


def walk_through_the_panel(keys: Keyboard) -> None:
    panel = keys.page.get_by_test_id("panel")
    keys.tab_to("menu-button", key="Shift+Tab")
    keys.press("Enter")
    keys.await_focus("panel-close")
    keys.tab_to("settings-button")
    keys.press("Enter")
    keys.await_focus("settings-back")
    assert [name for name in keys.tab_to(SETTINGS[-1]) if name in SETTINGS] == SETTINGS
    keys.tab_to("camera-select", key="Shift+Tab")
    camera = keys.page.get_by_test_id("camera-select")
    before = camera.input_value()
    keys.press("ArrowDown")
    expect(camera).not_to_have_value(before)
    keys.press("Escape")
    keys.await_focus("menu-button")
    expect(panel).to_be_hidden()
    keys.press("Enter")
    keys.await_focus("panel-close")
    keys.press("Enter")
    keys.await_focus("menu-button")
    expect(panel).to_be_hidden()


def change_the_language(keys: Keyboard) -> None:
    keys.press("Enter")
    keys.tab_to("settings-button")
    keys.press("Enter")
    keys.tab_to("settings-language")
    keys.press("Enter")
    expect(keys.page.locator("html")).to_have_attribute("lang", "en")
    assert keys.focus() == "settings-language"
    keys.press("Escape")
    keys.await_focus("menu-button")


def enter_and_leave_full_screen(keys: Keyboard) -> None:
    keys.tab_to("full-screen-button")
    keys.press("Enter")
    keys.page.wait_for_function("() => document.fullscreenElement !== null")
    assert keys.tab_to("hangup-button") == ["hangup-button"]
    keys.press("Escape")
    keys.page.wait_for_function("() => document.fullscreenElement === null")
    assert keys.focus() == "hangup-button"
    expect(keys.page.get_by_test_id("full-screen-button")).to_have_attribute("aria-pressed", "false")


def hang_up_and_join_again(keys: Keyboard) -> None:
    keys.press("Enter")
    keys.await_focus("ended-text")
    assert keys.tab_to("other-code-button") == ["rejoin-button", "other-code-button"]
    keys.tab_to("rejoin-button", key="Shift+Tab")
    keys.press("Enter")
    keys.await_focus("stage-heading")
    expect(keys.page.get_by_test_id("waiting-text")).to_have_text(
        "Please wait – the other participant is not here yet."
    )


def test_the_bar_of_full_screen_comes_back_for_who_has_only_keys(
    service: Service, doctor: Participant, partner: Callable[[str], Participant]
) -> None:
    codes = service.create_appointment()
    doctor.open(codes.organiser_link)
    doctor.join("Dr. Anna Beispiel")
    partner(codes.participant_link)
    doctor.await_connected()
    keys = Keyboard(doctor.page)
    keys.press("f")
    doctor.page.wait_for_function("() => document.getElementById('stage').hasAttribute('data-resting')")
    keys.press("Tab")
    expect(doctor.page.locator("#stage")).not_to_have_attribute("data-resting", "")
    keys.tab_to("hangup-button")


def test_a_notice_is_closed_by_keyboard_and_hands_the_focus_on(
    service: Service, invite: Callable[..., Participant]
) -> None:
    doctor = invite(script=NO_CAMERA)
    doctor.open(service.create_appointment().organiser_link)
    doctor.join("Dr. Anna Beispiel")
    keys = Keyboard(doctor.page)
    expect(doctor.page.get_by_test_id("device-notice")).to_be_visible()
    assert keys.tab_to("camera-button") == ["menu-button", "notice-close", "camera-button"]
    keys.tab_to("notice-close", key="Shift+Tab")
    keys.press("Enter")
    keys.await_focus("camera-button")
    expect(doctor.page.get_by_test_id("device-notice")).to_be_hidden()
