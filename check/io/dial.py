"""TCP connections and TLS handshakes: what became of them, how long they took, whose certificate came."""

import asyncio
import functools
import hashlib
import socket
import ssl
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.x509.oid import NameOID

from check.findings import Chain, Outcome, Step, TlsFinding
from check.plan import CONNECT_SECONDS, HANDSHAKE_SECONDS
from check.text import plain

READ_LIMIT_BYTES: Final = 65_536


class Streams(NamedTuple):
    """An open connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


def outcome_of(error: BaseException) -> Outcome:
    """What an error of a socket says about the way."""
    match error:
        case ConnectionRefusedError():
            return Outcome.REFUSED
        case ConnectionResetError() | BrokenPipeError() | EOFError():
            return Outcome.CLOSED
        case TimeoutError():
            return Outcome.TIMED_OUT
        case _:
            return Outcome.UNREACHABLE


def prepare_tls(alpn: Sequence[str]) -> None:
    """Read the system's roots now: it takes the loop tens of milliseconds, which no measurement shall contain."""
    for verify in (True, False):
        _context(tuple(alpn), verify=verify)


async def connect(address: str, port: int) -> tuple[Step, Streams | None]:
    """Open a TCP connection to an IP address."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(address, port, limit=READ_LIMIT_BYTES)
    except OSError as error:  # TimeoutError is one
        return Step(outcome_of(error), detail=_reason(error)), None
    return Step(Outcome.OK, since(began)), Streams(reader, writer)


async def secure(streams: Streams, host: str, alpn: Sequence[str], *, verify: bool) -> tuple[TlsFinding, bool]:
    """Make TLS out of a TCP connection.

    Returns:
        what was found, and whether the connection may be used. A certificate that is not trusted ends it when
        `verify` is set; a second connection without `verify` shows whose it is.
    """
    context = _context(tuple(alpn), verify=verify)
    began = time.monotonic()
    try:
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            await streams.writer.start_tls(context, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        problem = plain(error.verify_message)
        return TlsFinding(Outcome.WRONG_ANSWER, since(began), chain=Chain.UNTRUSTED, chain_problem=problem), False
    except ssl.SSLError as error:
        return TlsFinding(Outcome.WRONG_ANSWER, since(began), detail=plain(error.reason or type(error).__name__)), False
    except OSError as error:
        return TlsFinding(outcome_of(error), detail=_reason(error)), False
    found = TlsFinding(Outcome.OK, since(began), chain=Chain.TRUSTED if verify else Chain.UNTRUSTED)
    session = streams.writer.get_extra_info("ssl_object")
    found.version = session.version() or ""
    found.cipher = (session.cipher() or ("",))[0]
    found.alpn = plain(session.selected_alpn_protocol() or "")
    describe_certificate(found, session.getpeercert(binary_form=True) or b"", datetime.now(UTC))
    return found, True


async def close(streams: Streams) -> None:
    """End a connection, at once and whatever state it is in.

    `wait_closed` would wait for ever where a handshake was cut short; the loop closes the socket in its next round.
    """
    streams.writer.transport.abort()
    await asyncio.sleep(0)


def describe_certificate(found: TlsFinding, der: bytes, now: datetime) -> None:
    """Enter what a certificate says: issuer, fingerprint, days until it ends. It may be anything."""
    found.sha256 = hashlib.sha256(der).hexdigest()
    try:
        certificate = x509.load_der_x509_certificate(der)
        found.issuer = _issuer(certificate)
        found.days_left = (certificate.not_valid_after_utc - now).days
    except (ValueError, x509.InvalidVersion) as error:
        found.detail = f"the certificate cannot be read: {plain(str(error))}"


def connected_datagram_socket(address: str, port: int) -> socket.socket:
    """A UDP socket that hears of ICMP errors, because it is connected.

    Raises:
        OSError: there is no way there.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)  # noqa: FBT003  # a function of the standard library
        sock.connect((address, port))
    except OSError:
        sock.close()
        raise
    return sock


def since(began: float) -> float:
    """Milliseconds since an instant."""
    return round(1000 * (time.monotonic() - began), 1)


@functools.cache
def _context(alpn: tuple[str, ...], *, verify: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(list(alpn))
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _issuer(certificate: x509.Certificate) -> str:
    for oid in (NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME):
        named = certificate.issuer.get_attributes_for_oid(oid)
        if named:
            return plain(str(named[0].value))
    return plain(certificate.issuer.rfc4514_string())


def _reason(error: OSError) -> str:
    return plain(error.strerror or type(error).__name__)
