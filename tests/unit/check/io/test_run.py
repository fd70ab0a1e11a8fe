import pytest

from check.findings import Outcome, Report, Row, RowVerdict, SummaryCode
from check.io import run as runner
from check.io.run import Request, run_check
from check.plan import Family, Ports, Purpose
from check.target import Target
from stun.credentials import Credential
from tests.support.tcp_server import saying, serve_tcp

HERE = Target("127.0.0.1", 443)
ALICE = Credential("alice", "secret")


class Watcher:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.rows = 0
        self.finished: list[Row] = []

    def looking_up(self, name: str) -> None:
        self.names.append(name)

    def planned(self, rows: int) -> None:
        self.rows += rows

    def done(self, row: Row) -> None:
        self.finished.append(row)


async def check(ports: Ports, **options: object) -> Report:
    values = {"target": HERE, "language": "de", "families": (Family.IPV4,), "ports": ports, "credential": ALICE}
    return await run_check(Request(**{**values, **options}), Watcher())  # type: ignore[arg-type]


async def test_where_nobody_listens_every_row_is_refused_and_has_its_rule() -> None:
    watcher = Watcher()
    report = await run_check(Request(HERE, "de", (Family.IPV4,), Ports((9,), (9,), (9,)), ALICE), watcher)
    assert report.summary.code is SummaryCode.DEAD
    assert [row.verdict for row in report.rows] == [RowVerdict.BLOCKED] * 3
    udp, tcp, tls = report.rows
    assert udp.binding is not None and udp.binding.outcome is Outcome.REFUSED
    assert tcp.connect.outcome is tls.connect.outcome is Outcome.REFUSED
    assert [(rule.protocol, rule.first_port) for rule in report.missing_rules] == [("udp", 9), ("tcp", 9), ("tcp", 9)]
    assert (watcher.names, watcher.rows, len(watcher.finished)) == (["127.0.0.1"], 3, 3)


async def test_a_server_that_takes_connections_and_says_nothing_is_cut_short_and_counts_as_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "TOTAL_SECONDS", 0.5)
    async with serve_tcp(saying(b"")) as port:
        report = await check(Ports((), (port,), (port,)))
    assert [row.verdict for row in report.rows] == [RowVerdict.BLOCKED] * 2
    tcp, tls = report.rows
    assert tcp.connect.outcome is Outcome.OK
    assert tcp.binding is not None and tcp.binding.outcome is Outcome.TIMED_OUT
    assert tls.tls is not None and tls.tls.outcome is not Outcome.OK


async def test_a_web_server_where_turn_should_be_is_a_stranger() -> None:
    async with serve_tcp(saying(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        report = await check(Ports((), (port,), (port,)))
    assert [row.verdict for row in report.rows] == [RowVerdict.WRONG_SERVICE] * 2


async def test_with_credentials_of_its_own_it_leaves_the_pages_alone() -> None:
    report = await check(Ports((), (9,), ()))
    assert {row.purpose for row in report.rows} == {Purpose.TURN}
    assert (report.credentials, report.service.outcome) == ("given", Outcome.NOT_TRIED)


async def test_without_credentials_the_pages_are_asked_and_the_rest_is_tried_all_the_same() -> None:
    report = await check(Ports((), (9,), ()), credential=None, target=Target("127.0.0.1", 9))
    assert [row.purpose for row in report.rows] == [Purpose.PAGES, Purpose.TURN]
    assert report.credentials == "none"


async def test_a_family_that_the_host_has_no_address_of_has_no_rows() -> None:
    report = await check(Ports((9,), (), ()), families=tuple(Family))
    assert {row.family for row in report.rows} == {Family.IPV4}


async def test_a_family_that_this_machine_has_no_way_into_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "own_address", lambda *_: None)
    report = await check(Ports((9,), (9,), ()))
    assert [row.verdict for row in report.rows] == [RowVerdict.NO_FAMILY] * 2
    assert report.missing_rules == []


async def test_a_network_stands_in_the_rules_of_its_family_alone() -> None:
    for source, expected in (("192.0.2.0/24", "192.0.2.0/24"), ("2001:db8::/64", "127.0.0.1")):
        (rule,) = (await check(Ports((9,), (), ()), source=source)).missing_rules
        assert rule.source == expected


async def test_a_bug_in_a_row_does_not_look_like_a_closed_port(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(runner, "probe", fail)
    with pytest.raises(ZeroDivisionError):
        await check(Ports((9,), (), ()))
