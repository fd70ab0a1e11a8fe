import pytest

from config.doctor.findings import Finding, Verdict, exit_status, fault, ok, warning, worst

GOOD, POOR, BAD = ok("a", "x"), warning("b", "y", "mend y"), fault("c", "z", "mend z")


@pytest.mark.parametrize(
    ("findings", "verdict", "status"),
    [
        ([], Verdict.OK, 0),
        ([GOOD, GOOD], Verdict.OK, 0),
        ([GOOD, POOR], Verdict.WARNING, 1),
        ([BAD, POOR, GOOD], Verdict.FAULT, 3),
    ],
)
def test_the_worst_finding_decides(findings: list[Finding], verdict: Verdict, status: int) -> None:
    assert worst(findings) == verdict
    assert exit_status(findings) == status
