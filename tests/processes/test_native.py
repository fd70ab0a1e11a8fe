"""The service as `make native` leaves it: compiled, and interpreted where somebody wants that."""

import os
import subprocess
import sys

import pytest

from config import native


@pytest.mark.parametrize(("pure", "expected"), [("", "compiled"), ("1", "interpreted")])
def test_the_version_tells_how_the_relay_runs(pure: str, expected: str) -> None:
    environment = os.environ | {native.PURE_VARIABLE: pure}
    words = [sys.executable, "-m", "config", "--version"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.endswith(f" ({expected})\n")
