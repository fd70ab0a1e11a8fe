"""Settings of the SFU, with the bounds that keep it safe."""

import ipaddress
from typing import Annotated, Final, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

from stun.address import TransportAddress

_MAX_PORT: Final = 65_535


def _is_ip_address(value: str) -> str:
    return str(ipaddress.ip_address(value))


IpAddressText = Annotated[str, AfterValidator(_is_ip_address)]


class SfuAddress(NamedTuple):
    """Where the SFU listens, and what clients are told."""

    bound: TransportAddress
    advertised: tuple[TransportAddress, ...]  # preferred ones first


class SfuSettings(BaseModel, frozen=True, extra="forbid"):
    """Bounds of the SFU, which forwards the media of conferences. It runs where `services` names it."""

    udp_port: int = Field(
        7882,
        ge=1,
        le=65535,
        description="UDP port of all media; with workers the first of as many in a row, one for each",
    )
    workers: int = Field(
        1,
        ge=1,
        le=64,
        description="processes that share the conferences, one per CPU core; a conference is in one of them",
    )
    listen_addresses: tuple[IpAddressText, ...] = Field(
        (), description="IP addresses to listen on, one per family; empty: those of the default route"
    )
    external_addresses: dict[IpAddressText, IpAddressText] = Field(
        default_factory=dict, description="own address to the address that clients see, behind a one-to-one NAT"
    )
    max_rooms: int = Field(100, ge=1, le=250, description="conferences at a time, of each worker")
    max_members: int = Field(20, ge=2, le=20, description="people in one conference")
    max_members_in_all: int = Field(500, ge=2, le=500, description="people in all conferences of a worker")
    audio_places: int = Field(5, ge=3, le=5, description="of how many people the sound is forwarded at a time")
    cameras: int = Field(20, ge=1, le=20, description="of how many people one person gets the picture at most")
    start_bits_per_second: int = Field(
        300_000, ge=30_000, le=10_000_000, description="what a path is taken to carry before it was measured"
    )
    max_bits_per_second: int = Field(
        10_000_000, ge=150_000, le=100_000_000, description="what one person is sent at most"
    )
    drain_seconds: int = Field(
        0, ge=0, le=86_400, description="how long conferences may go on after SIGTERM; no new ones begin meanwhile"
    )

    @property
    def udp_ports(self) -> range:
        """The ports of all workers, by their number."""
        return range(self.udp_port, self.udp_port + self.workers)

    @model_validator(mode="after")
    def _every_worker_has_a_port(self) -> Self:
        if self.udp_ports[-1] > _MAX_PORT:
            raise ValueError(f"udp_port: {self.workers} workers need the ports up to {self.udp_ports[-1]}")
        return self

    @model_validator(mode="after")
    def _one_address_per_family(self) -> Self:
        versions = [ipaddress.ip_address(address).version for address in self.listen_addresses]
        if len(set(versions)) != len(versions):
            raise ValueError("listen_addresses takes one address per family")
        return self

    @model_validator(mode="after")
    def _clients_can_reach_the_addresses(self) -> Self:
        for text in self.listen_addresses:
            address = ipaddress.ip_address(text)
            if address.is_unspecified or address.is_multicast:
                raise ValueError(f"listen_addresses: {text} is not the address of a machine")
        for inner, outer in self.external_addresses.items():
            seen = ipaddress.ip_address(outer)
            if ipaddress.ip_address(inner).version != seen.version:
                raise ValueError(f"external_addresses maps {inner} to another family")
            if seen.is_unspecified or seen.is_multicast or seen.is_link_local:
                raise ValueError(f"external_addresses: nobody can send to {outer}")
        unknown = set(self.external_addresses) - set(self.listen_addresses)
        if self.listen_addresses and unknown:
            raise ValueError(f"external_addresses names {sorted(unknown)}, which listen_addresses does not")
        return self

    @model_validator(mode="after")
    def _bitrates_are_ordered(self) -> Self:
        if self.start_bits_per_second > self.max_bits_per_second:
            raise ValueError("start_bits_per_second must not lie above max_bits_per_second")
        return self
