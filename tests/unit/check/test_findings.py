import json

from check.findings import SCHEMA_VERSION, schema, to_json
from check.schema import FILE
from tests.support.check_samples import all_open, range_of, report_of


def test_a_report_in_json_holds_verdicts_rules_and_measurements() -> None:
    report = json.loads(to_json(report_of(all_open(), [range_of([50000], [50000])])))
    assert report["schema_version"] == SCHEMA_VERSION
    assert report["summary"] == {"code": "all_open", "exit_status": 0, "text": ""}
    udp = report["rows"][1]
    assert (udp["verdict"], udp["transport"], udp["port"], udp["family"]) == ("open", "udp", 3478, "ipv4")
    assert udp["echo"] == {
        "way": "relayed",
        "sent": 150,
        "received": 150,
        "loss_percent": 0.0,
        "p50_ms": 24.1,
        "p95_ms": 31.0,
        "jitter_ms": 1.2,
    }
    assert udp["rule"]["direction"] == "outbound"


def test_the_schema_in_the_documents_is_that_of_the_code() -> None:
    """After a change: `.venv/bin/python -m check.schema`, and a new SCHEMA_VERSION if a key goes or changes."""
    assert json.loads(FILE.read_text()) == schema()
