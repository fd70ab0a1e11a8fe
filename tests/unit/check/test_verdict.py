import pytest

from check.findings import (
    Chain,
    EchoFinding,
    EchoWay,
    Name,
    Outcome,
    Row,
    RowVerdict,
    Step,
    SummaryCode,
    TlsFinding,
)
from check.plan import Family, Transport
from check.verdict import judge, judge_row
from tests.support.check_samples import (
    DOCUMENTED,
    HOST,
    SILENT,
    all_open,
    blocked_row,
    open_row,
    pages_row,
    range_of,
    report_of,
    tls,
)


def udp(**changes: object) -> Row:
    return changed(open_row(Transport.UDP, 3478), **changes)


def tcp(**changes: object) -> Row:
    return changed(open_row(Transport.TCP, 3478), **changes)


def secured(**changes: object) -> Row:
    return changed(open_row(Transport.TLS, 5349), **changes)


def changed(row: Row, **changes: object) -> Row:
    for name, value in changes.items():
        setattr(row, name, value)
    return row


def echo(loss_percent: float, p95_ms: float) -> EchoFinding:
    return EchoFinding(EchoWay.RELAYED, 150, 100, loss_percent, 20.0, p95_ms, 1.0)


def handshake(outcome: Outcome) -> TlsFinding:
    found = tls()
    found.outcome = outcome
    return found


JUDGED = {
    "all is well": (udp(), RowVerdict.OPEN),
    "UDP that nobody answers": (udp(binding=SILENT, challenge=SILENT), RowVerdict.BLOCKED),
    "UDP that is refused": (udp(binding=Step(Outcome.REFUSED), challenge=Step(Outcome.REFUSED)), RowVerdict.BLOCKED),
    "STUN without TURN": (udp(challenge=SILENT), RowVerdict.WRONG_SERVICE),
    "TURN that overloads": (udp(challenge=Step(Outcome.REJECTED, 3.0, 508)), RowVerdict.REJECTED),
    "TCP that nobody takes": (tcp(connect=SILENT), RowVerdict.BLOCKED),
    "TCP that swallows what is sent": (tcp(binding=SILENT, challenge=SILENT), RowVerdict.BLOCKED),
    "TCP that speaks something else": (tcp(binding=Step(Outcome.WRONG_ANSWER)), RowVerdict.WRONG_SERVICE),
    "TCP that hangs up": (tcp(binding=Step(Outcome.CLOSED)), RowVerdict.WRONG_SERVICE),
    "TLS that is none": (secured(tls=handshake(Outcome.WRONG_ANSWER)), RowVerdict.WRONG_SERVICE),
    "TLS that is swallowed": (secured(tls=handshake(Outcome.TIMED_OUT)), RowVerdict.BLOCKED),
    "a certificate of somebody whom this machine trusts": (secured(tls=tls(is_own=False)), RowVerdict.INSPECTED),
    "a certificate of somebody whom it does not trust": (
        secured(tls=tls(is_own=False, chain=Chain.UNTRUSTED)),
        RowVerdict.UNTRUSTED,
    ),
    "a certificate of its own, self-signed": (secured(tls=tls(chain=Chain.UNTRUSTED)), RowVerdict.UNTRUSTED),
    "a certificate that nothing is known about": (secured(tls=tls(is_own=None)), RowVerdict.OPEN),
    "a wrong password": (udp(allocate=Step(Outcome.REJECTED, 9.0, 401)), RowVerdict.REJECTED),
    "an address that a test may not have": (udp(allocate=Step(Outcome.REJECTED, 9.0, 403)), RowVerdict.OPEN),
    "others of this network who test": (udp(allocate=Step(Outcome.REJECTED, 9.0, 486)), RowVerdict.OPEN),
    "an Allocate that is never answered": (udp(allocate=SILENT), RowVerdict.POOR),
    "no credentials": (udp(allocate=None, permission=None, echo=None), RowVerdict.OPEN),
    "a tenth of the packets lost": (udp(echo=echo(10.0, 30.0)), RowVerdict.POOR),
    "packets that take a second": (udp(echo=echo(0.0, 1000.0)), RowVerdict.POOR),
    "a line that is just good enough": (udp(echo=echo(8.0, 600.0)), RowVerdict.OPEN),
    "pages": (pages_row(), RowVerdict.OPEN),
    "pages that know no test": (changed(pages_row(), http=Step(Outcome.REJECTED, 9.0, 404)), RowVerdict.OPEN),
    "pages behind a login portal": (changed(pages_row(), http=Step(Outcome.WRONG_ANSWER)), RowVerdict.WRONG_SERVICE),
    "pages that never answer": (changed(pages_row(), http=SILENT), RowVerdict.BLOCKED),
}


@pytest.mark.parametrize(("row", "verdict"), JUDGED.values(), ids=JUDGED)
def test_a_row_is_judged_by_its_steps(row: Row, verdict: RowVerdict) -> None:
    assert judge_row(row) is verdict


def test_a_family_that_this_machine_does_not_have_stays_out_of_it() -> None:
    missing = changed(blocked_row(Transport.UDP, 3478, Family.IPV6), verdict=RowVerdict.NO_FAMILY)
    assert judge_row(missing) is RowVerdict.NO_FAMILY
    report = report_of([*all_open(), missing])
    assert report.summary.code is SummaryCode.ALL_OPEN
    assert report.missing_rules == []


def only(*open_ports: tuple[Transport, int]) -> list[Row]:
    """Pages, and of the documented ports only these."""
    rows = [(open_row if point in open_ports else blocked_row)(*point) for point in DOCUMENTED]
    return [pages_row(), *rows]


def with_tls(**changes: object) -> list[Row]:
    rows = all_open()
    for row in rows:
        if row.tls is not None:
            row.tls = tls(**changes)
    return rows


SUMMARIES = {
    "everything is open": (all_open(), SummaryCode.ALL_OPEN, 0),
    "UDP is blocked": (only((Transport.TCP, 3478), (Transport.TLS, 5349)), SummaryCode.ONLY_TCP, 1),
    "only 5349 is open": (only((Transport.TLS, 5349)), SummaryCode.ONLY_TLS, 1),
    "one port is closed": (only(*DOCUMENTED[1:]), SummaryCode.PARTLY, 1),
    "TLS is inspected by somebody trusted": (with_tls(is_own=False), SummaryCode.INSPECTED, 1),
    "TLS is inspected by somebody else": (
        with_tls(is_own=False, chain=Chain.UNTRUSTED),
        SummaryCode.INSPECTED,
        1,
    ),
    "the certificate is self-signed": (with_tls(chain=Chain.UNTRUSTED), SummaryCode.UNTRUSTED, 1),
    "nothing but what is inspected is open": (
        [*with_tls(is_own=False, chain=Chain.UNTRUSTED)[-2:], pages_row(), blocked_row(Transport.UDP, 3478)],
        SummaryCode.ONLY_INSPECTED,
        3,
    ),
    "nothing but a self-signed certificate is open": (
        [*with_tls(chain=Chain.UNTRUSTED)[-2:], pages_row(), blocked_row(Transport.UDP, 3478)],
        SummaryCode.ONLY_UNTRUSTED,
        3,
    ),
    "the relay is blocked": (only(), SummaryCode.NO_RELAY, 3),
    "the pages are blocked": (
        [changed(pages_row(), connect=SILENT, tls=None, http=None), *all_open()[1:]],
        SummaryCode.NO_PAGES,
        3,
    ),
    "nothing answers": (
        [changed(pages_row(), connect=SILENT, tls=None, http=None), *only()[1:]],
        SummaryCode.DEAD,
        3,
    ),
    "the password is wrong": (
        [pages_row(), udp(allocate=Step(Outcome.REJECTED, 9.0, 401))],
        SummaryCode.REJECTED,
        3,
    ),
    "every way is lossy": (
        [pages_row(), udp(echo=echo(20.0, 30.0)), tcp(echo=echo(0.0, 2000.0))],
        SummaryCode.POOR,
        1,
    ),
    "one way is lossy": ([pages_row(), udp(echo=echo(20.0, 30.0)), tcp()], SummaryCode.POOR, 1),
    "IPv6 is blocked": (
        [*all_open(), *(blocked_row(*point, Family.IPV6) for point in DOCUMENTED)],
        SummaryCode.PARTLY,
        1,
    ),
    "a TURN server without pages": (all_open()[1:], SummaryCode.ALL_OPEN, 0),
}


@pytest.mark.parametrize(("rows", "code", "status"), SUMMARIES.values(), ids=SUMMARIES)
def test_the_whole_is_judged_by_its_rows(rows: list[Row], code: SummaryCode, status: int) -> None:
    summary = report_of(rows).summary
    assert (summary.code, summary.exit_status) == (code, status)


def test_a_closed_range_is_a_restriction_and_half_a_range_is_none() -> None:
    assert report_of(all_open(), [range_of([], [50000, 60000])]).summary.code is SummaryCode.RANGE_CLOSED
    assert report_of(all_open(), [range_of([50000], [50000, 60000])]).summary.code is SummaryCode.ALL_OPEN


def test_a_name_without_addresses_is_the_reason() -> None:
    report = report_of([])
    report.names = [Name(HOST, Step(Outcome.REJECTED))]
    assert judge(report).code is SummaryCode.NO_NAME


def test_a_relay_whose_name_has_no_address_is_the_reason_though_the_pages_answer() -> None:
    report = report_of([pages_row()])
    report.names.append(Name("relay.example.org", SILENT))
    assert judge(report).code is SummaryCode.NO_NAME
