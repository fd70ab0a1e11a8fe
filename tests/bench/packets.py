"""CPU per relayed packet: over UDP, TCP and TLS, as ChannelData and as Send and Data indications."""

import contextlib
import statistics
from typing import Final

from tests.bench.servers import running
from tests.bench.stage import Row, Stage, figures, median

UDP_BAR: Final = 1.5
TLS_BAR: Final = 1.8
ALLOCATIONS: Final = ["--allocs", "100", "--peer-socks", "100"]
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


def packets(stage: Stage) -> None:
    """CPU per packet over UDP."""
    _print_head(stage, "UDP")
    for framing in _FRAMINGS:
        _measure(stage, "udp", framing, _UDP_STEPS, UDP_BAR)


def streams(stage: Stage) -> None:
    """CPU per packet over TLS and TCP."""
    _print_head(stage, "TLS and TCP")
    for framing in _FRAMINGS:
        _measure(stage, "tls", framing, _STREAM_STEPS, TLS_BAR)
    _measure(stage, "tcp", "ChannelData", _TCP_STEPS, None)


def _print_head(stage: Stage, transports: str) -> None:
    stage.print_head(
        f"CPU per relayed packet over {transports}, 100 allocations",
        "step",
        unit="µs",
        more="of them in kernel threads µs|generator µs|loss %",
    )


def _measure(stage: Stage, transport: str, framing: str, steps: list[str], bar: float | None) -> None:
    collected: dict[tuple[str, str], list[Row]] = {}
    # Both run all the time, and each step is measured on one right after the other: the idle one costs nothing, and
    # whatever the machine does meanwhile strikes both.
    with contextlib.ExitStack() as stack:
        family = {target.name: stack.enter_context(running(stage.lab, target)) for target in stage.targets}
        for number in range(stage.rounds):
            for step in steps:
                for target in stage.in_order(number):
                    extra = [*ALLOCATIONS, *_FRAMINGS[framing]]
                    rows = stage.turnbench(target, family[target.name], extra, [step], transport)
                    collected.setdefault((step, target.name), []).append(rows[-1])
    for step in steps:
        both = [collected[step, target.name] for target in stage.targets]
        first = both[0][0]
        what = f"{transport.upper()} {framing} {first['dir']} {first['size']} B, {_bursts(first['burst'])}"
        reference, ours = (median(rows, "srv_us", "kthr_us") for rows in both)
        ratio = statistics.median(_cpu(own) / _cpu(other) for other, own in zip(*both, strict=True))
        kernel = " / ".join(f"{median(rows, 'kthr_us'):.2f}" for rows in both)
        generator = " / ".join(f"{median(rows, 'gen_us'):.2f}" for rows in both)
        loss = " / ".join(f"{100 * median(rows, 'loss'):.2f}" for rows in both)
        cells = figures(ours, reference, bar, ratio=ratio)
        print(f"| {what} | {cells} | {kernel} | {generator} | {loss} |", flush=True)


def _cpu(row: Row) -> float:
    return float(row["srv_us"]) + float(row["kthr_us"])


def _bursts(count: int) -> str:
    return "singly" if count == 1 else f"bursts of {count}"
