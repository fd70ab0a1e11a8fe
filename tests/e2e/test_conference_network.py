"""Conferences over networks that lose, close, change and narrow: real browsers in namespaces of their own."""

import itertools
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import pytest
from playwright.sync_api import Browser, Playwright, expect

from tests.support.browser import (
    CHROMIUM,
    CONNECT_MS,
    FirefoxInside,
    Participant,
    assert_no_standstill,
    chromium,
    noise,
)
from tests.support.conference_paths import (
    OBSERVER,
    Line,
    await_everybody,
    await_flow,
    await_paths,
    await_widths,
    begin,
    begin_watch,
    create_conference,
    end_watch,
    let_in,
    paths,
    tiles,
    total,
)
from tests.support.lab import SERVER_NAME, Lab, open_lab
from tests.support.ports import free_port
from tests.support.service import Service, run_service

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

SFU_PORT: Final = 7882
PLAIN_RELAY_PORTS: Final = "3478, 3479"
TLS_RELAY_PORTS: Final = "5349, 5350"
INTERRUPTED: Final = "Verbindung unterbrochen, wird wiederhergestellt…"
NO_PATH: Final = "Keine Bildverbindung möglich. Vermutlich sperrt Ihr Netzwerk die nötigen Ports."
START: Final = 2_000_000  # bits per second: pictures begin as large as they are wanted
LOST_PERCENT: Final = 5
LOSS_SECONDS: Final = 20
REPAIR_SECONDS: Final = 2  # a packet is asked for at most one second
CONCEALED: Final = 0.15  # of the sound: what is lost, three times
FIGURES: Final = (
    *itertools.product(("audio",), ("packetsLost", "concealedSamples", "totalSamplesReceived")),
    *itertools.product(("video",), ("packetsLost", "retransmittedPacketsReceived", "packetsReceived", "framesDecoded")),
    *itertools.product(("video",), ("freezeCount", "pliCount")),
)
LARGE, SMALL = 640, 320  # pixels: the half and the quarter of the camera; what a tile of three has use for is the half
# Of 560 kbit/s, two small pictures (150 each), two voices (65 each with what surrounds them), and some room to spare;
# a large one (500) and a small one would not fit.
NARROW: Final = "70 kbytes/second burst 20 kbytes"
MISSED: Final = 0.5  # of a second's sound
ADAPTING_SECONDS: Final = 1  # at most: until less is sent, sound is lost like everything else
SETTLING_SECONDS: Final = 5
GIVEN_UP_MS: Final = 90_000  # three attempts of 15 s, with pauses
LATE_MS: Final = 2_000  # by then nothing is decoded any more that came before the change
RETURN_MS: Final = 20_000  # twice what is promised: programs that code pictures share this machine
ADMITTED: Final = 'redconnect_signaling_admissions_total{result="admitted"}'
SEATS: Final = (
    'redconnect_signaling_joins_total{outcome="joined"}',
    ADMITTED,
)
DOCTOR, PETRA, UWE = "Dr. Anna Beispiel", "Petra Muster", "Uwe Probe"


class Scene(NamedTuple):
    """The doctor's network and that of Petra reach the server, but not each other."""

    lab: Lab
    service: Service
    doctors: Browser
    patients: Browser
    folder: Path


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
            "sfu": {"udp_port": SFU_PORT, "listen_addresses": [lab.server_ip], "start_bits_per_second": START},
        }
        with (
            run_service(folder, settings, lab.server) as service,
            chromium(playwright, lab.wrapper(lab.alice, CHROMIUM, folder)) as doctors,
            chromium(playwright, lab.wrapper(lab.bob, CHROMIUM, folder)) as patients,
        ):
            yield Scene(lab, service, doctors, patients, folder)


@pytest.fixture
def costly(scene: Scene, playwright: Playwright, tmp_path: Path) -> Iterator[Scene]:
    """The same with pictures that cost what a layer may cost at most."""
    film = noise(tmp_path / "noise.y4m")
    lab, folder = scene.lab, scene.folder
    with (
        chromium(playwright, lab.wrapper(lab.alice, CHROMIUM, folder), film=film) as doctors,
        chromium(playwright, lab.wrapper(lab.bob, CHROMIUM, folder), film=film) as patients,
    ):
        yield scene._replace(doctors=doctors, patients=patients)


class Meet(Protocol):
    """Begins a conference of the doctor with one or two patients; the second one sits in the doctor's network."""

    def __call__(self, patients: int, scene: Scene = ...) -> list[Participant]: ...


@pytest.fixture
def meet(scene: Scene) -> Iterator[Meet]:
    came: list[Participant] = []

    def begin_with(patients: int, scene: Scene = scene) -> list[Participant]:
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


def from_bob(lab: Lab, *rules: str) -> AbstractContextManager[Callable[[], int]]:
    """Judge what comes from Petra's network to the server."""
    return lab.arriving(lab.server, *(f'iifname "{lab.bob_link}" {rule}' for rule in rules))


def test_of_a_hundred_packets_five_are_lost_each_way_and_all_pictures_are_repaired(scene: Scene, meet: Meet) -> None:
    lab = scene.lab
    people = meet(1)
    await_everybody(people)
    for person in people:
        await_widths(person, 1, least=LARGE)
        begin_watch(person)
        end_watch(person, SETTLING_SECONDS)
    chance = f"numgen random mod 100 < {LOST_PERCENT} counter drop"
    with (
        from_bob(lab, f"udp dport {SFU_PORT} {chance}") as lost_up,
        lab.arriving(lab.bob, f"udp sport {SFU_PORT} {chance}") as lost_down,
    ):
        for person in people:
            begin_watch(person)
        courses = [end_watch(person, LOSS_SECONDS) for person in people]
        assert min(lost_up(), lost_down()) > LOSS_SECONDS  # a packet a second at least, of 50 and more
    for person in people:
        begin_watch(person)
    ends = [end_watch(person, REPAIR_SECONDS)[-1] for person in people]
    grown = [
        {name: total(end.values(), *name) - total(course[0].values(), *name) for name in FIGURES}
        for course, end in zip(courses, ends, strict=True)
    ]
    for course, figures in zip(courses, grown, strict=True):
        assert figures["audio", "packetsLost"] > 0  # sound is not sent again: it shows that packets get lost
        assert figures["audio", "concealedSamples"] < CONCEALED * figures["audio", "totalSamplesReceived"]
        assert_no_standstill([int(total(sample.values(), "video", "framesDecoded")) for sample in course])
        assert figures["video", "freezeCount"] == 0
        assert figures["video", "pliCount"] == 0  # for a packet that stayed away the page would ask for a key frame
    of_doctor, of_petra = grown
    # What Petra's path up had lost the server got again, and passed it on late under its own number. What her path down
    # had lost came again on the stream for that, and stays counted as lost on its own (RFC 3550 §6.4.1).
    assert of_doctor["video", "packetsLost"] == 0
    assert of_petra["video", "retransmittedPacketsReceived"] >= of_petra["video", "packetsLost"]


def test_a_narrow_path_gets_smaller_pictures_and_all_the_sound_and_larger_ones_when_it_is_wide_again(
    costly: Scene, meet: Meet
) -> None:
    lab = costly.lab
    doctor, petra, uwe = people = meet(2, costly)
    await_everybody(people)
    for person in people:
        await_widths(person, 2, least=LARGE)
    begin_watch(petra)
    with lab.arriving(lab.bob, f"udp sport {SFU_PORT} limit rate over {NARROW} counter drop") as dropped:
        await_widths(petra, 2, most=SMALL)
        for person in (doctor, uwe):
            await_widths(person, 2, least=LARGE)
        await_flow(petra, 2)
        assert dropped() > 0
    await_widths(petra, 2, least=LARGE)
    made_up = [part for part in parts_made_up(end_watch(petra, 1)) if part > MISSED]
    assert len(made_up) <= ADAPTING_SECONDS


def parts_made_up(samples: list[dict[str, Line]]) -> list[float]:
    """For each second, which part of the sound did not come in time and was made up by the browser."""
    parts = []
    for earlier, later in itertools.pairwise(samples):
        made_up, heard = (
            total(later.values(), "audio", name) - total(earlier.values(), "audio", name)
            for name in ("concealedSamples", "totalSamplesReceived")
        )
        assert heard > 0, "the browser has stopped to play"
        parts.append(made_up / heard)
    return parts


def test_firefox_sees_and_hears_a_chromium_and_is_seen_and_heard_by_it(scene: Scene) -> None:
    with FirefoxInside(scene.lab, scene.lab.bob, scene.folder) as inside:
        links = create_conference(scene.service)
        doctor = Participant(scene.doctors, script=OBSERVER)
        petra = inside.participant({}, script=OBSERVER)
        begin(links, doctor, DOCTOR)
        let_in(doctor, links.participants[0], petra, PETRA)
        await_everybody([doctor, petra])
        for person in (doctor, petra):
            person.hang_up()
            person.text("ended-text")
            assert person.complaints == []
            person.close()


WAYS: Final = {
    "turn-udp": ([f"udp dport {SFU_PORT} drop"], "udp"),
    "turn-tcp": (["meta l4proto udp drop"], "tcp"),
    "turn-tls": (["meta l4proto udp drop", f"tcp dport {{ {PLAIN_RELAY_PORTS} }} drop"], "tls"),
}


@pytest.mark.parametrize("way", WAYS)
def test_where_the_media_server_is_out_of_reach_the_relay_is_the_way_to_it(scene: Scene, meet: Meet, way: str) -> None:
    rules, protocol = WAYS[way]
    with from_bob(scene.lab, *rules):
        doctor, petra = people = meet(1)
        await_everybody(people)
        await_paths(petra, [("relay", protocol)] * 2)
        assert paths(doctor) == [("host", None)] * 2


def test_where_nothing_is_in_reach_the_page_says_so_and_tries_again_when_it_is_told_to(
    scene: Scene, meet: Meet
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
    scene: Scene, meet: Meet, change: str
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
            lab.renumber(lab.bob)  # the browser may find the new way before anybody would call it an interruption
        await_everybody(people, RETURN_MS, later_ms=LATE_MS)
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
