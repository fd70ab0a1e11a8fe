"""Run one load test against a service of its own, on loopback and free ports, and say what it has cost.

    make load PROFILE=smoke
    .venv/bin/python -m loadtest --profile storm --report build/load

Exit status: 0 all thresholds were held; 1 one was not, or the service kept something; 3 the machine that made the load
was too busy for its latencies to mean anything.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from loadtest.judgement import Verdict
from loadtest.profiles import PROFILES, Profile
from tests.bench.signaling_server import SignalingServer, memory, run_signaling
from tests.support.ports import free_port, free_ports
from tests.support.service import ROOT, Service

SECRET: Final = "a secret of a load test, on loopback only"  # noqa: S105  # nobody else can reach the service
SETTLE_SECONDS: Final = 40.0  # until what was left is given back: a seat without a farewell is kept for thirty
LEAVE_SECONDS: Final = 40  # for everybody to end what they do
LOOK_SECONDS: Final = 0.5  # how often memory and allocations are looked at
_PATIENCE_SECONDS: Final = 180.0  # beyond the profile's time, until Locust must have ended
_HOST: Final = "127.0.0.1"
_PACKETS: Final = "redconnect_relay_packets_total"
_KEPT: Final = ("redconnect_relay_allocations", "redconnect_relay_ports_taken", "redconnect_signaling_clients")


class Cost(NamedTuple):
    """What a run has cost the service."""

    cpu_seconds: float  # of its process, the kernel's work for it included
    packets: float  # relayed, both directions
    first_rss_kib: int
    most_rss_kib: int
    most_allocations: float
    most_clients: float


class _Watch:
    """Looks at the service while it is under load."""

    def __init__(self, server: SignalingServer) -> None:
        self._server = server
        self._before = server.service.metrics()
        self._cpu_before = server.cpu_seconds()
        self._first_rss = self._most_rss = server.memory().rss
        self._most = dict.fromkeys(_KEPT, 0.0)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def stop(self) -> Cost:
        """Look no more."""
        self._ended.set()
        self._thread.join()
        packets = _sum(self._server.service.metrics(), _PACKETS) - _sum(self._before, _PACKETS)
        cpu = self._server.cpu_seconds() - self._cpu_before
        allocations, _, clients = self._most.values()
        return Cost(cpu, packets, self._first_rss, self._most_rss, allocations, clients)

    def _look(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            if self._server.service.process.poll() is not None:
                return
            self._most_rss = max(self._most_rss, memory(self._server.pid).rss)
            metrics = self._server.service.metrics()
            for name in _KEPT:
                self._most[name] = max(self._most[name], _sum(metrics, name))


@contextlib.contextmanager
def run_target(profile: Profile, folder: Path, workers: int = 1) -> Iterator[tuple[SignalingServer, Path]]:
    """Start a service whose bounds suit one machine that plays everybody, and write down how to reach it.

    Args:
        profile: what will be played; its bounds are the service's.
        folder: takes the target.
        workers: of the relay.
    """
    ports = {transport: free_port() for transport in ("udp", "tcp", "tls")}
    relay: dict[str, Any] = {
        "workers": workers,
        "relay_addresses": [_HOST],
        "peers": {"allow": [f"{_HOST}/32"]},
        # All clients have one address.
        "quota": {"challenges_per_second": 100_000, "challenge_burst": 100_000},
        **{f"{transport}_ports": [port] for transport, port in ports.items()},
    }
    if profile.relayed_ports is not None:
        some = free_ports(profile.relayed_ports)
        relay |= {"port_min": some[0], "port_max": some[-1]}
    seats = 2 * profile.most_people
    signaling = {"connections_per_address": 1000 + seats, "max_clients": profile.max_clients or 1000 + seats}
    changes = {"relay": relay, "signaling": signaling, "secrets": {"turn_secret": SECRET}, "log": {"level": "warning"}}
    with run_signaling(seats, changes=changes) as server:
        target = {
            "pages": server.url,
            "relay": {transport: [_HOST, port] for transport, port in ports.items()},
            "peer": _HOST,
            "secret": SECRET,
            "pairs": server.plan(profile.most_people),
        }
        path = folder / "target.json"
        path.write_text(json.dumps(target))
        path.chmod(0o600)  # it holds the secret
        yield server, path


def run_locust(profile: Profile, arguments: list[str], report: Path) -> int:
    """Play a profile; returns the exit status. Its own words go to `locust.log` beside the report.

    Raises:
        subprocess.TimeoutExpired: it does not come to its end.
    """
    command = [
        *(sys.executable, "-m", "locust", "-f", str(ROOT / "loadtest" / "locustfile.py"), "--headless"),
        *("--only-summary", "--stop-timeout", str(LEAVE_SECONDS), "--loglevel", "WARNING"),
        *("--html", str(report / "report.html"), "--result", str(report / "result.json"), *arguments),
    ]
    with (report / "locust.log").open("w") as log:
        run = subprocess.run(  # noqa: S603  # our own words
            command, stdout=log, stderr=log, timeout=profile.seconds + _PATIENCE_SECONDS, cwd=ROOT, check=False
        )
    return run.returncode


def await_nothing_kept(service: Service) -> list[str]:
    """What the service still holds a while after everybody has left, one sentence each."""
    with contextlib.suppress(TimeoutError):
        service.await_that(lambda: not any(_sum(service.metrics(), name) for name in _KEPT), SETTLE_SECONDS)
    metrics = service.metrics()
    return [f"{name} is {_sum(metrics, name):.0f} after everybody has left" for name in _KEPT if _sum(metrics, name)]


def _sum(metrics: dict[str, float], name: str) -> float:
    return sum(value for key, value in metrics.items() if key == name or key.startswith(name + "{"))


def _print(result: dict[str, Any], cost: Cost, seconds: float) -> None:
    print("| kind | what | requests | failed | p50 ms | p95 ms | p99 ms |\n|---|---|--:|--:|--:|--:|--:|")
    for row in result["rows"]:
        times = " | ".join(f"{row[key]:.1f}" for key in ("p50", "p95", "p99"))
        print(f"| {row['kind']} | {row['name']} | {row['requests']} | {row['failures']} | {times} |")
    generator = result["generator"]
    print(
        f"\nservice: {cost.cpu_seconds:.1f} s of CPU in {seconds:.0f} s, {cost.packets:.0f} packets relayed, "
        f"resident {cost.first_rss_kib / 1024:.1f} MiB before, {cost.most_rss_kib / 1024:.1f} MiB at most; "
        f"{cost.most_allocations:.0f} allocations and {cost.most_clients:.0f} sockets at a time"
    )
    if cost.packets and len({row["kind"] for row in result["rows"]} - {"TURN", "MEDIA"}) == 0:
        print(f"service: {cost.cpu_seconds / cost.packets * 1e6:.1f} µs of CPU per relayed packet, all else included")
    print(
        f"generator: {generator['cpu_share']:.0%} of a core, timers {generator['late_p95_ms']:.1f} ms late (p95), "
        f"{generator['skipped_ticks']} ticks of media given up"
    )


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", choices=PROFILES, default="smoke", help="who comes when")
    parser.add_argument("--people", type=float, default=1.0, help="times as many people as the profile has")
    parser.add_argument("--speed", type=float, default=0.0, help="times as fast; 0: as the profile wants")
    parser.add_argument("--seconds", type=float, default=0.0, help="for how long; 0: as long as the profile takes")
    parser.add_argument("--only", choices=("Prober", "Caller", "Talker"), help="users of one class only")
    parser.add_argument("--judge", choices=("all", "failures"), default="all", help="what thresholds hold for")
    parser.add_argument("--workers", type=int, default=1, help="relay workers")
    parser.add_argument("--report", type=Path, help="folder for the report; none: a new one, and its name is printed")
    return parser.parse_args()


def main() -> int:
    """Run one load test; returns the exit status."""
    options = _parse()
    profile = PROFILES[options.profile]
    profile = profile.scaled(
        people=options.people, speed=options.speed or profile.speed, seconds=options.seconds or None
    )
    report: Path = options.report or Path(tempfile.mkdtemp(prefix="redconnect-load-"))
    report.mkdir(parents=True, exist_ok=True)
    arguments = [
        *("--load-profile", profile.name, "--people", str(options.people), "--speed", str(options.speed)),
        *("--seconds", str(options.seconds), "--judge", options.judge),
        *(("--only", options.only) if options.only else ()),
    ]
    with tempfile.TemporaryDirectory() as folder, run_target(profile, Path(folder), options.workers) as (server, path):
        watch = _Watch(server)
        try:
            status = run_locust(profile, [*arguments, "--target", str(path)], report)
        finally:
            cost = watch.stop()
        if not (report / "result.json").exists():
            print((report / "locust.log").read_text()[-4000:], file=sys.stderr)
            return Verdict.BREACHED
        kept = await_nothing_kept(server.service)
    result = json.loads((report / "result.json").read_text())
    (report / "result.json").write_text(json.dumps({**result, "service": cost._asdict(), "kept": kept}, indent=1))
    _print(result, cost, profile.seconds)
    for sentence in (*result["breaches"], *result["doubts"], *kept):
        print(sentence)
    print(f"report: {report / 'report.html'}")
    return status or (Verdict.BREACHED if kept else Verdict.HELD)


if __name__ == "__main__":
    sys.exit(main())
