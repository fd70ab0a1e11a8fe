"""How the server knows one client from another (RFC 8656 §3)."""

from enum import StrEnum
from typing import NamedTuple

from stun.address import TransportAddress


class Transport(StrEnum):
    """What carries the messages between client and server."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"
    DTLS = "dtls"


class FiveTuple(NamedTuple):
    """Client address, server address and the transport between them; an allocation belongs to exactly one."""

    transport: Transport
    server: TransportAddress
    client: TransportAddress
