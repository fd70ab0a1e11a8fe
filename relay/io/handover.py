"""A connection that speaks HTTP, as a server written for asyncio expects it: the pages on the port of the relay."""

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol, cast

from stun.address import TransportAddress

HIGH_WATER_BYTES: Final = 64 << 10  # waiting to be sent before the protocol is asked to pause, as asyncio has it


class Pipe(Protocol):
    """What is asked of a connection. `relay.io.stream.StreamConnection` is one."""

    sock: socket.socket

    def take_over(
        self,
        on_data: Callable[[bytes], None],
        on_lost: Callable[[], None],
        on_sent: Callable[[], None] | None = None,
    ) -> bytes:
        """Have all bytes from now on; returns those that have been read already."""
        ...

    @property
    def unsent(self) -> int:
        """Bytes that wait to be sent."""
        ...

    @property
    def is_closing(self) -> bool:
        """Whether it has ended or is about to."""
        ...

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """TLS, if there is any."""
        ...

    def write(self, data: bytes | memoryview) -> None:
        """Send bytes."""
        ...

    def pause_reading(self) -> None:
        """Read no more."""
        ...

    def resume_reading(self) -> None:
        """Read again."""
        ...

    def close(self) -> None:
        """Send what waits, then close."""
        ...

    def abort(self) -> None:
        """Close at once."""
        ...


class StreamTransport(asyncio.Transport):
    """An asyncio transport over a connection that has been accepted, decrypted and recognised already.

    How much may wait to be sent is bounded by the connection: a protocol that never pauses loses it.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pipe: Pipe,
        protocol: asyncio.BaseProtocol,
        client: TransportAddress,
        server: TransportAddress,
    ) -> None:
        tls = pipe.ssl_object
        super().__init__(
            {
                "peername": _socket_address(client),
                "sockname": _socket_address(server),
                "socket": pipe.sock,
                "sslcontext": None if tls is None else tls.context,
                "ssl_object": tls,
                "cipher": None if tls is None else tls.cipher(),
            }
        )
        self._loop = loop
        self._pipe = pipe
        self._protocol = protocol
        self._high = HIGH_WATER_BYTES
        self._low = HIGH_WATER_BYTES // 4
        self._has_paused_protocol = False
        self._is_reading = True

    def begin(self) -> None:
        """Take the connection over, and pass on what the client has said so far."""
        leftover = self._pipe.take_over(self._receive, self._lose, self._resume_protocol)
        self._call(self._protocol.connection_made, self)
        if leftover:
            self._receive(leftover)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Have another protocol receive what comes."""
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol that receives what comes."""
        return self._protocol

    def is_closing(self) -> bool:
        """Whether the connection has ended or is about to."""
        return self._pipe.is_closing

    def close(self) -> None:
        """Send what waits, then close; `connection_lost` follows."""
        self._pipe.close()

    def abort(self) -> None:
        """Close at once; `connection_lost` follows."""
        self._pipe.abort()

    def is_reading(self) -> bool:
        """Whether the protocol wants more."""
        return self._is_reading and not self._pipe.is_closing

    def pause_reading(self) -> None:
        """Leave what the client sends to the kernel; what has been read already may still follow."""
        self._is_reading = False
        self._pipe.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._is_reading = True
        self._pipe.resume_reading()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes, now or as soon as the client takes them."""
        self._pipe.write(memoryview(data))
        if not self._has_paused_protocol and self._pipe.unsent > self._high:
            self._has_paused_protocol = True
            self._call(self._protocol.pause_writing)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send several pieces as one."""
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        """Not offered: TLS has no half-closed connections worth the name."""
        raise NotImplementedError

    def can_write_eof(self) -> bool:
        """Whether one direction can be closed alone."""
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set when the protocol is paused and resumed, as `asyncio.WriteTransport` describes it."""
        if high is None:
            high = HIGH_WATER_BYTES if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high}) must not lie below low ({low}), nor that below zero")
        self._high, self._low = high, low

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The bounds, low and high."""
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        """Bytes that wait to be sent."""
        return self._pipe.unsent

    def _receive(self, data: bytes) -> None:
        self._call(cast("asyncio.Protocol", self._protocol).data_received, data)

    def _lose(self) -> None:
        # Not at once: it may be the protocol that is closing the connection, and it is in the middle of something.
        self._loop.call_soon(self._protocol.connection_lost, None)

    def _resume_protocol(self) -> None:
        if self._has_paused_protocol and self._pipe.unsent <= self._low:
            self._has_paused_protocol = False
            self._call(self._protocol.resume_writing)

    def _call(self, callback: Callable[..., object], *arguments: Any) -> None:  # noqa: ANN401  # whatever it takes
        try:
            callback(*arguments)
        except Exception as error:  # noqa: BLE001  # a fault of the pages is theirs; the relay goes on
            self._loop.call_exception_handler(
                {"message": "a protocol failed", "exception": error, "protocol": self._protocol, "transport": self}
            )
            self._pipe.abort()


def _socket_address(address: TransportAddress) -> tuple[str, int] | tuple[str, int, int, int]:
    if len(address.ip) == 4:
        return socket.inet_ntop(socket.AF_INET, address.ip), address.port
    return socket.inet_ntop(socket.AF_INET6, address.ip), address.port, 0, 0
