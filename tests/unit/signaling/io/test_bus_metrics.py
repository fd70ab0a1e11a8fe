from prometheus_client import CollectorRegistry

from signaling.io.bus_metrics import BusFault, BusMetrics

PREFIX = "redconnect_signaling_bus"


def test_everything_is_counted_and_every_series_exists_from_the_start() -> None:
    registry = CollectorRegistry()
    metrics = BusMetrics(registry)
    names = ["connected", "losses_total", "nodes_lost_total", "messages_sent_total", "messages_received_total"]
    assert [registry.get_sample_value(f"{PREFIX}_{name}") for name in names] == [0] * 5
    faults = [registry.get_sample_value(f"{PREFIX}_refused_total", {"fault": fault}) for fault in BusFault]
    assert faults == [0] * len(BusFault)
    metrics.set_connected(True)
    for count in (metrics.count_loss, metrics.count_node_lost, metrics.count_sent, metrics.count_received):
        count()
    metrics.count_refused(BusFault.SEAL)
    assert [registry.get_sample_value(f"{PREFIX}_{name}") for name in names] == [1] * 5
    assert registry.get_sample_value(f"{PREFIX}_refused_total", {"fault": "seal"}) == 1
