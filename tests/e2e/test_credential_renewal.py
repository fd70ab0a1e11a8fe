"""A relayed talk is longer than the life of the credential it began with, and finds a new path with the next one."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Playwright

from tests.support.browser import CHROMIUM, CONNECT_MS, Participant, chromium, talk, watch_both
from tests.support.lab import SERVER_NAME, open_lab
from tests.support.service import Service, run_service

pytestmark = pytest.mark.long

LIFETIME_SECONDS = 10
ALLOCATION_SECONDS = 60  # the least that the settings allow: browsers refresh such an allocation after the half of it
REFRESH_WITHIN_SECONDS = 45.0

# What the page would use for its next allocation.
_USER_NAME = """() => window.__connections.at(-1).getConfiguration().iceServers
  .map((server) => server.username).find((name) => name)"""
_UFRAG = "() => window.__connections.at(-1).localDescription.sdp.match(/a=ice-ufrag:(.*)/)[1]"


def requests(service: Service, outcome: str, **labels: str) -> float:
    """How many requests the relay has answered or refused that have these labels."""
    wanted = {f'{name}="{value}"' for name, value in labels.items()}
    name = f"redconnect_relay_requests_{outcome}_total"
    return sum(
        value
        for sample, value in service.metrics().items()
        if sample.startswith(name) and wanted <= set(re.findall(r'\w+="[^"]*"', sample))
    )


def allocations(service: Service) -> float:
    name = "redconnect_relay_allocations_created_total"
    return sum(value for sample, value in service.metrics().items() if sample.startswith(name))


def test_a_relayed_talk_goes_on_past_the_expiry_of_its_credential_and_restarts_with_a_fresh_one(
    playwright: Playwright, tmp_path: Path
) -> None:
    page = f"https://{SERVER_NAME}:8443"
    with open_lab() as lab:
        settings = {
            "relay": {"relay_addresses": [lab.server_ip], "default_lifetime_seconds": ALLOCATION_SECONDS},
            "signaling": {
                "port": 8443,
                "https": True,
                "public_url": page,
                "ice": {"host": lab.server_ip, "credential_lifetime_seconds": LIFETIME_SECONDS},
            },
        }
        with (
            run_service(tmp_path, settings, lab.server) as service,
            chromium(playwright, lab.wrapper(lab.alice, CHROMIUM, tmp_path)) as alice,
            chromium(playwright, lab.wrapper(lab.bob, CHROMIUM, tmp_path)) as bob,
        ):
            doctor, patient = Participant(alice), Participant(bob)
            talk(service.create_appointment(), doctor, patient)
            both = (doctor, patient)
            first_names = [each.page.evaluate(_USER_NAME) for each in both]

            # The browsers refresh their allocations with the name that has expired meanwhile.
            for each, name in zip(both, first_names, strict=True):
                expired = f"(name) => Date.now() >= 1000 * Number.parseInt(name) && ({_USER_NAME})() !== name"
                each.page.wait_for_function(expired, arg=name, timeout=CONNECT_MS)
            refreshed = requests(service, "answered", method="refresh")
            service.await_that(
                lambda: requests(service, "answered", method="refresh") >= refreshed + 2, REFRESH_WITHIN_SECONDS
            )
            watch_both(doctor, patient, seconds=3)
            for each in both:
                figures = each.figures()
                assert "relay" in (figures["local"], figures["remote"])
                assert each.connections() == 1

            # A new path needs a new allocation, and that a name that lives.
            allocated, ufrag = allocations(service), doctor.page.evaluate(_UFRAG)
            doctor.page.evaluate("() => window.__connections.at(-1).restartIce()")
            doctor.page.wait_for_function(f"(ufrag) => ({_UFRAG})() !== ufrag", arg=ufrag, timeout=CONNECT_MS)
            service.await_that(lambda: allocations(service) > allocated)
            for each in both:
                each.await_connected()
            watch_both(doctor, patient, seconds=3)
            assert doctor.connections() == patient.connections() == 1

            assert requests(service, "refused", cause="expired") == 0
            assert requests(service, "refused", cause="no_credentials") > 0, "the metric is the one that counts"
            assert doctor.complaints == patient.complaints == []
