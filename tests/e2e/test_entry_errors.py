"""Every way in that leads nowhere says so, in the words that were agreed."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config.announce import create_appointment
from signaling.appointments import Tier
from signaling.codes import LOCATOR_BITS, SECRET_BITS, AccessCode, locator_from, secret_from
from signaling.io.store import AppointmentStore
from tests.support.browser import Participant
from tests.support.service import Service

UNKNOWN = "Zugangscode unbekannt. Bitte prüfen Sie die Eingabe."
IN_USE = "Dieser Zugangscode wird bereits verwendet. Arzt und Patient benötigen je einen eigenen Code."


@pytest.fixture
def person(invite: Callable[..., Participant], service: Service) -> Participant:
    participant = invite()
    participant.open(service.create_appointment().organiser_link.partition("#")[0])
    return participant


def test_a_wrong_check_symbol_is_told_without_asking_the_server(person: Participant, service: Service) -> None:
    code = service.create_appointment().organiser
    wrong = code[:-1] + ("0" if code[-1] != "0" else "1")
    sockets: list[str] = []
    person.page.on("websocket", lambda socket: sockets.append(socket.url))
    person.join("Petra Muster", wrong)
    assert person.text("error-text") == UNKNOWN
    assert sockets == []


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
