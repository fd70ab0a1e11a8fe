"""The patient's and the doctor's journey in two real browser windows, as after `make run`."""

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
    patient.page.reload()
    patient.await_connected()
    doctor.await_connected()
    assert patient.text("remote-name") == "Dr. Anna Beispiel"
    watch_both(doctor, patient, seconds=3)


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


def test_camera_and_microphone_buttons_stop_what_the_partner_sees_and_hears(
    service: Service, doctor: Participant, patient: Participant
) -> None:
    codes = service.create_appointment()
    talk(codes.organiser_link, codes.participant_link, doctor, patient)
    doctor.page.get_by_test_id("camera-button").click()
    doctor.page.get_by_test_id("microphone-button").click()
    expect(patient.page.get_by_test_id("remote-placeholder")).to_be_visible()
    expect(patient.page.get_by_test_id("remote-microphone-off")).to_be_visible()
    doctor.page.get_by_test_id("camera-button").click()
    doctor.page.get_by_test_id("microphone-button").click()
    expect(patient.page.get_by_test_id("remote-placeholder")).to_be_hidden()
    expect(patient.page.get_by_test_id("remote-microphone-off")).to_be_hidden()
    watch_both(doctor, patient, seconds=3)


def talk(organiser_link: str, participant_link: str, doctor: Participant, patient: Participant) -> None:
    """Bring two people into a running consultation."""
    doctor.open(organiser_link)
    doctor.join("Dr. Anna Beispiel")
    patient.open(participant_link)
    patient.join("Petra Muster")
    for participant in (doctor, patient):
        participant.await_connected()


def service_origin(participant: Participant) -> str:
    """Scheme, host and port of the page."""
    origin: str = participant.page.evaluate("() => location.origin")
    return origin
