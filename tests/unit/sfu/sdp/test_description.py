import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfu.sdp import description as grammar
from sfu.sdp.description import Attribute, SdpError, Section, SessionDescription, parse_description
from tests.support.sdp import every_captured

HEAD = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"

tokens = st.text("abcXYZ019-.+_", min_size=1, max_size=12)
values = st.text(st.characters(codec="utf-8", min_codepoint=32, exclude_characters="\x7f"), max_size=40)
attribute_lists = st.lists(st.builds(Attribute, tokens, values), max_size=6).map(tuple)
descriptions = st.builds(
    SessionDescription,
    st.integers(0, grammar.MAX_NUMBER),
    st.integers(0, grammar.MAX_NUMBER),
    attribute_lists,
    st.lists(
        st.builds(
            Section,
            tokens,
            st.integers(0, 0xFFFF),
            st.lists(tokens, min_size=1, max_size=4).map("/".join),
            st.lists(tokens, min_size=1, max_size=5).map(tuple),
            attribute_lists,
        ),
        max_size=4,
    ).map(tuple),
)


@given(descriptions)
def test_what_is_written_is_read_back_as_it_was(description: SessionDescription) -> None:
    assert parse_description(description.encode()) == description


@pytest.mark.parametrize("text", every_captured().values(), ids=every_captured())
def test_a_description_of_a_browser_survives_reading_and_writing(text: str) -> None:
    description = parse_description(text)
    assert parse_description(description.encode()) == description
    assert sum(line.startswith("a=") for line in text.split("\r\n")) == len(description.attributes) + sum(
        len(section.attributes) for section in description.sections
    )


def test_lines_may_end_in_a_mere_line_feed() -> None:
    text = HEAD + "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n"
    assert parse_description(text.replace("\r\n", "\n")) == parse_description(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "v=1\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n",
        "v=0\r\ns=-\r\no=- 1 2 IN IP4 127.0.0.1\r\nt=0 0\r\n",
        "v=0\r\no=- x 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n",
        f"v=0\r\no=- {1 << 64} 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n",
        "v=0\r\no=- ٣ 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n",
        HEAD + "nonsense\r\n",
        HEAD + "x=unknown type\r\n",
        HEAD + "\r\n",
        HEAD + "a=a\x00b\r\n",
        HEAD + "a=a:b\rc\r\n",
        HEAD + "a=:value without a name\r\n",
        HEAD + "m=audio\r\n",
        HEAD + "m=audio 65536 RTP/AVP 0\r\n",
        HEAD + "m=audio 9 RTP/AVP\r\n",
    ],
)
def test_what_breaks_the_grammar_is_refused(text: str) -> None:
    with pytest.raises(SdpError):
        parse_description(text)


@pytest.mark.parametrize(
    ("below", "above", "reason"),
    [
        (
            HEAD + ("a=" + "x" * 1000 + "\r\n") * 65,
            HEAD + ("a=" + "x" * 1000 + "\r\n") * 66,
            "65536 bytes",
        ),
        (HEAD + "a=x:" + "ä" * 1020, HEAD + "a=x:" + "ä" * 1021, "1024 characters"),
        (HEAD + "b=0\r\n" * 4092, HEAD + "b=0\r\n" * 4093, "4096 lines"),
        (HEAD + "m=a 0 b c\r\n" * 64, HEAD + "m=a 0 b c\r\n" * 65, "64 m-lines"),
        (HEAD + "a=x\r\n" * 512, HEAD + "a=x\r\n" * 513, "512 attributes"),
        (HEAD + "m=a 0 b c\r\n" + "a=x\r\n" * 512, HEAD + "m=a 0 b c\r\n" + "a=x\r\n" * 513, "512 attributes"),
        (HEAD + "m=a 0 b" + " 1" * 64, HEAD + "m=a 0 b" + " 1" * 65, "64 formats"),
    ],
)
def test_every_bound_holds_exactly(below: str, above: str, reason: str) -> None:
    parse_description(below)
    with pytest.raises(SdpError, match=reason):
        parse_description(above)


def test_a_bound_of_bytes_counts_bytes_and_not_characters() -> None:
    with pytest.raises(SdpError, match="bytes"):
        parse_description(HEAD + ("a=x:" + "ä" * 1000 + "\r\n") * 40)
