"""`redconnect doctor` beside a running service, and where something is in the way."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.ports import free_port
from tests.support.service import ROOT
from tests.support.wire_client import run_relay

pytestmark = pytest.mark.long

HOST = "127.0.0.1"


def examine(config: Path) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """The exit status, and the findings by their check."""
    ended = subprocess.run(
        [sys.executable, "-m", "config", "doctor", "--json", "--config", str(config)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.stderr == ""
    found: dict[str, list[dict[str, str]]] = {}
    for finding in json.loads(ended.stdout)["findings"]:
        found.setdefault(finding["check"], []).append(finding)
    return ended.returncode, found


def write(folder: Path, **settings: Any) -> Path:  # noqa: ANN401
    config = folder / "redconnect.yaml"
    config.write_text(json.dumps({"state_dir": "var", "admin": {"port": free_port()}, **settings}))
    return config


def verdicts(found: dict[str, list[dict[str, str]]], check: str) -> list[str]:
    return [finding["verdict"] for finding in found[check]]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_running_service_is_found_with_its_ports_and_answers_a_binding_of_our_own(
    tmp_path: Path, workers: int
) -> None:
    with run_relay(
        tmp_path, services=("relay", "signaling"), signaling={"port": free_port()}, workers=workers
    ) as relay:
        status, found = examine(relay.service.config)
        children = Path(f"/proc/{relay.service.pid}/task/{relay.service.pid}/children").read_text().split()
        said = f"it runs in {1 + len(children)} processes, and is ready"
        assert [finding["found"] for finding in found["service"]] == [said]
        assert verdicts(found, "ports") == ["ok"]
        assert "bound by the service" in found["ports"][0]["found"]
        assert "does not answer" not in found["address"][0]["found"]
        assert verdicts(found, "database") == ["ok"]
        assert verdicts(found, "state_dir") == ["ok"]
        assert verdicts(found, "certificate") == ["ok", "warning"]  # self-signed
        assert status == 1


def test_what_readiness_does_not_find_well_is_a_fault(tmp_path: Path) -> None:
    with (
        run_relay(tmp_path, port_min=51_800, port_max=51_801, quota={"total_share_percent": 50}) as relay,
        contextlib.closing(relay.client()) as client,
    ):
        assert client.allocate().code == 0
        status, found = examine(relay.service.config)
        assert status == 3
        assert "it is not ready: ports, every relayed port is taken" in [each["found"] for each in found["service"]]
        assert client.refresh(0).code == 0


def test_a_service_that_hangs_is_a_fault(tmp_path: Path) -> None:
    with run_relay(tmp_path) as relay:
        os.kill(relay.service.pid, signal.SIGSTOP)
        try:
            status, found = examine(relay.service.config)
        finally:
            os.kill(relay.service.pid, signal.SIGCONT)
        assert status == 3
        assert [each["found"] for each in found["service"]] == ["the service does not answer within 10 s"]
        assert set(verdicts(found, "ports")) == {"warning"}


def test_a_port_of_somebody_else_is_a_fault_with_its_name(tmp_path: Path) -> None:
    port = free_port()
    own = {"listen_addresses": [HOST], "relay_addresses": [HOST]}
    relay = {**own, "udp_ports": [port], "tcp_ports": [], "tls_ports": []}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rival:
        rival.bind((HOST, port))
        status, found = examine(write(tmp_path, services=["relay"], relay=relay))
    assert status == 3
    (finding,) = found["ports"]
    assert finding["verdict"] == "fault" and f"(PID {os.getpid()})" in finding["found"]
    assert verdicts(found, "service") == ["warning"]
    assert not (tmp_path / "var").exists()  # looking has made nothing


def test_an_address_that_is_not_ours_is_a_fault(tmp_path: Path) -> None:
    relay = {"relay_addresses": ["203.0.113.9"], "external_addresses": {"203.0.113.9": "198.41.0.4"}}
    status, found = examine(write(tmp_path, services=["relay"], relay=relay))
    assert status == 3
    assert verdicts(found, "address") == ["fault", "fault"]


def test_wrong_settings_are_wrong_use(tmp_path: Path) -> None:
    config = write(tmp_path, typo=1)
    ended = subprocess.run(
        [sys.executable, "-m", "config", "doctor", "--config", str(config)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stderr.partition(":")[0]) == (2, "typo")
