"""Binds what the relay listens on, once for each process that shares the ports (SO_REUSEPORT)."""

import errno
import logging
import os
import socket
from collections.abc import Iterator
from typing import ClassVar, Final, NamedTuple

from relay.five_tuple import Transport
from relay.io.addresses import listen_addresses
from relay.settings import RelaySettings

BACKLOG: Final = 512  # connections that wait to be accepted
# What `accept` says when it has to be asked later: a ready listener would keep the loop busy until then.
OUT_OF_RESOURCES: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

_log = logging.getLogger(__name__)


class BindError(OSError):
    """A port could not be bound; the message names it and says why."""

    is_for_operator: ClassVar = True  # what it says is about the machine and its settings


class BoundSocket(NamedTuple):
    """A socket that listens, and what is spoken there."""

    transport: Transport
    host: str
    port: int
    sock: socket.socket


def bind_everywhere(settings: RelaySettings, copies: int = 1) -> list[list[BoundSocket]]:
    """Bind every configured address and port, or nothing; one list of the same sockets for each copy.

    Streams listen already: the kernel spreads clients over all sockets of a group from now on, and what comes before
    somebody reads waits in the queue. So the group must be complete, and stay so: whoever leaves it moves others'
    clients to other sockets.

    Raises:
        BindError: a port is taken or an address is not ours.
    """
    bound: list[list[BoundSocket]] = [[] for _ in range(copies)]
    try:
        for host in listen_addresses(settings):
            try:
                _bind_host(settings, host, bound)
            except BindError as error:
                # An interface may hold an address that is not usable yet, or no longer (IPv6, right after boot).
                if settings.listen_addresses or error.errno != errno.EADDRNOTAVAIL:
                    raise
                _log.warning("%s; going on without it", error)
    except BaseException:
        close_all(bound)
        raise
    return bound


def close_all(bound: list[list[BoundSocket]]) -> None:
    """Close every socket."""
    for sockets in bound:
        for entry in sockets:
            entry.sock.close()


def _bind_host(settings: RelaySettings, host: str, bound: list[list[BoundSocket]]) -> None:
    for transport, port in _ports(settings):
        if len(bound) > 1:
            # Sharing works with whoever shares, too: a second service of the same user would get half of the clients.
            _bind(transport, host, port, is_shared=False).close()
        for sockets in bound:
            sock = _bind(transport, host, port, is_shared=len(bound) > 1)
            sockets.append(BoundSocket(transport, host, port, sock))


def _ports(settings: RelaySettings) -> Iterator[tuple[Transport, int]]:
    for port in settings.udp_ports:
        yield Transport.UDP, port
    for port in settings.tcp_ports:
        yield Transport.TCP, port
    for port in settings.tls_ports:
        yield Transport.TLS, port
    for port in settings.dtls_ports:
        yield Transport.DTLS, port


def _bind(transport: Transport, host: str, port: int, *, is_shared: bool) -> socket.socket:
    is_stream = transport in {Transport.TCP, Transport.TLS}
    kind = socket.SOCK_STREAM if is_stream else socket.SOCK_DGRAM
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK)
    try:
        if is_stream:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        if is_stream:
            sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        name = "TCP" if is_stream else "UDP"
        where = f"[{host}]:{port}" if family == socket.AF_INET6 else f"{host}:{port}"
        raise BindError(error.errno, f"cannot listen on {name} {where}: {os.strerror(error.errno or 0)}") from error
    return sock
