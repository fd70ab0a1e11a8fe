"""Which rules a firewall needs, and how three of them take them: nftables, pfSense and FortiGate."""

import ipaddress
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from check.findings import RelayRange, Report, Row, RowVerdict, Rule
from check.plan import Purpose, Transport
from check.verdict import range_is_closed

MAX_LABEL_CHARACTERS: Final = 64  # nftables takes comments of up to 128


class SourceError(ValueError):
    """The source of the rules is no network."""


class Group(NamedTuple):
    """Rules that differ in nothing but their ports."""

    source: str
    destination: str
    host: str
    protocol: str
    ports: tuple[tuple[int, int], ...]  # the first and the last of each stretch, in order

    @property
    def is_ipv6(self) -> bool:
        """Of which family its addresses are."""
        return ":" in self.destination

    @property
    def written_ports(self) -> str:
        """The ports as people write them: 3478-3479, 5349."""
        return ", ".join(map(_stretch, self.ports))


def parse_source(text: str) -> str:
    """The network whose machines the rules are for, such as 192.0.2.0/24.

    Raises:
        SourceError: it is none.
    """
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError as error:
        raise SourceError("write a network such as 192.0.2.0/24 or 2001:db8::/64") from error
    return str(network)


def rule_of(row: Row, source: str) -> Rule:
    """The rule that opens the way of a row."""
    return Rule(source, row.address, row.host, row.point.protocol, row.port, row.port)


def rule_of_range(found: RelayRange, host: str, source: str) -> Rule:
    """The rule that opens the relay's range."""
    return Rule(source, found.address, host, "udp", found.first_port, found.last_port)


def missing_rules(report: Report) -> list[Rule]:
    """Rules of all that is closed here, though a firewall could open it; the most useful first."""
    rows = [row for row in report.rows if row.verdict is RowVerdict.BLOCKED and row.rule is not None]
    order = {Purpose.PAGES: 0, Purpose.TURN: 1, Purpose.STUN: 2}
    transports = list(Transport)
    rows.sort(key=lambda row: (order[row.purpose], transports.index(row.transport), row.family, row.port))
    found = [row.rule for row in rows if row.rule is not None]
    return found + [each.rule for each in report.relay_ranges if each.rule is not None and range_is_closed(each)]


def all_rules(report: Report) -> list[Rule]:
    """Rules of everything that is documented, whether it is open or not."""
    found = [row.rule for row in report.rows if row.rule is not None and row.verdict is not RowVerdict.NO_FAMILY]
    return found + [each.rule for each in report.relay_ranges if each.rule is not None]


def grouped(rules: Iterable[Rule]) -> list[Group]:
    """Rules that differ only in their ports as one, with neighbouring ports drawn together."""
    found: dict[tuple[str, str, str, str], set[tuple[int, int]]] = {}
    for rule in rules:
        key = (rule.source, rule.destination, rule.host, rule.protocol)
        found.setdefault(key, set()).add((rule.first_port, rule.last_port))
    return [Group(*key, _joined(sorted(ports))) for key, ports in found.items()]


def nftables(groups: Sequence[Group]) -> str:
    """Commands that put the rules at the head of the chain that a gateway forwards by."""
    lines = []
    for group in groups:
        family = "ip6" if group.is_ipv6 else "ip"
        match = f"{family} saddr {group.source} {family} daddr {group.destination}"
        lines.append(
            f"nft insert rule inet filter forward {match} {group.protocol} dport '{{ {group.written_ports} }}'"
            f" accept comment '\"{_label(group)}\"'"
        )
    return "\n".join(lines)


def pfsense(groups: Sequence[Group]) -> str:
    """`easyrule` for single ports, which is what it can do; a stretch of ports as the fields of the form."""
    lines = []
    for group in groups:
        for first, last in group.ports:
            if last - first < 2:
                lines += [
                    f"easyrule pass lan {group.protocol} {group.source} {group.destination} {port}"
                    for port in range(first, last + 1)
                ]
                continue
            family = "IPv6" if group.is_ipv6 else "IPv4"
            lines += [
                "# Firewall > Rules > LAN > Add (easyrule takes no range of ports):",
                f"#   Action Pass, Address Family {family}, Protocol {group.protocol.upper()}",
                f"#   Source {group.source}, Destination {group.destination}, Port {first} to {last}",
            ]
    return "\n".join(lines)


def fortigate(groups: Sequence[Group]) -> str:
    """CLI commands; the names of the interfaces are the usual ones and may differ."""
    if not groups:
        return ""
    objects, services, policies = [], [], []
    for number, group in enumerate(groups, 1):
        name = f"redconnect-{number}"
        prefix = "6" if group.is_ipv6 else ""
        verb = "ip6" if group.is_ipv6 else "subnet"
        length = "/128" if group.is_ipv6 else "/32"
        objects += [f"config firewall address{prefix}"]
        for label, address in (("src", group.source), ("dst", group.destination)):
            value = address if "/" in address else address + length
            objects += [f'    edit "{name}-{label}"', f"        set {verb} {value}", "    next"]
        objects += ["end"]
        ports = " ".join(map(_stretch, group.ports))
        services += [f'    edit "{name}"', f"        set {group.protocol}-portrange {ports}", "    next"]
        policies += [
            "    edit 0",
            f'        set name "{name}"',
            '        set srcintf "internal"',
            '        set dstintf "wan1"',
            f'        set srcaddr{prefix} "{name}-src"',
            f'        set dstaddr{prefix} "{name}-dst"',
            f'        set service "{name}"',
            '        set schedule "always"',
            "        set action accept",
            *([] if group.is_ipv6 else ["        set nat enable"]),
            "    next",
        ]
    body = [*objects, "config firewall service custom", *services, "end", "config firewall policy", *policies, "end"]
    return "\n".join(body)


FORMATS: Final = {"nftables": nftables, "pfSense": pfsense, "FortiGate": fortigate}


def _joined(ports: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    joined: list[tuple[int, int]] = []
    for first, last in ports:
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return tuple(joined)


def _stretch(ports: tuple[int, int]) -> str:
    first, last = ports
    return str(first) if first == last else f"{first}-{last}"


def _label(group: Group) -> str:
    return f"redconnect {group.host}"[:MAX_LABEL_CHARACTERS]
