import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.channel import ChannelError
from config.sfu_messages import MAX_OFFERS, MAX_OWN_SDP_BYTES, decode_command, decode_said, encode_command, encode_said
from signaling.conference_media import (
    Answer,
    ConnectionState,
    Enter,
    Layers,
    Leave,
    Look,
    MediaCommand,
    MediaMessage,
    MediaState,
    Offer,
    OfferAgain,
    Published,
    Side,
    Source,
    Speakers,
    Subscribe,
    TrackName,
    Wish,
)

ROOM = bytes(range(16))
SDP = "v=0\r\n"
WISH = Wish("ben", Source.SCREEN, visible=True, width=640, height=360, pinned=False)
COMMANDS: list[MediaCommand] = [
    Enter(ROOM, "ada"),
    Leave(ROOM, "ada"),
    Offer(ROOM, "ada", SDP, 9, {"0": Source.MICROPHONE, "1": Source.CAMERA}),
    Answer(ROOM, "ada", SDP, 7),
    Look(ROOM, "ada", (WISH,)),
    Look(ROOM, "ada", ()),
    OfferAgain(ROOM, "ada"),
]
SAID: list[MediaMessage] = [
    Published(SDP, 9),
    Subscribe(SDP, 3, {"1": TrackName("ben", Source.CAMERA)}),
    Speakers(("ada", "ben")),
    Layers(("f",)),
    MediaState(Side.SUBSCRIBE, ConnectionState.FAILED, "dtls_timeout"),
    MediaState(Side.PUBLISH, ConnectionState.CONNECTED),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)


def over_the_wire(values: object) -> Any:  # noqa: ANN401
    return json.loads(json.dumps(values))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda each: type(each).__name__)
def test_a_command_is_the_same_at_the_other_end(command: MediaCommand) -> None:
    assert decode_command(over_the_wire(encode_command(command))) == command


@pytest.mark.parametrize("message", SAID, ids=lambda each: type(each).__name__)
def test_what_is_said_is_the_same_at_the_other_end(message: MediaMessage) -> None:
    assert decode_said(over_the_wire(encode_said(ROOM, "ada", message))) == (ROOM, "ada", message)


@pytest.mark.parametrize(
    "changes",
    [
        {"room": "00"},
        {"room": "z" * 32},
        {"room": 5},
        {"pid": "a b"},
        {"pid": "a" * 65},
        {"kind": "leave"},
        {"kind": "record"},
        {"more": 1},
        {"sdp": "x" * (MAX_OWN_SDP_BYTES + 1)},
        {"version": 0},
        {"version": MAX_OFFERS + 1},
        {"tracks": {"1": ["not a pid", "camera"]}},
        {"tracks": {"1": ["ben", "thoughts"]}},
        {"tracks": {str(mid): ["ben", "camera"] for mid in range(129)}},
    ],
    ids=", ".join,
)
def test_what_breaks_a_bound_is_refused(changes: dict[str, object]) -> None:
    values = over_the_wire(encode_said(ROOM, "ada", SAID[1]))
    with pytest.raises(ChannelError):
        decode_said(values | changes)


def test_a_refusal_does_not_repeat_what_was_said() -> None:
    values = over_the_wire(encode_said(ROOM, "ada", Speakers(("Dr. Beispiel",))))
    with pytest.raises(ChannelError) as caught:
        decode_said(values)
    assert "Beispiel" not in str(caught.value)
    assert "speakers.pids" in str(caught.value)


@given(JSON)
def test_nothing_but_a_channel_error_leaves_the_parsers(values: object) -> None:
    for decode in (decode_command, decode_said):
        with pytest.raises(ChannelError):
            decode(values)
