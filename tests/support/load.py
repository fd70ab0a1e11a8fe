"""A run of `python -m loadtest`, as `make load` starts it. Latencies are not judged: others use this machine."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from tests.support.service import ROOT

MOST_SECONDS: Final = 280.0  # for the longest profile that tests play, its start and its end on a starved machine


def run_load(folder: Path, profile: str) -> dict[str, Any]:
    """Play a profile; returns its figures. What was not held fails the test."""
    run = subprocess.run(
        [sys.executable, "-m", "loadtest", "--profile", profile, "--judge", "failures", "--report", str(folder)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=MOST_SECONDS,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "<html" in (folder / "report.html").read_text()
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    assert result["breaches"] == result["kept"] == []
    return result


def total(result: dict[str, Any], kind: str, name: str, what: str = "requests") -> int:
    """Requests, or failures, in the rows of this kind whose names begin like this."""
    return sum(row[what] for row in result["rows"] if row["kind"] == kind and row["name"].startswith(name))
