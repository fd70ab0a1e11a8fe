"""CPU of the signaling service for a join and for a relayed message, beside a server that only echoes.

    .venv/bin/python -m tests.bench.talks

Locust plays both people of one appointment after another (`loadtest/signaling`), in a process of its own. The CPU of a
server is what the kernel has billed to its process, before and after; that of a message is what talks with messages
take more than talks without. Wall time says little on a machine that others use, too.
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tests.bench.signaling_server import Locators, cpu_seconds, run_signaling
from tests.support.ports import free_port
from tests.support.service import ROOT, STOP_SECONDS

TALKS: Final = 400  # without messages, in each round; a quarter of that with messages
USERS: Final = 20  # play side by side
BLOBS: Final = 100  # of each side
_MOST_SECONDS: Final = 180  # for one run of Locust, which ends by itself long before
_LOCUSTFILE: Final = ROOT / "loadtest" / "signaling" / "locustfile.py"


class Target(NamedTuple):
    """A server, and which users can speak to it."""

    name: str
    pid: int
    url: str
    users: str


class Cost(NamedTuple):
    """CPU in µs."""

    join: float
    message: float


class Counts(NamedTuple):
    """What Locust has brought about, and what it has cost the server, in seconds of CPU."""

    joins: int
    relayed: int
    cpu: float


def measure(target: Target, plan: list[Locators], talks: int, users: int = USERS) -> Cost:
    """Measure one server once.

    Args:
        target: the server.
        plan: at least as many appointments as there are talks.
        talks: how many without messages; a quarter of that with them.
        users: how many side by side.

    Raises:
        RuntimeError: Locust reports a failure, or has not come to its end.
    """
    bare = run_locust(target, plan[:talks], 0, users)
    talking = run_locust(target, plan[: max(1, talks // 4)], BLOBS, users)
    join = bare.cpu / bare.joins
    return Cost(join * 1e6, (talking.cpu - talking.joins * join) / talking.relayed * 1e6)


def run_locust(target: Target, plan: list[Locators], blobs: int, users: int) -> Counts:
    """Let Locust go through appointments.

    Raises:
        RuntimeError: it reports a failure, or has not come to its end.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "plan.json").write_text(json.dumps(plan))
        command = [
            *(sys.executable, "-m", "locust", "-f", str(_LOCUSTFILE), target.users, "--headless", "--only-summary"),
            *("--host", target.url, "-u", str(users), "-r", str(users), "-t", str(_MOST_SECONDS)),
            *("--plan", str(folder / "plan.json"), "--blobs", str(blobs), "--result", str(folder / "result.json")),
        ]
        before = cpu_seconds(target.pid)
        run = subprocess.run(command, capture_output=True, text=True, timeout=2 * _MOST_SECONDS, cwd=ROOT, check=False)
        spent = cpu_seconds(target.pid) - before
        if run.returncode:
            raise RuntimeError(f"Locust: {run.stdout[-2000:]}{run.stderr[-2000:]}")
        done = json.loads((folder / "result.json").read_text())
    return Counts(done["joins"], done["relayed"], spent)


@contextlib.contextmanager
def run_echo() -> Iterator[Target]:
    """Start the server that only echoes."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "loadtest.signaling.echo", str(port)], stdout=subprocess.PIPE, cwd=ROOT
    )
    try:
        if process.stdout is None or process.stdout.readline() != b"listening\n":
            raise RuntimeError("the echo server does not start")
        yield Target("aiohttp echo", process.pid, f"http://localhost:{port}", "Echoer")
    finally:
        process.terminate()
        process.wait(timeout=STOP_SECONDS)
        if process.stdout is not None:
            process.stdout.close()


def print_talks(rounds: int, talks: int = TALKS) -> None:
    """Measure and print a Markdown table."""
    costs: dict[str, list[Cost]] = {}
    with run_signaling(2 * USERS) as server, run_echo() as echo:
        targets = (echo, Target("redconnect", server.pid, server.url, "Talker"))
        plan = server.plan(talks)
        for target in targets:  # once for nothing: what is loaded and compiled with the first sockets
            run_locust(target, plan[:USERS], 4, USERS)
        for number in range(rounds):
            for target in targets if number % 2 == 0 else targets[::-1]:
                costs.setdefault(target.name, []).append(measure(target, plan, talks))
    floor, ours = (costs[target.name] for target in targets)
    print(f"\n### CPU of the service, {rounds} rounds of {talks} talks\n")
    print("| what | aiohttp echo µs | redconnect µs | least and most | ratio | per s and core |")
    print("|---|--:|--:|--:|--:|--:|")
    for what, reference, own in (
        ("join, from handshake to leave", [cost.join for cost in floor], [cost.join for cost in ours]),
        ("relayed message, 256 to 2,000 B", [cost.message for cost in floor], [cost.message for cost in ours]),
    ):
        middle = statistics.median(own)
        ratio = statistics.median(mine / theirs for mine, theirs in zip(own, reference, strict=True))
        cells = f"{statistics.median(reference):.0f} | {middle:.0f} | {min(own):.0f}, {max(own):.0f} | {ratio:.2f}"
        print(f"| {what} | {cells} | {1e6 / middle:.0f} |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rounds", type=int, default=3, help="repetitions, the two servers in turn; medians are printed"
    )
    parser.add_argument("--talks", type=int, default=TALKS, help="in each round")
    options = parser.parse_args()
    print_talks(options.rounds, options.talks)


if __name__ == "__main__":
    main()
