"""Clients over DTLS: one UDP socket, one cryptographic association per client address (RFC 7350, RFC 8656 §2.1).

OpenSSL does the cryptography between memory BIOs. These know no datagrams: what OpenSSL writes comes back glued
together, so records are cut apart again, and a datagram is read to its end before the next one goes in.
"""

import asyncio
import contextlib
import errno
import os
import socket
import struct
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL

from relay.five_tuple import FiveTuple, Transport
from relay.io.clients import Buffer, ClientRelay, Clients
from relay.io.datapath.segments import SocketAddress
from relay.io.dtls_hello import HANDSHAKE_MTU_BYTES, HELLO_RANDOM, DtlsCookies, HelloVerifier, verify_hellos
from relay.io.poller import Poller
from relay.io.stream import ALLOCATION_SECONDS, FIRST_MESSAGE_SECONDS
from relay.io.udp import enlarge_buffers
from stun.address import TransportAddress

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

HANDSHAKE_SECONDS: Final = 10.0  # from the ClientHello with a valid cookie to the client's Finished
SWEEP_SECONDS: Final = 1.0  # how often deadlines and retransmissions are looked after

_DTLS_1_2: Final = 0xFEFD
_CIPHERS: Final = b"ECDHE+AESGCM"  # ephemeral keys and authenticated encryption only (BSI TR-02102-2 §3.3.1)
_ALPN: Final = b"stun.turn"  # RFC 7443

# A record (RFC 6347 §4.1): type, version, epoch (2 bytes), sequence number (6), length (2).
_RECORD_HEADER_BYTES: Final = 13
_RECORD_OVERHEAD_BYTES: Final = _RECORD_HEADER_BYTES + 8 + 16  # with the explicit nonce and the tag of AES-GCM
_MAX_PLAINTEXT_BYTES: Final = 1 << 14
_CHANGE_CIPHER_SPEC: Final = 20
_HANDSHAKE: Final = 22
_APPLICATION_DATA: Final = 23
_CLIENT_HELLO: Final = 1
# The first byte of a message (RFC 7983 §7).
_STUN_MAX: Final = 3
_CHANNEL_MIN: Final = 0x40
_CHANNEL_MAX: Final = 0x7F

_MAX_DATAGRAM: Final = 1 << 16
_MAX_BATCH: Final = 32  # datagrams per readiness event, for the other sockets' sake
_PLAIN_BYTES: Final = 128 << 10  # what relays may collect before they have to flush
_BIO_SLACK_BYTES: Final = 256  # an alert that lies before what we wrote leaves with it

_UDP_SEGMENT: Final = 103  # Linux, udp(7); missing in the socket module
_MAX_SEGMENTS: Final = 64
_MAX_UDP_PAYLOAD: Final = 65507


class DtlsCount(StrEnum):
    """What a listener counts; a bounded set, fit for a metric label."""

    HELLO_VERIFY = "hello_verify"  # HelloVerifyRequests sent
    COOKIE_REFUSED = "cookie_refused"
    REFUSED = "refused"  # a client that the table has no room for
    HANDSHAKE = "handshake"  # completed
    HANDSHAKE_FAILED = "handshake_failed"
    JUNK = "junk"  # datagrams that are no DTLS, of no association, forged or replayed
    MALFORMED = "malformed"  # decrypted records that are neither STUN nor ChannelData
    NO_ALLOCATION = "no_allocation"  # ChannelData of a client that has none
    SEND_FAILED = "send_failed"


# Looking a member up in its class costs more than the rest of the line.
_JUNK: Final = DtlsCount.JUNK
_HELLO_VERIFY: Final = DtlsCount.HELLO_VERIFY
_SEND_FAILED: Final = DtlsCount.SEND_FAILED


def build_dtls_context(certificate_file: Path, key_file: Path) -> SSL.Context:
    """Make the context of a DTLS 1.2 server; several listeners may share it.

    Args:
        certificate_file: PEM, the certificate and then its chain.
        key_file: PEM, without a passphrase.

    Raises:
        OSError: a file cannot be read, or certificate and key do not fit.
    """
    context = SSL.Context(SSL.DTLS_SERVER_METHOD)
    context.set_min_proto_version(_DTLS_1_2)
    context.set_max_proto_version(_DTLS_1_2)
    context.set_cipher_list(_CIPHERS)
    # Nothing is resumed: a ticket would be one more key to look after, and a cache one more table to bound.
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_QUERY_MTU)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # 20 KiB less per association
    context.set_alpn_select_callback(
        lambda _connection, offered: _ALPN if _ALPN in offered else SSL.NO_OVERLAPPING_PROTOCOLS
    )
    verify_hellos(context)
    try:
        context.use_certificate_chain_file(os.fspath(certificate_file))
        key = load_pem_private_key(key_file.read_bytes(), password=None)
        context.use_privatekey(cast("RSAPrivateKey | EllipticCurvePrivateKey", key))
        context.check_privatekey()
    except (SSL.Error, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise OSError(f"cannot use {certificate_file} with {key_file}: {error}") from error
    return context


class DtlsAssociation:
    """The association with one client. It is a `Connection`, which the service hears of when the handshake is done."""

    pads = False

    def __init__(
        self,
        listener: "DtlsListener",
        ssl: SSL.Connection,
        address: SocketAddress,
        path: FiveTuple,
        hello_random: bytes,
        deadline: float,
    ) -> None:
        self.path = path
        self.ssl = ssl
        self.address: Final = address
        self.hello_random: Final = (
            hello_random  # tells a late copy of a ClientHello from that of a client that restarted
        )
        self.deadline: float | None = deadline
        self.relay: ClientRelay | None = None
        self.has_spoken = False
        self.is_open = True
        self._listener = listener
        self._sock = listener.sock

    def send(self, message: Buffer) -> None:
        """Send one message in a record and a datagram of its own.

        Raises:
            OSError: it was not sent: the association has ended, the message is too long, the socket's buffer full.
        """
        self._seal(message)
        sealed = self.ssl.bio_read(len(message) + _RECORD_OVERHEAD_BYTES + _BIO_SLACK_BYTES)
        self._sock.sendto(sealed, self.address)

    def send_burst(self, messages: Buffer, size: int) -> None:
        """Send several messages of `size` bytes (the last may be shorter), each in a record and a datagram of its own.

        Records of equal messages are equally long, so the kernel can cut them apart: one system call per burst.

        Raises:
            OSError: at least one of them was not sent.
        """
        view = memoryview(messages)
        segment = size + _RECORD_OVERHEAD_BYTES
        step = size * max(1, min(_MAX_SEGMENTS, _MAX_UDP_PAYLOAD // segment))
        for start in range(0, len(view), step):
            self._send_segments(view[start : start + step], size)

    def send_message(self, data: bytes) -> None:
        """Send a STUN message; if the socket's buffer is full it is lost, and the client retransmits."""
        try:
            self.send(data)
        except OSError:
            self._listener.counts[_SEND_FAILED] += 1

    def attach(self, relay: ClientRelay) -> None:
        """Hand what this client sends to this relay, and let the association live as long as it."""
        self.relay = relay
        self.deadline = None

    def detach(self) -> None:
        """The client has no relay any more, and a minute to ask for another."""
        self.relay = None
        self.deadline = time.monotonic() + ALLOCATION_SECONDS

    def abort(self) -> None:
        """Close without a farewell."""
        self._listener.end(self)

    def take_farewell(self) -> None:
        """Tell the client that the association ends (close_notify)."""
        with contextlib.suppress(SSL.Error):
            self.ssl.shutdown()
        self.send_flight()

    def send_flight(self) -> None:
        """Send what OpenSSL has to say for itself: handshake messages and alerts.

        Records are packed into datagrams of at most `HANDSHAKE_MTU_BYTES`, which each of them fits.
        """
        try:
            flight = self.ssl.bio_read(_MAX_DATAGRAM)
        except SSL.WantReadError:
            return
        start = end = 0
        while end < len(flight):
            record_end = end + _RECORD_HEADER_BYTES + int.from_bytes(flight[end + 11 : end + 13])
            if record_end - start > HANDSHAKE_MTU_BYTES and end > start:
                self._send_datagram(flight[start:end])
                start = end
            end = record_end
        self._send_datagram(flight[start:])

    def _send_datagram(self, datagram: bytes) -> None:
        try:
            self._sock.sendto(datagram, self.address)
        except OSError:  # the flight is retransmitted
            self._listener.counts[_SEND_FAILED] += 1

    def _send_segments(self, messages: memoryview, size: int) -> None:
        segment = size + _RECORD_OVERHEAD_BYTES
        for start in range(0, len(messages), size):
            self._seal(messages[start : start + size])
        sealed = self.ssl.bio_read(_MAX_DATAGRAM)
        cut = [(socket.SOL_UDP, _UDP_SEGMENT, struct.pack("=H", segment))] if len(sealed) > segment else []
        try:
            self._sock.sendmsg([sealed], cut, 0, self.address)
        except OSError as error:
            # A segment that the path or the device cannot take as it is may pass as a datagram with IP fragments.
            if error.errno not in {errno.EINVAL, errno.EMSGSIZE, errno.EIO}:
                raise
            for start in range(0, len(sealed), segment):
                self._sock.sendto(sealed[start : start + segment], self.address)

    def _seal(self, message: Buffer) -> None:
        if not self.is_open:
            raise ConnectionResetError(errno.ECONNRESET, "the association has ended")
        try:
            self.ssl.send(message)
        except SSL.Error as error:
            raise OSError(errno.EMSGSIZE, "OpenSSL makes no record of it") from error


class DtlsListener:
    """One bound UDP socket and the associations of its clients."""

    def __init__(
        self,
        poller: Poller,
        address: TransportAddress,
        sock: socket.socket,
        context: SSL.Context,
        clients: Clients,
        cookie_keys: Sequence[bytes],
        max_associations: int,
    ) -> None:
        """Begin to listen; an event loop has to run.

        Args:
            poller: watches the socket.
            address: the address that clients know it by.
            sock: bound and non-blocking; `close` closes it.
            context: from `build_dtls_context`.
            clients: who hears of associations and gets their messages.
            cookie_keys: secrets of 16 to 64 bytes; cookies are made with the first and checked with all.
            max_associations: bound of the associations, unfinished handshakes included.

        Raises:
            ValueError: a cookie key is too short or too long, or there is none.
        """
        self.address = address
        self.sock: Final = sock
        self.counts: Final[dict[DtlsCount, int]] = dict.fromkeys(DtlsCount, 0)
        self._verifier = HelloVerifier(context, DtlsCookies(cookie_keys))
        self._poller = poller
        self._clients = clients
        self._max_associations = max_associations
        self._associations: dict[SocketAddress, DtlsAssociation] = {}
        self._handshakes: dict[SocketAddress, DtlsAssociation] = {}
        self._buffer = bytearray(_MAX_DATAGRAM)
        self._view = memoryview(self._buffer)
        self._plain = memoryview(bytearray(_PLAIN_BYTES))
        self._plain_end = 0  # up to here it belongs to `_collecting`
        self._collecting: set[ClientRelay] = set()
        self._batch = 1
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(SWEEP_SECONDS, self._on_timer)
        enlarge_buffers(sock)
        poller.watch(sock.fileno(), self._on_ready)

    def __len__(self) -> int:
        return len(self._associations) + len(self._handshakes)

    def set_context(self, context: SSL.Context) -> None:
        """Use another certificate for the handshakes that begin from now on."""
        self._verifier.replace_context(context)

    def set_max_associations(self, max_associations: int) -> None:
        """Another bound of the associations; those that there are stay."""
        self._max_associations = max_associations

    def close(self) -> None:
        """Say farewell to all clients and stop listening."""
        self._timer.cancel()
        self._poller.forget(self.sock.fileno())
        for handshake in list(self._handshakes.values()):
            self.end(handshake)
        for association in list(self._associations.values()):
            association.take_farewell()
            self.end(association)
        self.sock.close()

    def end(self, association: DtlsAssociation) -> None:
        """Forget an association."""
        if not association.is_open:
            return
        association.is_open = False
        association.relay = None
        if self._handshakes.get(association.address) is association:
            del self._handshakes[association.address]
        elif self._associations.get(association.address) is association:
            del self._associations[association.address]
            self._clients.disconnected(association)

    def sweep(self, now: float) -> None:
        """End what has outlived its deadline and retransmit what was not answered; called once a second.

        Args:
            now: monotonic time, in seconds. OpenSSL has its own clock for retransmissions.
        """
        for handshake in list(self._handshakes.values()):
            if handshake.deadline is not None and handshake.deadline <= now:
                self._fail(handshake)
                continue
            try:
                handshake.ssl.DTLSv1_handle_timeout()
            except SSL.Error:
                self._fail(handshake)
            else:
                handshake.send_flight()
        for association in [
            association
            for association in self._associations.values()
            if association.deadline is not None and association.deadline <= now
        ]:
            association.take_farewell()
            self.end(association)

    def _on_timer(self) -> None:
        self._timer = self._loop.call_later(SWEEP_SECONDS, self._on_timer)
        self.sweep(time.monotonic())

    def _on_ready(self, _events: int) -> None:
        now = time.monotonic()
        buffer, associations, recv_into = self._buffer, self._associations, self.sock.recvfrom_into
        for count in range(self._batch):
            try:
                size, address = recv_into(buffer)
            except BlockingIOError:
                self._batch = count or 1
                break
            except OSError:
                continue  # an ICMP error of an earlier answer, or the service has closed us on account of what came
            association = associations.get(address)
            if association is not None and buffer[0] == _APPLICATION_DATA and size > _RECORD_OVERHEAD_BYTES:
                self._receive_records(association, size, now)
            else:
                self._receive_other(address, size, now)
        else:
            self._batch = min(2 * self._batch, _MAX_BATCH)
        self._flush()

    def _receive_other(self, address: SocketAddress, size: int, now: float) -> None:
        """Take a datagram that does not begin with application data of an association."""
        buffer = self._buffer
        content_type, is_plain = buffer[0], not (buffer[3] or buffer[4])
        if size <= _RECORD_HEADER_BYTES or not _CHANGE_CIPHER_SPEC <= content_type <= _HANDSHAKE or buffer[1] != 0xFE:
            self.counts[_JUNK] += 1
            return
        if is_plain and content_type == _HANDSHAKE and buffer[_RECORD_HEADER_BYTES] == _CLIENT_HELLO:
            self._receive_hello(address, size, now)
            return
        handshake, association = self._handshakes.get(address), self._associations.get(address)
        # While a client that has restarted shakes hands, its old association goes on: alerts of that are encrypted.
        if handshake is not None and (association is None or is_plain or content_type == _HANDSHAKE):
            self._advance(handshake, self._view[:size], now)
        elif association is not None:
            self._receive_records(association, size, now)
            association.send_flight()  # the client repeats its last flight if ours was lost (RFC 6347 §4.2.4)
        else:
            self.counts[_JUNK] += 1

    def _receive_hello(self, address: SocketAddress, size: int, now: float) -> None:
        buffer = self._buffer
        hello = self._view[: min(size, _RECORD_HEADER_BYTES + int.from_bytes(buffer[11:13]))]
        known = self._handshakes.get(address) or self._associations.get(address)
        if known is not None and hello[HELLO_RANDOM] == known.hello_random:
            return  # a copy; what was lost of our answer is retransmitted by the clock
        client = TransportAddress(socket.inet_pton(self.sock.family, address[0]), address[1])
        answer = self._verifier.receive(hello, client, time.time())
        if self._verifier.refused_cookie:
            self.counts[DtlsCount.COOKIE_REFUSED] += 1
        if answer is None:
            self.counts[_JUNK] += 1
        elif isinstance(answer, bytes):
            self.counts[_HELLO_VERIFY] += 1
            try:
                self.sock.sendto(answer, address)
            except OSError:
                self.counts[_SEND_FAILED] += 1
        else:
            earlier = self._handshakes.get(address)
            if earlier is not None:
                self._fail(earlier)
            if len(self) >= self._max_associations:
                self.counts[DtlsCount.REFUSED] += 1
                return
            path = FiveTuple(Transport.DTLS, self.address, client)
            handshake = DtlsAssociation(
                self, answer, address, path, bytes(hello[HELLO_RANDOM]), now + HANDSHAKE_SECONDS
            )
            self._handshakes[address] = handshake
            self._advance(handshake, None, now)

    def _advance(self, handshake: DtlsAssociation, datagram: memoryview | None, now: float) -> None:
        try:
            if datagram is not None:
                handshake.ssl.bio_write(datagram)
            handshake.ssl.do_handshake()
        except SSL.WantReadError:
            handshake.send_flight()
            return
        except SSL.Error:
            handshake.send_flight()  # an alert that says why
            self._fail(handshake)
            return
        handshake.send_flight()
        self._connect(handshake, now)
        self._read(handshake, _MAX_PLAINTEXT_BYTES, now)  # what OpenSSL still holds would delay all that follows

    def _connect(self, association: DtlsAssociation, now: float) -> None:
        """Let an association whose handshake is done take the place of an older one (RFC 6347 §4.2.8)."""
        self._flush()
        address = association.address
        older = self._associations.get(address)
        if older is not None:
            self.end(older)
        del self._handshakes[address]
        self._associations[address] = association
        association.deadline = now + FIRST_MESSAGE_SECONDS
        self.counts[DtlsCount.HANDSHAKE] += 1
        self._clients.connected(association)

    def _fail(self, handshake: DtlsAssociation) -> None:
        self.counts[DtlsCount.HANDSHAKE_FAILED] += 1
        self.end(handshake)

    def _receive_records(self, association: DtlsAssociation, size: int, now: float) -> None:
        buffer = self._buffer
        association.ssl.bio_write(self._view[:size])
        if size != _RECORD_HEADER_BYTES + (buffer[11] << 8 | buffer[12]):
            self._read(association, _MAX_PLAINTEXT_BYTES, now)
            if association.is_open:
                association.send_flight()
        # The usual datagram is one record: then there is no need to ask OpenSSL whether there are more.
        elif not self._read_one(association, size, now):
            self.counts[_JUNK] += 1

    def _read(self, association: DtlsAssociation, limit: int, now: float) -> None:
        while association.is_open and self._read_one(association, limit, now):
            pass

    def _read_one(self, association: DtlsAssociation, limit: int, now: float) -> bool:
        """Decrypt a record of at most `limit` bytes; returns False if OpenSSL has none that is genuine and new."""
        if self._plain_end + limit > _PLAIN_BYTES:
            self._flush()
        start = self._plain_end
        try:
            size = association.ssl.recv_into(self._plain[start:], limit)
        except SSL.WantReadError:
            return False
        except SSL.ZeroReturnError:
            association.take_farewell()
            self.end(association)
        except SSL.Error:
            association.send_flight()  # an alert that says why
            self.end(association)
        else:
            self._deliver(association, start, start + size, now)
        return True

    def _deliver(self, association: DtlsAssociation, start: int, end: int, now: float) -> None:
        first = self._plain[start]
        if end - start < 4 or first > _CHANNEL_MAX or _STUN_MAX < first < _CHANNEL_MIN:
            self.counts[DtlsCount.MALFORMED] += 1
            return
        relay = association.relay
        if not association.has_spoken:
            association.has_spoken = True
            if relay is None:
                association.deadline = now + ALLOCATION_SECONDS
        if relay is not None and relay.from_client(self._plain, start, end, now):
            self._collecting.add(relay)
            self._plain_end = end
        elif first >= _CHANNEL_MIN and relay is None:
            self.counts[DtlsCount.NO_ALLOCATION] += 1
        else:
            message = bytes(self._plain[start:end])
            self._flush()  # what came before it may not be overtaken: it may end the allocation
            self._clients.receive(message, association.path)

    def _flush(self) -> None:
        """Let the relays send what lies in the buffer, so that it can be used again."""
        collecting = self._collecting
        while collecting:
            collecting.pop().flush()
        self._plain_end = 0
