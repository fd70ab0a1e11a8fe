"""Consultations between network namespaces: two clients and the server, each in its own."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from playwright.sync_api import Page, Playwright

from tests.support.browser import Participant
from tests.support.scene import Scene, consult, hang_up, open_scene, relayed_bytes

PATHS = {
    "turn-udp": ({"scheme": "turn:", "suffix": "transport=udp"}, "udp"),
    "turn-tcp": ({"scheme": "turn:", "suffix": "transport=tcp"}, "tcp"),
    "turns": ({"scheme": "turns:", "suffix": "transport=tcp"}, "tls"),
}


@pytest.fixture(scope="module", params=["closed", "routed"])
def scene(
    request: pytest.FixtureRequest, playwright: Playwright, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    """`closed`: the clients reach the server, but not each other. `routed`: they reach each other, too."""
    with open_scene(playwright, tmp_path_factory.mktemp("scene"), routed=request.param == "routed") as scene:
        yield scene


@pytest.mark.parametrize("scene", ["closed"], indirect=True)
@pytest.mark.parametrize(
    "path", [path if path == "turns" else pytest.param(path, marks=pytest.mark.long) for path in PATHS]
)
def test_behind_closed_firewalls_pictures_flow_through_our_relay(scene: Scene, path: str) -> None:
    wish, protocol = PATHS[path]
    before = relayed_bytes(scene.service, protocol)
    with scene.chromium_in(scene.lab.alice) as alice, scene.chromium_in(scene.lab.bob) as bob:
        doctor = Participant(alice, wish={**wish, "relayOnly": True})
        patient = Participant(bob, wish={**wish, "relayOnly": True})
        consult(scene, doctor, patient, seconds=10)
        for participant in (doctor, patient):
            figures = participant.figures()
            assert (figures["local"], figures["remote"], figures["relayProtocol"]) == ("relay", "relay", protocol)
        after = relayed_bytes(scene.service, protocol)
        for way, earlier in before.items():
            assert after[way] - earlier > 100_000
        hang_up(doctor, patient)


@pytest.mark.long
@pytest.mark.parametrize("scene", ["closed"], indirect=True)
def test_behind_closed_firewalls_the_browsers_find_the_relay_by_themselves(scene: Scene) -> None:
    with scene.chromium_in(scene.lab.alice) as alice, scene.chromium_in(scene.lab.bob) as bob:
        doctor, patient = Participant(alice), Participant(bob)
        consult(scene, doctor, patient, seconds=3)
        kinds = {(figures["local"], figures["remote"]) for figures in (doctor.figures(), patient.figures())}
        assert all("relay" in pair for pair in kinds)
        assert doctor.text("connection-status") == "Über Vermittlungsserver verbunden"
        hang_up(doctor, patient)


@pytest.mark.parametrize("scene", ["routed"], indirect=True)
def test_where_the_networks_are_open_media_goes_directly_and_never_through_the_relay(scene: Scene) -> None:
    with scene.chromium_in(scene.lab.alice) as alice, scene.chromium_in(scene.lab.bob) as bob:
        doctor, patient = Participant(alice), Participant(bob)
        consult(scene, doctor, patient, seconds=10)
        for participant in (doctor, patient):
            figures = participant.figures()
            assert "relay" not in (figures["local"], figures["remote"])
            assert participant.text("connection-status") == "Direkt verbunden"
        hang_up(doctor, patient)


@pytest.mark.parametrize(
    ("scene", "wish"),
    [
        pytest.param("routed", {}, id="direct"),
        pytest.param("closed", {**PATHS["turn-udp"][0], "relayOnly": True}, id="turn-udp", marks=pytest.mark.long),
    ],
    indirect=["scene"],
)
def test_firefox_and_chromium_talk(scene: Scene, wish: dict[str, Any]) -> None:
    with scene.firefox_in(scene.lab.alice) as alice, scene.chromium_in(scene.lab.bob) as bob:
        doctor, patient = alice.participant(wish), Participant(bob, wish=wish)
        consult(scene, doctor, patient, seconds=10)
        is_relayed = patient.figures()["local"] == "relay"
        assert is_relayed == bool(wish)
        hang_up(doctor, patient)


@pytest.mark.long
@pytest.mark.parametrize("scene", ["routed"], indirect=True)
@pytest.mark.parametrize("role", ["organiser", "participant"])
def test_firefox_shows_the_partner_without_a_break_while_it_sends_smaller_pictures(scene: Scene, role: str) -> None:
    with scene.firefox_in(scene.lab.alice) as alice, scene.chromium_in(scene.lab.bob) as bob:
        fox, partner = alice.participant({}), Participant(bob)
        doctor, patient = (fox, partner) if role == "organiser" else (partner, fox)
        consult(scene, doctor, patient, seconds=2)
        decoded = [fox.figures()["framesDecoded"]]
        for bitrate in (800_000, 600_000, 400_000):
            fox.do(partial(send_with, bitrate))
            fox.await_growth("framesDecoded")
            decoded.append(fox.figures()["framesDecoded"])
        assert decoded == sorted(decoded), f"the picture of the partner began anew: {decoded}"
        assert (fox.complaints, partner.complaints) == ([], [])


def send_with(bitrate: int, page: Page) -> None:
    page.evaluate(SEND_WITH, bitrate)


# As the page does on a weak line.
SEND_WITH = """async (bitrate) => {
  const { sender } = window.__connections.at(-1).getTransceivers().find((each) => each.sender.track?.kind === "video");
  const parameters = sender.getParameters();
  for (const encoding of parameters.encodings) encoding.maxBitrate = bitrate;
  await sender.setParameters(parameters);
}"""
