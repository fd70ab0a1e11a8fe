"""A self-signed certificate for the time before the operator has a real one."""

import ipaddress
import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

VALIDITY: Final = timedelta(days=397)  # Apple refuses any certificate that is valid for more than 825 days
RENEW_BEFORE_END: Final = timedelta(days=30)
MAX_NAMES: Final = 64  # a container host can have hundreds of interface addresses

_ORGANISATION: Final = "redconnect self-signed"  # how a later start recognises a certificate as its own
_CLOCK_SKEW: Final = timedelta(hours=1)
_LABEL: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_MAX_NAME_CHARACTERS: Final = 253  # RFC 1035 §2.3.4, in text


def new_private_key() -> bytes:
    """A new ECDSA P-256 key as PEM (PKCS #8, without a passphrase)."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def issue_certificate(key_pem: bytes, names: Iterable[str], now: datetime) -> bytes:
    """A certificate for a key and the names and IP addresses of this machine, as PEM.

    Args:
        key_pem: an ECDSA key as PEM.
        names: host names and IP addresses; what is neither is left out, as is everything beyond `MAX_NAMES`.
        now: aware time.

    Raises:
        ValueError: `key_pem` holds no ECDSA key.
    """
    key = serialization.load_pem_private_key(key_pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("not an ECDSA key")  # noqa: TRY004 (the content of a file is wrong, not a type in a program)
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANISATION),
            x509.NameAttribute(NameOID.COMMON_NAME, "redconnect"),
        ]
    )
    alternatives = [name for name in map(_general_name, dict.fromkeys(names)) if name is not None]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now - _CLOCK_SKEW + VALIDITY)
        .add_extension(x509.SubjectAlternativeName(alternatives[:MAX_NAMES]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def needs_renewal(certificate_pem: bytes, key_pem: bytes, now: datetime) -> bool:
    """Whether a certificate is one of ours and ends soon, or belongs to another key.

    A certificate that somebody else made is the operator's business and never replaced.

    Raises:
        ValueError: one of the two is no PEM.
    """
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    organisations = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    if certificate.issuer != certificate.subject or [name.value for name in organisations] != [_ORGANISATION]:
        return False
    key = serialization.load_pem_private_key(key_pem, password=None)
    fits = certificate.public_key() == key.public_key()
    return not fits or certificate.not_valid_after_utc - now < RENEW_BEFORE_END


def _general_name(name: str) -> x509.GeneralName | None:
    try:
        return x509.IPAddress(ipaddress.ip_address(name.partition("%")[0]))
    except ValueError:
        is_host = len(name) <= _MAX_NAME_CHARACTERS and all(map(_LABEL.fullmatch, name.split(".")))
        return x509.DNSName(name) if is_host else None
