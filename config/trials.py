"""Credentials for connection tests: what the service issues, and the relay of the same secret enforces."""

from datetime import datetime
from typing import TYPE_CHECKING, final

from config.tls import ReloadingContext
from stun.credentials import issue_credential
from stun.trial import trial_identity

if TYPE_CHECKING:
    from signaling.connection_test import CertificateProblem


@final
class TrialCredentials:
    """Issues user names that say that they are for a test, and for which address."""

    def __init__(self, secret: bytes, certificate: ReloadingContext | None) -> None:
        """Prepare.

        Args:
            secret: shared with the relay.
            certificate: what relay and pages of this process serve; None if they serve none.
        """
        self._secret = secret
        self._certificate = certificate

    def issue(self, now_unix: int, lifetime: int, address: str) -> tuple[str, str]:
        """A user name and its password.

        Raises:
            ValueError: `address` is no IP address.
        """
        return issue_credential(self._secret, now_unix + lifetime, trial_identity(address))

    @property
    def certificates_sha256(self) -> tuple[str, ...]:
        """SHA-256 of the leaf certificate that is served now, after a look at its file."""
        if self._certificate is None:
            return ()
        self._certificate.refresh()
        return (self._certificate.leaf.fingerprint,)

    def certificate_problem(self, host: str, now: datetime) -> "CertificateProblem | None":
        """Why browsers refuse the certificate that is served now; None if they need not, or if it is not ours."""
        if self._certificate is None:
            return None
        self._certificate.refresh()
        return self._certificate.leaf.problem(host, now)
