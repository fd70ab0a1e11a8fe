"""How many packets a core relays without loss, and what the relay adds to their time at half of that load.

Half load is half of the lower of the two servers' lossless rates: both carry the same load, and neither is near its
limit. What the lab itself takes is measured on the direct path through the same namespaces and subtracted.
"""

from typing import Final

from tests.bench.packets import ALLOCATIONS
from tests.bench.servers import Target, running
from tests.bench.stage import Row, Stage, figures, median

P99_BAR: Final = 1.3
_LATENCY_SECONDS: Final = 4
_SIZES: Final = (160, 1100)
_DIRECTIONS: Final = ("c2p", "p2c")
_FIRST_RATE: Final = 8000  # packets per second at which the search begins


def rate(stage: Stage) -> None:
    """The highest rate without loss, found by doubling and halving; the server and its interfaces have one CPU."""
    _print_rates(stage, _lossless(stage))


def latency(stage: Stage) -> None:
    """Added one-way latency of ChannelData at half load, kernel's time stamps at the receiver."""
    found = _lossless(stage)
    _print_rates(stage, found)
    stage.print_head("Added one-way latency at half load, ChannelData", "step", unit="µs", more="direct path µs|loss %")
    for size in _SIZES:
        for direction in _DIRECTIONS:
            lossless = [median(found[target.name, direction, size], "rate") for target in stage.targets]
            load = min(lossless) / 2
            _print_latency(stage, direction, size, load)


def _lossless(stage: Stage) -> dict[tuple[str, str, int], list[Row]]:
    found: dict[tuple[str, str, int], list[Row]] = {}
    steps = [
        f"{direction},search,size={size},from={_FIRST_RATE},time=0.8" for size in _SIZES for direction in _DIRECTIONS
    ]
    with stage.generator_apart():
        for target in stage.interleaved():
            with running(stage.lab, target) as pids:
                for row in stage.turnbench(target, pids, ALLOCATIONS, steps):
                    if row["kind"].startswith("max"):
                        found.setdefault((target.name, row["dir"], row["size"]), []).append(row)
    return found


def _print_rates(stage: Stage, found: dict[tuple[str, str, int], list[Row]]) -> None:
    stage.print_head(
        "Lossless packets per second and core, ChannelData", "step", unit="", more="limited by the generator"
    )
    for size in _SIZES:
        for direction in _DIRECTIONS:
            both = [found[target.name, direction, size] for target in stage.targets]
            reference, ours = (median(rows, "rate") for rows in both)
            limited = " / ".join("yes" if any("generator" in row["kind"] for row in rows) else "no" for rows in both)
            print(f"| {direction} {size} B | {figures(ours, reference, None, 0)} | {limited} |", flush=True)


def _print_latency(stage: Stage, direction: str, size: int, load: float) -> None:
    step = f"{direction},size={size},rate={load:.0f},time={_LATENCY_SECONDS}"
    collected: dict[str, list[Row]] = {target.name: [] for target in stage.targets}
    direct: list[Row] = []
    with stage.generator_apart():
        for target in stage.interleaved():
            with running(stage.lab, target) as pids:
                collected[target.name].append(_last(stage, target, pids, ALLOCATIONS, step))
            direct.append(_direct(stage, step))
    both = list(collected.values())
    loss = " / ".join(f"{100 * median(rows, 'loss'):.3f}" for rows in both)
    for name, bar in (("p50", None), ("p99", P99_BAR)):
        floor = median(direct, name)
        reference, ours = (median(rows, name) - floor for rows in both)
        what = f"{direction} {size} B at {load:.0f} per s, {name}"
        print(f"| {what} | {figures(ours, reference, bar, 1)} | {floor:.1f} | {loss} |", flush=True)


def _direct(stage: Stage, step: str) -> Row:
    """The same load without a relay: the server's namespace forwards."""
    lab = stage.lab
    lab.run(lab.server, "sysctl", "-qw", "net.ipv4.ip_forward=1")
    try:
        return _last(stage, stage.targets[0], [], [*ALLOCATIONS, "--direct"], step)
    finally:
        lab.run(lab.server, "sysctl", "-qw", "net.ipv4.ip_forward=0")


def _last(stage: Stage, target: Target, pids: list[int], extra: list[str], step: str) -> Row:
    return stage.turnbench(target, pids, extra, [step])[-1]
