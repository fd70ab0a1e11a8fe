"""What the findings mean: one verdict for each row, one for the whole."""

from collections.abc import Iterable
from typing import Final

from check.findings import (
    Chain,
    Outcome,
    RelayRange,
    Report,
    Row,
    RowVerdict,
    Step,
    Summary,
    SummaryCode,
)
from check.plan import Purpose, Transport

# The room page calls a line bad from here on; above, a talk gives up its picture.
POOR_LOSS_PERCENT: Final = 8.0
POOR_ROUND_TRIP_MS: Final = 600.0

ALL_WELL: Final = 0
RESTRICTED: Final = 1
FAILS: Final = 3

_USABLE: Final = frozenset({RowVerdict.OPEN, RowVerdict.POOR, RowVerdict.INSPECTED})
_REACHED: Final = _USABLE | {RowVerdict.UNTRUSTED, RowVerdict.REJECTED, RowVerdict.WRONG_SERVICE}
_REFUSES: Final = frozenset({Outcome.WRONG_ANSWER, Outcome.CLOSED})
_TURNED_DOWN: Final = {Outcome.REJECTED: RowVerdict.REJECTED, Outcome.TIMED_OUT: RowVerdict.POOR}
# 403: the credentials of a test are for the address that asked for them, and a web proxy has another one. 486: others
# of this network are testing, too. Neither would happen to a consultation.
_ONLY_FOR_TESTS: Final = frozenset({403, 486})


def judge_row(row: Row) -> RowVerdict:
    """What a row means. A row of a family that this machine does not have was judged before."""
    if row.verdict is RowVerdict.NO_FAMILY:
        return row.verdict
    steps = [row.connect, row.http, row.binding, row.challenge]
    outcomes = [step.outcome for step in steps if step is not None]
    if row.transport is not Transport.UDP and row.connect.outcome is not Outcome.OK:
        return RowVerdict.BLOCKED
    if row.tls is not None and row.tls.outcome is not Outcome.OK:
        return RowVerdict.WRONG_SERVICE if row.tls.outcome is Outcome.WRONG_ANSWER else RowVerdict.BLOCKED
    if any(outcome in _REFUSES for outcome in outcomes):
        return RowVerdict.WRONG_SERVICE
    if not _answers(row):
        return RowVerdict.BLOCKED
    if row.challenge is not None and row.challenge.outcome is not Outcome.OK:  # it answers STUN, but not TURN
        refused = row.challenge.outcome is Outcome.REJECTED
        return RowVerdict.REJECTED if refused else RowVerdict.WRONG_SERVICE
    if row.tls is not None and row.tls.is_own is False:
        return RowVerdict.INSPECTED if row.tls.chain is Chain.TRUSTED else RowVerdict.UNTRUSTED
    if row.tls is not None and row.tls.chain is Chain.UNTRUSTED:
        return RowVerdict.UNTRUSTED
    if row.allocate is not None and row.allocate.outcome is not Outcome.OK and not is_refused_to_tests(row):
        return _TURNED_DOWN.get(row.allocate.outcome, RowVerdict.WRONG_SERVICE)
    if row.echo is not None and is_poor(row.echo.loss_percent, row.echo.p95_ms):
        return RowVerdict.POOR
    return RowVerdict.OPEN


def is_poor(loss_percent: float, p95_ms: float | None) -> bool:
    """Whether a line is too bad for a picture."""
    return loss_percent > POOR_LOSS_PERCENT or (p95_ms is not None and p95_ms > POOR_ROUND_TRIP_MS)


def is_refused_to_tests(row: Row) -> bool:
    """Whether TURN answers, but gives a test no allocation: open, though not measured."""
    step = row.allocate
    return step is not None and step.outcome is Outcome.REJECTED and step.code in _ONLY_FOR_TESTS


def is_inspected(row: Row) -> bool:
    """Whether somebody on the way shows a certificate of his own."""
    return row.tls is not None and row.tls.is_own is False


def range_is_closed(found: RelayRange) -> bool:
    """Whether none of the relayed ports that were tried could be reached."""
    return bool(found.sampled) and not found.reached


def judge(report: Report) -> Summary:
    """The verdict about the whole, without its text."""
    code = _judge_failure(report)
    if code is not None:
        return Summary(code, FAILS)
    code = _judge_restrictions(report)
    return Summary(code, ALL_WELL if code is SummaryCode.ALL_OPEN else RESTRICTED)


def _judge_failure(report: Report) -> SummaryCode | None:
    """Why no consultation is possible; None if one is."""
    rows = [row for row in report.rows if row.verdict is not RowVerdict.NO_FAMILY]
    if not rows and any(not (name.ipv4 or name.ipv6) for name in report.names):
        return SummaryCode.NO_NAME
    if not any(row.verdict in _REACHED for row in rows):
        return SummaryCode.DEAD
    pages, relay = _of(rows, Purpose.PAGES), _of(rows, Purpose.TURN)
    if pages and not any(row.verdict in _USABLE or row.verdict is RowVerdict.UNTRUSTED for row in pages):
        return SummaryCode.NO_PAGES
    if any(row.verdict in _USABLE for row in relay):
        return None
    if any(not (name.ipv4 or name.ipv6) for name in report.names):
        return SummaryCode.NO_NAME
    if any(row.verdict is RowVerdict.REJECTED for row in relay):
        return SummaryCode.REJECTED
    if any(row.verdict is RowVerdict.UNTRUSTED for row in relay):
        return SummaryCode.ONLY_INSPECTED if any(map(is_inspected, rows)) else SummaryCode.ONLY_UNTRUSTED
    return SummaryCode.NO_RELAY


def _judge_restrictions(report: Report) -> SummaryCode:
    """What does not work as it should, the gravest first."""
    rows = [row for row in report.rows if row.verdict is not RowVerdict.NO_FAMILY]
    usable = [row for row in _of(rows, Purpose.TURN) if row.verdict in _USABLE]
    transports = {row.transport for row in usable}
    verdicts = {row.verdict for row in rows}
    if Transport.UDP not in transports and any(row.transport is Transport.UDP for row in _of(rows, Purpose.TURN)):
        return SummaryCode.ONLY_TCP if Transport.TCP in transports else SummaryCode.ONLY_TLS
    if any(map(is_inspected, rows)):
        return SummaryCode.INSPECTED
    if all(row.verdict is RowVerdict.POOR for row in usable):
        return SummaryCode.POOR
    if verdicts & {RowVerdict.BLOCKED, RowVerdict.WRONG_SERVICE, RowVerdict.REJECTED}:
        return SummaryCode.PARTLY
    if RowVerdict.UNTRUSTED in verdicts:
        return SummaryCode.UNTRUSTED
    if any(map(range_is_closed, report.relay_ranges)):
        return SummaryCode.RANGE_CLOSED
    if RowVerdict.POOR in verdicts:
        return SummaryCode.POOR
    return SummaryCode.ALL_OPEN


def _answers(row: Row) -> bool:
    if row.purpose is Purpose.PAGES:
        return row.http is not None and row.http.outcome in {Outcome.OK, Outcome.REJECTED}
    return any(_is_ok(step) for step in (row.binding, row.challenge))


def _is_ok(step: Step | None) -> bool:
    return step is not None and step.outcome is Outcome.OK


def _of(rows: Iterable[Row], purpose: Purpose) -> list[Row]:
    return [row for row in rows if row.purpose is purpose]
