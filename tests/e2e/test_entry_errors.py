"""Every way in that leads nowhere says so, in the words that were agreed.

Elsewhere: `unverified` in test_sealed_signaling, `ended` in test_consultation_on_one_machine. The texts of `room_full`
and `tier` belong to conferences: no server tells them to a room of two.
"""

import asyncio
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import expect

from config.announce import create_appointment
from signaling.appointments import Tier
from signaling.codes import LOCATOR_BITS, SECRET_BITS, AccessCode, locator_from, secret_from
from signaling.io.store import AppointmentStore
from tests.support.browser import Participant
from tests.support.ports import free_port
from tests.support.service import Service, run_service

UNKNOWN = "Zugangscode unbekannt. Bitte prüfen Sie die Eingabe."
IN_USE = "Dieser Zugangscode wird bereits verwendet. Arzt und Patient benötigen je einen eigenen Code."


@pytest.fixture
def person(invite: Callable[..., Participant], service: Service) -> Participant:
    participant = invite()
    participant.open(service.create_appointment().organiser_link.partition("#")[0])
    return participant


def test_a_wrong_check_symbol_is_told_without_asking_the_server(person: Participant, service: Service) -> None:
    sockets: list[str] = []
    person.page.on("websocket", lambda socket: sockets.append(socket.url))
    person.join("Petra Muster", wrong_code(service))
    assert person.text("error-text") == UNKNOWN
    assert sockets == []


@pytest.mark.long
def test_what_the_form_has_found_stands_while_the_devices_are_tried(person: Participant, service: Service) -> None:
    page = person.page
    page.get_by_test_id("check-button").click()
    expect(page.get_by_test_id("check-camera")).to_have_attribute("aria-pressed", "true")
    person.join("Petra Muster", wrong_code(service))
    assert person.text("error-text") == UNKNOWN
    page.get_by_test_id("check-microphone").click()
    expect(page.get_by_test_id("check-microphone")).to_have_attribute("aria-pressed", "false")
    assert person.text("error-text") == UNKNOWN
    expect(page.get_by_test_id("code-input")).to_have_attribute("aria-invalid", "true")


@pytest.mark.long
def test_an_older_refusal_of_the_server_does_not_come_back_over_what_the_form_has_found(
    person: Participant, service: Service
) -> None:
    page = person.page
    person.join("Petra Muster", service.create_appointment("2027-07-01 14:30").participant)
    assert person.text("error-text").startswith("Ihr Termin beginnt am")
    person.join("Petra Muster", wrong_code(service))
    expect(page.get_by_test_id("error-text")).to_have_text(UNKNOWN)
    page.get_by_test_id("check-button").click()
    expect(page.get_by_test_id("check-camera")).to_have_attribute("aria-pressed", "true")
    assert person.text("error-text") == UNKNOWN
    person.join("Petra Muster", service.create_appointment().participant)
    person.text("waiting-text")


@pytest.mark.long
def test_a_refusal_is_gone_with_its_code_when_another_link_is_opened(person: Participant, service: Service) -> None:
    page = person.page
    person.join("Petra Muster", service.create_appointment("2027-07-01 14:30").participant)
    assert person.text("error-text").startswith("Ihr Termin beginnt am")
    page.evaluate("(link) => { location.hash = new URL(link).hash; }", service.create_appointment().participant_link)
    expect(page.get_by_test_id("error-text")).to_be_hidden()
    page.get_by_test_id("check-button").click()
    expect(page.get_by_test_id("check-camera")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_test_id("error-text")).to_be_hidden()


def test_a_browser_that_is_too_old_is_told_for_good_and_offered_no_check(
    invite: Callable[..., Participant], service: Service
) -> None:
    person = invite(script="SubtleCrypto.prototype.generateKey = () => Promise.reject(new TypeError('X25519'));")
    link = service.create_appointment().participant_link
    person.open(link.partition("#")[0])
    old = (
        "Ihr Browser ist nicht aktuell. Bitte verwenden Sie die neueste Version von Chrome, Edge, Firefox oder Safari."
    )
    assert person.text("error-text") == old
    expect(person.page.get_by_test_id("check-button")).to_be_hidden()
    person.page.evaluate("(link) => { location.hash = new URL(link).hash; }", link)
    expect(person.page.get_by_test_id("code-input")).not_to_have_value("")
    assert person.text("error-text") == old


@pytest.mark.long
def test_who_wants_to_enter_another_code_finds_nothing_of_the_last_one(person: Participant, service: Service) -> None:
    person.join("Petra Muster", service.create_appointment().participant)
    person.text("waiting-text")
    person.hang_up()
    person.text("ended-text")
    person.page.get_by_test_id("other-code-button").click()
    expect(person.page.get_by_test_id("code-input")).to_be_focused()
    expect(person.page.get_by_test_id("code-input")).to_have_value("")
    expect(person.page.get_by_test_id("name-input")).to_have_value("Petra Muster")


def test_a_code_that_no_appointment_has_is_unknown(person: Participant) -> None:
    code = AccessCode.compose(locator_from(2**LOCATOR_BITS - 7), secret_from(2**SECRET_BITS - 3))
    person.join("Petra Muster", code.display)
    assert person.text("error-text") == UNKNOWN


def test_too_early_says_when_the_appointment_begins_in_german_time(person: Participant, service: Service) -> None:
    codes = service.create_appointment("2027-07-01 14:30")
    person.join("Petra Muster", codes.participant)
    assert person.text("error-text") == "Ihr Termin beginnt am 01.07.2027 um 14:30 (deutsche Zeit)."


def test_a_code_has_expired_a_day_after_the_planned_start(person: Participant, service: Service) -> None:
    person.join("Petra Muster", appointment_of_the_past(service).display)
    assert person.text("error-text") == "Dieser Zugangscode ist abgelaufen."


@pytest.mark.long
def test_a_code_that_a_running_consultation_uses_is_refused(
    doctor: Participant, patient: Participant, person: Participant, service: Service
) -> None:
    codes = service.create_appointment()
    doctor.open(codes.organiser_link)
    doctor.join("Dr. Anna Beispiel")
    patient.open(codes.participant_link)
    patient.join("Petra Muster")
    for participant in (doctor, patient):
        participant.await_connected()
    person.join("Peter Dritter", codes.participant)
    assert person.text("error-text") == IN_USE
    assert patient.figures()["state"] == "connected"


@pytest.mark.long
def test_two_people_with_the_same_code_are_told_while_they_wait(
    doctor: Participant, person: Participant, service: Service
) -> None:
    codes = service.create_appointment()
    doctor.open(codes.organiser_link)
    doctor.join("Dr. Anna Beispiel")
    doctor.text("waiting-text")
    person.join("Petra Muster", codes.organiser)
    for participant in (doctor, person):
        assert participant.text("waiting-hint") == IN_USE


@pytest.mark.long
def test_codes_of_two_appointments_leave_both_waiting_with_a_hint_after_a_minute(
    doctor: Participant, person: Participant, service: Service
) -> None:
    doctor.open(service.create_appointment().organiser_link.partition("#")[0])
    codes = {
        person: service.create_appointment().participant,
        doctor: service.create_appointment().organiser,
    }
    for participant, code in codes.items():
        participant.page.clock.install()
        participant.page.reload()
        participant.join("Petra Muster", code)
        assert participant.text("waiting-text") == "Bitte warten – Ihr Gesprächspartner ist noch nicht da."
        assert participant.page.get_by_test_id("waiting-hint").is_hidden()
        participant.page.clock.fast_forward(61_000)
        hint = participant.text("waiting-hint")
        assert hint == "Falls beide warten: Die Codes müssen zum selben Termin gehören."


def test_where_no_path_is_found_the_page_leads_to_what_can_be_done_about_it(
    service: Service, invite: Callable[..., Participant]
) -> None:
    nowhere = {"relayOnly": True, "scheme": "turns:", "suffix": "through no port"}
    doctor, patient = invite(wish=nowhere), invite(wish=nowhere)
    codes = service.create_appointment()
    doctor.open(codes.organiser_link)
    page = doctor.page
    page.clock.install()
    page.reload()
    doctor.join("Dr. Anna Beispiel")
    patient.open(codes.participant_link)
    patient.join("Petra Muster")
    for _ in range(2):  # attempts, each of which has its time
        expect(page.get_by_test_id("connection-status")).to_have_text("Verbindung wird aufgebaut…")
        page.clock.fast_forward(16_000)
    assert doctor.text("error-text").startswith("Keine Bildverbindung möglich.")
    with page.expect_popup() as test_page:
        page.get_by_role("link", name="Verbindung testen").click()
    test_page.value.wait_for_url("**/test")
    expect(test_page.value.get_by_test_id("test-start")).to_have_text("Test starten")
    with page.expect_popup() as help_page:
        page.get_by_role("link", name="Was Sie und Ihre IT tun können").click()
    help_page.value.wait_for_url("**/hilfe/firewall#schwarz")
    expect(page.get_by_test_id("try-again-button")).to_be_visible()


@pytest.fixture
def small_service(tmp_path: Path) -> Iterator[Service]:
    """A service that has room for two, and takes one wrong code a minute."""
    port = free_port()
    settings = {
        "signaling": {
            "port": port,
            "public_url": f"http://localhost:{port}",
            "max_clients": 2,
            "unknown_codes_per_minute": 1,
        },
        "relay": {"udp_ports": [free_port()], "tcp_ports": [free_port()], "tls_ports": [free_port()]},
    }
    with run_service(tmp_path, settings) as started:
        yield started


@pytest.mark.long
def test_a_crowded_service_is_told_and_the_page_comes_in_by_itself_and_guessing_is_stopped(
    small_service: Service, invite: Callable[..., Participant]
) -> None:
    ours, others = small_service.create_appointment(), small_service.create_appointment()
    first, second, third = invite(), invite(), invite()
    for person, link in ((first, ours.organiser_link), (second, others.organiser_link)):
        person.open(link)
        person.join("Dr. Anna Beispiel")
        person.text("waiting-text")
    third.open(ours.participant_link)
    third.join("Petra Muster")
    assert third.text("error-text") == "Der Dienst ist gerade ausgelastet."
    assert re.fullmatch(r"Nächster Versuch (in \d+ Sekunden\.|läuft…)", third.text("retry-text"))
    first.hang_up()
    first.text("ended-text")
    assert third.text("waiting-text") == "Bitte warten – Ihr Gesprächspartner ist noch nicht da."

    third.hang_up()
    third.text("ended-text")
    newcomer = invite()  # who has had a seat before is not sent away, but tries again by itself
    newcomer.open(ours.participant_link)
    first.page.evaluate(GUESS, 2)
    newcomer.join("Petra Muster")
    told = newcomer.text("error-text")
    assert re.fullmatch(r"Zu viele Versuche\. Bitte in [1-9]\d? Sekunden erneut\.", told), told


# Somebody at this address tries locators, one after the other.
GUESS = """async (count) => {
  for (let number = 0; number < count; number += 1) {
    const socket = new WebSocket(`ws://${location.host}/ws`);
    socket.onopen = () => socket.send(JSON.stringify({ type: "join", loc: `00000${number}` }));
    await new Promise((closed) => { socket.onclose = closed; });
  }
}"""


def wrong_code(service: Service) -> str:
    """A code whose last symbol is mistyped."""
    code = service.create_appointment().organiser
    return code[:-1] + ("0" if code[-1] != "0" else "1")


def appointment_of_the_past(service: Service) -> AccessCode:
    """An appointment that nobody could create any more: its codes ended a minute ago."""

    async def create() -> AccessCode:
        state = Path(service.config).parent / "var"
        store = AppointmentStore(
            f"sqlite+aiosqlite:///{state / 'redconnect.sqlite3'}", (state / "locator-key").read_bytes().strip()
        )
        try:
            await store.open()
            start = datetime.now(UTC) - timedelta(hours=24, minutes=1)
            return (await create_appointment(store, start, Tier.BASIS)).participant
        finally:
            await store.close()

    # Playwright's synchronous driver keeps a loop running in this thread, and one thread has room for one loop.
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(lambda: asyncio.run(create())).result()
