import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.conference_media import ConnectionState, Side, Source
from signaling.conference_messages import (
    MAX_PIXELS,
    MAX_SDP_CHARACTERS,
    MAX_SOURCES,
    MAX_WISHES,
    Admit,
    Admitted,
    Lock,
    Locked,
    LoudestSpeakers,
    Publish,
    PublishAnswer,
    Remove,
    Restart,
    SideState,
    Subscribed,
    SubscribeOffer,
    Track,
    TrackWish,
    UnwantedLayers,
    Want,
)
from signaling.messages import (
    MAX_MESSAGE_BYTES,
    MessageError,
    MessageFault,
    ServerMessage,
    encode_server_message,
    parse_client_message,
)

SDP = "v=0\r\no=- 1 2 IN IP4 0.0.0.0\r\n"
WISH: dict[str, Any] = {
    "pid": "p1",
    "source": "camera",
    "visible": True,
    "width": 640,
    "height": 360,
    "pinned": False,
}


@pytest.mark.parametrize(
    ("message", "read"),
    [
        ({"type": "admit", "peer": "p1", "ok": False}, Admit(peer="p1", ok=False)),
        ({"type": "remove", "peer": "p1"}, Remove(peer="p1")),
        ({"type": "lock", "locked": True}, Lock(locked=True)),
        (
            {"type": "publish", "sdp": SDP, "sources": {"0": "microphone", "a-1": "screen"}},
            Publish(sdp=SDP, sources={"0": Source.MICROPHONE, "a-1": Source.SCREEN}),
        ),
        (
            {"type": "publish", "sdp": SDP, "version": 5, "sources": {"0": "camera"}},
            Publish(sdp=SDP, version=5, sources={"0": Source.CAMERA}),
        ),
        ({"type": "subscribed", "sdp": SDP, "version": 7}, Subscribed(sdp=SDP, version=7)),
        (
            {"type": "want", "tracks": [WISH]},
            Want(
                tracks=(TrackWish(pid="p1", source=Source.CAMERA, visible=True, width=640, height=360, pinned=False),)
            ),
        ),
        ({"type": "want", "tracks": []}, Want(tracks=())),
        ({"type": "restart", "side": "subscribe"}, Restart(side="subscribe")),
    ],
)
def test_every_message_of_a_conference_is_read(message: dict[str, Any], read: object) -> None:
    assert parse_client_message(json.dumps(message)) == read


@pytest.mark.parametrize(
    "message",
    [
        {"type": "admit", "peer": "p1"},
        {"type": "admit", "peer": "p1", "ok": 1},
        {"type": "admit", "peer": "p 1", "ok": True},
        {"type": "remove", "peer": ""},
        {"type": "remove", "peer": "p" * 65},
        {"type": "lock", "locked": "yes"},
        {"type": "lock"},
        {"type": "publish", "sdp": SDP, "sources": {}},
        {"type": "publish", "sdp": SDP, "version": -1, "sources": {"0": "camera"}},
        {"type": "publish", "sdp": SDP, "version": 2**31, "sources": {"0": "camera"}},
        {"type": "publish", "sdp": "", "sources": {"0": "camera"}},
        {"type": "publish", "sdp": "v=0\0", "sources": {"0": "camera"}},
        {"type": "publish", "sdp": "v=ä", "sources": {"0": "camera"}},
        {"type": "publish", "sdp": SDP, "sources": {"0": "keyboard"}},
        {"type": "publish", "sdp": SDP, "sources": {"": "camera"}},
        {"type": "publish", "sdp": SDP, "sources": {"m" * 17: "camera"}},
        {"type": "publish", "sdp": SDP, "sources": {"a b": "camera"}},
        {"type": "publish", "sdp": SDP, "sources": ["camera"]},
        {"type": "publish", "sdp": SDP, "sources": {str(mid): "camera" for mid in range(MAX_SOURCES + 1)}},
        {"type": "publish", "sdp": "x" * (MAX_SDP_CHARACTERS + 1), "sources": {"0": "camera"}},
        {"type": "subscribed", "sdp": SDP},
        {"type": "subscribed", "sdp": SDP, "version": -1},
        {"type": "subscribed", "sdp": SDP, "version": 2**31},
        {"type": "subscribed", "sdp": SDP, "version": 1.0},
        {"type": "subscribed", "sdp": "x" * (MAX_SDP_CHARACTERS + 1), "version": 1},
        {"type": "want", "tracks": [WISH] * (MAX_WISHES + 1)},
        {"type": "want", "tracks": [{**WISH, "width": -1}]},
        {"type": "want", "tracks": [{**WISH, "height": MAX_PIXELS + 1}]},
        {"type": "want", "tracks": [{**WISH, "width": 1.5}]},
        {"type": "want", "tracks": [{**WISH, "quality": "best"}]},
        {"type": "want", "tracks": [{key: value for key, value in WISH.items() if key != "pinned"}]},
        {"type": "restart", "side": "publish"},
        {"type": "restart"},
        {"type": "published", "sdp": SDP},
        {"type": "admitted"},
    ],
)
def test_anything_else_is_malformed(message: dict[str, Any]) -> None:
    with pytest.raises(MessageError) as caught:
        parse_client_message(json.dumps(message, ensure_ascii=False))
    assert caught.value.fault is MessageFault.MALFORMED


@pytest.mark.parametrize(
    "message",
    [
        {"type": "publish", "sources": {"m" * 14 + f"{mid:02d}": "microphone" for mid in range(MAX_SOURCES)}},
        {"type": "subscribed", "version": 2**31 - 1},
    ],
)
def test_the_longest_description_fits_a_message(message: dict[str, Any]) -> None:
    line = "a=" + "x" * 60 + "\r\n"  # lines of descriptions are longer than this on average
    sdp = (line * (MAX_SDP_CHARACTERS // len(line))).ljust(MAX_SDP_CHARACTERS, "x")
    text = json.dumps({**message, "sdp": sdp})
    assert len(text) < MAX_MESSAGE_BYTES
    parse_client_message(text)


def test_the_longest_list_of_wishes_fits_a_message() -> None:
    wish = {**WISH, "pid": "p" * 64, "source": "microphone", "width": MAX_PIXELS, "height": MAX_PIXELS}
    text = json.dumps({"type": "want", "tracks": [wish] * MAX_WISHES})
    assert len(text) < MAX_MESSAGE_BYTES
    parse_client_message(text)


@given(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["admit", "remove", "lock", "publish", "subscribed", "want", "restart"])},
        optional={
            key: st.recursive(
                st.none() | st.booleans() | st.integers() | st.text(max_size=8),
                lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
                max_leaves=6,
            )
            for key in ("peer", "ok", "locked", "sdp", "sources", "version", "tracks", "side")
        },
    )
)
def test_whatever_a_message_holds_it_is_read_as_it_was_written_or_refused(message: dict[str, Any]) -> None:
    with contextlib.suppress(MessageError):
        read = parse_client_message(json.dumps(message))
        assert json.loads(read.model_dump_json(exclude_unset=True)) == message


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (Admitted(), {"type": "admitted"}),
        (Locked(locked=False), {"type": "locked", "locked": False}),
        (PublishAnswer(sdp=SDP, version=3), {"type": "published", "sdp": SDP, "version": 3}),
        (
            SubscribeOffer(sdp=SDP, version=3, tracks={"0": Track(pid="p1", source=Source.SCREEN)}),
            {"type": "subscribe", "sdp": SDP, "version": 3, "tracks": {"0": {"pid": "p1", "source": "screen"}}},
        ),
        (LoudestSpeakers(pids=("a", "b")), {"type": "speakers", "pids": ["a", "b"]}),
        (UnwantedLayers(unwanted=()), {"type": "layers", "unwanted": []}),
        (
            SideState(side=Side.PUBLISH, state=ConnectionState.FAILED, reason="sdp"),
            {"type": "media", "side": "publish", "state": "failed", "reason": "sdp"},
        ),
        (
            SideState(side=Side.SUBSCRIBE, state=ConnectionState.CONNECTED),
            {"type": "media", "side": "subscribe", "state": "connected"},
        ),
    ],
)
def test_what_the_server_says_is_written_as_the_protocol_says(message: ServerMessage, text: dict[str, Any]) -> None:
    assert json.loads(encode_server_message(message)) == text
