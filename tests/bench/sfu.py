"""Figures of our SFU beside Debian's Janus (videoroom), measured in the same run with the same generator.

    make bench-sfu                               # three rounds, some seven minutes
    .venv/bin/python -m tests.bench.sfu --rounds 1 --only "one by one"

Two namespaces joined by veth. The server and the threaded receive processing of its interface have one CPU under
real-time scheduling, the generator (`loadtest/sfubench`) and its interface the other. CPU per packet = run time of the
server's threads plus that of its interface's kernel thread, divided by the packets that subscribers received. All
servers are measured in each round, in an order that turns; compare the ratios, not the figures.
"""

import argparse
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from config import native
from tests.bench import sfu_janus
from tests.bench.servers import ROOT, SERVER_CPU, START_SECONDS, STOP_SECONDS
from tests.bench.sfu_clients import Client, Peer
from tests.bench.stage import GENERATOR_CPU, pin_receiving
from tests.support.lab import Lab, open_lab

SFUBENCH: Final = ROOT / "loadtest" / "sfubench"
PUBLISHERS: Final = 4
SUBSCRIBERS: Final = 10  # of everything: with 250 + 50 packets a second of each publisher 12,000 leave
SECONDS: Final = 3
WARMUP_SECONDS: Final = 3
BAR: Final = 1.2  # times the CPU of Janus with one event loop
OURS: Final = "redconnect"
REFERENCE: Final = "Janus, event_loops=1"
STEPS: Final[dict[str, tuple[str, ...]]] = {
    "one by one": (),
    "bursts of 4": ("--burst", "4"),
    "bursts of 4, 1 % lost towards subscribers": ("--burst", "4", "--drop", "1"),
}
# As the entry of the service: the compiled packet path, if there is one.
_START: Final = "from config import native; native.prefer(); from tests.bench.sfu_server import main; main()"
_PORT: Final = 4000
_START_POLL_SECONDS: Final = 0.05

Row = dict[str, Any]


class Sfu(Protocol):
    """What a client asks of a server."""

    def publish(self, offer: str) -> str:
        """Give the answer to a publisher's offer."""

    def subscribe(self) -> tuple[int, str]:
        """Give a new subscriber's number, and its offer."""

    def start(self, number: int, answer: str) -> None:
        """Take the answer of a subscriber."""


class Target(NamedTuple):
    """A server under test."""

    name: str
    command: Callable[[Lab, Path], list[str]]  # in a folder of its own
    session: Callable[[Path], contextlib.AbstractContextManager[Sfu]]  # once the folder's socket is there
    control: str  # the name of that socket


class Ours:
    """A client of `sfu_server`."""

    def __init__(self, sock: socket.socket) -> None:
        self._file = sock.makefile("rw")

    def publish(self, offer: str) -> str:
        return str(self._ask({"publish": offer})["answer"])

    def subscribe(self) -> tuple[int, str]:
        response = self._ask({"subscribe": True})
        return int(response["session"]), str(response["offer"])

    def start(self, number: int, answer: str) -> None:
        self._ask({"session": number, "answer": answer})

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        self._file.write(json.dumps(request) + "\n")
        self._file.flush()
        response: dict[str, Any] = json.loads(self._file.readline())
        return response


def _command_of_ours(lab: Lab, folder: Path) -> list[str]:
    return [sys.executable, "-c", _START, lab.server_ip, str(_PORT), str(folder / "control")]


def _command_of_sources(lab: Lab, folder: Path) -> list[str]:
    return ["env", f"{native.PURE_VARIABLE}=1", *_command_of_ours(lab, folder)]


@contextlib.contextmanager
def _session_of_ours(folder: Path) -> Iterator[Sfu]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(START_SECONDS)
        sock.connect(os.fspath(folder / "control"))
        yield Ours(sock)


def _janus(name: str, event_loops: int | None) -> Target:
    def command(lab: Lab, folder: Path) -> list[str]:
        return ["janus", "-F", str(sfu_janus.configure(folder, lab.server_ip, event_loops))]

    return Target(name, command, sfu_janus.session, "api")


TARGETS: Final = (
    _janus(REFERENCE, 1),
    _janus("Janus, default", None),
    Target(OURS, _command_of_ours, _session_of_ours, "control"),
    Target("redconnect, interpreted", _command_of_sources, _session_of_ours, "control"),
)


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="interleaved repetitions; medians are printed")
    parser.add_argument("--only", choices=STEPS, help="one step")
    names = [target.name for target in TARGETS]
    parser.add_argument("--without", choices=names, nargs="+", default=[], help="leave servers out")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("make bench-sfu needs root: it builds network namespaces")
    subprocess.run(["make", "-s", "-C", str(SFUBENCH)], check=True)
    targets = [target for target in TARGETS if target.name not in options.without]
    if not native.is_fresh():
        print("not compiled (make native): redconnect is interpreted", file=sys.stderr)
    loads = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    print(f"rounds: {options.rounds}; kernel {os.uname().release}; {os.cpu_count()} cores; load {loads}\n", flush=True)
    figures = ("CPU per packet out µs", "of it kernel thread µs", "ratio", "bar", "met", "p50 µs", "p99 µs", "loss %")
    print(f"| step | server | {' | '.join(figures)} |")
    print(f"|---|---|{'--:|' * 8}", flush=True)
    with open_lab() as lab:
        _isolate(lab)
        for step, words in STEPS.items():
            if options.only in (None, step):
                _print_step(step, _measure(lab, targets, words, options.rounds))


def _measure(lab: Lab, targets: list[Target], words: tuple[str, ...], rounds: int) -> dict[str, list[Row]]:
    rows: dict[str, list[Row]] = {target.name: [] for target in targets}
    for number in range(rounds):
        turn = number % len(targets)
        for target in targets[turn:] + targets[:turn]:
            rows[target.name].append(_run(lab, target, words))
    return rows


def _run(lab: Lab, target: Target, words: tuple[str, ...]) -> Row:
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        pid = stack.enter_context(_running(lab, target, folder))
        sfu = stack.enter_context(target.session(folder))
        peers = [_publish(sfu, number, _socket(lab, stack)) for number in range(PUBLISHERS)]
        peers += [_subscribe(sfu, PUBLISHERS + number, _socket(lab, stack)) for number in range(SUBSCRIBERS)]
        return _load(lab, target, pid, peers, words)


def _publish(sfu: Sfu, number: int, sock: socket.socket) -> Peer:
    client = Client(number, sock)
    return client.publisher(sfu.publish(client.offer()))


def _subscribe(sfu: Sfu, number: int, sock: socket.socket) -> Peer:
    client = Client(number, sock)
    subscriber, offer = sfu.subscribe()
    sfu.start(subscriber, client.answer(offer))
    return client.subscriber(offer)


def _socket(lab: Lab, stack: contextlib.ExitStack) -> socket.socket:
    with lab.inside(lab.alice):
        sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sock.bind((lab.alice_ip, 0))
    return sock


def _load(lab: Lab, target: Target, pid: int, peers: list[Peer], words: tuple[str, ...]) -> Row:
    command = ["chrt", "-r", "1", "taskset", "-c", GENERATOR_CPU, str(SFUBENCH / "sfubench")]
    command += ["--seconds", str(SECONDS), "--warmup", str(WARMUP_SECONDS), "--pids", str(pid)]
    command += ["--kthreads", ",".join(_kernel_threads(lab.alice_link)), *words]
    result = subprocess.run(
        command,
        input="".join(f"{peer.plan}\n" for peer in peers),
        capture_output=True,
        text=True,
        pass_fds=[peer.sock.fileno() for peer in peers],
        timeout=SECONDS + WARMUP_SECONDS + START_SECONDS,
        check=False,
    )
    if result.returncode or not result.stdout:
        sys.exit(f"sfubench against {target.name} ended with {result.returncode}: {result.stderr[-500:]}")
    row: Row = json.loads(result.stdout)
    if not row["out"]:
        sys.exit(f"{target.name} forwarded nothing: {result.stdout}")
    return row


@contextlib.contextmanager
def _running(lab: Lab, target: Target, folder: Path) -> Iterator[int]:
    """Start a server inside its namespace, wait for its socket, yield its PID, stop it."""
    words = lab.command(lab.server, "chrt", "-f", "1", "taskset", "-c", SERVER_CPU, *target.command(lab, folder))
    # ip, chrt and taskset each exec the next program, so the child's PID is the server's.
    with (folder / "log").open("w+b") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, cwd=ROOT)
        try:
            deadline = time.monotonic() + START_SECONDS
            while not _listens(folder / target.control):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    sys.exit(f"{target.name} does not start: {log.read()[-500:].decode(errors='replace')}")
                time.sleep(_START_POLL_SECONDS)
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _listens(path: Path) -> bool:
    kind = socket.SOCK_SEQPACKET if path.name == "api" else socket.SOCK_STREAM
    with socket.socket(socket.AF_UNIX, kind) as sock:
        try:
            sock.connect(os.fspath(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
    return True


def _kernel_threads(device: str) -> list[str]:
    """The PIDs of the threads that process what a device received."""
    found = []
    for thread in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if (thread / "comm").read_text().startswith(f"napi/{device}"):
                found.append(thread.name)
    return found


def _isolate(lab: Lab) -> None:
    """Bill receive processing to kernel threads, and let packets arrive one by one."""
    ends = ((lab.alice, f"{lab.alice}0", GENERATOR_CPU, 2), (lab.server, lab.alice_link, SERVER_CPU, 1))
    for namespace, device, cpu, priority in ends:
        lab.run(namespace, "ethtool", "-K", device, "tx", "off", "tso", "off", "gso", "off", "gro", "on")
        lab.run(namespace, "sh", "-c", f"echo 1 > /sys/class/net/{device}/threaded")
        pin_receiving(device, cpu, priority)


def _print_step(step: str, rows: dict[str, list[Row]]) -> None:
    reference = rows.get(REFERENCE)
    for name, each in rows.items():
        middle = {key: statistics.median(row[key] for row in each) for key in each[0]}
        ratio = limit = met = ""
        if reference is not None and name != REFERENCE:
            value = statistics.median(row["cpu"] / other["cpu"] for row, other in zip(each, reference, strict=True))
            ratio = f"{value:.2f}"
            if name == OURS:
                limit, met = f"≤ {BAR}", "yes" if value <= BAR else "no"
        cells = [step, name, f"{middle['cpu']:.2f}", f"{middle['kernel']:.2f}", ratio, limit, met]
        cells += [f"{middle['p50']:.0f}", f"{middle['p99']:.0f}", f"{100 * middle['loss']:.3f}"]
        print(f"| {' | '.join(cells)} |", flush=True)
        for row in each:
            print(f"{name}: {json.dumps(row)}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
