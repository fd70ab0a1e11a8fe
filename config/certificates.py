"""What an operator sees of a certificate: when it expires, and whether its changes were taken over."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from config.tls import ReloadingContext


class CertificateCollector(Collector):
    """Shows the certificate that the servers of this process use; all of them have the same files."""

    def __init__(self, certificate: ReloadingContext) -> None:
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
