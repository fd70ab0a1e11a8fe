"""The service as an operator meets it: first start, second start, mistakes, and a clean end under load."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.browser import Participant
from tests.support.ports import free_port
from tests.support.service import ROOT, run_service


def on_free_ports() -> dict[str, object]:
    port = free_port()
    return {
        "signaling": {"port": port, "public_url": f"http://localhost:{port}"},
        "relay": {"udp_ports": [free_port()], "tcp_ports": [free_port()], "tls_ports": [free_port()]},
    }


def test_the_first_start_makes_private_secrets_and_the_second_keeps_them(tmp_path: Path) -> None:
    settings = on_free_ports()
    state = tmp_path / "var"
    with run_service(tmp_path, settings):
        passing = ("redconnect.", "ctl.")  # the database, and what belongs to a service while it runs
        first = {path.name: path.read_bytes() for path in state.iterdir() if not path.name.startswith(passing)}
    assert set(first) == {"turn-secret", "locator-key", "certificate.pem", "private-key.pem"}
    with run_service(tmp_path, settings):
        modes = {path.name: path.stat().st_mode & 0o777 for path in state.iterdir()}
    assert state.stat().st_mode & 0o777 == 0o700
    assert set(modes.values()) == {0o600}
    assert {name: (state / name).read_bytes() for name in first} == first


@pytest.mark.long
def test_sigterm_ends_a_service_with_a_running_consultation_within_five_seconds(
    invite: Callable[..., Participant], tmp_path: Path
) -> None:
    with run_service(tmp_path, on_free_ports()) as service:
        codes = service.create_appointment()
        doctor = invite(wish={"relayOnly": True})
        patient = invite(wish={"relayOnly": True})
        doctor.open(codes.organiser_link)
        doctor.join("Dr. Anna Beispiel")
        patient.open(codes.participant_link)
        patient.join("Petra Muster")
        for participant in (doctor, patient):
            participant.await_connected()
        logged = service.stop()
        for participant in (doctor, patient):
            participant.close()
            participant.complaints.clear()  # the browser names every attempt to reach a service that is not there
    assert "shutdown" in logged
    for secret in (codes.organiser, codes.participant, "Anna Beispiel", "Petra Muster", "127.0.0.1:"):
        assert secret not in logged


@pytest.mark.long
@pytest.mark.parametrize(
    ("shared", "told"),
    [("relay", "cannot listen on UDP"), ("signaling", r"cannot listen on TCP port \d+ for the pages: Address already")],
)
def test_a_taken_port_is_told_in_one_line(tmp_path: Path, shared: str, told: str) -> None:
    settings = on_free_ports()
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with (
        run_service(tmp_path / "one", settings),
        pytest.raises(RuntimeError, match=f"cannot start: .*{told}") as refused,
        run_service(tmp_path / "two", {**on_free_ports(), shared: settings[shared]}),
    ):
        pass
    assert sum(" error " in line for line in str(refused.value).splitlines()) == 1
    assert "Traceback" not in str(refused.value)


def test_every_mistake_of_a_wrong_file_is_told_at_once_with_exit_status_2(tmp_path: Path) -> None:
    config = tmp_path / "wrong.yaml"
    config.write_text("relay: {relm: x, port_min: 70000}\nsignaling: {port: eighty}\n")
    result = subprocess.run(
        [sys.executable, "-m", "config", "serve", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=30,
        cwd=ROOT,
        env={**os.environ, "REDCONNECT_LOG__LEVEL": "loud"},
        check=False,
    )
    assert result.returncode == 2
    lines = result.stderr.splitlines()
    assert len(lines) == 4
    for key in ("relay.relm", "relay.port_min", "signaling.port", "REDCONNECT_LOG__LEVEL"):
        assert sum(key in line for line in lines) == 1, result.stderr
