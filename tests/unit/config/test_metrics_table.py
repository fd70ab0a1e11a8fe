import re

import pytest

from config.metrics_table import MetricRow, every_row, is_open, table_text
from tests.support.service import ROOT

ROWS = {row.name: row for row in every_row()}


def test_the_page_is_what_the_collectors_say() -> None:
    written = (ROOT / "docs" / "metrics.md").read_text()
    assert written == table_text(), "write it anew: python -m config.metrics_table > docs/metrics.md"


def test_every_metric_stands_there_once() -> None:
    assert len(ROWS) == len(list(every_row()))


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_label_has_few_values_that_the_code_knows_or_says_in_words_what_they_are(row: MetricRow) -> None:
    for label, values in row.labels.items():
        assert is_open(row.name, label) or 0 < len(values) <= 32, label
        assert all(re.fullmatch(r"[a-zA-Z0-9_./ -]{1,32}", value) for value in values), values


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_a_metric_says_what_it_means_and_a_counter_ends_in_total(row: MetricRow) -> None:
    assert row.documentation
    assert row.name.endswith("_total") is (row.kind == "counter")
