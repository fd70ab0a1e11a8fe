"""How long a packet takes to the peer and back, when there is hardly any load."""

import contextlib
import statistics
from typing import Final

from tests.bench.packets import allocations
from tests.bench.servers import running
from tests.bench.stage import Row, Stage, figures

BAR: Final = 0.5  # of the kernel plane; user space pays for the same wake-ups as the reference
_DIRECTIONS: Final = ("c2p", "p2c")
_RATE: Final = 1000  # packets per second: each finds everybody asleep
_REPETITIONS: Final = 4  # in each round
_SIZES: Final = (160, 1100)
_ALLOCATION: Final = allocations(1)  # which is busy almost from the start


def round_trip(stage: Stage) -> None:
    """The sum of both one-way medians, by the kernel's time stamps at the receivers."""
    stage.print_head(f"Round trip at {_RATE} packets per second, ChannelData, p50", "step", unit="µs")
    for size in _SIZES:
        collected = _measure(stage, size)
        reference, ours = (sum(map(_median, collected[target.name])) for target in stage.targets)
        bar = None if stage.targets[1].cpu_bar is None else BAR
        print(f"| {size} B | {figures(ours, reference, bar, 1)} |", flush=True)


def _measure(stage: Stage, size: int) -> dict[str, list[list[Row]]]:
    """The rows of each target by direction; both servers run all the time, and take turns."""
    collected: dict[str, list[list[Row]]] = {target.name: [[] for _ in _DIRECTIONS] for target in stage.targets}
    with stage.generator_apart(), contextlib.ExitStack() as stack:
        family = {target.name: stack.enter_context(running(stage.lab, target)) for target in stage.targets}
        for number in range(stage.rounds * _REPETITIONS):
            for target in stage.in_order(number):
                for rows, direction in zip(collected[target.name], _DIRECTIONS, strict=True):
                    step = f"{direction},size={size},rate={_RATE},time=1"
                    rows.append(stage.turnbench(target, family[target.name], _ALLOCATION, [step])[-1])
    return collected


def _median(rows: list[Row]) -> float:
    return statistics.median(float(row["p50"]) for row in rows)
