"""The server's side of STUN (RFC 8489), without I/O."""

import pytest

from relay.events import MessageDropped, NoAnswer, RequestRefused
from relay.five_tuple import Transport
from stun.address import TransportAddress
from stun.attributes import (
    ERROR_CODE,
    MESSAGE_INTEGRITY,
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
from stun.credentials import issue_credential
from stun.errors import ParseFault
from stun.integrity import IntegrityAlgorithm
from stun.message import Message, decode_message, encode_message
from stun.registry import ErrorCode, MessageClass, Method
from tests.support.relay_harness import SECRET, RelayedClient, RelayHarness
from tests.support.turn_client import new_transaction_id, pack

CREDENTIALS = (USERNAME, REALM, NONCE)
WRONG = "looking-glass"


@pytest.fixture
def harness() -> RelayHarness:
    return RelayHarness()


@pytest.fixture
def client(harness: RelayHarness) -> RelayedClient:
    """A client that has been challenged."""
    client = harness.client()
    assert client.ask_once(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17)).code == 401
    return client


def request(*attributes: bytes, method: int = Method.BINDING, fingerprint: bool = False) -> bytes:
    return encode_message(method, MessageClass.REQUEST, new_transaction_id(), attributes, fingerprint=fingerprint)


# Binding


@pytest.mark.rfc(8489, "6.3.1")
def test_a_binding_request_is_told_the_address_it_came_from_and_nothing_else(harness: RelayHarness) -> None:
    client = harness.client()
    data = request()
    (answer,) = client.send(data)
    message = decode_message(answer)
    assert (message.method, message.message_class) == (Method.BINDING, MessageClass.SUCCESS)
    assert message.transaction_id == data[8:20]
    assert message.get(XOR_MAPPED_ADDRESS) == client.path.client
    assert list(message.values) == [XOR_MAPPED_ADDRESS.type]
    assert len(answer) == 32


@pytest.mark.rfc(8489, "6.3.1")
def test_a_binding_request_needs_no_credentials_even_if_it_carries_some(client: RelayedClient) -> None:
    client.turn.password = WRONG
    assert client.ask(Method.BINDING).code == 0


@pytest.mark.rfc(8489, "7")
@pytest.mark.parametrize("with_fingerprint", [False, True])
@pytest.mark.parametrize("method", [Method.BINDING, Method.ALLOCATE])
def test_an_answer_has_a_fingerprint_exactly_if_the_request_had_one(
    harness: RelayHarness, method: Method, *, with_fingerprint: bool
) -> None:
    (answer,) = harness.client().send(request(method=method, fingerprint=with_fingerprint))
    assert decode_message(answer).has_fingerprint is with_fingerprint


@pytest.mark.rfc(8489, "7")
def test_signed_answers_mirror_the_fingerprint_too(client: RelayedClient) -> None:
    client.turn.fingerprint = True
    assert client.allocate().message.has_fingerprint
    assert client.refresh(600).message.has_fingerprint


@pytest.mark.rfc(8489, "14.7")
def test_a_message_with_a_wrong_fingerprint_is_dropped(harness: RelayHarness) -> None:
    data = request(fingerprint=True)
    assert harness.client().send(data[:-1] + bytes((data[-1] ^ 1,))) == []
    assert harness.events == [MessageDropped(ParseFault.BAD_FINGERPRINT)]


# What gets no answer


@pytest.mark.rfc(8489, "6.3")
@pytest.mark.parametrize("method", [*Method, 0x7FF], ids=lambda method: f"{method:#x}")
@pytest.mark.parametrize("message_class", [MessageClass.INDICATION, MessageClass.SUCCESS, MessageClass.ERROR])
def test_nothing_but_a_request_gets_an_answer(harness: RelayHarness, method: int, message_class: MessageClass) -> None:
    unknown = pack_attribute(0x7F00, b"")
    for attributes in ((), (unknown,)):
        data = encode_message(method, message_class, new_transaction_id(), attributes)
        assert harness.client().send(data) == []
    assert harness.events == [MessageDropped(NoAnswer.NOT_A_REQUEST)] * 2


@pytest.mark.rfc(8489, "6.3.1")
@pytest.mark.parametrize("method", [0x000, 0x002, Method.SEND, Method.DATA, 0x00A, 0xFFF], ids=hex)
def test_a_request_of_an_unknown_method_gets_no_answer(client: RelayedClient, method: int) -> None:
    assert client.send(client.turn.build(method)) == []


@pytest.mark.rfc(8489, "6.3")
@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", ParseFault.TRUNCATED),
        (request()[:19], ParseFault.TRUNCATED),
        (b"\x80" + request()[1:], ParseFault.NOT_STUN),
        (request()[:4] + bytes(4) + request()[8:], ParseFault.BAD_COOKIE),
        (request() + b"\0\0\0\0", ParseFault.BAD_LENGTH),
    ],
)
def test_bytes_that_are_no_message_are_dropped_and_counted(
    harness: RelayHarness, data: bytes, fault: ParseFault
) -> None:
    assert harness.client().send(data) == []
    assert harness.events == [MessageDropped(fault)]


# Unknown attributes


@pytest.mark.rfc(8489, "6.3.1")
@pytest.mark.rfc(8489, "14.13")
def test_an_unknown_comprehension_required_attribute_is_listed_in_a_420(harness: RelayHarness) -> None:
    data = request(pack_attribute(0x7F01, b"x"), pack_attribute(0xFF01, b"x"), pack_attribute(0x0002, b""))
    (answer,) = harness.client().send(data)
    message = decode_message(answer)
    error = message.get(ERROR_CODE)
    assert error is not None
    assert error.code == ErrorCode.UNKNOWN_ATTRIBUTE
    assert message.get(UNKNOWN_ATTRIBUTES) == (0x7F01, 0x0002)


@pytest.mark.rfc(8489, "9.2.4")
def test_a_420_to_an_authenticated_request_carries_integrity(client: RelayedClient) -> None:
    dont_fragment: Attribute[bytes] = Attribute(0x001A, "DONT-FRAGMENT", lambda value, _: value, lambda value, _: value)
    response = client.allocate((dont_fragment, b""))
    assert response.code == 420
    assert response.get(UNKNOWN_ATTRIBUTES) == (0x001A,)
    assert response.message.integrity is IntegrityAlgorithm.SHA1  # and `read` has verified it
    assert not client.has_relay


@pytest.mark.rfc(8489, "9.2.4")
def test_a_stranger_is_challenged_before_unknown_attributes_are_looked_at(harness: RelayHarness) -> None:
    (answer,) = harness.client().send(request(pack_attribute(0x7F01, b"1234"), method=Method.REFRESH))
    error = decode_message(answer).get(ERROR_CODE)
    assert error is not None
    assert error.code == 401


@pytest.mark.rfc(8489, "14")
def test_unknown_comprehension_optional_attributes_are_ignored(client: RelayedClient) -> None:
    mobility: Attribute[bytes] = Attribute(0x8030, "MOBILITY-TICKET", lambda value, _: value, lambda value, _: value)
    assert client.allocate((SOFTWARE, "a browser"), (mobility, b"")).code == 0


# The long-term credential mechanism


@pytest.mark.rfc(8489, "9.2.4")
@pytest.mark.parametrize("method", [Method.ALLOCATE, Method.REFRESH, Method.CREATE_PERMISSION, Method.CHANNEL_BIND])
def test_a_request_without_integrity_is_challenged(harness: RelayHarness, method: Method) -> None:
    response = harness.client().ask_once(method, (REQUESTED_TRANSPORT, 17))
    assert response.code == 401
    assert response.get(REALM) == harness.settings.realm
    assert len(response.get(NONCE)) == 24
    assert response.message.integrity is None
    assert harness.events == [RequestRefused(method, ErrorCode.UNAUTHENTICATED, "no_credentials")]


@pytest.mark.rfc(8489, "9.2.4")
@pytest.mark.parametrize("missing", CREDENTIALS, ids=lambda attribute: attribute.name)
def test_integrity_without_all_of_its_credentials_is_a_bad_request(
    client: RelayedClient, missing: Attribute[str]
) -> None:
    values = dict(zip(CREDENTIALS, (client.turn.username, client.turn.realm, client.turn.nonce), strict=True))
    del values[missing]
    transaction_id = new_transaction_id()
    data = encode_message(
        Method.ALLOCATE,
        MessageClass.REQUEST,
        transaction_id,
        pack(transaction_id, (REQUESTED_TRANSPORT, 17), *values.items()),
        key=client.turn.key,
    )
    (answer,) = client.send(data)
    message = decode_message(answer)
    error = message.get(ERROR_CODE)
    assert error is not None
    assert error.code == 400
    assert not {USERNAME.type, NONCE.type, REALM.type} & message.values.keys()
    assert message.integrity is None


@pytest.mark.rfc(8489, "9.2.4")
def test_a_wrong_password_gets_a_401_without_integrity(client: RelayedClient) -> None:
    client.turn.password = WRONG
    response = client.allocate()
    assert response.code == 401
    assert response.has(NONCE)
    assert response.message.integrity is None
    assert not client.has_relay


@pytest.mark.rfc(8489, "9.2.4")
def test_an_unknown_user_gets_a_401(harness: RelayHarness) -> None:
    client = harness.client("mallory", "anything")
    assert client.allocate().code == 401
    assert harness.events[-1] == RequestRefused(Method.ALLOCATE, ErrorCode.UNAUTHENTICATED, "unknown_user")


@pytest.mark.rfc(8489, "9.2.4")
def test_another_realm_gets_a_401(client: RelayedClient) -> None:
    client.turn.realm = "example.org"
    assert client.allocate().code == 401


@pytest.mark.rfc(8489, "9.2.4")
def test_a_time_limited_user_is_let_in_until_the_second_of_expiry(harness: RelayHarness) -> None:
    credential = issue_credential(SECRET, int(harness.unix_time) + 100, "seat")
    client = harness.client(*credential)
    assert client.allocate().code == 0
    harness.advance(99)
    assert client.refresh().code == 0
    harness.advance(1)
    assert client.refresh().code == 401
    assert harness.events[-1] == RequestRefused(Method.REFRESH, ErrorCode.UNAUTHENTICATED, "expired")


@pytest.mark.rfc(8489, "9.2.4")
def test_a_stale_nonce_gets_a_438_with_a_fresh_one_that_works(harness: RelayHarness, client: RelayedClient) -> None:
    old = client.turn.nonce
    harness.advance(harness.settings.nonce_lifetime_seconds)
    response = client.allocate()
    assert response.code == 438
    assert response.get(REALM) == harness.settings.realm
    assert response.get(NONCE) != old
    assert client.allocate().code == 0


@pytest.mark.rfc(8489, "9.2.4")
def test_a_nonce_works_up_to_its_last_second(harness: RelayHarness, client: RelayedClient) -> None:
    harness.advance(harness.settings.nonce_lifetime_seconds - 1)
    assert client.allocate().code == 0


@pytest.mark.rfc(8489, "9.2.4")
def test_the_nonce_of_another_address_is_stale(harness: RelayHarness, client: RelayedClient) -> None:
    thief = harness.client()
    thief.turn.realm, thief.turn.nonce = client.turn.realm, client.turn.nonce
    assert thief.allocate().code == 438


@pytest.mark.rfc(8489, "9.2.4")
@pytest.mark.parametrize("nonce", ["", "f//499k954d6OL34oL9FSTvy64sA", "A" * 24, "=" * 24, "\u30de" * 24])
def test_a_nonce_that_was_never_issued_is_stale(client: RelayedClient, nonce: str) -> None:
    client.turn.nonce = nonce
    assert client.allocate().code == 438


@pytest.mark.rfc(8489, "9.2.4")
def test_a_stale_nonce_with_a_wrong_password_is_a_401(harness: RelayHarness, client: RelayedClient) -> None:
    client.turn.password = WRONG
    harness.advance(harness.settings.nonce_lifetime_seconds)
    assert client.allocate().code == 401


@pytest.mark.rfc(8489, "9.2.4")
@pytest.mark.parametrize("algorithm", IntegrityAlgorithm)
def test_answers_are_signed_with_the_algorithm_of_the_request(
    client: RelayedClient, algorithm: IntegrityAlgorithm
) -> None:
    client.turn.algorithm = algorithm
    for response in (client.allocate(), client.allocate(), client.refresh(0)):
        assert response.code in {0, 437}
        assert response.message.integrity is algorithm


@pytest.mark.rfc(8489, "14.5")
def test_attributes_behind_the_integrity_are_ignored(client: RelayedClient) -> None:
    data = client.turn.build(Method.ALLOCATE)
    smuggled = data + REQUESTED_TRANSPORT.pack(17)
    smuggled = smuggled[:2] + (len(smuggled) - 20).to_bytes(2) + smuggled[4:]
    (answer,) = client.send(smuggled)
    assert client.turn.read(answer).code == 400


@pytest.mark.rfc(8489, "14.5")
def test_a_message_changed_on_its_way_is_refused(client: RelayedClient) -> None:
    data = bytearray(client.turn.build(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17), (SOFTWARE, "a browser")))
    data[data.index(b"browser")] ^= 0x20
    (answer,) = client.send(bytes(data))
    assert client.turn.read(answer).code == 401


@pytest.mark.rfc(8489, "14")
def test_the_first_of_duplicate_attributes_counts(client: RelayedClient) -> None:
    assert client.allocate((REQUESTED_TRANSPORT, 6)).code == 0
    other = client.harness.client()
    assert other.ask(Method.ALLOCATE, (REQUESTED_TRANSPORT, 6), (REQUESTED_TRANSPORT, 17)).code == 442


@pytest.mark.rfc(8489, "6.3.1")
def test_a_malformed_attribute_of_an_authenticated_request_is_a_signed_400(client: RelayedClient) -> None:
    broken: Attribute[bytes] = Attribute(0x0019, "BROKEN", lambda value, _: value, lambda value, _: value)
    response = client.ask(Method.ALLOCATE, (broken, b"\x11"))
    assert response.code == 400
    assert response.message.integrity is IntegrityAlgorithm.SHA1


@pytest.mark.rfc(8489, "6.3.1")
def test_a_malformed_credential_is_a_400(client: RelayedClient) -> None:
    data = request(pack_attribute(USERNAME.type, b"\xff"), pack_attribute(MESSAGE_INTEGRITY.type, bytes(20)))
    data = data[:1] + bytes((Method.ALLOCATE,)) + data[2:]
    (answer,) = client.send(data)
    error = decode_message(answer).get(ERROR_CODE)
    assert error is not None
    assert error.code == 400


# Reflection: a stranger's address may be forged, so answers to it must stay small


def _unauthenticated_requests(client: RelayedClient) -> dict[str, bytes]:
    nonce = client.turn.nonce
    assert nonce is not None
    chromium = request(REQUESTED_TRANSPORT.pack(17), method=Method.ALLOCATE)
    assert len(chromium) == 28
    bare = {f"bare {method.name}": request(method=method) for method in Method}
    sealed = {f"bare {method.name} with fingerprint": request(method=method, fingerprint=True) for method in Method}
    garbled = request(*pack(b"", (USERNAME, ""), (REALM, ""), (NONCE, nonce)), method=Method.ALLOCATE)
    return {
        **bare,
        **sealed,
        "Allocate of Chromium": chromium,
        "unknown attributes": request(*(pack_attribute(0x7F00 + number, b"") for number in range(100))),
        "one unknown attribute": request(pack_attribute(0x7F00, b"")),
        "no credentials": request(pack_attribute(MESSAGE_INTEGRITY.type, bytes(20)), method=Method.REFRESH),
        "wrong everything": request(
            *pack(b"", (USERNAME, "x"), (REALM, "redconnect"), (NONCE, nonce)),
            pack_attribute(MESSAGE_INTEGRITY.type, bytes(20)),
            method=Method.ALLOCATE,
        ),
        "no integrity": garbled,
    }


@pytest.mark.rfc(8489, "16.2.1")
@pytest.mark.parametrize("realm", ["redconnect", "r" * 24])
def test_a_stranger_over_udp_gets_at_most_three_times_what_it_sent(realm: str) -> None:
    harness = RelayHarness(realm=realm)
    client = harness.client()
    client.ask_once(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17))
    for name, data in _unauthenticated_requests(client).items():
        answers = client.send(data)
        assert sum(map(len, answers)) <= 3 * len(data), name


@pytest.mark.rfc(8489, "9.2.4")
def test_the_allocate_of_every_browser_is_challenged_whatever_the_realm() -> None:
    harness = RelayHarness(realm="r" * 24)
    assert harness.client().ask_once(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17)).code == 401


@pytest.mark.rfc(8489, "14.8")
@pytest.mark.parametrize(("transport", "phrase"), [(Transport.UDP, ""), (Transport.TCP, "Unauthenticated")])
def test_a_reason_phrase_is_given_only_where_the_address_is_proved(
    harness: RelayHarness, transport: Transport, phrase: str
) -> None:
    response = harness.client(transport=transport).ask_once(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17))
    assert response.get(ERROR_CODE).reason == phrase


@pytest.mark.rfc(8489, "14.2")
def test_an_ipv6_client_is_told_its_address(harness: RelayHarness) -> None:
    client = harness.client()
    client.path = client.path._replace(client=TransportAddress.parse("2a02:8109::7", 5000))
    message: Message = client.ask_once(Method.BINDING).message
    assert message.get(XOR_MAPPED_ADDRESS) == client.path.client
