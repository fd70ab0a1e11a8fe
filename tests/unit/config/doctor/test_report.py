import io
import json

from rich.console import Console

from config.doctor.findings import fault, ok, warning
from config.doctor.report import as_json, print_report

FINDINGS = [ok("clock", "right"), warning("buffers", "small [red]", "enlarge them"), fault("ports", "taken", "free it")]


def test_people_read_a_line_for_each_finding_and_its_mend_below() -> None:
    stream = io.StringIO()
    print_report(Console(file=stream, width=80), FINDINGS)
    assert stream.getvalue().splitlines() == [
        "ok       clock    right",
        "warning  buffers  small [red]",
        "                  → enlarge them",
        "FAULT    ports    taken",
        "                  → free it",
        "",
        "Something does not work: mend the faults.",
    ]


def test_programs_read_the_same() -> None:
    told = json.loads(as_json(FINDINGS))
    assert told["verdict"] == "fault"
    assert told["findings"][1] == {
        "check": "buffers",
        "verdict": "warning",
        "found": "small [red]",
        "mend": "enlarge them",
    }
