"""User names of connection tests: time-limited ones that say what they are for and whose they are.

`1780000000:test:203.0.113.7`, or `1780000000:test:2001:db8:1:2::/64`: good until this Unix second, for a client at this
IPv4 address, or in this /64. Whoever issues them and the relay that enforces it share this form, and nothing else.
"""

import ipaddress
import re
from typing import Final

_IPV6_PREFIX: Final = 64  # bits: one line; what lies below, a device changes as it likes
_NAME: Final = re.compile(r"[0-9]{1,12}:test:(.*)", re.ASCII | re.DOTALL)

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def trial_identity(address: str) -> str:
    """What follows the expiry in the user name of a test from this IP address; a zone is left out.

    Raises:
        ValueError: it is no IP address.
    """
    network = trial_network(address)
    return f"test:{network.network_address if network.version == 4 else network}"


def trial_network(address: str) -> Network:
    """Whom a test from this IP address is for: the IPv4 address, mapped into IPv6 or not, or the /64.

    Raises:
        ValueError: it is no IP address.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is None:
            return ipaddress.IPv6Network((ip, _IPV6_PREFIX), strict=False)
        ip = ip.ipv4_mapped
    return ipaddress.IPv4Network(ip)


def read_trial(username: str) -> Network | None:
    """Whom a user name is a test for; None if it is an ordinary one.

    Raises:
        ValueError: it says that it is a test, but not whose: it must not count as an ordinary name.
    """
    match = _NAME.fullmatch(username)
    if match is None:
        return None
    network = ipaddress.ip_network(match[1])
    if network.prefixlen != (32 if network.version == 4 else _IPV6_PREFIX):
        raise ValueError("a test is for one IPv4 address, or one /64")
    return network
