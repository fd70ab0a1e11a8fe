"""Figures of the relay beside Debian's coturn, measured in the same run with the same generator.

    make bench                                   # everything, about four minutes
    .venv/bin/python -m tests.bench.compare_with_coturn --rounds 1 --only packets

Three namespaces joined by veth; generator, servers and the threaded receive processing of the network interfaces share
one CPU under real-time scheduling, so that other load moves away and nothing is done for free in another context. CPU
per packet = run time of the server's threads plus that of its interfaces' kernel threads. Compare ratios, not figures:
the machines that this runs on are noisy.
"""

import argparse
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.lab import Lab, open_lab

ROOT = Path(__file__).resolve().parents[2]
TURNBENCH = ROOT / "loadtest" / "turnbench"
CPU = "1"
PEER_PORT = 20000
START_SECONDS = 15.0
PACKET_STEPS = [
    f"{direction},size={size},rate={rate},burst={burst},time=2"
    for size, rate, burst in ((1100, 16000, 8), (1100, 10000, 1), (160, 16000, 8), (160, 10000, 1))
    for direction in ("c2p", "p2c")
]
IDLE_ALLOCATIONS = 2000

Row = dict[str, Any]


class Target(NamedTuple):
    """A server under test."""

    name: str
    port: int
    command: list[str]


def main() -> None:
    """Measure and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="interleaved repetitions; medians are printed")
    parser.add_argument("--only", choices=["start", "packets", "control", "memory"], help="one group of figures")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("make bench needs root: it builds network namespaces")
    subprocess.run(["make", "-s", "-C", str(TURNBENCH)], check=True)
    groups = {"start": start_up, "packets": packets, "control": control, "memory": memory}
    with tempfile.TemporaryDirectory() as folder, open_lab() as lab:
        isolate(lab)
        targets = [coturn(lab), redconnect(lab, Path(folder))]
        print(f"reference: {version_of_coturn()}; {options.rounds} rounds; kernel {os.uname().release}")
        for name, measure in groups.items():
            if options.only in (None, name):
                measure(lab, targets, options.rounds)


def coturn(lab: Lab) -> Target:
    """Debian's coturn with what both servers do: long-term credentials, UDP relaying, no extras."""
    words = ["turnserver", "-n", "--realm=bench", "--listening-port=3478", "-L", lab.server_ip]
    words += ["-E", lab.server_ip_for_bob, "-a", "-u", "user:pass", "--no-cli", "--no-tls", "--no-dtls"]
    words += ["--no-software-attribute", "--log-file=stdout", "--userdb=/nonexistent", "--no-rfc5780"]
    words += ["--min-port=16384", "--max-port=65535", "--pidfile=/dev/null"]
    return Target("coturn", 3478, words)


def redconnect(lab: Lab, folder: Path) -> Target:
    """Our relay alone, configured as coturn is."""
    settings = {
        "services": ["relay"],
        "state_dir": str(folder / "var"),
        "log": {"level": "warning"},
        "relay": {
            "realm": "bench",
            "listen_addresses": [lab.server_ip],
            "relay_addresses": [lab.server_ip_for_bob],
            "udp_ports": [3479],
            "tcp_ports": [3479],
            "tls_ports": [],
            "port_min": 16384,
            "users": {"user": "pass"},
            "quota": {"allocations_per_user": 10000},
            "peers": {"allow": [f"{lab.bob_ip}/32"]},
        },
    }
    path = folder / "bench.yaml"
    path.write_text(json.dumps(settings))
    command = [sys.executable, "-m", "config.cli", "serve", "--config", str(path)]
    return Target("redconnect", 3479, command)


def start_up(lab: Lab, targets: list[Target], rounds: int) -> None:
    """Time from exec to the first answered Binding request, and memory then."""
    print("\n### Start-up and memory at rest\n\n| server | start to first answer ms | RSS MiB |\n|---|--:|--:|")
    for target in targets:
        times, sizes = [], []
        for _ in range(rounds):
            begun = time.monotonic()
            with running(lab, target) as pid:
                times.append((time.monotonic() - begun) * 1000)
                sizes.append(rss_mib(pid))
        print(f"| {target.name} | {statistics.median(times):.0f} | {statistics.median(sizes):.1f} |")


def packets(lab: Lab, targets: list[Target], rounds: int) -> None:
    """CPU per relayed packet, ChannelData and Send/Data indications."""
    print("\n### CPU per relayed packet, 100 allocations\n")
    print("| framing | step | server | loss % | process µs | kernel threads µs | sum µs | ratio |")
    print("|---|---|---|--:|--:|--:|--:|--:|")
    for framing, extra in (("ChannelData", []), ("Send/Data", ["--send-indication"])):
        collected: dict[tuple[int, str], list[Row]] = {}
        for round_number in range(rounds):
            for target in targets if round_number % 2 == 0 else targets[::-1]:
                with running(lab, target) as pid:
                    rows = turnbench(lab, target, pid, ["--allocs", "100", "--peer-socks", "100", *extra], PACKET_STEPS)
                for at, row in enumerate(row for row in rows if row["kind"] == "rate"):
                    collected.setdefault((at, target.name), []).append(row)
        for at in range(len(PACKET_STEPS)):
            reference = None
            for target in targets:
                rows = collected[at, target.name]
                process, kernel = median(rows, "srv_us"), median(rows, "kthr_us")
                reference = reference or process + kernel
                step = f"{rows[0]['dir']} {rows[0]['size']} B, bursts of {rows[0]['burst']}"
                print(
                    f"| {framing} | {step} | {target.name} | {100 * median(rows, 'loss'):.2f} | {process:.2f} "
                    f"| {kernel:.2f} | {process + kernel:.2f} | {(process + kernel) / reference:.2f} |"
                )


def control(lab: Lab, targets: list[Target], rounds: int) -> None:
    """Binding requests and whole allocation life cycles."""
    titles = {
        "bind": "STUN Binding",
        "cycle": "Allocation life cycle: 401, Allocate, CreatePermission, ChannelBind, Refresh 0",
    }
    for step, title in titles.items():
        collected: dict[str, list[Row]] = {target.name: [] for target in targets}
        for round_number in range(rounds):
            for target in targets if round_number % 2 == 0 else targets[::-1]:
                with running(lab, target) as pid:
                    extra = ["--allocs", "32" if step == "bind" else "1"]
                    collected[target.name] += turnbench(lab, target, pid, extra, [f"{step},time=2"])
        print(
            f"\n### {title}\n\n| server | per s on the shared CPU | failed | CPU µs each | per s and core | CPU ratio |"
        )
        print("|---|--:|--:|--:|--:|--:|")
        reference = None
        for target in targets:
            rows = collected[target.name]
            cpu = median(rows, "srv_us") + median(rows, "kthr_us")
            reference = reference or cpu
            print(
                f"| {target.name} | {median(rows, 'per_s'):.0f} | {median(rows, 'fail'):.0f} | {cpu:.2f} "
                f"| {1e6 / cpu:.0f} | {cpu / reference:.2f} |"
            )


def memory(lab: Lab, targets: list[Target], rounds: int) -> None:
    """Resident memory per idle allocation with permission and channel."""
    print(
        f"\n### Memory per idle allocation ({IDLE_ALLOCATIONS} of them)\n\n| server | KiB each | ratio |\n|---|--:|--:|"
    )
    reference = None
    for target in targets:
        each = []
        for _ in range(rounds):
            with running(lab, target) as pid:
                extra = ["--allocs", str(IDLE_ALLOCATIONS), "--peer-socks", "1000"]
                setup = turnbench(lab, target, pid, extra, ["hold,time=0"])[0]
                each.append((setup["rss_kb"] - setup["rss_before_kb"]) / setup["ok"])
        reference = reference or statistics.median(each)
        print(f"| {target.name} | {statistics.median(each):.2f} | {statistics.median(each) / reference:.2f} |")


@contextlib.contextmanager
def running(lab: Lab, target: Target) -> Iterator[int]:
    """Start a server inside its namespace, wait for its first answer, stop it."""
    words = lab.command(lab.server, "chrt", "-f", "1", "taskset", "-c", CPU, *target.command)
    # ip, chrt and taskset each exec the next program, so the child's PID is the server's.
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT)
    try:
        await_binding(lab, target, process)
        yield process.pid
    finally:
        process.terminate()
        process.communicate(timeout=10)


def await_binding(lab: Lab, target: Target, process: subprocess.Popen[bytes]) -> None:
    """Send Binding requests until one is answered."""
    request = bytes.fromhex("000100002112a442") + os.urandom(12)
    with lab.inside(lab.alice), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.005)
        sock.connect((lab.server_ip, target.port))
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if process.poll() is not None:
                sys.exit(f"{target.name} ended with {process.returncode}: {process.communicate()[1].decode()[-500:]}")
            with contextlib.suppress(TimeoutError, ConnectionRefusedError):
                sock.send(request)
                if sock.recv(2048)[8:20] == request[8:20]:
                    return
    sys.exit(f"{target.name} did not answer within {START_SECONDS} s")


def turnbench(lab: Lab, target: Target, pid: int, extra: list[str], steps: list[str]) -> list[Row]:
    """Run the generator and return its rows."""
    words = ["chrt", "-r", "1", "taskset", "-c", CPU, str(TURNBENCH / "turnbench"), "--label", target.name]
    words += ["--server", f"{lab.server_ip}:{target.port}", "--user", "user", "--pass", "pass"]
    words += ["--peer", f"{lab.bob_ip}:{PEER_PORT}", "--client-ns", lab.alice, "--peer-ns", lab.bob]
    words += ["--pid", str(pid), "--kthreads", f"napi/{lab.alice_link},napi/{lab.bob_link}"]
    result = subprocess.run([*words, *extra, *steps], capture_output=True, text=True, timeout=300, check=False)
    rows = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    if result.returncode or not rows:
        sys.exit(f"turnbench against {target.name} ended with {result.returncode}: {result.stderr[-500:]}")
    return rows


def isolate(lab: Lab) -> None:
    """Bill receive processing to kernel threads, all on one CPU, and let packets arrive one by one."""
    ends = [(lab.alice, f"{lab.alice}0"), (lab.bob, f"{lab.bob}0")]
    for namespace, device in ends:
        lab.run(namespace, "ethtool", "-K", device, "tx", "off", "tso", "off", "gso", "off", "gro", "on")
    for device in (lab.alice_link, lab.bob_link):
        lab.run(
            lab.server, "ethtool", "-K", device, "gro", "on", "tso", "off", "gso", "off", "tx-udp-segmentation", "off"
        )
        ends.append((lab.server, device))
    for namespace, device in ends:
        lab.run(namespace, "sysctl", "-qw", "net.ipv4.ip_local_port_range=10000 60999")
        lab.run(namespace, "sh", "-c", f"echo 1 > /sys/class/net/{device}/threaded")
        for thread in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if (thread / "comm").read_text().startswith(f"napi/{device}"):
                    subprocess.run(["taskset", "-pc", CPU, thread.name], capture_output=True, check=True)
                    subprocess.run(["chrt", "-f", "-p", "1", thread.name], capture_output=True, check=True)


def version_of_coturn() -> str:
    """What `turnserver` says of itself."""
    program = shutil.which("turnserver") or "turnserver"
    printed = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    return f"coturn {printed.split()[-1] if printed.split() else 'of unknown version'}"


def rss_mib(pid: int) -> float:
    """Resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def median(rows: list[Row], key: str) -> float:
    """The median of one figure over the rounds."""
    return statistics.median(float(row[key]) for row in rows)


if __name__ == "__main__":
    main()
