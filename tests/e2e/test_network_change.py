"""The network of one of two people changes in the middle of their talk, and nobody touches the pages."""

import time
from collections.abc import Iterator
from typing import Final, NamedTuple

import pytest
from playwright.sync_api import Browser, Playwright, expect

from tests.support.browser import CHROMIUM, Participant, chromium, talk, watch_both
from tests.support.lab import SERVER_NAME, Lab, open_lab
from tests.support.service import Service, run_service

pytestmark = pytest.mark.long

INTERRUPTED: Final = "Verbindung unterbrochen, wird wiederhergestellt…"
RETURN_MS: Final = 20_000  # twice what is promised: four programs that code pictures share this machine
GIVEN_UP_MS: Final = 90_000  # the server notices, and then the page waits for another half minute


class Scene(NamedTuple):
    lab: Lab
    service: Service
    doctors: Browser
    patients: Browser


@pytest.fixture(scope="module")
def scene(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Two Chromium in networks that reach each other and the server, which keeps a silent seat as short as it can."""
    folder = tmp_path_factory.mktemp("scene")
    with open_lab(routed=True) as lab:
        settings = {
            "relay": {"relay_addresses": [lab.server_ip]},
            "signaling": {
                "port": 8443,
                "https": True,
                "public_url": f"https://{SERVER_NAME}:8443",
                "ice": {"host": lab.server_ip},
                "seat_hold_seconds": 5,
                "heartbeat_seconds": 5,
            },
        }
        with (
            run_service(folder, settings, lab.server) as service,
            chromium(playwright, lab.wrapper(lab.alice, CHROMIUM, folder)) as doctors,
            chromium(playwright, lab.wrapper(lab.bob, CHROMIUM, folder)) as patients,
        ):
            yield Scene(lab, service, doctors, patients)


Pair = tuple[Participant, Participant]


@pytest.fixture(scope="module")
def running(scene: Scene) -> Iterator[Pair]:
    """Doctor and patient in a talk that one test hands to the next: none of them may end it."""
    both = Participant(scene.doctors), Participant(scene.patients)
    talk(scene.service.create_appointment(), *both)
    yield both
    for participant in both:
        participant.close()


@pytest.fixture
def pair(scene: Scene, running: Pair) -> Iterator[Pair]:
    """Doctor and patient in a running talk, over networks in which nothing is wrong."""
    watch_both(*running, seconds=1)
    for participant in running:
        participant.forget_statuses()
    yield running
    for client in (scene.lab.alice, scene.lab.bob):
        if client in scene.lab.strayed:
            scene.lab.plug_in(client)


@pytest.mark.parametrize("who", ["doctor", "patient"])
def test_a_link_that_is_down_for_seconds_is_told_on_both_sides_and_heals(scene: Scene, pair: Pair, who: str) -> None:
    made = connections(pair)
    away = scene.lab.alice if who == "doctor" else scene.lab.bob
    scene.lab.unplug(away)
    for participant in pair:
        participant.await_status(INTERRUPTED)
    scene.lab.plug_in(away)
    assert_talking_again(pair)
    assert connections(pair) == made


@pytest.mark.parametrize("who", ["doctor", "patient"])
def test_an_address_that_changes_and_changes_back_leaves_the_connection_standing(
    scene: Scene, pair: Pair, who: str
) -> None:
    made = connections(pair)
    client = scene.lab.alice if who == "doctor" else scene.lab.bob
    scene.lab.renumber(client)  # a browser may find the new way before anybody would call it an interruption
    assert_talking_again(pair)
    scene.lab.plug_in(client)
    assert_talking_again(pair)
    assert connections(pair) == made


def test_where_the_way_to_the_partner_is_cut_the_relay_takes_over(scene: Scene, pair: Pair) -> None:
    statuses = [expect(participant.page.get_by_test_id("connection-status")) for participant in pair]
    for status in statuses:
        status.to_have_text("Direkt verbunden", timeout=RETURN_MS)
    with scene.lab.wall():
        for status in statuses:
            status.to_have_text("Über Vermittlungsserver verbunden", timeout=RETURN_MS)
        assert_talking_again(pair)


def test_an_outage_longer_than_any_time_out_ends_in_a_silent_rejoin(scene: Scene, pair: Pair) -> None:
    made = connections(pair)
    doctor, patient = pair
    scene.lab.unplug(scene.lab.bob)
    doctor.page.get_by_test_id("waiting-text").wait_for(state="visible", timeout=GIVEN_UP_MS)
    patient.await_status(INTERRUPTED)
    assert patient.figures()["state"] in ("failed", "closed")  # the page has given it up, at the latest now
    scene.lab.plug_in(scene.lab.bob)
    assert_talking_again(pair)
    assert connections(pair) == [count + 1 for count in made]


def connections(pair: Pair) -> list[int]:
    """How many connections each of the two has made up to now."""
    return [participant.connections() for participant in pair]


def assert_talking_again(pair: Pair) -> None:
    """Pictures flow both ways by themselves, and both have the same safety code."""
    for participant in pair:
        participant.await_flow(RETURN_MS)
        expect(participant.page.get_by_test_id("connection-status")).not_to_have_text(INTERRUPTED, timeout=RETURN_MS)
    doctor, patient = pair
    await_same_code(doctor, patient)
    names = {doctor: "Petra Muster", patient: "Dr. Anna Beispiel"}
    for participant, partner in names.items():
        assert participant.text("remote-name") == partner


def await_same_code(doctor: Participant, patient: Participant) -> None:
    """Who comes back agrees on new keys, and then both see the same new code, one of them a little later."""
    deadline = time.monotonic() + RETURN_MS / 1000
    while (code := doctor.safety_code()) != (other := patient.safety_code()) or not code:
        assert time.monotonic() < deadline, f"the doctor has {code!r}, the patient {other!r}"
        doctor.page.wait_for_timeout(100)  # the pages' events are handled meanwhile
    assert len(code.replace(" ", "")) == 6
