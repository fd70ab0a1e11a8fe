"""DTLS-SRTP: the handshake that gives a PeerConnection its SRTP keys (RFC 5764, RFC 8827 §6.5).

OpenSSL does the cryptography between memory BIOs. These know no datagrams: what OpenSSL writes comes back glued
together, so records are cut apart again, and a datagram is read to its end before the next one goes in.

There is no cookie exchange (RFC 6347 §4.2.1): datagrams are only taken from, and sent to, addresses whose ICE checks
knew the password of the session.
"""

import datetime as dt
import hmac
from collections import deque
from collections.abc import Collection
from enum import Enum, StrEnum
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from sfu.media_engine import SrtpKeys, SrtpProfile

HANDSHAKE_SECONDS: Final = 20.0  # from the first to the last flight
MAX_DATAGRAM_BYTES: Final = 2048  # OpenSSL takes it in one bite; browsers send no more than 1200
MTU_BYTES: Final = 1200  # UDP payload that passes everywhere, IPv6 tunnels included
CERTIFICATE_DAYS: Final = 365  # browsers look at the fingerprint only

SRTP_PROFILES: Final = (SrtpProfile.AEAD_AES_256_GCM, SrtpProfile.AES128_CM_SHA1_80)  # preferred ones first

_DTLS_1_2: Final = 0xFEFD
_CIPHERS: Final = b"ECDHE+AESGCM"  # ephemeral keys and authenticated encryption only (BSI TR-02102-2 §3.3.1)
_EXPORTER_LABEL: Final = b"EXTRACTOR-dtls_srtp"  # RFC 5764 §4.2
_RECORD_HEADER_BYTES: Final = 13
_RECORD_LENGTH: Final = slice(11, 13)
_MAX_FLIGHT_BYTES: Final = 1 << 16
_MAX_PLAINTEXT_BYTES: Final = 1 << 14


class DtlsRole(Enum):
    """Who begins (RFC 5763 §5): the server waits, the client sends a ClientHello."""

    CLIENT = "client"
    SERVER = "server"


class DtlsState(Enum):
    """Where an association stands; the last two are final."""

    HANDSHAKE = "handshake"
    CONNECTED = "connected"
    FAILED = "failed"
    CLOSED = "closed"


class DtlsFault(StrEnum):
    """Why an association failed; a bounded set, fit for a metric label."""

    TIMEOUT = "timeout"
    PROTOCOL = "protocol"  # OpenSSL refuses, or the peer sent an alert
    FINGERPRINT = "fingerprint"  # the certificate is not the one of the session description
    NO_SRTP = "no_srtp"  # no common protection profile


class DtlsCertificate:
    """A self-signed ECDSA P-256 certificate, made anew with each process and never stored."""

    def __init__(self) -> None:
        self.key: Final = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redconnect")])
        begin = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
        builder = x509.CertificateBuilder(
            issuer_name=name,
            subject_name=name,
            public_key=self.key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=begin,
            not_valid_after=begin + dt.timedelta(days=CERTIFICATE_DAYS),
        )
        self.certificate: Final = builder.sign(self.key, SHA256())

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the certificate, for a=fingerprint (RFC 8122 §5)."""
        return self.certificate.fingerprint(SHA256())


def build_dtls_context(certificate: DtlsCertificate) -> SSL.Context:
    """Make the context that all associations share, in either role: DTLS 1.2, SRTP, certificates both ways."""
    context = SSL.Context(SSL.DTLS_METHOD)
    context.set_min_proto_version(_DTLS_1_2)
    context.set_max_proto_version(_DTLS_1_2)
    context.set_cipher_list(_CIPHERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_options(SSL.OP_NO_TICKET | SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_QUERY_MTU)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_tlsext_use_srtp(b":".join(profile.openssl_name.encode() for profile in SRTP_PROFILES))
    # Nobody signs these certificates: that the other end has the key is proved by the handshake, and that it is the
    # right one by its fingerprint, which is compared when the handshake is done.
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
    context.use_certificate(certificate.certificate)
    context.use_privatekey(certificate.key)
    context.check_privatekey()
    return context


class DtlsAssociation:
    """One association. After each call `poll_transmit` is asked until it has nothing more."""

    def __init__(self, context: SSL.Context, role: DtlsRole, fingerprints: Collection[bytes], now: float) -> None:
        """Begin to wait, or as the client: to speak.

        Args:
            context: from `build_dtls_context`.
            role: which end this is.
            fingerprints: SHA-256 of certificates that the peer may have.
            now: monotonic time, in seconds. OpenSSL has its own clock for retransmissions.
        """
        self.state = DtlsState.HANDSHAKE
        self.fault: DtlsFault | None = None
        self.keys: SrtpKeys | None = None
        self.role: Final = role
        self.fingerprints: Final = frozenset(fingerprints)
        self._deadline = now + HANDSHAKE_SECONDS
        self._outbox: deque[bytes] = deque()
        self._ssl = SSL.Connection(context)
        self._ssl.set_ciphertext_mtu(MTU_BYTES)
        if role is DtlsRole.CLIENT:
            self._ssl.set_connect_state()
            self._advance()
        else:
            self._ssl.set_accept_state()

    def receive(self, datagram: bytes | memoryview) -> bool:
        """Take one datagram that begins like DTLS (RFC 7983 §7).

        Returns:
            whether it was looked at: not if it is too short or too long to be of a browser, or everything is over.
        """
        if not _RECORD_HEADER_BYTES < len(datagram) <= MAX_DATAGRAM_BYTES:
            return False
        if self.state not in {DtlsState.HANDSHAKE, DtlsState.CONNECTED}:
            return False
        self._ssl.bio_write(datagram)
        if self.state is DtlsState.HANDSHAKE:
            self._advance()
        if self.state is DtlsState.CONNECTED:
            self._read()
        return True

    def handle_timeout(self, now: float) -> None:
        """Retransmit what was not answered, and end a handshake that takes too long; to be called often."""
        if self.state is not DtlsState.HANDSHAKE:
            return
        if self._deadline <= now:
            self._fail(DtlsFault.TIMEOUT)
            return
        try:
            self._ssl.DTLSv1_handle_timeout()
        except SSL.Error:
            self._fail(DtlsFault.TIMEOUT)
        self._take_flight()

    def close(self) -> None:
        """Say farewell (close_notify)."""
        if self.state is DtlsState.CONNECTED:
            self._say_farewell()
        if self.state is not DtlsState.FAILED:
            self.state = DtlsState.CLOSED

    def poll_transmit(self) -> bytes | None:
        """The next datagram to send, of at most MTU_BYTES unless a single record is longer; None without one."""
        return self._outbox.popleft() if self._outbox else None

    def _advance(self) -> None:
        try:
            self._ssl.do_handshake()
        except SSL.WantReadError:
            self._take_flight()
            return
        except SSL.Error:
            self._take_flight()  # an alert that says why
            self._fail(DtlsFault.PROTOCOL)
            return
        self._take_flight()
        self._establish()

    def _establish(self) -> None:
        # As OpenSSL read it: a stricter parser would raise its own errors at certificates that nobody has to like.
        certificate = self._ssl.get_peer_certificate()
        actual = b"" if certificate is None else bytes.fromhex(certificate.digest("sha256").decode().replace(":", ""))
        if not any(hmac.compare_digest(actual, expected) for expected in self.fingerprints):
            self._say_farewell()
            self._fail(DtlsFault.FINGERPRINT)
            return
        selected = self._ssl.get_selected_srtp_profile().decode()
        profile = next((each for each in SRTP_PROFILES if each.openssl_name == selected), None)
        if profile is None:
            self._say_farewell()
            self._fail(DtlsFault.NO_SRTP)
            return
        size = 2 * (profile.key_length + profile.salt_length)
        material = self._ssl.export_keying_material(_EXPORTER_LABEL, size)
        client, server = split_keying_material(profile, material)
        is_client = self.role is DtlsRole.CLIENT
        self.keys = SrtpKeys(profile, *((server, client) if is_client else (client, server)))
        self.state = DtlsState.CONNECTED

    def _read(self) -> None:
        """Decrypt what came, so that OpenSSL sees alerts and repeated flights; application data is of no use here."""
        while self.state is DtlsState.CONNECTED:
            try:
                self._ssl.recv(_MAX_PLAINTEXT_BYTES)
            except SSL.WantReadError:
                break
            except SSL.ZeroReturnError:
                self._say_farewell()
                self.state = DtlsState.CLOSED
            except SSL.Error:
                self._fail(DtlsFault.PROTOCOL)
        self._take_flight()

    def _say_farewell(self) -> None:
        try:
            self._ssl.shutdown()
        except SSL.Error:
            return  # the session is broken already: there is nothing that could be said
        self._take_flight()

    def _fail(self, fault: DtlsFault) -> None:
        self.state = DtlsState.FAILED
        self.fault = fault

    def _take_flight(self) -> None:
        """Cut what OpenSSL has written into records, and pack these into datagrams."""
        try:
            flight = self._ssl.bio_read(_MAX_FLIGHT_BYTES)
        except SSL.WantReadError:
            return
        start = end = 0
        while end < len(flight):
            record_end = end + _RECORD_HEADER_BYTES + int.from_bytes(flight[end:][_RECORD_LENGTH])
            if record_end - start > MTU_BYTES and end > start:
                self._outbox.append(flight[start:end])
                start = end
            end = record_end
        self._outbox.append(flight[start:])


def split_keying_material(profile: SrtpProfile, material: bytes) -> tuple[bytes, bytes]:
    """Cut exported keying material into master key and salt, one after the other, of client and server.

    On the wire of the exporter lie both keys and then both salts (RFC 5764 §4.2).

    Raises:
        ValueError: its length does not fit the profile.
    """
    key, salt = profile.key_length, profile.salt_length
    if len(material) != 2 * (key + salt):
        raise ValueError(f"{len(material)} bytes of keying material, not {2 * (key + salt)}")
    client = material[:key] + material[2 * key : 2 * key + salt]
    server = material[key : 2 * key] + material[2 * key + salt :]
    return client, server
