"""An organisation makes its appointments by the command line and the API of a running service."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from signaling.codes import AccessCode
from tests.support.ports import free_port
from tests.support.postgres import run_postgres
from tests.support.service import ROOT, Service, run_service


def redconnect(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command where nothing of the service can be found: no settings, no state."""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "config", *words],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        env=environ,
        check=False,
    )


class Office:
    """A computer of the organisation, with its token in a file."""

    def __init__(self, folder: Path, service: Service, token: str) -> None:
        self.folder = folder / "office"
        self.folder.mkdir()
        self.url = f"http://127.0.0.1:{service.settings['signaling']['port']}"
        token_file = self.folder / "token"
        token_file.touch(mode=0o600)
        token_file.write_text(token)

    def __call__(self, *words: str) -> subprocess.CompletedProcess[str]:
        return redconnect(self.folder, "appointment", *words, "--server", self.url, "--token-file", "token")

    def read(self, *words: str) -> Any:  # noqa: ANN401 - JSON
        done = self(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    if request.param == "sqlite":
        yield {}
        return
    with run_postgres() as url:
        yield {"database_url": f"{url}postgres"}


def test_an_organisation_makes_moves_and_cancels_its_appointments(tmp_path: Path, database: dict[str, str]) -> None:
    drawn = redconnect(tmp_path, "organisation", "token", "practice", "--tier", "plus").stdout
    token, digest = drawn.split()[1], drawn.partition('["')[2][:64]
    settings = {"services": ["signaling"], "signaling": {"port": free_port()}, **database}
    with run_service(tmp_path, settings) as service:
        office = Office(tmp_path, service, token)
        refused = office("list")
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr == "redconnect: refused: send Authorization: Bearer and a valid token\n"
        service.reload({"signaling": {"organisations": {"practice": {"tokens_sha256": [digest], "tier": "plus"}}}})

        made = office.read("create", "--start", "now", "--plus", "--name-participant", "Erika")
        codes = [AccessCode.parse(made[role]["code"]) for role in ("organiser", "participant")]
        assert codes[0].secret == codes[1].secret
        assert codes[0].locator != codes[1].locator
        assert made["participant"]["link"].startswith(f"{office.url}/#{codes[1].compact}.")
        assert made["participant"]["link"] in made["invitation"]["body"]
        (listed,) = office.read("list")
        assert (listed["id"], listed["tier"], listed["start"]) == (made["id"], "plus", made["start"])

        local = service.command("appointment", "list")
        assert (local.returncode, local.stdout) == (0, ""), "the operator's own list is another one"

        moved = office("move", made["id"], "--start", "2001-01-01 10:00")
        assert (moved.returncode, moved.stderr.count("\n")) == (2, 1)
        assert office("cancel", made["id"]).returncode == 0
        assert office.read("list") == []
        again = office("cancel", made["id"])
        assert again.stderr == "redconnect: refused: the organisation has no such appointment\n"

        names = 'redconnect_signaling_api_requests_total{operation="createAppointment",status="201"}'
        assert service.metrics()[names] == 1
        logged = service.stop()
    for private in (token, made["id"], "Erika", "practice", *(code.locator for code in codes), codes[0].secret):
        assert private not in logged, "the log says whom it was about"
