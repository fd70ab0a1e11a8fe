import io

import pytest
from rich.console import Console

from check.findings import Report
from check.io.terminal import LiveProgress, show
from check.languages import WORDS
from check.plan import Family, Transport
from tests.support.check_samples import (
    DOCUMENTED,
    all_open,
    blocked_row,
    open_row,
    pages_row,
    range_of,
    report_of,
    tls,
)


def printed(report: Report, width: int = 80, language: str = "de", *, is_complete: bool = False) -> str:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    show(report, WORDS[language], console, is_complete=is_complete)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def half_open() -> Report:
    rows = [blocked_row(*point) if point[0] is Transport.UDP else open_row(*point) for point in DOCUMENTED]
    rows += [open_row(*point, Family.IPV6) for point in DOCUMENTED]
    return report_of([pages_row(), *rows], [range_of([], [49200, 52000, 60000, 65000])])


@pytest.mark.parametrize("language", WORDS)
def test_in_80_columns_nothing_but_copied_commands_is_longer_and_nothing_is_cut(language: str) -> None:
    text = printed(half_open(), 80, language)
    long = [line for line in text.splitlines() if len(line) > 80]
    assert all(line.startswith(("nft ", "#")) for line in long), long
    assert "…" not in text


def test_in_a_wide_window_jitter_and_packet_size_stand_there_too() -> None:
    words = WORDS["de"]
    assert words.jitter not in printed(half_open(), 80)
    assert words.jitter in printed(half_open(), 120) and words.packet in printed(half_open(), 120)


def test_the_verdict_stands_last() -> None:
    lines = [line for line in printed(half_open()).splitlines() if line.strip(" ┏┓┗┛━┃")]
    assert "Videosprechstunde möglich: ja, aber" in " ".join(lines[-3:])


def test_commands_are_printed_as_they_must_be_typed() -> None:
    text = printed(half_open(), 80)
    (command,) = [line for line in text.splitlines() if line.startswith("nft ")]
    assert command.endswith("accept comment '\"redconnect video.example.org\"'")


def test_all_rules_are_printed_only_if_wished() -> None:
    report = report_of(all_open())
    assert "easyrule" not in printed(report)
    assert "easyrule" in printed(report, is_complete=True)


def test_markup_in_a_strangers_text_is_text() -> None:
    row = pages_row()
    row.tls = tls(issuer="[bold red]Evil[/] [link=https://example.org]x[/link]")
    assert "[bold red]Evil[/]" in " ".join(printed(report_of([row]), 160).split())


def test_progress_says_nothing_where_nobody_watches() -> None:
    console = Console(file=io.StringIO(), width=80)
    with LiveProgress(console, WORDS["de"]) as progress:
        progress.looking_up("video.example.org")
        progress.planned(1)
        progress.done(pages_row())
    assert isinstance(console.file, io.StringIO) and console.file.getvalue() == ""


def test_progress_on_a_terminal_counts_rows() -> None:
    console = Console(file=io.StringIO(), width=120, force_terminal=True)
    with LiveProgress(console, WORDS["de"]) as progress:
        progress.planned(2)
        progress.done(open_row(Transport.UDP, 3478))
    assert isinstance(console.file, io.StringIO)
    assert "1 von 2 Zeilen geprüft  UDP 3478 IPv4: gesperrt" in console.file.getvalue()
