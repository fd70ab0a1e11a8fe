"""Session descriptions that are nearly right. HYPOTHESIS_PROFILE=fuzz turns it up."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from sfu.sdp.description import SdpError, parse_description
from sfu.sdp.media import MAX_RIDS, read_media
from sfu.sdp.publish import read_publish_offer, write_publish_answer
from sfu.sdp.subscribe import MAX_DOWN_TRACKS, OfferedTrack, SubscribeNegotiation
from tests.support.sdp import LOCAL, every_captured
from tests.unit.sfu.sdp.test_subscribe import OPUS, VP8, VP9, answered

TEXTS = list(every_captured().values())
LINES = sorted({line for text in TEXTS for line in text.split("\r\n") if line})
words = st.sampled_from(
    ["", " ", ":", "/", ";", ",", "~", "0", "1", "64", "65536", "-1", "٣", "\r", "\n", "\x00", "\u2028", "send", "recv"]
)


@st.composite
def mutated_sdp(draw: st.DrawFn, source: st.SearchStrategy[str]) -> str:
    """Lines dropped, doubled, moved, taken from elsewhere, and words put into them."""
    lines = draw(source).split("\r\n")
    for _ in range(draw(st.integers(0, 6))):
        at = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(("drop", "double", "move", "foreign", "word", "cut"))):
            case "drop" if len(lines) > 1:
                del lines[at]
            case "double":
                lines.insert(at, lines[at])
            case "move":
                lines.insert(draw(st.integers(0, len(lines))), lines[at])
            case "foreign":
                lines.insert(at, draw(st.sampled_from(LINES)))
            case "word":
                line, where = lines[at], draw(st.integers(0, 40))
                lines[at] = line[:where] + draw(words | st.text(max_size=5)) + line[where + draw(st.integers(0, 3)) :]
            case _:
                lines[at] = lines[at][: draw(st.integers(0, 40))]
    return "\r\n".join(lines)


texts = mutated_sdp(st.sampled_from(TEXTS))


@given(texts | st.text(max_size=200))
def test_a_mutated_description_is_read_or_raises_its_own_error(text: str) -> None:
    with contextlib.suppress(SdpError):
        description = parse_description(text)
        assert parse_description(description.encode()) == description
        assert all(len(media.rids) <= MAX_RIDS for media in read_media(description))


@given(texts)
def test_a_mutated_offer_is_answered_within_what_it_offers_or_raises_its_own_error(text: str) -> None:
    with contextlib.suppress(SdpError):
        offer = read_publish_offer(text)
        answer = parse_description(write_publish_answer(offer, LOCAL, 1, 1))
        offered = parse_description(text).sections
        assert len(answer.sections) == len(offered)
        for theirs, ours in zip(offered, answer.sections, strict=True):
            assert ours.kind == theirs.kind
            assert set(ours.formats) <= set(theirs.formats)


@given(st.lists(st.sampled_from([OPUS, VP8, VP9]), max_size=4), st.data())
def test_a_mutated_answer_is_taken_or_leaves_the_negotiation_as_it_was(
    tracks: list[OfferedTrack], data: st.DataObject
) -> None:
    negotiation = SubscribeNegotiation(1)
    for track in tracks:
        negotiation.add(track)
    answer = answered(negotiation.offer(LOCAL))
    try:
        agreed = negotiation.answer(data.draw(mutated_sdp(st.just(answer))))
    except SdpError:
        agreed = negotiation.answer(answer)
        assert len(agreed.tracks) == len(tracks)
    assert len(agreed.tracks) + len(agreed.refused) == len(tracks)


@given(st.lists(st.integers(0, 5), max_size=60))
def test_the_m_lines_of_a_subscriber_never_change_places(steps: list[int]) -> None:
    negotiation = SubscribeNegotiation(1)
    live: list[str] = []
    given_out: set[str] = set()
    before: list[tuple[str, int]] = []
    for step in steps:
        if step < 3 and len(live) < MAX_DOWN_TRACKS:
            live.append(negotiation.add((OPUS, VP8, VP9)[step]))
            assert live[-1] not in given_out
            given_out.add(live[-1])
        elif step == 3 and live:
            negotiation.remove(live.pop(0))
        else:
            text = negotiation.offer(LOCAL)
            lines = [(media.mid, media.section.port) for media in read_media(parse_description(text))]
            for (old_mid, old_port), (mid, _) in zip(before, lines, strict=False):
                assert mid == old_mid or old_port == 0  # another mid only where the client has seen it stop
            assert len(lines) >= len(before)
            if step == 4:
                assert [track.mid for track in negotiation.answer(answered(text)).tracks] == [
                    mid for mid, port in lines[1:] if port
                ]
                before = lines
