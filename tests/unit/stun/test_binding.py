import pytest

from stun.address import TransportAddress
from stun.attributes import ERROR_CODE, UNKNOWN_ATTRIBUTES, XOR_MAPPED_ADDRESS, pack_attribute
from stun.binding import answer_binding
from stun.message import MAX_UNKNOWN_ATTRIBUTES, decode_message, encode_message
from stun.registry import MessageClass, Method

TRANSACTION_ID = bytes.fromhex("b7e7a701bc34d686fa87dfae")
CLIENT = TransportAddress.parse("192.0.2.1", 32853)


def answer(*attributes: bytes, fingerprint: bool = False, client: TransportAddress = CLIENT) -> tuple[bytes, bytes]:
    request = encode_message(Method.BINDING, MessageClass.REQUEST, TRANSACTION_ID, attributes, fingerprint=fingerprint)
    return request, answer_binding(decode_message(request), client)


def test_the_answer_is_the_address_in_thirty_two_bytes() -> None:
    _, response = answer()
    assert response.hex() == "0101000c2112a442b7e7a701bc34d686fa87dfae" + "002000080001a147e112a643"


@pytest.mark.parametrize(("ip", "limit"), [("192.0.2.1", 1.6), ("2001:db8::1", 2.2)])
@pytest.mark.parametrize("fingerprint", [False, True])
def test_the_answer_is_not_much_larger_than_the_smallest_request(ip: str, limit: float, *, fingerprint: bool) -> None:
    request, response = answer(fingerprint=fingerprint, client=TransportAddress.parse(ip, 1))
    assert len(response) <= limit * len(request)


def test_comprehension_optional_attributes_change_nothing() -> None:
    assert answer(pack_attribute(0xC057, b"\0\1\0\x0a"))[1] == answer()[1]


def test_unknown_attributes_are_listed_up_to_a_bound() -> None:
    request, response = answer(*(pack_attribute(0x7000 + number, b"") for number in range(20)))
    message = decode_message(response)
    error = message.get(ERROR_CODE)
    assert error is not None
    assert error.code == 420
    assert message.get(UNKNOWN_ATTRIBUTES) == tuple(range(0x7000, 0x7000 + MAX_UNKNOWN_ATTRIBUTES))
    assert message.get(XOR_MAPPED_ADDRESS) is None
    assert len(response) <= len(request)
