import pytest
from prometheus_client import CollectorRegistry, generate_latest

from signaling import events
from signaling.appointments import Role, Tier
from signaling.connection_limits import ConnectionLimits, TooManyConnections
from signaling.io.metrics import ConnectionCollector, SignalingMetrics
from signaling.messages import ErrorCode, MessageFault

EVENTS: list[tuple[events.Event, str, dict[str, str], float]] = [
    (events.ClientConnected(), "clients", {}, 1),
    (events.SeatClaimed(Role.ORGANISER, resumed=False), "joins_total", {"outcome": "joined"}, 1),
    (events.SeatClaimed(Role.ORGANISER, resumed=True), "joins_total", {"outcome": "resumed"}, 1),
    (events.SeatClaimed(Role.ORGANISER, resumed=True), "seats_claimed_total", {"role": "organiser"}, 1),
    (events.JoinRefused(ErrorCode.EXPIRED), "joins_total", {"outcome": "expired"}, 1),
    (events.MessageRefused(MessageFault.TOO_FAST), "messages_refused_total", {"fault": "too_fast"}, 1),
    (events.BlobRelayed(17), "relayed_blobs_total", {}, 1),
    (events.BlobRelayed(17), "relayed_bytes_total", {}, 17),
    (events.BlobDropped(), "dropped_blobs_total", {}, 1),
    (events.PairingConfirmed(Tier.PLUS), "pairings_total", {"result": "confirmed"}, 1),
    (events.PairingFailed(), "pairings_total", {"result": "failed"}, 1),
    (events.ClaimEnded(events.Departure.LEFT), "claims_ended_total", {"departure": "left"}, 1),
    (events.RoomOpened(Tier.PLUS), "rooms", {"tier": "plus"}, 1),
    (events.RoomOpened(Tier.PLUS), "conferences", {}, 0),
    (events.RoomOpened(Tier.PLUS, conference=True), "rooms", {"tier": "plus"}, 1),
    (events.RoomOpened(Tier.PLUS, conference=True), "conferences", {}, 1),
    (events.AdmissionDecided(admitted=True), "admissions_total", {"result": "admitted"}, 1),
    (events.AdmissionDecided(admitted=False), "admissions_total", {"result": "refused"}, 1),
    (events.MediaRequested(events.MediaKind.WANT), "media_requests_total", {"kind": "want"}, 1),
]


@pytest.mark.parametrize(("event", "name", "labels", "value"), EVENTS)
def test_every_event_is_counted(event: events.Event, name: str, labels: dict[str, str], value: float) -> None:
    registry = CollectorRegistry()
    SignalingMetrics(registry).observe(event)
    assert registry.get_sample_value(f"redconnect_signaling_{name}", labels) == value


def test_gauges_go_down_again() -> None:
    registry = CollectorRegistry()
    metrics = SignalingMetrics(registry)
    for event in (
        events.ClientConnected(),
        events.RoomOpened(Tier.BASIS),
        events.RoomClosed(Tier.BASIS, 1.0, paired=True),
        events.RoomOpened(Tier.PLUS, conference=True),
        events.RoomClosed(Tier.PLUS, 1.0, paired=True, conference=True),
        events.ClientDisconnected(),
    ):
        metrics.observe(event)
    assert registry.get_sample_value("redconnect_signaling_clients") == 0
    assert registry.get_sample_value("redconnect_signaling_conferences") == 0
    assert registry.get_sample_value("redconnect_signaling_rooms", {"tier": "basis"}) == 0


def test_every_series_exists_from_the_start_and_no_event_adds_one() -> None:
    registry = CollectorRegistry()
    metrics = SignalingMetrics(registry)
    before = generate_latest(registry).count(b"\n")
    for event, *_ in EVENTS:
        metrics.observe(event)
    assert generate_latest(registry).count(b"\n") == before


def test_how_near_the_bounds_of_the_socket_are_shows() -> None:
    limits = ConnectionLimits(total=7, per_address=1)
    limits.enter(b"a")
    with pytest.raises(TooManyConnections):
        limits.enter(b"a")
    registry = CollectorRegistry()
    registry.register(ConnectionCollector(limits, 5))
    shown = {sample.name: sample.value for metric in registry.collect() for sample in metric.samples}
    assert shown == {
        "redconnect_signaling_connections": 1,
        "redconnect_signaling_connections_limit": 7,
        "redconnect_signaling_connections_refused_total": 1,
        "redconnect_signaling_clients_limit": 5,
    }
