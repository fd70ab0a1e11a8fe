"""Workers of the SFU under the real service: they begin and end with it, and are seen in its metrics."""

import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ports import free_port, free_ports
from tests.support.service import Service, run_service

HOST = "127.0.0.1"
SHOWN = {
    "redconnect_sfu_worker_up",
    "redconnect_sfu_worker_restarts_total",
    "redconnect_sfu_worker_cpu_seconds_total",
    "redconnect_sfu_worker_resident_memory_bytes",
}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    settings = {
        "services": ["relay", "signaling", "sfu"],
        "signaling": {"port": free_port()},
        "relay": {
            "workers": 2,
            "listen_addresses": [HOST],
            "udp_ports": [free_port()],
            "tcp_ports": [free_port()],
            "tls_ports": [free_port()],
        },
        "sfu": {"workers": 2, "udp_port": free_ports(2)[0], "listen_addresses": [HOST]},
    }
    with run_service(tmp_path, settings) as started:
        yield started


def pids(service: Service, kind: str) -> dict[int, int]:
    """The processes of the workers of a kind by their number."""
    found = {}
    for text in Path(f"/proc/{service.pid}/task/{service.pid}/children").read_text().split():
        words = Path(f"/proc/{text}/cmdline").read_text().split("\0")
        if kind in words:
            found[int(words[words.index(kind) + 1])] = int(text)
    return found


def await_end(descriptor: int) -> None:
    """Wait for the end of a process whose descriptor this is."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    assert poll.poll(10_000), "the process does not end"
    os.close(descriptor)


def test_they_are_shown_beside_the_workers_of_the_relay_and_a_killed_one_is_replaced(service: Service) -> None:
    samples = service.metrics()
    lines = [line.rpartition(" ")[0] for line in service.admin("/metrics").splitlines() if line[:1] != "#"]
    assert len(lines) == len(set(lines))  # no series comes twice
    for name in SHOWN:
        assert [f'{name}{{worker="{worker}"}}' in samples for worker in range(3)] == [True, True, False]
    assert samples['redconnect_sfu_sessions{state="connected"}'] == 0
    relays, before = pids(service, "--relay-worker"), pids(service, "--sfu-worker")
    os.kill(before[1], signal.SIGKILL)
    service.await_that(
        lambda: (
            pids(service, "--sfu-worker").get(1, before[1]) != before[1]
            and service.metrics()['redconnect_sfu_worker_up{worker="1"}'] == 1
        ),
        seconds=60,
    )
    assert service.metrics()['redconnect_sfu_worker_restarts_total{worker="1"}'] == 1
    assert pids(service, "--sfu-worker")[0] == before[0]
    assert pids(service, "--relay-worker") == relays
    assert service.is_ready()


def test_they_end_with_the_service_also_when_all_are_told_at_once(service: Service) -> None:
    workers = pids(service, "--sfu-worker")
    descriptors = [os.pidfd_open(pid) for pid in workers.values()]
    assert len(descriptors) == 2
    for pid in workers.values():
        os.kill(pid, signal.SIGTERM)  # as systemd does
    logged = service.stop()
    for descriptor in descriptors:
        await_end(descriptor)
    for word in ("error", "Traceback", "killed"):
        assert word not in logged


def test_they_end_when_the_supervisor_is_killed(service: Service) -> None:
    descriptors = [os.pidfd_open(pid) for pid in pids(service, "--sfu-worker").values()]
    service.process.kill()
    service.process.wait()
    for descriptor in descriptors:
        await_end(descriptor)


def test_a_port_that_is_taken_is_told_in_one_line(service: Service, tmp_path: Path) -> None:
    folder = tmp_path / "second"
    folder.mkdir()
    taken = service.settings["sfu"]["udp_port"]
    settings = {
        "services": ["signaling", "sfu"],
        "signaling": {"port": free_port()},
        "sfu": {"workers": 2, "udp_port": taken + 1, "listen_addresses": [HOST]},
    }
    with (
        pytest.raises(RuntimeError, match=f"cannot start: cannot listen on UDP port {taken + 1} for conferences: Add"),
        run_service(folder, settings),
    ):
        pass
    assert service.is_ready()


def test_a_new_level_of_the_log_reaches_every_worker(service: Service) -> None:
    assert service.log.read_text().count("SFU ready: UDP port") == 2
    service.reload({"log": {"level": "error"}})
    workers = pids(service, "--sfu-worker")
    os.kill(workers[0], signal.SIGTERM)
    service.await_that(lambda: pids(service, "--sfu-worker").get(0) not in (None, workers[0]), seconds=60)
    service.await_that(lambda: service.metrics()['redconnect_sfu_worker_up{worker="0"}'] == 1, seconds=60)
    assert service.log.read_text().count("SFU ready: UDP port") == 2
