"""Settings of the signaling endpoint and its pages."""

import ipaddress
import re
from datetime import datetime, timedelta
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, Field, SecretStr, StringConstraints, model_validator

from signaling.appointments import MAX_PEOPLE, EntryWindow, Tier
from signaling.ice_servers import parse_host

Feature = Literal["screen"]


def _is_ip_address(value: str) -> str:
    return str(ipaddress.ip_address(value))


IpAddressText = Annotated[str, AfterValidator(_is_ip_address)]


def _is_ip_network(value: str) -> str:
    return str(ipaddress.ip_network(value))


IpNetworkText = Annotated[str, AfterValidator(_is_ip_network)]


def _is_host(value: str) -> str:
    return parse_host(value) if value else ""


_REDIS_URL = re.compile(  # no query: it could switch anything in the client library
    r"rediss?://(?:[^\s/?#@]*@)?(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?(?:/[0-9]{1,3})?"
    r"|unix://(?:[^\s/?#@]*@)?/[^\s?#]+",
    re.ASCII,
)


def _is_redis_url(value: SecretStr) -> SecretStr:
    url = value.get_secret_value()
    match = _REDIS_URL.fullmatch(url)
    if url and (match is None or not 1 <= int(match["port"] or 6379) <= 65535):  # no word of it: it holds a password
        raise ValueError("does not look like redis://host:6379/0, rediss://… or unix:///path")
    return value


RedisUrl = Annotated[SecretStr, AfterValidator(_is_redis_url)]
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
        900,
        ge=10,
        le=777_600,
        description="validity of a TURN credential. A client in a room gets the next one after a half to three "
        "quarters of it; what it relays with an old one goes on (relay.expired_user_grace_seconds)",
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


class BasisSettings(BaseModel, frozen=True, extra="forbid"):
    """What the rooms of the tier basis can do beyond talking."""

    features: tuple[Feature, ...] = Field((), description="screen: participants may share their screens")


class PlusSettings(BaseModel, frozen=True, extra="forbid"):
    """What the rooms of the tier plus can do beyond talking."""

    features: tuple[Feature, ...] = Field(("screen",), description="screen: participants may share their screens")


class TierSettings(BaseModel, frozen=True, extra="forbid"):
    """What an organisation gets with its tier. After a reload it holds for whoever joins from then on."""

    basis: BasisSettings = BasisSettings()
    plus: PlusSettings = PlusSettings()

    def features_of(self, tier: Tier) -> tuple[str, ...]:
        """Name what rooms of a tier can do beyond talking."""
        return (self.plus if tier is Tier.PLUS else self.basis).features


OrganisationName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
TokenHash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class OrganisationSettings(BaseModel, frozen=True, extra="forbid"):
    """Who may make appointments by the API. `redconnect organisation token NAME` draws a token."""

    tokens_sha256: tuple[TokenHash, ...] = Field(
        min_length=1,
        max_length=4,
        description="SHA-256 of each token that is valid, in hexadecimal; two while one takes the place of the other",
    )
    tier: Tier = Field(Tier.BASIS, description="the highest tier of its appointments")


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
    max_participants: int = Field(
        8,
        ge=2,
        le=MAX_PEOPLE,
        description="people in a conference of the tier plus, the organiser included; 2: no conferences. With redis_url"
        " there are none",
    )
    claims_per_seat: int = Field(4, ge=2, le=16, description="unconfirmed clients that may hold one seat side by side")
    max_clients: int = Field(10_000, ge=2, le=1_000_000, description="open WebSockets; more are told overload")
    proxies: tuple[IpNetworkText, ...] = Field(
        (),
        description="networks of reverse proxies in front of the pages: their X-Forwarded-For is believed, and they "
        "may open any number of connections (up to max_clients and some); empty: nobody is believed",
    )
    connections_per_address: int = Field(
        512,
        ge=16,
        le=1_000_000,
        description="open TCP connections to the pages from one address (/64 for IPv6), WebSockets and TLS handshakes "
        "included; more are closed at once. A page needs six or fewer",
    )
    unknown_codes_per_minute: int = Field(
        10, ge=1, le=1000, description="unknown locators from one address (/64 for IPv6)"
    )
    organisations: dict[OrganisationName, OrganisationSettings] = Field(
        default_factory=dict,
        max_length=10_000,
        description="who may make appointments by the API, by name: {practice: {tokens_sha256: [...], tier: plus}}; "
        "`redconnect organisation token` draws a token and prints its line",
    )
    api_requests_per_minute: int = Field(120, ge=1, le=60_000, description="requests of one organisation to the API")
    max_appointments_per_organisation: int = Field(
        10_000, ge=1, le=1_000_000, description="appointments of one organisation that exist at a time"
    )
    redis_url: RedisUrl = Field(
        SecretStr(""),
        max_length=1024,
        description="Redis 7 through which several signaling nodes share their rooms; they must share database_url and"
        " secrets.locator_key, too. Empty: this process is alone",
    )
    tiers: TierSettings = TierSettings()
    ice: IceSettings = IceSettings()
    operator: OperatorSettings = OperatorSettings()

    def window(self, start: datetime) -> EntryWindow:
        """Say when the codes of an appointment with this planned start (an aware instant) open its room."""
        return EntryWindow.around(start, opens_minutes=self.entry_opens_minutes, closes_hours=self.entry_closes_hours)

    def oldest_start(self, now: datetime) -> datetime:
        """Say the planned start of the oldest appointment that has not ended at `now` (an aware instant)."""
        return now - timedelta(hours=self.entry_closes_hours) + timedelta(seconds=1)

    @property
    def conference_limit(self) -> int:
        """People in a conference, the organiser included; 2 where there are no conferences."""
        return 2 if self.redis_url.get_secret_value() else self.max_participants

    @property
    def why_no_conferences(self) -> str | None:
        """What in these settings keeps more than two people from meeting; None where nothing does."""
        if self.redis_url.get_secret_value():
            return "nodes that share their rooms (signaling.redis_url) have none yet"
        return "signaling.max_participants is 2" if self.max_participants <= 2 else None

    @model_validator(mode="after")
    def _conferences_are_at_one_node(self) -> Self:
        if (
            self.redis_url.get_secret_value()
            and "max_participants" in self.model_fields_set
            and self.max_participants > 2
        ):
            raise ValueError(
                "conferences (max_participants above 2) do not work with redis_url yet; set it to 2, or leave it out"
            )
        return self

    @model_validator(mode="after")
    def _a_token_belongs_to_one_organisation(self) -> Self:
        hashes = [digest for known in self.organisations.values() for digest in known.tokens_sha256]
        if len(set(hashes)) < len(hashes):
            raise ValueError("organisations have a token twice; draw another one for each")
        return self
