"""A load test against nobody, with Locust in a process of its own: gevent must not come into this one."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.ports import free_port
from tests.support.service import ROOT

SECONDS = 3


def play(folder: Path, *arguments: str, pairs: int = 10) -> tuple[int, str]:
    dead = ["127.0.0.1", free_port()]
    target: dict[str, Any] = {
        "pages": f"http://127.0.0.1:{dead[1]}",
        "relay": dict.fromkeys(("udp", "tcp", "tls"), dead),
        "peer": "127.0.0.1",
        "secret": "a secret that has thirty-two bytes and more",
        "pairs": [["AAAAAA", "BBBBBB"]] * pairs,
    }
    (folder / "target.json").write_text(json.dumps(target))
    run = subprocess.run(
        [
            *(sys.executable, "-m", "locust", "-f", "loadtest/locustfile.py", "--headless", "--only-summary"),
            *("--seconds", str(SECONDS), "--target", str(folder / "target.json")),
            *("--html", str(folder / "report.html"), "--result", str(folder / "result.json"), *arguments),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        check=False,
    )
    return run.returncode, run.stdout + run.stderr


def test_a_service_that_is_not_there_fails_every_kind_and_the_run(tmp_path: Path) -> None:
    status, said = play(tmp_path, "--judge", "failures")
    result = json.loads((tmp_path / "result.json").read_text())
    assert status == 1
    assert result["verdict"] == "BREACHED"
    assert "TURN challenge over udp: 100.00% failed, at most 0.00% may" in said
    assert "WS join: 100.00% failed, at most 0.00% may" in said
    assert "media client to peer over udp: has not happened" in result["breaches"]
    assert 0 < result["generator"]["cpu_share"] < 1.5
    assert "challenge over udp" in (tmp_path / "report.html").read_text()


def test_too_few_appointments_are_told_before_anybody_comes(tmp_path: Path) -> None:
    status, said = play(tmp_path, pairs=3)
    assert status != 0
    assert "3 pairs are too few for 10 people" in said
    assert not (tmp_path / "result.json").exists()


@pytest.mark.parametrize("wrong", [("--load-profile", "calm"), ("--only", "Nobody"), ("--judge", "nothing")])
def test_a_wrong_word_on_the_command_line_is_told(tmp_path: Path, wrong: tuple[str, str]) -> None:
    status, said = play(tmp_path, *wrong)
    assert status == 2
    assert wrong[1] in said
