"""The published table of checks says what the tests say."""

import subprocess
import sys

from tests.support.conformance_table import ROOT, committed_table


def test_the_table_of_checks_is_the_one_that_the_marks_give() -> None:
    # In a process of its own: pytest does not collect inside of a test run.
    words = [sys.executable, "-m", "tests.support.conformance_table"]
    printed = subprocess.run(words, capture_output=True, text=True, timeout=120, cwd=ROOT, check=False)
    assert printed.returncode == 0, printed.stderr
    hint = "python -m tests.support.conformance_table --write brings docs/conformance.md up to date"
    assert committed_table() == printed.stdout.strip(), hint
