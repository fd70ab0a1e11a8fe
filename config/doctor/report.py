"""The report, for people and for programs."""

import json
from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Console
from rich.text import Text

from config.doctor.findings import Finding, Verdict, worst

_MARKS: Final = {Verdict.OK: ("ok", "green"), Verdict.WARNING: ("warning", "yellow"), Verdict.FAULT: ("FAULT", "red")}
_SUMMARY: Final = {
    Verdict.OK: "All is well.",
    Verdict.WARNING: "It works, but look at the warnings.",
    Verdict.FAULT: "Something does not work: mend the faults.",
}
_MARK_WIDTH: Final = 9


def as_json(findings: Sequence[Finding]) -> str:
    """`{"verdict": …, "findings": [{"check", "verdict", "found", "mend"}]}`, with mend empty where all is well."""
    rows = [finding._asdict() for finding in findings]
    return json.dumps({"verdict": worst(findings), "findings": rows}, indent=2)


def print_report(console: Console, findings: Iterable[Finding]) -> None:
    """One line for each finding, and its mend below it."""
    rows = list(findings)
    width = max((len(finding.check) for finding in rows), default=0) + 2
    for finding in rows:
        mark, colour = _MARKS[finding.verdict]
        line = Text.assemble((mark.ljust(_MARK_WIDTH), colour), (finding.check.ljust(width), "bold"), finding.found)
        console.print(line, soft_wrap=True)
        if finding.mend:
            console.print(Text(" " * (_MARK_WIDTH + width) + "→ " + finding.mend, style="cyan"), soft_wrap=True)
    console.print()
    console.print(_SUMMARY[worst(rows)])
