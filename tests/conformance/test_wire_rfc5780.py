"""NAT behaviour discovery (RFC 5780) over real sockets: two addresses, two ports, a client that hears all four."""

import itertools
import socket
from collections.abc import Iterator

import pytest

from relay.behaviour_discovery import STEERED_BURST
from stun.address import TransportAddress
from stun.attributes import (
    CHANGE_REQUEST,
    ERROR_CODE,
    OTHER_ADDRESS,
    PADDING,
    RESPONSE_ORIGIN,
    RESPONSE_PORT,
    UNKNOWN_ATTRIBUTES,
    XOR_MAPPED_ADDRESS,
    ChangeRequest,
)
from stun.message import Message, decode_message, encode_message
from stun.registry import MessageClass, Method
from tests.conformance.conftest import CORNERS, Connect
from tests.support.turn_client import Field, new_transaction_id, pack
from tests.support.wire import PATIENCE
from tests.support.wire_client import Server, WireClient

PLACES = list(itertools.product(range(2), range(2)))  # of the corners: address, port
_hosts = itertools.count(40)


class Prober:
    """A UDP socket that any address can answer. Each has an address of its own, for steered answers have a rate."""

    def __init__(self, server: Server) -> None:
        self._ports = (server.ports["udp"], server.ports["alternate udp"])
        self.host = f"127.0.0.{next(_hosts)}"
        self._socket = self.open()
        self.address = TransportAddress.parse(*self._socket.getsockname())

    def open(self) -> socket.socket:
        """Another socket of this client."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((self.host, 0))
        sock.settimeout(PATIENCE)
        return sock

    def corner(self, place: tuple[int, int]) -> TransportAddress:
        return TransportAddress.parse(CORNERS[place[0]], self._ports[place[1]])

    def send(self, place: tuple[int, int], *fields: Field, raw: bytes | None = None) -> int:
        """Send a Binding request; returns its size."""
        request = raw or request_of(*fields)
        corner = self.corner(place)
        self._socket.sendto(request, (socket.inet_ntoa(corner.ip), corner.port))
        return len(request)

    def receive(self) -> tuple[Message, TransportAddress]:
        data, sender = self._socket.recvfrom(65536)
        return decode_message(data), TransportAddress.parse(*sender)

    def ask(self, place: tuple[int, int], *fields: Field) -> tuple[Message, TransportAddress]:
        self.send(place, *fields)
        return self.receive()

    def close(self) -> None:
        self._socket.close()


def request_of(*fields: Field) -> bytes:
    transaction_id = new_transaction_id()
    return encode_message(Method.BINDING, MessageClass.REQUEST, transaction_id, pack(transaction_id, *fields))


@pytest.fixture
def prober(wide_relay: Server) -> Iterator[Prober]:
    opened = Prober(wide_relay)
    yield opened
    opened.close()


@pytest.mark.rfc(5780, "6.1")
@pytest.mark.parametrize("place", PLACES)
def test_every_corner_names_itself_and_the_opposite_one(prober: Prober, place: tuple[int, int]) -> None:
    response, sender = prober.ask(place)
    assert sender == prober.corner(place) == response.get(RESPONSE_ORIGIN)
    assert response.get(OTHER_ADDRESS) == prober.corner((1 - place[0], 1 - place[1]))
    assert response.get(XOR_MAPPED_ADDRESS) == prober.address


@pytest.mark.rfc(5780, "7.2")
@pytest.mark.parametrize("change", PLACES, ids=lambda change: f"ip {change[0]}, port {change[1]}")
@pytest.mark.parametrize("place", PLACES)
def test_change_request_moves_the_source_of_the_answer(
    prober: Prober, place: tuple[int, int], change: tuple[int, int]
) -> None:
    response, sender = prober.ask(place, (CHANGE_REQUEST, ChangeRequest(ip=bool(change[0]), port=bool(change[1]))))
    moved = prober.corner((place[0] ^ change[0], place[1] ^ change[1]))
    assert sender == moved == response.get(RESPONSE_ORIGIN)
    assert response.get(OTHER_ADDRESS) == prober.corner((1 - place[0], 1 - place[1]))


@pytest.mark.rfc(5780, "7.5")
def test_response_port_sends_the_answer_to_another_port_of_the_same_client(prober: Prober) -> None:
    with prober.open() as other:
        prober.send((0, 0), (RESPONSE_PORT, other.getsockname()[1]))
        data, sender = other.recvfrom(2048)
    assert TransportAddress.parse(*sender) == prober.corner((0, 0))
    assert decode_message(data).get(XOR_MAPPED_ADDRESS) == prober.address


@pytest.mark.rfc(5780, "7.5")
def test_response_port_goes_with_change_request(prober: Prober) -> None:
    with prober.open() as other:
        prober.send(
            (0, 0), (RESPONSE_PORT, other.getsockname()[1]), (CHANGE_REQUEST, ChangeRequest(ip=True, port=True))
        )
        _, sender = other.recvfrom(2048)
    assert TransportAddress.parse(*sender) == prober.corner((1, 1))


@pytest.mark.rfc(5780, "7.5")
@pytest.mark.parametrize("port", [0, 22, 53, 1023])
def test_response_port_reaches_no_service(prober: Prober, port: int) -> None:
    response, _ = prober.ask((0, 0), (RESPONSE_PORT, port))
    error = response.get(ERROR_CODE)
    assert error is not None and error.code == 400


@pytest.mark.rfc(5780, "6.1")
def test_response_port_with_padding_is_a_400(prober: Prober) -> None:
    response, _ = prober.ask((0, 0), (RESPONSE_PORT, prober.address.port), (PADDING, bytes(64)))
    error = response.get(ERROR_CODE)
    assert error is not None and error.code == 400


@pytest.mark.rfc(5780, "7.6")
def test_padding_is_answered_with_padding_of_an_mtu_and_never_with_more_than_thrice_the_request(
    prober: Prober,
) -> None:
    response, _ = prober.ask((0, 0), (PADDING, bytes(1500)))
    padding = response.get(PADDING)
    assert padding is not None and len(padding) == 1500
    size = prober.send((0, 0), (PADDING, bytes(40)))
    answer, _ = prober.receive()
    assert len(answer.raw) <= 3 * size


@pytest.mark.rfc(5780, "10.1")
def test_steered_answers_to_one_source_have_an_end_and_plain_ones_go_on(prober: Prober) -> None:
    steered = (CHANGE_REQUEST, ChangeRequest(ip=False, port=True))
    for _ in range(2 * STEERED_BURST):
        prober.send((0, 0), steered)
    last = request_of()
    prober.send((0, 0), raw=last)
    answers = 0
    while True:
        response, sender = prober.receive()
        if response.transaction_id == last[8:20] and sender == prober.corner((0, 0)):
            break
        answers += 1
    assert answers <= STEERED_BURST + 10  # two per second come on top
    assert answers > 0


@pytest.mark.rfc(5780, "6.1")
@pytest.mark.parametrize("transport", ["tcp", "tls", "dtls"])
def test_other_transports_are_neither_steered_nor_told_another_address(wide_relay: Server, transport: str) -> None:
    client = wide_relay.client(transport)
    response = decode_message(client.exchange(client.binding()))
    assert response.get(OTHER_ADDRESS) is None
    request = request_of((CHANGE_REQUEST, ChangeRequest(ip=True, port=True)))
    assert decode_message(client.exchange(request)).get(UNKNOWN_ATTRIBUTES) == (CHANGE_REQUEST.type,)
    client.close()


@pytest.mark.rfc(5780, "6.1")
@pytest.mark.parametrize(
    "field",
    [(CHANGE_REQUEST, ChangeRequest(ip=True, port=True)), (RESPONSE_PORT, 40_000), (PADDING, bytes(16))],
    ids=lambda field: field[0].name,
)
def test_where_discovery_is_off_its_attributes_are_a_420(connect: Connect, field: Field) -> None:
    client: WireClient = connect()
    response = decode_message(client.exchange(request_of(field)))
    assert response.get(UNKNOWN_ATTRIBUTES) == (field[0].type,)


@pytest.mark.rfc(5780, "6.1")
def test_where_discovery_is_off_no_other_address_is_told(connect: Connect) -> None:
    client: WireClient = connect()
    response = decode_message(client.exchange(request_of()))
    assert response.get(OTHER_ADDRESS) is None
    assert response.get(RESPONSE_ORIGIN) is None
