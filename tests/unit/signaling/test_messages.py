import json
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from signaling.appointments import Role, Tier
from signaling.ice_servers import IceServer, RelayPorts, list_ice_servers
from signaling.messages import (
    MAX_BLOB_CHARACTERS,
    MAX_MESSAGE_BYTES,
    Drain,
    Error,
    ErrorCode,
    Ice,
    Join,
    Joined,
    Leave,
    MessageError,
    MessageFault,
    Paired,
    Peer,
    RelayFromPeer,
    RelayToPeer,
    ServerMessage,
    encode_server_message,
    parse_client_message,
)


class OneIssuer:
    def issue(self, now_unix: int, subject: bytes) -> tuple[str, str]:
        del subject
        return f"{now_unix}:x", "password"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type":"join","loc":"0A1B2C"}', Join(loc="0A1B2C")),
        ('{"type":"join","loc":"0A1B2C","resume":null}', Join(loc="0A1B2C")),
        ('{"type":"join","loc":"0A1B2C","resume":"a-b_9"}', Join(loc="0A1B2C", resume="a-b_9")),
        ('{"type":"relay","to":"x","blob":"AB+/=_-."}', RelayToPeer(to="x", blob="AB+/=_-.")),
        ('{"type":"paired","peer":"x","ok":false}', Paired(peer="x", ok=False)),
        (' {"type" : "leave"} ', Leave()),
    ],
)
def test_every_client_message_is_read(text: str, message: object) -> None:
    assert parse_client_message(text) == message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        '"join"',
        '{"type":"join"}',
        '{"type":"JOIN","loc":"000000"}',
        '{"type":"joined"}',
        '{"type":"join","loc":"00000"}',
        '{"type":"join","loc":"0000000"}',
        '{"type":"join","loc":"00000U"}',
        '{"type":"join","loc":"00000a"}',
        '{"type":"join","loc":"00000O"}',
        '{"type":"join","loc":"000000\\n"}',
        '{"type":"join","loc":0}',
        '{"type":"join","loc":"000000","resume":""}',
        '{"type":"join","loc":"000000","extra":1}',
        '{"type":"relay","to":"","blob":"x"}',
        '{"type":"relay","to":"x","blob":""}',
        '{"type":"relay","to":"x","blob":"a b"}',
        '{"type":"relay","to":"x","blob":"\\u00e4"}',
        '{"type":"paired","peer":"x","ok":"true"}',
        '{"type":"paired","peer":"x","ok":1}',
        '{"type":"leave"',
        '{"type":"leave"}{}',
        "\ud800",
        '{"type":"\\ud800"}',
        "[" * 60_000,
        "1" * 60_000,
    ],
)
def test_anything_else_is_malformed(text: str) -> None:
    with pytest.raises(MessageError) as caught:
        parse_client_message(text)
    assert caught.value.fault is MessageFault.MALFORMED


def test_ids_are_bounded() -> None:
    with pytest.raises(MessageError):
        parse_client_message(json.dumps({"type": "relay", "to": "x" * 65, "blob": "x"}))


def test_the_longest_blob_fits_a_message_in_both_directions() -> None:
    blob = "x" * MAX_BLOB_CHARACTERS
    text = json.dumps({"type": "relay", "to": "p" * 64, "blob": blob})
    assert len(text) <= MAX_MESSAGE_BYTES
    assert parse_client_message(text) == RelayToPeer(to="p" * 64, blob=blob)
    assert len(encode_server_message(RelayFromPeer(sender="p" * 64, blob=blob))) <= MAX_MESSAGE_BYTES


@pytest.mark.parametrize("padding", [" " * MAX_MESSAGE_BYTES, "\u20ac" * (MAX_MESSAGE_BYTES // 3)])
def test_a_message_is_at_most_64_kib(padding: str) -> None:
    with pytest.raises(MessageError) as caught:
        parse_client_message('{"type":"leave"}' + padding)
    assert caught.value.fault is MessageFault.TOO_LONG


def test_the_error_does_not_repeat_the_message() -> None:
    with pytest.raises(MessageError) as caught:
        parse_client_message('{"type":"join","loc":"geheim","Maria":1}')
    assert "geheim" not in str(caught.value)
    assert "Maria" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_joined_is_written_as_the_protocol_says() -> None:
    ice = list_ice_servers("example.org", RelayPorts(udp=(3478,)), OneIssuer(), 7, b"subject")
    joined = Joined(
        room="r",
        pid="p",
        role=Role.ORGANISER,
        tier=Tier.PLUS,
        features=("screen",),
        start=datetime(2026, 11, 22, 9, 0, tzinfo=UTC),
        end=datetime(2026, 11, 23, 9, 0, tzinfo=UTC),
        resume="t",
        ice=ice,
    )
    assert json.loads(encode_server_message(joined)) == {
        "type": "joined",
        "room": "r",
        "pid": "p",
        "role": "organiser",
        "tier": "plus",
        "features": ["screen"],
        "start": "2026-11-22T09:00:00Z",
        "end": "2026-11-23T09:00:00Z",
        "resume": "t",
        "ice": [
            {"urls": ["stun:example.org:3478"]},
            {"urls": ["turn:example.org:3478?transport=udp"], "username": "7:x", "credential": "password"},
        ],
    }


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (
            Peer(pid="p", role=Role.PARTICIPANT, present=False),
            '{"type":"peer","pid":"p","role":"participant","present":false}',
        ),
        (
            Peer(pid="p", role=Role.PARTICIPANT, present=True, since=datetime(2026, 11, 22, 8, 58, 1, 9, tzinfo=UTC)),
            '{"type":"peer","pid":"p","role":"participant","present":true,"since":"2026-11-22T08:58:01Z"}',
        ),
        (RelayFromPeer(sender="p", blob="b"), '{"type":"relay","from":"p","blob":"b"}'),
        (Drain(), '{"type":"drain"}'),
        (
            Ice(ice=(IceServer(urls=("turn:a",), username="7:x", credential=SecretStr("password")),)),
            '{"type":"ice","ice":[{"urls":["turn:a"],"username":"7:x","credential":"password"}]}',
        ),
        (Error(code=ErrorCode.OVERLOAD, retry_after=5), '{"type":"error","code":"overload","retry_after":5}'),
        (
            Error(code=ErrorCode.TOO_EARLY, start=datetime(2026, 11, 22, 9, 0, tzinfo=UTC)),
            '{"type":"error","code":"too_early","start":"2026-11-22T09:00:00Z"}',
        ),
    ],
)
def test_server_messages_leave_empty_keys_out(message: ServerMessage, text: str) -> None:
    assert encode_server_message(message) == text
