"""deploy/nftables/redconnect.nft in front of the running service: what is to come in does, and nothing else."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from stun.address import TransportAddress
from stun.registry import Method
from tests.support.lab import Lab, open_lab
from tests.support.service import ROOT, Service, run_service
from tests.support.wire_client import REALM, SECRET, Peer, Server

RULES = ROOT / "deploy" / "nftables" / "redconnect.nft"
PORTS = {"udp": 3478, "tcp": 3478, "tls": 5349}  # the defaults, which the rules name
REFUSED_AFTER_SECONDS = 2.0  # what is dropped is never answered: somebody has to give up


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with open_lab() as made:
        yield made


@pytest.fixture(scope="module")
def service(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = {
        "services": ["relay", "signaling"],
        "secrets": {"turn_secret": SECRET},
        "admin": {"address": "0.0.0.0", "port": 9641},  # noqa: S104  # as somebody may set it: the firewall keeps it in
        "relay": {
            "realm": REALM,
            "listen_addresses": [lab.server_ip],
            "relay_addresses": [lab.server_ip],
            "peers": {"allow": ["10.91.0.0/16"]},
        },
    }
    with run_service(tmp_path_factory.mktemp("service"), settings, namespace=lab.server) as running:
        loaded = lab.run(lab.server, "nft", "-f", str(RULES))
        assert loaded.returncode == 0, loaded.stderr
        yield running


@pytest.mark.parametrize("transport", PORTS)
def test_media_are_relayed_both_ways_over_every_transport(lab: Lab, service: Service, transport: str) -> None:
    with lab.inside(lab.alice):
        client = Server(service, PORTS).client(transport, lab.server_ip)
    with lab.inside(lab.bob):
        peer = Peer(lab.bob_ip)
    with contextlib.closing(client), contextlib.closing(peer):
        relayed: TransportAddress = client.relayed()
        assert client.permit(peer.address).code == 0
        client.send_to(peer.address, b"there")
        assert peer.receive()[0] == b"there"
        peer.send(b"back", relayed)
        assert client.receive_indication().method == Method.DATA


def test_the_pages_are_open_and_the_admin_port_is_not(lab: Lab, service: Service) -> None:
    assert '"ready": true' in service.admin("/readyz")
    with lab.inside(lab.alice):
        with socket.create_connection((lab.server_ip, 8080), timeout=10):
            pass
        with pytest.raises(TimeoutError):
            socket.create_connection((lab.server_ip, 9641), timeout=REFUSED_AFTER_SECONDS)


def test_media_fill_no_table_of_tracked_flows(lab: Lab, service: Service) -> None:
    with lab.inside(lab.alice):
        client = Server(service, PORTS).client("udp", lab.server_ip)
    with contextlib.closing(client):
        assert client.allocate().code == 0
        tracked = lab.run(lab.server, "cat", "/proc/net/nf_conntrack").stdout.splitlines()
        assert [line for line in tracked if " udp " in line] == []
