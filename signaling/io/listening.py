"""Accepts TCP connections for the pages, bounded from the first byte: a TLS handshake counts as a connection, too."""

import asyncio
import errno
import ipaddress
import logging
import socket
import ssl
from collections.abc import Callable

from signaling.connection_limits import ConnectionLimits, TooManyConnections
from signaling.io.failure_log import FailureLog
from signaling.rate_limiter import peer_key
from signaling.reverse_proxies import ReverseProxies

HANDSHAKE_TIMEOUT_SECONDS = 5.0
BACKLOG = 128
MAX_ACCEPTED_AT_ONCE = 64  # then the loop looks at the others
PAUSE_SECONDS = 1.0  # after running out of descriptors: a ready listener would keep the loop busy

_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_NO_SUCH_FAMILY = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}
_logger = logging.getLogger(__name__)


class CountedProtocol(asyncio.BaseProtocol):
    """The protocol of a connection that counts."""

    __slots__ = ()

    def release(self) -> None:
        """Count the connection out, if that has not happened yet."""
        raise NotImplementedError


class Listener:
    """One listening socket."""

    def __init__(
        self,
        sock: socket.socket,
        limits: ConnectionLimits,
        make_protocol: Callable[[bytes], CountedProtocol],
        ssl_context: ssl.SSLContext | None,
        proxies: ReverseProxies,
    ) -> None:
        """Listen on a bound socket.

        Args:
            sock: listening and non-blocking; ours from now on.
            limits: count each connection from its acceptance on.
            make_protocol: makes the protocol of a connection that has been counted for this address.
            ssl_context: shakes hands first, within `HANDSHAKE_TIMEOUT_SECONDS`.
            proxies: stand for many clients each.
        """
        self._sock = sock
        self._limits = limits
        self._make_protocol = make_protocol
        self._ssl_context = ssl_context
        self._proxies = proxies
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._exhausted = FailureLog(
            _logger, logging.ERROR, "no descriptors or memory: nobody is accepted for a second"
        )
        self._loop.add_reader(sock, self._accept)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        host, port = self._sock.getsockname()[:2]
        return host, port

    async def stop(self) -> None:
        """Listen no more, and break off the handshakes; open connections stay."""
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._sock)
        self._sock.close()
        for task in self._opening:
            task.cancel()
        if self._opening:
            await asyncio.wait(self._opening)

    def _accept(self) -> None:
        for _ in range(MAX_ACCEPTED_AT_ONCE):
            try:
                sock, address = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in _OUT_OF_RESOURCES:
                    self._exhausted.report(error, self._loop.time())
                    self._loop.remove_reader(self._sock)
                    self._pause = self._loop.call_later(PAUSE_SECONDS, self._resume)
                return  # else of the connection that was to be accepted: Linux tells network errors here, see accept(2)
            key = peer_key(address[0])
            try:
                self._limits.enter(key, is_shared=address[0] in self._proxies)
            except TooManyConnections:
                sock.close()
                continue
            sock.setblocking(False)  # noqa: FBT003 - its only argument
            task = self._loop.create_task(self._open(sock, self._make_protocol(key)))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._sock, self._accept)

    async def _open(self, sock: socket.socket, protocol: CountedProtocol) -> None:
        """Hand a connection to its protocol, after the handshake if there is one."""
        timeout = None if self._ssl_context is None else HANDSHAKE_TIMEOUT_SECONDS
        try:
            await self._loop.connect_accepted_socket(
                lambda: protocol, sock, ssl=self._ssl_context, ssl_handshake_timeout=timeout
            )
        except OSError as error:  # of which the errors of TLS and the time-out of the handshake are kinds
            protocol.release()
            _logger.debug("a connection was not opened: %s", type(error).__name__)
        except BaseException:
            protocol.release()
            raise


def bind(host: str | None, port: int) -> list[socket.socket]:
    """Open the listening sockets of one address, or those of every address of this machine.

    Args:
        host: an IP address; None: all of both families, of which a machine may lack IPv6.
        port: a TCP port.

    Raises:
        OSError: it cannot be listened on.
    """
    if host is not None:
        return [_listen(host, port)]
    sockets = [_listen("0.0.0.0", port)]  # noqa: S104 - every address is what was asked for
    try:
        sockets.append(_listen("::", port))
    except OSError as error:
        if error.errno not in _NO_SUCH_FAMILY:
            sockets[0].close()
            raise
    return sockets


def _listen(host: str, port: int) -> socket.socket:
    is_ipv6 = ipaddress.ip_address(host).version == 6
    sock = socket.create_server((host, port), family=socket.AF_INET6 if is_ipv6 else socket.AF_INET, backlog=BACKLOG)
    sock.setblocking(False)  # noqa: FBT003 - its only argument
    return sock
