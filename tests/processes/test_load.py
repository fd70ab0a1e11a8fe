"""The whole service under Locust: a minute of smoke, and a storm. Latencies are not judged: others use this machine."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.service import ROOT


def run_load(folder: Path, profile: str) -> dict[str, Any]:
    run = subprocess.run(
        [sys.executable, "-m", "loadtest", "--profile", profile, "--judge", "failures", "--report", str(folder)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=290,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "<html" in (folder / "report.html").read_text()
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def requests(result: dict[str, Any], kind: str, name: str) -> int:
    return sum(row["requests"] for row in result["rows"] if row["kind"] == kind and row["name"].startswith(name))


@pytest.mark.timeout(300)
def test_a_minute_of_calls_and_talks_loses_no_packet_and_leaves_nothing_behind(tmp_path: Path) -> None:
    result = run_load(tmp_path, "smoke")
    assert result["breaches"] == result["kept"] == []
    for transport in ("udp", "tcp", "tls"):
        assert requests(result, "TURN", f"delete over {transport}") > 0
    # The relay has counted the packets that both sides have: nothing is measured that did not happen.
    sent = requests(result, "MEDIA", "media")
    lost = sum(row["failures"] for row in result["rows"] if row["kind"] == "MEDIA")
    assert sent > 10_000
    assert sent - lost <= result["service"]["packets"] <= sent


@pytest.mark.timeout(300)
def test_a_storm_is_refused_in_order_and_harms_no_running_call(tmp_path: Path) -> None:
    result = run_load(tmp_path, "storm")
    assert result["breaches"] == result["kept"] == []
    assert requests(result, "RUNNING", "running media") > 10_000  # lossless, by the threshold
    assert requests(result, "REFUSED", "allocate: 508") > 0
    assert requests(result, "REFUSED", "join: overload, come again") > 0
    assert result["service"]["most_allocations"] <= 32
    assert result["service"]["most_clients"] <= 50 + 64  # seats, and sockets that are being told
