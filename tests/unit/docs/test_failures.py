"""The table of failures is the word of tests: some are named for each row, and each of them exists."""

import ast
import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[3]
TABLE: Final = ROOT / "docs" / "failures.md"
COLUMNS: Final = 4  # what breaks, running calls, new calls, data
BREAKS: Final = (  # what the table has to answer for
    "A relay worker is killed",
    "An SFU worker is killed",
    "The supervisor is killed",
    "The service is killed",
    "Restart",
    "Reload",
    "Certificate exchange",
    "Full disk",
    "Relay ports exhausted",
    "File descriptors exhausted",
    "SQLite locked",
    "SQLite file gone",
    "PostgreSQL locked",
    "PostgreSQL stopped",
    "Redis gone",
)

_TEST: Final = re.compile(r"`(tests/[\w./-]+\.py)::(\w+)`")


def rows() -> dict[str, list[str]]:
    """The rows below each head, by what breaks."""
    found = {}
    for line in TABLE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("| **"):
            found[cells[0].split("**")[1]] = cells
    return found


def shown() -> dict[str, list[tuple[str, str]]]:
    """The tests of the list below the table, by what breaks."""
    _, _, items = TABLE.read_text().partition("\n## What shows it\n")
    return {
        name: _TEST.findall(tests) for name, tests in re.findall(r"^- \*\*(.+?)\*\*:((?:\n  .+)+)", items, re.MULTILINE)
    }


def exists(path: str, test: str) -> bool:
    file = ROOT / path
    if not file.is_file():
        return False
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return any(isinstance(node, functions) and node.name == test for node in ast.walk(ast.parse(file.read_text())))


@pytest.mark.parametrize("what", BREAKS)
def test_every_failure_has_a_row_whose_tests_exist(what: str) -> None:
    matching = [cells for name, cells in rows().items() if name == what]
    assert len(matching) == 1
    (cells,) = matching
    assert len(cells) == COLUMNS and all(cells)
    named = shown()[what]
    assert named
    assert [each for each in named if not exists(*each)] == []


def test_no_row_is_left_unwatched_and_no_test_is_named_in_another_form() -> None:
    assert sorted(rows()) == sorted(shown()) == sorted(BREAKS)
    text = TABLE.read_text()
    assert text.count("::") == len(_TEST.findall(text))


@pytest.mark.parametrize(
    ("path", "test"),
    [("tests/unit/docs/test_failures.py", "test_that_nobody_wrote"), ("tests/unit/docs/test_nothing.py", "test_x")],
)
def test_a_test_that_nobody_wrote_would_be_missed(path: str, test: str) -> None:
    assert not exists(path, test)
