"""How the server knows one client from another (RFC 8656 §3)."""

from enum import StrEnum
from typing import Final, NamedTuple

from stun.address import TransportAddress


class Transport(StrEnum):
    """What carries the messages between client and server."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"
    DTLS = "dtls"


STREAMS: Final = (Transport.TCP, Transport.TLS)  # what a TCP allocation needs (RFC 6062 §4)


class FiveTuple(NamedTuple):
    """Client address, server address and the transport between them; an allocation belongs to exactly one."""

    transport: Transport
    server: TransportAddress
    client: TransportAddress
