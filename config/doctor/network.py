"""Judges addresses, ports and the range of relayed ports."""

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from config.doctor.facts import Addresses, Advertised, Bound, Endpoint, PortRange, Service
from config.doctor.findings import Finding, fault, ok, warning

MAX_SHOWN: Final = 3  # sockets of others that are named


def check_addresses(facts: Addresses) -> Iterator[Finding]:
    """What peers are told must lead to an address that this machine has."""
    for key, address in facts.mapped:
        if address not in facts.own:
            mend = f"map one of {_shown(facts.own)}, or bring {address} up"
            yield fault("address", f"{key} maps {address}, which this machine does not have", mend)
    for each in facts.advertised:
        yield _check_advertised(each, facts.own)


def check_ports(wanted: Sequence[Endpoint], bound: Sequence[Bound], service: Service) -> list[Finding]:
    """Every port that the settings name is ours, or free as long as the service does not run."""
    found = [finding for endpoint in wanted if (finding := _check_port(endpoint, bound, service)) is not None]
    if found:
        return found
    if service.is_running:
        return [ok("ports", f"all {len(wanted)} ports are bound by the service")]
    return [ok("ports", f"all {len(wanted)} ports are free; the service does not run")]


def check_relay_range(facts: PortRange) -> Iterator[Finding]:
    """Nobody else may get relayed ports: neither a listener nor an outgoing connection."""
    if facts.others:
        yield warning(
            "relay range",
            f"of the UDP ports {facts.first}-{facts.last} {len(facts.others)} are held by {_holders(facts.others)}",
            "reserve the range as below, and start what holds them anew",
        )
    free = _outside(range(max(facts.first, facts.local_first), min(facts.last, facts.local_last) + 1), facts.reserved)
    if free is None:
        yield ok("relay range", f"{facts.first}-{facts.last} is not given to anybody else by the kernel")
        return
    kept = [f"{first}-{last}" for first, last in (*facts.reserved, (facts.first, facts.last))]
    yield warning(
        "relay range",
        f"the kernel gives ports of {facts.first}-{facts.last} to outgoing connections (ip_local_port_range"
        f" {facts.local_first}-{facts.local_last})",
        f"sysctl -w net.ipv4.ip_local_reserved_ports={','.join(kept)}",
    )


def _check_port(endpoint: Endpoint, bound: Sequence[Bound], service: Service) -> Finding | None:
    holders = [each for each in bound if _collide(each.endpoint, endpoint)]
    if any(each.holder is not None and each.holder.pid in service.pids for each in holders):
        return None
    if holders and service.trouble:
        return warning("ports", f"whether {endpoint} is bound by the service cannot be told", "see `service`")
    if holders and service.is_running and all(each.holder is None for each in holders):
        return warning("ports", f"who holds {endpoint} cannot be seen", "run the doctor as root")
    if holders:
        return fault("ports", f"{endpoint} is taken by {_holders(holders)}", "stop that, or choose another port")
    if service.is_running:
        return fault("ports", f"{endpoint} is not bound although the service runs", "look at its log")
    return None


def _check_advertised(facts: Advertised, own: Sequence[str]) -> Finding:
    told = ipaddress.ip_address(facts.told)
    if facts.bound not in own:
        mend = f"name one of {_shown(own)} in {facts.key}"
        return fault("address", f"{facts.bound} is no address of this machine", mend)
    if told.is_unspecified or told.is_multicast or told.is_link_local:
        mend = f"map {facts.bound} to the address that peers see"
        return fault("address", f"peers cannot reach {facts.told}, which they are told", mend)
    is_silent = facts.was_asked and not facts.answer
    if is_silent and facts.told == facts.bound:
        mend = "look at the firewall of this machine"
        return fault("address", f"the relay does not answer at its own address {facts.told}", mend)
    if told.is_private or told.is_loopback:
        mend = f"behind a NAT map it to the public address: {_external(facts)}"
        return warning("address", f"peers are told {facts.told}, which only this network can reach", mend)
    if is_silent:
        mend = "many routers do not send back what is meant for themselves: redconnect check from outside is the proof"
        return warning("address", f"the relay does not answer at {facts.told} from here", mend)
    how = f" (a NAT makes it of {facts.bound})" if facts.told != facts.bound else ""
    asked = ", and the relay answers there" if facts.answer else ""
    return ok("address", f"peers are told {facts.told}{how}{asked}")


def _external(facts: Advertised) -> str:
    section = facts.key.partition(".")[0]
    return f'{section}.external_addresses: {{"{facts.bound}": "PUBLIC ADDRESS"}}'


def _collide(one: Endpoint, other: Endpoint) -> bool:
    if (one.protocol, one.port) != (other.protocol, other.port):
        return False
    return one.address == other.address or not one.address or not other.address


def _outside(ports: range, reserved: Iterable[tuple[int, int]]) -> int | None:
    """A port that is in none of the reserved ranges."""
    return next((port for port in ports if not any(first <= port <= last for first, last in reserved)), None)


def _holders(bound: Sequence[Bound]) -> str:
    names = dict.fromkeys(
        "somebody" if each.holder is None else f"{each.holder.name} (PID {each.holder.pid})" for each in bound
    )
    return _shown(list(names))


def _shown(texts: Sequence[str]) -> str:
    more = len(texts) - MAX_SHOWN
    return ", ".join(texts[:MAX_SHOWN]) + (f" and {more} more" if more > 0 else "") if texts else "none"
