"""What comes again of an Allocate that is over."""

import pytest

from relay.allocation import holder_of
from relay.events import RequestRefused
from relay.five_tuple import FiveTuple, Transport
from relay.past_allocates import (
    ENDED,
    MAX_REMEMBERED,
    REMEMBERED_SECONDS,
    PastAllocates,
    PastAnswer,
    Transaction,
)
from stun.attributes import MOBILITY_TICKET
from stun.registry import ErrorCode, Method
from tests.support.relay_harness import SERVER, RelayHarness, peer

PATH = FiveTuple(Transport.UDP, SERVER, peer("91.198.174.192"))
ELSEWHERE = FiveTuple(Transport.UDP, SERVER, peer("91.198.174.192", 4001))
ID = b"twelve bytes"
HOLDER = holder_of("redconnect", "alice")
TRANSACTION = Transaction(PATH, ID, HOLDER)
REFUSAL = PastAnswer(b"refused", RequestRefused(Method.ALLOCATE, ErrorCode.INSUFFICIENT_CAPACITY, "ports_exhausted"))


def numbered(number: int) -> Transaction:
    return TRANSACTION._replace(transaction_id=number.to_bytes(12))


@pytest.fixture
def past() -> PastAllocates:
    return PastAllocates()


def test_an_answer_is_known_by_five_tuple_and_transaction_for_forty_seconds(past: PastAllocates) -> None:
    past.remember(TRANSACTION, REFUSAL, 100.0)
    assert past.recall(TRANSACTION, 100.0 + REMEMBERED_SECONDS - 0.1) == REFUSAL
    assert past.recall(TRANSACTION, 100.0 + REMEMBERED_SECONDS) is None
    assert past.recall(TRANSACTION._replace(path=ELSEWHERE), 100.0) is None
    assert past.recall(TRANSACTION._replace(transaction_id=b"another one!"), 100.0) is None


@pytest.mark.parametrize("transport", [Transport.TCP, Transport.TLS])
def test_over_a_stream_nothing_comes_again(past: PastAllocates, transport: Transport) -> None:
    past.remember(TRANSACTION._replace(path=PATH._replace(transport=transport)), REFUSAL, 100.0)
    assert len(past) == 0


def test_the_table_is_bounded_and_the_oldest_goes_first(past: PastAllocates) -> None:
    for number in range(MAX_REMEMBERED + 1):
        past.remember(numbered(number), ENDED, 100.0)
    assert len(past) == MAX_REMEMBERED
    assert past.recall(numbered(0), 100.0) is None
    assert past.recall(numbered(1), 100.0) is ENDED


def test_what_is_too_old_leaves_the_table(past: PastAllocates) -> None:
    for number in range(100):
        past.remember(numbered(number), ENDED, 100.0)
    past.remember(TRANSACTION._replace(path=ELSEWHERE), REFUSAL, 100.0 + REMEMBERED_SECONDS)
    assert len(past) == 1


# In the server


def test_a_refusal_that_comes_again_allocates_nothing_though_there_is_room_now() -> None:
    harness = RelayHarness(port_min=50_000, port_max=50_001, quota={"total_share_percent": 50})
    first, second = harness.client("alice"), harness.client("bob")
    assert first.allocate().code == 0
    refused = second.allocate(transaction_id=ID)
    assert refused.code == 508
    first.refresh(0)
    assert second.send(second.sent) == [refused.raw], "the very same answer"
    assert not second.has_relay
    assert second.allocate().code == 0, "a new attempt is not in its way"


def test_an_allocation_that_was_given_back_does_not_come_back() -> None:
    harness = RelayHarness()
    client = harness.client()
    assert client.allocate(transaction_id=ID).code == 0
    late = client.sent
    assert client.refresh(0).code == 0
    (answer,) = client.send(late)
    client.turn.transaction_id = ID
    assert client.turn.read(answer).code == 437
    assert not client.has_relay
    assert harness.held("alice") == 0
    assert client.allocate().code == 0


def test_the_late_request_of_a_mobile_client_that_has_left_does_not_take_the_place_of_its_allocation() -> None:
    harness = RelayHarness(mobility=True)
    client, elsewhere = harness.client(transport=Transport.DTLS), harness.client()
    ticket = client.allocate((MOBILITY_TICKET, b""), transaction_id=ID).get(MOBILITY_TICKET)
    late = client.sent
    harness.disconnect(client.path)
    (answer,) = client.send(late)
    client.turn.transaction_id = ID
    assert client.turn.read(answer).code == 437
    assert elsewhere.refresh(None, (MOBILITY_TICKET, ticket)).code == 0
    assert harness.held("alice") == 1


def test_a_grant_that_comes_again_is_answered_as_before() -> None:
    harness = RelayHarness()
    client = harness.client()
    granted = client.allocate(transaction_id=ID)
    assert client.send(client.sent) == [granted.raw]
    assert harness.held("alice") == 1


def test_what_another_user_was_refused_on_the_same_five_tuple_is_not_said_to_this_one() -> None:
    harness = RelayHarness()
    alice, bob = harness.client("alice"), harness.client("bob")
    bob.path = alice.path
    granted = alice.allocate(transaction_id=ID)
    alices = alice.sent
    assert bob.allocate(transaction_id=ID).code == 437
    assert alice.send(alices) == [granted.raw]


def test_strangers_leave_nothing_behind() -> None:
    harness = RelayHarness()
    client = harness.client("alice", "a wrong password")
    assert client.allocate().code == 401
    assert len(harness.server._past) == 0
