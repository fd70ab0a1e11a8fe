"""Who relays, as an operator sees it: chosen at the start, told by log, metrics, status and doctor."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.kernel_rig import IPV4, NUMBER, WARMING, open_wire
from tests.support.lab import Lab
from tests.support.service import Service, run_service
from tests.support.turn_client import TurnClient
from tests.support.wire import UdpWire
from tests.support.wire_client import Peer, WireClient

pytestmark = [pytest.mark.long, pytest.mark.skipif(os.geteuid() != 0, reason="builds network namespaces")]

PORT = 3478
KERNEL = 'redconnect_relay_datapath_packets_total{datapath="kernel",direction="%s"}'
PLAIN = 'redconnect_relay_datapath_packets_total{datapath="plain",direction="%s"}'


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with open_wire() as lab:
        yield lab


def settings(**relay: Any) -> dict[str, Any]:  # noqa: ANN401  # whatever the settings take
    return {
        "services": ["relay"],
        "relay": {
            "datapath": "auto",
            "listen_addresses": [IPV4.server],
            "relay_addresses": [IPV4.relay],
            "users": {"user": "password of the user"},
            "peers": {"allow": [f"{IPV4.peer}/32"]},
            **relay,
        },
    }


class Talk:
    """A client at alice's that is bound to a peer at bob's."""

    def __init__(self, lab: Lab) -> None:
        with lab.inside(lab.bob):
            self.peer = Peer(IPV4.peer)
        with lab.inside(lab.alice):
            self.client = WireClient(UdpWire((IPV4.server, PORT)), TurnClient("user", "password of the user"))
        self.relayed = self.client.relayed()
        assert self.client.bind(NUMBER, self.peer.address).code == 0

    def exchange(self, count: int) -> None:
        """Send so many packets each way, one after the other, and see them arrive."""
        for number in range(count):
            self.client.send_through(NUMBER, b"there %d" % number)
            data, sender = self.peer.receive()
            assert (data, sender) == (b"there %d" % number, self.relayed)
            self.peer.send(b"back %d" % number, self.relayed)
            assert self.client.receive_channel_data() == (NUMBER, b"back %d" % number)

    def close(self) -> None:
        self.client.close()
        self.peer.close()


def test_auto_takes_the_kernel_and_log_metrics_status_and_doctor_tell(lab: Lab, tmp_path: Path) -> None:
    with run_service(tmp_path, settings(), lab.server) as service:
        logged = service.log.read_text()
        assert "the kernel relays busy flows of UDP clients (TCX on " in logged
        assert lab.alice_link in logged and lab.bob_link in logged
        talk = Talk(lab)
        talk.exchange(2 * WARMING)
        metrics = service.metrics()
        for way in ("to_peer", "to_client"):
            assert metrics[KERNEL % way] >= WARMING, "busy flows were not left to the kernel"
            assert metrics[KERNEL % way] + metrics[PLAIN % way] == 2 * WARMING, "a packet counts on one path"
        assert metrics['redconnect_relay_packets_total{direction="to_peer",transport="udp"}'] == 2 * WARMING
        assert metrics["redconnect_relay_kernel_active"] == 1
        assert metrics["redconnect_relay_kernel_flows"] == 2
        assert "datapath     kernel, which relays 2 flows" in service.command("ctl", "status").stdout
        assert "the kernel relays busy flows" in finding(service)["found"]
        talk.close()
        service.await_that(lambda: service.metrics()["redconnect_relay_kernel_flows"] == 0)
        assert service.metrics()[KERNEL % "to_peer"] == metrics[KERNEL % "to_peer"]


def finding(service: Service) -> dict[str, str]:
    """What the doctor says of the datapath."""
    report = json.loads(service.command("doctor", "--json").stdout)
    (found,) = [each for each in report["findings"] if each["check"] == "datapath"]
    return dict(found)


@pytest.mark.long
def test_plain_leaves_the_kernel_alone(lab: Lab, tmp_path: Path) -> None:
    with run_service(tmp_path, settings(datapath="plain"), lab.server) as service:
        assert "user space relays, as relay.datapath says" in service.log.read_text()
        talk = Talk(lab)
        talk.exchange(WARMING)
        metrics = service.metrics()
        assert metrics[PLAIN % "to_peer"] == WARMING
        assert metrics["redconnect_relay_kernel_active"] == metrics[KERNEL % "to_peer"] == 0
        assert "datapath     plain" in service.command("ctl", "status").stdout
        talk.close()


def test_a_killed_process_relays_nothing_any_more(lab: Lab, tmp_path: Path) -> None:
    with run_service(tmp_path, settings(), lab.server) as service:
        talk = Talk(lab)
        talk.exchange(WARMING)
        assert service.metrics()["redconnect_relay_kernel_flows"] == 2
        service.process.kill()
        service.process.wait()
        # Packets come up to a machine on which nobody listens: it says so, by ICMP.
        talk.client.send_through(NUMBER, b"nobody hears it")
        with pytest.raises(ConnectionRefusedError):
            talk.client.wire.receive()
        assert talk.peer.has_heard_nothing()
        talk.peer.close()
        talk.client.wire.close()


@pytest.mark.long
def test_workers_that_share_the_ports_have_a_program_each(lab: Lab, tmp_path: Path) -> None:
    with run_service(tmp_path, settings(workers=2), lab.server) as service:
        assert service.metrics()["redconnect_relay_kernel_active"] == 2
        talks = [Talk(lab) for _ in range(8)]  # two workers get them by chance: all at one is one case in 128
        for talk in talks:
            talk.exchange(WARMING)
            talk.exchange(1)
        metrics = service.metrics()
        assert metrics["redconnect_relay_kernel_flows"] == 2 * len(talks)
        total = metrics[KERNEL % "to_peer"] + metrics[PLAIN % "to_peer"]
        assert total == len(talks) * (WARMING + 1)
        for talk in talks:
            talk.close()


def test_on_loopback_auto_goes_on_in_user_space_and_kernel_does_not_start(lab: Lab, tmp_path: Path) -> None:
    alone = {"listen_addresses": ["127.0.0.1"], "relay_addresses": ["127.0.0.1"]}
    reason = "no Ethernet interface has an address of the relay"
    with run_service(tmp_path, settings(**alone), lab.server) as service:
        assert f"user space relays; the kernel cannot: {reason}" in service.log.read_text()
        assert finding(service)["verdict"] == "ok"
    refused = tmp_path / "refused"
    refused.mkdir()
    with (
        pytest.raises(RuntimeError, match="the service ended at its start") as ended,
        run_service(refused, settings(**alone, datapath="kernel"), lab.server),
    ):
        pass
    assert f"relay.datapath is kernel, which cannot be had: {reason}" in str(ended.value)
    assert "Traceback" not in str(ended.value)


@pytest.mark.long
def test_a_reload_follows_the_interfaces(lab: Lab, tmp_path: Path) -> None:
    everywhere = settings(listen_addresses=[])
    with run_service(tmp_path, everywhere, lab.server) as service:
        talk = Talk(lab)
        talk.exchange(WARMING)
        assert "datapath" not in service.reload()
        veth = ("type", "veth", "peer", "name", "later1")
        assert lab.run(lab.server, "ip", "link", "add", "later0", *veth).returncode == 0
        assert lab.run(lab.server, "ip", "addr", "add", "10.91.77.1/24", "dev", "later0").returncode == 0
        try:
            assert "the kernel relays busy flows of UDP clients on" in (logged := service.reload())
            assert "later0" in logged
            talk.exchange(WARMING)
            metrics = service.metrics()
            assert metrics["redconnect_relay_kernel_flows"] == 2
            assert metrics[KERNEL % "to_peer"] + metrics[PLAIN % "to_peer"] == 2 * WARMING
        finally:
            assert lab.run(lab.server, "ip", "link", "delete", "later0").returncode == 0
        assert "datapath" in service.reload({"relay": {"datapath": "plain"}})
        assert service.metrics()["redconnect_relay_kernel_active"] == 1, "it needs a restart"
        talk.close()
