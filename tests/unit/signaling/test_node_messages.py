import contextlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from signaling.appointments import Appointment, Role, Seat, Tier
from signaling.ice_servers import IceServer
from signaling.messages import MAX_MESSAGE_BYTES
from signaling.node_messages import (
    MAX_STORED_BYTES,
    MAX_STORED_CLAIMS,
    Arrive,
    ClientText,
    Deliver,
    Gone,
    NodeMessage,
    NodeMessageError,
    Shut,
    Stray,
    encode_claims,
    encode_node_message,
    parse_claims,
    parse_node_message,
)
from signaling.room import ClaimRecord

SEAT = Seat(Appointment(bytes(range(240, 256)), Tier.PLUS, datetime(2026, 11, 22, 9, tzinfo=UTC)), Role.PARTICIPANT, 1)
ICE = (
    IceServer(urls=("stun:example.org:3478",)),
    IceServer(urls=("turn:example.org:3478",), username="u", credential=SecretStr("credential")),
)
MESSAGES: list[NodeMessage] = [
    Arrive(7, bytes(range(16)), "token", SEAT, ICE),
    Arrive(7, b"", None, SEAT, ()),
    ClientText(2**64 - 1, '{"type":"leave"}'),
    Deliver(7, "{}", droppable=True),
    Deliver(0, "ä" * (MAX_MESSAGE_BYTES // 2)),
    Gone(1),
    Stray(1),
    Shut(1, 1008),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_arrives_as_it_was_sent(message: NodeMessage) -> None:
    assert parse_node_message(encode_node_message(message)) == message


@pytest.mark.parametrize(
    "data",
    [
        b"",
        encode_node_message(Gone(1))[:-1],
        encode_node_message(Gone(1)) + b"x",
        encode_node_message(Shut(1, 1008))[:-1],
        encode_node_message(Shut(1, 1000))[:-2] + (1234).to_bytes(2),
        encode_node_message(ClientText(1, "")) + b"\xff",
        encode_node_message(Deliver(1, "x" * (MAX_MESSAGE_BYTES + 1))),
        encode_node_message(Arrive(1, bytes(33), None, SEAT, ())),
        encode_node_message(Arrive(1, b"", "no token!", SEAT, ())),
        encode_node_message(Arrive(1, b"", None, SEAT, ICE * 5)),
        encode_node_message(Arrive(1, b"", None, SEAT, ())).replace(b"participant", b"spectator"),
        encode_node_message(Arrive(1, b"", None, SEAT, ())).replace(
            b"2026-11-22T09:00:00Z", b"0001-01-01T00:00:00+01:00"
        ),
        bytes([0]) + bytes(8),
        bytes([8]) + bytes(8),
    ],
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(NodeMessageError):
        parse_node_message(data)


@given(st.integers(0, 7), st.binary(max_size=64))
def test_a_parser_raises_nothing_but_its_own_error(kind: int, rest: bytes) -> None:
    with contextlib.suppress(NodeMessageError):
        parse_node_message(bytes([kind]) + rest)
    with contextlib.suppress(NodeMessageError):
        parse_claims(rest)


def claim(number: int) -> ClaimRecord:
    since = datetime(2026, 11, 22, 9, 1, 2, 345_678, tzinfo=UTC) if number % 2 else None
    return ClaimRecord(f"pid{number}", Role.ORGANISER, bytes(16), f"token{number}", bool(number % 2), since)


def test_claims_are_read_as_they_were_written_and_no_more_than_a_room_can_have() -> None:
    claims = tuple(map(claim, range(MAX_STORED_CLAIMS)))
    assert parse_claims(encode_claims(claims)) == claims
    assert len(encode_claims(claims)) < MAX_STORED_BYTES
    for data in (encode_claims((*claims, claim(99))), encode_claims(claims).ljust(MAX_STORED_BYTES + 1), b"{}", b""):
        with pytest.raises(NodeMessageError):
            parse_claims(data)


def test_an_error_does_not_repeat_what_was_said() -> None:
    data = encode_node_message(Arrive(1, b"", "geheim!", SEAT, ()))
    with pytest.raises(NodeMessageError) as caught:
        parse_node_message(data)
    assert "geheim" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_wait_is_read_in_utc_and_need_not_be_there() -> None:
    stored = '[{"pid":"p","role":"participant","address":"","token":"t","confirmed":false%s}]'
    (aware,) = parse_claims((stored % ',"since":"2026-11-22T10:00:00+01:00"').encode())
    assert aware.waiting_since == datetime(2026, 11, 22, 9, tzinfo=UTC)
    assert aware.waiting_since.tzinfo is UTC
    (older,) = parse_claims((stored % "").encode())
    assert older.waiting_since is None
    for wrong in ("2026-11-22T10:00:00", "yesterday", "9999-99-99T00:00:00Z", "0001-01-01T00:00:00+01:00"):
        with pytest.raises(NodeMessageError):
            parse_claims((stored % f',"since":"{wrong}"').encode())
