"""`redconnect check` against a TURN server that is not ours: Debian's coturn, by password and by shared secret."""

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.firewall_lab import HOST, Authority, FirewallLab, open_firewall_lab

pytestmark = pytest.mark.long

SECRET: Final = "a shared secret of thirty-two bytes, or more"
START_SECONDS: Final = 20.0
PORT, TLS_PORT = 3478, 5349
OTHER_PORT, OTHER_TLS_PORT = 3480, 5351  # of the second server
PORTS: Final = ("--udp-ports", "3478", "--tcp-ports", "3478", "--tls-ports", "5349", "--no-ipv6")
ALICE: Final = ("--user", "alice", "--password", "secret")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FirewallLab]:
    with open_firewall_lab(tmp_path_factory.mktemp("coturn")) as opened:
        yield opened


@contextlib.contextmanager
def coturn(lab: FirewallLab, port: int, tls_port: int, *words: str) -> Iterator[None]:
    """coturn on the lab's server."""
    certificate_file, key_file = lab.authority.issue(HOST)
    command = ["turnserver", "-n", "--realm=example.org", "-L", lab.lab.bob_ip, "-E", lab.lab.bob_ip, "--no-cli"]
    command += [f"--listening-port={port}", f"--tls-listening-port={tls_port}", "--no-rfc5780", "--no-dtls"]
    command += ["--min-port=49152", "--max-port=65535"]
    command += [f"--cert={certificate_file}", f"--pkey={key_file}", "--log-file=stdout", "--pidfile=/dev/null"]
    command += ["--userdb=/nonexistent", *words]
    log = lab.folder / f"coturn-{port}.log"
    with log.open("wb") as stream:
        server = subprocess.Popen(lab.lab.command(lab.server, *command), stdout=stream, stderr=stream)
    try:
        _await_listening(lab, server, tls_port, log)
        yield
    finally:
        server.terminate()
        server.wait(timeout=20)


def _await_listening(lab: FirewallLab, server: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with lab.lab.inside(lab.client):
            probe = socket.socket()
        with probe:
            probe.settimeout(1.0)
            with contextlib.suppress(OSError):
                probe.connect((lab.lab.bob_ip, port))
                return
        assert server.poll() is None and time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.05)


@pytest.fixture(scope="module")
def by_password(lab: FirewallLab) -> Iterator[None]:
    with coturn(lab, PORT, TLS_PORT, "-a", "-u", "alice:secret"):
        yield


@pytest.mark.usefixtures("by_password")
def test_every_port_of_coturn_is_open_and_relays(lab: FirewallLab) -> None:
    checked = lab.check(*ALICE, *PORTS)
    assert checked.is_all_open, checked.report
    assert checked.verdicts() == dict.fromkeys(("udp 3478", "tcp 3478", "tls 5349"), "open")
    assert checked.report["credentials"] == "given"
    for row in checked.report["rows"]:
        assert row["allocate"]["outcome"] == "ok"
        assert row["echo"]["way"] == "relayed" and row["echo"]["received"] > 0


@pytest.mark.usefixtures("by_password")
def test_a_wrong_password_is_a_matter_of_the_server_and_not_of_the_firewall(lab: FirewallLab) -> None:
    checked = lab.check("--user", "alice", "--password", "wrong", *PORTS)
    assert (checked.status, checked.verdict) == (3, "rejected")
    assert checked.row("udp", 3478)["allocate"]["code"] == 401
    assert checked.report["missing_rules"] == []


@pytest.mark.usefixtures("by_password")
def test_a_closed_port_of_coturn_is_found(lab: FirewallLab) -> None:
    with lab.firewall("udp dport 3478 drop"):
        checked = lab.check(*ALICE, *PORTS)
    assert (checked.status, checked.verdict) == (1, "only_tcp")
    assert checked.verdicts()["udp 3478"] == "blocked"


@pytest.mark.usefixtures("by_password")
def test_a_certificate_of_an_authority_that_is_not_trusted_is_told(lab: FirewallLab) -> None:
    trusted, lab.authority = lab.authority, Authority("Somebody Else", lab.folder)
    try:
        checked = lab.check(*ALICE, *PORTS, "--udp-ports", "", "--tcp-ports", "")
    finally:
        lab.authority = trusted
    assert (checked.status, checked.verdict) == (3, "only_untrusted")
    tls = checked.row("tls", 5349)["tls"]
    assert (tls["chain"], tls["issuer"], tls["is_own"]) == ("untrusted", trusted.name, None)


def test_a_shared_secret_opens_coturn_as_it_opens_ours(lab: FirewallLab, tmp_path: Path) -> None:
    secret_file = tmp_path / "secret"
    secret_file.write_text(f"{SECRET}\n")
    secret_file.chmod(0o600)
    ports = ("--udp-ports", str(OTHER_PORT), "--tcp-ports", str(OTHER_PORT), "--tls-ports", str(OTHER_TLS_PORT))
    with coturn(lab, OTHER_PORT, OTHER_TLS_PORT, "--use-auth-secret", f"--static-auth-secret={SECRET}"):
        checked = lab.check("--secret-file", str(secret_file), "--no-ipv6", *ports)
    assert checked.is_all_open, checked.report
    assert checked.row("tcp", OTHER_PORT)["echo"]["received"] > 0
