"""The whole service is killed or told to end while calls run: what ends with it, and what the next one knows."""

import os
import select
import signal
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.running_calls import CallBroken, running_calls
from tests.support.service import STOP_SECONDS, Service, run_service
from tests.support.visitor import join
from tests.support.wire_client import Server, run_relay

pytestmark = pytest.mark.long

ALLOCATION_MISMATCH, INSUFFICIENT_CAPACITY = 437, 508
LONG = 600  # seconds: whoever waits for this deadline fails the test


@pytest.fixture(params=[1, 2], ids=["one process", "a supervisor and two workers"])
def workers(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def end_all(service: Service, how: signal.Signals) -> None:
    """Send the signal to the service, and wait for the end of all its processes."""
    children = Path(f"/proc/{service.pid}/task/{service.pid}/children").read_text().split()
    descriptors = [os.pidfd_open(int(pid)) for pid in children]
    service.process.send_signal(how)
    service.process.wait(timeout=STOP_SECONDS)
    for descriptor in descriptors:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        assert poll.poll(STOP_SECONDS * 1000), "a worker outlives the service"
        os.close(descriptor)


def end_under_load(relay: Server, how: signal.Signals) -> None:
    """As `end_all`, while calls run.

    Raises:
        CallBroken: they end with it.
    """
    with running_calls(relay) as calls:
        end_all(relay.service, how)
        calls.go_on()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "told to stop"])
def test_calls_end_with_the_service_and_the_next_one_takes_their_credentials_and_knows_every_appointment(
    tmp_path: Path, workers: int, how: signal.Signals
) -> None:
    port = free_port()
    services = ["relay", "signaling"]
    with run_relay(tmp_path, services=services, signaling={"port": port}, workers=workers) as relay:
        code = relay.service.create_appointment().organiser
        with closing(relay.client()) as client:
            assert client.allocate().code == 0
            with pytest.raises(CallBroken):
                end_under_load(relay, how)
            late = relay.service.create_appointment().organiser  # the database needs no service
            with run_service(tmp_path, relay.service.settings) as again:
                assert client.refresh().code == ALLOCATION_MISMATCH
                assert client.allocate().code == 0
                assert [join(port, each)["type"] for each in (code, late)] == ["joined"] * 2
                with running_calls(Server(again, relay.ports)) as calls:
                    calls.go_on()


def test_a_service_that_may_drain_loses_no_packet_of_a_call_and_the_next_one_takes_over_on_its_ports(
    tmp_path: Path, workers: int
) -> None:
    port = free_port()
    services = ["relay", "signaling"]
    with run_relay(tmp_path, services=services, signaling={"port": port}, workers=workers, drain_seconds=LONG) as relay:
        code = relay.service.create_appointment().organiser
        with running_calls(relay) as calls:
            relay.service.terminate()
            relay.service.await_that(lambda: not relay.service.is_ready())
            with closing(relay.client()) as late:
                assert late.allocate().code == INSUFFICIENT_CAPACITY
            calls.go_on()
        assert "stopped" in relay.service.await_end()
        with run_service(tmp_path, relay.service.settings) as again:
            assert join(port, code)["type"] == "joined"
            with running_calls(Server(again, relay.ports)) as calls:
                calls.go_on()
