"""Start-up, STUN Binding, whole allocation life cycles, and allocations per second."""

import statistics
import time
from typing import Final

from tests.bench.servers import resident_kib, running
from tests.bench.stage import Row, Stage, figures, median

LIFE_CYCLE_BAR: Final = 1.0
_KEPT: Final = 2000  # allocations made in a row


def start(stage: Stage) -> None:
    """Time from exec to the first answered Binding request, and memory then."""
    times: dict[str, list[float]] = {}
    sizes: dict[str, list[float]] = {}
    for target in stage.interleaved():
        begun = time.monotonic()
        with running(stage.lab, target) as pids:
            times.setdefault(target.name, []).append((time.monotonic() - begun) * 1000)
            sizes.setdefault(target.name, []).append(resident_kib(pids) / 1024)
    stage.print_head("Start and memory at rest", "what", unit="")
    for what, measured in (("start to first answer, ms", times), ("resident memory, MiB", sizes)):
        reference, ours = (statistics.median(measured[target.name]) for target in stage.targets)
        print(f"| {what} | {figures(ours, reference, None, 1)} |", flush=True)


def control(stage: Stage) -> None:
    """CPU of Binding requests and of whole allocation life cycles."""
    stage.print_head("Control plane, CPU of one", "what", unit="µs", more="per s and core|failed")
    cycle = "life cycle: 401, Allocate, CreatePermission, ChannelBind, Refresh 0"
    for step, what, extra, bar in (
        ("bind,time=2", "STUN Binding", ["--allocs", "32"], None),
        ("cycle,time=2", cycle, ["--allocs", "1"], LIFE_CYCLE_BAR),
    ):
        rows = _collect(stage, extra, step)
        cpu = [median(both, "srv_us", "kthr_us") for both in rows]
        per_second = " / ".join(f"{1e6 / each:.0f}" for each in cpu)
        failed = " / ".join(f"{median(both, 'fail'):.0f}" for both in rows)
        print(f"| {what} | {figures(cpu[1], cpu[0], bar)} | {per_second} | {failed} |", flush=True)


def allocations(stage: Stage) -> None:
    """Allocations that stay: 401 and Allocate, then no more."""
    rows = _collect(stage, ["--allocs", str(_KEPT), "--bare", "--conc", "8"], "hold,time=0")
    stage.print_head(f"Allocations: {_KEPT} of them, 401 and Allocate each", "what", unit="")
    reference, ours = (median(both, "srv_us", "kthr_us") for both in rows)
    print(f"| CPU of one, µs | {figures(ours, reference, None, 1)} |")
    reference, ours = (1e6 / median(both, "srv_us", "kthr_us") for both in rows)
    print(f"| per s and core | {figures(ours, reference, None, 0)} |")
    reference, ours = (median([{"per_s": row["ok"] / row["secs"]} for row in both], "per_s") for both in rows)
    print(f"| per s with the clients on the same CPU | {figures(ours, reference, None, 0)} |", flush=True)


def _collect(stage: Stage, extra: list[str], step: str) -> list[list[Row]]:
    """One row of each round, of the reference and of ours."""
    collected: dict[str, list[Row]] = {target.name: [] for target in stage.targets}
    for target in stage.interleaved():
        with running(stage.lab, target) as pids:
            collected[target.name].append(stage.turnbench(target, pids, extra, [step])[0])
    return list(collected.values())
