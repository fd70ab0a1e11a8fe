"""CPU per relayed packet: over UDP, TCP and TLS, as ChannelData and as Send and Data indications."""

import contextlib
import statistics
from typing import Final

from tests.bench.servers import running
from tests.bench.stage import Row, Stage, figures, median

UDP_BARS: Final = {8: 0.9, 1: 1.3}  # by packets of a burst
TLS_BARS: Final = {8: 1.8, 1: 1.8}
FLAT_BAR: Final = 1.2  # what a packet costs with the most allocations, to what it costs with the fewest
COUNTS: Final = (100,)  # of allocations, unless told otherwise
_MAX_PEERS: Final = 2000  # sockets of the generator
_DIRECTIONS: Final = ("c2p", "p2c")
_FRAMINGS: Final = {"ChannelData": [], "Send/Data": ["--send-indication"]}
_UDP_STEPS: Final = [
    f"{direction},size={size},rate={rate},burst={burst},time=2"
    for size, rate, burst in ((1100, 16000, 8), (1100, 10000, 1), (160, 16000, 8), (160, 10000, 1))
    for direction in _DIRECTIONS
]
# A stream costs more than a datagram; half the rate leaves room on the shared CPU.
_STREAM_STEPS: Final = [
    f"{direction},size={size},rate={rate},burst={burst},time=2,rxpoll=1000"
    for size, rate, burst in ((1100, 8000, 8), (1100, 5000, 1), (160, 8000, 8), (160, 5000, 1))
    for direction in _DIRECTIONS
]
_TCP_STEPS: Final = [step for step in _STREAM_STEPS if "size=1100,rate=8000" in step]


def allocations(count: int) -> list[str]:
    """What the generator is told to have so many allocations, each with a peer of its own while there are enough."""
    return ["--allocs", str(count), "--peer-socks", str(min(count, _MAX_PEERS))]


def packets(stage: Stage) -> None:
    """CPU per packet over UDP, with few and with many allocations."""
    own = stage.targets[1].cpu_bar
    bars = UDP_BARS if own is None else dict.fromkeys(UDP_BARS, own)
    costs: dict[str, list[tuple[float, float]]] = {}  # by step: the reference's and ours, for each count
    for count in stage.counts:
        _print_head(stage, "UDP", count)
        for framing in _FRAMINGS:
            for what, both in _measure(stage, "udp", framing, _UDP_STEPS, bars, count).items():
                costs.setdefault(what, []).append(both)
    if len(stage.counts) > 1:
        _print_growth(stage, costs)


def streams(stage: Stage) -> None:
    """CPU per packet over TLS and TCP."""
    _print_head(stage, "TLS and TCP", *COUNTS)
    for framing in _FRAMINGS:
        _measure(stage, "tls", framing, _STREAM_STEPS, TLS_BARS, *COUNTS)
    _measure(stage, "tcp", "ChannelData", _TCP_STEPS, {}, *COUNTS)


def _print_head(stage: Stage, transports: str, count: int) -> None:
    stage.print_head(
        f"CPU per relayed packet over {transports}, {count} allocations",
        "step",
        unit="µs",
        more="of them in kernel threads µs|generator µs|loss %",
    )


def _print_growth(stage: Stage, costs: dict[str, list[tuple[float, float]]]) -> None:
    few, many = stage.counts[0], stage.counts[-1]
    stage.print_head(f"What a packet costs with {many} allocations, to what it costs with {few}", "step", unit="")
    for what, measured in costs.items():
        reference, ours = (last / first for first, last in zip(measured[0], measured[-1], strict=True))
        print(f"| {what} | {figures(ours, reference, FLAT_BAR, ratio=ours)} |", flush=True)


def _measure(
    stage: Stage, transport: str, framing: str, steps: list[str], bars: dict[int, float], count: int
) -> dict[str, tuple[float, float]]:
    """Print a row for each step; returns what a packet costs, by its name."""
    collected: dict[tuple[str, str], list[Row]] = {}
    # Both run all the time, and each step is measured on one right after the other: the idle one costs nothing, and
    # whatever the machine does meanwhile strikes both.
    with contextlib.ExitStack() as stack:
        family = {target.name: stack.enter_context(running(stage.lab, target)) for target in stage.targets}
        for number in range(stage.rounds):
            for step in steps:
                for target in stage.in_order(number):
                    extra = [*allocations(count), *_FRAMINGS[framing]]
                    rows = stage.turnbench(target, family[target.name], extra, [step], transport)
                    collected.setdefault((step, target.name), []).append(rows[-1])
    costs: dict[str, tuple[float, float]] = {}
    for step in steps:
        both = [collected[step, target.name] for target in stage.targets]
        first = both[0][0]
        what = f"{transport.upper()} {framing} {first['dir']} {first['size']} B, {_bursts(first['burst'])}"
        reference, ours = (median(rows, "srv_us", "kthr_us") for rows in both)
        ratio = statistics.median(_cpu(own) / _cpu(other) for other, own in zip(*both, strict=True))
        kernel = " / ".join(f"{median(rows, 'kthr_us'):.2f}" for rows in both)
        generator = " / ".join(f"{median(rows, 'gen_us'):.2f}" for rows in both)
        loss = " / ".join(f"{100 * median(rows, 'loss'):.2f}" for rows in both)
        cells = figures(ours, reference, bars.get(first["burst"]), ratio=ratio)
        print(f"| {what} | {cells} | {kernel} | {generator} | {loss} |", flush=True)
        costs[what] = reference, ours
    return costs


def _cpu(row: Row) -> float:
    return float(row["srv_us"]) + float(row["kthr_us"])


def _bursts(count: int) -> str:
    return "singly" if count == 1 else f"bursts of {count}"
