"""Every relay worker is killed under a relayed talk: the pages find a new path through those that follow."""

import os
import signal
from pathlib import Path

import pytest
from playwright.sync_api import Playwright

from tests.support.browser import CHROMIUM, Participant, chromium, talk, watch_both
from tests.support.lab import SERVER_NAME, open_lab
from tests.support.service import Service, run_service

pytestmark = pytest.mark.long

AGAIN_SECONDS = (
    60.0  # until the browser has noticed, the page has waited, and a new path is found; nothing waits it out
)


def relay_workers(service: Service) -> list[int]:
    children = Path(f"/proc/{service.pid}/task/{service.pid}/children").read_text().split()
    return [int(pid) for pid in children if b"--relay-worker" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def allocations(service: Service) -> float:
    name = "redconnect_relay_allocations_created_total"
    return sum(value for sample, value in service.metrics().items() if sample.startswith(name))


def test_a_relayed_talk_goes_on_by_itself_when_every_relay_worker_is_killed(
    playwright: Playwright, tmp_path: Path
) -> None:
    page = f"https://{SERVER_NAME}:8443"
    with open_lab() as lab:
        settings = {
            "relay": {"relay_addresses": [lab.server_ip], "workers": 2},
            "signaling": {"port": 8443, "https": True, "public_url": page, "ice": {"host": lab.server_ip}},
        }
        with (
            run_service(tmp_path, settings, lab.server) as service,
            chromium(playwright, lab.wrapper(lab.alice, CHROMIUM, tmp_path)) as alice,
            chromium(playwright, lab.wrapper(lab.bob, CHROMIUM, tmp_path)) as bob,
        ):
            both = doctor, patient = Participant(alice), Participant(bob)
            talk(service.create_appointment(), doctor, patient)
            for each in both:
                assert "relay" in (each.figures()["local"], each.figures()["remote"])
            allocated, workers = allocations(service), relay_workers(service)
            assert len(workers) == 2
            for pid in workers:
                os.kill(pid, signal.SIGKILL)
            service.await_that(lambda: allocations(service) > allocated, AGAIN_SECONDS)
            for each in both:
                each.await_connected()
                each.await_flow()
            watch_both(doctor, patient, seconds=3)
            assert doctor.safety_code() == patient.safety_code() != ""  # another one, if the pages have agreed anew
