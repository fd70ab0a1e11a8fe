"""Settings of the TURN relay, with the bounds that keep it safe."""

import ipaddress
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, Field, SecretStr, model_validator


def _is_ip_address(value: str) -> str:
    return str(ipaddress.ip_address(value))


def _is_ip_network(value: str) -> str:
    return str(ipaddress.ip_network(value))


IpAddressText = Annotated[str, AfterValidator(_is_ip_address)]
IpNetworkText = Annotated[str, AfterValidator(_is_ip_network)]
Port = Annotated[int, Field(ge=1, le=65535)]


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
    stream_connections: int = Field(10_000, ge=1, le=1_000_000, description="open TCP and TLS connections")


class RelaySettings(BaseModel, frozen=True, extra="forbid"):
    """Bounds of the TURN relay. A key that has a unit ends in it: `_seconds`, `_bytes`."""

    workers: int = Field(
        1, ge=1, le=64, description="relay processes that share the ports; one per core makes sense, 1 needs the least"
    )
    realm: str = Field(
        "redconnect",
        min_length=1,
        max_length=24,  # so that a challenge stays below three times the Allocate of Chromium, which has 28 bytes
        pattern=r"^[\x21-\x7e]+$",
        description="realm of the long-term credentials",
    )
    listen_addresses: tuple[IpAddressText, ...] = Field(
        (), description="IP addresses to listen on; empty: every address of this machine"
    )
    udp_ports: tuple[Port, ...] = Field((3478, 3479), description="STUN and TURN over UDP")
    tcp_ports: tuple[Port, ...] = Field((3478, 3479), description="STUN and TURN over TCP")
    tls_ports: tuple[Port, ...] = Field((5349, 5350), description="STUN and TURN over TLS")
    relay_addresses: tuple[IpAddressText, ...] = Field(
        (),
        max_length=2,
        description="IP addresses to relay from, one per family; empty: those of the default route",
    )
    external_addresses: dict[IpAddressText, IpAddressText] = Field(
        default_factory=dict,
        description="relay address to the address that peers see, behind a one-to-one NAT",
    )
    port_min: int = Field(49152, ge=1024, le=65535, description="lowest relayed UDP port")
    port_max: int = Field(65535, ge=1024, le=65535, description="highest relayed UDP port")
    default_lifetime_seconds: int = Field(600, ge=60, le=3600, description="LIFETIME without a wish (RFC 8656 §7.2)")
    max_lifetime_seconds: int = Field(3600, ge=600, le=86_400, description="clamp of LIFETIME (RFC 8656 §7.2)")
    nonce_lifetime_seconds: int = Field(3600, ge=60, le=86_400, description="age after which a NONCE is stale (438)")
    users: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="static users and their passwords, for tests and fixed installations",
    )
    quota: QuotaSettings = QuotaSettings()
    peers: PeerSettings = PeerSettings()

    @model_validator(mode="after")
    def _ports_are_ordered(self) -> Self:
        if self.port_min > self.port_max:
            raise ValueError("port_min must not lie above port_max")
        return self

    @model_validator(mode="after")
    def _lifetimes_are_ordered(self) -> Self:
        if self.default_lifetime_seconds > self.max_lifetime_seconds:
            raise ValueError("default_lifetime_seconds must not lie above max_lifetime_seconds")
        return self

    @model_validator(mode="after")
    def _ports_are_named_once(self) -> Self:
        for key in ("udp_ports", "tcp_ports", "tls_ports"):
            ports = getattr(self, key)
            if len(set(ports)) != len(ports):
                raise ValueError(f"{key} names a port twice")
        return self

    @model_validator(mode="after")
    def _peers_can_reach_the_relay_addresses(self) -> Self:
        for text in self.relay_addresses:
            address = ipaddress.ip_address(text)
            if address.is_unspecified or address.is_multicast:
                raise ValueError(f"relay_addresses: {text} is not the address of a machine")
        unknown = set(self.external_addresses) - set(self.relay_addresses)
        if self.relay_addresses and unknown:
            raise ValueError(f"external_addresses names {sorted(unknown)}, which relay_addresses does not")
        return self

    @model_validator(mode="after")
    def _one_relay_address_per_family(self) -> Self:
        versions = [ipaddress.ip_address(address).version for address in self.relay_addresses]
        if len(set(versions)) != len(versions):
            raise ValueError("relay_addresses takes one address per family")
        return self

    @model_validator(mode="after")
    def _external_addresses_keep_the_family(self) -> Self:
        for inner, outer in self.external_addresses.items():
            if ipaddress.ip_address(inner).version != ipaddress.ip_address(outer).version:
                raise ValueError(f"external_addresses maps {inner} to another family")
        return self

    @model_validator(mode="after")
    def _a_stream_port_speaks_one_thing(self) -> Self:
        both = set(self.tcp_ports) & set(self.tls_ports)
        if both:
            raise ValueError(f"tcp_ports and tls_ports both name {sorted(both)}")
        return self
