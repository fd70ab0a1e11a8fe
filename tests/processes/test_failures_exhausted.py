"""No port, no descriptor left: running calls go on, new ones hear a clear no, and both work again when there is one."""

import resource
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.support.ports import free_port, free_ports
from tests.support.running_calls import running_calls
from tests.support.service import Service
from tests.support.visitor import join
from tests.support.wire import TcpWire
from tests.support.wire_client import Server, WireClient, run_relay

pytestmark = pytest.mark.long

INSUFFICIENT_CAPACITY = 508
FOUR = ("udp", "udp", "tcp", "tls")


def test_without_a_free_port_a_new_call_is_told_so_and_the_next_port_given_back_is_its(tmp_path: Path) -> None:
    ports = free_ports(len(FOUR))
    quota = {"challenges_per_second": 100_000, "challenge_burst": 100_000, "total_share_percent": 100}
    with (
        run_relay(tmp_path, port_min=ports[0], port_max=ports[-1], quota=quota) as relay,
        running_calls(relay, FOUR[1:]) as calls,
    ):
        with closing(relay.client()) as last:
            assert last.allocate().code == 0
            with closing(relay.client()) as late:
                for _ in range(20):
                    assert late.allocate().code == INSUFFICIENT_CAPACITY
                calls.go_on()
                assert last.refresh(0).code == 0
                assert late.allocate().code == 0
                calls.go_on()
        assert relay.service.metrics()['redconnect_relay_ports_taken{family="ipv4"}'] == len(FOUR) - 1


@contextmanager
def no_descriptor_left(service: Service) -> Iterator[None]:
    """Let the process open nothing more for a while."""
    taken = {int(path.name) for path in Path(f"/proc/{service.pid}/fd").iterdir()}
    lowest_free = next(number for number in range(len(taken) + 1) if number not in taken)
    before = resource.prlimit(service.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (lowest_free, before[1]))
    try:
        yield
    finally:
        resource.prlimit(service.pid, resource.RLIMIT_NOFILE, before)


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Server]:
    with run_relay(tmp_path, services=["relay", "signaling"], signaling={"port": free_port()}) as server:
        yield server


def test_without_descriptors_calls_go_on_new_ones_are_refused_and_who_has_connected_waits_for_the_next_one(
    relay: Server,
) -> None:
    service = relay.service
    code = service.create_appointment().organiser
    with running_calls(relay) as calls, closing(relay.client("tls")) as early, closing(relay.client()) as late:
        with no_descriptor_left(service):
            for client in (early, late):
                assert client.allocate().code == INSUFFICIENT_CAPACITY
            calls.go_on()
            waiting = WireClient(TcpWire(("127.0.0.1", relay.ports["tcp"])), relay.new_user())
            waiting.wire.send(waiting.binding())
            with pytest.raises(TimeoutError):
                waiting.wire.receive(1.5)  # longer than a listener pauses
            calls.go_on()
        with closing(waiting):
            assert waiting.wire.receive()[:2] == b"\x01\x01"  # the answer to what it sent meanwhile
        for client in (early, late):
            assert client.allocate().code == 0
        assert join(service.settings["signaling"]["port"], code)["type"] == "joined"
        calls.go_on()
        service.await_that(service.is_ready)
