"""Runs of datagrams sent by one system call: the kernel cuts them (UDP_SEGMENT), as it joins what we receive (UDP_GRO).

A run is datagrams of equal size, the last of which may be shorter, between the same two transport addresses. Most of
what a datagram costs is its way through the system call, routing and the network stack; a run pays that once.
"""

import errno
import socket
import struct
from collections.abc import Callable
from functools import cache
from typing import Final

from relay.io.clients import Buffer
from relay.io.datapath.datagrams import MAX_DATAGRAM, target

SocketAddress = tuple[str, int] | tuple[str, int, int, int]

MAX_SEGMENTS: Final = 64  # of a run (UDP_MAX_SEGMENTS of the oldest kernels that cut)
MAX_RUN: Final = 65507  # bytes of a run; to the kernel it is one datagram until it is cut

_SOL_UDP: Final = 17  # this and the next one are missing in the socket module
_UDP_SEGMENT: Final = 103
_CUT: Final = struct.Struct("=H")
# A segment does not fit the link (the error depends on the kernel), or the device or a transformation cannot do it.
_CANNOT_CUT: Final = (errno.EINVAL, errno.EMSGSIZE, errno.EIO, errno.EOPNOTSUPP)


class Destination:
    """Where datagrams go, and the largest segment that the kernel cuts a run into on the way there."""

    __slots__ = ("address", "max_segment", "target")

    def __init__(self, address: SocketAddress) -> None:
        self.address = address
        self.target = target(address)
        self.max_segment = MAX_DATAGRAM if kernel_cuts() else 0


@cache
def kernel_cuts() -> bool:
    """Whether this kernel knows UDP_SEGMENT (4.18); an older one would ignore it and send one large datagram."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.getsockopt(_SOL_UDP, _UDP_SEGMENT)
        except OSError:
            return False
    return True


def max_run(size: int) -> int:
    """How many datagrams of this size, in bytes, make the longest run."""
    return min(MAX_SEGMENTS, MAX_RUN // size) or 1


def send_run(sock: socket.SocketType, parts: list[Buffer], size: int, to: Destination) -> None:
    """Send datagrams of `size` bytes, the last may be shorter, given as consecutive parts.

    A run that cannot be cut is sent one by one, and so is every later one to this destination with segments as large.

    Raises:
        OSError: at least one of them was not sent.
    """
    if size <= to.max_segment:
        ancillary = ((_SOL_UDP, _UDP_SEGMENT, _CUT.pack(size)),)
        try:
            persistently(lambda: sock.sendmsg(parts, ancillary, 0, to.address))
        except OSError as error:
            if error.errno not in _CANNOT_CUT:
                raise
            to.max_segment = 0 if error.errno in (errno.EIO, errno.EOPNOTSUPP) else size - 1
        else:
            return
    run = memoryview(b"".join(parts))
    failure: OSError | None = None
    for at in range(0, len(run), size):
        try:
            send_one(sock, run[at : at + size], to.address)
        except OSError as error:
            failure = error
    if failure is not None:
        raise failure


def send_one(sock: socket.SocketType, data: Buffer, address: SocketAddress) -> None:
    """Send one datagram.

    Raises:
        OSError: it was not sent.
    """
    persistently(lambda: sock.sendto(data, address))


def persistently(call: Callable[[], object]) -> None:
    """Try twice: the ICMP error of an earlier datagram fails the next call on its socket, whatever its peer.

    Raises:
        OSError: of the second attempt, or that the socket's buffer is full.
    """
    try:
        call()
    except BlockingIOError:
        raise
    except OSError:
        call()
