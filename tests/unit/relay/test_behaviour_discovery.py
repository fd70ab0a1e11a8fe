import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.behaviour_discovery import MAX_PADDING_BYTES, Answer, BehaviourDiscovery
from relay.five_tuple import FiveTuple, Transport
from relay.reflection import MAX_FACTOR
from relay.source_guard import SourceGuard
from stun.address import TransportAddress
from stun.attributes import (
    CHANGE_REQUEST,
    ERROR_CODE,
    MAPPED_ADDRESS,
    OTHER_ADDRESS,
    PADDING,
    RESPONSE_ORIGIN,
    RESPONSE_PORT,
    UNKNOWN_ATTRIBUTES,
    XOR_MAPPED_ADDRESS,
    ChangeRequest,
    pack_attribute,
)
from stun.errors import MessageParseError
from stun.message import Message, decode_message, encode_message
from stun.registry import MessageClass, Method
from tests.support.turn_client import Field, pack

TRANSACTION_ID = b"twelve bytes"
NEITHER, PORT = ChangeRequest(ip=False, port=False), ChangeRequest(ip=False, port=True)
IP, BOTH = ChangeRequest(ip=True, port=False), ChangeRequest(ip=True, port=True)


def at(ip: str, port: int) -> TransportAddress:
    return TransportAddress.parse(ip, port)


A1, A2 = at("198.41.0.4", 3478), at("198.41.0.4", 3479)
B1, B2 = at("198.41.0.5", 3478), at("198.41.0.5", 3479)
V6 = [at(f"2a02:8109::{number}", port) for number in (4, 5) for port in (3478, 3479)]
ALTERNATES = {A1: B2, B2: A1, A2: B1, B1: A2, V6[0]: V6[3], V6[3]: V6[0], V6[1]: V6[2], V6[2]: V6[1]}
CLIENT = at("91.198.174.192", 40_000)
CLIENT_V6 = at("2001:470::1", 40_000)


def discovery(advertised: dict[bytes, bytes] | None = None) -> BehaviourDiscovery:
    return BehaviourDiscovery(ALTERNATES, SourceGuard(b"a salt of ours"), advertised)


def request(*fields: Field, raw: bytes = b"", fingerprint: bool = False) -> Message:
    attributes = [*pack(TRANSACTION_ID, *fields), raw]
    data = encode_message(Method.BINDING, MessageClass.REQUEST, TRANSACTION_ID, attributes, fingerprint=fingerprint)
    return decode_message(data)


def path(
    server: TransportAddress = A1, client: TransportAddress = CLIENT, transport: Transport = Transport.UDP
) -> FiveTuple:
    return FiveTuple(transport, server, client)


def answer(asked: Message, where: FiveTuple | None = None, server: BehaviourDiscovery | None = None) -> Answer:
    answered = (server or discovery()).answer(asked, where or path(), 0.0)
    assert answered is not None, "no answer"
    return answered


def code(answered: Answer) -> int:
    error = decode_message(answered.data).get(ERROR_CODE)
    return 0 if error is None else error.code


PADDED = (PADDING, bytes(100))


def test_a_bare_request_learns_its_address_and_both_of_the_server_s() -> None:
    answered = answer(request())
    response = decode_message(answered.data)
    assert (answered.source, answered.destination) == (A1, CLIENT)
    assert response.get(XOR_MAPPED_ADDRESS) == CLIENT
    assert response.get(RESPONSE_ORIGIN) == A1
    assert response.get(OTHER_ADDRESS) == B2
    assert response.get(MAPPED_ADDRESS) is None, "it does not fit into three times twenty bytes"


def test_a_longer_request_gets_mapped_address_too() -> None:
    assert decode_message(answer(request((CHANGE_REQUEST, NEITHER))).data).get(MAPPED_ADDRESS) == CLIENT


@pytest.mark.parametrize(
    ("server", "change", "source"),
    [
        (A1, NEITHER, A1),
        (A1, PORT, A2),
        (A1, IP, B1),
        (A1, BOTH, B2),
        (A2, NEITHER, A2),
        (A2, PORT, A1),
        (A2, IP, B2),
        (A2, BOTH, B1),
        (B2, BOTH, A1),
    ],
)
def test_change_request_chooses_the_source_by_table_1(
    server: TransportAddress, change: ChangeRequest, source: TransportAddress
) -> None:
    answered = answer(request((CHANGE_REQUEST, change)), path(server))
    response = decode_message(answered.data)
    assert (answered.source, answered.destination) == (source, CLIENT)
    assert response.get(RESPONSE_ORIGIN) == source
    assert response.get(OTHER_ADDRESS) == ALTERNATES[server], "it does not depend on CHANGE-REQUEST"


def test_the_addresses_told_are_those_outside_of_a_one_to_one_nat() -> None:
    inside, outside = at("198.41.0.4", 0).ip, at("62.4.9.8", 0).ip
    answered = answer(request(), path(B2), discovery(advertised={inside: outside}))
    assert answered.source == B2
    assert decode_message(answered.data).get(OTHER_ADDRESS) == TransportAddress(outside, 3478)


@pytest.mark.parametrize(
    "where",
    [
        path(at("198.41.0.6", 3478)),
        path(transport=Transport.TCP),
        path(transport=Transport.TLS),
        path(transport=Transport.DTLS),
    ],
    ids=["no second address", "tcp", "tls", "dtls"],
)
def test_without_an_alternate_other_address_is_not_told_and_change_request_not_understood(where: FiveTuple) -> None:
    assert decode_message(answer(request(raw=bytes.fromhex("80ff000400000000")), where).data).get(OTHER_ADDRESS) is None
    refused = answer(request((CHANGE_REQUEST, NEITHER)), where)
    assert code(refused) == 420
    assert decode_message(refused.data).get(UNKNOWN_ATTRIBUTES) == (CHANGE_REQUEST.type,)
    assert (refused.source, refused.destination) == (where.server, where.client)


def test_an_unknown_attribute_is_refused() -> None:
    refused = answer(request((CHANGE_REQUEST, BOTH), raw=bytes.fromhex("7ffe0000")))
    assert code(refused) == 420
    assert refused.source == A1, "a refusal is not steered"


def test_response_port_chooses_the_port_and_nothing_else() -> None:
    answered = answer(request((RESPONSE_PORT, 41_000)))
    assert (answered.source, answered.destination) == (A1, CLIENT._replace(port=41_000))
    assert decode_message(answered.data).get(XOR_MAPPED_ADDRESS) == CLIENT


@pytest.mark.parametrize("port", [0, 53, 1023])
def test_response_port_below_1024_is_refused(port: int) -> None:
    refused = answer(request((RESPONSE_PORT, port)))
    assert code(refused) == 400
    assert refused.destination == CLIENT


def test_response_port_does_not_go_with_padding() -> None:
    refused = answer(request((RESPONSE_PORT, 41_000), PADDED))
    assert code(refused) == 400
    assert (refused.source, refused.destination) == (A1, CLIENT)


@pytest.mark.parametrize(("change", "source"), [(IP, B1), (PORT, A2), (BOTH, B2)])
def test_response_port_goes_with_change_request(change: ChangeRequest, source: TransportAddress) -> None:
    answered = answer(request((RESPONSE_PORT, 41_000), (CHANGE_REQUEST, change)))
    assert (answered.source, answered.destination) == (source, CLIENT._replace(port=41_000))


@pytest.mark.parametrize("transport", [Transport.TCP, Transport.TLS, Transport.DTLS])
@pytest.mark.parametrize("field", [(RESPONSE_PORT, 41_000), PADDED], ids=["RESPONSE-PORT", "PADDING"])
def test_streams_and_dtls_are_neither_steered_nor_padded(transport: Transport, field: Field) -> None:
    refused = answer(request(field), path(transport=transport))
    assert code(refused) == 400
    assert refused.destination == CLIENT


def test_a_request_as_large_as_the_mtu_gets_a_response_as_large() -> None:
    padding = decode_message(answer(request((PADDING, bytes(1_500)))).data).get(PADDING)
    assert padding is not None
    assert len(padding) == MAX_PADDING_BYTES


@pytest.mark.parametrize("fingerprint", [False, True])
def test_a_small_padding_is_answered_within_the_budget(*, fingerprint: bool) -> None:
    asked = request((PADDING, bytes(40)), fingerprint=fingerprint)
    data = answer(asked).data
    assert len(asked.raw) * MAX_FACTOR - 3 <= len(data) <= len(asked.raw) * MAX_FACTOR


def test_padding_goes_with_change_request() -> None:
    answered = answer(request((CHANGE_REQUEST, BOTH), PADDED))
    assert answered.source == B2
    assert decode_message(answered.data).get(PADDING) is not None


def test_a_fingerprint_is_mirrored() -> None:
    assert decode_message(answer(request(fingerprint=True)).data).has_fingerprint
    assert not decode_message(answer(request()).data).has_fingerprint


@pytest.mark.parametrize("steering", [(CHANGE_REQUEST, BOTH), (RESPONSE_PORT, 41_000), PADDED], ids=str)
def test_steered_answers_have_a_rate_and_plain_ones_do_not_use_it(steering: Field) -> None:
    server = BehaviourDiscovery(ALTERNATES, SourceGuard(b"a salt of ours", per_second=1, burst=2))
    for _ in range(10):
        assert server.answer(request((CHANGE_REQUEST, NEITHER)), path(), 0.0) is not None
    given_answers = [server.answer(request(steering), path(), 0.0) for _ in range(3)]
    assert [each is not None for each in given_answers] == [True, True, False]
    assert server.answer(request(steering), path(), 1.0) is not None


@pytest.mark.parametrize(
    "raw", ["0003000200000000", "00270001a0000000", "00030000"], ids=["short flags", "short port", "no flags"]
)
def test_a_malformed_attribute_is_a_bad_request(raw: str) -> None:
    assert code(answer(request(raw=bytes.fromhex(raw)))) == 400


@pytest.mark.parametrize(
    "alternates",
    [
        {A1: B2, B2: A1},
        {A1: A2, A2: A1},
        {A1: B1, B1: A1},
        {A1: A1},
        {A1: B2, A2: B1},
        {A1: V6[3], V6[3]: A1},
    ],
    ids=["two corners", "one address", "one port", "itself", "one way", "two families"],
)
def test_anything_but_two_addresses_with_two_ports_is_refused(
    alternates: dict[TransportAddress, TransportAddress],
) -> None:
    with pytest.raises(ValueError, match="corners"):
        BehaviourDiscovery(alternates, SourceGuard(b"a salt of ours"))


@given(
    attributes=st.lists(
        st.tuples(
            st.sampled_from([0x0003, 0x0026, 0x0027, 0x802B, 0x802C, 0x7FFE]),
            st.binary(max_size=8) | st.binary(min_size=1_400, max_size=1_600),
        ),
        max_size=4,
    ),
    where=st.builds(
        FiveTuple,
        st.sampled_from(Transport),
        st.sampled_from([A1, B2, V6[0], at("198.41.0.6", 3478)]),
        st.just(CLIENT) | st.just(CLIENT_V6),
    ),
    fingerprint=st.booleans(),
)
def test_whatever_is_asked_the_answer_goes_home_and_stays_small(
    attributes: list[tuple[int, bytes]], where: FiveTuple, *, fingerprint: bool
) -> None:
    if len(where.server.ip) != len(where.client.ip):
        where = where._replace(server=V6[0] if len(where.client.ip) == 16 else A1)
    raw = b"".join(pack_attribute(number, value) for number, value in attributes)
    asked = request(raw=raw, fingerprint=fingerprint)
    answered = answer(asked, where)
    assert answered.destination.ip == where.client.ip
    assert answered.destination.port == where.client.port or answered.destination.port >= 1024
    assert answered.source == where.server or answered.source in ALTERNATES
    assert answered.source.family == where.server.family
    assert len(answered.data) <= MAX_FACTOR * len(asked.raw)
    response = decode_message(answered.data)
    assert response.transaction_id == TRANSACTION_ID
    if code(answered):
        assert (answered.source, answered.destination) == (where.server, where.client)
    with contextlib.suppress(MessageParseError):
        if asked.get(RESPONSE_PORT) is not None and asked.get(PADDING) is not None:
            assert code(answered) in {400, 420}
