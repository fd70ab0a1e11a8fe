"""The whole check: names, the service's own answer, then every port side by side. Ends within TOTAL_SECONDS."""

import asyncio
import time
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from check.findings import Name, Outcome, Own, RelayRange, Report, Row, RowVerdict, Step
from check.firewall import missing_rules, rule_of, rule_of_range
from check.io.dial import close, prepare_tls
from check.io.lookup import look_up, own_address
from check.io.peer import open_peer
from check.io.probe import PAGES_ALPN, TURN_ALPN, Surroundings, open_secured, probe
from check.io.service import ask_service
from check.plan import (
    PAGES_SECONDS,
    RELAY_PORTS,
    TOTAL_SECONDS,
    Family,
    Point,
    Ports,
    Transport,
    pages_point,
    relay_points,
)
from check.service_answer import ServiceAnswer
from check.target import Target
from check.verdict import judge, judge_row
from stun.credentials import Credential

_Answers = dict[Family, ServiceAnswer]


@dataclass(frozen=True)
class Request:
    """What is asked for."""

    target: Target
    language: str  # de or en
    families: Sequence[Family] = tuple(Family)
    ports: Ports | None = None  # None: what the service documents, else the usual ones
    credential: Credential | None = None  # for any TURN server; then no service is asked
    source: str | None = None  # network of the rules; None: the own address


class Progress(Protocol):
    """Whoever watches."""

    def looking_up(self, name: str) -> None:
        """A name is being looked up."""

    def planned(self, rows: int) -> None:
        """So many rows are tried from now on."""

    def done(self, row: Row) -> None:
        """A row has been tried, and judged."""


async def run_check(request: Request, progress: Progress) -> Report:
    """Try everything and judge it; the text of the summary is left to whoever shows the report."""
    began = time.monotonic()
    started = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    report = Report(request.target.host, started, request.language)
    around = Surroundings(began + TOTAL_SECONDS)
    for alpn in (PAGES_ALPN, TURN_ALPN):
        prepare_tls(alpn)
    progress.looking_up(request.target.host)
    report.names.append(await look_up(request.target.host))
    answers = await _visit_pages(request, report, around, progress) if request.credential is None else {}
    _take_credentials(request, report, around, answers)
    points = _points(request, answers)
    await _look_up_others(points, report, progress)
    rows = _make_rows(request, report, points)
    report.rows += rows
    await _probe_all(rows, around, progress)
    _conclude(request, report, around, answers)
    report.seconds = round(time.monotonic() - began, 1)
    return report


async def _visit_pages(request: Request, report: Report, around: Surroundings, progress: Progress) -> _Answers:
    """Ask the service over each family; a credential holds for the address that it was asked from."""
    rows = _make_rows(request, report, [pages_point(request.target)])
    report.rows += rows
    answers: _Answers = {}
    await _side_by_side([_visit(row, request.target, report, answers) for row in _within_reach(rows)], PAGES_SECONDS)
    for answer in answers.values():
        around.fingerprints |= answer.fingerprints
    is_listed = any(answer.pages_certificate_is_listed for answer in answers.values())
    for row in rows:
        if is_listed and row.tls is not None and row.tls.sha256 and around.fingerprints:
            row.tls.is_own = row.tls.sha256 in around.fingerprints
        row.verdict = judge_row(row)
        progress.done(row)
    return answers


async def _visit(row: Row, target: Target, report: Report, answers: _Answers) -> None:
    streams = await open_secured(row, PAGES_ALPN, frozenset())
    if streams is None:
        return
    await close(streams)
    row.http = Step(Outcome.TIMED_OUT)
    row.http, answer = await ask_service(target, row.address)
    if report.service.outcome is not Outcome.OK:
        report.service = row.http
    if answer is not None:
        answers[row.family] = answer


def _take_credentials(request: Request, report: Report, around: Surroundings, answers: _Answers) -> None:
    if request.credential is not None:
        around.credentials = dict.fromkeys(Family, request.credential)
        report.credentials = "given"
    elif answers:
        around.credentials = {family: answer.turn for family, answer in answers.items()}
        report.credentials = "service"


def _points(request: Request, answers: _Answers) -> list[Point]:
    answer = next(iter(answers.values()), None)
    if answer is not None and request.ports is None:
        return answer.points
    host = request.target.host if answer is None else answer.relay_host
    return relay_points(host, request.ports or Ports())


async def _look_up_others(points: Iterable[Point], report: Report, progress: Progress) -> None:
    known = {name.name for name in report.names}
    others = sorted({point.host for point in points} - known)
    for name in others:
        progress.looking_up(name)
    report.names += await asyncio.gather(*map(look_up, others))


def _make_rows(request: Request, report: Report, points: Iterable[Point]) -> list[Row]:
    """A row for each point and family of which its host has an address; enters this machine's addresses."""
    names = {name.name: name for name in report.names}
    rows = []
    for point in points:
        for family in request.families:
            row = _make_row(request, report, point, family, names[point.host])
            if row is not None:
                rows.append(row)
    return rows


def _make_row(request: Request, report: Report, point: Point, family: Family, name: Name) -> Row | None:
    address = next(iter(name.addresses(family)), None)
    if address is None:
        return None
    row = Row(point.purpose, point.transport, family, point.host, point.port, address)
    own = own_address(family, address, point.port)
    if own is None:
        row.verdict = RowVerdict.NO_FAMILY
        return row
    if all(each.family is not family for each in report.own):
        report.own.append(Own(family, own))
    row.rule = rule_of(row, _source(request, family, own))
    return row


def _source(request: Request, family: Family, own: str) -> str:
    """The network that was named, if it is of this family, else the own address."""
    given = request.source
    return given if given is not None and (":" in given) == (family is Family.IPV6) else own


def _within_reach(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row.verdict is not RowVerdict.NO_FAMILY]


async def _probe_all(rows: Sequence[Row], around: Surroundings, progress: Progress) -> None:
    reachable = _within_reach(rows)
    progress.planned(len(reachable))
    await _open_peers(reachable, around)

    async def follow(row: Row) -> None:
        try:
            await probe(row, around)
        finally:
            row.verdict = judge_row(row)
            progress.done(row)

    try:
        await _side_by_side([follow(row) for row in reachable], around.remaining)
    finally:
        for task in around.learning.values():
            task.cancel()
        await asyncio.gather(*around.learning.values(), return_exceptions=True)
        for peer in around.peers.values():
            peer.close()


async def _open_peers(rows: Sequence[Row], around: Surroundings) -> None:
    """Open the far ends of the echoes where there are credentials, and let them learn their addresses meanwhile."""
    for family in Family:
        servers = [(row.address, row.port) for row in rows if row.family is family and row.transport is Transport.UDP]
        if family in around.credentials and any(row.family is family for row in rows):
            peer = around.peers[family] = await open_peer(family)
            around.learning[family] = asyncio.ensure_future(peer.learn(servers))


async def _side_by_side(work: Sequence[Coroutine[None, None, None]], seconds: float) -> None:
    """Run all of it for so long at most; what is not done then is cut short, and has entered how far it came."""
    tasks = [asyncio.ensure_future(each) for each in work]
    if not tasks:
        return
    try:
        done, unfinished = await asyncio.wait(tasks, timeout=max(seconds, 0))
    finally:
        for task in tasks:
            task.cancel()
    await asyncio.gather(*unfinished, return_exceptions=True)
    for task in done:
        task.result()  # a bug in a row must not look like a closed port


def _conclude(request: Request, report: Report, around: Surroundings, answers: _Answers) -> None:
    for own in report.own:
        own.seen_as = around.seen_as.get(own.family, "")
    for family in Family:
        found = _range_of(request, report, family, answers.get(family))
        if found is not None:
            report.relay_ranges.append(found)
    report.missing_rules = missing_rules(report)
    report.summary = judge(report)


def _range_of(request: Request, report: Report, family: Family, answer: ServiceAnswer | None) -> RelayRange | None:
    """What the rows' allocations say about the relay's range in a family; None if none was tried."""
    tried = [
        (row.host, row.relayed_port)
        for row in report.rows
        if row.relayed_port is not None and row.relayed_port.reached is not None
    ]
    tried = [(host, port) for host, port in tried if (":" in port.address) == (family is Family.IPV6)]
    if not tried:
        return None
    low, high = answer.relay_ports if answer is not None else RELAY_PORTS
    host, first = tried[0]
    found = RelayRange(family, first.address, low, high)
    found.sampled = sorted(port.port for _, port in tried)
    found.reached = sorted(port.port for _, port in tried if port.reached)
    own = next((each.address for each in report.own if each.family is family), first.address)
    found.rule = rule_of_range(found, host, _source(request, family, own))
    return found
