"""Relay workers as real processes: they share ports and quotas, and one that dies takes nobody with it."""

import contextlib
import json
import os
import select
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stun.address import TransportAddress
from stun.attributes import (
    DATA,
    EVEN_PORT,
    LIFETIME,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
)
from stun.credentials import issue_credential
from stun.message import decode_message, encode_message
from stun.registry import MessageClass, Method
from stun.trial import trial_identity
from tests.support.ports import free_port
from tests.support.service import LOOK_EVERY_SECONDS, Service, run_service
from tests.support.turn_client import Field, Response, TurnClient, indication, new_transaction_id

HOST = "127.0.0.1"
RELAY_HOST = "127.0.0.2"  # closed to all but relayed transport addresses, as the address of a server is
PORT_MIN, PORT_MAX = 51_000, 51_399
PATIENCE = 10.0  # seconds
RETRANSMISSION = 0.25  # seconds
UDP = (REQUESTED_TRANSPORT, 17)
LIMIT = 4
LIVE = 'redconnect_relay_allocations{family="ipv4",transport="udp"}'
SECRET = "a-secret-of-at-least-thirty-two-bytes"


class Client:
    """A TURN client over UDP that retransmits."""

    def __init__(self, port: int, user: str = "alice") -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((HOST, port))
        self.use(user)

    def use(self, user: str) -> None:
        """Be somebody else, at the same address."""
        self._turn = TurnClient(user, f"{user}-password")

    def use_trial(self, secret: str = SECRET) -> None:
        """Be a connection test of this address."""
        until = int(time.time()) + 60
        self._turn = TurnClient(*issue_credential(secret.encode(), until, trial_identity(HOST)))

    def ask(self, method: Method, *fields: Field) -> Response:
        request = self._turn.build(method, *fields)
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            self._socket.send(request)
            for data in self.arrivals(RETRANSMISSION):
                if data[8:20] == self._turn.transaction_id:
                    return self._turn.read(data)
        raise TimeoutError(f"no answer within {PATIENCE} s")

    def arrivals(self, timeout: float) -> Iterator[bytes]:
        """What comes, until nothing does for so many seconds."""
        self._socket.settimeout(timeout)
        with contextlib.suppress(TimeoutError):
            while True:
                yield self._socket.recv(2048)

    def allocate(self, *fields: Field) -> Response:
        """Allocate, after a challenge if it needs one."""
        response = self.ask(Method.ALLOCATE, UDP, *fields)
        return self.ask(Method.ALLOCATE, UDP, *fields) if response.code == 401 else response

    def refresh(self, *fields: Field) -> int:
        return self.ask(Method.REFRESH, *fields).code

    def free(self) -> None:
        assert self.refresh((LIFETIME, 0)) == 0

    def permit(self, host: str = HOST) -> None:
        assert self.ask(Method.CREATE_PERMISSION, (XOR_PEER_ADDRESS, TransportAddress.parse(host, 9))).code == 0

    def send(self, data: bytes, peer: TransportAddress) -> None:
        self._socket.send(indication(Method.SEND, (XOR_PEER_ADDRESS, peer), (DATA, data)))

    def receive(self) -> tuple[bytes, TransportAddress]:
        """What a peer sent, and which."""
        self._socket.settimeout(2)
        message = decode_message(self._socket.recv(2048))
        data, peer = message.get(DATA), message.get(XOR_PEER_ADDRESS)
        assert data is not None and peer is not None
        return data, peer

    def exchange(self, peer: socket.socket, data: bytes) -> None:
        """Send something to a peer and get it back."""
        address = TransportAddress.parse(*peer.getsockname())
        self.send(data, address)
        received, relayed = peer.recvfrom(2048)
        assert received == data
        peer.sendto(data, relayed)
        assert self.receive() == (data, address)

    def close(self) -> None:
        self._socket.close()


class Scene:
    """A service with two workers, and clients of each."""

    def __init__(self, service: Service, port: int, admin_port: int) -> None:
        self.service = service
        self.port = port
        self._admin = f"http://{HOST}:{admin_port}"
        self._clients: list[Client] = []

    def client_of(self, worker: int, user: str = "alice") -> Client:
        """A client whose packets reach this worker; the port that a scout gets there tells."""
        for _ in range(64):
            client = Client(self.port, "scout")
            self._clients.append(client)
            relayed = client.allocate().get(XOR_RELAYED_ADDRESS)
            client.free()
            if worker_of(relayed) == worker:
                client.use(user)
                return client
        raise AssertionError(f"64 clients, and none with worker {worker}")

    def pids(self) -> dict[int, int]:
        """The processes of the workers by their number."""
        found = {}
        for text in Path(f"/proc/{self.service.pid}/task/{self.service.pid}/children").read_text().split():
            words = Path(f"/proc/{text}/cmdline").read_bytes().split(b"\0")
            if b"--relay-worker" in words:
                found[int(words[words.index(b"--relay-worker") + 1])] = int(text)
        return found

    def page(self, path: str) -> str:
        try:
            with urllib.request.urlopen(self._admin + path, timeout=PATIENCE) as answer:  # noqa: S310  # ours
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return error.read().decode()

    def metrics(self) -> dict[str, float]:
        lines = [line.rpartition(" ") for line in self.page("/metrics").splitlines() if line[:1] != "#"]
        return {name: float(value) for name, _, value in lines}

    def is_ready(self) -> bool:
        return bool(json.loads(self.page("/readyz"))["ready"])

    def kill(self, worker: int, number: signal.Signals = signal.SIGKILL) -> None:
        os.kill(self.pids()[worker], number)

    def close(self) -> None:
        for client in self._clients:
            client.close()


def worker_of(relayed: TransportAddress) -> int:
    return 2 * (relayed.port - PORT_MIN) // (PORT_MAX + 1 - PORT_MIN)


def await_that(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it does not come true"
        time.sleep(LOOK_EVERY_SECONDS)


def await_end(descriptor: int) -> None:
    """Wait for the end of a process whose descriptor this is."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    assert poll.poll(5000), "the process does not end"
    os.close(descriptor)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    port, admin_port = free_port(), free_port()
    settings: dict[str, Any] = {
        "services": ["relay"],
        "admin": {"port": admin_port},
        "secrets": {"turn_secret": SECRET},
        "relay": {
            "workers": 2,
            "listen_addresses": [HOST],
            "relay_addresses": [RELAY_HOST],
            "udp_ports": [port],
            "tcp_ports": [port],
            "tls_ports": [free_port()],
            "port_min": PORT_MIN,
            "port_max": PORT_MAX,
            "users": {name: f"{name}-password" for name in ("alice", "scout")},
            "quota": {"allocations_per_user": LIMIT},
            "peers": {"allow": ["127.0.0.1/32"]},
        },
    }
    with run_service(tmp_path, settings) as service:
        opened = Scene(service, port, admin_port)
        yield opened
        opened.close()


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind((HOST, 0))
        opened.settimeout(2)
        yield opened


def test_both_workers_answer_on_one_port_and_each_flow_stays_with_its_worker(scene: Scene, peer: socket.socket) -> None:
    for worker in range(2):
        client = scene.client_of(worker)
        assert worker_of(client.allocate().get(XOR_RELAYED_ADDRESS)) == worker
        client.permit()
        for number in range(50):
            client.exchange(peer, b"%d" % number)
        assert client.refresh() == 0
    assert scene.metrics()[LIVE] == 2


def test_the_quota_of_a_user_holds_across_workers(scene: Scene) -> None:
    clients = [scene.client_of(number % 2) for number in range(LIMIT + 2)]
    codes = [client.allocate().code for client in clients]
    assert codes == [0] * LIMIT + [486, 486]
    clients[0].free()
    assert clients[-1].allocate().code == 0  # what one worker gives back the other may give out
    assert clients[-2].allocate().code == 486


def test_a_reservation_made_in_one_worker_is_redeemed_in_the_other(scene: Scene, peer: socket.socket) -> None:
    one, other = scene.client_of(0), scene.client_of(1)
    allocated = one.allocate((EVEN_PORT, True))
    token = (RESERVATION_TOKEN, allocated.get(RESERVATION_TOKEN))
    redeemed = other.allocate(token)
    first, second = allocated.get(XOR_RELAYED_ADDRESS), redeemed.get(XOR_RELAYED_ADDRESS)
    assert (first.port % 2, second.port) == (0, first.port + 1)
    other.permit()
    other.exchange(peer, b"through the port of the other worker")
    assert scene.client_of(1).allocate(token).code == 508
    taken = 'redconnect_relay_ports_taken{family="ipv4"}'
    assert scene.metrics()[taken] == 2
    one.free()
    other.free()
    assert scene.metrics()[taken] == 0
    assert [scene.client_of(number % 2).allocate().code for number in range(LIMIT)] == [0] * LIMIT  # nothing leaked


def test_clients_of_different_workers_meet_and_nobody_else_is_met_at_the_relay_address(scene: Scene) -> None:
    one, other = scene.client_of(0), scene.client_of(1)
    relayed = [client.allocate().get(XOR_RELAYED_ADDRESS) for client in (one, other)]
    one.permit(RELAY_HOST)
    other.permit(RELAY_HOST)
    one.send(b"there", relayed[1])
    assert other.receive() == (b"there", relayed[0])
    other.send(b"and back", relayed[0])
    assert one.receive() == (b"and back", relayed[1])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service:
        service.bind((RELAY_HOST, 0))
        one.send(b"not for you", TransportAddress.parse(*service.getsockname()))
        assert one.refresh() == 0  # so it has been looked at
        service.setblocking(False)  # noqa: FBT003
        with pytest.raises(BlockingIOError):
            service.recv(1)


def test_a_connection_test_meets_itself_in_another_worker_and_nobody_else(scene: Scene) -> None:
    one, other, ordinary = scene.client_of(0), scene.client_of(1), scene.client_of(1)
    one.use_trial()
    other.use_trial()
    relayed = [client.allocate().get(XOR_RELAYED_ADDRESS) for client in (one, other, ordinary)]
    for client in (one, other, ordinary):
        client.permit(RELAY_HOST)
    one.send(b"there", relayed[1])
    assert other.receive() == (b"there", relayed[0])
    one.send(b"not for you", relayed[2])
    ordinary.send(b"nor for you", relayed[0])
    for client in (one, ordinary):
        assert client.refresh() == 0  # so what it sent has been looked at
    assert list(one.arrivals(RETRANSMISSION)) == list(ordinary.arrivals(RETRANSMISSION)) == []
    drops = 'redconnect_relay_packets_dropped_total{reason="own_address"}'
    assert scene.metrics()[drops] == 2


def test_the_quota_of_a_connection_test_holds_across_workers_and_a_reload(scene: Scene) -> None:
    old, fresh = SECRET, "another-secret-of-at-least-thirty-two-bytes"
    clients = [scene.client_of(number % 2) for number in range(LIMIT + 1)]
    for client in clients[:-1]:
        client.use_trial(old)
        assert client.allocate().code == 0
    scene.service.reload({"secrets": {"turn_secret": fresh}, "relay": {"secrets": {"former": old}}})
    clients[-1].use_trial(fresh)
    assert clients[-1].allocate().code == 486  # the quota of everybody is narrower here than that of tests
    assert clients[0].refresh() == 0
    clients[0].free()
    assert clients[-1].allocate().code == 0


def test_a_killed_worker_is_replaced_and_the_other_loses_nothing(scene: Scene, peer: socket.socket) -> None:
    victim, survivor = scene.client_of(0), scene.client_of(1)
    for client in (victim, survivor):
        assert client.allocate().code == 0
        client.permit()
        client.exchange(peer, b"before")
    old = scene.pids()
    before = scene.metrics()
    scene.kill(0)
    exchanged = 0
    while exchanged < 500 or not scene.is_ready() or scene.pids().get(0, old[0]) == old[0]:
        for _ in range(100):
            survivor.exchange(peer, b"%d" % exchanged)  # in order, and not one is missing
            exchanged += 1
        assert exchanged < 200_000, "the worker is not replaced"
    assert scene.pids()[1] == old[1]
    assert victim.refresh() == 437
    assert worker_of(victim.allocate().get(XOR_RELAYED_ADDRESS)) == 0  # same socket, same worker
    victim.permit()
    victim.exchange(peer, b"after")
    assert survivor.refresh() == 0
    after = scene.metrics()
    assert after['redconnect_worker_restarts_total{worker="0"}'] == 1
    assert after['redconnect_worker_restarts_total{worker="1"}'] == 0
    assert after[LIVE] == after['redconnect_relay_ports_taken{family="ipv4"}'] == 2
    falling = [name for name in before if name.endswith(("_total", "_count", "_sum")) and after[name] < before[name]]
    assert not [name for name in falling if name.startswith("redconnect_")]
    packets = 'redconnect_relay_packets_total{direction="to_peer",transport="udp"}'
    assert after[packets] == before[packets] + exchanged + 1


def test_what_comes_while_a_worker_is_away_waits_for_the_next_one(scene: Scene) -> None:
    with contextlib.ExitStack() as stack:
        descriptor = os.pidfd_open(scene.pids()[0])
        scene.kill(0)
        await_end(descriptor)
        connections = [
            stack.enter_context(socket.create_connection((HOST, scene.port), timeout=PATIENCE)) for _ in range(16)
        ]
        for connection in connections:  # of 16 one or another has waited in the queue of the dead worker
            transaction_id = new_transaction_id()
            connection.sendall(encode_message(Method.BINDING, MessageClass.REQUEST, transaction_id, []))
            answer = decode_message(connection.recv(2048))
            assert (answer.message_class, answer.transaction_id) == (MessageClass.SUCCESS, transaction_id)


def test_a_worker_that_stands_still_is_not_ready_and_holds_up_no_scrape(scene: Scene) -> None:
    client = scene.client_of(0)
    assert client.allocate().code == 0
    created = 'redconnect_relay_allocations_created_total{family="ipv4",transport="udp"}'
    before = scene.metrics()
    assert before['redconnect_worker_up{worker="0"}'] == 1
    scene.kill(0, signal.SIGSTOP)
    started = time.monotonic()
    during = scene.metrics()
    assert time.monotonic() - started < 2.0
    assert during[created] == before[created]
    assert (during['redconnect_worker_up{worker="0"}'], during['redconnect_worker_up{worker="1"}']) == (0, 1)
    scene.kill(0, signal.SIGCONT)
    await_that(lambda: scene.metrics()['redconnect_worker_up{worker="0"}'] == 1)
    assert client.refresh() == 0


def test_workers_end_when_the_supervisor_is_killed(scene: Scene) -> None:
    descriptors = [os.pidfd_open(pid) for pid in scene.pids().values()]
    assert len(descriptors) == 2
    scene.service.process.kill()
    scene.service.process.wait()
    for descriptor in descriptors:
        await_end(descriptor)


def test_sigterm_to_every_process_ends_all_cleanly(scene: Scene) -> None:
    assert scene.client_of(0).allocate().code == 0
    pids = scene.pids()
    descriptors = [os.pidfd_open(pid) for pid in pids.values()]
    for worker in pids:
        scene.kill(worker, signal.SIGTERM)  # as systemd does; the supervisor decides when a worker ends
    assert scene.client_of(1).allocate().code == 0
    logged = scene.service.stop()
    for descriptor in descriptors:
        await_end(descriptor)
    assert logged.count("(shutdown)") == 2
    assert "worker 0 relay.io.service" in logged
    for word in ("error", "Traceback", "killed"):
        assert word not in logged


def test_a_worker_shows_no_secret_to_those_who_list_processes(scene: Scene) -> None:
    for pid in scene.pids().values():
        shown = Path(f"/proc/{pid}/cmdline").read_bytes() + Path(f"/proc/{pid}/environ").read_bytes()
        assert SECRET.encode() not in shown
        assert b"REDCONNECT_" not in shown


def test_a_port_that_somebody_shares_already_is_told_in_one_line(scene: Scene, tmp_path: Path) -> None:
    settings = json.loads(scene.service.config.read_text())
    folder = tmp_path / "second"
    folder.mkdir()
    settings |= {"state_dir": str(folder / "var"), "admin": {"port": free_port()}}
    with (
        pytest.raises(RuntimeError, match=r"cannot start: .*cannot listen on UDP .*: Address already in use"),
        run_service(folder, settings),
    ):
        pass
    assert scene.is_ready()
