"""The relay's metrics. Label values come from enums and constants of the code: never an address or a user."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from relay.events import (
    AllocationCreated,
    AllocationDeleted,
    Event,
    MessageDropped,
    RequestAnswered,
    RequestRefused,
)
from relay.five_tuple import Transport
from relay.io.datapath.plain import PlainDataPath
from relay.turn_server import TurnServer

_FAMILY_LABELS = {1: "ipv4", 2: "ipv6"}


class RelayMetrics:
    """Counts the events of the control plane, and reads the forwarding plane's counters at scrape time."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._answered = Counter(
            "redconnect_relay_requests_answered_total", "Success responses.", ["method", "transport"], registry=registry
        )
        self._refused = Counter(
            "redconnect_relay_requests_refused_total",
            "Error responses by method, error code and cause.",
            ["method", "code", "cause"],
            registry=registry,
        )
        self._dropped = Counter(
            "redconnect_relay_messages_dropped_total",
            "Messages without an answer: what did not parse, by fault, and what gets none.",
            ["fault"],
            registry=registry,
        )
        self._created = Counter(
            "redconnect_relay_allocations_created_total",
            "Allocations made.",
            ["transport", "family"],
            registry=registry,
        )
        self._deleted = Counter(
            "redconnect_relay_allocations_deleted_total",
            "Allocations ended, by the reason.",
            ["transport", "family", "ending"],
            registry=registry,
        )
        self._seconds = Histogram(
            "redconnect_relay_allocation_duration_seconds",
            "How long allocations lived.",
            buckets=(1, 10, 60, 300, 900, 1800, 3600, 7200),
            registry=registry,
        )

    def observe(self, event: Event) -> None:
        """Count one event."""
        match event:
            case RequestAnswered(method=method, transport=transport):
                self._answered.labels(method.name.lower(), transport.value).inc()
            case RequestRefused(method=method, code=code, cause=cause):
                self._refused.labels(method.name.lower(), str(int(code)), cause).inc()
            case MessageDropped(fault=fault):
                self._dropped.labels("unanswered" if fault is None else fault.value).inc()
            case AllocationCreated(transport=transport, family=family):
                self._created.labels(transport.value, _FAMILY_LABELS[family]).inc()
            case AllocationDeleted(transport=transport, family=family, ending=ending, seconds=seconds):
                self._deleted.labels(transport.value, _FAMILY_LABELS[family], ending.value).inc()
                self._seconds.observe(seconds)


class RelayCollector(Collector):
    """Reads live figures of the running relay when somebody scrapes."""

    def __init__(
        self, server: TurnServer, plane: PlainDataPath, connections: Callable[[], dict[Transport, int]]
    ) -> None:
        self._server = server
        self._plane = plane
        self._connections = connections

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        """Yield the figures."""
        payload = CounterMetricFamily(
            "redconnect_relay_payload_bytes",
            "UDP payload relayed, by the client's transport and the direction.",
            labels=["transport", "direction"],
        )
        packets = CounterMetricFamily(
            "redconnect_relay_packets",
            "Packets relayed, by the client's transport and the direction.",
            labels=["transport", "direction"],
        )
        for transport, traffic in self._plane.totals().items():
            payload.add_metric([transport.value, "to_peer"], traffic.bytes_to_peer)
            payload.add_metric([transport.value, "to_client"], traffic.bytes_to_client)
            packets.add_metric([transport.value, "to_peer"], traffic.packets_to_peer)
            packets.add_metric([transport.value, "to_client"], traffic.packets_to_client)
        yield payload
        yield packets

        dropped = CounterMetricFamily(
            "redconnect_relay_packets_dropped", "Packets not relayed, by the reason.", labels=["reason"]
        )
        for reason, count in self._plane.drops.items():
            dropped.add_metric([reason.value], count)
        yield dropped

        yield GaugeMetricFamily("redconnect_relay_allocations", "Live allocations.", value=self._server.allocations)
        taken = GaugeMetricFamily(
            "redconnect_relay_ports_taken", "Relayed ports held by allocations and reservations.", labels=["family"]
        )
        limit = GaugeMetricFamily("redconnect_relay_ports_limit", "Relayed ports that may be held.", labels=["family"])
        for family, pool in self._server.pools.items():
            taken.add_metric([_FAMILY_LABELS[family]], pool.taken)
            limit.add_metric([_FAMILY_LABELS[family]], pool.limit)
        yield taken
        yield limit
        connections = GaugeMetricFamily(
            "redconnect_relay_connections", "Open connections of clients.", labels=["transport"]
        )
        for transport, count in self._connections().items():
            connections.add_metric([transport.value], count)
        yield connections
