"""Consultations whose packets the kernel relays: Chromium binds channels, Firefox sends indications only."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Playwright

from tests.support.browser import Participant
from tests.support.scene import Scene, consult, hang_up, open_scene
from tests.support.service import Service

pytestmark = pytest.mark.long

RELAYED = {"scheme": "turn:", "suffix": "transport=udp", "relayOnly": True}
SECONDS = 10
WAYS = ("to_peer", "to_client")


@pytest.fixture(scope="module")
def scene(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Clients that reach the server only, over links on which checksums are complete, as on a wire."""
    with open_scene(playwright, tmp_path_factory.mktemp("scene"), routed=False, datapath="kernel") as scene:
        for namespace, device in ((scene.lab.alice, f"{scene.lab.alice}0"), (scene.lab.bob, f"{scene.lab.bob}0")):
            assert scene.lab.run(namespace, "ethtool", "-K", device, "tx", "off").returncode == 0
        yield scene


def packets(service: Service, datapath: str) -> dict[str, float]:
    """What was relayed so far on one path, by the direction."""
    metrics, name = service.metrics(), "redconnect_relay_datapath_packets_total"
    return {way: metrics[f'{name}{{datapath="{datapath}",direction="{way}"}}'] for way in WAYS}


def reasons(service: Service) -> str:
    """Why packets came up to user space."""
    lines = service.admin("/metrics").splitlines()
    return "; ".join(line for line in lines if line.startswith("redconnect_relay_kernel_"))


def judge(scene: Scene, doctor: Participant, patient: Participant) -> None:
    """Talk, and see that most of it went through the kernel, in both directions."""
    before = {path: packets(scene.service, path) for path in ("kernel", "plain")}
    consult(scene, doctor, patient, SECONDS)
    after = {path: packets(scene.service, path) for path in ("kernel", "plain")}
    for participant in (doctor, patient):
        figures = participant.figures()
        assert (figures["local"], figures["remote"], figures["relayProtocol"]) == ("relay", "relay", "udp")
    for way in WAYS:
        by_kernel = after["kernel"][way] - before["kernel"][way]
        by_plain = after["plain"][way] - before["plain"][way]
        assert by_kernel > 100
        assert by_kernel > by_plain, reasons(scene.service)
    hang_up(doctor, patient)
    scene.service.await_that(lambda: scene.service.metrics()["redconnect_relay_kernel_flows"] == 0)


def test_two_chromiums_talk_over_channels_in_the_kernel(scene: Scene) -> None:
    with scene.chromium_in(scene.lab.alice) as alice, scene.chromium_in(scene.lab.bob) as bob:
        judge(scene, Participant(alice, wish=RELAYED), Participant(bob, wish=RELAYED))


def test_firefox_talks_over_indications_in_the_kernel(scene: Scene) -> None:
    with scene.firefox_in(scene.lab.alice) as alice, scene.chromium_in(scene.lab.bob) as bob:
        judge(scene, alice.participant(RELAYED), Participant(bob, wish=RELAYED))
