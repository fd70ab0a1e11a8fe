"""`redconnect ctl` and the health of a running service, with one process and with workers."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.service import ROOT, Service
from tests.support.wire_client import Server, run_relay

pytestmark = pytest.mark.long

SELF_TESTS = 'redconnect_relay_allocations_authenticated_total{secret="self_test"}'


@pytest.fixture(params=[1, 2], ids=lambda count: f"{count} workers")
def workers(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def relay(tmp_path: Path, workers: int) -> Iterator[Server]:
    with run_relay(tmp_path, workers=workers) as server:
        yield server


@pytest.fixture
def single(tmp_path: Path) -> Iterator[Server]:
    with run_relay(tmp_path) as server:
        yield server


def status(service: Service) -> dict[str, Any]:
    told = service.command("ctl", "status", "--json")
    assert told.returncode == 0, told.stderr
    found: dict[str, Any] = json.loads(told.stdout)
    return found


def readiness(service: Service) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(service.admin("/readyz"))
    return found


def test_status_tells_who_runs_and_what_goes_on(relay: Server, workers: int) -> None:
    with contextlib.closing(relay.client()) as client:
        assert client.allocate().code == 0
        relay.service.await_that(lambda: status(relay.service)["allocations"] == 1)
    told = status(relay.service)
    assert told["pid"] == relay.service.pid
    assert told["services"] == ["relay"]
    assert told["drain"] == {"draining": False, "ends_at_latest": None}
    assert told["certificate"]["days_left"] > 300
    assert told["last_reload"] is None
    children = Path(f"/proc/{relay.service.pid}/task/{relay.service.pid}/children").read_text().split()
    assert sorted(worker["pid"] for worker in told["workers"]) == sorted(map(int, children))
    assert len(told["workers"]) == (workers if workers > 1 else 0)
    assert all(worker["up"] and worker["ready"] for worker in told["workers"])
    shown = relay.service.command("ctl", "status").stdout
    assert f"PID {relay.service.pid}" in shown and "draining     no" in shown


def test_reload_tells_what_has_changed(relay: Server) -> None:
    relay.service.configure(
        {"relay": {**relay.service.settings["relay"], "drain_seconds": 7}, "log": {"level": "debug"}}
    )
    told = relay.service.command("ctl", "reload")
    assert (told.returncode, told.stdout.splitlines()) == (
        0,
        ["relay.drain_seconds: 0 -> 7", 'log.level: "info" -> "debug"', "reloaded: 2 keys differ"],
    )
    assert status(relay.service)["last_reload"]["reloaded"] is True


def test_reload_tells_every_mistake_and_the_old_settings_stay(single: Server) -> None:
    broken = {**single.service.settings, "relay": {**single.service.settings["relay"], "port_min": 1}, "typo": 1}
    single.service.config.write_text(json.dumps(broken))
    words = ["ctl", "reload", "--state-dir", str(single.service.settings["state_dir"])]
    told = subprocess.run(
        [sys.executable, "-m", "config", *words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert told.returncode == 1
    assert [line.partition(":")[0] for line in told.stderr.splitlines()] == ["relay.port_min", "typo"]
    assert single.service.command("ctl", "reload").returncode == 1  # also where it finds the mistakes by itself
    with contextlib.closing(single.client()) as client:
        assert client.allocate().code == 0


def test_drain_waits_for_those_who_are_there_and_says_so(relay: Server) -> None:
    with contextlib.closing(relay.client()) as client:
        assert client.allocate().code == 0
        relay.service.await_that(lambda: status(relay.service)["allocations"] == 1)
        words = [sys.executable, "-m", "config", "ctl", "drain", "--deadline", "600", "--config"]
        with subprocess.Popen(
            [*words, str(relay.service.config)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as draining:
            assert draining.stdout is not None
            assert draining.stdout.readline().startswith("draining: 1 allocations, 0 conferences; ends at 2")
            assert status(relay.service)["drain"]["draining"] is True
            assert not relay.service.is_ready()
            assert client.refresh(0).code == 0
            assert draining.stdout.read().endswith("the service has ended\n")
            assert draining.wait(20) == 0
    relay.service.await_end()


def test_drain_without_anybody_ends_at_once(single: Server) -> None:
    told = single.service.command("ctl", "drain", "--deadline", "600")
    assert (told.returncode, told.stdout.splitlines()[-1]) == (0, "the service has ended")
    assert single.service.process.poll() == 0
    single.service.await_end()


def test_stop_does_not_wait_for_anybody(single: Server) -> None:
    with contextlib.closing(single.client()) as client:
        assert client.allocate().code == 0
        assert single.service.command("ctl", "stop").returncode == 0
        single.service.await_end()
    told = single.service.command("ctl", "status")
    assert told.returncode == 1
    assert "no service runs with this state_dir" in told.stderr


def test_a_service_that_was_killed_leaves_no_socket_in_the_way(tmp_path: Path) -> None:
    with contextlib.suppress(AssertionError), run_relay(tmp_path) as relay:  # it does not end cleanly
        os.kill(relay.service.pid, signal.SIGKILL)
        relay.service.process.wait(10)
        assert (tmp_path / "var" / "ctl.sock").is_socket()
        assert relay.service.command("ctl", "status").returncode == 1
    with run_relay(tmp_path) as again:
        assert status(again.service)["pid"] == again.service.pid


def test_readiness_includes_an_allocation_of_every_worker_that_nobody_sees_in_the_log(
    relay: Server, workers: int
) -> None:
    told = readiness(relay.service)
    assert told["ready"] is True
    assert told["checks"] == dict.fromkeys(("relay", "ports", "self_allocation", "certificate"), True)
    relay.service.await_that(lambda: relay.service.metrics()[SELF_TESTS] >= workers)
    metrics = relay.service.metrics()
    assert metrics['redconnect_relay_allocations{family="ipv4",transport="udp"}'] == 0
    assert "allocation" not in relay.service.log.read_text()


def test_probes_cannot_overload_the_service(relay: Server) -> None:
    url = f"http://127.0.0.1:{relay.service.settings['admin']['port']}/readyz"
    for _ in range(300):
        with urllib.request.urlopen(url, timeout=10) as answer:
            answer.read()
    assert relay.service.metrics()[SELF_TESTS] <= 5 * 16  # some rounds, where 300 would have been thousands


def test_a_relay_without_a_port_left_is_not_ready(tmp_path: Path) -> None:
    with (
        run_relay(tmp_path, port_min=51_700, port_max=51_701, quota={"total_share_percent": 50}) as relay,
        contextlib.closing(relay.client()) as client,
    ):
        assert client.allocate().code == 0
        assert relay.service.admin_status("/readyz") == 503
        with pytest.raises(ConnectionError):
            relay.service.admin("/readyz")
        assert client.refresh(0).code == 0
        relay.service.await_that(relay.service.is_ready)


def test_a_process_that_lives_says_so(single: Server) -> None:
    told = json.loads(single.service.admin("/livez"))
    assert (told["alive"], told["checks"]) == (True, {"event_loop": True})
