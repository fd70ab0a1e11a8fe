"""A consultation outlives what happens to the way between the two: a restart of the service, a link that fails."""

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Playwright, expect

from tests.support.browser import CHROMIUM, CONNECT_MS, Participant, assert_no_standstill, chromium, watch_both
from tests.support.lab import SERVER_NAME, open_lab
from tests.support.service import Codes, free_port, run_service


def test_a_restart_of_the_service_does_not_touch_the_call_and_both_find_back(
    invite: Callable[..., Participant], tmp_path: Path
) -> None:
    port = free_port()
    settings = {
        "signaling": {"port": port, "public_url": f"http://localhost:{port}"},
        "relay": {"udp_ports": [free_port()], "tcp_ports": [free_port()], "tls_ports": [free_port()]},
    }
    doctor, patient = both = invite(), invite()
    with run_service(tmp_path, settings) as service:
        talk(service.create_appointment(), doctor, patient)
        assert "relay" not in (doctor.figures()["local"], patient.figures()["local"])
        for participant in both:
            participant.begin_watch()
        service.stop()
    with run_service(tmp_path, settings) as service:
        for participant in both:
            assert_no_standstill(participant.end_watch(seconds=3))
        # The state of the camera is known from the greeting or from a message; its second change from a message only.
        placeholder = expect(patient.page.get_by_test_id("remote-placeholder"))
        doctor.page.get_by_test_id("camera-button").click()
        placeholder.to_be_visible(timeout=CONNECT_MS)
        doctor.page.get_by_test_id("camera-button").click()
        placeholder.to_be_hidden()
        assert service.metrics()['redconnect_signaling_pairings_total{result="confirmed"}'] == 1
        watch_both(doctor, patient, seconds=3)
        for participant in both:
            assert participant.figures()["state"] == "connected"
            assert participant.connections() == 1
        doctor.hang_up()
        for participant in both:
            participant.text("ended-text")
            participant.complaints.clear()  # the browser names every attempt to reach a service that is not there


def test_a_call_whose_link_fails_for_seconds_is_restored_by_itself(playwright: Playwright, tmp_path: Path) -> None:
    page = f"https://{SERVER_NAME}:8443"
    with open_lab() as lab:
        settings = {
            "relay": {"relay_addresses": [lab.server_ip]},
            "signaling": {"port": 8443, "https": True, "public_url": page, "ice": {"host": lab.server_ip}},
        }
        with (
            run_service(tmp_path, settings, lab.server) as service,
            chromium(playwright, lab.wrapper(lab.alice, CHROMIUM, tmp_path)) as alice,
            chromium(playwright, lab.wrapper(lab.bob, CHROMIUM, tmp_path)) as bob,
        ):
            doctor, patient = Participant(alice), Participant(bob)
            talk(service.create_appointment(), doctor, patient)
            lab.unplug(lab.bob)
            doctor.await_connection_lost()  # which a browser notices after five seconds or more
            lab.plug_in(lab.bob)
            for participant in (doctor, patient):
                participant.await_connected()
                participant.await_growth("framesDecoded")
            watch_both(doctor, patient, seconds=3)
            assert doctor.complaints == []
            doctor.hang_up()
            for participant in (doctor, patient):
                assert participant.text("ended-text").startswith("Das Gespräch wurde beendet.")


def talk(codes: Codes, doctor: Participant, patient: Participant) -> None:
    """Bring two people into a running consultation."""
    doctor.open(codes.organiser_link)
    doctor.join("Dr. Anna Beispiel")
    patient.open(codes.participant_link)
    patient.join("Petra Muster")
    watch_both(doctor, patient, seconds=1)
