"""The report as lines and cells of text: terminal and page differ only in how they lay them out."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Final, NamedTuple

from check.findings import (
    Chain,
    EchoWay,
    Name,
    Outcome,
    RelayRange,
    Report,
    Row,
    RowVerdict,
    Step,
    TlsFinding,
)
from check.plan import Family, Purpose
from check.verdict import is_refused_to_tests
from check.words import Words

FAMILY_NAMES: Final = {Family.IPV4: "IPv4", Family.IPV6: "IPv6"}


class Tone(StrEnum):
    """How good or bad something is."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"
    MUTED = "muted"


SIGNS: Final = {Tone.GOOD: "✓", Tone.WARNING: "!", Tone.BAD: "✗", Tone.MUTED: "–"}
_TONES: Final = {
    RowVerdict.OPEN: Tone.GOOD,
    RowVerdict.POOR: Tone.WARNING,
    RowVerdict.INSPECTED: Tone.WARNING,
    RowVerdict.UNTRUSTED: Tone.WARNING,
    RowVerdict.NO_FAMILY: Tone.MUTED,
}
_SUMMARY_TONES: Final = (Tone.GOOD, Tone.WARNING, Tone.BAD, Tone.BAD)  # by exit status


class Line(NamedTuple):
    """One row of the table."""

    host: str
    port: str
    family: str
    connect: str
    tls: str
    binding: str
    allocate: str
    loss: str
    echo: str
    jitter: str
    packet: str
    verdict: str
    tone: Tone


class Fact(NamedTuple):
    """A heading, what belongs under it, and how good it is."""

    name: str
    text: str
    tone: Tone


def tone_of(verdict: RowVerdict) -> Tone:
    """How good a verdict is."""
    return _TONES.get(verdict, Tone.BAD)


def summary_tone(report: Report) -> Tone:
    """How good the whole is."""
    return _SUMMARY_TONES[report.summary.exit_status]


def summary_text(report: Report, words: Words) -> str:
    """The verdict in words."""
    return f"{words.possible} {words.summaries[report.summary.code].format(host=report.host)}"


def port_name(row: Row, words: Words) -> str:
    """What a row is called: its transport and port, and its purpose where that is not TURN."""
    name = f"{row.transport.value.upper()} {row.port}"
    if row.purpose is Purpose.PAGES:
        return f"{words.pages} {row.port}"
    return f"{name} ({words.stun})" if row.purpose is Purpose.STUN else name


def lines(report: Report, words: Words) -> list[Line]:
    """The table: IPv4 before IPv6, and within a family in the order in which the rows were planned."""
    return [_line(row, words) for row in sorted(report.rows, key=lambda row: row.family)]


def facts(report: Report, words: Words) -> list[Fact]:
    """What stands beside the table: names, this machine, certificates, the relay's range, credentials."""
    found = [_name(name, words) for name in report.names]
    for own in report.own:
        text = own.address
        if own.seen_as and own.seen_as != own.address:
            text += ", " + words.seen_as.format(address=own.seen_as)
        found.append(Fact(words.own, text, Tone.MUTED))
    found += _certificates(report.rows, words)
    found += [_range(each, words) for each in report.relay_ranges]
    if report.rows:
        found.append(Fact("", words.credentials[report.credentials], Tone.MUTED))
    if report.service.outcome not in {Outcome.OK, Outcome.NOT_TRIED}:
        problem = ", ".join(filter(None, (problem_of(report.service, words), report.service.detail)))
        found.append(Fact("", words.service_problem.format(problem=problem), Tone.WARNING))
    return found


def explanations(report: Report, words: Words) -> list[Fact]:
    """What each verdict that is not good means, and for which ports: one entry for each cause."""
    groups: dict[tuple[RowVerdict, str], list[str]] = {}
    for row in report.rows:
        if row.verdict is not RowVerdict.OPEN or is_refused_to_tests(row):
            label = f"{port_name(row, words)} {FAMILY_NAMES[row.family]}"
            groups.setdefault((row.verdict, cause_of(row, words)), []).append(label)
    return [
        Fact(", ".join(labels), _explain(verdict, cause, words), tone_of(verdict))
        for (verdict, cause), labels in groups.items()
    ]


def _explain(verdict: RowVerdict, cause: str, words: Words) -> str:
    if verdict is RowVerdict.OPEN:
        return words.not_allocated.format(cause=cause)
    return f"{words.verdicts[verdict]}{f' ({cause})' if cause else ''}: {words.meanings[verdict]}"


def has_control_echo(report: Report) -> bool:
    """Whether the note about the star is needed."""
    return any(row.echo is not None and row.echo.way is EchoWay.CONTROL for row in report.rows)


def cause_of(row: Row, words: Words) -> str:
    """The first step that failed, in words; "" if none did."""
    for step in (row.connect, row.tls, row.http, row.binding, row.challenge, row.allocate):
        if step is not None and step.outcome not in {Outcome.OK, Outcome.NOT_TRIED}:
            return problem_of(step, words)
    return ""


def problem_of(step: Step | TlsFinding, words: Words) -> str:
    """What became of a step, with its code where it has one."""
    parts = [words.outcomes[step.outcome]]
    if isinstance(step, Step) and step.code is not None:
        parts.append(str(step.code))
    return " ".join(parts)


def _line(row: Row, words: Words) -> Line:
    echo = row.echo
    star = "*" if echo is not None and echo.way is EchoWay.CONTROL else ""
    return Line(
        host=row.host,
        port=port_name(row, words),
        family=FAMILY_NAMES[row.family],
        connect=_time(row.connect, words),
        tls=_time(row.tls, words),
        binding=_time(row.http if row.purpose is Purpose.PAGES else row.binding, words),
        allocate=_time(row.allocate or row.challenge, words),
        loss=words.not_measured if echo is None else f"{echo.loss_percent:g} %",
        echo=words.not_measured if echo is None else f"{_number(echo.p50_ms)} / {_number(echo.p95_ms)}{star}",
        jitter=words.not_measured if echo is None else _number(echo.jitter_ms),
        packet=words.not_measured if row.largest_packet_bytes is None else str(row.largest_packet_bytes),
        verdict=words.verdicts[row.verdict],
        tone=tone_of(row.verdict),
    )


def _time(step: Step | TlsFinding | None, words: Words) -> str:
    if step is None or step.outcome is Outcome.NOT_TRIED:
        return words.not_measured
    return _number(step.milliseconds) if step.outcome is Outcome.OK else SIGNS[Tone.BAD]


def _number(milliseconds: float | None) -> str:
    """With one digit behind the point below ten, where it matters."""
    if milliseconds is None:
        return "–"
    return f"{milliseconds:.1f}" if milliseconds < 10 else f"{milliseconds:.0f}"


def _name(name: Name, words: Words) -> Fact:
    addresses = [*name.ipv4, *name.ipv6]
    if not addresses:
        problem = name.lookup.detail or words.outcomes[name.lookup.outcome]
        return Fact(name.name, words.no_address.format(problem=problem), Tone.BAD)
    return Fact(name.name, ", ".join(addresses), Tone.MUTED)


def _certificates(rows: Iterable[Row], words: Words) -> list[Fact]:
    """Each certificate once, with the ports that showed it."""
    ports: dict[str, list[str]] = {}
    seen: dict[str, TlsFinding] = {}
    for row in rows:
        if row.tls is not None and row.tls.sha256:
            seen.setdefault(row.tls.sha256, row.tls)
            names = ports.setdefault(row.tls.sha256, [])
            if port_name(row, words) not in names:
                names.append(port_name(row, words))
    return [_describe(tls, ", ".join(ports[fingerprint]), words) for fingerprint, tls in seen.items()]


def _describe(tls: TlsFinding, ports: str, words: Words) -> Fact:
    parts = [f"{tls.version} {tls.cipher}", words.issuer.format(issuer=tls.issuer)]
    if tls.alpn:
        parts.insert(1, f"ALPN {tls.alpn}")
    tone = Tone.GOOD
    if tls.days_left is not None:
        parts.append(words.days_left.format(days=tls.days_left) if tls.days_left >= 0 else words.expired)
    if tls.chain is Chain.TRUSTED:
        parts.append(words.trusted)
    else:
        parts.append(words.untrusted.format(problem=tls.chain_problem))
        tone = Tone.WARNING
    if tls.is_own is None:
        parts.append(words.own_unknown)
    else:
        parts.append(words.is_own if tls.is_own else words.is_not_own)
        tone = tone if tls.is_own else Tone.BAD
    return Fact(words.certificate, f"{ports}: {', '.join(parts)}", tone)


def _range(found: RelayRange, words: Words) -> Fact:
    reached, sampled = len(found.reached), len(found.sampled)
    text = f"UDP {found.first_port}–{found.last_port} {FAMILY_NAMES[found.family]}: "
    text += words.range_reached.format(reached=reached, sampled=sampled, first=found.sampled[0], last=found.sampled[-1])
    tone = Tone.GOOD if reached == sampled else Tone.WARNING
    return Fact(words.range, text, tone)
