"""TLS contexts of the servers, and how they follow the certificate when its files change."""

import logging
import ssl
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

from cryptography import x509

from config.leaf import Leaf
from config.readiness import Validity

# Ephemeral keys and authenticated encryption only (BSI TR-02102-2 §3.3.1), which knows AES and not ChaCha20.
_TLS_1_2_CIPHERS: Final = "ECDHE+AESGCM"
_CHECK_SECONDS: Final = 1.0  # between two looks at the files

_log = logging.getLogger(__name__)

_Stamp = tuple[int, ...]

# Reads certificate and key, or raises OSError or ValueError; what it returns takes them into use, and cannot fail.
Companion = Callable[[Path, Path], Callable[[], None]]


class ReloadingContext:
    """The context of a TLS server whose certificate is picked up again when its files change.

    `context` is one object for the whole life of a server, because aiohttp and others take no second one. To load a
    new certificate into it would not be safe: OpenSSL keeps one certificate for each kind of key, so that after a
    change from RSA to ECDSA it would go on to serve the old one; and between certificate and key the two do not fit,
    which a failure would leave behind. So every set of files gets a context of its own, which is complete before any
    handshake sees it, and the outer one passes each handshake on to the newest, whether the client names a server or
    not. A handshake that has begun keeps what it began with.
    """

    def __init__(
        self,
        certificate_file: Path,
        key_file: Path,
        alpn: Sequence[str] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the files for the first time.

        Args:
            certificate_file: PEM, the certificate and then its chain.
            key_file: PEM, without a passphrase.
            alpn: application protocols in order of preference; empty: none is negotiated.
            clock: monotonic time, in seconds.

        Raises:
            OSError: a file cannot be read, or certificate and key do not fit (`ssl.SSLError` is an OSError).
            ValueError: the certificate cannot be parsed.
        """
        self._files = certificate_file, key_file
        self._clock = clock
        self._stamp = _look(self._files)
        self._current: dict[tuple[str, ...], ssl.SSLContext] = {}
        self._companions: list[Companion] = []
        self.context = self.context_for(alpn)
        self.leaf = _describe(certificate_file)
        self._look_again_at = clock() + _CHECK_SECONDS
        self.reloads = 0  # certificates taken over since the start
        self.failures = 0  # sets of files that were unfit

    @property
    def validity(self) -> Validity:
        """From when until when it is good."""
        return self.leaf.validity

    @property
    def not_after(self) -> datetime:
        """When it expires; aware."""
        return self.leaf.validity.ends

    @property
    def files(self) -> tuple[Path, Path]:
        """The certificate file and the key file."""
        return self._files

    def context_for(self, alpn: Sequence[str]) -> ssl.SSLContext:
        """One more context with the same certificate, for a server of other protocols.

        Raises:
            OSError: a file cannot be read, or certificate and key do not fit.
        """
        protocols = tuple(alpn)
        self._current[protocols] = build_server_context(*self._files, protocols)
        outer = build_server_context(*self._files, protocols)
        outer.sni_callback = partial(self._choose, protocols)
        return outer

    def accompany(self, companion: Companion) -> None:
        """Let somebody else serve the same certificate: he is asked before any other one is taken into use."""
        self._companions.append(companion)

    def prepare(self, certificate_file: Path, key_file: Path) -> Callable[[], None]:
        """Read the certificate of other files, or of the same ones anew; what is returned takes it into use.

        Raises:
            OSError: a file cannot be read, or certificate and key do not fit.
            ValueError: the certificate cannot be parsed.
        """
        files = certificate_file, key_file
        stamp = _look(files)  # first: what changes while it is read is noticed by the next look
        if (files, stamp) == (self._files, self._stamp):
            return _keep
        current = {alpn: build_server_context(*files, alpn) for alpn in self._current}
        described = _describe(certificate_file)
        companions = [companion(*files) for companion in self._companions]

        def take() -> None:
            if (files, stamp) == (self._files, self._stamp):
                return  # another server of this process that shares it was first
            self._files, self._stamp = files, stamp
            self._current = current
            self.leaf = described
            for take_along in companions:
                take_along()
            self.reloads += 1
            _log.info("a changed certificate is used from now on; it expires on %s", self.not_after.date())

        return take

    def refresh(self) -> bool:
        """Look at the files now; True if a new certificate is served from here on.

        If they are unfit the old certificate stays. They are tried again as soon as one of them changes, so a
        certificate may be replaced before its key, or after it.
        """
        self._look_again_at = self._clock() + _CHECK_SECONDS
        stamp = _look(self._files)
        if stamp == self._stamp:
            return False
        try:
            take = self.prepare(*self._files)
        except (OSError, ValueError) as error:
            self._stamp = stamp
            self.failures += 1
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
            _log.warning("the changed certificate is not used, the old one stays: %s", reason)
            return False
        take()
        return True

    def _choose(
        self, alpn: tuple[str, ...], connection: ssl.SSLObject, _server_name: str | None, _context: ssl.SSLContext
    ) -> None:
        if self._clock() >= self._look_again_at:
            self.refresh()
        connection.context = self._current[alpn]


def build_server_context(certificate_file: Path, key_file: Path, alpn: Sequence[str] = ()) -> ssl.SSLContext:
    """Make the context of a TLS 1.2 and 1.3 server.

    Args:
        certificate_file: PEM, the certificate and then its chain.
        key_file: PEM, without a passphrase.
        alpn: application protocols in order of preference; empty: none is negotiated.

    Raises:
        OSError: a file cannot be read, or certificate and key do not fit (`ssl.SSLError` is an OSError).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_3
    context.set_ciphers(_TLS_1_2_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    # Without the answer to a passphrase prompt OpenSSL would wait for the terminal.
    context.load_cert_chain(certificate_file, key_file, password=b"")
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def _look(files: tuple[Path, Path]) -> _Stamp:
    """All that changes when a file is written, replaced, or made readable; a missing one has a stamp, too."""
    stamp: list[int] = []
    for file in files:
        try:
            status = file.stat()
        except OSError as error:
            stamp.append(error.errno or 0)
        else:
            stamp += status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    return tuple(stamp)


def _keep() -> None:
    """Go on with the certificate that there is."""


def _describe(certificate_file: Path) -> Leaf:
    """What there is to say of the first certificate of a file."""
    return Leaf.of(x509.load_pem_x509_certificate(certificate_file.read_bytes()))
