"""Collects addresses, ports and the range of relayed ports."""

import asyncio
import ipaddress
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from config.doctor.facts import Addresses, Advertised, Bound, Endpoint, PortRange, Service
from config.doctor.io.proc import parse_ranges
from config.schema import Settings
from relay.io.addresses import chosen_addresses, own_addresses
from relay.io.external_address import ExternalAddressError, ask_external_address
from stun.address import TransportAddress

ANSWER_SECONDS: Final = 2.0
_LOCAL_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_RESERVED: Final = Path("/proc/sys/net/ipv4/ip_local_reserved_ports")


def collect_addresses(settings: Settings, service: Service) -> Addresses:
    """Look at the interfaces, and ask a running relay at the addresses that peers are told."""
    advertised: list[Advertised] = []
    mapped: list[tuple[str, str]] = []
    if "relay" in settings.services:
        relay = settings.relay
        mapped += [("relay.external_addresses", inner) for inner in relay.external_addresses]
        port = next(iter(relay.udp_ports), 0)
        told = _advertised("relay.relay_addresses", relay.relay_addresses, relay.external_addresses)
        advertised += [_ask(each, port) if service.is_running and port else each for each in told]
    if "sfu" in settings.services:
        sfu = settings.sfu
        mapped += [("sfu.external_addresses", inner) for inner in sfu.external_addresses]
        advertised += _advertised("sfu.listen_addresses", sfu.listen_addresses, sfu.external_addresses)
    return Addresses(tuple(own_addresses()), tuple(advertised), tuple(mapped))


def wanted_endpoints(settings: Settings) -> list[Endpoint]:
    """Where the service listens, as the settings say."""
    found: list[Endpoint] = []
    relay, signaling, sfu, admin = settings.relay, settings.signaling, settings.sfu, settings.admin
    if "relay" in settings.services:
        found += _endpoints("UDP", (*relay.udp_ports, *relay.dtls_ports), relay.listen_addresses)
        found += _endpoints("TCP", (*relay.tcp_ports, *relay.tls_ports), relay.listen_addresses)
    if "signaling" in settings.services:
        found += _endpoints("TCP", (signaling.port,), signaling.listen_addresses)
    if "sfu" in settings.services:
        found += _endpoints("UDP", sfu.udp_ports, sfu.listen_addresses)
    return [*found, *_endpoints("TCP", (admin.port,), (admin.address,))]


def collect_relay_range(settings: Settings, bound: Sequence[Bound], service: Service) -> PortRange:
    """See what else may get relayed ports.

    Raises:
        OSError: the kernel does not tell.
    """
    first, last = settings.relay.port_min, settings.relay.port_max
    local_first, local_last = map(int, _LOCAL_RANGE.read_text().split())
    others = [
        each
        for each in bound
        if each.endpoint.protocol == "UDP"
        and first <= each.endpoint.port <= last
        and each.holder is not None  # who cannot be seen may be ours
        and each.holder.pid not in service.pids
    ]
    return PortRange(first, last, local_first, local_last, parse_ranges(_RESERVED.read_text()), tuple(others))


def _advertised(key: str, named: Sequence[str], external: dict[str, str]) -> Iterator[Advertised]:
    for bound, told in chosen_addresses(named, external):
        yield Advertised(key, str(ipaddress.ip_address(bound)), str(ipaddress.ip_address(told)))


def _ask(each: Advertised, port: int) -> Advertised:
    """A Binding request of our own to where peers and clients are told to go."""

    async def ask() -> bytes:
        async with asyncio.timeout(ANSWER_SECONDS):
            own = ipaddress.ip_address(each.bound).packed
            return await ask_external_address(own, TransportAddress.parse(each.told, port))

    try:
        answer = str(ipaddress.ip_address(asyncio.run(ask())))
    except (ExternalAddressError, TimeoutError):
        answer = ""
    return each._replace(answer=answer, was_asked=True)


def _endpoints(protocol: str, ports: Sequence[int], addresses: Sequence[str]) -> Iterator[Endpoint]:
    hosts = ["" if ipaddress.ip_address(text).is_unspecified else text for text in addresses] or [""]
    for host in hosts:
        for port in ports:
            yield Endpoint(protocol, host, port)
