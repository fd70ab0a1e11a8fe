"""What a client would object to in the certificate that this service serves, as far as the service can tell."""

import ipaddress
from datetime import datetime
from fnmatch import fnmatch
from typing import TYPE_CHECKING, NamedTuple, Self

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from config.readiness import Validity

if TYPE_CHECKING:  # a mere relay has certificates, too, and none of the rest
    from signaling.connection_test import CertificateProblem


class Leaf(NamedTuple):
    """The first certificate of a file."""

    validity: Validity
    fingerprint: str  # SHA-256, in hexadecimal
    is_self_signed: bool
    names: tuple[str, ...]  # host names and IP addresses that it is good for

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Self:
        """Read what matters here."""
        return cls(
            Validity(certificate.not_valid_before_utc, certificate.not_valid_after_utc),
            certificate.fingerprint(SHA256()).hex(),
            certificate.issuer == certificate.subject,
            names_of(certificate),
        )

    def problem(self, host: str, now: datetime) -> "CertificateProblem | None":
        """Why a browser refuses it for a host; None if it may accept it. Which authorities it trusts nobody here knows.

        Args:
            host: a name or an IP address, without brackets.
            now: an aware instant.
        """
        if self.is_self_signed:
            return "self_signed"
        if not self.validity.begins <= now < self.validity.ends:
            return "outside_validity"
        return None if any(fits(host, name) for name in self.names) else "other_name"


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The host names and IP addresses that a certificate is good for; its common name is none (RFC 9525 §2)."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = map(str, found.get_values_for_type(x509.IPAddress))
    return (*found.get_values_for_type(x509.DNSName), *addresses)


def fits(host: str, name: str) -> bool:
    """Whether a name of a certificate covers a host; a star stands for one label (RFC 9525 §6.3)."""
    host, name = host.lower(), name.lower()
    try:
        return str(ipaddress.ip_address(host)) == name
    except ValueError:
        pass  # a name
    if name.startswith("*."):
        return host.count(".") == name.count(".") and fnmatch(host, name)
    return host == name
