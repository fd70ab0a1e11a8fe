"""The settings of the whole service. Every key has a default that is right for one machine."""

import importlib.util
import ipaddress
from collections.abc import Iterator
from itertools import combinations
from typing import Annotated, Final, Literal, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError

from relay.settings import IpAddressText, RelaySettings
from sfu.settings import SfuSettings
from signaling.settings import SignalingSettings
from stun.credentials import MIN_SECRET_BYTES

Service = Literal["relay", "signaling", "sfu"]

# What the secrets of the service itself are called among the named ones, and in metrics.
TURN_SECRET_NAME: Final = "turn_secret"  # noqa: S105
SELF_TEST_SECRET_NAME: Final = "self_test"  # noqa: S105
CONTRADICTION: Final = "contradiction"  # the error type of keys that are right one by one, but not together
_DATABASE_SCHEMES: Final = ("sqlite+aiosqlite://", "postgresql+asyncpg://")


class Contradiction(NamedTuple):
    """Settings that do not fit together: the key to change, why, and how."""

    key: str
    reason: str
    mend: str


class _Listener(NamedTuple):
    key: str
    port: int
    addresses: tuple[str, ...]  # empty: every address of this machine


def _is_path(value: str) -> str:
    if "\0" in value:
        raise ValueError("a path cannot contain the character NUL")
    return value


def _is_long_enough(value: SecretStr) -> SecretStr:
    size = len(value.get_secret_value().encode())
    if 0 < size < MIN_SECRET_BYTES:
        raise ValueError(f"has {size} bytes, fewer than {MIN_SECRET_BYTES}")
    return value


def _check_database_url(url: str) -> None:
    from sqlalchemy import make_url  # a relay has no database and need not pay 20 MiB for it
    from sqlalchemy.exc import ArgumentError

    try:
        make_url(url)
    except (ArgumentError, ValueError):  # whose text holds the password
        raise ValueError("cannot be read as a database URL") from None


def _is_known_database(value: SecretStr) -> SecretStr:
    url = value.get_secret_value()
    if url and not url.startswith(_DATABASE_SCHEMES):
        raise ValueError(f"does not begin with {' or '.join(_DATABASE_SCHEMES)}")
    if url:
        _check_database_url(url)
    if url.startswith("postgresql") and importlib.util.find_spec("asyncpg") is None:
        raise ValueError("PostgreSQL needs the Python package asyncpg, which is not installed")
    return value


PathText = Annotated[str, Field(max_length=1024), AfterValidator(_is_path)]
SharedSecret = Annotated[SecretStr, AfterValidator(_is_long_enough)]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_is_known_database)]


class AdminSettings(BaseModel, frozen=True, extra="forbid"):
    """Health and metrics for the operator; never on a public address by default."""

    address: IpAddressText = Field("127.0.0.1", description="IP address of /livez, /readyz and /metrics")
    port: int = Field(9641, ge=1, le=65535, description="TCP port of /livez, /readyz and /metrics")


class LogSettings(BaseModel, frozen=True, extra="forbid"):
    """What is logged to standard error, and how."""

    format: Literal["console", "json"] = Field(
        "console", description="console: lines for people; json: one object per line for a collector"
    )
    level: Literal["debug", "info", "warning", "error"] = Field("info", description="the least that is logged")


class TlsSettings(BaseModel, frozen=True, extra="forbid"):
    """The certificate of turns: and https:. Both empty: a self-signed one is made under state_dir."""

    certificate_file: PathText = Field("", description="PEM file: the certificate, then its chain")
    key_file: PathText = Field("", description="PEM file: the private key of the certificate")

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if bool(self.certificate_file) != bool(self.key_file):
            given, missing = "certificate_file", "key_file"
            if self.key_file:
                given, missing = missing, given
            mend = "set both, or none for a self-signed certificate"
            raise _contradiction([Contradiction(f"tls.{missing}", f"is empty although {given} is set", mend)])
        return self


class SecretSettings(BaseModel, frozen=True, extra="forbid"):
    """Secrets that several machines share. Empty: each is drawn once and kept under state_dir."""

    turn_secret: SharedSecret = Field(
        SecretStr(""),
        description="signs time-limited TURN credentials; text of at least 32 bytes, the same on every relay",
    )
    locator_key: SharedSecret = Field(
        SecretStr(""),
        description="hides the locators of access codes in the database; text of at least 32 bytes,"
        " the same on every machine that shares the database",
    )


class Settings(BaseModel, frozen=True, extra="forbid"):
    """Everything that can be configured. A key that has a unit ends in it: `_seconds`, `_bytes`."""

    services: tuple[Service, ...] = Field(("relay", "signaling"), min_length=1, description="what this process runs")
    state_dir: PathText = Field(
        "var",
        min_length=1,
        description="directory of secrets, self-signed certificate and SQLite file, made with mode 0700; a relative"
        " path starts at the folder of this file",
    )
    database_url: DatabaseUrl = Field(
        SecretStr(""),
        description="where appointments are kept, sqlite+aiosqlite://… or postgresql+asyncpg://…;"
        " empty: an SQLite file under state_dir",
    )
    relay: RelaySettings = RelaySettings()
    signaling: SignalingSettings = SignalingSettings()
    sfu: SfuSettings = SfuSettings()
    tls: TlsSettings = TlsSettings()
    secrets: SecretSettings = SecretSettings()
    admin: AdminSettings = AdminSettings()
    log: LogSettings = LogSettings()

    @property
    def relay_serves_tls(self) -> bool:
        """Whether a relay of this process takes clients over TLS or DTLS."""
        return "relay" in self.services and bool(self.relay.tls_ports or self.relay.dtls_ports)

    @property
    def serves_tls(self) -> bool:
        """Whether anything of this process needs the certificate."""
        return self.relay_serves_tls or ("signaling" in self.services and self.signaling.https)

    @model_validator(mode="after")
    def _keys_fit_together(self) -> Self:
        found = [
            *self._repeated_services(),
            *self._colliding_tcp_ports(),
            *self._pages_to_share_with(),
            *self._conferences_need_rooms(),
            *self._colliding_udp_ports(),
            *self._repeated_secret_names(),
        ]
        if found:
            raise _contradiction(found)
        return self

    def _repeated_services(self) -> Iterator[Contradiction]:
        if len(set(self.services)) != len(self.services):
            yield Contradiction("services", "names a service twice", "name each once")

    def _pages_to_share_with(self) -> Iterator[Contradiction]:
        if self.relay.share_with_pages and not {"relay", "signaling"} <= set(self.services):
            reason = "needs relay and signaling in one process"
            yield Contradiction("relay.share_with_pages", reason, "name both in services, or set it to false")

    def _conferences_need_rooms(self) -> Iterator[Contradiction]:
        if "sfu" in self.services and "signaling" not in self.services:
            reason = "names sfu without signaling, which tells it who is in a conference"
            yield Contradiction("services", reason, "name both")

    def _colliding_udp_ports(self) -> Iterator[Contradiction]:
        if not {"relay", "sfu"} <= set(self.services):
            return
        ports, relay = self.sfu.udp_ports, self.relay
        relayed = [port for port in ports if relay.port_min <= port <= relay.port_max]
        if relayed:
            reason = f"UDP port {relayed[0]} is also one of the relayed ports"
            yield Contradiction("sfu.udp_port", reason, "choose one below relay.port_min")
        for key in ("udp_ports", "dtls_ports"):
            taken = [port for port in ports if port in getattr(relay, key)]
            if taken and _share_an_address(self.sfu.listen_addresses, relay.listen_addresses):
                reason = f"UDP port {taken[0]} is also taken by relay.{key}"
                yield Contradiction("sfu.udp_port", reason, "choose different ports")

    def _repeated_secret_names(self) -> Iterator[Contradiction]:
        for name in (TURN_SECRET_NAME, SELF_TEST_SECRET_NAME):
            if name in self.relay.secrets:
                reason = f"names a secret {name!r}, as one of the service itself is called"
                yield Contradiction("relay.secrets", reason, "choose another name")

    def _colliding_tcp_ports(self) -> Iterator[Contradiction]:
        for first, second in combinations(self._tcp_listeners(), 2):
            if first.port == second.port and _share_an_address(first.addresses, second.addresses):
                reason = f"TCP port {second.port} is also taken by {first.key}"
                yield Contradiction(second.key, reason, "choose different ports")

    def _tcp_listeners(self) -> Iterator[_Listener]:
        if "relay" in self.services:
            for key in ("tcp_ports", "tls_ports"):
                for port in dict.fromkeys(getattr(self.relay, key)):
                    yield _Listener(f"relay.{key}", port, self.relay.listen_addresses)
        if "signaling" in self.services:
            yield _Listener("signaling.port", self.signaling.port, self.signaling.listen_addresses)
        yield _Listener("admin.port", self.admin.port, (self.admin.address,))


def _contradiction(found: list[Contradiction]) -> PydanticCustomError:
    summary = "; ".join(f"{key} {reason}" for key, reason, _ in found)
    return PydanticCustomError(CONTRADICTION, "{summary}", {"summary": summary, "found": found})


def _share_an_address(first: tuple[str, ...], second: tuple[str, ...]) -> bool:
    """Whether two listeners want the same address; an unspecified one (`0.0.0.0`, `::`) means every address."""
    if not first or not second:
        return True
    if any(ipaddress.ip_address(address).is_unspecified for address in first + second):
        return True
    return not set(first).isdisjoint(second)
