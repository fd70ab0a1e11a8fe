"""Where a packet goes next: asked of the kernel's routing table over rtnetlink(7)."""

import contextlib
import socket
import struct
import sys
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

from relay.io.datapath.bpf.errors import Unroutable

MAX_REMEMBERED: Final = 4096  # ways; when there are more, all are asked anew
REMEMBERED_SECONDS: Final = 30.0  # what is learnt of a path's MTU is told by nobody
_REPLY_BYTES: Final = 1 << 16
_ANSWER_SECONDS: Final = 1.0  # the kernel answers within the call

_SOL_NETLINK: Final = 270  # this and the next one are missing in the socket module
_NETLINK_ADD_MEMBERSHIP: Final = 1
_MESSAGE: Final = struct.Struct("=IHHII")
_ROUTE: Final = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE: Final = struct.Struct("=HH")
_RTM_GETROUTE: Final = 26
_RTM_NEWROUTE: Final = 24
_NLM_F_REQUEST: Final = 1
_RTNLGRP_IPV6_RULE: Final = 19  # has no bit of its own
_RTA_DST, _RTA_SRC, _RTA_OIF, _RTA_GATEWAY, _RTA_METRICS, _RTA_VIA = 1, 2, 4, 5, 8, 18
_RTAX_MTU: Final = 2
_RTN_UNICAST: Final = 1
# Groups whose messages mean that ways may be others: links, then addresses, routes and rules of IPv4, and addresses
# and routes of IPv6.
_CHANGES: Final = 0x1 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400


class NextHop(NamedTuple):
    """By which interface a packet leaves, and to whom on that link."""

    interface: int  # its index
    ip: bytes  # packed: a router's, or the destination's own
    path_mtu: int = 0  # bytes of an IP packet, if more is known of the path than of the link; else 0


NOWHERE: Final = NextHop(0, bytes(4))  # for packets that are looked up again before they leave


class Egress:
    """Looks ways up, remembers them, and hears when they may have changed."""

    def __init__(self) -> None:
        """Open the two sockets of this network namespace; OSError if it has none to give."""
        self._known: dict[tuple[bytes, bytes], tuple[NextHop, float]] = {}
        self._sequence = 0
        with contextlib.ExitStack() as opened:
            self._asking = opened.enter_context(_netlink(0))
            self._asking.settimeout(_ANSWER_SECONDS)
            self._changes = opened.enter_context(_netlink(_CHANGES))
            self._changes.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, _RTNLGRP_IPV6_RULE)
            self._changes.settimeout(0)
            opened.pop_all()

    def next_hop(self, source: bytes, destination: bytes) -> NextHop:
        """The next hop of packets between two packed IP addresses.

        Raises:
            Unroutable: there is no way, or it leads to this machine.
        """
        key = source, destination
        now = time.monotonic()
        hop, asked_at = self._known.get(key, (None, 0.0))
        if hop is None or now > asked_at + REMEMBERED_SECONDS:
            if len(self._known) >= MAX_REMEMBERED:
                self._known.clear()
            hop = self._ask(source, destination)
            self._known[key] = hop, now
        return hop

    def has_changed(self) -> bool:
        """Whether any way may be another since this was asked last; what is remembered is forgotten then."""
        changed = False
        while True:
            try:
                self._changes.recv(_REPLY_BYTES)
            except BlockingIOError:
                break
            except OSError:  # ENOBUFS: there were more messages than the socket holds, so something has changed
                pass
            changed = True
        if changed:
            self._known.clear()
        return changed

    def close(self) -> None:
        """Close the sockets."""
        self._asking.close()
        self._changes.close()

    def _ask(self, source: bytes, destination: bytes) -> NextHop:
        self._sequence += 1
        bits = 8 * len(destination)
        family = socket.AF_INET if len(destination) == 4 else socket.AF_INET6
        body = _ROUTE.pack(family, bits, bits, 0, 0, 0, 0, 0, 0)
        body += _attribute(_RTA_DST, destination) + _attribute(_RTA_SRC, source)
        head = _MESSAGE.pack(_MESSAGE.size + len(body), _RTM_GETROUTE, _NLM_F_REQUEST, self._sequence, 0)
        try:
            self._asking.send(head + body)
            reply = self._asking.recv(_REPLY_BYTES)
            while _MESSAGE.unpack_from(reply)[3] != self._sequence:  # an answer that came too late for its question
                reply = self._asking.recv(_REPLY_BYTES)
        except OSError as error:
            raise Unroutable(f"the kernel does not tell the way: {error.strerror}") from error
        if _MESSAGE.unpack_from(reply)[1] != _RTM_NEWROUTE:
            raise Unroutable("no route to the destination")
        if _ROUTE.unpack_from(reply, _MESSAGE.size)[7] != _RTN_UNICAST:
            raise Unroutable("the destination is this machine, or nobody's")
        return _read_route(reply, destination)


def _read_route(reply: bytes, destination: bytes) -> NextHop:
    interface, ip, path_mtu = 0, destination, 0
    for kind, value in _attributes(reply[_MESSAGE.size + _ROUTE.size :]):
        if kind == _RTA_OIF:
            interface = int.from_bytes(value, sys.byteorder)
        elif kind == _RTA_GATEWAY:
            ip = value
        elif kind == _RTA_VIA:  # a router of the other family: struct rtvia begins with its family
            ip = value[2:]
        elif kind == _RTA_METRICS:
            path_mtu = int.from_bytes(dict(_attributes(value)).get(_RTAX_MTU, b""), sys.byteorder)
    if not interface or len(ip) not in (4, 16):
        raise Unroutable("a route that says not enough")
    return NextHop(interface, ip, min(path_mtu, 0xFFFF))


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        yield kind, data[at + _ATTRIBUTE.size : at + length]
        at += max(length + 3 & ~3, _ATTRIBUTE.size)


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value


def _netlink(groups: int) -> socket.socket:
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    try:
        sock.bind((0, groups))
    except OSError:
        sock.close()
        raise
    return sock
