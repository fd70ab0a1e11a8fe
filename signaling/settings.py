"""Settings of the signaling endpoint and its pages."""

import ipaddress
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, Field, model_validator

from signaling.ice_servers import parse_host

MIN_CREDENTIAL_REST_SECONDS = 3600  # what is left of a TURN credential when its entry window closes


def _is_ip_address(value: str) -> str:
    return str(ipaddress.ip_address(value))


IpAddressText = Annotated[str, AfterValidator(_is_ip_address)]


def _is_host(value: str) -> str:
    return parse_host(value) if value else ""


HostText = Annotated[str, AfterValidator(_is_host)]


def _is_plain(value: str) -> str:
    if not all(character.isprintable() or character == "\n" for character in value):
        raise ValueError("contains a character that cannot be printed")
    return value.strip(" \n,")


PlainText = Annotated[str, AfterValidator(_is_plain)]


class IceSettings(BaseModel, frozen=True, extra="forbid"):
    """The STUN and TURN servers that seated clients are told."""

    host: HostText = Field(
        "",
        description="host of the relay; empty: the one of the page. Firefox needs a name, not an address, for turns:",
    )
    credential_lifetime_seconds: int = Field(
        93_600,
        ge=7200,
        le=777_600,
        description="validity of a TURN credential, which a client gets once when it joins: at least an hour longer "
        "than entry_opens_minutes and entry_closes_hours together",
    )


class OperatorSettings(BaseModel, frozen=True, extra="forbid"):
    """Who runs this service: stands in the imprint and beside the privacy notice. Where empty, the pages say so."""

    name: PlainText = Field("", max_length=200, description="name of the person or company, with its legal form")
    address: PlainText = Field(
        "",
        max_length=500,
        description="postal address, not a post-office box; commas or line breaks separate its lines",
    )
    email: str = Field(
        "",
        max_length=254,
        pattern=r"^([A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9.-]{1,253})?$",
        description="e-mail address for participants, organisers and authorities",
    )
    phone: str = Field("", max_length=40, pattern=r"^(\+?[0-9 ()/.-]{3,39})?$", description="telephone number")


class SignalingSettings(BaseModel, frozen=True, extra="forbid"):
    """Bounds of the signaling endpoint. A key that has a unit ends in it."""

    listen_addresses: tuple[IpAddressText, ...] = Field(
        (), description="IP addresses of pages, API and WebSocket; empty: every address of this machine"
    )
    port: int = Field(8080, ge=1, le=65535, description="TCP port of pages, API and WebSocket")
    https: bool = Field(
        default=False,
        description="serve the pages over TLS; browsers give cameras to https:// and http://localhost only",
    )
    public_url: str = Field(
        "",
        max_length=512,
        pattern=r"^(https?://[A-Za-z0-9.:\[\]-]+)?$",
        description="address of the page in printed links, without a slash at the end; no page of another address may "
        "join. Empty: http(s)://localhost:<port> in links, and any address that leads here",
    )
    entry_opens_minutes: int = Field(30, ge=0, le=1440, description="minutes before the planned start when entry opens")
    entry_closes_hours: int = Field(24, ge=1, le=168, description="hours after the planned start when the codes end")
    seat_hold_seconds: int = Field(30, ge=5, le=300, description="how long a silent seat is kept for its resume token")
    heartbeat_seconds: int = Field(15, ge=5, le=60, description="pause between WebSocket pings")
    claims_per_seat: int = Field(4, ge=2, le=16, description="unconfirmed clients that may hold one seat side by side")
    max_clients: int = Field(10_000, ge=2, le=1_000_000, description="open WebSockets; more are told overload")
    unknown_codes_per_minute: int = Field(
        10, ge=1, le=1000, description="unknown locators from one address (/64 for IPv6)"
    )
    ice: IceSettings = IceSettings()
    operator: OperatorSettings = OperatorSettings()

    @model_validator(mode="after")
    def _credentials_outlive_the_entry_window(self) -> Self:
        window = 60 * self.entry_opens_minutes + 3600 * self.entry_closes_hours
        if self.ice.credential_lifetime_seconds < window + MIN_CREDENTIAL_REST_SECONDS:
            least = window + MIN_CREDENTIAL_REST_SECONDS
            raise ValueError(
                f"ice.credential_lifetime_seconds must not lie below {least}: an hour more than "
                "entry_opens_minutes and entry_closes_hours together"
            )
        return self
