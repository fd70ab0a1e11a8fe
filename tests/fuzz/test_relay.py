"""The relay's mouths against mutated messages. HYPOTHESIS_PROFILE=fuzz turns it up."""

from hypothesis import given
from hypothesis import strategies as st

from relay.five_tuple import Transport
from relay.io.datapath.indications import find_send, peer_of
from stun.attributes import DATA, XOR_PEER_ADDRESS
from stun.errors import MessageParseError
from stun.message import decode_message, encode_message
from stun.registry import MessageClass, Method
from tests.support.mutations import addresses, messages, mutated
from tests.support.relay_harness import RelayHarness, peer
from tests.support.turn_client import pack

# Send indications of the usual shape.
send_indications: st.SearchStrategy[bytes] = st.builds(
    lambda transaction_id, to, data, fingerprint: encode_message(
        Method.SEND,
        MessageClass.INDICATION,
        transaction_id,
        pack(transaction_id, (XOR_PEER_ADDRESS, to), (DATA, data)),
        fingerprint=fingerprint,
    ),
    st.binary(min_size=12, max_size=12),
    addresses,
    st.binary(max_size=50),
    st.booleans(),
)


def is_request(raw: bytes) -> bool:
    try:
        return decode_message(raw).message_class is MessageClass.REQUEST
    except MessageParseError:
        return False


@given(st.lists(mutated(messages), min_size=1, max_size=3))
def test_a_stranger_gets_little_and_only_for_requests(datagrams: list[bytes]) -> None:
    harness = RelayHarness()
    client = harness.client()
    for raw in datagrams:
        answers = client.send(raw)
        assert len(answers) <= is_request(raw)
        assert sum(map(len, answers)) <= 3.0 * len(raw)
        for answer in answers:
            message = decode_message(answer)
            assert message.message_class in {MessageClass.SUCCESS, MessageClass.ERROR}
            assert message.transaction_id == raw[8:20]
            assert message.integrity is None  # nobody has proved anything
    assert harness.plane.relays == {}
    assert harness.server.allocations == 0
    assert harness.server.poll_timeout() is None


@given(st.lists(mutated(st.one_of(messages, send_indications)), min_size=1, max_size=3))
def test_nothing_unsigned_changes_an_allocation(datagrams: list[bytes]) -> None:
    harness = RelayHarness()
    client = harness.client(transport=Transport.TCP)
    client.allocate()
    client.bind(0x4000, peer("8.8.8.8"))
    before = (client.relay.expires_at, dict(client.relay.peers), dict(client.relay.channels))
    for raw in datagrams:
        client.send(raw)
    assert (client.relay.expires_at, client.relay.peers, client.relay.channels) == before
    assert all(to.ip == peer("8.8.8.8").ip for _, _, to in harness.plane.sent)


@given(st.data())
def test_mutated_requests_of_a_client_leave_a_consistent_server(data: st.DataObject) -> None:
    harness = RelayHarness()
    client = harness.client()
    client.allocate()
    for _ in range(data.draw(st.integers(1, 5))):
        method = data.draw(st.sampled_from([Method.REFRESH, Method.CREATE_PERMISSION, Method.CHANNEL_BIND]))
        fields = data.draw(st.lists(st.tuples(st.just(XOR_PEER_ADDRESS), addresses), max_size=3))
        raw = data.draw(mutated(st.just(client.turn.build(method, *fields))))
        assert len(client.send(raw)) <= is_request(raw)
    assert harness.server.allocations == len(harness.plane.relays) == 1
    assert all(harness.policy.verdict(ip) is None for ip in client.relay.peers)
    harness.close()
    assert harness.plane.relays == {}


@given(mutated(send_indications))
def test_the_quick_reader_never_disagrees_with_the_full_codec(raw: bytes) -> None:
    found = find_send(memoryview(raw + bytes(64)), 0, len(raw))
    if found is None:
        return
    message = decode_message(raw)
    assert (message.method, message.message_class) == (Method.SEND, MessageClass.INDICATION)
    key, start, end = found
    assert message.get(DATA) == raw[start:end]
    assert message.get(XOR_PEER_ADDRESS) == peer_of(key)
