"""A DTLS client for tests: OpenSSL between memory BIOs, and a UDP endpoint that every datagram can be seen on."""

import asyncio
import contextlib
from typing import Final

from OpenSSL import SSL

from tests.support.udp_endpoint import PATIENCE, UdpEndpoint

DTLS_1_0: Final = 0xFEFF
DTLS_1_2: Final = 0xFEFD
_RECORD_HEADER_BYTES: Final = 13


def client_context(ciphers: bytes = b"DEFAULT", version: int = DTLS_1_2) -> SSL.Context:
    context = SSL.Context(SSL.DTLS_CLIENT_METHOD)
    context.set_options(SSL.OP_NO_QUERY_MTU)
    context.set_cipher_list(ciphers)
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    context.set_alpn_protos([b"stun.turn"])
    return context


def records(datagram: bytes) -> list[bytes]:
    """Cut what holds several records."""
    found = []
    while datagram:
        end = _RECORD_HEADER_BYTES + int.from_bytes(datagram[11:13])
        found.append(datagram[:end])
        datagram = datagram[end:]
    return found


class DtlsClient:
    """One client; `datagrams` is all that the server has sent it."""

    def __init__(self, endpoint: UdpEndpoint, server: tuple[str, int], context: SSL.Context | None = None) -> None:
        self.endpoint = endpoint
        self.datagrams: list[bytes] = []
        self.ssl = SSL.Connection(context or client_context())
        self.ssl.set_connect_state()
        self.ssl.set_ciphertext_mtu(1200)
        self._server = server

    def step(self) -> bytes:
        """Go on with the handshake as far as it goes; returns what has to be sent."""
        with contextlib.suppress(SSL.WantReadError):
            self.ssl.do_handshake()
        return self.written()

    def written(self) -> bytes:
        try:
            return self.ssl.bio_read(1 << 16)
        except SSL.WantReadError:
            return b""

    def send_datagram(self, data: bytes) -> None:
        if data:
            self.endpoint.send(data, self._server)

    async def receive_datagram(self) -> bytes:
        self.datagrams.append(await self.endpoint.receive())
        return self.datagrams[-1]

    async def get_cookie(self) -> bytes:
        """Exchange the first ClientHello for a cookie; returns the second ClientHello, which has not been sent."""
        self.send_datagram(self.step())
        self.ssl.bio_write(await self.receive_datagram())
        return self.step()

    async def connect(self) -> None:
        """Finish the handshake, with retransmissions.

        Raises:
            SSL.Error: the server refuses.
            TimeoutError: it does not answer.
        """
        async with asyncio.timeout(2 * PATIENCE):
            while True:
                self.send_datagram(self.step())
                if self.ssl.get_state_string() == b"SSL negotiation finished successfully":
                    return
                try:
                    async with asyncio.timeout(self.ssl.DTLSv1_get_timeout()):
                        self.ssl.bio_write(await self.receive_datagram())
                except TimeoutError:
                    self.ssl.DTLSv1_handle_timeout()

    def seal(self, *messages: bytes) -> bytes:
        """One datagram with a record for each message."""
        for message in messages:
            self.ssl.send(message)
        return self.written()

    def send(self, *messages: bytes) -> None:
        self.send_datagram(self.seal(*messages))

    async def receive(self) -> bytes:
        """The next message.

        Raises:
            SSL.ZeroReturnError: the server has said farewell.
        """
        while True:
            try:
                return self.ssl.recv(1 << 16)
            except SSL.WantReadError:
                self.ssl.bio_write(await self.receive_datagram())

    def say_farewell(self) -> None:
        self.ssl.shutdown()
        self.send_datagram(self.written())
