"""The table of what the conformance tests hold the relay to, by RFC section, made from their `rfc` marks.

python -m tests.support.conformance_table            # prints it
python -m tests.support.conformance_table --write    # puts it between the markers of the document
"""

import argparse
import contextlib
import io
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
DOCUMENT: Final = ROOT / "docs" / "conformance.md"
BEGIN: Final = "<!-- conformance table: begin; written by python -m tests.support.conformance_table --write -->"
END: Final = "<!-- conformance table: end -->"
_TESTS: Final = "tests/conformance"

_Section = tuple[int, str]  # RFC and section


class _Collector:
    """Keeps what pytest collects."""

    def __init__(self) -> None:
        self.items: Sequence[pytest.Item] = ()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.items = session.items


def conformance_table() -> str:
    """Collect the tests and write the table in Markdown.

    Raises:
        RuntimeError: they cannot be collected, or one that has the mark lacks a section.
    """
    collector = _Collector()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.chdir(ROOT):
        status = pytest.main(["--collect-only", "-q", _TESTS], plugins=[collector])
    if status != pytest.ExitCode.OK:
        raise RuntimeError(f"pytest collects nothing: {printed.getvalue()[-2000:]}")
    sections: dict[_Section, Counter[str]] = {}
    checks = 0
    for item in collector.items:
        marks = {(int(mark.args[0]), str(mark.args[1])) for mark in item.iter_markers("rfc")}
        checks += bool(marks)
        for section in marks:
            sections.setdefault(section, Counter())[_sentence(item)] += 1
    lines = ["| RFC | section | checks | what holds |", "|---|---|--:|---|"]
    for (number, place), sentences in sorted(sections.items(), key=_order):
        told = "; ".join(text if count == 1 else f"{text} (×{count})" for text, count in sentences.items())
        lines.append(f"| {number} | {place} | {sentences.total()} | {told} |")
    lines.append(f"\n{checks} checks in all; one that holds the code to two sections stands in both rows.")
    return "\n".join(lines)


def committed_table() -> str:
    """What stands between the markers of the document."""
    return _parts(DOCUMENT.read_text())[1].strip()


def write_table() -> None:
    """Put the table between the markers of the document."""
    before, _, after = _parts(DOCUMENT.read_text())
    DOCUMENT.write_text(f"{before}\n\n{conformance_table()}\n\n{after}")


def _parts(text: str) -> tuple[str, str, str]:
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise RuntimeError(f"{DOCUMENT.name} needs the lines {BEGIN!r} and {END!r}, once each")
    before, _, rest = text.partition(BEGIN)
    between, _, after = rest.partition(END)
    return before + BEGIN, between, END + after


def _sentence(item: pytest.Item) -> str:
    name = getattr(item, "originalname", None) or item.name
    return str(name).removeprefix("test_").replace("_", " ")


def _order(entry: tuple[_Section, Counter[str]]) -> tuple[int, list[int], str]:
    number, section = entry[0]
    return number, [int(digits) for digits in re.findall(r"\d+", section)], section


def main() -> None:
    """Print the table, or put it into the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write it into {DOCUMENT.relative_to(ROOT)}")
    if parser.parse_args().write:
        write_table()
    else:
        sys.stdout.write(conformance_table() + os.linesep)


if __name__ == "__main__":
    main()
