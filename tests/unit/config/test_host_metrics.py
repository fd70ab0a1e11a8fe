from pathlib import Path

from prometheus_client import CollectorRegistry

from config.host_metrics import ConntrackCollector


def test_the_table_of_tracked_flows_shows_how_full_it_is(tmp_path: Path) -> None:
    (tmp_path / "nf_conntrack_count").write_text("1234\n")
    (tmp_path / "nf_conntrack_max").write_text("262144\n")
    registry = CollectorRegistry()
    registry.register(ConntrackCollector(tmp_path))
    assert registry.get_sample_value("redconnect_host_conntrack_entries") == 1234
    assert registry.get_sample_value("redconnect_host_conntrack_entries_limit") == 262144


def test_nothing_is_shown_where_nothing_is_tracked(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    registry.register(ConntrackCollector(tmp_path))
    assert [sample for metric in registry.collect() for sample in metric.samples] == []
