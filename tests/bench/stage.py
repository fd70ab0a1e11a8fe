"""Where the servers are measured: a lab whose receive processing is billed, the generator, and result tables."""

import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final

from tests.bench.servers import SERVER_CPU, Target
from tests.support.lab import Lab

TURNBENCH: Final = Path(__file__).resolve().parents[2] / "loadtest" / "turnbench"
GENERATOR_CPU: Final = "0"  # when the server has its own; else both share SERVER_CPU
PEER_PORT: Final = 20000
WAIT_SECONDS: Final = 300

Row = dict[str, Any]


class Session:
    """A generator that keeps its allocations, and takes steps one by one. Its own watchdog bounds each of them."""

    def __init__(self, process: subprocess.Popen[str], name: str) -> None:
        """Talk to a generator that reads its steps from standard input."""
        self._process = process
        self._name = name

    def step(self, step: str) -> Row:
        """Take a step and return its row."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{step}\n")
        self._process.stdin.flush()
        return self.read()

    def read(self) -> Row:
        """The next row."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"turnbench against {self._name} ended with {self._process.wait(timeout=WAIT_SECONDS)}")
        row: Row = json.loads(line)
        return row


class Stage:
    """Runs the generator against the servers in turn."""

    def __init__(
        self,
        lab: Lab,
        targets: tuple[Target, Target],
        rounds: int,
        reference: str,
        counts: tuple[int, ...],
        framings: Collection[str],
    ) -> None:
        """Prepare a lab.

        Args:
            lab: freshly built.
            targets: the reference, then ours.
            rounds: interleaved repetitions.
            reference: name and version of the reference, for the tables.
            counts: of the allocations that carry packets over UDP, for one table each.
            framings: of the packets over UDP, names as in tests/bench/packets.py.
        """
        self.lab = lab
        self.targets = targets
        self.rounds = rounds
        self.counts = counts
        self.framings = framings
        self.reference = reference
        self.lossless: dict[tuple[str, str, int], list[Row]] = {}  # by server, direction and size: one search for two
        self._generator_cpu = SERVER_CPU
        self._isolate()

    def interleaved(self) -> Iterator[Target]:
        """The targets, once in each round, first one and then the other one first."""
        for number in range(self.rounds):
            yield from self.in_order(number)

    def in_order(self, number: int) -> tuple[Target, ...]:
        """The targets in the order of a round."""
        return self.targets if number % 2 == 0 else self.targets[::-1]

    @contextlib.contextmanager
    def generator_apart(self) -> Iterator[None]:
        """Give the generator, and the interfaces at its end, a CPU of their own: the server's capacity is the limit."""
        # Above the generator itself: the time stamps of packets must not wait for its own work.
        self._place_generator(GENERATOR_CPU, priority=2)
        yield
        self._place_generator(SERVER_CPU, priority=1)

    @contextlib.contextmanager
    def forwarding(self) -> Iterator[None]:
        """Let the server's namespace forward meanwhile: the direct path through the lab."""
        self._switch("net.ipv4.ip_forward", "1")
        try:
            yield
        finally:
            self._switch("net.ipv4.ip_forward", "0")

    @contextlib.contextmanager
    def interrupted(self, *, handed_over: bool) -> Iterator[None]:
        """Receive as Linux does unless told otherwise, without threads; the CPU is then billed to whoever it struck.

        Args:
            handed_over: each end of a link receives on the CPU where it would if it were a card, the server's ends on
                the server's (RPS); else, as veth does by itself, where the packet was sent.
        """
        places = self._devices()
        for namespace, device in places:
            self._write(namespace, f"/sys/class/net/{device}/threaded", "0")
            if handed_over:
                cpu = SERVER_CPU if namespace == self.lab.server else GENERATOR_CPU
                self._write(namespace, f"/sys/class/net/{device}/queues/rx-0/rps_cpus", f"{1 << int(cpu):x}")
        try:
            yield
        finally:
            for namespace, device in places:
                self._write(namespace, f"/sys/class/net/{device}/queues/rx-0/rps_cpus", "0")
                self._write(namespace, f"/sys/class/net/{device}/threaded", "1")
                pin_receiving(device, SERVER_CPU, priority=1)

    def turnbench(
        self, target: Target, pids: list[int], extra: list[str], steps: list[str], transport: str = "udp"
    ) -> list[Row]:
        """Run the generator and return its rows."""
        words = self._words(target, pids, transport, PEER_PORT)
        result = subprocess.run(
            [*words, *extra, *steps], capture_output=True, text=True, timeout=WAIT_SECONDS, check=False
        )
        rows = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
        if result.returncode or not rows:
            sys.exit(f"turnbench against {target.name} ended with {result.returncode}: {result.stderr[-500:]}")
        return rows

    @contextlib.contextmanager
    def session(
        self, target: Target, pids: list[int], extra: list[str], *, transport: str = "udp", peer_port: int = PEER_PORT
    ) -> Iterator[Session]:
        """Have a generator make its allocations, and wait for steps; while it waits it sends nothing.

        Args:
            target: whom it talks to.
            pids: whose CPU time is measured.
            extra: what else it is told.
            transport: of its clients.
            peer_port: the first one of its peers: each session has peers of its own.
        """
        words = [*self._words(target, pids, transport, peer_port), *extra, "-"]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            session = Session(process, target.name)
            session.read()  # of its allocations
            yield session
            assert process.stdin is not None
            process.stdin.close()
            process.wait(timeout=WAIT_SECONDS)

    def _words(self, target: Target, pids: list[int], transport: str, peer_port: int) -> list[str]:
        lab = self.lab
        port = target.tls_port if transport == "tls" else target.port
        words = ["chrt", "-r", "1", "taskset", "-c", self._generator_cpu, str(TURNBENCH / "turnbench")]
        words += ["--label", target.name, "--transport", transport]
        words += ["--server", f"{lab.server_ip}:{port}", "--user", "user", "--pass", "pass"]
        words += ["--peer", f"{lab.bob_ip}:{peer_port}", "--client-ns", lab.alice, "--peer-ns", lab.bob]
        words += ["--pid", ",".join(map(str, pids)), "--kthreads", f"napi/{lab.alice_link},napi/{lab.bob_link}"]
        return words

    def print_head(self, title: str, first: str, *, unit: str, more: str = "") -> None:
        """Begin a table: a step, both servers, the ratio, the bar that the ratio is held to, and `more` columns."""
        names = f"{self.reference} {unit}".strip(), f"redconnect {unit}".strip()
        columns = [first, *names, "ratio", "bar", "met", *more.split("|")] if more else [first, *names, "ratio", "bar"]
        columns = columns if more else [*columns, "met"]
        print(f"\n### {title}\n\n| {' | '.join(columns)} |")
        print(f"|{'---|' * columns.index('ratio')}{'--:|' * (len(columns) - columns.index('ratio'))}")

    def _isolate(self) -> None:
        """Bill receive processing to kernel threads, all on one CPU, and let packets arrive one by one."""
        lab = self.lab
        outer = {lab.alice: f"{lab.alice}0", lab.bob: f"{lab.bob}0"}
        for namespace, device in outer.items():
            lab.run(namespace, "ethtool", "-K", device, "tx", "off", "tso", "off", "gso", "off", "gro", "on")
        for device in (lab.alice_link, lab.bob_link):
            words = ["gro", "on", "tso", "off", "gso", "off", "tx-udp-segmentation", "off"]
            lab.run(lab.server, "ethtool", "-K", device, *words)
        for namespace, device in self._devices():
            self._switch("net.ipv4.ip_local_port_range", "10000 60999", namespace)
            self._write(namespace, f"/sys/class/net/{device}/threaded", "1")
            pin_receiving(device, SERVER_CPU, priority=1)

    def _devices(self) -> tuple[tuple[str, str], ...]:
        """Namespace and name of both ends of both links."""
        lab = self.lab
        outer = ((namespace, f"{namespace}0") for namespace in (lab.alice, lab.bob))
        return (*outer, (lab.server, lab.alice_link), (lab.server, lab.bob_link))

    def _switch(self, key: str, value: str, namespace: str = "") -> None:
        self.lab.run(namespace or self.lab.server, "sysctl", "-qw", f"{key}={value}").check_returncode()

    def _write(self, namespace: str, path: str, value: str) -> None:
        self.lab.run(namespace, "sh", "-c", f"echo {value} > {path}").check_returncode()

    def _place_generator(self, cpu: str, *, priority: int) -> None:
        for device in (f"{self.lab.alice}0", f"{self.lab.bob}0"):
            pin_receiving(device, cpu, priority)
        self._generator_cpu = cpu


def figures(ours: float, reference: float, bar: float | None, decimals: int = 2, *, ratio: float | None = None) -> str:
    """The cells of a row: both figures, their ratio, the bar, and whether it is met.

    Args:
        ours: our figure.
        reference: the reference's.
        bar: the largest ratio that is good enough; None if there is no bar.
        decimals: of the two figures.
        ratio: if it is not that of the two figures, but the median of the ratios of each round.
    """
    if ratio is None:
        ratio = ours / reference
    limit, verdict = ("", "") if bar is None else (f"≤ {bar}", "yes" if ratio <= bar else "no")
    return f"{reference:.{decimals}f} | {ours:.{decimals}f} | {ratio:.2f} | {limit} | {verdict}"


def median(rows: list[Row], *keys: str) -> float:
    """The median over the rounds of one figure, or of the sum of several."""
    return statistics.median(sum(float(row[key]) for key in keys) for row in rows)


def pin_receiving(device: str, cpu: str, priority: int) -> None:
    """Put the threads that process what a device received on one CPU, in real time."""
    for thread in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if (thread / "comm").read_text().startswith(f"napi/{device}"):
                subprocess.run(["taskset", "-pc", cpu, thread.name], capture_output=True, check=True)
                subprocess.run(["chrt", "-f", "-p", str(priority), thread.name], capture_output=True, check=True)
