"""A consultation between two network namespaces, and the server in a third one."""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, Playwright

from tests.support.browser import CHROMIUM, FirefoxInside, Participant, chromium, watch_both
from tests.support.lab import SERVER_NAME, Lab, open_lab
from tests.support.service import Service, run_service

PAGE: Final = f"https://{SERVER_NAME}:8443"


class Scene:
    """A lab with a running service, and a browser at each end."""

    def __init__(self, playwright: Playwright, lab: Lab, service: Service, folder: Path) -> None:
        self._playwright = playwright
        self.lab = lab
        self._folder = folder
        self.service = service

    def chromium_in(self, namespace: str) -> AbstractContextManager[Browser]:
        return chromium(self._playwright, self.lab.wrapper(namespace, CHROMIUM, self._folder))

    def firefox_in(self, namespace: str) -> FirefoxInside:
        return FirefoxInside(self.lab, namespace, self._folder)


@contextlib.contextmanager
def open_scene(playwright: Playwright, folder: Path, *, routed: bool, **relay: Any) -> Iterator[Scene]:  # noqa: ANN401
    """Build a lab with a running service.

    Args:
        playwright: drives the browsers.
        folder: takes what the service and the browsers leave.
        routed: whether the clients reach each other, too, and not the server alone.
        relay: further settings of the relay.
    """
    with open_lab(routed=routed) as lab:
        settings = {
            "relay": {"relay_addresses": [lab.server_ip], **relay},
            # Chromium looks up the hosts of turn: URLs without /etc/hosts, and there is no DNS in the lab.
            "signaling": {"port": 8443, "https": True, "public_url": PAGE, "ice": {"host": lab.server_ip}},
        }
        with run_service(folder, settings, lab.server) as service:
            yield Scene(playwright, lab, service, folder)


def consult(scene: Scene, doctor: Participant, patient: Participant, seconds: int) -> None:
    codes = scene.service.create_appointment()
    patient.open(codes.participant_link)
    patient.join("Petra Muster")
    doctor.open(codes.organiser_link)
    doctor.join("Dr. Anna Beispiel")
    for participant in (doctor, patient):
        participant.await_connected()
    watch_both(doctor, patient, seconds)


def relayed_bytes(service: Service, transport: str) -> dict[str, float]:
    metrics = service.metrics()
    name = "redconnect_relay_payload_bytes_total"
    return {way: metrics[f'{name}{{direction="{way}",transport="{transport}"}}'] for way in ("to_peer", "to_client")}


def hang_up(doctor: Participant, patient: Participant) -> None:
    doctor.hang_up()
    for participant in (doctor, patient):
        participant.text("ended-text")
        assert participant.complaints == []
        participant.close()
