"""Metrics of several workers as those of one relay: written to JSON, added up, and never going down."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric

# Of these gauges the largest counts; all others are amounts, and add up. A gauge in seconds is an age, a lag or an
# instant; an `_info` or a `_draining` is 0 or 1; a ratio of all is not the sum of ratios.
_LARGEST: Final = ("_seconds", "_info", "_draining", "_ratio", "_max")
_SMALLEST: Final = "_expiry_timestamp_seconds"  # whose certificate ends first is what an operator must know
_OF_THE_HOST: Final = "redconnect_host_"  # what every worker reads from the same kernel
MAX_SERIES: Final = 20_000  # of one worker: some hundred, and what labels make of them
_ADDED_UP: Final = frozenset({"counter", "histogram", "summary"})  # what only grows while a process lives

Labels = tuple[tuple[str, str], ...]
Series = dict[tuple[str, Labels], float]  # by the sample's name and its labels


class Family(NamedTuple):
    """A metric with its samples."""

    kind: str
    documentation: str
    series: Series


Snapshot = Mapping[str, Family]  # by the metric's name


def take_snapshot(registry: CollectorRegistry) -> Snapshot:
    """What a registry shows now."""
    return {
        metric.name: Family(
            metric.type,
            metric.documentation,
            {(sample.name, tuple(sample.labels.items())): sample.value for sample in metric.samples},
        )
        for metric in registry.collect()
    }


def encode_snapshot(snapshot: Snapshot) -> list[Any]:
    """The snapshot as JSON values."""
    return [
        [name, kind, text, [[sample, dict(labels), value] for (sample, labels), value in series.items()]]
        for name, (kind, text, series) in snapshot.items()
    ]


def decode_snapshot(values: Iterable[Any]) -> Snapshot:
    """Read what `encode_snapshot` wrote.

    Raises:
        TypeError, ValueError, AttributeError, OverflowError: it is something else, or more than `MAX_SERIES`.
    """
    snapshot = {_text(name): _family(kind, text, samples) for name, kind, text, samples in values}
    if sum(len(family.series) for family in snapshot.values()) > MAX_SERIES:
        raise ValueError("too many series")
    return snapshot


def _family(kind: object, text: object, samples: Iterable[Any]) -> Family:
    series = {
        (_text(sample), tuple((_text(name), _text(value)) for name, value in labels.items())): float(amount)
        for sample, labels, amount in samples
    }
    return Family(_text(kind), _text(text), series)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def keep_counted(snapshot: Snapshot) -> Snapshot:
    """What stays true of a worker that has ended: its counters and histograms."""
    return {name: family for name, family in snapshot.items() if family.kind in _ADDED_UP}


def add_up(snapshots: Iterable[Snapshot]) -> Snapshot:
    """The metrics of all."""
    total: dict[str, Family] = {}
    for snapshot in snapshots:
        for name, family in snapshot.items():
            known = total.setdefault(name, Family(family.kind, family.documentation, {}))
            is_amount = family.kind in _ADDED_UP or not name.endswith(_LARGEST)
            takes_largest = name.startswith(_OF_THE_HOST) or not is_amount
            for key, value in family.series.items():
                if key not in known.series:
                    known.series[key] = value
                elif name.endswith(_SMALLEST):
                    known.series[key] = min(known.series[key], value)
                elif takes_largest:
                    known.series[key] = max(known.series[key], value)
                else:
                    known.series[key] += value
    return total


def to_metrics(snapshot: Snapshot) -> Iterable[Metric]:
    """The snapshot as a collector yields it."""
    for name, (kind, text, series) in snapshot.items():
        metric = Metric(name, text, kind)
        for (sample, labels), value in series.items():
            metric.add_sample(sample, dict(labels), value)
        yield metric
