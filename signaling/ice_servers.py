"""The STUN and TURN servers that a seated client is told (the `iceServers` of an RTCConfiguration)."""

import ipaddress
import re
from typing import NamedTuple, Protocol

from pydantic import BaseModel, SecretStr, SerializationInfo, field_serializer

from signaling.appointments import Seat
from signaling.rate_limiter import networks_around, peer_key

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_HOST_HEADER = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9.-]{1,253}))(?::([0-9]{1,5}))?", re.ASCII)
_MAX_HOST_CHARACTERS = 253  # RFC 1035 §2.3.4, in text


class InvalidHost(ValueError):
    """The text is no host name, IPv4 address or bracketed IPv6 address."""


class CredentialIssuer(Protocol):
    """Issues the time-limited TURN credentials that the relay accepts."""

    def issue(self, now_unix: int, subject: bytes) -> tuple[str, str]:
        """Return a user name (`expiry:random`, nothing about a room or person) and its password.

        The random part is the same for the same subject, so that the relay's quota counts all of its credentials
        together; see `name_subject`.
        """
        ...


class PortRange(NamedTuple):
    """Ports from the lowest to the highest, both included."""

    lowest: int
    highest: int


class RelayPorts(NamedTuple):
    """The relay's ports by transport. Clients are told the first of each: more only slow ICE down."""

    udp: tuple[int, ...] = ()
    tcp: tuple[int, ...] = ()
    tls: tuple[int, ...] = ()
    relayed: PortRange | None = None  # of the relayed transport addresses, over UDP; for those who mind a firewall
    conferences: PortRange | None = None  # of the media server, over UDP; for the same people


class IceServer(BaseModel, frozen=True, extra="forbid"):
    """One entry of `iceServers`. Only the encoder of `joined` opens the credential."""

    urls: tuple[str, ...]
    username: str | None = None
    credential: SecretStr | None = None

    @field_serializer("credential", when_used="json-unless-none")
    def _reveal(self, value: SecretStr, _info: SerializationInfo) -> str:
        return value.get_secret_value()


def parse_host(text: str) -> str:
    """Read a host name, an IPv4 address, or an IPv6 address without brackets; return it canonical.

    Raises:
        InvalidHost: it is none of them.
    """
    if ":" in text:
        try:
            address = ipaddress.IPv6Address(text)
        except ValueError as error:
            raise InvalidHost("no IPv6 address") from error
        if address.scope_id is not None:
            raise InvalidHost("an IPv6 zone means nothing to anybody else")
        return str(address)
    if len(text) > _MAX_HOST_CHARACTERS or _HOST_NAME.fullmatch(text) is None:
        raise InvalidHost("no host name")
    if text.rpartition(".")[2].isdigit():  # browsers read such a name as an IPv4 address
        try:
            return str(ipaddress.IPv4Address(text))
        except ValueError as error:
            raise InvalidHost("no IPv4 address") from error
    return text.lower()


def parse_authority(text: str) -> tuple[str, int | None]:
    """Read `HOST` or `HOST:PORT`, as a Host header has it; return the canonical host and the port.

    Raises:
        InvalidHost: it is neither.
    """
    match = _HOST_HEADER.fullmatch(text)
    if match is None or not 1 <= int(match[3] or 80) <= 65535:
        raise InvalidHost("the Host header is malformed")
    if match[1] is not None and ":" not in match[1]:
        raise InvalidHost("brackets around something that is no IPv6 address")
    return parse_host(match[1] or match[2]), int(match[3]) if match[3] else None


def resolve_host(configured: str, host_header: str) -> str:
    """Choose the relay's host: the configured one, else the one that the page was opened with.

    Args:
        configured: `ice.host` of the settings; empty to follow the request.
        host_header: the Host header of the request, checked in any case.

    Raises:
        InvalidHost: one of the two is no host.
    """
    requested, _port = parse_authority(host_header)
    return parse_host(configured) if configured else requested


def name_subject(seat: Seat, address: str | None) -> bytes:
    """Say for whom a credential is issued: for one seat of a room, and the network that a client comes from.

    Whoever has a code can relay no more by joining again and again. That the network counts, too (an IPv4 address, or
    the /48 of an IPv6 address), keeps a stranger with the same locator from using up what the rightful client needs.
    """
    network = (networks_around(address) or (peer_key(address),))[-1]
    name = f"{seat.role}{seat.number}" if seat.appointment.is_conference else seat.role
    return b"".join((seat.appointment.room_id, name.encode(), b"\0", network))


def list_ice_servers(
    host: str, ports: RelayPorts, issuer: CredentialIssuer, now_unix: int, subject: bytes
) -> tuple[IceServer, ...]:
    """Compose the list for one client: one entry for STUN, one for TURN with a fresh credential.

    Args:
        host: as `resolve_host` returned it.
        ports: where the relay listens; without any port the list is empty, and only direct paths are tried.
        issuer: issues the credential.
        now_unix: wall-clock time in seconds, from which the credential's life counts.
        subject: from `name_subject`.
    """
    name = f"[{host}]" if ":" in host else host
    turn = [
        *(f"turn:{name}:{port}?transport=udp" for port in ports.udp[:1]),
        *(f"turn:{name}:{port}?transport=tcp" for port in ports.tcp[:1]),
        *(f"turns:{name}:{port}?transport=tcp" for port in ports.tls[:1]),
    ]
    servers = []
    if ports.udp:
        servers.append(IceServer(urls=(f"stun:{name}:{ports.udp[0]}",)))
    if turn:
        username, password = issuer.issue(now_unix, subject)
        servers.append(IceServer(urls=tuple(turn), username=username, credential=SecretStr(password)))
    return tuple(servers)
