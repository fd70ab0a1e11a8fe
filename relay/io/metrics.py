"""The relay's metrics. Label values come from enums and constants of the code: never an address or a user."""

import contextlib
import functools
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from relay.datapath import NO_TRAFFIC, Drop, Traffic
from relay.five_tuple import Transport
from relay.io.counts import Buckets, RelayCounts
from relay.io.datapath.bpf.flow import Passed

_FAMILY_LABELS: Final = {1: "ipv4", 2: "ipv6"}


class RelayMetrics(Collector):
    """Shows what the control plane has done so far."""

    def __init__(self, counts: RelayCounts) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        """Yield the counters."""
        counts = self._counts
        answered = CounterMetricFamily(
            "redconnect_relay_requests_answered", "Success responses.", labels=["method", "transport"]
        )
        for (method, transport), count in counts.answered.items():
            answered.add_metric([method.name.lower(), transport.value], count)
        refused = CounterMetricFamily(
            "redconnect_relay_requests_refused",
            "Error responses by method, error code and cause.",
            labels=["method", "code", "cause"],
        )
        for (method, code, cause), count in counts.refused.items():
            refused.add_metric([method.name.lower(), str(int(code)), cause], count)
        dropped = CounterMetricFamily(
            "redconnect_relay_messages_dropped",
            "Messages without an answer: what did not parse, by fault, and what gets none.",
            labels=["reason"],
        )
        for reason, count in counts.dropped.items():
            dropped.add_metric([reason.value], count)
        secrets = CounterMetricFamily(
            "redconnect_relay_allocations_authenticated",
            "Allocations by the name of the shared secret behind their credential; static for static users.",
            labels=["secret"],
        )
        for secret, count in counts.secrets.items():
            secrets.add_metric([secret or "static"], count)
        yield from (answered, refused, dropped, secrets, *self._collect_allocations())
        yield _histogram(
            counts.latency,
            "redconnect_relay_allocate_latency_seconds",
            "From the arrival of an Allocate request to its success response.",
        )
        yield _histogram(counts.seconds, "redconnect_relay_allocation_duration_seconds", "How long allocations lived.")

    def _collect_allocations(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        labels = ["transport", "family"]
        live = GaugeMetricFamily("redconnect_relay_allocations", "Live relayed transport addresses.", labels=labels)
        created = CounterMetricFamily(
            "redconnect_relay_allocations_created", "Relayed transport addresses given to clients.", labels=labels
        )
        deleted = CounterMetricFamily(
            "redconnect_relay_allocations_deleted",
            "Relayed transport addresses taken back, by the reason.",
            labels=[*labels, "ending"],
        )
        ended: Counter[tuple[Transport, int]] = Counter()
        for (transport, family, ending), count in self._counts.deleted.items():
            ended[transport, family] += count
            deleted.add_metric([transport.value, _FAMILY_LABELS[family], ending.value], count)
        for (transport, family), count in self._counts.created.items():
            created.add_metric([transport.value, _FAMILY_LABELS[family]], count)
            live.add_metric([transport.value, _FAMILY_LABELS[family]], count - ended[transport, family])
        yield from (live, created, deleted)


class LivePorts(Protocol):
    """The relayed ports of one address family, as a scrape sees them; see `relay.ledger.Ports`."""

    @property
    def limit(self) -> int:
        """Ports that may be taken."""
        ...

    @property
    def taken(self) -> int:
        """Ports that are."""
        ...


class LiveOffload(Protocol):
    """What the kernel relays, as a scrape sees it; see `relay.io.datapath.offload.Offload`."""

    is_on: bool
    limit: int
    traffic: Traffic
    refused: int
    failures: int
    reconciled: int

    def __len__(self) -> int:
        """Flows that it relays."""
        ...

    def passed(self) -> Mapping[str, int]:
        """Packets of ours that came up to user space, by the reason."""
        ...


class LiveRelay(Protocol):
    """The running service, as a scrape sees it."""

    is_draining: bool

    @property
    def offload(self) -> LiveOffload | None:
        """What the kernel relays; None if user space relays everything."""
        ...

    @property
    def ports(self) -> Mapping[int, LivePorts]:
        """The relayed ports by address family."""
        ...

    def connections(self) -> Mapping[Transport, int]:
        """Open connections and associations of clients."""
        ...

    def closings(self) -> Mapping[str, int]:
        """Connections that were closed by us, by the reason."""
        ...

    def dtls_counts(self) -> Mapping[str, int]:
        """What the DTLS listeners have counted, by the event; empty without any."""
        ...


class LivePlane(Protocol):
    """A forwarding plane, as a scrape sees it; see `relay.datapath.DataPath`."""

    @property
    def drops(self) -> Mapping[Drop, int]:
        """Packets that were not relayed, by the reason."""
        ...

    def totals(self) -> Mapping[Transport, Traffic]:
        """All traffic since the start, by the client's transport."""
        ...


class RelayCollector(Collector):
    """Reads live figures of the running relay when somebody scrapes."""

    def __init__(self, relay: LiveRelay, planes: Sequence[LivePlane]) -> None:
        self._relay = relay
        self._planes = planes

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Yield the figures."""
        labels = ["transport", "direction"]
        payload = CounterMetricFamily(
            "redconnect_relay_payload_bytes",
            "UDP payload relayed, by the client's transport and the direction.",
            labels=labels,
        )
        packets = CounterMetricFamily(
            "redconnect_relay_packets",
            "Packets relayed, by the client's transport and the direction.",
            labels=labels,
        )
        totals = dict.fromkeys(Transport, NO_TRAFFIC)
        for plane in self._planes:
            for transport, traffic in plane.totals().items():
                totals[transport] = totals[transport].plus(traffic)
        for transport, traffic in totals.items():
            payload.add_metric([transport.value, "to_peer"], traffic.bytes_to_peer)
            payload.add_metric([transport.value, "to_client"], traffic.bytes_to_client)
            packets.add_metric([transport.value, "to_peer"], traffic.packets_to_peer)
            packets.add_metric([transport.value, "to_client"], traffic.packets_to_client)
        yield payload
        yield packets
        yield from self._collect_paths(functools.reduce(Traffic.plus, totals.values()))

        dropped = CounterMetricFamily(
            "redconnect_relay_packets_dropped", "Packets not relayed, by the reason.", labels=["reason"]
        )
        for plane in self._planes:
            for reason, count in plane.drops.items():
                dropped.add_metric([reason.value], count)
        yield dropped

        taken = GaugeMetricFamily(
            "redconnect_relay_ports_taken", "Relayed ports held by allocations and reservations.", labels=["family"]
        )
        limit = GaugeMetricFamily("redconnect_relay_ports_limit", "Relayed ports that may be held.", labels=["family"])
        for family, ports in self._relay.ports.items():
            taken.add_metric([_FAMILY_LABELS[family]], ports.taken)
            limit.add_metric([_FAMILY_LABELS[family]], ports.limit)
        yield taken
        yield limit
        connections = GaugeMetricFamily(
            "redconnect_relay_connections", "Open connections and DTLS associations of clients.", labels=["transport"]
        )
        for transport, count in self._relay.connections().items():
            connections.add_metric([transport.value], count)
        yield connections
        closed = CounterMetricFamily(
            "redconnect_relay_streams_closed", "TCP and TLS connections closed by us, by the reason.", labels=["reason"]
        )
        for cause, count in self._relay.closings().items():
            closed.add_metric([cause], count)
        yield closed
        events = CounterMetricFamily(
            "redconnect_relay_dtls_events", "What happened at the DTLS listeners.", labels=["event"]
        )
        for event, count in self._relay.dtls_counts().items():
            events.add_metric([event], count)
        yield events
        yield GaugeMetricFamily(
            "redconnect_relay_draining",
            "1 while new allocations are refused because the relay is about to stop.",
            value=int(self._relay.is_draining),
        )

    def _collect_paths(self, total: Traffic) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        offload = self._relay.offload
        kernel = NO_TRAFFIC if offload is None else offload.traffic
        labels = ["datapath", "direction"]
        packets = CounterMetricFamily(
            "redconnect_relay_datapath_packets",
            "Packets relayed, by who relayed them: user space or the kernel.",
            labels=labels,
        )
        payload = CounterMetricFamily(
            "redconnect_relay_datapath_payload_bytes", "UDP payload relayed, by who relayed it.", labels=labels
        )
        for path, traffic in (("plain", total.minus(kernel)), ("kernel", kernel)):
            packets.add_metric([path, "to_peer"], traffic.packets_to_peer)
            packets.add_metric([path, "to_client"], traffic.packets_to_client)
            payload.add_metric([path, "to_peer"], traffic.bytes_to_peer)
            payload.add_metric([path, "to_client"], traffic.bytes_to_client)
        yield from (packets, payload)
        yield GaugeMetricFamily(
            "redconnect_relay_kernel_active",
            "1 while busy flows of UDP clients are left to the kernel.",
            value=int(offload is not None and offload.is_on),
        )
        passed = CounterMetricFamily(
            "redconnect_relay_kernel_passed",
            "Packets for our listeners and relays that the kernel left to user space, by the reason.",
            labels=["reason"],
        )
        counts = {} if offload is None else offload.passed()
        for reason in Passed:
            passed.add_metric([reason.value], counts.get(reason.value, 0))
        yield passed
        if offload is not None:
            yield from _collect_offload(offload)


def _collect_offload(offload: LiveOffload) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
    yield GaugeMetricFamily("redconnect_relay_kernel_flows", "Flows that the kernel relays.", value=len(offload))
    yield GaugeMetricFamily(
        "redconnect_relay_kernel_flows_limit", "Flows that the kernel has room for.", value=offload.limit
    )
    yield CounterMetricFamily(
        "redconnect_relay_kernel_refused",
        "Times that a busy flow was left to user space: the kernel had no room for it, or no way.",
        value=offload.refused,
    )
    yield CounterMetricFamily(
        "redconnect_relay_kernel_failures",
        "Times that the kernel's table could not be used, after which user space relays everything.",
        value=offload.failures,
    )
    yield CounterMetricFamily(
        "redconnect_relay_kernel_reconciled",
        "Entries of the kernel's table that were not as they should be, and were mended.",
        value=offload.reconciled,
    )


class UdpBufferCollector(Collector):
    """Datagrams that this network namespace lost because a socket's buffer was full; a sysctl away (docs/turn.md)."""

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Read the kernel's counters."""
        received = CounterMetricFamily(
            "redconnect_host_udp_receive_buffer_errors",
            "UDP datagrams lost to full receive buffers, of all programs (RcvbufErrors).",
            labels=["family"],
        )
        sent = CounterMetricFamily(
            "redconnect_host_udp_send_buffer_errors",
            "UDP datagrams lost to full send buffers, of all programs (SndbufErrors).",
            labels=["family"],
        )
        with contextlib.suppress(OSError):  # no /proc, no figure
            tables = {
                "ipv4": read_udp_counters(Path("/proc/net/snmp").read_text()),
                "ipv6": read_udp6_counters(Path("/proc/net/snmp6").read_text()),
            }
            for family, counters in tables.items():
                received.add_metric([family], counters["RcvbufErrors"])
                sent.add_metric([family], counters["SndbufErrors"])
        yield from (received, sent)


def read_udp_counters(text: str) -> Mapping[str, int]:
    """The kernel's counters of UDP over IPv4, by name, from `/proc/net/snmp`."""
    names, values = (line.split()[1:] for line in text.splitlines() if line.startswith("Udp:"))
    return dict(zip(names, map(int, values), strict=True))


def read_udp6_counters(text: str) -> Mapping[str, int]:
    """The kernel's counters of UDP over IPv6, by the names that IPv4's have, from `/proc/net/snmp6`."""
    pairs = (line.split() for line in text.splitlines() if line.startswith("Udp6"))
    return {name.removeprefix("Udp6"): int(value) for name, value in pairs}


def _histogram(buckets: Buckets, name: str, documentation: str) -> HistogramMetricFamily:
    bounds = [*map(floatToGoString, buckets.bounds), "+Inf"]
    counts = list(zip(bounds, itertools.accumulate(buckets.counts), strict=True))
    return HistogramMetricFamily(name, documentation, buckets=counts, sum_value=buckets.total)
