"""`redconnect check` in a lab of namespaces: it names what the gateway between it and the real service does."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from check.plan import TOTAL_SECONDS
from tests.support.firewall_lab import DEAD, HOST, PAGES_PORT, Authority, FirewallLab, open_firewall_lab
from tests.support.service import Service, run_service

PROMISED_SECONDS: Final = 30.0
ESTABLISHED: Final = "ct state established,related accept"
EVERY_ROW: Final = (f"pages {PAGES_PORT}", "udp 3478", "udp 3479", "tcp 3478", "tcp 3479", "tls 5349", "tls 5350")
V4: Final = "--no-ipv6"  # what a gateway does to one family it does to the other: half of the time is enough
FEW: Final = (V4, "--udp-ports", "3478", "--tcp-ports", "3478", "--tls-ports", "5349")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FirewallLab]:
    with open_firewall_lab(tmp_path_factory.mktemp("firewall")) as opened:
        yield opened


@pytest.fixture(scope="module")
def service(lab: FirewallLab) -> Iterator[Service]:
    with run_service(lab.folder, lab.settings, lab.server) as running:
        yield running


pytestmark = [pytest.mark.long, pytest.mark.usefixtures("service")]


def test_where_everything_is_open_every_port_of_both_families_is(lab: FirewallLab) -> None:
    checked = lab.check()
    assert checked.is_all_open, checked.report
    for family in ("ipv4", "ipv6"):
        assert checked.verdicts(family) == dict.fromkeys(EVERY_ROW, "open")
    for row in checked.report["rows"][2:]:
        assert row["allocate"]["outcome"] == "ok"
        assert row["echo"]["way"] == "relayed"
        assert row["echo"]["received"] > 0
    assert checked.report["credentials"] == "service"
    assert checked.report["missing_rules"] == []
    for found in checked.report["relay_ranges"]:
        assert found["reached"] == found["sampled"] and len(found["sampled"]) == 6
        assert (found["first_port"], found["last_port"]) == (49152, 65535)


def test_the_certificate_of_an_untouched_way_is_trusted_and_the_services_own(lab: FirewallLab) -> None:
    tls = lab.check(V4, "--tls-ports", "5349", "--udp-ports", "", "--tcp-ports", "").row("tls", 5349)["tls"]
    assert (tls["chain"], tls["is_own"], tls["alpn"]) == ("trusted", True, "stun.turn")
    assert tls["issuer"] == lab.authority.name
    assert 80 < tls["days_left"] <= 90


def test_where_udp_is_blocked_it_says_so_and_tcp_is_open(lab: FirewallLab) -> None:
    with lab.firewall("meta l4proto udp drop"):
        checked = lab.check(*FEW)
    assert (checked.status, checked.verdict) == (1, "only_tcp")
    verdicts = checked.verdicts()
    assert {row for row, verdict in verdicts.items() if verdict == "blocked"} == {"udp 3478"}
    assert checked.row("udp", 3478)["binding"]["outcome"] == "timed_out"
    assert checked.row("tcp", 3478)["echo"]["way"] == "control"
    assert checked.report["seconds"] <= PROMISED_SECONDS


def test_where_only_5349_is_open_it_says_that_there_is_nothing_but_tls(lab: FirewallLab) -> None:
    with lab.firewall(ESTABLISHED, f"tcp dport {{ {PAGES_PORT}, 5349 }} accept", policy="drop"):
        checked = lab.check(V4)
    assert (checked.status, checked.verdict) == (1, "only_tls")
    assert {row for row, verdict in checked.verdicts().items() if verdict == "open"} == {
        f"pages {PAGES_PORT}",
        "tls 5349",
    }, checked.row("tls", 5349)
    assert checked.row("tls", 5349)["echo"]["received"] > 0
    assert checked.report["seconds"] <= PROMISED_SECONDS


def test_a_closed_relay_range_is_told_from_closed_ports(lab: FirewallLab) -> None:
    with lab.firewall(f'iifname "{lab.lab.alice_link}" udp dport 49152-65535 drop'):
        checked = lab.check(V4)
    assert (checked.status, checked.verdict) == (1, "range_closed")
    assert checked.verdicts() == dict.fromkeys(EVERY_ROW, "open")
    (found,) = checked.report["relay_ranges"]
    assert found["reached"] == [] and len(found["sampled"]) == 6
    (rule,) = checked.report["missing_rules"]
    assert (rule["protocol"], rule["first_port"], rule["last_port"]) == ("udp", 49152, 65535)
    assert (rule["source"], rule["destination"]) == (lab.lab.alice_ip, lab.lab.bob_ip)


@pytest.mark.parametrize(("is_trusted", "verdict"), [(False, "untrusted"), (True, "inspected")])
def test_a_proxy_that_breaks_tls_open_is_found(
    lab: FirewallLab,
    is_trusted: bool,  # noqa: FBT001
    verdict: str,
) -> None:
    inspector = Authority("Corporate Inspection", lab.folder)
    with lab.inspection(inspector, [PAGES_PORT, 5349]):
        checked = lab.check(*FEW, trusts=[inspector] if is_trusted else [])
    assert (checked.status, checked.verdict) == (1, "inspected")
    verdicts = checked.verdicts()
    assert {row for row, each in verdicts.items() if each == verdict} == {f"pages {PAGES_PORT}", "tls 5349"}
    tls = checked.row("tls", 5349)["tls"]
    assert (tls["issuer"], tls["is_own"]) == (inspector.name, False)


def test_an_inspected_way_that_no_browser_trusts_is_none_when_it_is_the_only_one(lab: FirewallLab) -> None:
    inspector = Authority("Corporate Inspection", lab.folder)
    with lab.inspection(inspector, [PAGES_PORT, 5349]), lab.firewall(ESTABLISHED, policy="drop"):
        checked = lab.check(*FEW)
    assert (checked.status, checked.verdict) == (3, "only_inspected")


def test_a_dead_host_is_given_up_in_time(lab: FirewallLab) -> None:
    checked = lab.check(host=DEAD)
    assert (checked.status, checked.verdict) == (3, "dead")
    assert set(checked.verdicts().values()) == {"blocked"}
    assert checked.report["seconds"] <= TOTAL_SECONDS < PROMISED_SECONDS


def test_a_network_that_swallows_everything_is_given_up_in_time(lab: FirewallLab) -> None:
    with lab.firewall(policy="drop"):
        checked = lab.check()
    assert (checked.status, checked.verdict) == (3, "dead")
    assert checked.row("tcp", 3478)["connect"]["outcome"] == "timed_out"
    assert checked.report["seconds"] <= TOTAL_SECONDS < PROMISED_SECONDS


def test_a_firewall_that_refuses_is_told_from_one_that_is_silent(lab: FirewallLab) -> None:
    with lab.firewall("tcp dport 3478 reject with tcp reset", "udp dport 3478 reject"):
        checked = lab.check(*FEW)
    assert checked.row("tcp", 3478)["connect"]["outcome"] == "refused"
    assert checked.row("udp", 3478)["binding"]["outcome"] == "refused"
    assert checked.verdict == "only_tls"


def test_whoever_runs_the_commands_for_nftables_as_printed_and_tests_again_has_everything_open_after_two_steps(
    lab: FirewallLab,
) -> None:
    with lab.firewall(ESTABLISHED, f"tcp dport {PAGES_PORT} accept", policy="drop"):
        for status in (3, 1):  # the range can be tried only when the ports are open
            printed = lab.run_check(HOST, *FEW)
            assert printed.returncode == status
            lab.shell("\n".join(line for line in printed.stdout.splitlines() if line.startswith("nft ")))
        checked = lab.check(*FEW)
    assert checked.is_all_open, checked.report


def test_a_name_that_does_not_exist_is_the_reason(lab: FirewallLab) -> None:
    checked = lab.check(host="nowhere.example.org")
    assert (checked.status, checked.verdict) == (3, "no_name")


def test_a_way_that_carries_smaller_packets_is_measured(lab: FirewallLab) -> None:
    link = lab.lab.bob_link
    lab.shell(f"ip link set {link} mtu 1400")
    try:
        checked = lab.check(V4, "--udp-ports", "3478", "--tcp-ports", "", "--tls-ports", "")
    finally:
        lab.shell(f"ip link set {link} mtu 1500")
    assert checked.row("udp", 3478)["largest_packet_bytes"] == 1400


def test_the_terminal_ends_with_the_verdict_in_words(lab: FirewallLab, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    with lab.firewall("meta l4proto udp drop"):
        result = lab.run_check(HOST, *FEW, "--html", str(page))
    assert result.returncode == 1
    assert "Videosprechstunde möglich: ja, aber nur über TCP" in " ".join(result.stdout.split())
    text = page.read_text()
    assert "Videosprechstunde möglich: ja, aber nur über TCP" in text
    assert "udp-portrange 3478" in text
    assert "//" not in text.replace("<!doctype", "")
