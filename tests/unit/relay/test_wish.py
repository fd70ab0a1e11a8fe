import pytest

from relay.errors import AddressFamilyNotSupported, BadRequest, RequestRejected, UnsupportedTransportProtocol
from relay.five_tuple import Transport
from relay.wish import TCP_PROTOCOL, UDP_PROTOCOL, Wish, read_wish
from stun.address import IPV4, IPV6
from stun.attributes import (
    ADDITIONAL_ADDRESS_FAMILY,
    DONT_FRAGMENT,
    DRAFT_ADDITIONAL_ADDRESS_FAMILY,
    EVEN_PORT,
    LIFETIME,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
)
from stun.message import Message, decode_message, encode_message
from stun.registry import MessageClass, Method
from tests.support.turn_client import Field, pack

UDP = (REQUESTED_TRANSPORT, UDP_PROTOCOL)
TCP = (REQUESTED_TRANSPORT, TCP_PROTOCOL)
TOKEN = (RESERVATION_TOKEN, b"12345678")


def allocate(*fields: Field) -> Message:
    return decode_message(encode_message(Method.ALLOCATE, MessageClass.REQUEST, bytes(12), pack(bytes(12), *fields)))


@pytest.mark.parametrize(
    ("fields", "wish"),
    [
        ([UDP], Wish((IPV4,), None, None, None, UDP_PROTOCOL)),
        ([UDP, (LIFETIME, 5)], Wish((IPV4,), None, None, 5, UDP_PROTOCOL)),
        ([UDP, (REQUESTED_ADDRESS_FAMILY, IPV6)], Wish((IPV6,), None, None, None, UDP_PROTOCOL)),
        ([UDP, (ADDITIONAL_ADDRESS_FAMILY, IPV6)], Wish((IPV4, IPV6), None, None, None, UDP_PROTOCOL)),
        ([UDP, (DRAFT_ADDITIONAL_ADDRESS_FAMILY, IPV6)], Wish((IPV4, IPV6), None, None, None, UDP_PROTOCOL)),
        ([UDP, (EVEN_PORT, True)], Wish((IPV4,), True, None, None, UDP_PROTOCOL)),  # noqa: FBT003
        ([UDP, TOKEN], Wish((IPV4,), None, TOKEN[1], None, UDP_PROTOCOL)),
        ([UDP, (DONT_FRAGMENT, b"")], Wish((IPV4,), None, None, None, UDP_PROTOCOL)),
        ([TCP, (REQUESTED_ADDRESS_FAMILY, IPV6)], Wish((IPV6,), None, None, None, TCP_PROTOCOL)),
    ],
)
def test_a_wish_is_read_from_the_request(fields: list[Field], wish: Wish) -> None:
    assert read_wish(allocate(*fields), Transport.TCP, tcp_allocations=True) == wish


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ([], BadRequest),
        ([(REQUESTED_TRANSPORT, 132)], UnsupportedTransportProtocol),
        ([UDP, (REQUESTED_ADDRESS_FAMILY, 3)], AddressFamilyNotSupported),
        ([UDP, (ADDITIONAL_ADDRESS_FAMILY, IPV4)], BadRequest),
        ([UDP, (DRAFT_ADDITIONAL_ADDRESS_FAMILY, IPV4)], BadRequest),
        ([UDP, (ADDITIONAL_ADDRESS_FAMILY, IPV6), (REQUESTED_ADDRESS_FAMILY, IPV4)], BadRequest),
        ([UDP, (ADDITIONAL_ADDRESS_FAMILY, IPV6), (EVEN_PORT, True)], BadRequest),
        ([UDP, TOKEN, (EVEN_PORT, False)], BadRequest),
        ([UDP, TOKEN, (REQUESTED_ADDRESS_FAMILY, IPV4)], BadRequest),
        ([UDP, TOKEN, (ADDITIONAL_ADDRESS_FAMILY, IPV6)], BadRequest),
        ([TCP, TOKEN], BadRequest),
        ([TCP, (EVEN_PORT, False)], BadRequest),
        ([TCP, (DONT_FRAGMENT, b"")], BadRequest),
    ],
)
def test_a_contradictory_wish_is_refused(fields: list[Field], error: type[RequestRejected]) -> None:
    with pytest.raises(error):
        read_wish(allocate(*fields), Transport.TCP, tcp_allocations=True)


def test_tcp_is_refused_unless_switched_on() -> None:
    with pytest.raises(UnsupportedTransportProtocol):
        read_wish(allocate(TCP), Transport.TCP, tcp_allocations=False)


@pytest.mark.parametrize("transport", [Transport.UDP, Transport.DTLS])
def test_tcp_is_relayed_for_clients_over_streams_only(transport: Transport) -> None:
    with pytest.raises(BadRequest):
        read_wish(allocate(TCP), transport, tcp_allocations=True)
