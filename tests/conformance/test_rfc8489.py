"""The server's side of STUN (RFC 8489), without I/O."""

from typing import Any

import pytest

from relay.events import MessageDropped, NoAnswer, RequestRefused
from relay.five_tuple import Transport
from stun.address import TransportAddress
from stun.attributes import (
    CHANGE_REQUEST,
    CONNECTION_ID,
    ERROR_CODE,
    MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256,
    NONCE,
    PADDING,
    PASSWORD_ALGORITHM,
    PASSWORD_ALGORITHMS,
    REALM,
    REQUESTED_TRANSPORT,
    RESPONSE_PORT,
    SOFTWARE,
    UNKNOWN_ATTRIBUTES,
    USERHASH,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    Attribute,
    ChangeRequest,
    PasswordAlgorithmEntry,
    pack_attribute,
)
from stun.credentials import CredentialBook, issue_credential, userhash
from stun.errors import ParseFault
from stun.message import Message, decode_message, encode_message
from stun.nonce import SecurityFeatures, security_features
from stun.registry import ErrorCode, IntegrityAlgorithm, MessageClass, Method, PasswordAlgorithm
from tests.support.relay_harness import SECRET, USERS, RelayedClient, RelayHarness
from tests.support.turn_client import BidDown, TurnClient, new_transaction_id, pack

CREDENTIALS = (USERNAME, REALM, NONCE)
WRONG = "looking-glass"
MD5, SHA256 = PasswordAlgorithmEntry(PasswordAlgorithm.MD5), PasswordAlgorithmEntry(PasswordAlgorithm.SHA256)


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
    is_send = method == Method.SEND and message_class is MessageClass.INDICATION
    reason = NoAnswer.BAD_INDICATION if is_send else NoAnswer.NOT_A_REQUEST
    assert harness.events == [MessageDropped(reason)] * 2


@pytest.mark.rfc(8489, "6.3.1")
@pytest.mark.parametrize("method", [0x000, 0x002, Method.SEND, Method.DATA, 0x00D, 0xFFF], ids=hex)
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
    unheard_of: Attribute[bytes] = Attribute(0x7F01, "UNHEARD-OF", lambda value, _: value, lambda value, _: value)
    response = client.allocate((unheard_of, b""), (CONNECTION_ID, 1), (unheard_of, b""))
    assert response.code == 420
    assert response.get(UNKNOWN_ATTRIBUTES) == (0x7F01, CONNECTION_ID.type)
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
    unheard_of: Attribute[bytes] = Attribute(0xFF01, "UNHEARD-OF", lambda value, _: value, lambda value, _: value)
    assert client.allocate((SOFTWARE, "a browser"), (unheard_of, b"")).code == 0


@pytest.mark.rfc(8489, "6.3.1")
@pytest.mark.rfc(5780, "6.1")
@pytest.mark.parametrize(
    ("attribute", "value"),
    [(CHANGE_REQUEST, ChangeRequest(ip=True, port=True)), (PADDING, b"x" * 100), (RESPONSE_PORT, 3478)],
    ids=lambda each: getattr(each, "name", ""),
)
def test_behaviour_discovery_is_unknown_to_a_binding_request_where_it_is_switched_off(
    harness: RelayHarness, attribute: Attribute[Any], value: object
) -> None:
    (answer,) = harness.client().send(request(attribute.pack(value)))
    message = decode_message(answer)
    assert message.get(ERROR_CODE) == (420, "")
    assert message.get(UNKNOWN_ATTRIBUTES) == (attribute.type,)


@pytest.mark.rfc(8489, "6.3.1")
@pytest.mark.rfc(8489, "14.13")
def test_a_420_lists_each_type_once_and_none_that_is_optional(harness: RelayHarness) -> None:
    (answer,) = harness.client().send(
        request(*(pack_attribute(number, b"") for number in (0x7F01, 0x8123, 0x7F01, 0x0002, 0x8022)))
    )
    assert decode_message(answer).get(UNKNOWN_ATTRIBUTES) == (0x7F01, 0x0002)


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
    early, late = harness.client(*credential), harness.client(*credential)
    harness.advance(99)
    assert early.allocate().code == 0
    harness.advance(1)
    assert late.allocate().code == 401
    assert harness.events[-1] == RequestRefused(Method.ALLOCATE, ErrorCode.UNAUTHENTICATED, "expired")


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


# Password algorithms, anonymous users and bid-down protection


@pytest.fixture
def modern(client: RelayedClient) -> RelayedClient:
    """A challenged client that knows all of RFC 8489."""
    client.turn = TurnClient(client.turn.username, client.turn.password, is_modern=True)
    assert client.ask_once(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17)).code == 401
    return client


@pytest.mark.rfc(8489, "9.2")
@pytest.mark.rfc(8489, "18.1")
def test_every_nonce_begins_with_the_nonce_cookie(client: RelayedClient) -> None:
    assert client.turn.nonce is not None
    assert client.turn.nonce.startswith("obMatJos2gAAA")  # bit 0, password algorithms, and no other


@pytest.mark.rfc(8489, "9.2")
@pytest.mark.rfc(8489, "9.2.4")
def test_a_realm_that_leaves_no_room_for_algorithms_says_so_in_its_nonce() -> None:
    client = RelayHarness(realm="r" * 13, password_algorithms=False).client()
    response = client.ask_once(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17))
    assert response.get(NONCE).startswith("obMatJos2AAAA")
    assert not response.has(PASSWORD_ALGORITHMS)
    assert client.allocate().code == 0


@pytest.mark.rfc(8489, "9.2.4")
@pytest.mark.rfc(8489, "14.11")
def test_a_challenge_offers_sha256_before_md5(harness: RelayHarness) -> None:
    response = harness.client().ask_once(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17))
    assert response.get(PASSWORD_ALGORITHMS) == ((2, b""), (1, b""))


@pytest.mark.rfc(8489, "9.2.4")
@pytest.mark.rfc(8489, "14.6")
def test_a_modern_client_allocates_with_sha256_for_key_and_integrity(modern: RelayedClient) -> None:
    assert modern.turn.password_algorithm is PasswordAlgorithm.SHA256
    for response in (modern.allocate(), modern.refresh(600), modern.refresh(0), modern.refresh()):
        assert response.code in {0, 437}
        assert response.message.integrity is IntegrityAlgorithm.SHA256  # and `read` has verified it


@pytest.mark.rfc(8489, "9.2.4")
def test_a_client_that_chose_an_algorithm_is_answered_with_sha256_whatever_it_signed_with(
    modern: RelayedClient,
) -> None:
    modern.turn.algorithm = IntegrityAlgorithm.SHA1
    assert modern.allocate().message.integrity is IntegrityAlgorithm.SHA256


@pytest.mark.rfc(8489, "9.2.4")
def test_a_client_without_the_attributes_is_taken_to_use_md5(client: RelayedClient) -> None:
    assert security_features(client.turn.nonce or "") & SecurityFeatures.PASSWORD_ALGORITHMS
    response = client.allocate()
    assert response.code == 0
    assert response.message.integrity is IntegrityAlgorithm.SHA1


@pytest.mark.rfc(8489, "9.2.4")
def test_a_time_limited_user_may_use_sha256(harness: RelayHarness) -> None:
    client = harness.client(*issue_credential(SECRET, int(harness.unix_time) + 100))
    client.turn.is_modern = True
    assert client.allocate().code == 0
    assert client.turn.algorithm is IntegrityAlgorithm.SHA256


BID_DOWN: dict[str, dict[Attribute[Any], Any]] = {
    "only PASSWORD-ALGORITHM": {PASSWORD_ALGORITHMS: None},
    "only PASSWORD-ALGORITHMS": {PASSWORD_ALGORITHM: None},
    "MD5 alone in the list": {PASSWORD_ALGORITHMS: (MD5,), PASSWORD_ALGORITHM: MD5},
    "another order": {PASSWORD_ALGORITHMS: (MD5, SHA256)},
    "an entry more": {PASSWORD_ALGORITHMS: (SHA256, MD5, PasswordAlgorithmEntry(3))},
    "an empty list": {PASSWORD_ALGORITHMS: ()},
    "an algorithm that is not in the list": {PASSWORD_ALGORITHM: PasswordAlgorithmEntry(3)},
    "an algorithm with parameters": {PASSWORD_ALGORITHM: PasswordAlgorithmEntry(2, b"x")},
}


@pytest.mark.rfc(8489, "9.2.1")
@pytest.mark.rfc(8489, "9.2.4")
@pytest.mark.parametrize("changes", BID_DOWN.values(), ids=BID_DOWN)
def test_password_algorithms_that_were_not_offered_are_a_bad_request(
    modern: RelayedClient, changes: dict[Attribute[Any], Any]
) -> None:
    values = dict(modern.turn.credentials()) | changes
    transaction_id = new_transaction_id()
    fields = [(attribute, value) for attribute, value in values.items() if value is not None]
    data = encode_message(
        Method.ALLOCATE,
        MessageClass.REQUEST,
        transaction_id,
        pack(transaction_id, (REQUESTED_TRANSPORT, 17), *fields),
        key=modern.turn.key,
        algorithm=IntegrityAlgorithm.SHA256,
    )
    (answer,) = modern.send(data)
    message = decode_message(answer)
    assert message.get(ERROR_CODE) == (400, "")
    assert message.integrity is None
    assert not modern.has_relay


@pytest.mark.rfc(8489, "9.2.4")
def test_a_key_by_another_algorithm_than_the_named_one_is_a_wrong_password(modern: RelayedClient) -> None:
    data = modern.turn.build(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17), (PASSWORD_ALGORITHM, MD5))  # the first counts
    (answer,) = modern.send(data)
    assert modern.turn.read(answer).code == 401


@pytest.mark.rfc(8489, "9.2.1")
@pytest.mark.rfc(8489, "9.2.5")
def test_a_client_notices_that_the_offer_was_taken_out_of_its_challenge(harness: RelayHarness) -> None:
    client = harness.client()
    client.turn.is_modern = True
    (challenge,) = client.send(client.turn.build(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17)))
    stripped = challenge[:2] + (len(challenge) - 32).to_bytes(2) + challenge[4:-12]
    with pytest.raises(BidDown):
        client.turn.read(stripped)


@pytest.mark.rfc(8489, "9.2.1")
@pytest.mark.parametrize("features", ["AAAA", "QAAA", "wAAA", "gAAB"])
def test_a_nonce_whose_cookie_was_changed_on_its_way_is_stale(modern: RelayedClient, features: str) -> None:
    assert modern.turn.nonce is not None
    modern.turn.nonce = modern.turn.nonce.replace("gAAA", features, 1)
    modern.turn.is_modern = False  # a client that believes what it was told, and keeps its name
    assert modern.allocate().code == 438
    assert not modern.has_relay


@pytest.mark.rfc(8489, "9.2.1")
def test_a_client_that_was_talked_into_md5_does_not_get_in(client: RelayedClient) -> None:
    # The attacker cleared the bit of the cookie and took out the list, so the client sees an old server.
    assert client.turn.nonce is not None
    client.turn.nonce = client.turn.nonce.replace("gAAA", "AAAA", 1)
    response = client.allocate()
    assert response.code == 438
    assert response.get(NONCE).startswith("obMatJos2gAAA")
    assert not client.has_relay


@pytest.mark.rfc(8489, "9.2.4")
def test_a_438_carries_the_password_algorithms(harness: RelayHarness, modern: RelayedClient) -> None:
    harness.advance(harness.settings.nonce_lifetime_seconds)
    response = modern.allocate()
    assert response.code == 438
    assert response.get(PASSWORD_ALGORITHMS) == (SHA256, MD5)
    assert modern.allocate().code == 0


@pytest.mark.rfc(8489, "9.2.4")
def test_a_401_to_a_wrong_user_carries_the_password_algorithms(harness: RelayHarness) -> None:
    response = harness.client("mallory", "anything").allocate()
    assert response.code == 401
    assert response.get(PASSWORD_ALGORITHMS) == (SHA256, MD5)


@pytest.mark.rfc(8489, "9.2.4")
@pytest.mark.rfc(8489, "14.4")
def test_a_realm_of_static_users_asks_for_anonymity_and_finds_its_users_by_hash() -> None:
    harness = RelayHarness()
    harness.reconfigure_general(CredentialBook("redconnect", USERS, {}))
    client = harness.client()
    client.turn.is_modern = True
    assert client.ask_once(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17)).get(NONCE).startswith("obMatJos2wAAA")
    assert client.turn.credentials()[0] == (USERHASH, userhash("alice", "redconnect"))
    assert client.allocate().code == 0
    assert client.refresh(0).code == 0


@pytest.mark.rfc(8489, "14.4")
def test_the_userhash_of_a_static_user_is_understood_where_anonymity_is_not_asked_for(client: RelayedClient) -> None:
    assert _ask_by_hash(client, userhash("alice", "redconnect")) == 0
    assert client.has_relay


@pytest.mark.rfc(8489, "9.2.4")
@pytest.mark.parametrize("username", ["mallory", "1999999999:seat"])
def test_a_userhash_that_nobody_knows_gets_a_401(harness: RelayHarness, username: str) -> None:
    client = harness.client(username, "anything")
    assert client.ask_once(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17)).code == 401
    assert _ask_by_hash(client, userhash(username, "redconnect")) == 401


@pytest.mark.rfc(8489, "14.4")
@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_userhash_of_a_wrong_length_is_a_bad_request(client: RelayedClient, length: int) -> None:
    assert _ask_by_hash(client, bytes(length)) == 400


def _ask_by_hash(client: RelayedClient, value: bytes) -> int:
    """The code of the answer to an Allocate request with this USERHASH and no USERNAME."""
    transaction_id = new_transaction_id()
    credentials = pack(transaction_id, *client.turn.credentials()[1:], (REQUESTED_TRANSPORT, 17))
    packed = (pack_attribute(USERHASH.type, value), *credentials)
    data = encode_message(Method.ALLOCATE, MessageClass.REQUEST, transaction_id, packed, key=client.turn.key)
    (answer,) = client.send(data)
    error = decode_message(answer).get(ERROR_CODE)
    return 0 if error is None else error.code


@pytest.mark.rfc(8489, "14.6")
def test_a_truncated_sha256_integrity_is_no_message(harness: RelayHarness) -> None:
    # TURN does not allow truncation, so the value must be whole.
    data = request(pack_attribute(MESSAGE_INTEGRITY_SHA256.type, bytes(16)), method=Method.ALLOCATE)
    assert harness.client().send(data) == []
    assert harness.events == [MessageDropped(ParseFault.BAD_LENGTH)]


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
@pytest.mark.parametrize("realm", ["redconnect", "r" * 12, "r" * 24])
def test_a_stranger_over_udp_gets_at_most_three_times_what_it_sent(realm: str) -> None:
    harness = RelayHarness(realm=realm, password_algorithms=len(realm) <= 12)
    client = harness.client()
    client.ask_once(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17))
    for name, data in _unauthenticated_requests(client).items():
        answers = client.send(data)
        assert sum(map(len, answers)) <= 3 * len(data), name


@pytest.mark.rfc(8489, "9.2.4")
def test_the_allocate_of_every_browser_is_challenged_whatever_the_realm() -> None:
    harness = RelayHarness(realm="r" * 24, password_algorithms=False)
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
