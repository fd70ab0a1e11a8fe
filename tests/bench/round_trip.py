"""How long a packet takes to the peer and back, when there is hardly any load, and how much of that is the lab's own.

The floor is the same way without a relay: the kernel in the server's namespace forwards between its two interfaces.
Receive processing happens in three places, one after the other:

- in threads of the kernel, as everywhere else in this bench: each hop waits for a thread to be woken;
- in interrupts, each end on the CPU where a network card of its own would interrupt (RPS): each hop waits for a CPU;
- where the packet was sent, as veth does by itself: no hop waits, but the server in user space has to be woken.

A shared machine only ever adds, so of the repetitions the lower quartile is taken, for both servers and the floor.
"""

import contextlib
import statistics
from typing import Final

from tests.bench.packets import allocations, warm
from tests.bench.servers import running
from tests.bench.stage import PEER_PORT, Session, Stage, figures

BAR: Final = 0.5  # of the kernel plane; user space pays for the same wake-ups as the reference
_DIRECTIONS: Final = ("c2p", "p2c")
_RATE: Final = 1000  # packets per second: each finds everybody asleep
_REPETITIONS: Final = 8  # in each round
_SIZES: Final = (160, 1100)
_FLOOR: Final = "floor"
_COUNT: Final = 1  # of allocations


def round_trip(stage: Stage) -> None:
    """The sum of both one-way medians, by the kernel's time stamps at the receivers."""
    more = "floor µs|beyond the floor µs"
    stage.print_head(f"Round trip at {_RATE} packets per second, ChannelData, p50", "step", unit="µs", more=more)
    bar = None if stage.targets[1].cpu_bar is None else BAR
    placements: dict[str, contextlib.AbstractContextManager[None]] = {
        "in kernel threads": contextlib.nullcontext(),
        "in interrupts": stage.interrupted(handed_over=True),
        "where it was sent": stage.interrupted(handed_over=False),
    }
    for where, placed in placements.items():
        with placed:
            for size in _SIZES:
                found = _measure(stage, size)
                reference, ours = (found[target.name] for target in stage.targets)
                floor = found[_FLOOR]
                rest = f"{floor:.1f} | {reference - floor:.1f} / {ours - floor:.1f}"
                print(f"| {size} B, received {where} | {figures(ours, reference, bar, 1)} | {rest} |", flush=True)


def _measure(stage: Stage, size: int) -> dict[str, float]:
    """The lower quartile over the repetitions by server, and of the floor; they take turns."""
    collected: dict[str, list[float]] = {}
    with stage.generator_apart(), contextlib.ExitStack() as stack:
        sessions: dict[str, Session] = {}
        for number, target in enumerate(stage.targets):
            pids = stack.enter_context(running(stage.lab, target))
            opening = stage.session(target, pids, allocations(_COUNT), peer_port=PEER_PORT + number)
            sessions[target.name] = stack.enter_context(opening)
            warm(sessions[target.name], _COUNT)
        stack.enter_context(stage.forwarding())
        opening = stage.session(stage.targets[0], [], [*allocations(_COUNT), "--direct"], peer_port=PEER_PORT + 2)
        sessions[_FLOOR] = stack.enter_context(opening)
        for number in range(stage.rounds * _REPETITIONS):
            for name, session in list(sessions.items())[:: 1 if number % 2 == 0 else -1]:
                steps = (session.step(f"{way},size={size},rate={_RATE},warm=0.1,time=0.4") for way in _DIRECTIONS)
                collected.setdefault(name, []).append(sum(float(row["p50"]) for row in steps))
    return {name: statistics.quantiles(sums, n=4)[0] for name, sums in collected.items()}
