"""The supervisor with real workers: what an operator asks of it, and workers that hang, fail or will not start."""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from config.crew import Patience, WorkerFailed
from config.reload import ReloadFailed
from config.schema import Settings
from config.state import State
from config.supervisor import Supervisor
from relay.io.listening import BindError
from stun.attributes import LIFETIME, REQUESTED_TRANSPORT, XOR_RELAYED_ADDRESS
from stun.registry import Method
from tests.support.ports import free_port
from tests.support.turn_client import Field, Response, TurnClient
from tests.support.udp_endpoint import UdpEndpoint

HOST = "127.0.0.1"
PORT_MIN, PORT_MAX = 50_600, 50_799
UDP = (REQUESTED_TRANSPORT, 17)
PATIENCE = Patience(reply=1.0, scrape=0.5, between_pings=0.05)


def configure(port: int, **relay: Any) -> Settings:  # noqa: ANN401
    return Settings.model_validate(
        {
            "services": ["relay"],
            "relay": {
                "workers": 2,
                "listen_addresses": [HOST],
                "relay_addresses": [HOST],
                "udp_ports": [port],
                "tcp_ports": [],
                "tls_ports": [],
                "port_min": PORT_MIN,
                "port_max": PORT_MAX,
                "users": {"alice": "wonderland"},
                **relay,
            },
        }
    )


def state(secret: bytes = b"s" * 32) -> State:
    return State(Path("/nowhere"), secret, b"", Path("/nowhere/c"), Path("/nowhere/k"), True, "")  # noqa: FBT003


class Client:
    """A TURN client that retransmits."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._endpoint = UdpEndpoint(HOST)
        self._turn = TurnClient("alice", "wonderland")

    def use(self, user: str, password: str) -> None:
        """Be somebody else, at the same address."""
        self._turn = TurnClient(user, password)

    async def ask(self, method: Method, *fields: Field) -> Response:
        request = self._turn.build(method, *fields)
        for _ in range(40):
            self._endpoint.send(request, (HOST, self._port))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.25):
                    data = await self._endpoint.receive()
                    while data[8:20] != self._turn.transaction_id:
                        data = await self._endpoint.receive()
                    return self._turn.read(data)
        raise TimeoutError

    async def allocate(self) -> Response:
        response = await self.ask(Method.ALLOCATE, UDP)
        return await self.ask(Method.ALLOCATE, UDP) if response.code == 401 else response

    async def refresh(self) -> int:
        return (await self.ask(Method.REFRESH)).code

    def close(self) -> None:
        self._endpoint.close()


class Scene:
    """A supervisor with two workers, and clients of each."""

    def __init__(self, supervisor: Supervisor, registry: CollectorRegistry, port: int) -> None:
        self.supervisor = supervisor
        self.registry = registry
        self.port = port
        self.clients: list[Client] = []

    async def client_of(self, worker: int) -> Client:
        """A client whose packets reach this worker."""
        for _ in range(64):
            client = Client(self.port)
            self.clients.append(client)
            relayed = (await client.allocate()).get(XOR_RELAYED_ADDRESS)
            assert (await client.ask(Method.REFRESH, (LIFETIME, 0))).code == 0
            if 2 * (relayed.port - PORT_MIN) // (PORT_MAX + 1 - PORT_MIN) == worker:
                return client
        raise AssertionError(f"64 clients, and none with worker {worker}")

    async def replace(self, worker: int, number: signal.Signals = signal.SIGKILL) -> None:
        """End a worker, and wait for the next one."""
        before = self.supervisor.pids[worker]
        os.kill(before, number)
        place = self.supervisor._places[worker]
        await eventually(lambda: self.supervisor.pids[worker] != before and place.is_up)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # other processes set no event
            await asyncio.sleep(0.01)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    port, registry = free_port(), CollectorRegistry()
    supervisor = Supervisor(configure(port), state(), registry, PATIENCE)
    await supervisor.start()
    opened = Scene(supervisor, registry, port)
    pids = supervisor.pids
    try:
        yield opened
    finally:
        pids += supervisor.pids
        await supervisor.stop()
        for client in opened.clients:
            client.close()
    for pid in filter(None, pids):
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_worker_that_hangs_is_killed_and_replaced(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    client = await scene.client_of(1)
    assert (await client.allocate()).code == 0
    await scene.replace(1, signal.SIGSTOP)
    assert "worker 1 hangs" in caplog.text
    assert await client.refresh() == 437
    assert (await client.allocate()).code == 0


async def test_draining_refuses_new_allocations_in_every_worker_and_in_those_that_follow(scene: Scene) -> None:
    clients = [await scene.client_of(worker) for worker in range(2)]
    assert (await clients[0].allocate()).code == 0
    before = scene.supervisor.ready
    await scene.supervisor.drain()
    assert (before, scene.supervisor.ready) == (True, False)
    assert await clients[0].refresh() == 0
    assert (await clients[1].allocate()).code == 508
    await eventually(lambda: scene.supervisor.allocations == 1)
    await scene.replace(0)
    assert (await clients[0].allocate()).code == 508
    assert scene.supervisor.allocations == 0


async def test_reloaded_settings_reach_every_worker_and_those_that_follow(scene: Scene) -> None:
    clients = [await scene.client_of(worker) for worker in range(2)]
    await scene.supervisor.reload(configure(scene.port, users={"bob": "builder"}), state(b"t" * 32))
    for client in clients:
        assert (await client.allocate()).code == 401
        client.use("bob", "builder")
        assert (await client.allocate()).code == 0
    await scene.replace(0)
    assert await clients[0].refresh() == 437
    assert (await clients[0].allocate()).code == 0


async def test_settings_that_a_worker_cannot_take_change_no_worker_and_none_that_follows(scene: Scene) -> None:
    clients = [await scene.client_of(worker) for worker in range(2)]
    with pytest.raises(ReloadFailed, match="needs at least 32 bytes"):
        await scene.supervisor.reload(configure(scene.port, users={"bob": "builder"}), state(b"too short"))
    for client in clients:
        assert (await client.allocate()).code == 0
    await scene.replace(0)
    assert (await clients[0].allocate()).code == 0


async def test_allocations_are_counted_anew_when_draining_begins(scene: Scene) -> None:
    client = await scene.client_of(1)
    for task in scene.supervisor._tasks:
        task.cancel()  # no more pings
    assert (await client.allocate()).code == 0
    assert scene.supervisor.allocations == 0
    await scene.supervisor.drain()
    assert scene.supervisor.allocations == 1


async def test_counters_never_go_down_when_a_worker_is_replaced(scene: Scene) -> None:
    def answered() -> float:
        labels = {"method": "allocate", "transport": "udp"}
        return scene.registry.get_sample_value("redconnect_relay_requests_answered_total", labels) or 0.0

    client = await scene.client_of(0)
    await scene.supervisor.refresh()
    before = answered()
    assert before >= 1
    await scene.replace(0)
    assert answered() == before
    await scene.supervisor.refresh()
    assert answered() == before
    assert (await client.allocate()).code == 0
    await scene.supervisor.refresh()
    assert answered() == before + 1
    assert scene.registry.get_sample_value("redconnect_worker_restarts_total", {"worker": "0"}) == 1


async def test_the_processor_time_of_a_place_includes_those_that_ended(scene: Scene) -> None:
    def seconds() -> float:
        return scene.registry.get_sample_value("redconnect_worker_cpu_seconds_total", {"worker": "0"}) or 0.0

    first = seconds()
    assert first > 0
    await scene.replace(0)
    assert seconds() > first


async def test_a_worker_that_dies_at_once_again_is_not_started_again_at_once(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    delays: list[float] = []
    place = scene.supervisor._places[0]
    delay = place.backoff.delay

    def note(lived: float) -> float:
        delays.append(delay(lived))
        return 0.0

    monkeypatch.setattr(place.backoff, "delay", note)
    for _ in range(3):
        await scene.replace(0)
    assert delays == [0, 1, 2]
    assert caplog.text.count("worker 0 ended with status -9") == 3


async def test_what_keeps_a_worker_from_starting_is_told_and_nothing_stays_open(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    port = free_port()
    settings = configure(port, relay_addresses=["192.0.2.99"])
    failing = Supervisor(settings, state(), CollectorRegistry(), PATIENCE)
    with pytest.raises(WorkerFailed, match=r"cannot relay from 192\.0\.2\.99"):
        await failing.start()
    assert not failing.ready
    assert failing.pids == [0, 0]
    following = Supervisor(configure(port), state(), CollectorRegistry(), PATIENCE)
    await following.start()
    await following.stop()


async def test_too_few_ports_are_told_before_anything_starts() -> None:
    settings = configure(free_port(), port_min=50_000, port_max=50_002)
    with pytest.raises(WorkerFailed, match="3 ports are too few for 2 workers"):
        await Supervisor(settings, state(), CollectorRegistry()).start()


async def test_a_port_that_is_taken_is_told(scene: Scene) -> None:
    second = Supervisor(configure(scene.port), state(), CollectorRegistry(), PATIENCE)
    with pytest.raises(BindError, match=f"cannot listen on UDP {HOST}:{scene.port}"):
        await second.start()
