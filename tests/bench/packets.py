"""CPU per relayed packet: over UDP, TCP and TLS, as ChannelData and as Send and Data indications.

A flow is left to the kernel once it is busy (docs/decisions/0032-kernel-plane.md), so before anything is measured each
allocation has sent and heard so many packets that it is; coturn's as well. Both servers run all the time with all their
allocations, and each step is measured on one right after the other, and with few allocations right after many: the idle
ones cost nothing, and whatever the machine does meanwhile strikes all.
"""

import contextlib
import statistics
import sys
from collections.abc import Mapping
from typing import Final

from tests.bench.servers import Target, flows_in_kernel, running
from tests.bench.stage import PEER_PORT, Row, Session, Stage, figures, median

UDP_BARS: Final = {8: 0.9, 1: 1.3}  # by packets of a burst
TLS_BARS: Final = {8: 1.8, 1: 1.8}
FLAT_BAR: Final = 1.2  # what a packet costs with the most allocations, to what it costs with the fewest
COUNTS: Final = (100,)  # of allocations, unless told otherwise
FRAMINGS: Final = {"ChannelData": [], "Send/Data": ["--send-indication"]}
_MAX_PEERS: Final = 2000  # sockets of the generator
_DIRECTIONS: Final = ("c2p", "p2c")
_WARMING_PACKETS: Final = 48  # of each flow: more than after which it is left to the kernel, as some may get lost
_WARMING_RATE: Final = 25_000  # packets per second
_LEAST_WARMING_SECONDS: Final = 0.5
_BUSY_SHARE: Final = 0.98  # of the flows that have to be the kernel's before it is measured
_UDP_STEPS: Final = [
    f"{direction},size={size},rate={rate},burst={burst},time=1.5"
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

Collected = Mapping[tuple[str, str, int], list[Row]]  # by step, server and number of allocations


def allocations(count: int) -> list[str]:
    """What the generator is told to have so many allocations, each with a peer of its own while there are enough."""
    return ["--allocs", str(count), "--peer-socks", str(_peers(count))]


def packets(stage: Stage) -> None:
    """CPU per packet over UDP, with few and with many allocations."""
    own = stage.targets[1].cpu_bar
    bars = UDP_BARS if own is None else dict.fromkeys(UDP_BARS, own)
    collected = {framing: _measure(stage, "udp", framing, _UDP_STEPS, stage.counts) for framing in stage.framings}
    for count in stage.counts:
        _print_head(stage, "UDP", count)
        for framing, rows in collected.items():
            _print_costs(stage, "udp", framing, rows, bars, count)
    if len(stage.counts) > 1:
        few, many = stage.counts[0], stage.counts[-1]
        stage.print_head(f"What a packet costs with {many} allocations, to what it costs with {few}", "step", unit="")
        for framing, rows in collected.items():
            _print_growth(stage, framing, rows, few, many)


def streams(stage: Stage) -> None:
    """CPU per packet over TLS and TCP."""
    _print_head(stage, "TLS and TCP", *COUNTS)
    for framing in FRAMINGS:
        rows = _measure(stage, "tls", framing, _STREAM_STEPS, COUNTS)
        _print_costs(stage, "tls", framing, rows, TLS_BARS, *COUNTS)
    rows = _measure(stage, "tcp", "ChannelData", _TCP_STEPS, COUNTS)
    _print_costs(stage, "tcp", "ChannelData", rows, {}, *COUNTS)


def _peers(count: int) -> int:
    return min(count, _MAX_PEERS)


def _measure(stage: Stage, transport: str, framing: str, steps: list[str], counts: tuple[int, ...]) -> Collected:
    """Take each step on each server with each number of allocations, in each round in another order."""
    collected: dict[tuple[str, str, int], list[Row]] = {}
    with contextlib.ExitStack() as stack:
        sessions: list[tuple[Target, int, Session]] = []
        peer_port = PEER_PORT
        for target in stage.targets:
            pids = stack.enter_context(running(stage.lab, target))
            for count in counts:
                extra = [*allocations(count), *FRAMINGS[framing]]
                opening = stage.session(target, pids, extra, transport=transport, peer_port=peer_port)
                sessions.append((target, count, stack.enter_context(opening)))
                peer_port += _peers(count)
        sessions.sort(key=lambda each: each[1])
        if transport == "udp":
            for _, count, session in sessions:
                warm(session, count)
            _check_flows(stage.targets[1], sum(counts))
        for number in range(stage.rounds):
            for step in steps:
                for target, count, session in sessions if number % 2 == 0 else sessions[::-1]:
                    collected.setdefault((step, target.name, count), []).append(session.step(step))
    return collected


def warm(session: Session, count: int) -> None:
    """Make the flows of so many allocations busy, in both directions."""
    seconds = max(_LEAST_WARMING_SECONDS, count * _WARMING_PACKETS / _WARMING_RATE)
    for direction in _DIRECTIONS:
        session.step(f"{direction},size=160,rate={_WARMING_RATE},burst=8,warm=0,time={seconds:.2f}")


def _check_flows(target: Target, count: int) -> None:
    """Refuse to call it the kernel's what user space relays."""
    if target.status is None:
        return
    found, expected = flows_in_kernel(target), count * len(_DIRECTIONS)
    print(f"\n{found} flows of {expected} are the kernel's", flush=True)
    if found < expected * _BUSY_SHARE:
        sys.exit("too few flows have been left to the kernel")


def _print_head(stage: Stage, transports: str, count: int) -> None:
    stage.print_head(
        f"CPU per relayed packet over {transports}, {count} allocations",
        "step",
        unit="µs",
        more="of them in kernel threads µs|generator µs|loss %",
    )


def _print_costs(
    stage: Stage, transport: str, framing: str, collected: Collected, bars: Mapping[int, float], count: int
) -> None:
    for step in _steps_of(collected):
        both = [collected[step, target.name, count] for target in stage.targets]
        reference, ours = (median(rows, "srv_us", "kthr_us") for rows in both)
        ratio = statistics.median(_cpu(own) / _cpu(other) for other, own in zip(*both, strict=True))
        kernel = " / ".join(f"{median(rows, 'kthr_us'):.2f}" for rows in both)
        generator = " / ".join(f"{median(rows, 'gen_us'):.2f}" for rows in both)
        loss = " / ".join(f"{100 * median(rows, 'loss'):.2f}" for rows in both)
        cells = figures(ours, reference, bars.get(both[0][0]["burst"]), ratio=ratio)
        print(f"| {_name(transport, framing, both[0][0])} | {cells} | {kernel} | {generator} | {loss} |", flush=True)


def _print_growth(stage: Stage, framing: str, collected: Collected, few: int, many: int) -> None:
    for step in _steps_of(collected):
        reference, ours = (
            statistics.median(
                _cpu(last) / _cpu(first)
                for first, last in zip(*(collected[step, target.name, count] for count in (few, many)), strict=True)
            )
            for target in stage.targets
        )
        what = _name("udp", framing, collected[step, stage.targets[0].name, few][0])
        print(f"| {what} | {figures(ours, reference, FLAT_BAR, ratio=ours)} |", flush=True)


def _steps_of(collected: Collected) -> list[str]:
    return list(dict.fromkeys(step for step, _, _ in collected))


def _name(transport: str, framing: str, row: Row) -> str:
    return f"{transport.upper()} {framing} {row['dir']} {row['size']} B, {_bursts(row['burst'])}"


def _cpu(row: Row) -> float:
    return float(row["srv_us"]) + float(row["kthr_us"])


def _bursts(count: int) -> str:
    return "singly" if count == 1 else f"bursts of {count}"
