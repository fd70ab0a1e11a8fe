"""What a check found: a verdict, one line that says what is, and one that says what to do."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"


class Finding(NamedTuple):
    """One line of the report."""

    check: str
    verdict: Verdict
    found: str
    mend: str = ""  # empty if all is well


_STATUS: Final = {Verdict.OK: 0, Verdict.WARNING: 1, Verdict.FAULT: 3}  # 2 is "call it differently", as elsewhere
_ORDER: Final = (Verdict.OK, Verdict.WARNING, Verdict.FAULT)


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return Finding(check, Verdict.OK, found)


def warning(check: str, found: str, mend: str) -> Finding:
    """It works, but not as well as it could, or not for long."""
    return Finding(check, Verdict.WARNING, found, mend)


def fault(check: str, found: str, mend: str) -> Finding:
    """Something does not work."""
    return Finding(check, Verdict.FAULT, found, mend)


def worst(findings: Iterable[Finding]) -> Verdict:
    """The verdict over all; without any all is well."""
    return max((finding.verdict for finding in findings), key=_ORDER.index, default=Verdict.OK)


def exit_status(findings: Iterable[Finding]) -> int:
    """0: all is well, 1: warnings, 3: faults."""
    return _STATUS[worst(findings)]
