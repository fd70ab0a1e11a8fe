"""The console blocks of deploy/RUNBOOK.md, run as they stand there: in folders of the test, and without systemd."""

import os
import re
import shlex
import shutil
import ssl
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from config.self_signed import issue_certificate
from tests.support.ports import free_port
from tests.support.postgres import postgres_programs, run_postgres
from tests.support.service import ROOT, Service, run_service

pytestmark = pytest.mark.long

RUNBOOK = (ROOT / "deploy" / "RUNBOOK.md").read_text()


def console(section: str, number: int = 0) -> list[tuple[str, str]]:
    """The commands of a console block of a section, each with what it prints there."""
    text = RUNBOOK.partition(f"\n### {section}\n")[2].partition("\n### ")[0]
    block = re.findall(r"```console\n(.*?)```", text, re.DOTALL)[number]
    commands = []
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        commands.append((command, printed))
    return commands


class Machine:
    """Folders of the test in place of those of a real installation."""

    def __init__(self, folder: Path) -> None:
        self.etc = folder / "etc"
        self.state = folder / "var"
        self.backups = folder / "backups"
        self.files = folder / "files"
        self.environment: dict[str, str] = {}
        for path in (self.etc / "tls", self.backups, self.files):
            path.mkdir(parents=True)
        self._places: Mapping[str, str] = {
            "/etc/redconnect/redconnect.yaml": str(folder / "redconnect.yaml"),
            "/etc/redconnect": str(self.etc),
            "/var/lib/redconnect": str(self.state),
            "/var/backups": str(self.backups),
            "-g redconnect-etc": "-g root",
        }

    def run(self, command: str) -> str:
        """Run a command of the runbook; returns what it prints. It must succeed."""
        for place, ours in self._places.items():
            command = command.replace(place, ours)
        words = shlex.split(command)
        if words[0] == "redconnect":
            words = [sys.executable, "-m", "config", *words[1:]]
            folder = ROOT
        else:
            folder = self.files
        done = subprocess.run(
            words,
            cwd=folder,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def settings(machine: Machine) -> dict[str, object]:
    return {
        "services": ["signaling"],
        "signaling": {"port": free_port(), "listen_addresses": ["127.0.0.1"]},
        "state_dir": str(machine.state),
    }


def planned(service: Service) -> list[str]:
    listed = service.command("appointment", "list")
    assert listed.returncode == 0, listed.stderr
    return listed.stdout.splitlines()


def test_a_backup_that_was_made_while_the_service_ran_brings_the_appointments_back(
    machine: Machine, tmp_path: Path
) -> None:
    with run_service(tmp_path, settings(machine)) as service:
        service.create_appointment()
        before = planned(service)
        for command, printed in console("Backup"):
            assert machine.run(command) == printed
        service.create_appointment()
        assert len(planned(service)) == 2
    (machine.state / "redconnect.sqlite3").write_text("the disk has lost it")
    stop, *restore, start, listing = [command for command, _printed in console("Restore")]
    assert (stop, start) == ("systemctl stop redconnect", "systemctl start redconnect")
    for command in restore:
        machine.run(command)
    with run_service(tmp_path, settings(machine)):
        assert machine.run(listing).splitlines() == before


def test_a_dump_of_postgresql_brings_the_appointments_back(machine: Machine, tmp_path: Path) -> None:
    with run_postgres() as url:
        server = urlsplit(url)
        machine.environment = {
            "PGHOST": str(server.hostname),
            "PGPORT": str(server.port),
            "PGUSER": str(server.username),
            "PGPASSWORD": str(server.password),
            "PATH": f"{postgres_programs()}:{os.environ['PATH']}",
        }
        machine.run("createdb redconnect")
        values = settings(machine) | {"database_url": f"{url}redconnect"}
        with run_service(tmp_path, values) as service:
            service.create_appointment()
            before = planned(service)
            for command, printed in console("Backup", 1):
                assert machine.run(command) == printed
            service.create_appointment()
        machine.run("dropdb redconnect")
        machine.run("createdb redconnect")
        for command, printed in console("Restore", 1):
            assert machine.run(command) == printed
        with run_service(tmp_path, values) as service:
            assert planned(service) == before


def test_a_certificate_that_is_exchanged_is_served_at_once_and_the_moment_between_changes_nothing(
    machine: Machine, tmp_path: Path
) -> None:
    old, new = (tmp_path / name for name in ("old", "new"))
    for folder in (old, new):
        folder.mkdir()
        write_pair(folder)
    shutil.copy(old / "fullchain.pem", machine.etc / "tls")
    shutil.copy(old / "privkey.pem", machine.etc / "tls")
    for path in new.iterdir():
        shutil.copy(path, machine.files / f"new-{path.name}")
    tls = machine.etc / "tls"
    files = {"certificate_file": str(tls / "fullchain.pem"), "key_file": str(tls / "privkey.pem")}
    values = settings(machine) | {"tls": files}
    values["signaling"] = {"port": free_port(), "listen_addresses": ["127.0.0.1"], "https": True}
    with run_service(tmp_path, values) as service:
        port = service.settings["signaling"]["port"]
        assert served(port) == (old / "fullchain.pem").read_text()
        first, *others = [command for command, _printed in console("Certificate exchange")]
        machine.run(first)
        assert served(port) == (old / "fullchain.pem").read_text()
        for command in others:
            machine.run(command)
        service.await_that(lambda: served(port) == (new / "fullchain.pem").read_text())
        assert service.metrics()['redconnect_certificate_reloads_total{result="success"}'] == 1


def write_pair(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "privkey.pem").write_bytes(key)
    (folder / "fullchain.pem").write_bytes(
        issue_certificate(key, ["localhost"], datetime.now(UTC) - timedelta(hours=1))
    )


def served(port: int) -> str:
    """The certificate that a client is shown."""
    return ssl.get_server_certificate(("127.0.0.1", port), timeout=10)
