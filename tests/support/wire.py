"""The four ways to a TURN server, over real sockets: whole STUN messages and ChannelData in, the same out.

Every wait has an end: a server that says nothing makes a test fail, never hang.
"""

import socket
import ssl
import struct
import time
from typing import Final, Protocol

from OpenSSL import SSL

from stun.registry import HEADER_LENGTH

PATIENCE: Final = 5.0  # seconds; what takes longer on one machine is not coming
_DTLS_RECORD_BYTES: Final = 1200  # of ciphertext, so that a flight of the handshake fits any path
_LARGEST_DATAGRAM: Final = 65536


class Wire(Protocol):
    """One client's way to the server."""

    is_stream: bool

    @property
    def local(self) -> tuple[str, int]:
        """The address that the server sees."""
        ...

    def send(self, data: bytes) -> None:
        """Send bytes as they are: one datagram, or one write to the stream."""
        ...

    def receive(self, seconds: float = PATIENCE) -> bytes:
        """The next message, padding included.

        Raises:
            TimeoutError: none came in time.
            ConnectionError: the server has closed the connection.
        """
        ...

    def close(self) -> None:
        """Let go of the socket."""
        ...


class UdpWire:
    """A connected UDP socket."""

    is_stream = False

    def __init__(self, server: tuple[str, int], source: str = "") -> None:
        self._socket = _connected(server, socket.SOCK_DGRAM, source)

    @property
    def local(self) -> tuple[str, int]:
        return _name(self._socket)

    def send(self, data: bytes) -> None:
        self._socket.send(data)

    def receive(self, seconds: float = PATIENCE) -> bytes:
        self._socket.settimeout(seconds)
        return self._socket.recv(_LARGEST_DATAGRAM)

    def close(self) -> None:
        self._socket.close()


class TcpWire:
    """A TCP connection, cut into messages by their length fields (RFC 8489 §6.2.2, RFC 8656 §12.5)."""

    is_stream = True

    def __init__(self, server: tuple[str, int]) -> None:
        self._socket = _connected(server, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    @property
    def local(self) -> tuple[str, int]:
        return _name(self._socket)

    def send(self, data: bytes) -> None:
        self._socket.settimeout(PATIENCE)
        self._socket.sendall(data)

    def receive(self, seconds: float = PATIENCE) -> bytes:
        deadline = time.monotonic() + seconds
        while (size := _frame_size(self._buffer)) is None or len(self._buffer) < size:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{len(self._buffer)} bytes, and no whole message")
            self._socket.settimeout(left)
            more = self._socket.recv(_LARGEST_DATAGRAM)
            if not more:
                raise ConnectionResetError("the server has closed the connection")
            self._buffer += more
        frame, self._buffer = self._buffer[:size], self._buffer[size:]
        return frame

    def receive_bytes(self, most: int = _LARGEST_DATAGRAM) -> bytes:
        """What comes next of a stream that is no longer cut into messages; empty at its end."""
        if self._buffer:
            data, self._buffer = self._buffer[:most], self._buffer[most:]
            return data
        self._socket.settimeout(PATIENCE)
        return self._socket.recv(most)

    def reset(self) -> None:
        """Close without a farewell (RST)."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def close(self) -> None:
        self._socket.close()


class TlsWire(TcpWire):
    """The same inside TLS; the certificate is self-signed and not looked at."""

    def __init__(self, server: tuple[str, int]) -> None:
        super().__init__(server)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["stun.turn"])
        self._socket.settimeout(PATIENCE)
        self._before_tls()
        self._socket = context.wrap_socket(self._socket)

    def _before_tls(self) -> None:
        """What goes in front of the handshake: nothing, unless a load balancer stands there."""


class DtlsWire:
    """A DTLS 1.2 association over a connected UDP socket; a datagram carries one message, as without DTLS."""

    is_stream = False

    def __init__(self, server: tuple[str, int]) -> None:
        self._socket = _connected(server, socket.SOCK_DGRAM)
        context = SSL.Context(SSL.DTLS_CLIENT_METHOD)
        context.set_verify(SSL.VERIFY_NONE)
        self._dtls = SSL.Connection(context, None)
        self._dtls.set_connect_state()
        self._dtls.set_ciphertext_mtu(_DTLS_RECORD_BYTES)
        try:
            self._shake_hands(time.monotonic() + PATIENCE)
        except BaseException:
            self._socket.close()
            raise

    @property
    def local(self) -> tuple[str, int]:
        return _name(self._socket)

    def send(self, data: bytes) -> None:
        if data:  # there are no empty records
            self._dtls.send(data)
            self._flush()

    def receive(self, seconds: float = PATIENCE) -> bytes:
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self._dtls.recv(_LARGEST_DATAGRAM)
            except SSL.WantReadError:
                self._take_in(deadline - time.monotonic())
            except SSL.ZeroReturnError as error:
                raise ConnectionResetError("the server has closed the association") from error

    @property
    def certificate_serial(self) -> int:
        """The serial number of the certificate that the server has shown."""
        certificate = self._dtls.get_peer_certificate(as_cryptography=True)
        assert certificate is not None
        return certificate.serial_number

    def close(self) -> None:
        self._socket.close()

    def _shake_hands(self, deadline: float) -> None:
        while True:
            try:
                self._dtls.do_handshake()
            except SSL.WantReadError:
                self._flush()
                wait = self._dtls.DTLSv1_get_timeout()
                left = deadline - time.monotonic()
                try:
                    self._take_in(left if wait is None else min(left, wait + 0.001))
                except TimeoutError:
                    if time.monotonic() >= deadline:
                        raise
                    self._dtls.DTLSv1_handle_timeout()
            else:
                self._flush()
                return

    def _take_in(self, seconds: float) -> None:
        if seconds <= 0:
            raise TimeoutError("nothing came")
        self._socket.settimeout(seconds)
        self._dtls.bio_write(self._socket.recv(_LARGEST_DATAGRAM))

    def _flush(self) -> None:
        try:
            while True:
                self._socket.send(self._dtls.bio_read(_LARGEST_DATAGRAM))
        except SSL.WantReadError:
            pass  # nothing left to send


def _frame_size(buffer: bytes) -> int | None:
    """Bytes of the frame that the buffer begins with, padding included; None if that is not known yet."""
    if len(buffer) < 4:
        return None
    length = int.from_bytes(buffer[2:4])
    return 4 + (length + 3 & ~3) if buffer[0] & 0xC0 else HEADER_LENGTH + length


def _connected(server: tuple[str, int], kind: socket.SocketKind, source: str = "") -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in server[0] else socket.AF_INET, kind)
    try:
        sock.settimeout(PATIENCE)
        if source:
            sock.bind((source, 0))
        sock.connect(server)
    except BaseException:
        sock.close()
        raise
    return sock


def _name(sock: socket.socket) -> tuple[str, int]:
    host, port = sock.getsockname()[:2]
    return str(host), int(port)
