"""What an operator sees of a certificate: when it expires, and whether its changes were taken over."""

from collections.abc import Iterator
from datetime import datetime
from typing import Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector


class WatchedCertificate(Protocol):
    """The certificate of the running service, as a scrape sees it."""

    reloads: int
    failures: int

    @property
    def not_after(self) -> datetime:
        """When it expires."""
        ...

    def refresh(self) -> object:
        """Look whether the files have changed."""
        ...


class CertificateCollector(Collector):
    """Shows the certificate that the servers of this process use; all of them have the same files."""

    def __init__(self, certificate: WatchedCertificate) -> None:
        self._certificate = certificate

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """Yield the figures, after a look at the files."""
        certificate = self._certificate
        certificate.refresh()
        yield GaugeMetricFamily(
            "redconnect_certificate_expiry_timestamp_seconds",
            "When the certificate that is served expires, in Unix time.",
            value=certificate.not_after.timestamp(),
        )
        reloads = CounterMetricFamily(
            "redconnect_certificate_reloads",
            "Changes of the certificate files, by whether they could be taken over.",
            labels=["result"],
        )
        reloads.add_metric(["success"], certificate.reloads)
        reloads.add_metric(["failure"], certificate.failures)
        yield reloads
