"""What must hold for a service to be ready, part by part; `/readyz` asks."""

from datetime import datetime, timedelta
from typing import NamedTuple

from config.health import Verdict


class Validity(NamedTuple):
    """From when until when a certificate is good; aware instants."""

    begins: datetime
    ends: datetime

    def days_left(self, now: datetime) -> int:
        """Whole days until the end; negative once it has passed."""
        return (self.ends - now) // timedelta(days=1)


def check_certificate(validity: Validity, now: datetime) -> Verdict:
    """Whether the certificate that is served is good at this aware instant."""
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
