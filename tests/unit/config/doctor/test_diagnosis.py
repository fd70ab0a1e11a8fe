import pytest

from config.doctor import diagnosis
from config.doctor.diagnosis import diagnose, examine_one
from config.doctor.findings import Finding, Verdict, ok
from config.schema import Settings


def test_a_check_that_breaks_is_a_fault_of_its_own_and_tells_no_content() -> None:
    def break_down() -> Finding:
        raise ValueError("Erika Mustermann")

    (finding,) = examine_one("clock", break_down)
    assert (finding.check, finding.verdict) == ("clock", Verdict.FAULT)
    assert finding.found == "the check is broken: ValueError"


def test_what_may_not_be_looked_at_is_a_warning() -> None:
    def look() -> Finding:
        raise PermissionError(13, "no", "/var/secret")

    (finding,) = examine_one("state_dir", look)
    assert finding.verdict == Verdict.WARNING and "Permission denied" in finding.found


def test_a_fault_in_one_check_ends_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    def break_down(*_facts: object) -> Finding:
        raise RuntimeError

    for name in ("bound_sockets", "check_clock", "check_state_directory"):
        monkeypatch.setattr(diagnosis, name, break_down)
    monkeypatch.setattr("config.doctor.io.installation.collect_service", break_down)
    findings = diagnose(Settings.model_validate({"state_dir": str(tmp_path)}), lambda: None)
    broken = {finding.check for finding in findings if "the check is broken: RuntimeError" in finding.found}
    assert broken == {"service", "ports", "relay range", "clock", "state_dir"}
    assert {"settings", "user", "address", "certificate", "descriptors", "conntrack", "database", "Redis"} <= {
        finding.check for finding in findings
    }


def test_a_single_finding_is_as_good_as_several() -> None:
    assert examine_one("a", lambda: ok("a", "x")) == examine_one("a", lambda: [ok("a", "x")])
