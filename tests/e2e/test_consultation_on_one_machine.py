"""The patient's and the doctor's journey in two real browser windows, as after `make run`."""

import pytest
from playwright.sync_api import expect

from tests.support.browser import Participant, watch_both
from tests.support.service import Service


def test_two_links_lead_to_a_consultation_that_ends_when_one_hangs_up(
    service: Service, doctor: Participant, patient: Participant
) -> None:
    codes = service.create_appointment()
    patient.open(codes.participant_link)
    assert "#" not in patient.page.url
    patient.join("Petra Muster")
    assert patient.text("waiting-text") == "Bitte warten – Ihr Gesprächspartner ist noch nicht da."

    doctor.open(codes.organiser_link)
    doctor.join("Dr. Anna Beispiel")
    assert doctor.text("remote-name") == "Petra Muster"
    assert patient.text("remote-name") == "Dr. Anna Beispiel"
    for participant in (doctor, patient):
        participant.await_connected()
        expect(participant.page.get_by_test_id("remote-video")).to_be_visible()
        expect(participant.page.get_by_test_id("local-video")).to_be_visible()
    watch_both(doctor, patient)
    for participant in (doctor, patient):
        figures = participant.figures()
        assert figures["local"] != "relay"
        assert figures["totalAudioEnergy"] > 0

    doctor.page.get_by_test_id("hangup-button").click()
    for participant in (doctor, patient):
        ended = participant.text("ended-text")
        assert ended.startswith("Das Gespräch wurde beendet. Sie können bis ")
        assert ended.endswith(" erneut beitreten.")
        assert participant.complaints == []
        own = service_origin(participant)
        assert [url for url in participant.requested if not url.startswith(own) and not url.startswith("data:")] == []


def test_a_reload_keeps_the_seat_and_the_consultation_goes_on(
    service: Service, doctor: Participant, patient: Participant
) -> None:
    codes = service.create_appointment()
    talk(codes.organiser_link, codes.participant_link, doctor, patient)
    before = service.metrics()
    patient.page.reload()
    patient.await_connected()
    doctor.await_connected()
    assert patient.text("remote-name") == "Dr. Anna Beispiel"
    watch_both(doctor, patient, seconds=3)
    after = service.metrics()
    assert after[joins("resumed")] == before[joins("resumed")] + 1
    assert after[joins("joined")] == before[joins("joined")], "nobody needed a new seat"


@pytest.mark.long
def test_after_hanging_up_both_may_come_back_with_the_same_codes(
    service: Service, doctor: Participant, patient: Participant
) -> None:
    codes = service.create_appointment()
    talk(codes.organiser_link, codes.participant_link, doctor, patient)
    patient.page.get_by_test_id("hangup-button").click()
    for participant in (doctor, patient):
        participant.page.get_by_test_id("rejoin-button").click()
    for participant in (doctor, patient):
        participant.await_connected()
    watch_both(doctor, patient, seconds=3)


@pytest.mark.long
def test_camera_and_microphone_buttons_stop_what_the_partner_sees_and_hears(
    service: Service, doctor: Participant, patient: Participant
) -> None:
    codes = service.create_appointment()
    talk(codes.organiser_link, codes.participant_link, doctor, patient)
    signs = {
        "camera-button": ("remote-placeholder", "framesDecoded"),
        "microphone-button": ("remote-microphone-off", "totalAudioEnergy"),
    }
    for button, (sign, figure) in signs.items():
        patient.await_growth(figure)
        doctor.page.get_by_test_id(button).click()
        expect(patient.page.get_by_test_id(sign)).to_be_visible()
        patient.await_standstill(figure)
    for button, (sign, figure) in signs.items():
        doctor.page.get_by_test_id(button).click()
        expect(patient.page.get_by_test_id(sign)).to_be_hidden()
        patient.await_growth(figure)
    watch_both(doctor, patient, seconds=3)


def talk(organiser_link: str, participant_link: str, doctor: Participant, patient: Participant) -> None:
    """Bring two people into a running consultation."""
    doctor.open(organiser_link)
    doctor.join("Dr. Anna Beispiel")
    patient.open(participant_link)
    patient.join("Petra Muster")
    for participant in (doctor, patient):
        participant.await_connected()


def joins(outcome: str) -> str:
    """The name of a counter on the metrics page."""
    return f'redconnect_signaling_joins_total{{outcome="{outcome}"}}'


def service_origin(participant: Participant) -> str:
    """Scheme, host and port of the page."""
    origin: str = participant.page.evaluate("() => location.origin")
    return origin
