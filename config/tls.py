"""TLS contexts of the servers, and how they follow the certificate when its files change."""

import logging
import ssl
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509

# Ephemeral keys and authenticated encryption only (BSI TR-02102-2 §3.3.1), which knows AES and not ChaCha20.
_TLS_1_2_CIPHERS: Final = "ECDHE+AESGCM"
_CHECK_SECONDS: Final = 1.0  # between two looks at the files

_log = logging.getLogger(__name__)

_Stamp = tuple[int, ...]


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
        self._alpn = tuple(alpn)
        self._clock = clock
        self._stamp = self._look()
        self._current = build_server_context(certificate_file, key_file, alpn)
        self.not_after = _not_after(certificate_file)  # aware; when the certificate that is served expires
        self.context = build_server_context(certificate_file, key_file, alpn)
        self.context.sni_callback = self._choose
        self._look_again_at = clock() + _CHECK_SECONDS
        self.reloads = 0  # certificates taken over since the start
        self.failures = 0  # sets of files that were unfit
        # Prepares others for the certificate and key of these files before they are served; its OSError refuses them.
        self.on_change: Callable[[Path, Path], None] | None = None

    def follow(self, certificate_file: Path, key_file: Path) -> None:
        """Serve the certificate of other files from now on.

        Raises:
            OSError: a file cannot be read, or certificate and key do not fit; the old certificate stays.
            ValueError: the certificate cannot be parsed; the old one stays.
        """
        if (certificate_file, key_file) == self._files:
            self.refresh()
            return
        self._load(certificate_file, key_file)
        self._files = certificate_file, key_file
        self._stamp = self._look()

    def refresh(self) -> bool:
        """Look at the files now; True if a new certificate is served from here on.

        If they are unfit the old certificate stays. They are tried again as soon as one of them changes, so a
        certificate may be replaced before its key, or after it.
        """
        self._look_again_at = self._clock() + _CHECK_SECONDS
        stamp = self._look()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self._load(*self._files)
        except (OSError, ValueError) as error:
            self.failures += 1
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__
            _log.warning("the changed certificate is not used, the old one stays: %s", reason)
            return False
        return True

    def _load(self, certificate_file: Path, key_file: Path) -> None:
        current = build_server_context(certificate_file, key_file, self._alpn)
        not_after = _not_after(certificate_file)
        if self.on_change is not None:
            self.on_change(certificate_file, key_file)
        self._current, self.not_after = current, not_after
        self.reloads += 1
        _log.info("a changed certificate is used from now on; it expires on %s", not_after.date())

    def _choose(self, connection: ssl.SSLObject, _server_name: str | None, _context: ssl.SSLContext) -> None:
        if self._clock() >= self._look_again_at:
            self.refresh()
        connection.context = self._current

    def _look(self) -> _Stamp:
        """All that changes when a file is written, replaced, or made readable; a missing one has a stamp, too."""
        stamp: list[int] = []
        for file in self._files:
            try:
                status = file.stat()
            except OSError as error:
                stamp.append(error.errno or 0)
            else:
                stamp += status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        return tuple(stamp)


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


def _not_after(certificate_file: Path) -> datetime:
    return x509.load_pem_x509_certificate(certificate_file.read_bytes()).not_valid_after_utc.astimezone(UTC)
