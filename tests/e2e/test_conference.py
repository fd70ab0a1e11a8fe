"""A whole conference: three pages, the real server and its media server, everything encrypted between the pages."""

import json
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect

from tests.support.browser import CONNECT_MS, Participant
from tests.support.ports import free_port
from tests.support.service import Service, run_service

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

# Changes are gathered for a second, a new key is used a second after it was told: by then the earlier one is history.
NEW_KEY_MS = 3_000
DOCTOR, PETRA, UWE = "Dr. Anna Beispiel", "Petra Muster", "Uwe Probe"
# When each line that comes in, on any connection of the page, has last brought pictures or sound. A line is named by
# its SSRC: an m-line that changes hands is another one.
LINES = """
  window.__lines = {};
  setInterval(async () => {
    for (const connection of window.__connections) {
      if (connection.connectionState !== "connected") continue;
      for (const entry of (await connection.getStats()).values()) {
        if (entry.type !== "inbound-rtp") continue;
        const count = entry.kind === "video" ? (entry.framesDecoded ?? 0) : (entry.totalAudioEnergy ?? 0);
        const known = window.__lines[entry.ssrc] ?? { kind: entry.kind, count: 0, grewAt: -1 };
        if (count > known.count) known.grewAt = performance.now();
        window.__lines[entry.ssrc] = { ...known, count };
      }
    }
  }, 300);
"""
STANDSTILL = """([kind, still]) => {
  const grewAt = Object.values(window.__lines).filter((line) => line.kind === kind).map((line) => line.grewAt);
  return grewAt.every((at) => performance.now() - at > still);
}"""
STANDSTILL_MS = 2_000
FLOW = """([kind, count, since]) => {
  const lines = Object.values(window.__lines).filter((line) => line.kind === kind && line.grewAt > since);
  return lines.length >= count;
}"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The whole service with its media server, on free ports of loopback."""
    port = free_port()
    settings = {
        "services": ["relay", "signaling", "sfu"],
        "signaling": {"port": port, "public_url": f"http://localhost:{port}"},
        "relay": {"udp_ports": [free_port()], "tcp_ports": [free_port()], "tls_ports": [free_port()]},
        "sfu": {"udp_port": free_port(), "listen_addresses": ["127.0.0.1"]},
    }
    with run_service(tmp_path_factory.mktemp("service"), settings) as started:
        yield started


@pytest.fixture
def links(service: Service) -> tuple[str, str, str]:
    """Of the organiser and two participants of one conference."""
    made = service.command("appointment", "create", "--start", "now", "--json", "--plus", "--participants", "2")
    assert made.returncode == 0, made.stderr
    created = json.loads(made.stdout)
    first, second = created["participants"]
    return created["organiser"]["link"], first["link"], second["link"]


@pytest.fixture
def people(invite: Callable[..., Participant], links: tuple[str, str, str]) -> list[Participant]:
    """Doctor and two patients, all let in and connected."""
    visitors = [invite(script=LINES) for _ in links]
    doctor, *patients = visitors
    doctor.open(links[0])
    doctor.join(DOCTOR)
    doctor.page.get_by_test_id("conference").wait_for(state="visible", timeout=CONNECT_MS)
    for patient, name, link in zip(patients, (PETRA, UWE), links[1:], strict=True):
        patient.open(link)
        patient.join(name)
        assert patient.text("waiting-text") == "Bitte warten – Sie werden gleich eingelassen."
        knock = doctor.page.get_by_test_id("knock")
        expect(knock).to_contain_text(f"{name} möchte teilnehmen.", timeout=CONNECT_MS)
        expect(patient.page.locator(".conference-tile")).to_have_count(0)
        doctor.page.get_by_test_id("knock-admit").click()
        expect(knock).to_be_hidden(timeout=CONNECT_MS)
    return visitors


def test_everybody_sees_and_hears_everybody_who_was_let_in(people: list[Participant]) -> None:
    for person in people:
        expect(person.page.locator(".conference-tile")).to_have_count(3, timeout=CONNECT_MS)
        await_flow(person, 2)


def test_the_two_of_each_pair_read_the_same_safety_code(people: list[Participant]) -> None:
    doctor, petra, uwe = people
    codes = {name: safety_codes(person) for name, person in ((DOCTOR, doctor), (PETRA, petra), (UWE, uwe))}
    for one, other in ((DOCTOR, PETRA), (DOCTOR, UWE), (PETRA, UWE)):
        assert codes[one][other] == codes[other][one]
    assert len({codes[DOCTOR][PETRA], codes[DOCTOR][UWE], codes[PETRA][UWE]}) == 3


def test_who_leaves_is_gone_and_the_others_go_on_under_new_keys(people: list[Participant]) -> None:
    doctor, petra, uwe = people
    await_flow(doctor, 2)
    uwe.hang_up()
    uwe.text("ended-text")
    for person in (doctor, petra):
        expect(person.page.locator(".conference-tile")).to_have_count(2, timeout=CONNECT_MS)
        await_flow(person, 1, later_ms=NEW_KEY_MS)


def test_an_organiser_who_reloads_is_back_without_asking_and_everybody_is_seen_again(
    people: list[Participant],
) -> None:
    doctor, petra, uwe = people
    await_flow(doctor, 2)
    doctor.page.reload()
    expect(doctor.page.locator(".conference-tile")).to_have_count(3, timeout=CONNECT_MS)
    for person in (doctor, petra, uwe):
        await_flow(person, 2)


def test_who_is_removed_is_told_and_may_ask_to_be_let_in_again(people: list[Participant]) -> None:
    doctor, petra, uwe = people
    remove(doctor, UWE)
    assert "entfernt" in uwe.text("error-text")
    expect(petra.page.locator(".conference-tile")).to_have_count(2, timeout=CONNECT_MS)
    uwe.page.get_by_test_id("join-button").click()
    assert uwe.text("waiting-text") == "Bitte warten – Sie werden gleich eingelassen."


def test_when_the_organiser_has_gone_a_participant_lets_in_who_waits_and_the_organiser_may_come_back(
    people: list[Participant],
) -> None:
    doctor, petra, uwe = people
    remove(doctor, UWE)
    assert "entfernt" in uwe.text("error-text")
    uwe.page.get_by_test_id("join-button").click()
    assert uwe.text("waiting-text") == "Bitte warten – Sie werden gleich eingelassen."
    doctor.hang_up()
    doctor.text("ended-text")
    expect(petra.page.get_by_test_id("knock")).to_contain_text(f"{UWE} möchte teilnehmen.", timeout=CONNECT_MS)
    petra.page.get_by_test_id("knock-admit").click()
    for person in (petra, uwe):
        expect(person.page.locator(".conference-tile")).to_have_count(2, timeout=CONNECT_MS)
        await_flow(person, 1)
    doctor.page.get_by_test_id("rejoin-button").click()
    expect(doctor.page.locator(".conference-tile")).to_have_count(3, timeout=CONNECT_MS)
    petra.page.get_by_test_id("menu-button").click()
    expect(petra.page.get_by_test_id("lock-button")).to_be_hidden()


def test_who_takes_sound_alone_gets_no_picture_and_sends_none_and_goes_on_to_hear(people: list[Participant]) -> None:
    doctor, petra, uwe = people
    for person in people:
        await_flow(person, 2)
    petra.page.get_by_test_id("menu-button").click()
    row = petra.page.get_by_test_id("people").get_by_role("listitem").filter(has_text=UWE)
    expect(row).to_contain_text("Verbindung ", timeout=CONNECT_MS)  # the statistics of both connections are read
    petra.page.get_by_test_id("settings-button").click()
    petra.page.get_by_test_id("audio-only-setting").check()
    petra.page.wait_for_function(STANDSTILL, arg=["video", STANDSTILL_MS], timeout=CONNECT_MS)
    for person in (doctor, uwe):
        expect(person.page.get_by_role("group", name=PETRA, exact=True)).to_contain_text("Kamera aus")
    since = petra.page.evaluate("() => performance.now()")
    petra.page.wait_for_function(FLOW, arg=["audio", 2, since], timeout=2 * CONNECT_MS)
    petra.page.get_by_test_id("camera-button").click()
    for person in people:
        await_flow(person, 2)


def remove(doctor: Participant, name: str) -> None:
    """Send somebody away by the panel."""
    doctor.page.get_by_test_id("menu-button").click()
    row = doctor.page.get_by_test_id("people").get_by_role("listitem").filter(has_text=name)
    row.get_by_test_id("remove").click()
    row.get_by_test_id("remove-confirm").click()


def await_flow(person: Participant, count: int, *, later_ms: float = 0) -> None:
    """Wait until pictures and sound of so many others have been decoded since now, or since a while later."""
    since = person.page.evaluate("() => performance.now()") + later_ms
    for kind in ("video", "audio"):
        person.page.wait_for_function(FLOW, arg=[kind, count, since], timeout=2 * CONNECT_MS)


def safety_codes(person: Participant) -> dict[str, str]:
    """What the panel shows, by the name of the other one."""
    expect(person.page.locator(".conference-tile")).to_have_count(3, timeout=CONNECT_MS)
    person.page.get_by_test_id("menu-button").click()
    rows = person.page.get_by_test_id("people").get_by_role("listitem").filter(has=person.page.locator("output"))
    expect(rows).to_have_count(2)
    return {row.locator("bdi").inner_text(): row.locator("output").inner_text() for row in rows.all()}
