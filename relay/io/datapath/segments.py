"""Runs of datagrams sent by one system call: the kernel cuts them (UDP_SEGMENT), as it joins what we receive (UDP_GRO).

A run is datagrams of equal size, the last of which may be shorter, between the same two transport addresses. Most of
what a datagram costs is its way through the system call, routing and the network stack; a run pays that once.
"""

import errno
import socket
from functools import cache
from typing import Final

from relay.io.clients import Buffer
from relay.io.datapath.datagrams import MAX_SEGMENT, DatagramSocket, target

SocketAddress = tuple[str, int] | tuple[str, int, int, int]

MAX_SEGMENTS: Final = 64  # of a run (UDP_MAX_SEGMENTS of the oldest kernels that cut)
MAX_RUN: Final = 65507  # bytes of a run; to the kernel it is one datagram until it is cut

_SOL_UDP: Final = 17  # this and the next one are missing in the socket module
_UDP_SEGMENT: Final = 103
# A segment does not fit the link (the error depends on the kernel), or the device or a transformation cannot do it.
_CANNOT_CUT: Final = (errno.EINVAL, errno.EMSGSIZE, errno.EIO, errno.EOPNOTSUPP)


class Destination:
    """Where datagrams go, and the largest segment that the kernel cuts a run into on the way there."""

    __slots__ = ("address", "max_segment", "target")

    def __init__(self, address: SocketAddress) -> None:
        self.address = address
        self.target = target(address)
        self.max_segment = MAX_SEGMENT if kernel_cuts() else 0


class DatagramLink(Destination):
    """How relayed messages reach one client of a datagram listener."""

    __slots__ = ("socket",)
    pads = False  # RFC 8656 §12.5 asks for it over streams only

    def __init__(self, sock: DatagramSocket, address: SocketAddress) -> None:
        super().__init__(address)
        self.socket = sock

    def send(self, message: Buffer) -> None:
        """Send one message.

        Raises:
            OSError: it was not sent.
        """
        self.socket.send(message, 0, len(message), self.target)

    def send_burst(self, messages: Buffer, size: int) -> None:
        """Send messages of `size` bytes, the last may be shorter, in one system call if the kernel can cut them.

        Raises:
            OSError: at least one of them was not sent.
        """
        send_run(self.socket, messages, 0, len(messages), size, self)


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


def send_run(sock: DatagramSocket, data: Buffer, start: int, stop: int, size: int, to: Destination) -> None:
    """Send `data[start:stop]` as datagrams of `size` bytes, the last may be shorter.

    A run that cannot be cut is sent one by one, and so is every later one to this destination with segments as large.

    Raises:
        OSError: at least one of them was not sent.
    """
    if stop - start <= size:
        sock.send(data, start, stop, to.target)
        return
    if size <= to.max_segment:
        try:
            sock.send_run(data, start, stop, size, to.target)
        except OSError as error:
            if error.errno not in _CANNOT_CUT:
                raise
            to.max_segment = 0 if error.errno in (errno.EIO, errno.EOPNOTSUPP) else size - 1
        else:
            return
    failure: OSError | None = None
    for at in range(start, stop, size):
        try:
            sock.send(data, at, min(at + size, stop), to.target)
        except OSError as error:
            failure = error
    if failure is not None:
        raise failure
