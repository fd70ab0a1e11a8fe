"""Nobody is kept out: axe-core finds no barrier on any page, nor in any state of the room."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, expect

from signaling.info_pages import PAGES
from tests.support.axe import find_barriers
from tests.support.browser import Participant
from tests.support.service import Codes, Service

DESKTOP, PHONE = (1280, 800), (360, 740)


def address(service: Service) -> str:
    return str(service.settings["signaling"]["public_url"])


@pytest.fixture
def codes(service: Service) -> Codes:
    return service.create_appointment()


@pytest.fixture(params=[DESKTOP, PHONE], ids=["desktop", "phone"])
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


def test_a_barrier_would_be_found(patient: Participant, service: Service) -> None:
    patient.open(f"{address(service)}/hilfe")
    patient.page.evaluate("() => document.documentElement.removeAttribute('lang')")
    assert [line for line in find_barriers(patient.page) if line.startswith("html-has-lang")]
