"""The whole service as it is measured: one process on loopback, its appointments, and what the kernel says of it."""

import contextlib
import hashlib
import json
import os
import resource
import ssl
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.support.ports import free_port
from tests.support.service import Service, run_service

_TOKEN: Final = "the-organisation-of-a-benchmark-on-loopback"
_SPARE_CLIENTS: Final = 100
_STOP_SECONDS: Final = 120.0  # the machine may be busy: how fast the service ends is tested elsewhere
_PROC: Final = Path("/proc")


class Locators(NamedTuple):
    """The two seats of an appointment."""

    organiser: str
    participant: str


class Memory(NamedTuple):
    """What a process takes, in KiB: its pages, and its share of those that others use, too."""

    rss: int
    pss: int


class SignalingServer:
    """A running service and what is asked of it."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.url: str = service.settings["signaling"]["public_url"]
        own = Path(service.settings["state_dir"]) / "certificate.pem"
        self.trust = ssl.create_default_context(cafile=own)  # for https, by the name localhost

    @property
    def pid(self) -> int:
        """The process that is measured."""
        return self.service.pid

    def plan(self, count: int) -> list[Locators]:
        """Make appointments that have just begun, by the API."""
        return [self._plan_one() for _ in range(count)]

    def cpu_seconds(self) -> float:
        """CPU time of the process up to now, all threads and the kernel on their behalf."""
        return cpu_seconds(self.pid)

    def memory(self) -> Memory:
        """Memory of the process."""
        return memory(self.pid)

    def _plan_one(self) -> Locators:
        request = urllib.request.Request(  # noqa: S310 - this machine
            f"{self.url}/api/v1/appointments",
            data=json.dumps({"start": "now"}).encode(),
            headers={"Authorization": f"Bearer {_TOKEN}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10, context=self.trust) as answer:  # noqa: S310 - this machine
            locators = json.load(answer)["locators"]
        return Locators(locators["organiser"], locators["participant"])


@contextlib.contextmanager
def run_signaling(
    clients: int, *, https: bool = False, changes: Mapping[str, Mapping[str, Any]] | None = None
) -> Iterator[SignalingServer]:
    """Start the service with relay and pages, as one process does for a practice, and with bounds for one address.

    Args:
        clients: sockets that will be open at a time.
        https: serve the pages over TLS.
        changes: other settings, by section.
    """
    raise_descriptor_limit()  # the service inherits it
    port = free_port()
    settings: dict[str, dict[str, Any]] = {
        "relay": {
            "listen_addresses": ["127.0.0.1"],
            "udp_ports": [free_port()],
            "tcp_ports": [free_port()],
            "tls_ports": [free_port()],
        },
        "signaling": {
            "listen_addresses": ["127.0.0.1"],
            "port": port,
            "public_url": f"{'https' if https else 'http'}://localhost:{port}",
            "https": https,
            "max_clients": clients + _SPARE_CLIENTS,
            "unknown_codes_per_minute": 1000,  # joins that are being looked up count as unknown
            "api_requests_per_minute": 60_000,
            "organisations": {"bench": {"tokens_sha256": [hashlib.sha256(_TOKEN.encode()).hexdigest()]}},
        },
    }
    for section, values in (changes or {}).items():
        settings[section] = {**settings.get(section, {}), **values}
    with tempfile.TemporaryDirectory() as name, run_service(Path(name), settings) as service:
        yield SignalingServer(service)
        service.terminate()
        service.await_end(_STOP_SECONDS)


def raise_descriptor_limit() -> int:
    """Let this process and its children open as many descriptors as the machine allows; returns how many."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def cpu_seconds(pid: int) -> float:
    """CPU time of a process in user space and kernel, to the kernel's tick (10 ms)."""
    fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> Memory:
    """Memory of a process."""
    lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()[1:]
    sizes = {key: int(rest.split()[0]) for key, _, rest in (line.partition(":") for line in lines)}
    return Memory(sizes["Rss"], sizes["Pss"])
