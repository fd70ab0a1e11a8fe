"""TCP allocations (RFC 6062) over real sockets: the running relay, clients over TCP and TLS, real TCP peers."""

import contextlib
import ipaddress
import random
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from stun.address import IPV6, TransportAddress
from stun.attributes import (
    CHANNEL_NUMBER,
    CONNECTION_ID,
    DONT_FRAGMENT,
    EVEN_PORT,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
)
from stun.registry import MessageClass, Method
from tests.support.turn_client import Field, Response, TurnClient
from tests.support.wire import PATIENCE, TcpWire
from tests.support.wire_client import Server, WireClient

TCP = 6
MEBIBYTE = 1 << 20
SOME = b"bytes of a stream"
HOLD_BACK_SECONDS = 0.5  # a peer that cannot send for so long is held back
HELD_BACK_BYTES = 32 << 20  # more than all buffers on the way, the kernel's included

Join = Callable[..., WireClient]


@pytest.fixture(params=["tcp", "tls"])
def join(request: pytest.FixtureRequest, wide_relay: Server) -> Iterator[Join]:
    """Opens connections over one transport: of a new user, or of one that is known."""
    opened: list[WireClient] = []

    def connect(user: WireClient | None = None) -> WireClient:
        if user is None:
            client = wide_relay.client(request.param)
        else:
            turn = TurnClient(user.turn.username, user.turn.password)
            client = wide_relay.client_of(turn, request.param)
        opened.append(client)
        return client

    yield connect
    for client in opened:
        client.close()


class TcpPeer:
    """A peer that listens, and connections to and from it."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE)
        self.sockets = [self._listener]

    @property
    def address(self) -> TransportAddress:
        return TransportAddress.parse(*self._listener.getsockname())

    def accept(self) -> tuple[socket.socket, TransportAddress]:
        """The next connection, and where it comes from."""
        sock, address = self._listener.accept()
        sock.settimeout(PATIENCE)
        self.sockets.append(sock)
        return sock, TransportAddress.parse(*address)

    def connect(self, to: TransportAddress) -> socket.socket:
        """Connect to a relayed transport address."""
        sock = socket.create_connection((str(ipaddress.ip_address(to.ip)), to.port), PATIENCE)
        self.sockets.append(sock)
        return sock

    def stop_listening(self) -> None:
        self._listener.close()

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


@pytest.fixture
def peer() -> Iterator[TcpPeer]:
    opened = TcpPeer()
    yield opened
    opened.close()


@pytest.fixture
def alice(join: Join) -> WireClient:
    """A control connection with a TCP allocation."""
    client = join()
    assert allocate(client).code == 0
    return client


def allocate(client: WireClient, *fields: Field) -> Response:
    return client.ask(Method.ALLOCATE, (REQUESTED_TRANSPORT, TCP), *fields)


def connect_to(client: WireClient, peer: TransportAddress) -> Response:
    return client.ask(Method.CONNECT, (XOR_PEER_ADDRESS, peer))


def bind(client: WireClient, connection_id: int) -> Response:
    return client.ask(Method.CONNECTION_BIND, (CONNECTION_ID, connection_id))


def pipe(join: Join, alice: WireClient, peer: TcpPeer) -> tuple[TcpWire, socket.socket]:
    """A data connection of alice and the peer's end of it."""
    response = connect_to(alice, peer.address)
    assert response.code == 0
    data = join(alice)
    assert bind(data, response.get(CONNECTION_ID)).code == 0
    assert isinstance(data.wire, TcpWire)
    return data.wire, peer.accept()[0]


def read_all(receive: Callable[[int], bytes], size: int) -> bytes:
    """So many bytes, or what came before the end."""
    found = bytearray()
    while len(found) < size:
        data = receive(min(size - len(found), 65536))
        if not data:
            break
        found += data
    return bytes(found)


# Allocate (§5.1)


@pytest.mark.rfc(6062, "5.1")
def test_a_tcp_allocation_listens_on_its_relayed_address(join: Join, peer: TcpPeer) -> None:
    client = join()
    relayed = allocate(client).get(XOR_RELAYED_ADDRESS)
    assert peer.connect(relayed).getpeername()[1] == relayed.port


@pytest.mark.rfc(6062, "5.1")
@pytest.mark.parametrize("transport", ["udp", "dtls"])
def test_a_client_over_datagrams_gets_no_tcp_allocation(wide_relay: Server, transport: str) -> None:
    with contextlib.closing(wide_relay.client(transport)) as client:
        assert allocate(client).code == 400


@pytest.mark.rfc(6062, "5.1")
@pytest.mark.parametrize(
    "field",
    [(EVEN_PORT, False), (RESERVATION_TOKEN, b"somebody"), (DONT_FRAGMENT, b"")],
    ids=lambda field: field[0].name,
)
def test_what_belongs_to_udp_is_a_400_in_a_tcp_allocation(join: Join, field: Field) -> None:
    assert allocate(join(), field).code == 400


@pytest.mark.rfc(6062, "5.1")
def test_a_tcp_allocation_ends_with_its_control_connection(alice: WireClient, join: Join, peer: TcpPeer) -> None:
    wire, remote = pipe(join, alice, peer)
    alice.close()
    assert remote.recv(1) == b""
    assert wire.receive_bytes() == b""


@pytest.mark.rfc(6062, "5.1")
def test_where_tcp_allocations_are_off_they_are_a_442(relay: Server) -> None:
    with contextlib.closing(relay.client("tcp")) as client:
        assert allocate(client).code == 442


@pytest.mark.rfc(6062, "5.2")
@pytest.mark.parametrize("method", [Method.CONNECT, Method.CONNECTION_BIND])
def test_where_tcp_allocations_are_off_their_methods_are_unknown(relay: Server, method: Method) -> None:
    with contextlib.closing(relay.client("tcp")) as client:
        client.get_challenged()
        client.wire.send(client.turn.build(method, (XOR_PEER_ADDRESS, client.address)))
        assert client.hears_nothing_more()


# Connect (§5.2)


@pytest.mark.rfc(6062, "5.2")
def test_a_connection_comes_from_the_relayed_address(join: Join, peer: TcpPeer) -> None:
    alice = join()
    relayed = allocate(alice).get(XOR_RELAYED_ADDRESS)
    assert connect_to(alice, peer.address).code == 0
    assert peer.accept()[1] == relayed


@pytest.mark.rfc(6062, "5.2")
def test_a_second_connection_to_a_peer_is_a_446(alice: WireClient, peer: TcpPeer) -> None:
    assert connect_to(alice, peer.address).code == 0
    assert connect_to(alice, peer.address).code == 446


@pytest.mark.rfc(6062, "5.2")
def test_a_peer_that_refuses_is_a_447(alice: WireClient, peer: TcpPeer) -> None:
    address = peer.address
    peer.stop_listening()
    response = connect_to(alice, address)
    assert response.code == 447
    assert response.message.integrity is not None


@pytest.mark.rfc(6062, "5.2")
@pytest.mark.parametrize(
    ("address", "code"), [("10.0.0.1", 403), ("127.0.0.9", 403), ("::1", 443), ("2620:fe::fe", 443)]
)
def test_a_peer_that_is_denied_or_of_another_family_is_not_dialled(alice: WireClient, address: str, code: int) -> None:
    assert connect_to(alice, TransportAddress.parse(address, 4000)).code == code


@pytest.mark.rfc(6062, "5.2")
def test_a_connect_without_peer_is_a_400(alice: WireClient) -> None:
    assert alice.ask(Method.CONNECT).code == 400


@pytest.mark.rfc(6062, "5.2")
def test_a_connect_without_a_tcp_allocation_is_a_437(join: Join, peer: TcpPeer) -> None:
    client = join()
    assert connect_to(client, peer.address).code == 437
    assert client.allocate().code == 0  # one of UDP
    assert connect_to(client, peer.address).code == 437


@pytest.mark.rfc(6062, "4.1")
def test_a_channel_of_a_tcp_allocation_is_a_400(alice: WireClient, peer: TcpPeer) -> None:
    assert alice.ask(Method.CHANNEL_BIND, (CHANNEL_NUMBER, 0x4000), (XOR_PEER_ADDRESS, peer.address)).code == 400


@pytest.mark.rfc(6062, "5.1")
def test_an_ipv6_tcp_allocation_reaches_an_ipv6_peer(join: Join) -> None:
    alice = join()
    assert allocate(alice, (REQUESTED_ADDRESS_FAMILY, IPV6)).code == 0
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        address = TransportAddress.parse(*listener.getsockname()[:2])
        response = connect_to(alice, address)
        assert response.code == 0
        sock, _ = listener.accept()
        with sock:
            data = join(alice)
            assert bind(data, response.get(CONNECTION_ID)).code == 0
            data.wire.send(SOME)
            sock.settimeout(PATIENCE)
            assert read_all(sock.recv, len(SOME)) == SOME


# ConnectionBind (§5.4)


@pytest.mark.rfc(6062, "5.4")
def test_the_success_response_names_the_connection(alice: WireClient, join: Join, peer: TcpPeer) -> None:
    connection_id = connect_to(alice, peer.address).get(CONNECTION_ID)
    assert bind(join(alice), connection_id).get(CONNECTION_ID) == connection_id


@pytest.mark.rfc(6062, "5.4")
def test_an_unknown_connection_is_a_400(alice: WireClient, join: Join) -> None:
    assert bind(join(alice), 0xDEADBEEF).code == 400
    assert join(alice).ask(Method.CONNECTION_BIND).code == 400


@pytest.mark.rfc(6062, "5.4")
def test_the_connection_of_another_user_is_a_441_and_stays_for_its_owner(
    alice: WireClient, join: Join, peer: TcpPeer
) -> None:
    connection_id = connect_to(alice, peer.address).get(CONNECTION_ID)
    assert bind(join(), connection_id).code == 441
    assert bind(join(alice), connection_id).code == 0


@pytest.mark.rfc(6062, "5.4")
def test_a_connection_is_bound_once(alice: WireClient, join: Join, peer: TcpPeer) -> None:
    connection_id = connect_to(alice, peer.address).get(CONNECTION_ID)
    assert bind(join(alice), connection_id).code == 0
    assert bind(join(alice), connection_id).code == 400


@pytest.mark.rfc(6062, "5.4")
def test_a_control_connection_does_not_become_a_data_connection(alice: WireClient, peer: TcpPeer) -> None:
    assert bind(alice, connect_to(alice, peer.address).get(CONNECTION_ID)).code == 400


@pytest.mark.rfc(6062, "5.4")
def test_bytes_behind_the_connection_bind_are_the_first_of_the_stream(
    alice: WireClient, join: Join, peer: TcpPeer
) -> None:
    connection_id = connect_to(alice, peer.address).get(CONNECTION_ID)
    remote, _ = peer.accept()
    data = join(alice)
    data.get_challenged()
    data.wire.send(data.turn.build(Method.CONNECTION_BIND, (CONNECTION_ID, connection_id)) + SOME)
    assert read_all(remote.recv, len(SOME)) == SOME


@pytest.mark.rfc(6062, "5.4")
def test_bytes_of_the_peer_wait_for_the_connection_bind(alice: WireClient, join: Join, peer: TcpPeer) -> None:
    connection_id = connect_to(alice, peer.address).get(CONNECTION_ID)
    remote, _ = peer.accept()
    remote.sendall(SOME)
    data = join(alice)
    assert bind(data, connection_id).code == 0
    assert isinstance(data.wire, TcpWire)
    assert read_all(data.wire.receive_bytes, len(SOME)) == SOME


# ConnectionAttempt (§5.3)


@pytest.mark.rfc(6062, "5.3")
def test_a_permitted_peer_that_connects_is_announced_and_can_be_bound(join: Join, peer: TcpPeer) -> None:
    alice = join()
    relayed = allocate(alice).get(XOR_RELAYED_ADDRESS)
    assert alice.permit(peer.address).code == 0
    remote = peer.connect(relayed)
    attempt = alice.receive_indication()
    assert (attempt.method, attempt.message_class) == (Method.CONNECTION_ATTEMPT, MessageClass.INDICATION)
    assert attempt.get(XOR_PEER_ADDRESS) == TransportAddress.parse(*remote.getsockname())
    connection_id = attempt.get(CONNECTION_ID)
    assert connection_id is not None
    data = join(alice)
    assert bind(data, connection_id).code == 0
    assert isinstance(data.wire, TcpWire)
    remote.sendall(SOME)
    assert read_all(data.wire.receive_bytes, len(SOME)) == SOME
    data.wire.send(SOME[::-1])
    assert read_all(remote.recv, len(SOME)) == SOME[::-1]


@pytest.mark.rfc(6062, "5.3")
def test_a_peer_without_permission_is_hung_up_on_and_not_announced(join: Join, peer: TcpPeer) -> None:
    alice = join()
    relayed = allocate(alice).get(XOR_RELAYED_ADDRESS)
    with contextlib.suppress(ConnectionResetError):
        assert peer.connect(relayed).recv(1) == b""
    assert alice.hears_nothing_more()


# Data (§4.4, §5.5)


@pytest.mark.rfc(6062, "5.5")
def test_a_mebibyte_passes_in_both_directions_at_once(alice: WireClient, join: Join, peer: TcpPeer) -> None:
    wire, remote = pipe(join, alice, peer)
    there, back = (random.Random(seed).randbytes(MEBIBYTE) for seed in (1, 2))  # noqa: S311  # any bytes will do
    arrived: list[bytes] = []

    def be_the_peer() -> None:
        sender = threading.Thread(target=remote.sendall, args=(back,))
        sender.start()
        arrived.append(read_all(remote.recv, MEBIBYTE))
        sender.join()

    thread = threading.Thread(target=be_the_peer)
    thread.start()
    for start in range(0, MEBIBYTE, 1 << 14):  # by turns, for a TLS object does not both at once
        wire.send(there[start : start + (1 << 14)])
    received = read_all(wire.receive_bytes, MEBIBYTE)
    thread.join()
    assert received == back
    assert arrived == [there]


@pytest.mark.rfc(6062, "5.5")
def test_what_a_peer_sent_before_it_closed_arrives_before_the_end(alice: WireClient, join: Join, peer: TcpPeer) -> None:
    wire, remote = pipe(join, alice, peer)
    data = random.Random(3).randbytes(MEBIBYTE)  # noqa: S311  # any bytes will do

    def send_and_finish() -> None:
        remote.sendall(data)
        remote.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send_and_finish)
    sender.start()
    assert read_all(wire.receive_bytes, MEBIBYTE) == data
    sender.join()
    assert wire.receive_bytes() == b""


@pytest.mark.rfc(6062, "5.5")
def test_what_a_client_sent_before_it_closed_arrives_before_the_end(
    alice: WireClient, join: Join, peer: TcpPeer
) -> None:
    wire, remote = pipe(join, alice, peer)
    wire.send(SOME * 100)
    wire.close()
    assert read_all(remote.recv, len(SOME) * 100) == SOME * 100
    assert remote.recv(1) == b""


@pytest.mark.rfc(6062, "5.5")
def test_a_client_that_is_cut_off_takes_its_peer_along(alice: WireClient, join: Join, peer: TcpPeer) -> None:
    wire, remote = pipe(join, alice, peer)
    wire.reset()
    with contextlib.suppress(ConnectionResetError):
        assert remote.recv(1) == b""


@pytest.mark.rfc(6062, "5.5")
def test_after_the_end_of_a_connection_the_peer_can_be_dialled_again(
    alice: WireClient, join: Join, peer: TcpPeer
) -> None:
    wire, remote = pipe(join, alice, peer)
    wire.close()
    assert remote.recv(1) == b""
    assert connect_to(alice, peer.address).code != 446  # it may be a 447, if the port pair is in TIME-WAIT


@pytest.mark.rfc(6062, "5.5")
def test_a_client_that_does_not_read_holds_its_peer_back_and_loses_nothing(
    alice: WireClient, join: Join, peer: TcpPeer
) -> None:
    wire, remote = pipe(join, alice, peer)
    remote.settimeout(HOLD_BACK_SECONDS)
    block = bytes(range(256)) * 256
    sent = 0
    with contextlib.suppress(TimeoutError):
        while sent < HELD_BACK_BYTES:
            sent += remote.send(block[sent % len(block) :])
    assert sent < HELD_BACK_BYTES
    other = join()  # meanwhile others are served
    assert allocate(other).code == 0
    received = 0
    while received < sent:
        data = wire.receive_bytes()
        at = received % len(block)
        assert data == (block * 2)[at : at + len(data)]
        received += len(data)
