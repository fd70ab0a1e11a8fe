"""Nobody is kept out: axe-core finds no barrier on any page, nor in any state of the room."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, expect

from signaling.info_pages import PAGES
from tests.support.axe import find_barriers
from tests.support.browser import Participant, talk
from tests.support.fake_devices import NO_MICROPHONE, SCREEN
from tests.support.layout import (
    await_layout,
    find_clipped,
    find_covered,
    find_overlapping,
    find_small,
    spaced_text,
)
from tests.support.service import Codes, Service

DESKTOP, PHONE = (1280, 800), (360, 740)
ACROSS = (740, 360)  # a phone held across
# WCAG 1.4.10: 400 % zoom makes 320 × 256 out of a window of 1280 × 1024.
SMALL_WINDOWS = [(360, 640), (320, 640), (320, 256)]
LEAST_TARGET, LEAST_OF_BAR = 24, 44  # CSS pixels
ENGLISH = """
  if (location.protocol.startsWith("http")) {
    localStorage.setItem("redconnect.preferences", JSON.stringify({ language: "en" }));
  }
"""


def address(service: Service) -> str:
    return str(service.settings["signaling"]["public_url"])


@pytest.fixture
def codes(service: Service) -> Codes:
    return service.create_appointment()


@pytest.fixture(
    params=[
        pytest.param(DESKTOP, marks=pytest.mark.long, id="desktop"),
        pytest.param(PHONE, id="phone"),
        pytest.param(ACROSS, marks=pytest.mark.long, id="across"),
    ]
)
def visitor(request: pytest.FixtureRequest, invite: Callable[..., Participant]) -> Participant:
    return invite(viewport=request.param)


# The pages that are read without joining


@pytest.mark.parametrize("path", PAGES)
def test_a_page_to_read_has_no_barrier_and_is_not_wider_than_the_window(
    visitor: Participant, service: Service, path: str
) -> None:
    visitor.open(address(service) + path)
    assert find_barriers(visitor.page) == []
    assert visitor.page.evaluate("() => document.scrollingElement.scrollWidth <= window.innerWidth")


def test_a_page_to_read_asks_nobody_else_for_anything(patient: Participant, service: Service) -> None:
    for path in PAGES:
        patient.open(address(service) + path)
    assert len(patient.requested) > len(PAGES)
    assert [url for url in patient.requested if not url.startswith(address(service) + "/")] == []


def test_a_page_can_be_read_without_javascript(browser: Browser, service: Service) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(f"{address(service)}/hilfe/firewall")
        expect(page.get_by_role("heading", level=1)).to_have_text("Firewall und Netzwerk")
        udp_port = service.settings["relay"]["udp_ports"][0]
        expect(page.get_by_text(f"UDP: {udp_port}", exact=True)).to_be_visible()


def test_the_first_tab_leads_past_the_menu(patient: Participant, service: Service) -> None:
    patient.open(f"{address(service)}/hilfe")
    patient.page.keyboard.press("Tab")
    expect(patient.page.get_by_text("Zum Inhalt springen")).to_be_focused()
    expect(patient.page.get_by_text("Zum Inhalt springen")).to_be_in_viewport()
    patient.page.keyboard.press("Enter")
    expect(patient.page.get_by_role("main")).to_be_focused()


def test_paper_has_the_text_and_no_menu(patient: Participant, service: Service) -> None:
    patient.open(f"{address(service)}/hilfe/firewall")
    patient.page.emulate_media(media="print")
    expect(patient.page.get_by_role("navigation")).to_have_count(0)
    expect(patient.page.get_by_role("table")).to_be_visible()


def test_the_entry_page_leads_to_help_and_law_in_a_new_tab(patient: Participant, service: Service) -> None:
    patient.open(address(service))
    for name, path in (
        ("Hilfe", "/hilfe"),
        ("Nutzungsbedingungen", "/nutzungsbedingungen"),
        ("Datenschutz", "/datenschutz"),
        ("Impressum", "/impressum"),
    ):
        with patient.context.expect_page() as opened:
            patient.page.get_by_role("link", name=name).click()
        tab = opened.value
        tab.wait_for_load_state()
        assert tab.url == address(service) + path
        assert tab.evaluate("() => window.opener") is None
        tab.close()


# The room


def test_the_form_has_no_barrier(visitor: Participant, codes: Codes) -> None:
    visitor.open(codes.participant_link)
    visitor.page.get_by_test_id("join-button").wait_for(state="visible")
    assert find_barriers(visitor.page) == []


def test_the_form_with_an_error_has_no_barrier(visitor: Participant, service: Service) -> None:
    visitor.open(address(service))
    visitor.join("Petra Muster", "0000-0000-0001")
    visitor.text("error-text")
    assert find_barriers(visitor.page) == []


def test_waiting_has_no_barrier(visitor: Participant, codes: Codes) -> None:
    visitor.open(codes.participant_link)
    visitor.join("Petra Muster")
    visitor.text("waiting-text")
    assert find_barriers(visitor.page) == []


def test_a_call_its_panel_and_its_end_have_no_barrier(visitor: Participant, doctor: Participant, codes: Codes) -> None:
    doctor.open(codes.organiser_link)
    doctor.join("Dr. Anna Beispiel")
    visitor.open(codes.participant_link)
    visitor.join("Petra Muster")
    visitor.await_connected()
    visitor.text("remote-name")
    assert find_barriers(visitor.page) == [], "in the call"
    visitor.page.get_by_test_id("menu-button").click()
    visitor.text("safety-code")
    assert find_barriers(visitor.page) == [], "with the panel open"
    visitor.page.get_by_test_id("panel-close").click()
    visitor.hang_up()
    visitor.text("ended-text")
    assert find_barriers(visitor.page) == [], "after the end"


@pytest.mark.parametrize(
    ("viewport", "script"),
    [(DESKTOP, NO_MICROPHONE), (PHONE, NO_MICROPHONE + ENGLISH)],
    ids=["desktop-german", "phone-english"],
)
def test_form_check_and_a_device_that_is_missing_have_no_barrier(
    invite: Callable[..., Participant], codes: Codes, viewport: tuple[int, int], script: str
) -> None:
    visitor = invite(viewport=viewport, script=script)
    visitor.open(codes.participant_link)
    visitor.page.get_by_test_id("join-button").wait_for(state="visible")
    assert find_barriers(visitor.page) == [], "in the form"
    visitor.page.get_by_test_id("check-button").click()
    visitor.text("check-problem")
    assert find_barriers(visitor.page) == [], "in the check"
    visitor.join("Petra Muster")
    visitor.text("device-notice")
    assert find_barriers(visitor.page) == [], "while waiting, with a notice"


@pytest.mark.long
@pytest.mark.parametrize(
    ("viewport", "script"),
    [(DESKTOP, SCREEN + ENGLISH), (PHONE, SCREEN), (ACROSS, SCREEN)],
    ids=["desktop-english", "phone-german", "across-german"],
)
def test_every_state_of_a_talk_has_no_barrier(
    invite: Callable[..., Participant],
    patient: Participant,
    service: Service,
    viewport: tuple[int, int],
    script: str,
) -> None:
    doctor = invite(viewport=viewport, script=script)
    talk(service.create_appointment("now", "--plus"), doctor, patient)
    page = doctor.page
    page.get_by_test_id("menu-button").click()
    page.get_by_test_id("settings-button").click()
    assert find_barriers(page) == [], "with the settings open"
    page.get_by_test_id("panel-close").click()
    page.get_by_test_id("screen-button").click()
    doctor.text("sharing-note")
    assert find_barriers(page) == [], "with the screen shared"
    page.get_by_test_id("full-screen-button").click()
    page.wait_for_function("() => document.fullscreenElement !== null")
    assert find_barriers(page) == [], "in full screen, the screen still shared"
    page.get_by_test_id("screen-button").click()
    page.get_by_test_id("full-screen-button").click()
    page.wait_for_function("() => document.fullscreenElement === null")
    page.get_by_test_id("own-hide").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("own-show")).to_be_focused()
    assert find_barriers(page) == [], "with the own picture hidden"


def test_a_barrier_would_be_found(patient: Participant, service: Service) -> None:
    patient.open(f"{address(service)}/hilfe")
    patient.page.evaluate("() => document.documentElement.removeAttribute('lang')")
    assert [line for line in find_barriers(patient.page) if line.startswith("html-has-lang")]


# The layout: small windows, large letters, wide spacing, calm


@pytest.mark.long
@pytest.mark.parametrize("language", ["", ENGLISH], ids=["german", "english"])
def test_nothing_is_cut_off_covered_or_too_small_in_a_small_window(
    invite: Callable[..., Participant], patient: Participant, service: Service, language: str
) -> None:
    doctor = invite(script=SCREEN + NO_MICROPHONE + language)
    codes = service.create_appointment("now", "--plus")
    page = doctor.page
    doctor.open(codes.organiser_link)
    page.get_by_test_id("check-button").click()
    doctor.text("check-problem")
    doctor.join("Dr. Anna Beispiel", "0000-0000-0001")
    doctor.text("error-text")
    assert_fits(doctor, "the form with the check and an error")
    page.get_by_test_id("check-end").click()
    assert_fits(doctor, "the form")
    doctor.join("Dr. Anna Beispiel", codes.organiser)
    doctor.text("device-notice")
    assert_fits(doctor, "waiting, with a notice")
    patient.open(codes.participant_link)
    patient.join("Petra Muster")
    doctor.await_connected()
    page.get_by_role("button", name="Hinweis schließen" if language == "" else "Close notice").click()
    assert_fits(doctor, "the talk")
    page.get_by_test_id("screen-button").click()
    doctor.text("sharing-note")
    assert_fits(doctor, "the talk, with the screen shared")
    page.get_by_test_id("menu-button").click()
    doctor.text("safety-code")
    assert_fits(doctor, "the panel", beneath=True)
    page.get_by_test_id("settings-button").click()
    assert_fits(doctor, "the settings", beneath=True)
    page.get_by_test_id("panel-close").click()
    doctor.hang_up()
    doctor.text("ended-text")
    assert_fits(doctor, "the end")


def test_who_wants_no_motion_gets_none(visitor: Participant, codes: Codes) -> None:
    visitor.page.emulate_media(reduced_motion="reduce")
    visitor.open(codes.participant_link)
    visitor.page.get_by_test_id("join-button").wait_for(state="visible")
    assert visitor.page.evaluate(MOVING) == []
    visitor.join("Petra Muster")
    visitor.text("waiting-text")
    assert visitor.page.evaluate(MOVING) == []


def test_motion_would_be_found(visitor: Participant, codes: Codes) -> None:
    visitor.open(codes.participant_link)
    visitor.page.get_by_test_id("join-button").wait_for(state="visible")
    assert visitor.page.evaluate(MOVING) != []


def test_what_is_cut_off_covered_or_too_small_would_be_found(patient: Participant, codes: Codes) -> None:
    patient.open(codes.participant_link)
    patient.page.get_by_test_id("join-button").wait_for(state="visible")
    patient.page.evaluate(
        """() => {
          const button = document.getElementById("check-button");
          Object.assign(button.style, { position: "fixed", left: "0", top: "-30px", height: "40px" });
          Object.assign(document.getElementById("join-button").style, { minHeight: "0", height: "20px", padding: "0" });
          const cover = Object.assign(document.createElement("div"), { id: "cover" });
          Object.assign(cover.style, { position: "absolute", inset: "0" });
          document.body.append(cover);
        }"""
    )
    assert any(line.startswith("check-button") for line in find_clipped(patient.page))
    assert any(line.startswith("code lies under cover") for line in find_covered(patient.page))
    assert any(line.startswith("join-button") for line in find_small(patient.page, LEAST_TARGET))


MOVING = """() => [...document.querySelectorAll("body *")].flatMap((element) => {
  if (!element.checkVisibility()) return [];
  return [null, "::before", "::after"].flatMap((pseudo) => {
    const { transitionDuration, animationName } = getComputedStyle(element, pseudo);
    const moves = transitionDuration.split(", ").some((time) => parseFloat(time) > 0) || animationName !== "none";
    return moves ? [`${element.id || element.className}${pseudo ?? ""}`] : [];
  });
})"""


def assert_fits(participant: Participant, state: str, *, beneath: bool = False) -> None:
    """In every small window, with ordinary and with wide spacing, all is to be seen, reached and hit.

    Args:
        participant: whose page it is.
        state: what it shows now, for the message.
        beneath: something lies under what is open now, and may.
    """
    page = participant.page
    before = page.viewport_size
    assert before is not None
    for width, height in SMALL_WINDOWS:
        page.set_viewport_size({"width": width, "height": height})
        await_layout(page)
        where = f"{state}, {width} × {height}"
        assert find_clipped(page) == [], where
        assert find_small(page, LEAST_TARGET) == [], where
        assert find_small(page, LEAST_OF_BAR, ".controls button") == [], where
        if not beneath:
            assert find_covered(page) == [], where
            assert find_overlapping(page) == [], where
        with spaced_text(page):
            assert find_clipped(page) == [], f"{where}, with wide spacing"
            if not beneath:
                assert find_overlapping(page) == [], f"{where}, with wide spacing"
    page.set_viewport_size(before)
