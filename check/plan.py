"""What is tried: one point for each purpose, transport, host and port, and how long each step may take."""

import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from check.target import Target, TargetError, check_host
from check.text import plain

UDP_PORTS: Final = (3478, 3479)
TCP_PORTS: Final = (3478, 3479)
TLS_PORTS: Final = (5349, 5350)
RELAY_PORTS: Final = (49152, 65535)  # the lowest and the highest
MAX_PORTS: Final = 8  # of one transport
MAX_POINTS: Final = 24  # for each family of addresses
MAX_URL_CHARACTERS: Final = 512

# Seconds. The steps of a point follow each other, the points run side by side; whatever happens, all of it ends after
# TOTAL_SECONDS, and what then is still going on counts as timed out.
TOTAL_SECONDS: Final = 26.0
LOOKUP_SECONDS: Final = 4.0
PAGES_SECONDS: Final = 8.0
CONNECT_SECONDS: Final = 4.0
HANDSHAKE_SECONDS: Final = 4.0
HTTP_SECONDS: Final = 4.0
REQUEST_SECONDS: Final = 3.0

_URL: Final = re.compile(
    r"(stuns?|turns?):(\[[0-9A-Fa-f:.]+\]|[^:?\[\]/@]+)(?::([0-9]{1,5}))?(?:\?transport=(udp|tcp))?"
)
_DEFAULT_PORT: Final = 3478  # RFC 7065 §3.2
_DEFAULT_TLS_PORT: Final = 5349


class Transport(StrEnum):
    """How a point is spoken to."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"


class Purpose(StrEnum):
    """What a point is for."""

    PAGES = "pages"
    STUN = "stun"
    TURN = "turn"


class Family(StrEnum):
    """Which addresses."""

    IPV4 = "ipv4"
    IPV6 = "ipv6"


class Point(NamedTuple):
    """One port of one host."""

    purpose: Purpose
    transport: Transport
    host: str
    port: int

    @property
    def protocol(self) -> str:
        """What a firewall calls it: udp or tcp."""
        return "udp" if self.transport is Transport.UDP else "tcp"


class PlanError(ValueError):
    """An address of a STUN or TURN server that is none, or ports that cannot be tried."""


class Ports(NamedTuple):
    """The ports of a relay."""

    udp: tuple[int, ...] = UDP_PORTS
    tcp: tuple[int, ...] = TCP_PORTS
    tls: tuple[int, ...] = TLS_PORTS


def pages_point(target: Target) -> Point:
    """The point of the pages."""
    return Point(Purpose.PAGES, Transport.TLS if target.is_https else Transport.TCP, target.host, target.port)


def relay_points(host: str, ports: Ports) -> list[Point]:
    """The documented ports of a relay, each once."""
    chosen = ((Transport.UDP, ports.udp), (Transport.TCP, ports.tcp), (Transport.TLS, ports.tls))
    return _ordered(Point(Purpose.TURN, transport, host, port) for transport, some in chosen for port in some)


def points_of_urls(urls: Iterable[str]) -> list[Point]:
    """The points that a service names; what answers TURN answers STUN, too. DTLS is left out.

    Raises:
        PlanError: one of them is no address, or there are more than MAX_POINTS.
    """
    return _ordered(point for url in urls if (point := _point_of_url(url)) is not None)


def parse_ports(text: str) -> tuple[int, ...]:
    """Read ports with commas between them; nothing means none.

    Raises:
        PlanError: one is no port, or there are more than MAX_PORTS.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    if len(words) > MAX_PORTS:
        raise PlanError(f"more than {MAX_PORTS} ports")
    return tuple(dict.fromkeys(_port(word) for word in words))


def _point_of_url(url: str) -> Point | None:
    found = _URL.fullmatch(url) if len(url) <= MAX_URL_CHARACTERS else None
    if found is None:
        raise PlanError(f"{plain(url)!r} is no address of a STUN or TURN server")
    scheme, host, port, transport = found.groups()
    is_secure = scheme.endswith("s")
    default = _DEFAULT_TLS_PORT if is_secure else _DEFAULT_PORT
    chosen = transport or ("tcp" if is_secure else "udp")
    if is_secure and chosen == "udp":
        return None
    try:
        name = check_host(host.strip("[]"))
    except TargetError as error:
        raise PlanError(str(error)) from error
    purpose = Purpose.TURN if scheme.startswith("turn") else Purpose.STUN
    return Point(purpose, Transport.TLS if is_secure else Transport(chosen), name, _port(port) if port else default)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535):
        raise PlanError(f"{plain(text)!r} is no port; allowed is 1 to 65535")
    return int(text)


def _ordered(points: Iterable[Point]) -> list[Point]:
    """Each place once, and what is TURN there as TURN; UDP before TCP before TLS."""
    best: dict[tuple[Transport, str, int], Point] = {}
    for point in points:
        place = (point.transport, point.host, point.port)
        if place not in best or point.purpose is Purpose.TURN:
            best[place] = point
    if len(best) > MAX_POINTS:
        raise PlanError(f"more than {MAX_POINTS} ports")
    transports: Sequence[Transport] = list(Transport)
    return sorted(best.values(), key=lambda point: (transports.index(point.transport), point.host, point.port))
