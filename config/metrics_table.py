"""Writes docs/metrics.md: every metric with its type, its labels and all that they may say, its unit and its meaning.

The collectors themselves are asked, after each has been told of everything that can happen: what they then show is
what a running service can show. `python -m config.metrics_table > docs/metrics.md`
"""

import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

import prometheus_client
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

from config.admin import register_process_metrics
from config.certificates import CertificateCollector
from config.crew import CrewCollector, Place
from config.host_metrics import ConntrackCollector
from config.lifecycle_metrics import LifecycleMetrics
from config.loop_lag import LoopLag
from config.schema import TURN_SECRET_NAME
from config.sfu_workers import SfuWorkersMetrics
from relay.datapath import NO_TRAFFIC, Drop, Traffic
from relay.events import Ending, NoAnswer, RequestAnswered, RequestRefused
from relay.five_tuple import Transport
from relay.io.counts import RelayCounts
from relay.io.datapath.bpf.program import Passed
from relay.io.dtls import DtlsCount
from relay.io.metrics import LivePorts, RelayCollector, RelayMetrics, UdpBufferCollector
from relay.io.stream import Closing
from relay.peer_policy import Rule
from sfu.conference_messages import Refusal, Side
from sfu.ice_lite import IceCount
from sfu.io.engine.py_engine import PyEngine
from sfu.io.metrics import BandwidthHistogram, SfuCollector
from sfu.io.mux import MuxCount
from sfu.io.peer_connections import FailureReason
from signaling.connection_limits import ConnectionLimits
from signaling.io.bus_metrics import BusMetrics
from signaling.io.metrics import ConnectionCollector, SignalingMetrics
from signaling.openapi import OperationId
from stun.errors import ParseFault
from stun.registry import ErrorCode, Method

_HEADER: Final = """\
# Metrics

What `/metrics` on the admin port shows. Written by `python -m config.metrics_table`: do not change it by hand.
Dashboards and alerts are in [`deploy/`](../deploy/), what to do when an alert fires in
[`deploy/RUNBOOK.md`](../deploy/RUNBOOK.md).

Names and units are Prometheus' own: base units, counters end in `_total`, and a histogram `x` is shown as `x_bucket`,
`x_sum` and `x_count`. Label values come from enumerations and constants of the code, and from names of the
configuration: never an address, a name of a person, a code or a room.

With `relay.workers` or `sfu.workers` above 1 the figures of all workers are added up, those of workers that have ended
included; of ages, lags, instants and figures of the host the largest is shown, of the certificate's end the smallest.
Figures are read when somebody scrapes: a packet costs no more because somebody looks.
"""
_FAMILIES: Final = (1, 2)
_WORDS: Final = {  # of labels whose values are too many to list, or not of the code alone
    "redconnect_relay_requests_refused_total.cause": "why, a constant of the code such as `wrong_password`,"
    " `unknown_user`,"
    " `expired`, `stale_nonce`, `ports_exhausted`, `user_quota`, `trial_quota`, `trial_rate`, `draining`;"
    " a denied peer names the rule: " + ", ".join(f"`peer_{rule.value}`" for rule in Rule),
    "secret": f"`{TURN_SECRET_NAME}`, the names under `relay.secrets`, `static` for static users,"
    " `self_test` for the allocations of `/readyz`",
    "worker": "number of the worker, from 0",
    "version": "of redconnect, or of Python",
    "relay": "`compiled` or `interpreted`, as `redconnect --version` says it",
    "implementation": "of Python",
    "major": "of Python's version",
    "minor": "of Python's version",
    "patchlevel": "of Python's version",
    "status": "HTTP status",
}
_UNITS: Final = (  # by the end of the name, without `_total`
    ("_timestamp_seconds", "Unix time, s"),
    ("_bytes_per_second", "bytes/s"),
    ("_seconds", "s"),
    ("_bytes", "bytes"),
    ("_info", "always 1"),
    ("_up", "0 or 1"),
    ("_draining", "0 or 1"),
    ("_connected", "0 or 1"),
)


class Part(NamedTuple):
    """A part of the service, and its collectors after everything has happened once."""

    title: str
    when: str
    build: Callable[[CollectorRegistry], None]


class MetricRow(NamedTuple):
    """What is known of a metric."""

    name: str  # as it stands on `/metrics`, of a histogram without the endings of its series
    kind: str
    labels: Mapping[str, frozenset[str]]  # all that each can say
    documentation: str


def is_open(metric: str, label: str) -> bool:
    """Whether the values of a label are described in words, because they are not a list of the code."""
    return _words(metric, label) is not None


def rows(part: Part) -> list[MetricRow]:
    """The metrics of a part."""
    registry = CollectorRegistry()
    part.build(registry)
    return [_row(metric) for metric in registry.collect()]


def table_text() -> str:
    """The text of docs/metrics.md."""
    sections = [_HEADER]
    for part in PARTS:
        lines = [f"## {part.title}\n"]
        lines += [f"{part.when}\n"] if part.when else []
        lines += ["| metric | type | unit | labels | meaning |", "|---|---|---|---|---|"]
        lines += map(_line, rows(part))
        sections.append("\n".join(lines) + "\n")
    return "\n".join(sections)


def _row(metric: Metric) -> MetricRow:
    # A family without a sample still knows the names of its labels.
    values: dict[str, set[str]] = {label: set() for label in getattr(metric, "_labelnames", ())}
    for sample in metric.samples:
        for label, value in sample.labels.items():
            if label != "le":
                values.setdefault(label, set()).add(value)
    name = f"{metric.name}_total" if metric.type == "counter" else metric.name
    return MetricRow(
        name, metric.type, {label: frozenset(seen) for label, seen in values.items()}, metric.documentation
    )


def _line(row: MetricRow) -> str:
    labels = "; ".join(
        f"`{label}`: {_words(row.name, label) or _list(row.labels[label])}" for label in sorted(row.labels)
    )
    return f"| `{row.name}` | {row.kind} | {_unit(row)} | {labels} | {row.documentation} |"


def _words(metric: str, label: str) -> str | None:
    return _WORDS.get(f"{metric}.{label}", _WORDS.get(label))


def _list(values: frozenset[str]) -> str:
    return ", ".join(f"`{value}`" for value in sorted(values))


def _unit(row: MetricRow) -> str:
    name = row.name.removesuffix("_total")
    return next((unit for ending, unit in _UNITS if name.endswith(ending)), "")


# Parts, each told of everything that can happen


class _Certificate:
    """A certificate, as its collector sees it."""

    not_after = datetime.fromtimestamp(0, UTC)
    reloads = failures = 0

    def refresh(self) -> None:
        """Nothing has changed."""


def _build_process(registry: CollectorRegistry) -> None:
    LifecycleMetrics(registry)
    LoopLag(registry)
    registry.register(CertificateCollector(_Certificate()))
    register_process_metrics(registry)


def _build_host(registry: CollectorRegistry) -> None:
    registry.register(UdpBufferCollector())
    registry.register(ConntrackCollector())


class _Plane:
    """A forwarding plane, as its collector sees it."""

    drops: Final = dict.fromkeys(Drop, 1)

    def totals(self) -> Mapping[Transport, Traffic]:
        return dict.fromkeys(Transport, NO_TRAFFIC)


class _Pool:
    limit = taken = 0


class _Offload:
    """The kernel's share, as its collector sees it."""

    is_on = True
    limit = refused = failures = reconciled = 0
    traffic = NO_TRAFFIC

    def __len__(self) -> int:
        return 0

    def passed(self) -> Mapping[str, int]:
        return {reason.value: 0 for reason in Passed}


class _Relay:
    """A relay, as its collector sees it."""

    is_draining = False
    offload: Final = _Offload()
    ports: Final[Mapping[int, LivePorts]] = dict.fromkeys(_FAMILIES, _Pool())

    def connections(self) -> Mapping[Transport, int]:
        return dict.fromkeys((Transport.TCP, Transport.TLS, Transport.DTLS), 0)

    def closings(self) -> Mapping[str, int]:
        return dict.fromkeys(Closing, 0)

    def dtls_counts(self) -> Mapping[str, int]:
        return dict.fromkeys(DtlsCount, 0)


def _build_relay(registry: CollectorRegistry) -> None:
    counts = RelayCounts()
    counts.answered = dict.fromkeys(itertools.starmap(RequestAnswered, itertools.product(Method, Transport)), 1)
    counts.refused = {RequestRefused(method, code, "cause"): 1 for method, code in itertools.product(Method, ErrorCode)}
    counts.dropped = dict.fromkeys((*ParseFault, *NoAnswer), 1)
    counts.created = dict.fromkeys(itertools.product(Transport, _FAMILIES), 1)
    counts.deleted = dict.fromkeys(itertools.product(Transport, _FAMILIES, Ending), 1)
    counts.secrets = {TURN_SECRET_NAME: 1}
    registry.register(RelayMetrics(counts))
    registry.register(RelayCollector(_Relay(), [_Plane()]))


def _build_workers(prefix: str) -> Callable[[CollectorRegistry], None]:
    def build(registry: CollectorRegistry) -> None:
        LoopLag(registry, f"{prefix}_event_loop_lag_seconds")
        registry.register(CrewCollector([Place(0)], prefix))

    return build


def _build_signaling(registry: CollectorRegistry) -> None:
    metrics = SignalingMetrics(registry)
    for operation in (*OperationId, None):
        metrics.count_api_request(operation, 200)
    registry.register(ConnectionCollector(ConnectionLimits(0, 0), 0))


def _build_bus(registry: CollectorRegistry) -> None:
    BusMetrics(registry)


class _Sfu:
    """An SFU, as its collector sees it."""

    rooms = members = max_rooms = max_members = switches = 0
    sessions: Final[Mapping[str, int]] = dict.fromkeys(("connected", "connecting"), 0)

    def __init__(self) -> None:
        self.endings = Counter(itertools.product(Side, (*FailureReason, *Refusal)))

    def engine_counters(self) -> Mapping[str, int]:
        return PyEngine(lambda _datagram, _address: None).counters()

    def port_counters(self) -> Mapping[str, int]:
        names = [f"mux_{count}" for count in MuxCount] + [f"ice_{count}" for count in IceCount]
        return dict.fromkeys((*names, "dtls_dropped"), 0)


def _build_sfu(registry: CollectorRegistry) -> None:
    BandwidthHistogram(registry)
    registry.register(SfuCollector(_Sfu()))


def _build_sfu_workers(registry: CollectorRegistry) -> None:
    SfuWorkersMetrics(registry, lambda: 0)
    _build_workers("redconnect_sfu_worker")(registry)


PARTS: Final = (
    Part(
        "The process",
        "Of the process that serves the admin port; with workers that is their supervisor.",
        _build_process,
    ),
    Part(
        "The host",
        "Read from the kernel, of this network namespace; nothing where the kernel does not count it.",
        _build_host,
    ),
    Part("Relay", "Where `services` names `relay`.", _build_relay),
    Part("Workers of the relay", "With `relay.workers` above 1.", _build_workers("redconnect_worker")),
    Part("Signaling", "Where `services` names `signaling`.", _build_signaling),
    Part("Bus between signaling nodes", "With `signaling.redis_url`.", _build_bus),
    Part("SFU", "Where `services` names `sfu`.", _build_sfu),
    Part("Workers of the SFU", "With `sfu.workers` above 1.", _build_sfu_workers),
)


def every_row() -> Iterator[MetricRow]:
    """The metrics of all parts."""
    return itertools.chain.from_iterable(map(rows, PARTS))


if __name__ == "__main__":
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    sys.stdout.write(table_text())
