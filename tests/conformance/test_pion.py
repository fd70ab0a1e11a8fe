"""pion's TURN client, written by others, through the running relay."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.support.ports import free_port
from tests.support.samples import sample_sum
from tests.support.service import Service, run_service

SOURCE: Final = Path(__file__).parent / "pion" / "client.go"
COUNT: Final = 200
SECONDS: Final = 60.0  # that a client may take


class Relay(NamedTuple):
    """A running relay and where it listens."""

    service: Service
    ports: dict[str, int]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, compiled from Debian's packages alone."""
    folder = tmp_path_factory.mktemp("pion")
    settings = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOCACHE": str(folder / "cache"), "GOFLAGS": ""}
    words = ["go", "build", "-o", str(folder / "client"), str(SOURCE)]
    subprocess.run(words, env=os.environ | settings | {"CGO_ENABLED": "0"}, check=True)
    return folder / "client"


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    ports = {transport: free_port() for transport in ("udp", "tcp", "tls")}
    settings = {
        "services": ["relay"],
        "relay": {
            "realm": "pion",
            "listen_addresses": ["127.0.0.1"],
            "relay_addresses": ["127.0.0.1"],
            **{f"{transport}_ports": [port] for transport, port in ports.items()},
            "users": {"alice": "secret"},
            "peers": {"allow": ["127.0.0.1/32"]},
        },
    }
    with run_service(tmp_path_factory.mktemp("service"), settings) as service:
        yield Relay(service, ports)


def run(client: Path, relay: Relay, transport: str, password: str = "secret") -> subprocess.CompletedProcess[str]:
    server = f"127.0.0.1:{relay.ports[transport]}"
    words = [str(client), transport, server, "alice", password, "pion", str(COUNT)]
    return subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
def test_everything_that_pion_sends_through_the_relay_comes_back(client: Path, relay: Relay, transport: str) -> None:
    ended = run(client, relay, transport)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f"echoed {COUNT}\n" in ended.stdout


def test_pion_binds_channels(client: Path, relay: Relay) -> None:
    def bound() -> float:
        name = "redconnect_relay_requests_answered_total"
        return sample_sum(relay.service, name, method="channel_bind")

    before = bound()
    run(client, relay, "udp")
    assert bound() > before


def test_pion_with_a_wrong_password_gets_no_allocation(client: Path, relay: Relay) -> None:
    ended = run(client, relay, "udp", password="wrong")
    assert ended.returncode == 1
    assert "401" in ended.stderr
    assert "relayed" not in ended.stdout
