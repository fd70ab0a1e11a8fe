"""What the kernel's share of the forwarding plane is told: flows, each a kind of packet and what becomes of it."""

from enum import Enum, IntEnum, StrEnum
from typing import NamedTuple

from stun.address import TransportAddress


class Kind(IntEnum):
    """What carries the data, and where from."""

    CHANNEL = 0  # ChannelData from a client
    SEND = 1  # Send indication from a client
    PEER = 2  # anything from a peer
    # From one relayed client to another, remote and local being their relayed transport addresses: found by no packet
    # from outside, but by the second lookup of a flow that `meets`.
    MEET = 3


class Hook(Enum):
    """Where packets are taken: each value is the section of its program."""

    TCX = "tcx"
    XDP = "xdp"


class Way(NamedTuple):
    """What a packet must look like; both addresses are of one family."""

    kind: Kind
    remote: TransportAddress  # who sends it
    local: TransportAddress  # where it arrives, as bound: a listener, or with PEER a relayed transport address
    number: int = 0  # of the channel; CHANNEL only
    peer: TransportAddress | None = None  # its XOR-PEER-ADDRESS; SEND only


class Onward(NamedTuple):
    """What becomes of it; both addresses are of one family, which may be another than that of the way."""

    source: TransportAddress  # of the packet that leaves
    destination: TransportAddress
    number: int  # to a client: of the channel, 0 makes a Data indication; to a peer: 0
    slot: int  # whose counters and buckets: one for each relayed transport address
    expires_at: int  # CLOCK_MONOTONIC, nanoseconds: the minimum of binding, permission and allocation
    # The destination is a relayed transport address of this process: the flow of kind MEET from `source` to
    # `destination` is looked up in the same run, and the packet goes straight to that client. It counts for both.
    meets: bool = False


class Passed(StrEnum):
    """Why a packet for an address of ours goes up to user space; a bounded set, fit for a metric label.

    The order is that of `enum reason` in relay.bpf.c, from JOINED on.
    """

    JOINED = "joined"  # by the kernel, for a socket with UDP_GRO
    FRAGMENT = "fragment"
    OPTIONS = "options"  # of IPv4
    HOPS = "hops"  # TTL or hop limit below 2
    LENGTHS = "lengths"  # of Ethernet, IP and UDP do not fit together
    CHECKSUM = "checksum"  # wrong, missing where it must not be, or left to the network card
    STUN = "stun"  # a message that belongs to no flow, as all requests
    UNKNOWN = "unknown"  # anything else that belongs to no flow
    CHANGED = "changed"  # while it was looked up
    EXPIRED = "expired"
    INTERFACE = "interface"  # it came in by another one than its sender is reached by
    TOO_BIG = "too_big"  # for the interface that it would leave by, or for what is known of the path
    NO_ROUTE = "no_route"  # XDP only: no neighbour yet, or forwarding is off
    NO_ROOM = "no_room"  # in the buffer that holds it
