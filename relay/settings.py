"""Settings of the TURN relay, with the bounds that keep it safe."""

import ipaddress
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, SecretStr, StringConstraints, model_validator

from stun.credentials import MIN_SECRET_BYTES

# A 401 to the Allocate of a browser, which has 28 bytes, may have three times as many: 20 of header, 8 of ERROR-CODE,
# 28 of NONCE, 12 of PASSWORD-ALGORITHMS and 4 before the realm leave 12 bytes for it; 24 without PASSWORD-ALGORITHMS.
MAX_REALM_WITH_ALGORITHMS: Final = 12
MAX_REALM: Final = 24
_SERVER: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):([0-9]{1,5})")


class Contradictions(ValueError):
    """Settings that are right one by one, but not together; each reason names its key and says what to do."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = tuple(reasons)


def _is_ip_address(value: str) -> str:
    return str(ipaddress.ip_address(value))


def _is_ip_network(value: str) -> str:
    return str(ipaddress.ip_network(value))


def _is_server(value: str) -> str:
    parse_server(value)
    return value


def _is_long_enough(value: SecretStr) -> SecretStr:
    size = len(value.get_secret_value().encode())
    if size < MIN_SECRET_BYTES:
        raise ValueError(f"has {size} bytes, fewer than {MIN_SECRET_BYTES}")
    return value


def parse_server(value: str) -> tuple[str, int]:
    """IP address and port of `192.0.2.1:3478` or `[2001:db8::1]:3478`.

    Raises:
        ValueError: it is not of that form.
    """
    match = _SERVER.fullmatch(value)
    if match is None or not 1 <= int(match[3]) <= 65535:
        raise ValueError(f"{value[:60]!r} is not IP:PORT or [IPv6]:PORT")
    return str(ipaddress.ip_address(match[1] or match[2])), int(match[3])


IpAddressText = Annotated[str, AfterValidator(_is_ip_address)]
IpNetworkText = Annotated[str, AfterValidator(_is_ip_network)]
ServerText = Annotated[str, AfterValidator(_is_server)]
Port = Annotated[int, Field(ge=1, le=65535)]
SecretName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,32}$")]  # it becomes a metric label
RealmName = Annotated[str, StringConstraints(min_length=1, max_length=MAX_REALM, pattern=r"^[\x21-\x7e]+$")]
NamedSecret = Annotated[SecretStr, AfterValidator(_is_long_enough)]


class PeerSettings(BaseModel, frozen=True, extra="forbid"):
    """Which peers the relay may send to, beyond the built-in denial of every special-purpose network."""

    allow: tuple[IpNetworkText, ...] = Field(
        (), description="networks re-opened although they are private or otherwise special"
    )
    deny: tuple[IpNetworkText, ...] = Field((), description="networks refused in addition; deny beats allow")


class QuotaSettings(BaseModel, frozen=True, extra="forbid"):
    """How much one client, and all clients together, may hold."""

    allocations_per_user: int = Field(24, ge=1, le=10_000, description="live allocations of one user name")
    total_share_percent: int = Field(
        80, ge=1, le=100, description="share of the relayed ports that may be allocated, in percent"
    )
    permissions_per_allocation: int = Field(64, ge=1, le=1024, description="peer IP addresses per allocation")
    channels_per_allocation: int = Field(32, ge=1, le=1024, description="channel bindings per allocation")
    stream_connections: int = Field(
        10_000, ge=1, le=1_000_000, description="open TCP and TLS connections; also DTLS associations"
    )
    bytes_per_second: int = Field(
        6_250_000,
        ge=0,
        le=10_000_000_000,
        description="payload of one allocation in each direction (6250000 are 50 Mbit/s); 0: no limit",
    )
    peer_packets_per_second: int = Field(
        10_000, ge=0, le=10_000_000, description="packets that the peers of one allocation may send it; 0: no limit"
    )
    challenges_per_second: int = Field(
        50,
        ge=1,
        le=1_000_000,
        description="answers without authentication over UDP, for each source (IPv4 address or IPv6 /56)",
    )
    challenge_burst: int = Field(
        500, ge=1, le=1_000_000, description="how many of them at once: all clients behind one NAT count together"
    )


class RealmSettings(BaseModel, frozen=True, extra="forbid"):
    """Another realm: own credentials, quota and peers. It is offered where `addresses` and `ports` fit."""

    addresses: tuple[IpAddressText, ...] = Field((), description="own addresses at which it is offered; empty: all")
    ports: tuple[Port, ...] = Field((), description="own ports at which it is offered; empty: all")
    secrets: dict[SecretName, NamedSecret] = Field(
        default_factory=dict, description="named shared secrets of its time-limited credentials"
    )
    users: dict[str, SecretStr] = Field(default_factory=dict, description="its static users and their passwords")
    allocations_per_user: int = Field(24, ge=1, le=10_000, description="live allocations of one user name")
    max_allocations: int = Field(
        0, ge=0, le=1_000_000, description="live allocations of all its users together; 0: as many as there are ports"
    )
    peers: PeerSettings = PeerSettings()

    @model_validator(mode="after")
    def _it_is_offered_somewhere(self) -> Self:
        if not self.addresses and not self.ports:
            raise ValueError("needs addresses or ports, or it would never be offered")
        return self

    @model_validator(mode="after")
    def _somebody_may_use_it(self) -> Self:
        if not self.secrets and not self.users:
            raise ValueError("needs secrets or users, or nobody could use it")
        return self


class RelaySettings(BaseModel, frozen=True, extra="forbid"):
    """Bounds of the TURN relay. A key that has a unit ends in it: `_seconds`, `_bytes`."""

    workers: int = Field(
        1, ge=1, le=64, description="relay processes that share the ports; one per core makes sense, 1 needs the least"
    )
    realm: RealmName = Field("redconnect", description="realm of the long-term credentials")
    password_algorithms: bool = Field(
        default=True,
        description="offer SHA-256 besides MD5 (RFC 8489 §9.2); needs realms of at most 12 characters",
    )
    listen_addresses: tuple[IpAddressText, ...] = Field(
        (), description="IP addresses to listen on; empty: every address of this machine"
    )
    udp_ports: tuple[Port, ...] = Field((3478, 3479), description="STUN and TURN over UDP")
    tcp_ports: tuple[Port, ...] = Field((3478, 3479), description="STUN and TURN over TCP")
    tls_ports: tuple[Port, ...] = Field(
        (5349, 5350), description="STUN and TURN over TLS; every TCP port tells TLS and plain text apart"
    )
    dtls_ports: tuple[Port, ...] = Field((), description="STUN and TURN over DTLS (UDP), usually 5349 and 5350; off")
    share_with_pages: bool = Field(
        default=False,
        description="serve the pages on tls_ports, too: name 443 there, and networks that open nothing else reach both;"
        " needs one worker",
    )
    proxy_sources: tuple[IpNetworkText, ...] = Field(
        (), description="networks of load balancers whose TCP connections begin with the PROXY protocol, v1 or v2"
    )
    relay_addresses: tuple[IpAddressText, ...] = Field(
        (),
        max_length=2,
        description="IP addresses to relay from, one per family; empty: those of the default route",
    )
    external_addresses: dict[IpAddressText, IpAddressText] = Field(
        default_factory=dict,
        description="relay address to the address that peers see, behind a one-to-one NAT",
    )
    external_address_from: tuple[ServerText, ...] = Field(
        (),
        max_length=2,
        description="IP:PORT of a STUN server, one per family, asked at the start which address peers see;"
        " external_addresses, where set, must agree with it",
    )
    alternate_servers: tuple[ServerText, ...] = Field(
        (),
        max_length=16,
        description="IP:PORT of other relays, offered instead of an allocation (300) when this one is full or drains",
    )
    datapath: Literal["auto", "plain", "kernel"] = Field(
        "plain",
        description="who relays busy flows of UDP clients: plain is user space, kernel a program in the kernel (Linux"
        " 6.6, CAP_BPF and CAP_NET_ADMIN) or no start, auto the kernel where it can; rules of the machine's own"
        " firewall do not see what the kernel relays (docs/forwarding.md)",
    )
    drain_seconds: int = Field(
        0,
        ge=0,
        le=86_400,
        description="how long SIGTERM waits for allocations to end; new ones are refused, running ones go on",
    )
    port_min: int = Field(49152, ge=1024, le=65535, description="lowest relayed UDP port")
    port_max: int = Field(65535, ge=1024, le=65535, description="highest relayed UDP port")
    default_lifetime_seconds: int = Field(600, ge=60, le=3600, description="LIFETIME without a wish (RFC 8656 §7.2)")
    max_lifetime_seconds: int = Field(3600, ge=600, le=86_400, description="clamp of LIFETIME (RFC 8656 §7.2)")
    nonce_lifetime_seconds: int = Field(3600, ge=60, le=86_400, description="age after which a NONCE is stale (438)")
    expired_user_grace_seconds: int = Field(
        86_400,
        ge=0,
        le=604_800,
        description="for how long after the expiry of its user name an allocation may be kept alive by that user; "
        "browsers cannot change the name of a running one. 0: not at all",
    )
    users: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="static users and their passwords, for tests and fixed installations",
    )
    secrets: dict[SecretName, NamedSecret] = Field(
        default_factory=dict,
        description="further shared secrets by name, accepted besides secrets.turn_secret while both are in use",
    )
    realms: dict[RealmName, RealmSettings] = Field(
        default_factory=dict,
        description="further realms by name, each with addresses, ports, secrets, users, quota and peers of its own",
    )
    strict_channels: bool = Field(
        default=False,
        description="refuse channel numbers above 0x4FFF, as RFC 8656 §12 says and deployed clients do not",
    )
    tcp_allocations: bool = Field(default=False, description="relay TCP (RFC 6062); needs one worker")
    mobility: bool = Field(
        default=False,
        description="allocations that follow their client to a new address (RFC 8016); needs one worker",
    )
    behaviour_discovery: bool = Field(
        default=False,
        description="NAT behaviour discovery (RFC 5780); needs two listen_addresses of a family, two udp_ports and one"
        " worker",
    )
    quota: QuotaSettings = QuotaSettings()
    peers: PeerSettings = PeerSettings()

    @model_validator(mode="after")
    def _keys_fit_together(self) -> Self:
        checks = (
            self._ports_are_ordered,
            self._lifetimes_are_ordered,
            self._ports_are_named_once,
            self._peers_can_reach_the_relay_addresses,
            self._one_relay_address_per_family,
            self._external_addresses_keep_the_family,
            self._a_port_speaks_one_thing,
            self._challenges_stay_small,
            self._realms_differ,
            self._state_that_workers_do_not_share,
            self._behaviour_discovery_has_two_addresses,
        )
        found = [reason for check in checks for reason in check()]
        if found:
            raise Contradictions(found)
        return self

    def _ports_are_ordered(self) -> Iterator[str]:
        if self.port_min > self.port_max:
            yield "port_min must not lie above port_max"

    def _lifetimes_are_ordered(self) -> Iterator[str]:
        if self.default_lifetime_seconds > self.max_lifetime_seconds:
            yield "default_lifetime_seconds must not lie above max_lifetime_seconds"

    def _ports_are_named_once(self) -> Iterator[str]:
        for key in ("udp_ports", "tcp_ports", "tls_ports", "dtls_ports"):
            ports = getattr(self, key)
            if len(set(ports)) != len(ports):
                yield f"{key} names a port twice"

    def _peers_can_reach_the_relay_addresses(self) -> Iterator[str]:
        for text in self.relay_addresses:
            address = ipaddress.ip_address(text)
            if address.is_unspecified or address.is_multicast:
                yield f"relay_addresses: {text} is not the address of a machine"
        unknown = set(self.external_addresses) - set(self.relay_addresses)
        if self.relay_addresses and unknown:
            yield f"external_addresses names {sorted(unknown)}, which relay_addresses does not"

    def _one_relay_address_per_family(self) -> Iterator[str]:
        versions = [ipaddress.ip_address(address).version for address in self.relay_addresses]
        if len(set(versions)) != len(versions):
            yield "relay_addresses takes one address per family"

    def _external_addresses_keep_the_family(self) -> Iterator[str]:
        for inner, outer in self.external_addresses.items():
            if ipaddress.ip_address(inner).version != ipaddress.ip_address(outer).version:
                yield f"external_addresses maps {inner} to another family"

    def _a_port_speaks_one_thing(self) -> Iterator[str]:
        for one, other in (("tcp_ports", "tls_ports"), ("udp_ports", "dtls_ports")):
            both = set(getattr(self, one)) & set(getattr(self, other))
            if both:
                yield f"{one} and {other} both name {sorted(both)}"

    def _challenges_stay_small(self) -> Iterator[str]:
        long = [name for name in (self.realm, *self.realms) if len(name) > MAX_REALM_WITH_ALGORITHMS]
        if self.password_algorithms and long:
            yield (
                f"the realm {long[0]!r} is longer than {MAX_REALM_WITH_ALGORITHMS} characters: shorten it,"
                " or set password_algorithms to false"
            )

    def _realms_differ(self) -> Iterator[str]:
        if self.realm in self.realms:
            yield f"realms names {self.realm!r}, which is the realm of everybody else"

    def _state_that_workers_do_not_share(self) -> Iterator[str]:
        for key in ("tcp_allocations", "mobility", "share_with_pages", "behaviour_discovery"):
            if self.workers > 1 and getattr(self, key):
                yield f"{key} needs workers: 1"

    def _behaviour_discovery_has_two_addresses(self) -> Iterator[str]:
        if self.behaviour_discovery:
            versions = Counter(ipaddress.ip_address(text).version for text in self.listen_addresses)
            if not versions or set(versions.values()) != {2} or len(self.udp_ports) != 2:
                yield ("behaviour_discovery needs two listen_addresses of each family it serves, and two udp_ports")
