import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from check.conversation import FILLER, Answer, Conversation, PeerData
from stun.address import IPV4, IPV6, TransportAddress
from stun.attributes import (
    DATA,
    ERROR_CODE,
    LIFETIME,
    NONCE,
    REALM,
    REQUESTED_ADDRESS_FAMILY,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
    error_value,
)
from stun.credentials import Credential, long_term_key
from stun.errors import IntegrityError, MessageParseError
from stun.integrity import IntegrityKey
from stun.message import decode_message, encode_message
from stun.registry import ErrorCode, MessageClass, Method

ID = bytes(range(12))
CREDENTIAL = Credential("alice", "secret")
KEY = IntegrityKey(long_term_key("alice", "example.org", "secret"))
CLIENT = TransportAddress.parse("192.0.2.5", 4000)
RELAYED = TransportAddress.parse("203.0.113.7", 50000)


def challenge(code: ErrorCode = ErrorCode.UNAUTHENTICATED, nonce: str = "nonce", realm: str = "example.org") -> bytes:
    attributes = [ERROR_CODE.pack(error_value(code, with_reason=False)), REALM.pack(realm), NONCE.pack(nonce)]
    return encode_message(Method.ALLOCATE, MessageClass.ERROR, ID, attributes)


def success(key: IntegrityKey | None = KEY) -> bytes:
    attributes = [XOR_RELAYED_ADDRESS.pack(RELAYED, ID), XOR_MAPPED_ADDRESS.pack(CLIENT, ID)]
    return encode_message(Method.ALLOCATE, MessageClass.SUCCESS, ID, attributes, key=key)


@pytest.fixture
def challenged() -> Conversation:
    conversation = Conversation(CREDENTIAL)
    assert conversation.read(challenge()) == Answer(ID, 401, None, None)
    return conversation


def test_the_first_allocate_carries_no_credentials() -> None:
    request = decode_message(Conversation(CREDENTIAL).allocate(ID, IPV4))
    assert request.integrity is None and request.get(USERNAME) is None


def test_after_a_challenge_requests_are_signed(challenged: Conversation) -> None:
    request = decode_message(challenged.allocate(ID, IPV6))
    request.verify(KEY)
    assert (request.get(USERNAME), request.get(NONCE)) == ("alice", "nonce")
    assert request.get(REQUESTED_ADDRESS_FAMILY) == IPV6


def test_a_stale_nonce_is_replaced(challenged: Conversation) -> None:
    challenged.read(challenge(ErrorCode.STALE_NONCE, "fresh"))
    assert decode_message(challenged.refresh(ID)).get(NONCE) == "fresh"


def test_without_credentials_a_challenge_is_an_answer_and_nothing_is_signed() -> None:
    conversation = Conversation()
    assert conversation.read(challenge()) == Answer(ID, 401, None, None)
    assert not conversation.is_challenged
    assert decode_message(conversation.allocate(ID, IPV4)).integrity is None


def test_an_allocation_tells_the_relayed_address(challenged: Conversation) -> None:
    assert challenged.read(success()) == Answer(ID, 0, CLIENT, RELAYED)


def test_an_allocation_that_nobody_signed_is_refused(challenged: Conversation) -> None:
    with pytest.raises(IntegrityError):
        challenged.read(success(key=None))


def test_an_allocation_that_somebody_else_signed_is_refused(challenged: Conversation) -> None:
    with pytest.raises(IntegrityError):
        challenged.read(success(key=IntegrityKey(b"another key")))


def test_data_of_a_peer_comes_out(challenged: Conversation) -> None:
    attributes = [XOR_PEER_ADDRESS.pack(CLIENT, ID), DATA.pack(b"hello")]
    data = encode_message(Method.DATA, MessageClass.INDICATION, ID, attributes)
    assert challenged.read(data) == PeerData(CLIENT, b"hello")


def test_data_without_a_peer_is_nothing(challenged: Conversation) -> None:
    data = encode_message(Method.DATA, MessageClass.INDICATION, ID, [DATA.pack(b"hello")])
    assert challenged.read(data) is None


def test_a_permission_a_refresh_and_an_indication_say_what_they_are_for(challenged: Conversation) -> None:
    assert decode_message(challenged.create_permission(ID, CLIENT)).get(XOR_PEER_ADDRESS) == CLIENT
    assert decode_message(challenged.refresh(ID, 0)).get(LIFETIME) == 0
    assert decode_message(challenged.refresh(ID)).get(LIFETIME) is None
    indication = decode_message(challenged.send(ID, CLIENT, b"hello"))
    assert (indication.get(XOR_PEER_ADDRESS), indication.get(DATA)) == (CLIENT, b"hello")


@pytest.mark.parametrize("size", [20, 24, 28, 548, 1472])
def test_a_binding_request_has_the_size_wished_for(size: int) -> None:
    request = Conversation().binding(ID, size)
    assert len(request) == size
    assert set(decode_message(request).values) <= {FILLER}


@given(st.binary(max_size=120))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(MessageParseError, IntegrityError):
        Conversation(CREDENTIAL).read(data)


@given(st.sampled_from([challenge(), success()]), st.integers(0, 200), st.binary(min_size=1, max_size=4))
def test_any_damage_is_read_or_refused(message: bytes, at: int, damage: bytes) -> None:
    conversation = Conversation(CREDENTIAL)
    conversation.read(challenge())
    with contextlib.suppress(MessageParseError, IntegrityError):
        conversation.read(message[:at] + damage + message[at + len(damage) :])
