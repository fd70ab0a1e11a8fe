"""Conferences over networks that lose, close, change and narrow: real browsers in namespaces of their own."""

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, NamedTuple

import pytest
from playwright.sync_api import Browser, Playwright, expect

from tests.support.browser import CHROMIUM, CONNECT_MS, Participant, chromium
from tests.support.conference_paths import (
    OBSERVER,
    await_everybody,
    begin,
    create_conference,
    let_in,
    paths,
    tiles,
)
from tests.support.lab import SERVER_NAME, Lab, open_lab
from tests.support.service import Service, free_port, run_service

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

SFU_PORT: Final = 7882
PLAIN_RELAY_PORTS: Final = "3478, 3479"
TLS_RELAY_PORTS: Final = "5349, 5350"
INTERRUPTED: Final = "Verbindung unterbrochen, wird wiederhergestellt…"
NO_PATH: Final = "Keine Bildverbindung möglich. Vermutlich sperrt Ihr Netzwerk die nötigen Ports."
GIVEN_UP_MS: Final = 90_000  # three attempts of 15 s, with pauses
RETURN_MS: Final = 20_000  # twice what is promised: programs that code pictures share this machine
ADMITTED: Final = 'redconnect_signaling_admissions_total{result="admitted"}'
SEATS: Final = (
    'redconnect_signaling_joins_total{outcome="joined"}',
    ADMITTED,
)
DOCTOR, PETRA, UWE = "Dr. Anna Beispiel", "Petra Muster", "Uwe Probe"


class Scene(NamedTuple):
    """Doctors and patients reach the server, but not each other."""

    lab: Lab
    service: Service
    doctors: Browser
    patients: Browser


@pytest.fixture(scope="module")
def scene(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("scene")
    with open_lab() as lab:
        settings = {
            "services": ["relay", "signaling", "sfu"],
            "relay": {"relay_addresses": [lab.server_ip]},
            "signaling": {
                "port": 8443,
                "https": True,
                "public_url": f"https://{SERVER_NAME}:8443",
                "ice": {"host": lab.server_ip},  # Chromium looks up relays without /etc/hosts
            },
            "sfu": {"udp_port": SFU_PORT, "listen_addresses": [lab.server_ip]},
        }
        with (
            run_service(folder, settings, lab.server) as service,
            chromium(playwright, lab.wrapper(lab.alice, CHROMIUM, folder)) as doctors,
            chromium(playwright, lab.wrapper(lab.bob, CHROMIUM, folder)) as patients,
        ):
            yield Scene(lab, service, doctors, patients)


@pytest.fixture
def meet(scene: Scene) -> Iterator[Callable[[int], list[Participant]]]:
    """Begins a conference of the doctor with one or two patients; the second one sits in the doctor's network."""
    came: list[Participant] = []

    def begin_with(patients: int) -> list[Participant]:
        links = create_conference(scene.service)
        came.append(doctor := Participant(scene.doctors, script=OBSERVER))
        begin(links, doctor, DOCTOR)
        places = ((scene.patients, PETRA), (scene.doctors, UWE))
        for link, (browser, name) in zip(links.participants, places[:patients], strict=False):
            came.append(person := Participant(browser, script=OBSERVER))
            let_in(doctor, link, person, name)
        return came

    yield begin_with
    for person in came:
        person.close()


def from_bob(lab: Lab, *rules: str) -> AbstractContextManager[None]:
    """Judge what comes from Petra's network to the server."""
    return lab.arriving(lab.server, *(f'iifname "{lab.bob_link}" {rule}' for rule in rules))


WAYS: Final = {
    "turn-udp": ([f"udp dport {SFU_PORT} drop"], "udp"),
    "turn-tcp": (["meta l4proto udp drop"], "tcp"),
    "turn-tls": (["meta l4proto udp drop", f"tcp dport {{ {PLAIN_RELAY_PORTS} }} drop"], "tls"),
}


@pytest.mark.parametrize("way", WAYS)
def test_where_the_media_server_is_out_of_reach_the_relay_is_the_way_to_it(
    scene: Scene, meet: Callable[[int], list[Participant]], way: str
) -> None:
    rules, protocol = WAYS[way]
    with from_bob(scene.lab, *rules):
        doctor, petra = people = meet(1)
        await_everybody(people)
        assert paths(petra) == [("relay", protocol)] * 2
        assert paths(doctor) == [("host", None)] * 2


def test_where_nothing_is_in_reach_the_page_says_so_and_tries_again_when_it_is_told_to(
    scene: Scene, meet: Callable[[int], list[Participant]]
) -> None:
    with from_bob(scene.lab, "meta l4proto udp drop", f"tcp dport {{ {PLAIN_RELAY_PORTS}, {TLS_RELAY_PORTS} }} drop"):
        doctor, petra = people = meet(1)
        help_link = petra.page.get_by_test_id("no-path-help")
        help_link.wait_for(state="visible", timeout=GIVEN_UP_MS)
        assert petra.text("error-text") == NO_PATH
        assert (
            petra.page.evaluate("(path) => fetch(path).then(({ status }) => status)", help_link.get_attribute("href"))
            == 200
        )
        assert len(tiles(doctor)) == 2
    petra.page.get_by_test_id("try-again-button").click()
    await_everybody(people)
    expect(help_link).to_be_hidden()


@pytest.mark.parametrize("change", ["down and up", "another address"])
def test_who_changes_the_network_is_back_by_itself_under_the_same_name_and_number(
    scene: Scene, meet: Callable[[int], list[Participant]], change: str
) -> None:
    lab = scene.lab
    doctor, petra = people = meet(1)
    await_everybody(people)
    before, made = tiles(doctor), [person.connections() for person in people]
    counted = scene.service.metrics()
    petra.forget_statuses()
    try:
        if change == "down and up":
            lab.unplug(lab.bob)
            petra.await_status(INTERRUPTED)
            lab.plug_in(lab.bob)
        else:
            lab.renumber(lab.bob)
            petra.await_status(INTERRUPTED)
        await_everybody(people, RETURN_MS)
        assert tiles(doctor) == before
        assert [person.connections() for person in people] == made
        now = scene.service.metrics()
        for metric in SEATS:
            assert now[metric] == counted[metric]
    finally:
        lab.plug_in(lab.bob)


def test_a_service_that_is_killed_and_started_again_gets_everybody_back_without_asking(
    invite: Callable[..., Participant], tmp_path: Path
) -> None:
    port = free_port()
    settings = {
        "services": ["relay", "signaling", "sfu"],
        "signaling": {"port": port, "public_url": f"http://localhost:{port}"},
        "relay": {"udp_ports": [free_port()], "tcp_ports": [free_port()], "tls_ports": [free_port()]},
        "sfu": {"udp_port": free_port(), "listen_addresses": ["127.0.0.1"]},
    }
    doctor, petra, uwe = people = [invite(script=OBSERVER) for _ in range(3)]
    with run_service(tmp_path, settings) as service:
        links = create_conference(service)
        begin(links, doctor, DOCTOR)
        for person, name, link in zip((petra, uwe), (PETRA, UWE), links.participants, strict=True):
            let_in(doctor, link, person, name)
        await_everybody(people)
        before = doctor.page.evaluate("() => performance.timeOrigin")
        service.process.send_signal(signal.SIGKILL)
        service.process.wait(timeout=CONNECT_MS / 1000)
    with run_service(tmp_path, settings) as service:
        await_everybody(people)
        assert service.metrics()[ADMITTED] == 2  # by the doctor's page, which knows whom it has let in before
        assert doctor.page.evaluate("() => performance.timeOrigin") == before
        for person in people:
            assert len(tiles(person)) == len(people)
        for person in people:
            person.hang_up()
            person.text("ended-text")
            person.complaints.clear()  # the browser names every attempt to reach a service that is not there
