"""The relay's metrics. Label values come from enums and constants of the code: never an address or a user."""

import contextlib
import itertools
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from relay.datapath import NO_TRAFFIC, DataPath
from relay.events import (
    AllocationCreated,
    AllocationDeleted,
    AllocationMoved,
    Ending,
    Event,
    HalfDeleted,
    MessageDropped,
    NoAnswer,
    RequestAnswered,
    RequestRefused,
)
from relay.five_tuple import Transport
from relay.ledger import Ports
from stun.errors import ParseFault
from stun.registry import ErrorCode, Method

_FAMILY_LABELS: Final = {1: "ipv4", 2: "ipv6"}
_LATENCY_BUCKETS: Final = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1)
_DURATION_BUCKETS: Final = (1, 10, 60, 300, 900, 1800, 3600, 7200)


class _Buckets:
    """The counts of a histogram, at a tenth of what the library's costs."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def family(self, name: str, documentation: str) -> HistogramMetricFamily:
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        buckets = list(zip(bounds, itertools.accumulate(self._counts), strict=True))
        return HistogramMetricFamily(name, documentation, buckets=buckets, sum_value=self._sum)


class RelayMetrics(Collector):
    """Counts the events of the control plane.

    Plain dictionaries, read at scrape time: a labelled counter of the library costs as much as answering a Binding
    request. Keys come from enums and constants, so the tables are bounded; secrets are named in the settings.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._answered: Counter[tuple[Method, Transport]] = Counter()
        self._refused: Counter[tuple[Method, ErrorCode, str]] = Counter()
        self._dropped: Counter[ParseFault | NoAnswer] = Counter()
        self._created: Counter[tuple[Transport, int]] = Counter()
        self._deleted: Counter[tuple[Transport, int, Ending]] = Counter()
        self._secrets: Counter[str] = Counter()
        self._latency = _Buckets(_LATENCY_BUCKETS)
        self._seconds = _Buckets(_DURATION_BUCKETS)
        registry.register(self)

    def count_answer(self, event: RequestAnswered) -> None:
        """Count a success response; apart from `observe`, because it is most of what happens."""
        self._answered[event] += 1

    def observe(self, event: Event, latency: Callable[[], float]) -> None:
        """Count one event; `latency` tells how long ago the message arrived that caused it, in seconds."""
        match event:
            case RequestRefused():
                self._refused[event] += 1
            case MessageDropped(reason=reason):
                self._dropped[reason] += 1
            case AllocationCreated(transport=transport, families=families, secret=secret):
                for family in families:
                    self._created[transport, family] += 1
                self._secrets[secret] += 1
                self._latency.observe(latency())
            case HalfDeleted(transport=transport, family=family, ending=ending):
                self._deleted[transport, family, ending] += 1
            case AllocationMoved(before=before, after=after, families=families):
                for family in families:
                    self._deleted[before, family, Ending.MOVED] += 1
                    self._created[after, family] += 1
            case AllocationDeleted(transport=transport, families=families, ending=ending, seconds=seconds):
                for family in families:
                    self._deleted[transport, family, ending] += 1
                self._seconds.observe(seconds)

    def collect(self) -> Iterator[Metric]:
        """Yield the counters."""
        answered = CounterMetricFamily(
            "redconnect_relay_requests_answered", "Success responses.", labels=["method", "transport"]
        )
        for (method, transport), count in self._answered.items():
            answered.add_metric([method.name.lower(), transport.value], count)
        refused = CounterMetricFamily(
            "redconnect_relay_requests_refused",
            "Error responses by method, error code and cause.",
            labels=["method", "code", "cause"],
        )
        for (method, code, cause), count in self._refused.items():
            refused.add_metric([method.name.lower(), str(int(code)), cause], count)
        dropped = CounterMetricFamily(
            "redconnect_relay_messages_dropped",
            "Messages without an answer: what did not parse, by fault, and what gets none.",
            labels=["reason"],
        )
        for reason, count in self._dropped.items():
            dropped.add_metric([reason.value], count)
        secrets = CounterMetricFamily(
            "redconnect_relay_allocations_authenticated",
            "Allocations by the name of the shared secret behind their credential; static for static users.",
            labels=["secret"],
        )
        for secret, count in self._secrets.items():
            secrets.add_metric([secret or "static"], count)
        yield from (answered, refused, dropped, secrets, *self._collect_allocations())
        yield self._latency.family(
            "redconnect_relay_allocate_latency_seconds",
            "From the arrival of an Allocate request to its success response.",
        )
        yield self._seconds.family("redconnect_relay_allocation_duration_seconds", "How long allocations lived.")

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
        for (transport, family, ending), count in self._deleted.items():
            ended[transport, family] += count
            deleted.add_metric([transport.value, _FAMILY_LABELS[family], ending.value], count)
        for (transport, family), count in self._created.items():
            created.add_metric([transport.value, _FAMILY_LABELS[family]], count)
            live.add_metric([transport.value, _FAMILY_LABELS[family]], count - ended[transport, family])
        yield from (live, created, deleted)


class LiveRelay(Protocol):
    """The running service, as a scrape sees it."""

    is_draining: bool

    @property
    def ports(self) -> Mapping[int, Ports]:
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


class RelayCollector(Collector):
    """Reads live figures of the running relay when somebody scrapes."""

    def __init__(self, relay: LiveRelay, planes: Sequence[DataPath]) -> None:
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


class ReceiveBufferCollector(Collector):
    """Datagrams that this network namespace lost because a receive buffer was full; a sysctl away (docs/turn.md)."""

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Read the kernel's counters."""
        lost = CounterMetricFamily(
            "redconnect_host_udp_receive_buffer_errors",
            "UDP datagrams lost to full receive buffers, of all programs (RcvbufErrors).",
            labels=["family"],
        )
        with contextlib.suppress(OSError):  # no /proc, no figure
            lost.add_metric(["ipv4"], _udp_errors(Path("/proc/net/snmp").read_text()))
            lost.add_metric(["ipv6"], _udp6_errors(Path("/proc/net/snmp6").read_text()))
        yield lost


def _udp_errors(text: str) -> int:
    names, values = (line.split() for line in text.splitlines() if line.startswith("Udp:"))
    return int(dict(zip(names, values, strict=True))["RcvbufErrors"])


def _udp6_errors(text: str) -> int:
    return int(dict(line.split() for line in text.splitlines())["Udp6RcvbufErrors"])
