"""STUN (RFC 8489) over real sockets: the running relay, every transport."""

import pytest

from stun.address import TransportAddress
from stun.attributes import (
    ERROR_CODE,
    LIFETIME,
    NONCE,
    REALM,
    REQUESTED_TRANSPORT,
    SOFTWARE,
    UNKNOWN_ATTRIBUTES,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    Attribute,
    pack_attribute,
)
from stun.message import Message, decode_message, encode_message
from stun.registry import IntegrityAlgorithm, MessageClass, Method
from tests.conformance.conftest import Connect
from tests.support.turn_client import Field, TurnClient, new_transaction_id, pack
from tests.support.wire_client import WireClient

CREDENTIALS = (USERNAME, REALM, NONCE)
UNKNOWN_REQUIRED = pack_attribute(0x7F01, b"x")
UNKNOWN_OPTIONAL = pack_attribute(0xFF01, b"x")
TYPES = (Method.BINDING, Method.ALLOCATE, Method.REFRESH, Method.CREATE_PERMISSION, Method.CHANNEL_BIND)


@pytest.fixture
def client(connect: Connect) -> WireClient:
    """A client that has said nothing yet."""
    return connect()


@pytest.fixture
def challenged(connect: Connect) -> WireClient:
    """A client that knows realm and nonce."""
    client = connect()
    client.get_challenged()
    return client


def request(*attributes: bytes, method: int = Method.BINDING, fingerprint: bool = False) -> bytes:
    return encode_message(method, MessageClass.REQUEST, new_transaction_id(), attributes, fingerprint=fingerprint)


def signed(turn: TurnClient, method: int, *attributes: bytes, without: Attribute[str] | None = None) -> bytes:
    """A request with raw attributes in front of the credentials, of which one may be missing."""
    transaction_id = turn.transaction_id = new_transaction_id()
    values: list[Field] = [(USERNAME, turn.username), (REALM, turn.realm), (NONCE, turn.nonce)]
    fields = pack(transaction_id, *(field for field in values if field[0] is not without))
    return encode_message(method, MessageClass.REQUEST, transaction_id, [*attributes, *fields], key=turn.key)


def error_of(raw: bytes) -> tuple[int, Message]:
    message = decode_message(raw)
    error = message.get(ERROR_CODE)
    assert error is not None
    return error.code, message


# Binding


@pytest.mark.rfc(8489, "6.3.1")
def test_a_binding_request_is_told_the_address_it_came_from_and_nothing_else(client: WireClient) -> None:
    data = request()
    message = decode_message(client.exchange(data))
    assert (message.method, message.message_class) == (Method.BINDING, MessageClass.SUCCESS)
    assert message.transaction_id == data[8:20]
    assert list(message.values) == [XOR_MAPPED_ADDRESS.type]
    assert message.get(XOR_MAPPED_ADDRESS) == client.address


@pytest.mark.rfc(8489, "6.3.1")
def test_a_retransmitted_binding_request_is_answered_alike(client: WireClient) -> None:
    data = request()
    assert client.exchange(data) == client.exchange(data)


@pytest.mark.rfc(8489, "6.3.1")
def test_a_binding_request_needs_no_credentials_even_if_it_carries_wrong_ones(challenged: WireClient) -> None:
    challenged.turn.password = "looking-glass"
    assert challenged.ask(Method.BINDING).code == 0


@pytest.mark.rfc(8489, "7")
@pytest.mark.parametrize("with_fingerprint", [False, True])
@pytest.mark.parametrize("method", [Method.BINDING, Method.ALLOCATE], ids=["binding", "allocate"])
def test_an_answer_has_a_fingerprint_exactly_if_the_request_had_one(
    client: WireClient, method: Method, *, with_fingerprint: bool
) -> None:
    answer = client.exchange(request(method=method, fingerprint=with_fingerprint))
    assert decode_message(answer).has_fingerprint is with_fingerprint


@pytest.mark.rfc(8489, "7")
def test_signed_answers_mirror_the_fingerprint_too(challenged: WireClient) -> None:
    challenged.turn.fingerprint = True
    assert challenged.allocate().message.has_fingerprint
    assert challenged.refresh().message.has_fingerprint


@pytest.mark.rfc(8489, "14.7")
def test_a_message_with_a_wrong_fingerprint_is_dropped(client: WireClient) -> None:
    data = request(fingerprint=True)
    client.wire.send(data[:-1] + bytes((data[-1] ^ 1,)))
    assert client.hears_nothing_more()


# What gets no answer


@pytest.mark.rfc(8489, "6.3")
@pytest.mark.parametrize("message_class", [MessageClass.INDICATION, MessageClass.SUCCESS, MessageClass.ERROR])
def test_nothing_but_a_request_gets_an_answer(client: WireClient, message_class: MessageClass) -> None:
    for method in (*TYPES, Method.SEND, Method.DATA, 0x07F):
        for attributes in ((), (UNKNOWN_REQUIRED,)):
            client.wire.send(encode_message(method, message_class, new_transaction_id(), attributes))
    assert client.hears_nothing_more()


@pytest.mark.rfc(8489, "6.3.1")
@pytest.mark.parametrize("method", [0x000, 0x002, Method.SEND, Method.DATA, 0x0FF], ids=hex)
def test_a_request_of_an_unknown_method_gets_no_answer(client: WireClient, method: int) -> None:
    client.wire.send(request(method=method))
    assert client.hears_nothing_more()


@pytest.mark.rfc(8489, "6.3")
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(request()[:19], id="cut-short"),
        pytest.param(b"\x80" + request()[1:], id="first-bits"),
        pytest.param(request()[:4] + bytes(4) + request()[8:], id="cookie"),
        pytest.param(request() + bytes(4), id="length"),
        pytest.param(request()[:2] + b"\x00\x04" + request()[4:20] + b"\x80\x22\x00\x08", id="attribute-length"),
        pytest.param(b"", id="empty"),
    ],
)
def test_a_datagram_that_is_no_message_is_dropped(connect_datagram: Connect, data: bytes) -> None:
    client = connect_datagram()
    client.wire.send(data)
    assert client.hears_nothing_more()


# Unknown attributes


@pytest.mark.rfc(8489, "6.3.1")
@pytest.mark.rfc(8489, "14.13")
def test_unknown_comprehension_required_attributes_are_listed_in_a_420(client: WireClient) -> None:
    code, message = error_of(client.exchange(request(UNKNOWN_REQUIRED, UNKNOWN_OPTIONAL, pack_attribute(0x0002, b""))))
    assert code == 420
    assert message.get(UNKNOWN_ATTRIBUTES) == (0x7F01, 0x0002)


@pytest.mark.rfc(8489, "9.2.4")
def test_a_420_to_an_authenticated_request_carries_integrity(challenged: WireClient) -> None:
    answer = challenged.exchange(signed(challenged.turn, Method.ALLOCATE, UNKNOWN_REQUIRED))
    response = challenged.turn.read(answer)
    assert response.code == 420
    assert response.message.integrity is IntegrityAlgorithm.SHA1


@pytest.mark.rfc(8489, "9.2.4")
def test_a_stranger_is_challenged_before_unknown_attributes_are_looked_at(client: WireClient) -> None:
    code, _ = error_of(client.exchange(request(UNKNOWN_REQUIRED, method=Method.ALLOCATE)))
    assert code == 401


@pytest.mark.rfc(8489, "14")
def test_unknown_comprehension_optional_attributes_are_ignored(challenged: WireClient) -> None:
    wish = REQUESTED_TRANSPORT.pack(17)
    answer = challenged.exchange(signed(challenged.turn, Method.ALLOCATE, UNKNOWN_OPTIONAL, wish))
    assert challenged.turn.read(answer).code == 0


@pytest.mark.rfc(8489, "14")
def test_the_first_of_duplicate_attributes_counts(challenged: WireClient) -> None:
    response = challenged.allocate((LIFETIME, 1234), (LIFETIME, 2345))
    assert response.get(LIFETIME) == 1234


@pytest.mark.rfc(8489, "14")
def test_padding_may_hold_anything(client: WireClient) -> None:
    padded = SOFTWARE.type.to_bytes(2) + b"\x00\x05hello\xff\xfe\xfd"
    assert decode_message(client.exchange(request(padded))).message_class is MessageClass.SUCCESS


# The long-term credential mechanism


@pytest.mark.rfc(8489, "9.2.4")
@pytest.mark.parametrize("method", TYPES[1:], ids=lambda method: method.name.lower())
def test_a_request_without_integrity_is_challenged(client: WireClient, method: Method) -> None:
    # Each with an attribute, for the least of requests gets no challenge over UDP: the answer would be too large.
    code, message = error_of(client.exchange(request(pack_attribute(0xFF01, bytes(12)), method=method)))
    assert code == 401
    assert message.get(REALM) is not None
    assert message.get(NONCE) is not None
    assert message.integrity is None


@pytest.mark.rfc(8489, "9.2.4")
@pytest.mark.parametrize("missing", CREDENTIALS, ids=lambda attribute: attribute.name)
def test_integrity_without_all_of_its_credentials_is_a_bad_request(
    challenged: WireClient, missing: Attribute[str]
) -> None:
    code, message = error_of(challenged.exchange(signed(challenged.turn, Method.REFRESH, without=missing)))
    assert code == 400
    assert message.integrity is None


@pytest.mark.rfc(8489, "9.2.4")
def test_a_wrong_password_gets_a_401_without_integrity(challenged: WireClient) -> None:
    challenged.turn.password = "looking-glass"
    response = challenged.allocate()
    assert response.code == 401
    assert response.message.integrity is None


@pytest.mark.rfc(8489, "9.2.4")
def test_an_unknown_user_gets_a_401(connect: Connect) -> None:
    assert connect(TurnClient("nobody", "nothing")).allocate().code == 401


@pytest.mark.rfc(8489, "9.2.4")
def test_an_expired_credential_gets_a_401(connect: Connect) -> None:
    assert connect(lives_for=-1).allocate().code == 401


@pytest.mark.rfc(8489, "9.2.4")
def test_a_nonce_that_was_never_issued_gets_a_438_with_one_that_works(challenged: WireClient) -> None:
    challenged.turn.nonce = "A" * 24
    response = challenged.allocate()
    assert response.code == 438
    assert response.get(REALM) == challenged.turn.realm
    assert challenged.allocate().code == 0


@pytest.mark.rfc(8489, "9.2.4")
def test_the_nonce_of_another_address_is_stale(connect: Connect, challenged: WireClient) -> None:
    other = connect(TurnClient(challenged.turn.username, challenged.turn.password))
    other.turn.realm, other.turn.nonce = challenged.turn.realm, challenged.turn.nonce
    assert other.allocate().code == 438


@pytest.mark.rfc(8489, "9.2.4")
@pytest.mark.parametrize("algorithm", IntegrityAlgorithm, ids=lambda algorithm: algorithm.name)
def test_answers_are_signed_with_the_algorithm_of_the_request(
    challenged: WireClient, algorithm: IntegrityAlgorithm
) -> None:
    challenged.turn.algorithm = algorithm
    response = challenged.allocate()
    assert response.code == 0
    assert response.message.integrity is algorithm


@pytest.mark.rfc(8489, "14.5")
def test_attributes_behind_the_integrity_are_ignored(challenged: WireClient) -> None:
    data = challenged.turn.build(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17))
    smuggled = LIFETIME.pack(1234)
    longer = data[:2] + (len(data) - 20 + len(smuggled)).to_bytes(2) + data[4:] + smuggled
    response = challenged.turn.read(challenged.exchange(longer))
    assert response.code == 0
    assert response.get(LIFETIME) == 600


@pytest.mark.rfc(8489, "14.5")
def test_a_message_changed_on_its_way_is_refused(challenged: WireClient) -> None:
    data = bytearray(challenged.turn.build(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17), (LIFETIME, 700)))
    data[data.index(LIFETIME.pack(700)) + 7] ^= 1
    code, message = error_of(challenged.exchange(bytes(data)))
    assert code == 401
    assert message.integrity is None


@pytest.mark.rfc(8489, "6.3.1")
def test_a_malformed_attribute_of_an_authenticated_request_is_a_signed_400(challenged: WireClient) -> None:
    malformed = pack_attribute(LIFETIME.type, b"\x01")
    wish = REQUESTED_TRANSPORT.pack(17)
    answer = challenged.exchange(signed(challenged.turn, Method.ALLOCATE, wish, malformed))
    response = challenged.turn.read(answer)
    assert response.code == 400
    assert response.message.integrity is IntegrityAlgorithm.SHA1


@pytest.mark.rfc(8489, "14.2")
def test_an_allocation_is_told_the_clients_address_as_a_binding_is(challenged: WireClient) -> None:
    mapped: TransportAddress = challenged.allocate().get(XOR_MAPPED_ADDRESS)
    assert mapped == challenged.address == decode_message(challenged.exchange(request())).get(XOR_MAPPED_ADDRESS)


# Streams


@pytest.mark.rfc(8489, "6.2.2")
def test_two_requests_in_one_segment_are_both_answered_in_order(connect_stream: Connect) -> None:
    client = connect_stream()
    first, second = request(), request()
    client.wire.send(first + second)
    assert [client.wire.receive()[8:20] for _ in range(2)] == [first[8:20], second[8:20]]


@pytest.mark.rfc(8489, "6.2.2")
def test_a_request_in_many_segments_is_answered_once_it_is_whole(connect_stream: Connect) -> None:
    client = connect_stream()
    data = request(SOFTWARE.pack("in small pieces"))
    for at in range(len(data)):
        client.wire.send(data[at : at + 1])
    assert client.wire.receive()[8:20] == data[8:20]


@pytest.mark.rfc(8489, "6.2.2")
def test_a_request_and_the_half_of_another_are_answered_one_by_one(connect_stream: Connect) -> None:
    client = connect_stream()
    first, second = request(), request()
    client.wire.send(first + second[:7])
    assert client.wire.receive()[8:20] == first[8:20]
    client.wire.send(second[7:])
    assert client.wire.receive()[8:20] == second[8:20]


@pytest.mark.rfc(8489, "6.2.2")
@pytest.mark.parametrize(
    "junk",
    [
        pytest.param(b"\x05\x01\x00" + bytes(29), id="socks"),
        pytest.param(request()[:4] + bytes(16), id="cookie"),
        pytest.param(b"\xff" * 64, id="first-bits"),
    ],
)
def test_a_stream_that_is_not_stun_is_closed_without_a_word(connect_stream: Connect, junk: bytes) -> None:
    client = connect_stream()
    client.wire.send(junk)
    with pytest.raises(ConnectionError):
        client.wire.receive()


@pytest.mark.rfc(8489, "6.2.2")
def test_a_stream_lives_on_after_a_request_that_is_refused(connect_stream: Connect) -> None:
    client = connect_stream()
    client.get_challenged()
    assert client.refresh().code == 437
    assert client.allocate().code == 0
