"""How many packets a core relays without loss, and what the relay adds to their time at half of that load.

Half load is half of the lower of the two servers' lossless rates: both carry the same load, and neither is near its
limit. What the lab itself takes is the median on the direct path through the same namespaces; it is subtracted from
both percentiles, because the difference of two 99th percentiles would be no percentile of anything.

A shared machine takes its CPU away for milliseconds, and that only ever adds to a latency. So each percentile is that
of 50 ms of sending, of which a repetition gives the median, and of the repetitions the lower quartile is taken; for
both servers and the direct path alike. A server that stalls less often than once in 100 ms could hide behind this: the
whole repetition's 99th percentile, which the machine dominates, is printed beside it.
"""

import contextlib
import statistics
from typing import Final

from tests.bench.packets import COUNTS, allocations
from tests.bench.servers import running
from tests.bench.stage import Row, Stage, figures, median

P99_BAR: Final = 1.3
ALLOCATIONS: Final = allocations(*COUNTS)
_LATENCY_SECONDS: Final = 1
_REPETITIONS: Final = 6  # in each round
_STEPS: Final = (("c2p", 160), ("p2c", 160), ("c2p", 1100), ("p2c", 1100))
_FINEST_MICROSECONDS: Final = 0.1  # what is added is never nothing, and a ratio needs a divisor
_FIRST_RATE: Final = 16_000  # packets per second at which the search begins


def rate(stage: Stage) -> None:
    """The highest rate without loss, found by doubling and halving; the server and its interfaces have one CPU."""
    _search(stage)
    _print_rates(stage)


def latency(stage: Stage) -> None:
    """Added one-way latency of ChannelData at half load, by the kernel's time stamps at the receiver."""
    if not stage.lossless:
        rate(stage)
    stage.print_head(
        "Added one-way latency at half load, ChannelData",
        "step",
        unit="µs",
        more="direct path µs|whole repetition µs|loss %",
    )
    for direction, size in _STEPS:
        load = min(median(stage.lossless[target.name, direction, size], "rate") for target in stage.targets) / 2
        _print_latency(stage, direction, size, load)


def _search(stage: Stage) -> None:
    steps = [f"{direction},search,size={size},from={_FIRST_RATE},time=0.8" for direction, size in _STEPS]
    with stage.generator_apart():
        for target in stage.interleaved():
            with running(stage.lab, target) as pids:
                for row in stage.turnbench(target, pids, ALLOCATIONS, steps):
                    if row["kind"].startswith("max"):
                        stage.lossless.setdefault((target.name, row["dir"], row["size"]), []).append(row)


def _print_rates(stage: Stage) -> None:
    title = "Lossless packets per second and core, ChannelData, singly"
    stage.print_head(title, "step", unit="", more="limited by the generator")
    for direction, size in _STEPS:
        both = [stage.lossless[target.name, direction, size] for target in stage.targets]
        reference, ours = (median(rows, "rate") for rows in both)
        limited = " / ".join("yes" if any("generator" in row["kind"] for row in rows) else "no" for rows in both)
        print(f"| {direction} {size} B | {figures(ours, reference, None, 0)} | {limited} |", flush=True)


def _print_latency(stage: Stage, direction: str, size: int, load: float) -> None:
    step = f"{direction},size={size},rate={load:.0f},time={_LATENCY_SECONDS}"
    collected: dict[str, list[Row]] = {target.name: [] for target in stage.targets}
    direct: list[Row] = []
    with stage.generator_apart(), contextlib.ExitStack() as stack:
        family = {target.name: stack.enter_context(running(stage.lab, target)) for target in stage.targets}
        for number in range(stage.rounds * _REPETITIONS):
            for target in stage.in_order(number):
                rows = stage.turnbench(target, family[target.name], ALLOCATIONS, [step])
                collected[target.name].append(rows[-1])
            direct.append(_direct(stage, step))
    both = list(collected.values())
    loss = " / ".join(f"{100 * _calm(rows, 'loss'):.3f}" for rows in both)
    floor = _calm(direct, "w50")
    for name, window, bar in (("p50", "w50", None), ("p99", "w99", P99_BAR)):
        reference, ours = (max(_FINEST_MICROSECONDS, _calm(rows, window) - floor) for rows in both)
        whole = " / ".join(f"{_calm(rows, name) - floor:.1f}" for rows in both)
        what = f"{direction} {size} B at {load:.0f} per s, {name}"
        cells = [what, figures(ours, reference, bar, 1), f"{_calm(direct, window):.1f}", whole, loss]
        print(f"| {' | '.join(cells)} |", flush=True)


def _calm(rows: list[Row], key: str) -> float:
    """The lower quartile over the repetitions: what the machine did beside them only ever adds."""
    return statistics.quantiles((float(row[key]) for row in rows), n=4)[0]


def _direct(stage: Stage, step: str) -> Row:
    """The same load without a relay: the server's namespace forwards."""
    with stage.forwarding():
        return stage.turnbench(stage.targets[0], [], [*ALLOCATIONS, "--direct"], [step])[-1]
