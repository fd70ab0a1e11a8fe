"""The counters of the bus between signaling nodes."""

from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge

_PREFIX = "redconnect_signaling_bus"


class BusFault(StrEnum):
    """Why something that came from the bus, or was meant for it, was dropped."""

    TOO_LONG = "too_long"
    SEAL = "seal"  # not sealed by a node with our key, or not for us
    MALFORMED = "malformed"
    REPEATED = "repeated"
    OVERFLOW = "overflow"


class BusMetrics:
    """Counts what happens on the bus. There are no labels but those of an enum: never a node, room or address."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._connected = Gauge(f"{_PREFIX}_connected", "Whether this node is on the bus.", registry=registry)
        self._losses = Counter(f"{_PREFIX}_losses_total", "Times that the bus was lost.", registry=registry)
        self._nodes_lost = Counter(
            f"{_PREFIX}_nodes_lost_total", "Ends of other nodes that had clients or rooms of ours.", registry=registry
        )
        self._sent = Counter(f"{_PREFIX}_messages_sent_total", "Messages to other nodes.", registry=registry)
        self._received = Counter(f"{_PREFIX}_messages_received_total", "Messages of other nodes.", registry=registry)
        self._refused = Counter(
            f"{_PREFIX}_refused_total", "What was dropped because it is not fit.", ["fault"], registry=registry
        )
        for fault in BusFault:
            self._refused.labels(fault)

    def set_connected(self, connected: bool) -> None:  # noqa: FBT001 - what is set
        """Show whether the bus is there."""
        self._connected.set(connected)

    def count_loss(self) -> None:
        """Count the end of a connection."""
        self._losses.inc()

    def count_node_lost(self) -> None:
        """Count the end of another node that matters here."""
        self._nodes_lost.inc()

    def count_sent(self) -> None:
        """Count a message to another node."""
        self._sent.inc()

    def count_received(self) -> None:
        """Count a message of another node."""
        self._received.inc()

    def count_refused(self, fault: BusFault) -> None:
        """Count what was dropped."""
        self._refused.labels(fault).inc()
