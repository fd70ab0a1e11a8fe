import time

from prometheus_client import CollectorRegistry

from config.lifecycle_metrics import LifecycleMetrics


def test_reloads_count_by_result_and_only_a_success_moves_the_time() -> None:
    registry = CollectorRegistry()
    metrics = LifecycleMetrics(registry)
    started_at = registry.get_sample_value("redconnect_last_successful_reload_timestamp_seconds")
    metrics.count_failed_reload()
    assert registry.get_sample_value("redconnect_last_successful_reload_timestamp_seconds") == started_at
    metrics.count_reload()
    assert registry.get_sample_value("redconnect_reloads_total", {"result": "failure"}) == 1
    assert registry.get_sample_value("redconnect_reloads_total", {"result": "success"}) == 1
    assert (registry.get_sample_value("redconnect_last_successful_reload_timestamp_seconds") or 0) > (started_at or 0)


def test_a_drain_shows_with_its_deadline() -> None:
    registry = CollectorRegistry()
    metrics = LifecycleMetrics(registry)
    assert registry.get_sample_value("redconnect_draining") == 0
    assert registry.get_sample_value("redconnect_drain_deadline_timestamp_seconds") == 0
    ends_at = time.time() + 600
    metrics.show_drain(ends_at)
    assert registry.get_sample_value("redconnect_draining") == 1
    assert registry.get_sample_value("redconnect_drain_deadline_timestamp_seconds") == ends_at
