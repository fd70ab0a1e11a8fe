"""coturn's own client against the running service, across namespaces: nothing lost, nobody in who should not be.

`turnutils_uclient` ends with status 0 even when everything was lost, so its output is what counts.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from stun.credentials import issue_credential
from tests.support.lab import Lab, open_lab
from tests.support.service import Service, run_service

PEER_PORT = "3480"
LOAD = ["-n", "8", "-m", "2", "-l", "170"]
TRANSPORTS = {"udp": [], "tcp": ["-t"], "tls": ["-t", "-S"]}
FRAMINGS = {
    "channels-with-even-port-and-reservation": [],
    "channels": ["-c"],
    "indications": ["-c", "-s"],
}


class Range:
    """A lab with the service in the middle and coturn's echo peer behind it."""

    def __init__(self, lab: Lab, service: Service) -> None:
        self.lab = lab
        self.service = service

    def uclient(self, *options: str, user: str = "alice", password: str = "secret", peer: str = "") -> str:
        """Run the client in alice's namespace and return all that it printed."""
        port = "5349" if "-S" in options else "3478"
        words = ["turnutils_uclient", "-p", port, "-u", user, "-w", password, *LOAD, *options]
        if "-y" not in options:
            words += ["-e", peer or self.lab.bob_ip, "-r", PEER_PORT]
        result = self.lab.run(self.lab.alice, *words, self.lab.server_ip, timeout=90)
        return result.stdout + result.stderr


@pytest.fixture(scope="module")
def shooting_range(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Range]:
    with open_lab() as lab:
        settings = {
            "services": ["relay"],
            "relay": {
                "realm": "example.org",
                "users": {"alice": "secret"},
                "relay_addresses": [lab.server_ip_for_bob, lab.server_ipv6],
                "peers": {"allow": [f"{lab.bob_ip}/32", f"{lab.bob_ipv6}/128"]},
            },
        }
        with run_service(tmp_path_factory.mktemp("turnutils"), settings, lab.server) as service:
            words = lab.command(lab.bob, "turnutils_peer", "-p", PEER_PORT, "-L", lab.bob_ip, "-L", lab.bob_ipv6)
            peer = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                yield Range(lab, service)
            finally:
                peer.terminate()
                peer.wait(timeout=10)


def assert_nothing_lost(printed: str) -> None:
    sent = re.findall(r"tot_send_bytes ~ (\d+), tot_recv_bytes ~ (\d+)", printed)
    assert sent, printed[-1500:]
    assert sent[-1][0] == sent[-1][1] != "0", printed[-1500:]
    assert re.search(r"Total lost packets 0 \(", printed), printed[-1500:]


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_every_packet_comes_back(shooting_range: Range, transport: str, framing: str) -> None:
    assert_nothing_lost(shooting_range.uclient("-X", *TRANSPORTS[transport], *FRAMINGS[framing]))


@pytest.mark.parametrize("framing", ["channels", "indications"])
def test_every_packet_comes_back_over_an_ipv6_relay(shooting_range: Range, framing: str) -> None:
    peer = shooting_range.lab.bob_ipv6
    assert_nothing_lost(shooting_range.uclient("-x", *FRAMINGS[framing], peer=peer))


def test_two_relayed_clients_reach_each_other(shooting_range: Range) -> None:
    assert_nothing_lost(shooting_range.uclient("-X", "-y", "-c"))


def test_time_limited_credentials_of_the_command_line_work(shooting_range: Range) -> None:
    result = shooting_range.service.command("credential", "--ttl-seconds", "600")
    user = re.search(r"user name +(\S+)", result.stdout)
    password = re.search(r"password +(\S+)", result.stdout)
    assert user and password, result.stdout + result.stderr
    assert_nothing_lost(shooting_range.uclient("-X", "-c", user=user[1], password=password[1]))


def test_a_wrong_password_is_refused(shooting_range: Range) -> None:
    assert_refused(shooting_range, shooting_range.uclient("-X", "-c", password="wrong"), cause="wrong_password")


def test_an_expired_user_name_is_refused(shooting_range: Range) -> None:
    secret = (Path(shooting_range.service.config).parent / "var" / "turn-secret").read_bytes().strip()
    expired = issue_credential(secret, 1_700_000_000, "somebody")
    printed = shooting_range.uclient("-X", "-c", user=expired.username, password=expired.password)
    assert_refused(shooting_range, printed, cause="expired")


def assert_refused(shooting_range: Range, printed: str, cause: str) -> None:
    assert "tot_send_bytes" not in printed
    assert re.search(r"error 401|Cannot complete Allocation", printed), printed[-1500:]
    name = f'redconnect_relay_requests_refused_total{{cause="{cause}",code="401",method="allocate"}}'
    assert shooting_range.service.metrics()[name] >= 1


def test_the_metrics_count_what_the_client_sent(shooting_range: Range) -> None:
    name = 'redconnect_relay_payload_bytes_total{direction="to_peer",transport="tls"}'
    before = shooting_range.service.metrics()[name]
    printed = shooting_range.uclient("-X", "-c", "-t", "-S")
    sent = int(re.findall(r"tot_send_bytes ~ (\d+)", printed)[-1])
    assert shooting_range.service.metrics()[name] - before == sent
