"""The counters of the signaling endpoint."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from signaling.api_messages import STATUS_OF
from signaling.appointments import Role, Tier
from signaling.connection_limits import ConnectionLimits
from signaling.events import (
    AdmissionDecided,
    BlobDropped,
    BlobRelayed,
    ClaimEnded,
    ClientConnected,
    ClientDisconnected,
    Departure,
    Event,
    JoinRefused,
    MediaKind,
    MediaRequested,
    MessageRefused,
    PairingConfirmed,
    PairingFailed,
    RoomClosed,
    RoomOpened,
    SeatClaimed,
)
from signaling.messages import ErrorCode, MessageFault
from signaling.openapi import OPERATIONS, OperationId

_PREFIX = "redconnect_signaling"


class ConnectionCollector(Collector):
    """Shows how near the bounds of the listening socket are; read when somebody scrapes."""

    def __init__(self, limits: ConnectionLimits, max_clients: int) -> None:
        """Show these.

        Args:
            limits: of TCP connections.
            max_clients: of WebSockets; it does not change before a restart.
        """
        self._limits = limits
        self._max_clients = max_clients

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """Yield the figures."""
        yield GaugeMetricFamily(
            f"{_PREFIX}_connections", "Open TCP connections, WebSockets included.", value=len(self._limits)
        )
        yield GaugeMetricFamily(
            f"{_PREFIX}_connections_limit", "TCP connections that may be open.", value=self._limits.total
        )
        yield CounterMetricFamily(
            f"{_PREFIX}_connections_refused",
            "TCP connections closed at once: too many of one address, or in all.",
            value=self._limits.refused,
        )
        yield GaugeMetricFamily(
            f"{_PREFIX}_clients_limit", "WebSockets that may be open; more are told overload.", value=self._max_clients
        )


class SignalingMetrics:
    """Counts the lobby's events. Every label value comes from an enum: never a code, room or address.

    Every series exists from the start, so that an alarm on its growth sees the first increment.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._clients = Gauge(f"{_PREFIX}_clients", "Open WebSockets.", registry=registry)
        self._rooms = Gauge(f"{_PREFIX}_rooms", "Rooms with a claim.", ["tier"], registry=registry)
        self._conferences = Gauge(
            f"{_PREFIX}_conferences", "Rooms with a claim where more than two may meet.", registry=registry
        )
        self._admissions = Counter(
            f"{_PREFIX}_admissions_total", "Decisions of organisers about who waits.", ["result"], registry=registry
        )
        self._media_requests = Counter(
            f"{_PREFIX}_media_requests_total", "Requests to the media server by kind.", ["kind"], registry=registry
        )
        self._joins = Counter(
            f"{_PREFIX}_joins_total",
            "Joins by outcome: joined, resumed, or the code of the error.",
            ["outcome"],
            registry=registry,
        )
        self._seats = Counter(f"{_PREFIX}_seats_claimed_total", "Seats taken or resumed.", ["role"], registry=registry)
        self._claims_ended = Counter(
            f"{_PREFIX}_claims_ended_total", "Claims forgotten.", ["departure"], registry=registry
        )
        self._pairings = Counter(
            f"{_PREFIX}_pairings_total", "Pairings of two clients by result.", ["result"], registry=registry
        )
        self._blobs = Counter(f"{_PREFIX}_relayed_blobs_total", "Blobs handed on.", registry=registry)
        self._blob_bytes = Counter(f"{_PREFIX}_relayed_bytes_total", "Bytes of these blobs.", registry=registry)
        self._blobs_dropped = Counter(
            f"{_PREFIX}_dropped_blobs_total",
            "Blobs for a client that was gone, or of an unconfirmed one for a slow reader.",
            registry=registry,
        )
        self._refused = Counter(
            f"{_PREFIX}_messages_refused_total", "Breaches of the protocol.", ["fault"], registry=registry
        )
        self._slow_readers = Counter(
            f"{_PREFIX}_slow_readers_total", "Sockets closed because they did not read.", registry=registry
        )
        self._store_failures = Counter(
            f"{_PREFIX}_store_failures_total", "Failed accesses to the appointments.", registry=registry
        )
        self._api_requests = Counter(
            f"{_PREFIX}_api_requests_total",
            "Requests to the HTTP API by operation and HTTP status.",
            ["operation", "status"],
            registry=registry,
        )
        self._prepare_labels()

    def observe(self, event: Event) -> None:
        """Count one event of the lobby."""
        match event:
            case ClientConnected():
                self._clients.inc()
            case ClientDisconnected():
                self._clients.dec()
            case SeatClaimed(role=role, resumed=resumed):
                self._joins.labels("resumed" if resumed else "joined").inc()
                self._seats.labels(role).inc()
            case JoinRefused(code=code):
                self._joins.labels(code).inc()
            case ClaimEnded(departure=departure):
                self._claims_ended.labels(departure).inc()
            case RoomOpened(tier=tier, conference=conference):
                self._rooms.labels(tier).inc()
                self._conferences.inc(int(conference))
            case RoomClosed(tier=tier, conference=conference):
                self._rooms.labels(tier).dec()
                self._conferences.dec(int(conference))
            case _:
                self._observe_messages(event)

    def count_slow_reader(self) -> None:
        """Count a socket that was closed because its queue was full or stuck."""
        self._slow_readers.inc()

    def count_store_failure(self) -> None:
        """Count a failed access to the appointments."""
        self._store_failures.inc()

    def count_api_request(self, operation: OperationId | None, status: int) -> None:
        """Count an answer of the HTTP API; None: there is no such operation."""
        self._api_requests.labels(operation or "none", str(status)).inc()

    def _observe_messages(self, event: Event) -> None:
        match event:
            case MessageRefused(fault=fault):
                self._refused.labels(fault).inc()
            case BlobRelayed(size=size):
                self._blobs.inc()
                self._blob_bytes.inc(size)
            case BlobDropped():
                self._blobs_dropped.inc()
            case PairingConfirmed():
                self._pairings.labels("confirmed").inc()
            case PairingFailed():
                self._pairings.labels("failed").inc()
            case AdmissionDecided(admitted=admitted):
                self._admissions.labels("admitted" if admitted else "refused").inc()
            case MediaRequested(kind=kind):
                self._media_requests.labels(kind).inc()

    def _prepare_labels(self) -> None:
        for tier in Tier:
            self._rooms.labels(tier)
        for outcome in ("joined", "resumed", *ErrorCode):
            self._joins.labels(outcome)
        for role in Role:
            self._seats.labels(role)
        for departure in Departure:
            self._claims_ended.labels(departure)
        for result in ("confirmed", "failed"):
            self._pairings.labels(result)
        for result in ("admitted", "refused"):
            self._admissions.labels(result)
        for kind in MediaKind:
            self._media_requests.labels(kind)
        for fault in MessageFault:
            self._refused.labels(fault)
        for operation in OPERATIONS:
            for status in {operation.status, *(STATUS_OF[fault] for fault in operation.all_faults)}:
                self._api_requests.labels(operation.id, str(status))
