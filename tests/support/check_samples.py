"""Rows and reports of a check, for tests that judge or show them."""

from typing import Any

from check.findings import (
    Chain,
    EchoFinding,
    EchoWay,
    Name,
    Outcome,
    Own,
    RelayedPort,
    RelayRange,
    Report,
    Row,
    Step,
    TlsFinding,
)
from check.firewall import missing_rules, rule_of, rule_of_range
from check.plan import Family, Purpose, Transport
from check.verdict import judge, judge_row

HOST = "video.example.org"
ADDRESSES = {Family.IPV4: "203.0.113.7", Family.IPV6: "2001:db8::7"}
OWN = {Family.IPV4: "192.0.2.5", Family.IPV6: "2001:db8:1::5"}
SILENT = Step(Outcome.TIMED_OUT)
DOCUMENTED = [(Transport.UDP, 3478), (Transport.UDP, 3479), (Transport.TCP, 3478), (Transport.TCP, 3479)]
DOCUMENTED += [(Transport.TLS, 5349), (Transport.TLS, 5350)]


def ok(milliseconds: float = 12.0, code: int | None = None) -> Step:
    return Step(Outcome.OK, milliseconds, code)


def tls(**changes: Any) -> TlsFinding:  # noqa: ANN401
    values = {
        "chain": Chain.TRUSTED,
        "issuer": "Public Authority",
        "sha256": "ab" * 32,
        "days_left": 60,
        "is_own": True,
    }
    return TlsFinding(Outcome.OK, 21.0, "TLSv1.3", "TLS_AES_256_GCM_SHA384", **{**values, **changes})


def open_row(transport: Transport, port: int, family: Family = Family.IPV4) -> Row:
    """A row where everything is well."""
    row = Row(Purpose.TURN, transport, family, HOST, port, ADDRESSES[family])
    if transport is not Transport.UDP:
        row.connect = ok()
    if transport is Transport.TLS:
        row.tls = tls()
    row.binding, row.challenge, row.allocate, row.permission = ok(), ok(code=401), ok(25.0), ok()
    row.echo = EchoFinding(EchoWay.RELAYED, 150, 150, 0.0, 24.1, 31.0, 1.2)
    row.relayed_port = RelayedPort(ADDRESSES[family], 50_000 + port, reached=True)
    return row


def blocked_row(transport: Transport, port: int, family: Family = Family.IPV4) -> Row:
    """A row where nothing comes back."""
    row = Row(Purpose.TURN, transport, family, HOST, port, ADDRESSES[family])
    if transport is Transport.UDP:
        row.binding, row.challenge = SILENT, SILENT
    else:
        row.connect = SILENT
    return row


def pages_row(family: Family = Family.IPV4) -> Row:
    """Pages that answer."""
    row = Row(Purpose.PAGES, Transport.TLS, family, HOST, 443, ADDRESSES[family])
    row.connect, row.tls, row.http = ok(), tls(), ok(code=200)
    return row


def report_of(rows: list[Row], ranges: list[RelayRange] | None = None) -> Report:
    """A report about these rows, judged as a run would."""
    report = Report(HOST, "2026-11-22T12:00:00Z", "de", "service", ok(code=200), rows=rows, seconds=9.5)
    families = sorted({row.family for row in rows})
    report.names = [Name(HOST, ok(), **{family.value: [ADDRESSES[family]] for family in families})]
    report.own = [Own(family, OWN[family], "198.51.100.4") for family in families]
    for row in rows:
        row.rule = rule_of(row, OWN[row.family])
        row.verdict = judge_row(row)
    report.relay_ranges = ranges or []
    for each in report.relay_ranges:
        each.rule = rule_of_range(each, HOST, OWN[each.family])
    report.missing_rules = missing_rules(report)
    report.summary = judge(report)
    return report


def range_of(reached: list[int], sampled: list[int]) -> RelayRange:
    """The relay's range, sampled."""
    return RelayRange(Family.IPV4, ADDRESSES[Family.IPV4], 49152, 65535, sampled, reached)


def all_open() -> list[Row]:
    """Pages and every documented port, over IPv4."""
    return [pages_row(), *(open_row(transport, port) for transport, port in DOCUMENTED)]
