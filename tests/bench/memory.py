"""Resident memory with no, a thousand and ten thousand allocations, each with a permission and a channel."""

import statistics
from typing import Final

from tests.bench.servers import running
from tests.bench.stage import Stage, figures

BAR_KIB: Final = 12.0  # per idle allocation; the only bar that is no ratio
_STEPS: Final = (1_000, 10_000)
_PEERS: Final = "1000"


def memory(stage: Stage) -> None:
    """Memory at rest, and what an allocation adds."""
    rest: dict[str, list[float]] = {}
    full: dict[tuple[str, int], list[float]] = {}
    for target in stage.interleaved():
        for count in _STEPS:
            with running(stage.lab, target) as pids:
                extra = ["--allocs", str(count), "--peer-socks", _PEERS]
                setup = stage.turnbench(target, pids, extra, ["hold,time=0"])[0]
            rest.setdefault(target.name, []).append(setup["rss_before_kb"])
            full.setdefault((target.name, count), []).append(setup["rss_kb"])
    reference, ours = (
        [statistics.median(rest[target.name]), *(statistics.median(full[target.name, count]) for count in _STEPS)]
        for target in stage.targets
    )
    stage.print_head("Resident memory", "what", unit="KiB")
    for at, count in enumerate((0, *_STEPS)):
        print(f"| {count} allocations | {figures(ours[at], reference[at], None, 0)} |")
    counts = (0, *_STEPS)
    for low, high in ((0, 1), (1, 2), (0, 2)):
        each = [(sizes[high] - sizes[low]) / (counts[high] - counts[low]) for sizes in (reference, ours)]
        met = "yes" if each[1] <= BAR_KIB else "no"
        cells = f"{each[0]:.2f} | {each[1]:.2f} | {each[1] / each[0]:.2f} | ≤ {BAR_KIB:.0f} KiB | {met}"
        print(f"| each, from {counts[low]} to {counts[high]} | {cells} |", flush=True)
