"""What a connection test is told: every port to try, and credentials of the relay that are good for nothing else."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final, Literal, Protocol

from pydantic import BaseModel, Field

from signaling.ice_servers import RelayPorts
from signaling.rate_limiter import AddressLimiter, Pace, TokenBucket

TTL_SECONDS: Final = 60  # of the credentials: a test takes 30
TESTS_PER_MINUTE: Final = 10  # from one address (/64 for IPv6)
ALL_TESTS_PER_MINUTE: Final = 300  # from all addresses: the relay's ports are for consultations
MAX_LIMITED_ADDRESSES: Final = 10_000

# What browsers refuse a certificate for, of what the service itself can see: nobody else has signed it, its time is
# over or has not come, or it is good for other names.
CertificateProblem = Literal["self_signed", "outside_validity", "other_name"]


class TrialIssuer(Protocol):
    """Issues credentials that the relay accepts for a connection test alone, and knows the certificate in use."""

    def issue(self, now_unix: int, lifetime: int, address: str) -> tuple[str, str]:
        """Return a user name and its password: good for so many seconds, and for a client at this IP address."""
        ...

    @property
    def certificates_sha256(self) -> tuple[str, ...]:
        """SHA-256, in hexadecimal, of each leaf certificate that this service serves; empty if it serves none."""
        ...

    def certificate_problem(self, host: str, now: datetime) -> CertificateProblem | None:
        """Why browsers refuse that certificate for this host at this aware instant; None if they need not."""
        ...


class ConnectionTest(BaseModel, frozen=True, extra="forbid"):
    """All that a test needs to know."""

    username: str = Field(description="Of the TURN credentials: says when they expire, and for which address they are.")
    credential: str
    ttl_seconds: int = Field(description="For how long the relay takes them.")
    address: str = Field(description="The address that the request came from.")
    stun_host: str
    relay_host: str
    urls: tuple[str, ...] = Field(description="Every port of the relay, as `RTCIceServer.urls` has them.")
    certificate_sha256: tuple[str, ...] = Field(
        description="SHA-256 of the leaf certificates that this service uses, in hexadecimal: another one on the way "
        "is that of a proxy which reads along."
    )
    pages_certificate_is_listed: bool = Field(
        description="False where something in front of the service, as a reverse proxy, ends the TLS of the pages."
    )
    certificate_problem: CertificateProblem | None = Field(
        description="Why browsers refuse the relay's TLS, whatever the network does; null: for nothing known here."
    )
    relay_port_min: int | None = Field(description="Lowest UDP port of relayed addresses.")
    relay_port_max: int | None = Field(description="Highest UDP port of relayed addresses.")


class TrialLimiter:
    """Counts how often tests are begun: by address, and all together."""

    def __init__(self, now: float) -> None:
        """Begin with nobody counted, at this instant (monotonic seconds)."""
        self._by_address = AddressLimiter(Pace(60 / TESTS_PER_MINUTE, TESTS_PER_MINUTE), MAX_LIMITED_ADDRESSES)
        self._all = TokenBucket(Pace(60 / ALL_TESTS_PER_MINUTE, ALL_TESTS_PER_MINUTE), now)

    def take(self, address: bytes, now: float) -> None:
        """Count a test; one that is refused counts for nobody.

        Args:
            address: key from `peer_key`.
            now: monotonic time, in seconds.

        Raises:
            RateExceeded: there were too many from this address, or from all.
        """
        self._by_address.check(address, now)
        self._all.take(now)
        self._by_address.charge(address, now)


def list_test_urls(host: str, ports: RelayPorts) -> tuple[str, ...]:
    """Name every port of the relay in the order of `RelayPorts`; a client that wants to talk is told fewer."""
    return tuple(_urls(f"[{host}]" if ":" in host else host, ports))


def _urls(name: str, ports: RelayPorts) -> Iterator[str]:
    yield from (f"stun:{name}:{port}" for port in ports.udp)
    yield from (f"turn:{name}:{port}?transport=udp" for port in ports.udp)
    yield from (f"turn:{name}:{port}?transport=tcp" for port in ports.tcp)
    yield from (f"turns:{name}:{port}?transport=tcp" for port in ports.tls)
