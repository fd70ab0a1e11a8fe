import json
import math
from collections.abc import Iterable

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from config.metrics_sum import (
    MAX_SERIES,
    Snapshot,
    add_up,
    decode_snapshot,
    encode_snapshot,
    keep_counted,
    take_snapshot,
    to_metrics,
)


def worker(packets: int, live: int, lag: float, *seconds: float) -> Snapshot:
    """What a worker shows that has counted so much."""
    registry = CollectorRegistry()
    counter = Counter("relay_packets", "Packets.", ["direction", "transport"], registry=registry)
    counter.labels("to_peer", "udp").inc(packets)
    Gauge("relay_allocations", "Live.", registry=registry).set(live)
    Gauge("relay_loop_lag_seconds", "Lag.", registry=registry).set(lag)
    Gauge("relay_draining", "Drains.", registry=registry).set(live > 5)
    Counter("redconnect_host_errors", "Of the kernel.", registry=registry).inc(7)
    histogram = Histogram("relay_duration_seconds", "Durations.", buckets=(1, 10), registry=registry)
    for value in seconds:
        histogram.observe(value)
    return take_snapshot(registry)


class Shown(Collector):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        return to_metrics(self._snapshot)


def exposition(snapshot: Snapshot) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(Shown(snapshot))
    lines = generate_latest(registry).decode().splitlines()
    parts = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    return {name: float(value) for name, _, value in parts if "_created" not in name}


def test_amounts_add_up_and_of_states_the_largest_counts() -> None:
    total = exposition(add_up([worker(3, 2, 0.5, 0.5, 5.0), worker(4, 6, 0.25, 20.0)]))
    assert total == {
        'relay_packets_total{direction="to_peer",transport="udp"}': 7,
        "relay_allocations": 8,
        "relay_loop_lag_seconds": 0.5,
        "relay_draining": 1,
        "redconnect_host_errors_total": 7,
        'relay_duration_seconds_bucket{le="1.0"}': 1,
        'relay_duration_seconds_bucket{le="10.0"}': 2,
        'relay_duration_seconds_bucket{le="+Inf"}': 3,
        "relay_duration_seconds_count": 3,
        "relay_duration_seconds_sum": 25.5,
    }


def test_of_certificates_the_one_that_ends_first_counts() -> None:
    def ending(at: float) -> Snapshot:
        registry = CollectorRegistry()
        Gauge("redconnect_certificate_expiry_timestamp_seconds", "Expiry.", registry=registry).set(at)
        return take_snapshot(registry)

    for order in ([100.0, 200.0], [200.0, 100.0]):
        assert exposition(add_up(map(ending, order))) == {"redconnect_certificate_expiry_timestamp_seconds": 100.0}


def test_series_that_only_one_has_are_kept() -> None:
    one, other = worker(1, 0, 0.0), worker(1, 0, 0.0)
    del other["relay_packets"]  # type: ignore[attr-defined]  # it is a dict
    for order in ((one, other), (other, one)):
        assert exposition(add_up(order))['relay_packets_total{direction="to_peer",transport="udp"}'] == 1


def test_adding_up_changes_no_snapshot() -> None:
    one, other = worker(3, 2, 0.5), worker(4, 6, 0.25)
    before = json.dumps(encode_snapshot(one))
    add_up([one, other])
    assert json.dumps(encode_snapshot(one)) == before


def test_of_one_that_ended_only_what_grows_is_kept() -> None:
    dead, successor = worker(100, 5, 3.0, 0.5), worker(1, 1, 0.0)
    total = exposition(add_up([keep_counted(dead), successor]))
    assert total['relay_packets_total{direction="to_peer",transport="udp"}'] == 101
    assert total["relay_duration_seconds_count"] == 1
    assert (total["relay_allocations"], total["relay_loop_lag_seconds"]) == (1, 0)


def test_a_snapshot_survives_the_channel() -> None:
    registry = CollectorRegistry()
    Gauge("odd", 'Not a "number".', ["label"], registry=registry).labels("\n").set(math.inf)
    snapshot = take_snapshot(registry)
    assert decode_snapshot(json.loads(json.dumps(encode_snapshot(snapshot)))) == snapshot


@pytest.mark.parametrize(
    "said",
    [
        [["x", [], "", []]],
        [["x", "counter", "", [[["x"], {}, 7]]]],
        [["x", "counter", "", [["x_total", {"room": []}, 7]]]],
        [["x", "counter", "", [["x_total", {}, 10**400]]]],
        [["x", "counter", "", [["x_total", {}, "much"]]]],
        [["x", "gauge", "", [["x", {"number": str(number)}, 1] for number in range(MAX_SERIES + 1)]]],
        None,
        [7],
    ],
)
def test_what_are_no_figures_is_refused_before_it_is_added_up(said: object) -> None:
    with pytest.raises((TypeError, ValueError, AttributeError, OverflowError)):
        decode_snapshot(said)  # type: ignore[arg-type]  # a worker may say anything
