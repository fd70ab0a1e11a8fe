"""What must hold for a service to be ready, part by part; `/readyz` asks."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509

from config.health import Verdict


class Validity(NamedTuple):
    """From when until when a certificate is good; aware instants."""

    begins: datetime
    ends: datetime

    def days_left(self, now: datetime) -> int:
        """Whole days until the end; negative once it has passed."""
        return (self.ends - now) // timedelta(days=1)


def read_validity(certificate_file: Path) -> Validity:
    """Read how long the first certificate of a PEM file is good.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds no certificate.
    """
    certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    return Validity(certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def check_certificate(certificate_file: Path, now: datetime) -> Verdict:
    """Whether the certificate is good at this aware instant."""
    try:
        validity = read_validity(certificate_file)
    except OSError as error:
        return Verdict(holds=False, reason=f"the certificate cannot be read: {error.strerror}")
    except ValueError:
        return Verdict(holds=False, reason="the certificate cannot be read: it is none")
    if now >= validity.ends:
        return Verdict(holds=False, reason=f"the certificate has expired on {validity.ends.date()}")
    if now < validity.begins:
        return Verdict(
            holds=False, reason=f"the certificate is good from {validity.begins.date()} on: is the clock right?"
        )
    return Verdict(holds=True)


def check_ports(left: int) -> Verdict:
    """Whether a client can get a relayed port, of so many that are left."""
    return Verdict(holds=True) if left > 0 else Verdict(holds=False, reason="every relayed port is taken")
