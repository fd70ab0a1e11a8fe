"""What an operator must know of the machine and no other metric of ours tells: read when somebody scrapes."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

_NETFILTER: Final = Path("/proc/sys/net/netfilter")


class ConntrackCollector(Collector):
    """How full the table of the kernel's connection tracking is: when it is full, packets of everybody get lost.

    Nothing is shown where the kernel tracks no connections.
    """

    def __init__(self, folder: Path = _NETFILTER) -> None:
        self._folder = folder

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Read the kernel's figures."""
        entries = GaugeMetricFamily(
            "redconnect_host_conntrack_entries", "Flows that the kernel tracks, of all programs.", labels=[]
        )
        limit = GaugeMetricFamily(
            "redconnect_host_conntrack_entries_limit", "Flows that it can track; packets of more are lost.", labels=[]
        )
        with contextlib.suppress(OSError):  # the kernel tracks nothing here
            tracked = int((self._folder / "nf_conntrack_count").read_text())
            most = int((self._folder / "nf_conntrack_max").read_text())
            entries.add_metric([], tracked)
            limit.add_metric([], most)
        yield from (entries, limit)
