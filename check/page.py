"""The report as one page that can be printed: nothing is loaded, nothing runs, and everything in it is escaped."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from check.findings import Report
from check.firewall import FORMATS, Group, all_rules, grouped
from check.view import SIGNS, Fact, Tone, explanations, facts, has_control_echo, lines, summary_text, summary_tone
from check.words import Words

_STYLE: Final = """
:root {
  color-scheme: light dark;
  --good: #1a6b34; --warning: #8a5a00; --bad: #b3261e; --muted: #5f6368; --line: #c4c7c5;
}
@media (prefers-color-scheme: dark) {
  :root { --good: #7bd88f; --warning: #f2b84b; --bad: #ff8a80; --muted: #a0a4a8; --line: #4a4d50; }
}
body { font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 68rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.summary { border-left: .4rem solid currentColor; font-size: 1.2rem; font-weight: 600; padding: .5rem 1rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .6rem; text-align: left; vertical-align: top; }
td.number, th.number { font-variant-numeric: tabular-nums; text-align: right; white-space: nowrap; }
.good { color: var(--good); }
.warning { color: var(--warning); }
.bad { color: var(--bad); }
.muted { color: var(--muted); }
dl { display: grid; gap: .2rem 1rem; grid-template-columns: minmax(8rem, 18rem) 1fr; }
dd { margin: 0; overflow-wrap: anywhere; }
pre { background: color-mix(in srgb, currentColor 7%, transparent); overflow-x: auto; padding: .75rem; }
@media print {
  :root {
    color-scheme: light;
    --good: #1a6b34; --warning: #8a5a00; --bad: #b3261e; --muted: #5f6368; --line: #c4c7c5;
  }
  @page { size: A4 landscape; margin: 12mm; }
  body { margin: 0; max-width: none; } pre { overflow: visible; white-space: pre-wrap; } h2 { break-after: avoid; }
  tr, pre { break-inside: avoid; }
}
"""


def to_page(report: Report, words: Words, *, is_complete: bool = False) -> str:
    """The whole report as HTML; with rules for what is open, too, if `is_complete`."""
    title = escape(words.title.format(host=report.host))
    made = f"{words.made.format(time=report.started)}, {words.seconds.format(seconds=report.seconds)}"
    groups = grouped(all_rules(report) if is_complete else report.missing_rules)
    parts = [
        "<!doctype html>",
        f'<html lang="{words.language}" translate="no">',
        "<head>",
        '<meta charset="utf-8">',
        # Whoever opens the page later asks nobody for anything, whatever stands in it.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title>",
        f"<style>{_STYLE}</style>",
        "</head>",
        "<body>",
        f"<h1>{title}</h1>",
        f'<p class="muted">{escape(made)}</p>',
        f'<p class="summary {summary_tone(report)}">{escape(summary_text(report, words))}</p>',
        _list(facts(report, words)),
        _table(report, words),
        f'<p class="muted">{escape(words.hint)}</p>',
        f'<p class="muted">{escape(words.control)}</p>' if has_control_echo(report) else "",
        _list(explanations(report, words)),
        *_rules(groups, words.all_rules if is_complete else words.rules, words),
        "</body>",
        "</html>",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _list(entries: Sequence[Fact]) -> str:
    if not entries:
        return ""
    items = (
        f'<dt>{escape(entry.name)}</dt><dd class="{entry.tone}">{escape(f"{SIGNS[entry.tone]} {entry.text}")}</dd>'
        if entry.tone is not Tone.MUTED
        else f"<dt>{escape(entry.name)}</dt><dd>{escape(entry.text)}</dd>"
        for entry in entries
    )
    return f"<dl>{''.join(items)}</dl>"


def _table(report: Report, words: Words) -> str:
    heads = (
        words.connect,
        "TLS",
        words.binding,
        words.allocate,
        words.loss,
        words.round_trip,
        words.jitter,
        words.packet,
    )
    rows = []
    table = lines(report, words)
    has_hosts = len({line.host for line in table}) > 1
    for line in table:
        numbers = (line.connect, line.tls, line.binding, line.allocate, line.loss, line.echo, line.jitter, line.packet)
        rows.append(
            f"<tr>{f'<td>{escape(line.host)}</td>' if has_hosts else ''}"
            f"<td>{escape(line.port)}</td><td>{escape(line.family)}</td>"
            + "".join(f'<td class="number">{escape(number)}</td>' for number in numbers)
            + f'<td class="{line.tone}">{SIGNS[line.tone]} {escape(line.verdict)}</td></tr>'
        )
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in (words.port, "IP"))
    head = f'<th scope="col">{escape(words.address)}</th>{head}' if has_hosts else head
    head += "".join(f'<th scope="col" class="number">{escape(text)}</th>' for text in heads)
    head += f'<th scope="col">{escape(words.result)}</th>'
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _rules(groups: Sequence[Group], title: str, words: Words) -> Iterable[str]:
    yield f"<h2>{escape(title)}</h2>"
    if not groups:
        yield f"<p>{escape(words.nothing_missing)}</p>"
        return
    yield f"<p>{escape(words.rules_hint)}</p>"
    heads = (words.source, words.destination, words.protocol, words.ports, words.direction)
    head = "".join(f'<th scope="col">{escape(text)}</th>' for text in heads)
    rows = "".join(
        "<tr>"
        + "".join(
            f"<td>{escape(text)}</td>"
            for text in (
                group.source,
                f"{group.destination} ({group.host})",
                group.protocol.upper(),
                group.written_ports,
                words.outbound,
            )
        )
        + "</tr>"
        for group in groups
    )
    yield f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    for name, write in FORMATS.items():
        yield f"<h2>{escape(name)}</h2>\n<pre><code>{escape(write(groups))}</code></pre>"
