"""The SFU's metrics. Label values come from enums and constants of the code: never a room, a person or an address."""

from collections import Counter as Tally
from collections.abc import Iterator, Mapping
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sfu.conference_messages import Side

_BITS_PER_BYTE: Final = 8
_BANDWIDTHS: Final = (50e3, 100e3, 150e3, 300e3, 500e3, 1e6, 2e6, 5e6, 10e6)  # bits per second, as settings are

_DROPPED: Final = "dropped_"
_SINGLE: Final = {  # a counter of the engine: what its metric is called, and says
    "key_frame_requests_out": ("key_frame_requests", "Key frames that were asked of publishers (PLI)."),
    "nacked_out": ("packets_nacked", "Packets that were missing and asked of publishers again."),
    "repaired": ("packets_repaired", "Packets that came because they were asked for again."),
    "retransmissions_out": ("retransmissions", "Packets that subscribers got again (RTX)."),
    "probes_out": ("probes", "Packets of padding that were sent to find out what a path carries."),
    "not_repeated": ("retransmissions_refused", "Packets that subscribers asked for again and did not get."),
}
_DIRECTIONS: Final = ("in", "out")


class SfuFigures(Protocol):
    """The running service, as a scrape sees it."""

    endings: Tally[tuple[Side, str]]  # of sessions, by the reason

    def engine_counters(self) -> Mapping[str, int]:
        """What the engine has counted."""
        ...

    def port_counters(self) -> Mapping[str, int]:
        """What the port, ICE and DTLS have counted."""
        ...

    @property
    def rooms(self) -> int:
        """Conferences."""
        ...

    @property
    def members(self) -> int:
        """People in all of them."""
        ...

    @property
    def max_rooms(self) -> int:
        """Conferences that there may be."""
        ...

    @property
    def max_members(self) -> int:
        """People that there may be in all of them."""
        ...

    @property
    def sessions(self) -> Mapping[str, int]:
        """PeerConnections by state."""
        ...

    @property
    def switches(self) -> int:
        """How often something was forwarded from another layer."""
        ...


class BandwidthHistogram:
    """Of all estimates, taken every few seconds: it says what paths are like, not how many there are."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._histogram = Histogram(
            "redconnect_sfu_estimated_bandwidth_bytes_per_second",
            "What the paths to subscribers are thought to carry: each of them every five seconds.",
            buckets=[bits / _BITS_PER_BYTE for bits in _BANDWIDTHS],
            registry=registry,
        )

    def observe(self, bits_per_second: float) -> None:
        """Note an estimate."""
        self._histogram.observe(bits_per_second / _BITS_PER_BYTE)


class SfuCollector(Collector):
    """Reads the figures when somebody scrapes."""

    def __init__(self, figures: SfuFigures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """Yield the figures."""
        figures = self._figures
        engine = figures.engine_counters()
        yield _by_label(
            "redconnect_sfu_packets",
            "RTP packets.",
            "direction",
            {direction: engine.get(f"packets_{direction}", 0) for direction in _DIRECTIONS},
        )
        yield _by_label(
            "redconnect_sfu_bytes",
            "Bytes of RTP packets, as they are on the wire, without IP and UDP.",
            "direction",
            {direction: engine.get(f"bytes_{direction}", 0) for direction in _DIRECTIONS},
        )
        yield _by_label(
            "redconnect_sfu_rtcp_packets",
            "RTCP packets, compound ones counted once.",
            "direction",
            {direction: engine.get(f"rtcp_{direction}", 0) for direction in _DIRECTIONS},
        )
        yield _by_label(
            "redconnect_sfu_packets_dropped",
            "Packets that were not forwarded, by the reason.",
            "reason",
            {name.removeprefix(_DROPPED): count for name, count in engine.items() if name.startswith(_DROPPED)},
        )
        for name, (metric, text) in _SINGLE.items():
            yield CounterMetricFamily(f"redconnect_sfu_{metric}", text, value=engine.get(name, 0))
        yield _by_label(
            "redconnect_sfu_port_events",
            "Datagrams of the UDP port and checks of ICE, by what became of them.",
            "event",
            figures.port_counters(),
        )
        ended = CounterMetricFamily(
            "redconnect_sfu_sessions_failed", "PeerConnections that failed, by the reason.", labels=["side", "reason"]
        )
        for (side, reason), count in figures.endings.items():
            ended.add_metric([side.value, reason], count)
        sessions = GaugeMetricFamily("redconnect_sfu_sessions", "PeerConnections.", labels=["state"])
        for state, count in figures.sessions.items():
            sessions.add_metric([state], count)
        yield from (ended, sessions)
        yield CounterMetricFamily(
            "redconnect_sfu_layer_switches", "Forwarded tracks that got another layer, or none.", value=figures.switches
        )
        yield GaugeMetricFamily("redconnect_sfu_rooms", "Conferences.", value=figures.rooms)
        yield GaugeMetricFamily("redconnect_sfu_members", "People in conferences.", value=figures.members)
        yield GaugeMetricFamily(
            "redconnect_sfu_rooms_limit", "Conferences that there may be at a time.", value=figures.max_rooms
        )
        yield GaugeMetricFamily(
            "redconnect_sfu_members_limit", "People that there may be in conferences.", value=figures.max_members
        )


def _by_label(name: str, text: str, label: str, values: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family
