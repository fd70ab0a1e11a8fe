"""The service goes away in the middle of a talk, killed or told to stop, and comes back: the two go on talking."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from playwright.sync_api import expect

from tests.support.browser import CONNECT_MS, Participant, talk, watch_both
from tests.support.ports import free_port
from tests.support.service import run_service

pytestmark = pytest.mark.long

STANDSTILL_SECONDS: Final = 3  # of a picture: what the product calls a bad connection


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "told to stop"])
def test_a_restart_of_the_service_does_not_touch_the_talk_and_both_find_back(
    invite: Callable[..., Participant], tmp_path: Path, blow: signal.Signals
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
            participant.forget_statuses()
            participant.begin_watch()
        service.process.send_signal(blow)
        service.process.wait(timeout=CONNECT_MS / 1000)
        # Nobody is told anything: media does not need the server.
        for participant in both:
            assert participant.text("connection-status") == "Direkt verbunden"
    with run_service(tmp_path, settings) as service:
        # The state of the camera is known from the greeting or from a message; its second change from a message only.
        placeholder = expect(patient.page.get_by_test_id("remote-placeholder"))
        doctor.page.get_by_test_id("camera-button").click()
        placeholder.to_be_visible(timeout=CONNECT_MS)
        doctor.page.get_by_test_id("camera-button").click()
        placeholder.to_be_hidden()
        for mute, sign in ((doctor, patient), (patient, doctor)):
            mute.page.get_by_test_id("microphone-button").click()
            expect(sign.page.get_by_test_id("remote-microphone-off")).to_be_visible()
        assert service.metrics()['redconnect_signaling_pairings_total{result="confirmed"}'] == 1
        # The patient was seen all the time, through the end of the service, its absence and its return.
        samples = doctor.end_watch(seconds=STANDSTILL_SECONDS)
        patient.end_watch(seconds=1)
        for earlier, later in zip(samples, samples[STANDSTILL_SECONDS:], strict=False):
            assert later > earlier, f"the picture stood still: {samples}"
        watch_both(doctor, patient, seconds=2)
        for participant in both:
            assert participant.figures()["state"] == "connected"
            assert participant.connections() == 1
            assert set(participant.page.evaluate("() => window.__statuses")) <= {"Direkt verbunden", "Verbunden"}
        doctor.hang_up()
        for participant in both:
            assert participant.text("ended-text").startswith("Das Gespräch wurde beendet.")
            participant.complaints.clear()  # the browser names every attempt to reach a service that is not there
