import re
from typing import Any

import pytest
import yaml

from config.metrics_table import every_row
from tests.support.service import ROOT

FOLDER = ROOT / "deploy" / "prometheus"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"] for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
HEADINGS = {
    re.sub(r"[^a-z0-9 -]", "", line.lower()).strip().replace(" ", "-")
    for line in re.findall(r"^#+ (.+)$", (ROOT / "deploy" / "RUNBOOK.md").read_text(), re.MULTILINE)
}
BY_NAME = pytest.mark.parametrize("alert", ALERTS.values(), ids=ALERTS)


@BY_NAME
def test_an_alert_has_a_severity_a_summary_and_a_section_in_the_runbook(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert alert["annotations"]["summary"].endswith(".")
    _page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    assert anchor in HEADINGS


@BY_NAME
def test_an_alert_is_seen_to_fire_in_a_test_of_its_own(alert: dict[str, Any]) -> None:
    assert f'alertname="{alert["alert"]}"' in (FOLDER / "rules.test.yml").read_text()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_every_metric_exists_that_a_rule_asks_for(rule: dict[str, Any]) -> None:
    series = {row.name + ending for row in every_row() for ending in ("", "_bucket", "_count")}
    recorded = {other["record"] for other in RULES if "record" in other}
    asked = set(re.findall(r"\b(?:instance:)?(?:redconnect|process)_[a-z0-9_:]+", rule["expr"]))
    assert asked <= series | recorded, asked - series - recorded


def test_every_section_on_an_alert_belongs_to_one() -> None:
    sections = {heading for heading in HEADINGS if heading.startswith("redconnect")}
    named = {alert["annotations"]["runbook_url"].partition("#")[2] for alert in ALERTS.values()}
    assert sections == named
