"""The rules of deploy/prometheus, judged by promtool: their form, and when alerts fire."""

import subprocess

import pytest

from tests.support.service import ROOT


@pytest.mark.parametrize(
    "words",
    [("check", "rules", "rules.yml"), ("check", "config", "prometheus.yml"), ("test", "rules", "rules.test.yml")],
    ids=["the rules", "the configuration", "alerts fire when they should, and are silent when all is well"],
)
def test_promtool_is_content_with(words: tuple[str, ...]) -> None:
    done = subprocess.run(
        ["promtool", *words],
        cwd=ROOT / "deploy" / "prometheus",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
