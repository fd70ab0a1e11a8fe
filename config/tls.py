"""TLS contexts of the servers."""

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final

# Ephemeral keys and authenticated encryption only (BSI TR-02102-2 §3.3.1); TLS 1.3 has nothing else.
_TLS_1_2_CIPHERS: Final = "ECDHE+AESGCM"


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
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # Without the answer to a passphrase prompt OpenSSL would wait for the terminal.
    context.load_cert_chain(certificate_file, key_file, password=b"")
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context
