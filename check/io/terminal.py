"""The report on a terminal: live progress while it runs, then a table as wide as the window allows."""

from collections.abc import Sequence
from typing import Final, Self

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from check.findings import Report, Row
from check.firewall import FORMATS, Group, all_rules, grouped
from check.view import (
    FAMILY_NAMES,
    SIGNS,
    Fact,
    Line,
    Tone,
    explanations,
    facts,
    has_control_echo,
    lines,
    port_name,
    summary_text,
    summary_tone,
)
from check.words import Words

WIDE_COLUMNS: Final = 100  # from here on jitter and packet size have room, too
_STYLES: Final = {Tone.GOOD: "green", Tone.WARNING: "yellow", Tone.BAD: "bold red", Tone.MUTED: "dim"}


class LiveProgress:
    """A bar on standard error while the check runs; nothing where that is no terminal."""

    def __init__(self, console: Console, words: Words) -> None:
        self._words = words
        self._all = self._done = 0
        self._progress = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),  # last, because its length changes
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        self._task = self._progress.add_task("", total=None)
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def looking_up(self, name: str) -> None:
        """A name is being looked up."""
        self._show(self._words.looking_up.format(name=name))

    def planned(self, rows: int) -> None:
        """So many rows are tried from now on."""
        self._all, self._done = rows, 0
        self._show_rows("")

    def done(self, row: Row) -> None:
        """A row has been tried, and judged."""
        self._done += 1
        self._show_rows(
            f"{port_name(row, self._words)} {FAMILY_NAMES[row.family]}: {self._words.verdicts[row.verdict]}"
        )

    def _show_rows(self, latest: str) -> None:
        if self._all and self._task is not None:
            self._progress.update(self._task, total=self._all, completed=self._done)
        text = self._words.trying.format(done=self._done, all=self._all) if self._all else ""
        self._show("  ".join(filter(None, (text, latest))))

    def _show(self, text: str) -> None:
        if self._task is not None:
            self._progress.update(self._task, description=text)


def show(report: Report, words: Words, console: Console, *, is_complete: bool = False) -> None:
    """Print the report; the verdict stands last, where the eye is.

    Args:
        report: what to print.
        words: the language.
        console: where.
        is_complete: whether rules for what is open are wanted, too.
    """
    console.print(Text(words.title.format(host=report.host), "bold"))
    console.print()
    _show_facts(facts(report, words), console)
    rows = lines(report, words)
    hosts = list(dict.fromkeys(line.host for line in rows))
    for host in hosts:
        title = host if len(hosts) > 1 else None
        console.print(_table([line for line in rows if line.host == host], words, console.width, title))
    if rows:
        console.print(Text(words.hint, "dim"))
    if has_control_echo(report):
        console.print(Text(words.control, "dim"))
    entries = explanations(report, words)
    if entries:
        console.print()
        for entry in entries:
            console.print(Text.assemble((f"{SIGNS[entry.tone]} {entry.name}", _STYLES[entry.tone])))
            console.print(Padding(Text(entry.text), (0, 0, 0, 2)))
    groups = grouped(all_rules(report) if is_complete else report.missing_rules)
    if groups:
        _show_rules(groups, words.all_rules if is_complete else words.rules, words, console)
    console.print()
    tone = summary_tone(report)
    verdict = Text(f"{SIGNS[tone]} {summary_text(report, words)}", "bold")
    console.print(Panel(verdict, box=box.HEAVY, border_style=_STYLES[tone], expand=True))


def _show_facts(entries: Sequence[Fact], console: Console) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", max_width=console.width // 3)
    table.add_column(overflow="fold")
    for entry in entries:
        sign = "" if entry.tone is Tone.MUTED else f"{SIGNS[entry.tone]} "
        style = "" if entry.tone is Tone.MUTED else _STYLES[entry.tone]
        table.add_row(Text(entry.name), Text.assemble((sign, style), entry.text))
    console.print(table)


def _table(rows: Sequence[Line], words: Words, width: int, title: str | None) -> Table:
    is_wide = width >= WIDE_COLUMNS
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        title=title,
        title_justify="left",
        title_style="bold",
    )
    table.add_column(words.port, no_wrap=True)
    table.add_column("IP", no_wrap=True)
    numbers = [words.connect, "TLS", words.binding, words.allocate, words.loss, words.round_trip]
    for name in [*numbers, words.jitter, words.packet] if is_wide else numbers:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(words.result, no_wrap=True)
    for before, line in zip([rows[0], *rows], rows, strict=False):
        if line.family != before.family:
            table.add_section()
        measured = [line.connect, line.tls, line.binding, line.allocate, line.loss, line.echo]
        cells = [*measured, line.jitter, line.packet] if is_wide else measured
        table.add_row(
            Text(line.port),
            Text(line.family),
            *[Text(cell, "dim" if cell == words.not_measured else "") for cell in cells],
            Text(f"{SIGNS[line.tone]} {line.verdict}", _STYLES[line.tone]),
        )
    return table


def _show_rules(groups: Sequence[Group], title: str, words: Words, console: Console) -> None:
    console.print()
    console.print(Text(title, "bold"))
    console.print(Text(words.rules_hint, "dim"))
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in (words.source, words.destination, words.protocol, words.ports, words.direction):
        table.add_column(name, overflow="fold")
    for group in groups:
        texts = (group.source, group.destination, group.protocol.upper(), group.written_ports, words.outbound)
        table.add_row(*map(Text, texts))
    console.print(table)
    for name, write in FORMATS.items():
        console.print(Text(name, "bold"))
        # Neither wrapped nor indented: it is to be copied.
        console.print(Text(write(groups)), soft_wrap=True)
        console.print()
