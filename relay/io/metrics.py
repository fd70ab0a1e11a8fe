"""The relay's metrics. Label values come from enums and constants of the code: never an address or a user."""

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from relay.events import (
    AllocationCreated,
    AllocationDeleted,
    Ending,
    Event,
    MessageDropped,
    RequestAnswered,
    RequestRefused,
)
from relay.five_tuple import Transport
from relay.io.datapath.plain import PlainDataPath
from relay.turn_server import TurnServer
from stun.errors import ParseFault
from stun.registry import ErrorCode, Method

_FAMILY_LABELS = {1: "ipv4", 2: "ipv6"}


class RelayMetrics(Collector):
    """Counts the events of the control plane.

    Plain dictionaries, read at scrape time: a labelled counter of the library costs as much as answering a Binding
    request. Keys come from enums and constants, so the tables are bounded.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._answered: Counter[tuple[Method, Transport]] = Counter()
        self._refused: Counter[tuple[Method, ErrorCode, str]] = Counter()
        self._dropped: Counter[ParseFault | None] = Counter()
        self._created: Counter[tuple[Transport, int]] = Counter()
        self._deleted: Counter[tuple[Transport, int, Ending]] = Counter()
        self._seconds = Histogram(
            "redconnect_relay_allocation_duration_seconds",
            "How long allocations lived.",
            buckets=(1, 10, 60, 300, 900, 1800, 3600, 7200),
            registry=registry,
        )
        registry.register(self)

    def observe(self, event: Event) -> None:
        """Count one event."""
        match event:
            case RequestAnswered():
                self._answered[event] += 1
            case RequestRefused():
                self._refused[event] += 1
            case MessageDropped(fault=fault):
                self._dropped[fault] += 1
            case AllocationCreated():
                self._created[event] += 1
            case AllocationDeleted(transport=transport, family=family, ending=ending, seconds=seconds):
                self._deleted[transport, family, ending] += 1
                self._seconds.observe(seconds)

    def collect(self) -> Iterator[CounterMetricFamily]:
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
            labels=["fault"],
        )
        for fault, count in self._dropped.items():
            dropped.add_metric(["unanswered" if fault is None else fault.value], count)
        created = CounterMetricFamily(
            "redconnect_relay_allocations_created", "Allocations made.", labels=["transport", "family"]
        )
        for (transport, family), count in self._created.items():
            created.add_metric([transport.value, _FAMILY_LABELS[family]], count)
        deleted = CounterMetricFamily(
            "redconnect_relay_allocations_deleted",
            "Allocations ended, by the reason.",
            labels=["transport", "family", "ending"],
        )
        for (transport, family, ending), count in self._deleted.items():
            deleted.add_metric([transport.value, _FAMILY_LABELS[family], ending.value], count)
        yield from (answered, refused, dropped, created, deleted)


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
