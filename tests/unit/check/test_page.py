from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from check.languages import WORDS
from check.page import to_page
from check.plan import Transport
from check.text import plain
from tests.support.check_samples import all_open, blocked_row, pages_row, report_of, tls

DE = WORDS["de"]
VOID = {"meta"}


class Reader(HTMLParser):
    """Notes elements, attributes and text, and whether every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


@pytest.mark.parametrize("language", WORDS)
def test_a_page_holds_verdict_table_and_rules(language: str) -> None:
    words = WORDS[language]
    page = read(to_page(report_of([pages_row(), blocked_row(Transport.UDP, 3478)]), words))
    assert words.summaries[report_of([pages_row(), blocked_row(Transport.UDP, 3478)]).summary.code] in page.text
    assert "UDP 3478" in page.text
    assert "easyrule pass lan udp 192.0.2.5 203.0.113.7 3478" in page.text


def test_a_page_loads_nothing_and_runs_nothing() -> None:
    page = to_page(report_of(all_open()), DE)
    reader = read(page)
    assert "default-src 'none'" in page
    assert not reader.tags & {"script", "img", "link", "iframe", "object", "form", "a"}
    assert not reader.attributes & {"src", "href", "style", "action"}
    assert "http:" not in page and "https:" not in page


def test_where_nothing_is_missing_the_page_says_so_and_shows_all_rules_if_wished() -> None:
    report = report_of(all_open())
    assert DE.nothing_missing in to_page(report, DE)
    assert "easyrule pass lan tcp 192.0.2.5 203.0.113.7 5349" in to_page(report, DE, is_complete=True)


@given(st.text() | st.sampled_from(["<script>alert(1)</script>", "</style><b>", '"><img src=x onerror=y>', "&lt;"]))
def test_whatever_an_issuer_is_called_stays_text(issuer: str) -> None:
    row = pages_row()
    row.tls = tls(issuer=plain(issuer))
    ordinary = read(to_page(report_of([pages_row()]), DE))
    reader = read(to_page(report_of([row]), DE))
    assert reader.tags == ordinary.tags
    assert reader.attributes == ordinary.attributes
    assert plain(issuer) in reader.text
