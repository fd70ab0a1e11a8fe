import itertools
from collections.abc import Callable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from relay.errors import BadRequest, InsufficientCapacity, RequestRejected, WrongCredentials
from relay.five_tuple import FiveTuple, Transport
from relay.tcp_allocation import (
    BIND_SECONDS,
    DIAL_SECONDS,
    Close,
    Command,
    Connected,
    ConnectFailed,
    ConnectionAlreadyExists,
    ConnectionAttempt,
    Dial,
    Pair,
    TcpAllocations,
)
from stun.address import TransportAddress

SERVER = TransportAddress.parse("198.41.0.4", 3478)
PEER = TransportAddress.parse("91.198.174.192", 5000)
OTHER_PEER = TransportAddress.parse("91.198.174.192", 5001)
ALLOCATION, SECOND_ALLOCATION = 7, 8
ALICE, BOB = "alice\0clinic", "bob\0clinic"

Answer = Connected[str] | ConnectFailed[str] | ConnectionAttempt


def client(port: int, transport: Transport = Transport.TCP) -> FiveTuple:
    return FiveTuple(transport, SERVER, TransportAddress.parse("62.4.9.8", port))


def entropy() -> Callable[[int], bytes]:
    numbers = itertools.count(1)
    return lambda size: next(numbers).to_bytes(size)


def answers(table: TcpAllocations[str]) -> list[Answer]:
    return list(iter(table.poll_answer, None))


def commands(table: TcpAllocations[str]) -> list[Command]:
    return list(iter(table.poll_command, None))


@pytest.fixture
def table() -> TcpAllocations[str]:
    table: TcpAllocations[str] = TcpAllocations(entropy(), max_per_allocation=2, max_connections=3)
    table.begin(ALLOCATION, ALICE)
    table.begin(SECOND_ALLOCATION, BOB)
    return table


def dial(table: TcpAllocations[str], peer: TransportAddress = PEER, now: float = 0.0) -> int:
    table.connect(ALLOCATION, peer, "request", now)
    (command,) = commands(table)
    assert isinstance(command, Dial)
    return command.connection_id


def connected(table: TcpAllocations[str], peer: TransportAddress = PEER, now: float = 0.0) -> int:
    connection = dial(table, peer, now)
    table.dialled(connection, now)
    assert answers(table) == [Connected("request", connection)]
    return connection


def test_a_connect_is_answered_when_the_peer_has_accepted(table: TcpAllocations[str]) -> None:
    table.connect(ALLOCATION, PEER, "request", 0.0)
    (command,) = commands(table)
    assert isinstance(command, Dial)
    assert command == Dial(command.connection_id, ALLOCATION, PEER)
    assert answers(table) == []
    table.dialled(command.connection_id, 1.0)
    assert answers(table) == [Connected("request", command.connection_id)]
    assert commands(table) == []


def test_a_peer_that_refuses_is_447(table: TcpAllocations[str]) -> None:
    connection = dial(table)
    table.dial_failed(connection)
    (answer,) = answers(table)
    assert isinstance(answer, ConnectFailed)
    assert (answer.request, answer.error.code) == ("request", 447)
    assert commands(table) == [Close(connection)]
    assert len(table) == 0


def test_a_peer_that_does_not_answer_in_thirty_seconds_is_447(table: TcpAllocations[str]) -> None:
    connection = dial(table, now=100.0)
    assert table.poll_timeout() == 100.0 + DIAL_SECONDS
    table.handle_timeout(129.9)
    assert commands(table) == []
    table.handle_timeout(130.0)
    (answer,) = answers(table)
    assert isinstance(answer, ConnectFailed)
    assert answer.error.code == 447
    assert commands(table) == [Close(connection)]
    table.dialled(connection, 130.1)
    assert answers(table) == [], "one request has one answer"


def test_a_second_connection_to_the_same_peer_is_446_in_every_state(table: TcpAllocations[str]) -> None:
    def is_refused() -> bool:
        with pytest.raises(ConnectionAlreadyExists) as refusal:
            table.connect(ALLOCATION, PEER, "again", 0.0)
        return refusal.value.code == 446

    connection = dial(table)
    assert is_refused()
    table.dialled(connection, 0.0)
    assert is_refused()
    table.bind(connection, client(1), ALICE)
    assert is_refused()
    table.closed(connection)
    assert commands(table) == [Pair(connection, client(1)), Close(connection)]
    assert dial(table) != connection


def test_another_allocation_may_connect_to_the_same_peer(table: TcpAllocations[str]) -> None:
    dial(table)
    table.connect(SECOND_ALLOCATION, PEER, "request", 0.0)
    assert len(table) == 2


def test_the_connections_of_an_allocation_and_of_the_server_are_bounded(table: TcpAllocations[str]) -> None:
    dial(table)
    dial(table, OTHER_PEER)
    with pytest.raises(InsufficientCapacity):
        table.connect(ALLOCATION, PEER._replace(port=1), "request", 0.0)
    assert table.accept(ALLOCATION, PEER._replace(port=1), 0.0, is_permitted=True) is None
    table.connect(SECOND_ALLOCATION, PEER, "request", 0.0)
    with pytest.raises(InsufficientCapacity):
        table.connect(SECOND_ALLOCATION, OTHER_PEER, "request", 0.0)
    assert answers(table) == []


def test_a_permitted_peer_is_announced(table: TcpAllocations[str]) -> None:
    connection = table.accept(ALLOCATION, PEER, 0.0, is_permitted=True)
    assert connection is not None
    assert answers(table) == [ConnectionAttempt(ALLOCATION, connection, PEER)]


def test_a_peer_without_permission_is_turned_away_silently(table: TcpAllocations[str]) -> None:
    assert table.accept(ALLOCATION, PEER, 0.0, is_permitted=False) is None
    assert table.accept(99, PEER, 0.0, is_permitted=True) is None
    assert (answers(table), commands(table), len(table)) == ([], [], 0)


def test_a_peer_that_comes_again_from_the_same_port_replaces_its_dead_connection(table: TcpAllocations[str]) -> None:
    first = table.accept(ALLOCATION, PEER, 0.0, is_permitted=True)
    second = table.accept(ALLOCATION, PEER, 1.0, is_permitted=True)
    assert first is not None
    assert second not in {None, first}
    assert commands(table) == [Close(first)]


def test_a_bind_pairs_the_client_with_the_peer(table: TcpAllocations[str]) -> None:
    connection = connected(table)
    table.bind(connection, client(1), ALICE)
    assert commands(table) == [Pair(connection, client(1))]
    table.handle_timeout(1e9)
    assert commands(table) == [], "a bound connection does not expire"
    assert table.poll_timeout() is None


def test_a_connection_that_nobody_binds_is_closed_after_thirty_seconds(table: TcpAllocations[str]) -> None:
    dialled = connected(table, now=100.0)
    accepted = table.accept(ALLOCATION, OTHER_PEER, 110.0, is_permitted=True)
    assert accepted is not None
    answers(table)
    table.handle_timeout(100.0 + BIND_SECONDS)
    assert commands(table) == [Close(dialled)]
    assert table.poll_timeout() == 110.0 + BIND_SECONDS
    table.handle_timeout(110.0 + BIND_SECONDS)
    assert commands(table) == [Close(accepted)]
    assert answers(table) == []
    with pytest.raises(BadRequest):
        table.bind(accepted, client(1), ALICE)


def test_the_time_to_bind_counts_from_the_answer(table: TcpAllocations[str]) -> None:
    connection = dial(table, now=0.0)
    table.dialled(connection, 29.0)
    table.handle_timeout(58.9)
    assert commands(table) == []
    table.handle_timeout(59.0)
    assert commands(table) == [Close(connection)]


def test_connections_expire_in_the_order_of_their_deadlines(table: TcpAllocations[str]) -> None:
    dialled_late = dial(table, now=0.0)
    accepted = table.accept(ALLOCATION, OTHER_PEER, 5.0, is_permitted=True)
    assert accepted is not None
    table.dialled(dialled_late, 29.0)
    assert table.poll_timeout() == 35.0
    table.handle_timeout(35.0)
    assert commands(table) == [Close(accepted)]


def test_an_unknown_missing_or_undialled_connection_cannot_be_bound(table: TcpAllocations[str]) -> None:
    connecting = dial(table)
    for connection_id in (None, 0, connecting, 0xFFFFFFFF):
        with pytest.raises(BadRequest) as refusal:
            table.bind(connection_id, client(1), ALICE)
        assert refusal.value.code == 400


def test_nothing_is_bound_twice(table: TcpAllocations[str]) -> None:
    first, second = connected(table), connected(table, OTHER_PEER)
    table.bind(first, client(1), ALICE)
    with pytest.raises(BadRequest):
        table.bind(first, client(2), ALICE)
    with pytest.raises(BadRequest):
        table.bind(second, client(1), ALICE)
    assert commands(table) == [Pair(first, client(1))]


def test_another_user_s_connection_is_441_and_waits_for_its_owner(table: TcpAllocations[str]) -> None:
    connection = connected(table)
    with pytest.raises(WrongCredentials):
        table.bind(connection, client(1), BOB)
    table.bind(connection, client(1), ALICE)


@pytest.mark.parametrize("transport", [Transport.UDP, Transport.DTLS])
def test_a_datagram_transport_cannot_carry_a_data_connection(table: TcpAllocations[str], transport: Transport) -> None:
    connection = connected(table)
    with pytest.raises(BadRequest):
        table.bind(connection, client(1, transport), ALICE)
    table.bind(connection, client(1, Transport.TLS), ALICE)


def test_when_one_side_is_lost_the_other_is_closed(table: TcpAllocations[str]) -> None:
    by_peer, by_client = connected(table), connected(table, OTHER_PEER)
    table.bind(by_peer, client(1), ALICE)
    table.bind(by_client, client(2), ALICE)
    commands(table)
    table.closed(by_peer)
    table.client_lost(client(2))
    assert commands(table) == [Close(by_peer), Close(by_client)]
    table.closed(by_peer)
    table.client_lost(client(1))
    table.client_lost(client(2))
    assert commands(table) == []


def test_the_end_of_an_allocation_closes_everything_and_answers_what_is_open(table: TcpAllocations[str]) -> None:
    bound = connected(table)
    table.bind(bound, client(1), ALICE)
    commands(table)
    connecting = dial(table, OTHER_PEER)
    table.connect(SECOND_ALLOCATION, PEER, "another's", 0.0)
    commands(table)
    table.end(ALLOCATION)
    assert commands(table) == [Close(bound), Close(connecting)]
    (answer,) = answers(table)
    assert isinstance(answer, ConnectFailed)
    assert answer.request == "request"
    assert len(table) == 1
    with pytest.raises(KeyError):
        table.connect(ALLOCATION, PEER, "request", 0.0)
    table.end(ALLOCATION)
    assert commands(table) == []


def test_an_allocation_begins_once(table: TcpAllocations[str]) -> None:
    with pytest.raises(ValueError, match="already"):
        table.begin(ALLOCATION, ALICE)


def test_a_connection_id_in_use_is_not_given_twice() -> None:
    drawn = iter([b"same", b"same", b"else"])
    table: TcpAllocations[str] = TcpAllocations(lambda _size: next(drawn))
    table.begin(ALLOCATION, ALICE)
    assert dial(table) != dial(table, OTHER_PEER)


class Pipe:
    """What the sockets' side knows of one connection."""

    def __init__(self) -> None:
        self.client: FiveTuple | None = None


class TcpAllocationMachine(RuleBasedStateMachine):
    """Peers and clients that come, go, hesitate and bind whatever they have heard of."""

    def __init__(self) -> None:
        super().__init__()
        self.table: TcpAllocations[str] = TcpAllocations(entropy(), max_per_allocation=3, max_connections=5)
        self.now = 0.0
        self.holders: dict[int, str] = {}
        self.requests = itertools.count(1)
        self.open_requests: set[str] = set()
        self.sockets: dict[int, Pipe] = {}
        self.owner: dict[int, int] = {}
        self.every_id: list[int] = []

    def drain(self) -> None:
        for answer in answers(self.table):
            match answer:
                case Connected(request, _) | ConnectFailed(request, _):
                    self.open_requests.remove(request)  # KeyError: answered twice, or never asked
                case ConnectionAttempt(allocation, connection_id, _):
                    assert self.owner[connection_id] == allocation
        for command in commands(self.table):
            match command:
                case Dial(connection_id, allocation, _):
                    self.opened(connection_id, allocation)
                case Pair(connection_id, pipe_client):
                    assert self.sockets[connection_id].client is None, "bound twice"
                    assert all(pipe.client != pipe_client for pipe in self.sockets.values()), "a client bound twice"
                    self.sockets[connection_id].client = pipe_client
                case Close(connection_id):
                    del self.sockets[connection_id]  # KeyError: closed twice, or never opened

    def opened(self, connection_id: int, allocation: int) -> None:
        assert connection_id not in self.sockets, "an id was given twice"
        self.sockets[connection_id] = Pipe()
        self.owner[connection_id] = allocation
        self.every_id.append(connection_id)

    @rule(allocation=st.integers(1, 3), holder=st.sampled_from([ALICE, BOB]))
    def begin(self, allocation: int, holder: str) -> None:
        if allocation not in self.holders:
            self.table.begin(allocation, holder)
            self.holders[allocation] = holder

    @rule(allocation=st.integers(1, 3))
    def end(self, allocation: int) -> None:
        self.table.end(allocation)
        self.drain()
        self.holders.pop(allocation, None)
        assert all(self.owner[connection] != allocation for connection in self.sockets), "a connection is left"

    @precondition(lambda self: self.holders)
    @rule(data=st.data(), port=st.integers(1, 4))
    def connect(self, data: st.DataObject, port: int) -> None:
        allocation = data.draw(st.sampled_from(sorted(self.holders)))
        request = f"request {next(self.requests)}"
        self.open_requests.add(request)
        try:
            self.table.connect(allocation, PEER._replace(port=port), request, self.now)
        except (ConnectionAlreadyExists, InsufficientCapacity):
            self.open_requests.remove(request)
        self.drain()

    @rule(allocation=st.integers(1, 3), port=st.integers(1, 4), is_permitted=st.booleans())
    def accept(self, allocation: int, port: int, *, is_permitted: bool) -> None:
        connection = self.table.accept(allocation, PEER._replace(port=port), self.now, is_permitted=is_permitted)
        if connection is not None:
            assert is_permitted and allocation in self.holders
            self.opened(connection, allocation)
        self.drain()

    @precondition(lambda self: self.every_id)
    @rule(data=st.data(), how=st.sampled_from(["dialled", "dial_failed", "closed"]))
    def happen(self, data: st.DataObject, how: str) -> None:
        connection = data.draw(st.sampled_from(self.every_id))
        if how == "dialled":
            self.table.dialled(connection, self.now)
        elif how == "dial_failed":
            self.table.dial_failed(connection)
        else:
            self.table.closed(connection)
        self.drain()

    @precondition(lambda self: self.every_id)
    @rule(data=st.data(), port=st.integers(1, 3), holder=st.sampled_from([ALICE, BOB]))
    def bind(self, data: st.DataObject, port: int, holder: str) -> None:
        connection = data.draw(st.sampled_from(self.every_id))
        try:
            self.table.bind(connection, client(port), holder)
        except RequestRejected:
            assert commands(self.table) == []
        else:
            assert self.holders[self.owner[connection]] == holder
            self.drain()
            assert self.sockets[connection].client == client(port)

    @rule(port=st.integers(1, 3))
    def lose_client(self, port: int) -> None:
        self.table.client_lost(client(port))
        self.drain()
        assert all(pipe.client != client(port) for pipe in self.sockets.values())

    @rule(seconds=st.floats(0.0, 40.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.table.handle_timeout(self.now)
        self.drain()
        due = self.table.poll_timeout()
        assert due is None or due > self.now

    @invariant()
    def the_sockets_are_those_of_the_table(self) -> None:
        assert len(self.table) == len(self.sockets) <= 5
        for allocation in self.holders:
            assert sum(self.owner[connection] == allocation for connection in self.sockets) <= 3

    @invariant()
    def whatever_is_not_bound_has_a_deadline(self) -> None:
        if any(pipe.client is None for pipe in self.sockets.values()):
            assert self.table.poll_timeout() is not None

    def teardown(self) -> None:
        for allocation in list(self.holders):
            self.end(allocation)
        assert not self.sockets
        assert not self.open_requests, "a Connect was never answered"
        assert self.table.poll_timeout() is None


TestTcpAllocationMachine = TcpAllocationMachine.TestCase
