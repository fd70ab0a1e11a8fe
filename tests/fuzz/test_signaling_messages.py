"""Nothing but its own error leaves the parser of client messages, whatever comes."""

import contextlib
import json

from hypothesis import example, given
from hypothesis import strategies as st

from signaling.messages import Join, Leave, MessageError, Paired, RelayToPeer, parse_client_message

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=8), inner), max_leaves=20)
TYPES = st.sampled_from(["join", "relay", "paired", "leave", "joined", "peer", "error", ""])
KEYS = st.sampled_from(["loc", "resume", "to", "blob", "peer", "ok", "type", "from", "extra"])
ALMOST = st.builds(lambda kind, rest: {"type": kind} | rest, TYPES, st.dictionaries(KEYS, JSON))


@given(st.text(st.characters()))
@example("\ud800")
@example("[" * 100_000)
@example('{"type":"leave","x":' * 5_000)
@example("9" * 50_000)
@example('{"type":"leave"}\x00')
def test_any_text_parses_or_is_refused(text: str) -> None:
    with contextlib.suppress(MessageError):
        assert isinstance(parse_client_message(text), Join | RelayToPeer | Paired | Leave)


@given(ALMOST)
def test_anything_like_a_message_parses_to_itself_or_is_refused(value: dict[str, object]) -> None:
    with contextlib.suppress(MessageError):
        message = parse_client_message(json.dumps(value))
        assert message.model_dump(exclude_unset=True) == value


@given(st.binary())
def test_any_bytes_that_came_as_text_parse_or_are_refused(data: bytes) -> None:
    with contextlib.suppress(MessageError):
        parse_client_message(data.decode(errors="surrogateescape"))
