"""What was found: the report, as it stands in JSON (docs/check.md). Everything else is made out of it."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, TypeAdapter

from check.plan import Family, Point, Purpose, Transport

SCHEMA_VERSION: Final = 1
MAX_ADDRESSES: Final = 8  # of a name and a family that are shown; the first is tried


class Outcome(StrEnum):
    """What became of one step."""

    OK = "ok"
    REFUSED = "refused"  # the other end, or a firewall in its name, said no: RST or ICMP port unreachable
    TIMED_OUT = "timed_out"  # nothing came: a firewall drops silently, or nobody is there
    UNREACHABLE = "unreachable"  # a router or a firewall says that there is no way
    CLOSED = "closed"  # the connection was taken and then closed
    WRONG_ANSWER = "wrong_answer"  # something answers that is not the service
    REJECTED = "rejected"  # the server understood and refused
    NOT_TRIED = "not_tried"


class Chain(StrEnum):
    """What this machine thinks of a certificate."""

    TRUSTED = "trusted"
    UNTRUSTED = "untrusted"
    UNKNOWN = "unknown"


class EchoWay(StrEnum):
    """Which way the packets of an echo took."""

    RELAYED = "relayed"  # here, the relay's port range, the relay, here, and all the way back
    CONTROL = "control"  # requests to the relay and its answers: the port range cannot be reached from here


class RowVerdict(StrEnum):
    """What a row means."""

    OPEN = "open"
    POOR = "poor"  # open, but too lossy or too slow for a talk
    INSPECTED = "inspected"  # the certificate is not the service's: somebody reads along
    UNTRUSTED = "untrusted"  # this machine does not trust the certificate, so browsers will not, either
    BLOCKED = "blocked"
    WRONG_SERVICE = "wrong_service"
    REJECTED = "rejected"  # reached, but the server gives no allocation
    NO_FAMILY = "no_family"  # this machine has no way into IPv6, or into IPv4


class SummaryCode(StrEnum):
    """The verdict about the whole."""

    ALL_OPEN = "all_open"
    RANGE_CLOSED = "range_closed"
    PARTLY = "partly"  # over UDP, but not on every port or with every family
    ONLY_TCP = "only_tcp"
    ONLY_TLS = "only_tls"
    POOR = "poor"
    INSPECTED = "inspected"  # somebody breaks TLS open, but there is a way that works
    UNTRUSTED = "untrusted"  # a certificate is not trusted, but there is a way that works
    ONLY_INSPECTED = "only_inspected"  # every way that is open leads through somebody whose certificate is refused
    ONLY_UNTRUSTED = "only_untrusted"  # every way that is open ends at a certificate that is refused
    NO_NAME = "no_name"
    DEAD = "dead"  # nothing answers at all
    NO_PAGES = "no_pages"
    NO_RELAY = "no_relay"
    REJECTED = "rejected"


@dataclass(slots=True)
class Step:
    """One step and how long it took."""

    outcome: Outcome = Outcome.NOT_TRIED
    milliseconds: float | None = None
    code: int | None = None  # of HTTP, or of a STUN error
    detail: str = ""  # for people, in English


@dataclass(slots=True)
class TlsFinding:
    """A TLS handshake and the certificate that came with it."""

    outcome: Outcome = Outcome.NOT_TRIED
    milliseconds: float | None = None
    version: str = ""
    cipher: str = ""
    alpn: str = ""  # what was agreed on; "" for none
    chain: Chain = Chain.UNKNOWN
    chain_problem: str = ""  # why it is not trusted
    issuer: str = ""
    sha256: str = ""  # of the certificate
    days_left: int | None = None
    is_own: bool | None = None  # whether it is one that the service says it uses; None: it did not say
    detail: str = ""


@dataclass(slots=True)
class EchoFinding:
    """A series of packets at 50 a second."""

    way: EchoWay
    sent: int
    received: int
    loss_percent: float
    p50_ms: float | None
    p95_ms: float | None
    jitter_ms: float | None


@dataclass(slots=True)
class RelayedPort:
    """The relayed port of this row's allocation: a sample of the relay's range."""

    address: str
    port: int
    reached: bool | None = None  # whether a packet from here came to it; None: that was not tried


@dataclass(slots=True)
class Rule:
    """What a firewall must let out; answers come back by its connection tracking."""

    source: str  # an IP address or a network
    destination: str  # an IP address
    host: str  # the name that it was found under
    protocol: str  # udp or tcp
    first_port: int
    last_port: int
    direction: str = "outbound"


@dataclass(slots=True)
class Row:
    """One port over one family of addresses."""

    purpose: Purpose
    transport: Transport
    family: Family
    host: str
    port: int
    address: str
    connect: Step = field(default_factory=Step)
    tls: TlsFinding | None = None
    http: Step | None = None  # pages only
    binding: Step | None = None
    challenge: Step | None = None  # an Allocate without credentials: 401 shows that TURN answers
    allocate: Step | None = None  # with credentials, the challenge included
    permission: Step | None = None  # for the own address, towards the relayed one
    echo: EchoFinding | None = None
    relayed_port: RelayedPort | None = None
    largest_packet_bytes: int | None = None  # of IP, with don't-fragment; UDP only
    verdict: RowVerdict = RowVerdict.BLOCKED
    rule: Rule | None = None

    @property
    def point(self) -> Point:
        """Where it is."""
        return Point(self.purpose, self.transport, self.host, self.port)


@dataclass(slots=True)
class Name:
    """A name and its addresses."""

    name: str
    lookup: Step
    ipv4: list[str] = field(default_factory=list)
    ipv6: list[str] = field(default_factory=list)

    def addresses(self, family: Family) -> list[str]:
        """Those of a family."""
        return self.ipv4 if family is Family.IPV4 else self.ipv6


@dataclass(slots=True)
class Own:
    """This machine, in one family."""

    family: Family
    address: str  # what it sends from
    seen_as: str = ""  # what the relay sees it as; "" unknown


@dataclass(slots=True)
class RelayRange:
    """The relay's range of ports, sampled by what the allocations got."""

    family: Family
    address: str
    first_port: int
    last_port: int
    sampled: list[int] = field(default_factory=list)
    reached: list[int] = field(default_factory=list)
    rule: Rule | None = None


@dataclass(slots=True)
class Summary:
    """The verdict in one word, and the exit status that goes with it."""

    code: SummaryCode
    exit_status: Annotated[int, Field(ge=0, le=3)]
    text: str = ""  # in the language of the run


@dataclass(slots=True)
class Report:
    """Everything about one run."""

    host: str
    started: str  # ISO 8601, UTC
    language: str  # de or en: of the texts
    credentials: str = "none"  # service, given or none
    service: Step = field(default_factory=Step)  # how the service answered the request for credentials
    names: list[Name] = field(default_factory=list)
    own: list[Own] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    relay_ranges: list[RelayRange] = field(default_factory=list)
    missing_rules: list[Rule] = field(default_factory=list)
    seconds: float = 0.0
    summary: Summary = field(default_factory=lambda: Summary(SummaryCode.DEAD, 3))
    schema_version: int = SCHEMA_VERSION


_REPORT: Final = TypeAdapter(Report)


def to_json(report: Report) -> str:
    """The report as JSON, indented; ends with a line break."""
    return _REPORT.dump_json(report, indent=2).decode() + "\n"


def schema() -> dict[str, object]:
    """The JSON Schema of the report."""
    return _REPORT.json_schema(mode="serialization")
