"""Who comes second learns since when the other one has been waiting."""

import re
from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import expect

from tests.support.browser import CONNECT_MS, Participant
from tests.support.service import Service

BERLIN = ZoneInfo("Europe/Berlin")
# Of what it takes to find a path this browser gets nothing: the two stay at connecting for as long as an attempt lasts.
NO_PATH = {"relayOnly": True, "scheme": "turn:", "suffix": "nowhere"}
# A question of the browser that nobody answers: the partner is verified, and greets only seconds later.
UNANSWERED = "navigator.mediaDevices.getUserMedia = () => new Promise(() => {});"


@pytest.mark.long
def test_the_organiser_reads_on_stage_and_panel_since_when_the_participant_waits(
    service: Service, invite: Callable[..., Participant]
) -> None:
    codes = service.create_appointment()
    doctor, patient = invite(wish=NO_PATH), invite()
    earliest = datetime.now(BERLIN)
    patient.open(codes.participant_link)
    patient.join("Petra Muster")
    assert patient.text("waiting-text") == "Bitte warten – Ihr Gesprächspartner ist noch nicht da."
    assert patient.text("waiting-planned").startswith("Geplanter Beginn: ")
    possible = {f"Patient wartet seit {when:%H:%M} Uhr" for when in (earliest, datetime.now(BERLIN))}
    patient.page.reload()
    patient.text("waiting-text")
    doctor.open(codes.organiser_link)
    doctor.join("Dr. Anna Beispiel")
    words = doctor.text("remote-waiting")
    assert words in possible
    doctor.page.get_by_test_id("menu-button").click()
    assert doctor.text("participant-partner") == "Petra Muster"
    assert doctor.text("participant-waiting") == words
    assert "wartet" not in patient.page.locator("body").inner_text()


@pytest.mark.long
def test_a_participant_who_is_still_asked_for_the_camera_waits_already(
    service: Service, invite: Callable[..., Participant]
) -> None:
    codes = service.create_appointment()
    doctor, patient = invite(), invite(script=UNANSWERED)
    patient.open(codes.participant_link)
    patient.join("Petra Muster")
    patient.text("waiting-text")
    doctor.open(codes.organiser_link)
    doctor.join("Dr. Anna Beispiel")
    waiting = expect(doctor.page.get_by_test_id("waiting-text"))
    waiting.to_have_text(re.compile(r"^Patient wartet seit \d\d:\d\d Uhr$"), timeout=CONNECT_MS)


@pytest.mark.long
def test_once_the_talk_stands_nobody_waits_any_more(
    service: Service, doctor: Participant, patient: Participant
) -> None:
    codes = service.create_appointment()
    patient.open(codes.participant_link)
    patient.join("Petra Muster")
    patient.text("waiting-text")
    doctor.open(codes.organiser_link)
    doctor.join("Dr. Anna Beispiel")
    doctor.await_connected()
    doctor.page.get_by_test_id("menu-button").click()
    assert doctor.text("participant-partner") == "Petra Muster"
    for test_id in ("participant-waiting", "remote-waiting", "waiting-text"):
        expect(doctor.page.get_by_test_id(test_id)).to_be_hidden()


@pytest.mark.long
def test_an_organiser_who_was_here_first_reads_nothing_of_waiting(
    service: Service, invite: Callable[..., Participant]
) -> None:
    codes = service.create_appointment()
    doctor, patient = invite(wish=NO_PATH), invite()
    doctor.open(codes.organiser_link)
    doctor.join("Dr. Anna Beispiel")
    doctor.text("waiting-text")
    patient.open(codes.participant_link)
    patient.join("Petra Muster")
    expect(doctor.page.get_by_test_id("remote-name")).to_have_text("Petra Muster", timeout=CONNECT_MS)
    for test_id in ("participant-waiting", "remote-waiting"):
        expect(doctor.page.get_by_test_id(test_id)).to_be_hidden()
