import re

import pytest

from check.findings import Rule
from check.firewall import (
    FORMATS,
    SourceError,
    all_rules,
    fortigate,
    grouped,
    missing_rules,
    nftables,
    parse_source,
    pfsense,
)
from check.plan import Family, Transport
from tests.support.check_samples import (
    ADDRESSES,
    DOCUMENTED,
    HOST,
    OWN,
    all_open,
    blocked_row,
    pages_row,
    range_of,
    report_of,
)


def rule(protocol: str, first: int, last: int | None = None, family: Family = Family.IPV4) -> Rule:
    return Rule(OWN[family], ADDRESSES[family], HOST, protocol, first, last or first)


def test_what_is_open_lacks_no_rule() -> None:
    assert missing_rules(report_of(all_open(), [range_of([50000], [50000])])) == []


def test_what_is_blocked_lacks_its_rule_and_the_pages_come_first() -> None:
    rows = [blocked_row(*point) for point in DOCUMENTED]
    rules = missing_rules(report_of([*rows, pages_row()], [range_of([], [50000])]))
    assert [(each.protocol, each.first_port, each.last_port) for each in rules] == [
        ("udp", 3478, 3478),
        ("udp", 3479, 3479),
        ("tcp", 3478, 3478),
        ("tcp", 3479, 3479),
        ("tcp", 5349, 5349),
        ("tcp", 5350, 5350),
        ("udp", 49152, 65535),
    ]
    assert all((each.source, each.destination) == (OWN[Family.IPV4], ADDRESSES[Family.IPV4]) for each in rules)
    assert all(each.direction == "outbound" for each in rules)


def test_every_documented_port_has_a_rule_whether_it_is_open_or_not() -> None:
    rules = all_rules(report_of(all_open(), [range_of([50000], [50000])]))
    assert len(rules) == 1 + len(DOCUMENTED) + 1


def test_ports_in_a_row_become_one_stretch_for_each_protocol() -> None:
    udp, tcp = grouped([rule("udp", 3479), rule("udp", 3478), rule("tcp", 3478), rule("tcp", 5349), rule("udp", 3478)])
    assert (udp.written_ports, tcp.written_ports) == ("3478-3479", "3478, 5349")


def test_nftables_gets_one_command_for_each_group() -> None:
    text = nftables(grouped([rule("udp", 3478), rule("udp", 49152, 65535), rule("tcp", 5349, family=Family.IPV6)]))
    begin, end = "nft insert rule inet filter forward", "accept comment '\"redconnect video.example.org\"'"
    assert text.splitlines() == [
        f"{begin} ip saddr 192.0.2.5 ip daddr 203.0.113.7 udp dport '{{ 3478, 49152-65535 }}' {end}",
        f"{begin} ip6 saddr 2001:db8:1::5 ip6 daddr 2001:db8::7 tcp dport '{{ 5349 }}' {end}",
    ]


def test_pfsense_gets_easyrule_for_ports_and_the_form_for_a_range() -> None:
    text = pfsense(grouped([rule("tcp", 3478), rule("tcp", 3479), rule("udp", 49152, 65535)]))
    assert text.splitlines()[:2] == [
        "easyrule pass lan tcp 192.0.2.5 203.0.113.7 3478",
        "easyrule pass lan tcp 192.0.2.5 203.0.113.7 3479",
    ]
    assert "Port 49152 to 65535" in text
    assert all(line.startswith(("easyrule ", "#")) for line in text.splitlines())


def test_fortigate_names_nothing_that_it_does_not_define() -> None:
    text = fortigate(grouped([rule("udp", 3478), rule("tcp", 5349, family=Family.IPV6)]))
    defined = set(re.findall(r'edit "([^"]+)"', text))
    used = set(re.findall(r'set (?:src|dst)addr6? "([^"]+)"', text)) | set(re.findall(r'set service "([^"]+)"', text))
    assert used <= defined
    assert "set tcp-portrange 5349" in text and "set ip6 2001:db8::7/128" in text
    assert text.count("config ") == text.splitlines().count("end")
    assert text.count("edit ") == text.count("    next")
    assert text.count("set nat enable") == 1  # IPv6 is not translated


@pytest.mark.parametrize("name", FORMATS)
def test_no_rules_are_no_text(name: str) -> None:
    assert FORMATS[name]([]) == ""


@pytest.mark.parametrize(("text", "network"), [("192.0.2.7/24", "192.0.2.0/24"), ("2001:db8::/64", "2001:db8::/64")])
def test_a_source_is_a_network(text: str, network: str) -> None:
    assert parse_source(text) == network


@pytest.mark.parametrize("text", ["", "lan", "192.0.2.0/33", "'; reboot"])
def test_a_source_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(SourceError, match="such as"):
        parse_source(text)


def test_a_transport_over_tls_needs_tcp() -> None:
    (found,) = missing_rules(report_of([pages_row(), blocked_row(Transport.TLS, 5349)]))
    assert found.protocol == "tcp"
