"""Which addresses this machine has, and which of them the default route would use."""

import ipaddress
import socket
from collections.abc import Iterable, Mapping, Sequence

import ifaddr

from relay.datapath import RelayAddress
from relay.settings import RelaySettings

# Documentation addresses: connecting a UDP socket to one asks the routing table and sends nothing.
_FAR_AWAY: dict[socket.AddressFamily, str] = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}


def own_addresses() -> list[str]:
    """Every IP address of this machine's interfaces, in text; link-local IPv6 addresses are left out.

    A link-local address is nothing without its zone, and no browser gets one as a candidate.
    """
    found = []
    for adapter in ifaddr.get_adapters():
        for entry in adapter.ips:
            text = entry.ip if isinstance(entry.ip, str) else entry.ip[0]
            if not (":" in text and ipaddress.ip_address(text).is_link_local):
                found.append(text)
    return found


def listen_addresses(settings: RelaySettings) -> list[str]:
    """The configured listening addresses, or all of this machine."""
    return list(settings.listen_addresses) or own_addresses()


def relay_addresses(settings: RelaySettings) -> list[RelayAddress]:
    """Where relayed transport addresses live: as configured, or what the machine would send from, one per family.

    A family without any address but loopback is not relayed; if that is true of both, 127.0.0.1 serves, because two
    clients of the same machine still meet there.
    """
    return chosen_addresses(settings.relay_addresses, settings.external_addresses)


def chosen_addresses(named: Sequence[str], external: Mapping[str, str]) -> list[RelayAddress]:
    """The named addresses, or what the machine would send from, one per family, with what others see them as."""
    chosen = list(named)
    if not chosen:
        own = [text for text in own_addresses() if not ipaddress.ip_address(text).is_loopback]
        candidates = (_by_route(family) or _first(own, family) for family in _FAR_AWAY)
        chosen = [text for text in candidates if text is not None] or ["127.0.0.1"]
    return [RelayAddress(_packed(address), _packed(external.get(address, address))) for address in chosen]


def packed_addresses(addresses: Iterable[str]) -> frozenset[bytes]:
    """The packed forms."""
    return frozenset(_packed(address) for address in addresses)


def _by_route(family: socket.AddressFamily) -> str | None:
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((_FAR_AWAY[family], 9))
            text = str(probe.getsockname()[0]).partition("%")[0]
    except OSError:
        return None  # no route: a closed network, perhaps
    return None if ipaddress.ip_address(text).is_link_local else text


def _first(own: list[str], family: socket.AddressFamily) -> str | None:
    version = 6 if family == socket.AF_INET6 else 4
    return next((text for text in own if ipaddress.ip_address(text).version == version), None)


def _packed(address: str) -> bytes:
    return ipaddress.ip_address(address).packed
