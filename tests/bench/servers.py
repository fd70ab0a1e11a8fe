"""The two servers under test, configured alike: long-term credentials, UDP relaying, no extras."""

import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.lab import Lab

ROOT: Final = Path(__file__).resolve().parents[2]
SERVER_CPU: Final = "1"
LOWEST_RELAYED_PORT: Final = 16384
KERNEL_BAR: Final = 0.33
START_SECONDS: Final = 15.0
STOP_SECONDS: Final = 10.0
_CERTIFICATE, _KEY = "certificate.pem", "key.pem"


class Target(NamedTuple):
    """A server under test."""

    name: str
    port: int  # UDP and TCP
    tls_port: int
    command: list[str]
    cpu_bar: float | None = None  # of its CPU per packet over UDP to the reference's, where it has one of its own
    status: list[str] | None = None  # what tells how many flows the kernel relays for it


def coturn(lab: Lab, folder: Path) -> Target:
    """Debian's coturn."""
    words = ["turnserver", "-n", "--realm=bench", "--listening-port=3478", "-L", lab.server_ip]
    words += ["-E", lab.server_ip_for_bob, "-a", "-u", "user:pass", "--no-cli", "--no-dtls"]
    words += ["--tls-listening-port=5349", f"--cert={folder / _CERTIFICATE}", f"--pkey={folder / _KEY}"]
    words += ["--no-software-attribute", "--log-file=stdout", "--userdb=/nonexistent", "--no-rfc5780"]
    words += [f"--min-port={LOWEST_RELAYED_PORT}", "--max-port=65535", "--pidfile=/dev/null"]
    return Target("coturn", 3478, 5349, words)


def redconnect(lab: Lab, folder: Path, datapath: str = "plain") -> Target:
    """Our relay alone; the kernel's help is only had where it is asked for."""
    settings = {
        "services": ["relay"],
        "state_dir": str(folder / "var"),
        "log": {"level": "warning"},
        "tls": {"certificate_file": str(folder / _CERTIFICATE), "key_file": str(folder / _KEY)},
        "relay": {
            "realm": "bench",
            "datapath": datapath,
            "listen_addresses": [lab.server_ip],
            "relay_addresses": [lab.server_ip_for_bob],
            "udp_ports": [3479],
            "tcp_ports": [3479],
            "tls_ports": [5350],
            "port_min": LOWEST_RELAYED_PORT,
            "users": {"user": "pass"},
            # One client address stands for all of them here.
            "quota": {
                "allocations_per_user": 10_000,
                "challenges_per_second": 1_000_000,
                "challenge_burst": 1_000_000,
                "bytes_per_second": 0,  # one allocation alone may have to carry all packets
                "peer_packets_per_second": 0,
            },
            "peers": {"allow": [f"{lab.bob_ip}/32"]},
        },
    }
    path = folder / f"bench-{datapath}.yaml"
    path.write_text(json.dumps(settings))
    program = [sys.executable, "-m", "config"]
    command = [*program, "serve", "--config", str(path)]
    if datapath != "kernel":
        return Target("redconnect", 3479, 5350, command)
    status = [*program, "ctl", "status", "--json", "--config", str(path)]
    return Target("redconnect", 3479, 5350, command, KERNEL_BAR, status)


def make_certificate(folder: Path) -> None:
    """One self-signed certificate for both: what a handshake and a record cost depends on it."""
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-subj", "/CN=bench", "-days", "2", "-keyout", str(folder / _KEY), "-out", str(folder / _CERTIFICATE)]
    subprocess.run(words, capture_output=True, check=True)


def version_of_coturn() -> str:
    """What `turnserver` says of itself."""
    program = shutil.which("turnserver") or "turnserver"
    printed = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout.split()
    return f"coturn {printed[-1] if printed else 'of unknown version'}"


@contextlib.contextmanager
def running(lab: Lab, target: Target) -> Iterator[list[int]]:
    """Start a server inside its namespace, wait for its first answer, yield the PIDs of its processes, stop it."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # every allocation has a socket
    limits = ["prlimit", f"--nofile={most}:{most}"]
    words = lab.command(lab.server, *limits, "chrt", "-f", "1", "taskset", "-c", SERVER_CPU, *target.command)
    # ip, prlimit, chrt and taskset each exec the next program, so the child's PID is the server's.
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=ROOT)
    try:
        _await_binding(lab, target, process)
        yield _family(process.pid)
    finally:
        process.terminate()
        try:
            process.communicate(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()


def flows_in_kernel(target: Target) -> int:
    """How many flows the kernel relays for a server; 0 for one that relays in user space."""
    if target.status is None:
        return 0
    told = subprocess.run(target.status, capture_output=True, text=True, check=True, cwd=ROOT)
    return int(json.loads(told.stdout)["kernel_flows"])


def resident_kib(pids: list[int]) -> int:
    """Resident memory of processes."""
    return sum(int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) for pid in pids)


def _family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            parents.setdefault(int(path.read_text().rpartition(")")[2].split()[1]), []).append(int(path.parent.name))
    family = [pid]
    for member in family:  # grows while it is read
        family += parents.get(member, [])
    return family


def _await_binding(lab: Lab, target: Target, process: subprocess.Popen[bytes]) -> None:
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
