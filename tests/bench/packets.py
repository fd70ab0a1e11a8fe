"""CPU per relayed packet: over UDP, TCP and TLS, as ChannelData and as Send and Data indications."""

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
    collected: dict[tuple[int, str], list[Row]] = {}
    for target in stage.interleaved():
        with running(stage.lab, target) as pids:
            rows = stage.turnbench(target, pids, [*ALLOCATIONS, *_FRAMINGS[framing]], steps, transport)
        for at, row in enumerate(row for row in rows if row["kind"] == "rate"):
            collected.setdefault((at, target.name), []).append(row)
    for at in range(len(steps)):
        both = [collected[at, target.name] for target in stage.targets]
        first = both[0][0]
        step = f"{transport.upper()} {framing} {first['dir']} {first['size']} B, {_bursts(first['burst'])}"
        reference, ours = (median(rows, "srv_us", "kthr_us") for rows in both)
        kernel = " / ".join(f"{median(rows, 'kthr_us'):.2f}" for rows in both)
        generator = " / ".join(f"{median(rows, 'gen_us'):.2f}" for rows in both)
        loss = " / ".join(f"{100 * median(rows, 'loss'):.2f}" for rows in both)
        print(f"| {step} | {figures(ours, reference, bar)} | {kernel} | {generator} | {loss} |", flush=True)


def _bursts(count: int) -> str:
    return "singly" if count == 1 else f"bursts of {count}"
