"""The facts that checks judge. Sizes in bytes, times in seconds; addresses as text."""

from datetime import datetime
from typing import NamedTuple


class Process(NamedTuple):
    """Somebody in the process table."""

    pid: int
    name: str


class Service(NamedTuple):
    """The service of these settings, if it runs."""

    is_running: bool
    pids: frozenset[int] = frozenset()  # of the service and its workers
    failing: tuple[tuple[str, str], ...] = ()  # checks of /readyz that do not hold, and why
    trouble: str = ""  # why it could not be asked although it seems to run
    hangs: bool = False  # and the trouble is that it does not answer
    datapath: str = ""  # who relays busy flows, plain or kernel, as it says


class Endpoint(NamedTuple):
    """Where something listens. An empty address means every address of the machine."""

    protocol: str  # "UDP" or "TCP"
    address: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address or "*"
        return f"{self.protocol} {host}:{self.port}"


class Bound(NamedTuple):
    """A socket of this machine that is bound; the holder is None if `/proc` does not tell us."""

    endpoint: Endpoint
    holder: Process | None


class Advertised(NamedTuple):
    """An address to relay from, and what peers are told it is."""

    key: str  # of the settings
    bound: str
    told: str
    answer: str = ""  # what our own relay says that it sees us from, asked at `told`; empty: nobody answered
    was_asked: bool = False


class Addresses(NamedTuple):
    """Addresses of the machine and of the settings."""

    own: tuple[str, ...]
    advertised: tuple[Advertised, ...]
    mapped: tuple[tuple[str, str], ...]  # key of the settings, and address that it maps to another one


class PortRange(NamedTuple):
    """The relayed ports beside what the kernel gives away by itself."""

    first: int
    last: int
    local_first: int  # net.ipv4.ip_local_port_range
    local_last: int
    reserved: tuple[tuple[int, int], ...]  # net.ipv4.ip_local_reserved_ports
    others: tuple[Bound, ...]  # UDP sockets in the range that are not of the service


class Link(NamedTuple):
    """One certificate of a chain."""

    subject: str
    issuer: str
    is_signed_by_next: bool  # the last one: by itself or by a root of this system
    ends: datetime


class Certificate(NamedTuple):
    """What the servers show."""

    file: str
    is_needed: bool
    is_ours: bool  # made by us, for the time before there is a real one
    refusal: str  # why TLS cannot be served with it and its key, in the words of OpenSSL; empty: it can
    names: tuple[str, ...]  # host names and addresses that it is good for
    hosts: tuple[str, ...]  # that clients are told
    chain: tuple[Link, ...]
    now: datetime


class Clock(NamedTuple):
    """What the kernel thinks of its clock."""

    is_synchronised: bool
    max_error_seconds: float


class Buffers(NamedTuple):
    """Receive buffers of UDP sockets."""

    wanted: int
    allowed: int  # net.core.rmem_max
    can_force: bool  # CAP_NET_ADMIN
    lost: int  # datagrams since the machine started, of all programs
    received: int  # the same


class Descriptors(NamedTuple):
    """How many descriptors a process may have, and how many one of ours may need."""

    limit: int
    needed: int
    workers: int


class Conntrack(NamedTuple):
    """The table of connections that a firewall follows."""

    is_loaded: bool
    used: int = 0
    size: int = 0
    expected: int = 0  # flows, if every relayed port is used
    ports: str = ""  # for the rules, such as "3478, 3479, 49152-65535"


class Offload(NamedTuple):
    """What makes packets cheaper."""

    joins: bool  # UDP_GRO
    cuts: bool  # UDP_SEGMENT
    is_compiled: bool
    compiled_is_stale: bool


class Datapath(NamedTuple):
    """Whether the kernel relays for us, or could."""

    wish: str  # relay.datapath
    interfaces: tuple[str, ...] = ()  # where the program would be attached
    missing: tuple[str, ...] = ()  # capabilities that it needs, and the service, or whoever asks, does not have
    trouble: str = ""  # why this kernel does not take the program; empty if it did, or could not be tried
    is_on: bool | None = None  # what the running service says; None if nobody could be asked


class Identity(NamedTuple):
    """As whom the service runs, or would."""

    user: int
    is_service: bool


class Database(NamedTuple):
    """Where appointments are."""

    is_needed: bool
    exists: bool = True
    error: str = ""
    is_current: bool = True


class Redis(NamedTuple):
    """What signaling nodes share."""

    is_needed: bool
    error: str = ""


class StateFile(NamedTuple):
    """Something in `state_dir`."""

    name: str
    mode: int
    owner: int


class StateDirectory(NamedTuple):
    """Where secrets are."""

    path: str
    exists: bool
    mode: int = 0
    owner: int = 0
    expected_owner: int = 0
    free: int = 0
    files: tuple[StateFile, ...] = ()
