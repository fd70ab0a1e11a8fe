"""What a load test must have shown: thresholds, and whether the figures can be believed at all. Pure."""

from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Final, NamedTuple

BUSY_SHARE: Final = 0.8  # of one core: a generator that takes more measures itself
LATE_MS: Final = 50.0  # by which a timer of the generator may be late, 95 of 100 times


class Verdict(IntEnum):
    """The exit status of a load test."""

    HELD = 0
    BREACHED = 1
    UNRELIABLE = 3  # 2 is a wrong command line


class Row(NamedTuple):
    """One line of Locust's statistics; times in milliseconds."""

    kind: str  # what Locust calls the request type
    name: str
    requests: int
    failures: int
    p50: float
    p95: float
    p99: float


class Threshold(NamedTuple):
    """What every row of a kind is held to."""

    failure_share: float  # at most
    p95_ms: float  # at most


class Generator(NamedTuple):
    """How busy the process was that made the load."""

    cpu_share: float  # of one core
    late_p95_ms: float  # of a timer
    skipped_ticks: int  # of media that was not sent in time, and hence not at all


def breaches(
    rows: Iterable[Row], thresholds: Mapping[str, Threshold], expected: Iterable[str], *, latency: bool = True
) -> list[str]:
    """What is not as it must be, one sentence each.

    Args:
        rows: the statistics.
        thresholds: by kind; a row of another kind is a breach, because nobody would look at it.
        expected: names of rows that must be there: a run that never came to them has shown nothing.
        latency: whether latencies are judged, too. Not where others use the machine.
    """
    found: list[str] = []
    seen: set[str] = set()
    for row in rows:
        seen.add(row.name)
        where = f"{row.kind} {row.name}"
        threshold = thresholds.get(row.kind)
        if threshold is None:
            found.append(f"{where}: nothing says what it is held to")
            continue
        share = row.failures / row.requests if row.requests else 1.0
        if share > threshold.failure_share:
            found.append(f"{where}: {share:.2%} failed, at most {threshold.failure_share:.2%} may")
        if latency and row.p95 > threshold.p95_ms:
            found.append(f"{where}: p95 is {row.p95:.0f} ms, at most {threshold.p95_ms:.0f} ms may be")
    found += [f"{name}: has not happened" for name in expected if name not in seen]
    return found


def doubts(generator: Generator) -> list[str]:
    """Why the generator, and not the service, may be what was measured; one sentence each."""
    found = []
    if generator.cpu_share > BUSY_SHARE:
        found.append(f"the generator took {generator.cpu_share:.0%} of a core, at most {BUSY_SHARE:.0%} may be")
    if generator.late_p95_ms > LATE_MS:
        found.append(f"timers of the generator were {generator.late_p95_ms:.0f} ms late (p95), at most {LATE_MS:.0f}")
    return found


def verdict(found: list[str], doubted: list[str], *, latency: bool = True) -> Verdict:
    """The exit status. Without latencies a late generator is no reason to doubt what failed and what did not."""
    if latency and doubted:
        return Verdict.UNRELIABLE
    return Verdict.BREACHED if found else Verdict.HELD
