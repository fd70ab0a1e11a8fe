"""The units of deploy/systemd, judged by systemd itself."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.service import ROOT

FOLDER = ROOT / "deploy" / "systemd"
UNIT = FOLDER / "redconnect.service"
EXPOSURES = {  # by the drop-ins that are used
    (): "1.3",
    ("port-443.conf",): "1.6",
    ("without-conferences.conf",): "1.2",
    ("kernel-datapath.conf",): "1.8",
}


def analyze(*words: str | Path) -> str:
    done = subprocess.run(
        ["systemd-analyze", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
        env={"SYSTEMD_COLORS": "0", "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(params=EXPOSURES, ids=lambda names: " ".join(names) or "alone")
def drop_ins(request: pytest.FixtureRequest) -> tuple[str, ...]:
    names: tuple[str, ...] = request.param
    return names


@pytest.fixture
def unit(drop_ins: tuple[str, ...], tmp_path: Path) -> Path:
    """The unit with programs that exist here."""
    path = tmp_path / "redconnect.service"
    path.write_text(UNIT.read_text().replace("/opt/redconnect/.venv/bin/redconnect", sys.executable))
    folder = tmp_path / "redconnect.service.d"
    folder.mkdir()
    for name in drop_ins:
        shutil.copy(FOLDER / name, folder)
    return path


def test_every_drop_in_is_tried() -> None:
    assert {path.name for path in FOLDER.glob("*.conf")} == {name for names in EXPOSURES for name in names}


def test_systemd_understands_every_line(unit: Path) -> None:
    assert analyze("verify", "--man=no", unit) == ""


def test_the_exposure_is_what_the_documents_say(unit: Path, drop_ins: tuple[str, ...]) -> None:
    told = analyze("security", "--offline=true", "--no-pager", unit)
    found = re.search(r"Overall exposure level for redconnect.service: (\S+) OK", told)
    assert found is not None, told
    assert found[1] == EXPOSURES[drop_ins]
    page = (ROOT / "deploy" / "README.md").read_text()
    for name in (*drop_ins, "redconnect.service"):
        assert name in page
    assert f"{found[1]} (OK)" in page


def test_the_files_that_it_names_are_where_the_documents_put_them() -> None:
    page = (ROOT / "deploy" / "README.md").read_text()
    for path in ("/opt/redconnect", "/etc/redconnect/redconnect.yaml", "redconnect-etc"):
        assert path in UNIT.read_text()
        assert path in page
