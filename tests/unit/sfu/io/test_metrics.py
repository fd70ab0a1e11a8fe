from collections import Counter
from collections.abc import Mapping

from prometheus_client import CollectorRegistry, generate_latest

from sfu.conference_messages import Side
from sfu.io.engine.py_engine import PyEngine
from sfu.io.metrics import BandwidthHistogram, SfuCollector


class Figures:
    """A service that has done a little of everything."""

    rooms = 2
    members = 5
    max_rooms = 100
    max_members = 500
    switches = 7

    def __init__(self) -> None:
        self.endings = Counter({(Side.SUBSCRIBE, "ice"): 3})
        self.sessions = {"connected": 9, "connecting": 1}

    def engine_counters(self) -> Mapping[str, int]:
        counters = PyEngine(lambda _datagram, _address: None).counters()
        return {name: number for number, name in enumerate(counters, 1)}

    def port_counters(self) -> Mapping[str, int]:
        return {"mux_media": 11}


def registry() -> CollectorRegistry:
    made = CollectorRegistry()
    made.register(SfuCollector(Figures()))
    return made


def test_every_counter_of_the_engine_is_shown_once() -> None:
    shown = [
        sample.value
        for family in registry().collect()
        for sample in family.samples
        if family.name.split("_")[2] in {"packets", "bytes", "rtcp", "key", "retransmissions", "probes"}
    ]
    assert sorted(shown) == list(map(float, Figures().engine_counters().values()))


def test_the_figures_of_rooms_and_sessions() -> None:
    made = registry()
    assert made.get_sample_value("redconnect_sfu_rooms") == 2
    assert made.get_sample_value("redconnect_sfu_members") == 5
    assert made.get_sample_value("redconnect_sfu_rooms_limit") == 100
    assert made.get_sample_value("redconnect_sfu_members_limit") == 500
    assert made.get_sample_value("redconnect_sfu_layer_switches_total") == 7
    assert made.get_sample_value("redconnect_sfu_sessions", {"state": "connected"}) == 9
    assert made.get_sample_value("redconnect_sfu_port_events_total", {"event": "mux_media"}) == 11
    failed = {"side": "subscribe", "reason": "ice"}
    assert made.get_sample_value("redconnect_sfu_sessions_failed_total", failed) == 3


def test_labels_name_no_room_no_member_and_no_address() -> None:
    names = {name for family in registry().collect() for sample in family.samples for name in sample.labels}
    assert names == {"direction", "reason", "event", "side", "state"}


def test_estimates_fall_into_buckets_without_labels() -> None:
    made = CollectorRegistry()
    BandwidthHistogram(made).observe(400e3)
    name = "redconnect_sfu_estimated_bandwidth_bytes_per_second_bucket"
    assert made.get_sample_value(name, {"le": "37500.0"}) == 0  # 300 kbit/s
    assert made.get_sample_value(name, {"le": "62500.0"}) == 1
    assert b"room" not in generate_latest(made)
