"""ICMP errors that datagrams to peers have caused: read from a socket's error queue, told to the client.

Linux keeps them per socket when asked to (IP_RECVERR), with the destination of the datagram in question. RFC 8656
§11.5 has the server report them in Data indications with an ICMP attribute (§18.13) and without DATA.
"""

import socket
import struct
from typing import Final, NamedTuple

from relay.io.datapath.segments import SocketAddress
from stun import attributes
from stun.address import TransportAddress
from stun.message import encode_message
from stun.registry import MessageClass, Method

_IP_RECVERR: Final = 11  # this and the next one are missing in the socket module
_IPV6_RECVERR: Final = 25
_ERROR: Final = struct.Struct("=IBBBxII")  # struct sock_extended_err
_ORIGIN_ICMP: Final = 2
_ORIGIN_ICMP6: Final = 3
_CONTROL_BYTES: Final = socket.CMSG_SPACE(_ERROR.size + 28)  # the error, then the address of who reported it
_LEVELS: Final[dict[int, int]] = {socket.AF_INET: socket.IPPROTO_IP, socket.AF_INET6: socket.IPPROTO_IPV6}
_OPTIONS: Final[dict[int, int]] = {socket.AF_INET: _IP_RECVERR, socket.AF_INET6: _IPV6_RECVERR}

# What is passed on to clients (RFC 8656 §11.5): destination unreachable, time exceeded; IPv6 also: packet too big.
_REPORTED: Final = {_ORIGIN_ICMP: (3, 11), _ORIGIN_ICMP6: (1, 2, 3)}
_TOO_BIG: Final = ((_ORIGIN_ICMP, 3, 4), (_ORIGIN_ICMP6, 2, 0))  # these carry the MTU of the next link


class IcmpError(NamedTuple):
    """One ICMP or ICMPv6 error message that is worth telling."""

    type: int
    code: int
    data: int  # for "too big" the MTU in bytes, else 0
    peer: SocketAddress  # where the datagram that caused it was sent


def collect_errors(sock: socket.SocketType) -> None:
    """Make the kernel queue the ICMP errors of this socket."""
    sock.setsockopt(_LEVELS[sock.family], _OPTIONS[sock.family], 1)


def read_error(sock: socket.SocketType) -> IcmpError | None:
    """Take the next error from the queue; None if it is none to be reported, a local one for instance.

    Raises:
        BlockingIOError: the queue is empty.
    """
    _, ancillary, _, peer = sock.recvmsg(0, _CONTROL_BYTES, socket.MSG_ERRQUEUE)
    for level, kind, value in ancillary:
        if (level, kind) == (_LEVELS[sock.family], _OPTIONS[sock.family]) and len(value) >= _ERROR.size:
            _, origin, icmp_type, code, info, _ = _ERROR.unpack_from(value)
            if icmp_type in _REPORTED.get(origin, ()):
                return IcmpError(icmp_type, code, info if (origin, icmp_type, code) in _TOO_BIG else 0, peer)
    return None


def encode_icmp_indication(error: IcmpError, peer: TransportAddress, transaction_id: bytes) -> bytes:
    """The Data indication that tells a client of an error (RFC 8656 §11.6); it has no DATA."""
    return encode_message(
        Method.DATA,
        MessageClass.INDICATION,
        transaction_id,
        (
            attributes.XOR_PEER_ADDRESS.pack(peer, transaction_id),
            attributes.ICMP.pack(attributes.IcmpError(error.type, error.code, error.data.to_bytes(4))),
        ),
    )
