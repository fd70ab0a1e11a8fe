"""Which peers the relay may send to: closed by default, whatever clothes an address wears.

Every address is reduced to one canonical form first (an IPv6 address that embeds an IPv4 address is judged as
both), then checked against the IANA special-purpose registries (RFC 6890 and successors).
"""

import functools
import ipaddress
from collections.abc import Iterable
from enum import Enum
from typing import Final

from relay.errors import Forbidden
from stun.address import TransportAddress

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Rule(Enum):
    """Why a peer is denied; a bounded set, fit for a metric label."""

    UNSPECIFIED = "unspecified"
    LOOPBACK = "loopback"
    PRIVATE = "private"
    SHARED = "shared"
    LINK_LOCAL = "link_local"
    MULTICAST = "multicast"
    BROADCAST = "broadcast"
    DOCUMENTATION = "documentation"
    BENCHMARKING = "benchmarking"
    SPECIAL = "special"
    TRANSITION = "transition"
    OWN = "own_address"
    CONFIGURED = "configured"


# IANA IPv4 and IPv6 Special-Purpose Address Registries, multicast, and the transition prefixes themselves.
_SPECIAL: Final = {
    Rule.UNSPECIFIED: ("0.0.0.0/8", "::/128"),
    Rule.LOOPBACK: ("127.0.0.0/8", "::1/128"),
    Rule.PRIVATE: ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10"),
    Rule.SHARED: ("100.64.0.0/10",),
    Rule.LINK_LOCAL: ("169.254.0.0/16", "fe80::/10"),
    Rule.MULTICAST: ("224.0.0.0/4", "ff00::/8"),
    Rule.BROADCAST: ("255.255.255.255/32",),
    Rule.DOCUMENTATION: ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32", "3fff::/20"),
    Rule.BENCHMARKING: ("198.18.0.0/15", "2001:2::/48"),
    Rule.TRANSITION: (
        "::/96",  # IPv4-compatible
        "::ffff:0:0/96",  # IPv4-mapped
        "::ffff:0:0:0/96",  # IPv4-translated (RFC 2765)
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",  # local-use NAT64
        "2002::/16",  # 6to4
        "2001::/32",  # Teredo
    ),
    Rule.SPECIAL: (
        "192.0.0.0/24",  # IETF protocol assignments
        "192.31.196.0/24",  # AS112-v4
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # deprecated 6to4 relay anycast
        "192.175.48.0/24",  # direct delegation AS112
        "240.0.0.0/4",  # reserved
        "100::/64",  # discard-only
        "100:0:0:1::/64",  # dummy IPv6 prefix
        "2001::/23",  # IETF protocol assignments: ORCHID and others
        "2620:4f:8000::/48",  # direct delegation AS112
        "5f00::/16",  # segment routing SIDs
    ),
}
_DENIED: Final[tuple[tuple[_Network, Rule], ...]] = tuple(
    (ipaddress.ip_network(text), rule) for rule, texts in _SPECIAL.items() for text in texts
)
_MAX_REMEMBERED: Final = 4096  # verdicts
_ISATAP_MARKS: Final = (0x00005EFE, 0x02005EFE)  # interface identifiers of RFC 5214
_THIS_MACHINE: Final = (Rule.LOOPBACK, Rule.UNSPECIFIED)  # whatever the interfaces are called
_GLOBAL_IPV6: Final = ipaddress.IPv6Network("2000::/3")


class PeerPolicy:
    """Judges peer addresses. Deny beats allow; allow re-opens what is special; everything special is denied.

    Addresses of this machine are re-opened only by naming one exactly (a /32 or /128): who opens the network that
    the server stands in does not mean the server's own services.
    """

    def __init__(
        self,
        *,
        allow: Iterable[str] = (),
        deny: Iterable[str] = (),
        own: Iterable[bytes] = (),
        own_relays: Iterable[bytes] = (),
        own_services: Iterable[TransportAddress] = (),
    ) -> None:
        """Build the policy.

        Args:
            allow: networks re-opened although they are special.
            deny: networks denied in addition.
            own: packed addresses of this machine, which nobody reaches through the relay.
            own_relays: packed addresses that relayed transport addresses live on. They are allowed although they
                may be own or special, because two relayed clients meet there; the forwarding plane sends to no
                other port of theirs than a relayed one (see `is_for_relays_only`).
            own_services: transport addresses of other parts of this installation that clients may reach over UDP,
                wherever they are: there, and at no other port of their addresses.
        """
        self._allow = tuple(ipaddress.ip_network(text) for text in allow)
        self._deny = tuple(ipaddress.ip_network(text) for text in deny)
        self._named = frozenset(network.network_address.packed for network in self._allow if network.num_addresses == 1)
        self.own = frozenset(own) | frozenset(own_relays)  # packed addresses of this machine, as it and others see them
        self._own_relays = frozenset(own_relays)
        self._own_services = frozenset(own_services)
        # A client names each peer twice and more often (CreatePermission, ChannelBind, refreshes).
        self.verdict = functools.lru_cache(maxsize=_MAX_REMEMBERED)(self._judge)

    def check(self, peer: TransportAddress) -> None:
        """Let a peer pass, or say which rule denies it.

        Raises:
            Forbidden: the policy denies the address; its cause is `peer_` and the value of a `Rule`.
        """
        rule = self.verdict(peer.ip)
        if rule is not None and (rule is Rule.CONFIGURED or peer not in self._own_services):
            raise Forbidden(f"peer_{rule.value}")

    def _judge(self, ip: bytes) -> Rule | None:
        """The rule that denies a packed IP address, or None if it is allowed."""
        address = ipaddress.ip_address(ip)
        forms = (*_embedded(address), address)  # the innermost address tells best what somebody tried to reach
        if any(_within(form, self._deny) for form in forms):
            return Rule.CONFIGURED
        if ip in self._own_relays:
            return None
        for form in forms:
            if form.packed in self._named:
                continue
            rule = _special(form)
            if rule in _THIS_MACHINE:
                return rule
            if form.packed in self.own:
                return Rule.OWN
            if rule is not None and not _within(form, self._allow):
                return rule
        return None

    def is_closed_relay(self, ip: bytes) -> bool:
        """Whether relayed transport addresses live here, and nothing else may be reached but own services."""
        return ip in self._own_relays and ip not in self._named

    def is_for_relays_only(self, ip: bytes) -> bool:
        """Whether only relayed transport addresses, and own services, may be reached here.

        `allow` names no such own address, or the address is denied but for a service.
        """
        if ip in self._own_relays:
            return ip not in self._named
        return any(ip == service.ip for service in self._own_services) and self.verdict(ip) is not None

    @property
    def closed(self) -> frozenset[bytes]:
        """All packed addresses of which `is_for_relays_only` is true."""
        candidates = self._own_relays | {service.ip for service in self._own_services}
        return frozenset(filter(self.is_for_relays_only, candidates))


def _special(address: _Address) -> Rule | None:
    for network, rule in _DENIED:
        if address in network:
            return rule
    if isinstance(address, ipaddress.IPv6Address) and address not in _GLOBAL_IPV6:
        return Rule.SPECIAL  # nothing else of IPv6 is assigned (IANA, Internet Protocol Version 6 Address Space)
    return None


def _within(address: _Address, networks: tuple[_Network, ...]) -> bool:
    return any(address in network for network in networks)


def _embedded(address: _Address) -> tuple[_Address, ...]:
    """IPv4 addresses that an IPv6 address carries: a translator or tunnel on the way would reach them."""
    if isinstance(address, ipaddress.IPv4Address):
        return ()
    value = int(address)
    low = ipaddress.IPv4Address(value & 0xFFFFFFFF)
    found: list[_Address] = []
    if value >> 32 in (0, 0xFFFF, 0xFFFF0000, 0x0064FF9B << 64) and value > 1:
        found.append(low)  # compatible, mapped, translated, NAT64
    elif value >> 80 == 0x0064FF9B0001:
        found.append(low)  # local-use NAT64, embedded as in a /96 (RFC 6052)
    elif address.sixtofour is not None:
        found.append(address.sixtofour)
    elif address.teredo is not None:
        found.extend(address.teredo)
    elif value >> 32 & 0xFFFFFFFF in _ISATAP_MARKS:
        found.append(low)
    return tuple(found)
