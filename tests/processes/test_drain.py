"""SIGTERM with `drain_seconds`: nobody new, everybody who is there may finish, and a clean end."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stun.attributes import ALTERNATE_SERVER
from tests.support.service import STOP_SECONDS
from tests.support.wire_client import Server, WireClient, run_relay

pytestmark = pytest.mark.long

SELF_TESTS = 'redconnect_relay_allocations_authenticated_total{secret="self_test"}'
LONG = 600  # seconds: whoever waits for this deadline fails the test


@pytest.fixture(params=[1, 2], ids=lambda count: f"{count} workers")
def workers(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@contextlib.contextmanager
def draining(folder: Path, **settings: Any) -> Iterator[tuple[Server, WireClient]]:  # noqa: ANN401
    """A relay with one allocation, and no place for another."""
    with run_relay(folder, **settings) as relay, contextlib.closing(relay.client()) as client:
        assert client.allocate().code == 0
        assert relay.service.is_ready()
        relay.service.terminate()
        relay.service.await_that(lambda: "draining: 1 allocations" in relay.service.log.read_text())
        assert not relay.service.is_ready()
        yield relay, client


def test_a_draining_relay_takes_nobody_new_and_keeps_everybody_who_is_there(tmp_path: Path, workers: int) -> None:
    with draining(tmp_path, drain_seconds=LONG, workers=workers) as (relay, client):
        for transport in ("udp", "tcp", "tls"):
            with contextlib.closing(relay.client(transport)) as late:
                assert late.allocate().code == 508
        assert client.refresh(900).code == 0
        probed = relay.service.metrics()[SELF_TESTS]
        assert (relay.service.admin_status("/readyz"), relay.service.admin_status("/healthz")) == (503, 200)
        assert relay.service.readiness()["checks"] == {"draining": False}
        assert relay.service.metrics()[SELF_TESTS] == probed, "nothing is allocated to find out what is known"
        assert relay.service.metrics()["redconnect_relay_draining"] == 1
        assert client.refresh(0).code == 0
        relay.service.await_end()


def test_a_draining_relay_names_its_alternate(tmp_path: Path, workers: int) -> None:
    settings = {"drain_seconds": LONG, "workers": workers, "alternate_servers": ["198.41.0.9:3478"]}
    with draining(tmp_path, **settings) as (relay, client):
        with contextlib.closing(relay.client()) as late:
            response = late.allocate()
            assert (response.code, str(response.get(ALTERNATE_SERVER))) == (300, "198.41.0.9:3478")
        assert client.refresh().code == 0
        assert client.refresh(0).code == 0
        relay.service.await_end()


def test_it_ends_as_soon_as_the_last_allocation_does(tmp_path: Path, workers: int) -> None:
    with draining(tmp_path, drain_seconds=LONG, workers=workers) as (relay, client):
        with contextlib.closing(relay.client()) as other:
            assert other.allocate().code == 508
        assert client.refresh(0).code == 0
        assert "stopped" in relay.service.await_end()


def test_it_ends_at_the_deadline_at_the_latest(tmp_path: Path, workers: int) -> None:
    with draining(tmp_path, drain_seconds=2, workers=workers) as (relay, client):
        began = time.monotonic()
        assert client.refresh().code == 0
        logged = relay.service.await_end(2 + STOP_SECONDS)
        assert time.monotonic() - began > 1
        assert "(shutdown)" in logged


@pytest.mark.parametrize("again", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(tmp_path: Path, workers: int, again: signal.Signals) -> None:
    with draining(tmp_path, drain_seconds=LONG, workers=workers) as (relay, client):
        assert client.refresh().code == 0
        relay.service.process.send_signal(again)
        assert "(shutdown)" in relay.service.await_end()


def test_sigint_does_not_wait_for_anybody(tmp_path: Path, workers: int) -> None:
    with (
        run_relay(tmp_path, drain_seconds=LONG, workers=workers) as relay,
        contextlib.closing(relay.client()) as client,
    ):
        assert client.allocate().code == 0
        relay.service.process.send_signal(signal.SIGINT)
        assert "(shutdown)" in relay.service.await_end()


def test_an_idle_relay_does_not_wait_for_the_deadline(tmp_path: Path, workers: int) -> None:
    with run_relay(tmp_path, drain_seconds=LONG, workers=workers) as relay:
        relay.service.terminate()
        relay.service.await_end()


def test_an_allocation_made_just_before_the_drain_is_waited_for(tmp_path: Path, workers: int) -> None:
    with (
        run_relay(tmp_path, drain_seconds=LONG, workers=workers) as relay,
        contextlib.closing(relay.client()) as client,
    ):
        client.get_challenged()
        assert client.allocate().code == 0
        relay.service.terminate()
        relay.service.await_that(lambda: not relay.service.is_ready())
        assert client.refresh().code == 0
        assert client.refresh(0).code == 0
        relay.service.await_end()


def test_nobody_is_waited_for_when_the_workers_of_the_last_allocations_die(tmp_path: Path) -> None:
    with draining(tmp_path, drain_seconds=LONG, workers=2) as (relay, client):
        assert client.refresh().code == 0
        children = Path(f"/proc/{relay.service.pid}/task/{relay.service.pid}/children")
        for text in children.read_text().split():
            os.kill(int(text), signal.SIGKILL)
        relay.service.await_end()
