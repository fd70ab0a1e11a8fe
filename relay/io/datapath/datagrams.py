"""UDP sockets of the packet path: several datagrams taken at once, and sent from where they lie.

This is the portable form, out of the standard library. `datagrams.c` is its twin, built by `make native`, with the
same names: there one system call takes all that waits, and addresses are neither formatted nor parsed per datagram.
"""

import select
import socket
import struct
from collections.abc import Callable
from typing import Final, NewType, cast

Buffer = bytes | memoryview
SocketAddress = tuple[str, int] | tuple[str, int, int, int]
Target = NewType("Target", object)  # a peer's address in the form that sending is quickest with

MAX_SEGMENT: Final = 0xFFFF  # bytes: what the kernel cuts a run into at most (UDP_SEGMENT)
MAX_DATAGRAM: Final = 65536  # bytes, of a buffer; no UDP payload and no joined run is larger

# Size in bytes; size of each datagram in a joined run, else 0; who sent it; its first four bytes as a number, which
# mean nothing if it is shorter. The datagram lies in the view of the same place.
Datagram = tuple[int, int, SocketAddress, int]

_SOL_UDP: Final = 17  # this and the next ones are missing in the socket module
_UDP_SEGMENT: Final = 103
_UDP_GRO: Final = 104
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(4)
_JOINED: Final = struct.Struct("=i")
_CUT: Final = struct.Struct("=H")
_FIRST_BYTES: Final = struct.Struct("!I")
_MAX_ALIGN: Final = 4  # bytes
_MAX_EVENTS: Final = 64  # taken at once; what is left behind is reported again
_PROBE_AFTER: Final = 8  # full batches, since an empty socket was asked, until more is expected again


def target(address: SocketAddress) -> Target:
    """The form of a numeric address that `DatagramSocket.send` takes."""
    return Target(address)


class Inbox:
    """Buffers that many sockets receive into, one after the other. Everything runs on one thread."""

    __slots__ = ("headroom", "views", "windows")

    def __init__(self, slots: int, headroom: int = 0, tailroom: int = 0) -> None:
        """Make buffers for `slots` datagrams.

        Args:
            slots: how many are taken at once, at most 1024.
            headroom: bytes to be left free in front of each datagram.
            tailroom: bytes to be left free behind it, if it is as large as can be.

        Raises:
            ValueError: a number is negative or too large.
        """
        if not (1 <= slots <= 1024 and 0 <= headroom <= MAX_DATAGRAM and 0 <= tailroom <= MAX_DATAGRAM):
            raise ValueError("an inbox of impossible size")
        self.headroom = headroom
        self.views = [memoryview(bytearray(headroom + MAX_DATAGRAM + tailroom)) for _ in range(slots)]
        self.windows = [[view[headroom : headroom + MAX_DATAGRAM]] for view in self.views]


class DatagramSocket:
    """A bound UDP socket, not connected, that never blocks."""

    __slots__ = ("_batch", "_full_batches", "_inbox", "_joins", "sock")

    def __init__(self, sock: socket.SocketType, inbox: Inbox) -> None:
        """Receive from a socket into an inbox; the socket belongs to this object from now on."""
        self.sock = sock
        self._inbox = inbox
        self._joins = False
        # As many as came last time are expected: to ask an empty socket costs a system call and an exception, and
        # epoll tells again what was left behind.
        self._batch = 1
        self._full_batches = 0  # since an empty socket was asked

    def join(self) -> bool:
        """Let the kernel join runs of datagrams that this socket receives (UDP_GRO); False if it cannot (before 5.0).

        It is not asked to stop again: what had been joined by then would arrive without its segment size.
        """
        try:
            self.sock.setsockopt(_SOL_UDP, _UDP_GRO, 1)
        except OSError:
            return False
        self._joins = True
        return True

    def receive(self) -> list[Datagram]:
        """Take what waits, at most one datagram or run for each slot of the inbox.

        Errors of earlier datagrams that the socket reports here are passed over: what is ready behind them comes next.
        """
        received: list[Datagram] = []
        windows = self._inbox.windows
        ancillary: list[tuple[int, int, bytes]] = []
        for count in range(self._batch):
            window = windows[len(received)]
            try:
                if self._joins:
                    size, ancillary, _, address = self.sock.recvmsg_into(window, _ANCILLARY_BYTES)
                else:
                    size, address = self.sock.recvfrom_into(window[0])
            except BlockingIOError:
                self._batch = count or 1
                self._full_batches = 0
                return received
            except OSError:
                continue
            segment = _segment_size(ancillary) if ancillary else 0
            received.append((size, segment, address, _FIRST_BYTES.unpack_from(window[0])[0]))
        self._full_batches += 1
        if self._full_batches >= _PROBE_AFTER:
            self._batch = min(2 * self._batch, len(windows))
        return received

    def send(self, data: Buffer, start: int, stop: int, to: Target) -> None:
        """Send `data[start:stop]`; tried twice, because the ICMP error of an earlier datagram fails the next call.

        Raises:
            BlockingIOError: the buffer of the socket is full.
            OSError: it was not sent.
            ValueError: nothing lies there.
        """
        part, address = _part(data, start, stop), cast("SocketAddress", to)
        _persistently(lambda: self.sock.sendto(part, address))

    def send_behind(self, head: bytes | int, data: memoryview, start: int, stop: int, align: int, to: Target) -> None:
        """Send `data[start:stop]` with a head in front of it; a number stands for its four bytes.

        Behind it come zero bytes until `align`, at most 4, divides its length. Both are written into `data`.

        Raises:
            BlockingIOError: the buffer of the socket is full.
            OSError: it was not sent.
            OverflowError: the number needs more than four bytes.
            ValueError: `data` has no room for head and zero bytes.
        """
        if isinstance(head, int):
            head = head.to_bytes(4, "big")
        begin, end = start - len(head), stop + align - 1
        if not (1 <= align <= _MAX_ALIGN and begin >= 0 and start <= stop and end <= len(data)):
            raise ValueError("nothing lies there")
        end = stop + -(stop - start) % align
        data[begin:start] = head
        data[stop:end] = bytes(end - stop)
        self.send(data, begin, end, to)

    def send_run(self, data: Buffer, start: int, stop: int, size: int, to: Target) -> None:
        """Send `data[start:stop]` as datagrams of `size` bytes, the last may be shorter (UDP_SEGMENT).

        Raises:
            BlockingIOError: the buffer of the socket is full.
            OSError: none of it was sent.
            ValueError: nothing lies there, or a datagram of `size` bytes cannot be.
        """
        if not 1 <= size <= MAX_SEGMENT:
            raise ValueError("datagrams of impossible size")
        part, address = _part(data, start, stop), cast("SocketAddress", to)
        ancillary = ((_SOL_UDP, _UDP_SEGMENT, _CUT.pack(size)),)
        _persistently(lambda: self.sock.sendmsg((part,), ancillary, 0, address))

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()


def ready(epoll: select.epoll, _descriptor: int) -> list[tuple[int, int]]:
    """The descriptors that an epoll object, whose own descriptor is given, reports now, each with its events."""
    return epoll.poll(0, _MAX_EVENTS)


def _part(data: Buffer, start: int, stop: int) -> Buffer:
    if not 0 <= start <= stop <= len(data):
        raise ValueError("nothing lies there")
    return data[start:stop]


def _persistently(call: Callable[[], object]) -> None:
    try:
        call()
    except BlockingIOError:
        raise
    except OSError:  # it may be the ICMP error of an earlier datagram, whatever its peer
        call()


def _segment_size(ancillary: list[tuple[int, int, bytes]]) -> int:
    for level, kind, value in ancillary:
        if level == _SOL_UDP and kind == _UDP_GRO:
            size: int = _JOINED.unpack_from(value)[0]
            return size
    return 0
