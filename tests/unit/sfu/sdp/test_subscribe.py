import pytest

from sfu.media_engine import Codec, DownTrack, Kind, PayloadTypes
from sfu.sdp.description import SdpError, parse_description
from sfu.sdp.media import Setup
from sfu.sdp.subscribe import MAX_DOWN_TRACKS, OfferedTrack, SubscribeNegotiation
from signaling.conference_messages import MAX_SDP_CHARACTERS
from tests.support.sdp import BROWSERS, LOCAL, captured, section_of

OPUS = OfferedTrack(Codec.OPUS, "s1", "a1", "c1", 1001)
VP8 = OfferedTrack(Codec.VP8, "s1", "v1", "c1", 1002, 1003)
VP9 = OfferedTrack(Codec.VP9, "s1", "v9", "c1", 1012, 1013)
NEXT_VP8 = OfferedTrack(Codec.VP8, "s2", "v2", "c2", 1022, 1023)


def negotiation(*tracks: OfferedTrack) -> SubscribeNegotiation:
    made = SubscribeNegotiation(7)
    for track in tracks:
        made.add(track)
    return made


def answered(offer: str) -> str:
    """What a client would say that takes everything."""
    text = offer.replace("a=sendonly", "a=recvonly").replace("setup:actpass", "setup:active")
    return text.replace("a=ice-lite\r\n", "")


@pytest.mark.parametrize("browser", BROWSERS)
def test_the_answers_of_a_browser_are_understood_over_stopping_and_recycling(browser: str) -> None:
    subscriber = negotiation(OPUS, VP8, VP9)
    subscriber.offer(LOCAL)
    answer = subscriber.answer(captured(f"{browser}-subscribe-answer"))
    audio = DownTrack(Kind.AUDIO, "1", PayloadTypes(Codec.OPUS, 111), 1001)
    vp9 = DownTrack(Kind.VIDEO, "3", PayloadTypes(Codec.VP9, 98, 99), 1012, 1013)
    assert answer.tracks == (audio, DownTrack(Kind.VIDEO, "2", PayloadTypes(Codec.VP8, 96, 97), 1002, 1003), vp9)
    assert answer.refused == ()
    assert answer.transport.setup is Setup.ACTIVE
    subscriber.remove("2")
    subscriber.offer(LOCAL)
    assert subscriber.answer(captured(f"{browser}-subscribe-answer-stopped")).tracks == (audio, vp9)
    assert subscriber.add(NEXT_VP8) == "4"
    subscriber.offer(LOCAL)
    recycled = subscriber.answer(captured(f"{browser}-subscribe-answer-recycled"))
    assert recycled.tracks == (audio, DownTrack(Kind.VIDEO, "4", PayloadTypes(Codec.VP8, 96, 97), 1022, 1023), vp9)


PAGE_TAKES = 60_000  # characters of a description (signaling/web/js/conference/server_messages.js)
OTHERS = 19  # in the largest room; each with a microphone, a camera and a screen
PID = "p" * 22


@pytest.mark.parametrize("browser", BROWSERS)
def test_offer_and_answer_of_the_largest_room_fit_the_messages_that_carry_them(browser: str) -> None:
    subscriber = negotiation()
    for number in range(OTHERS):
        for codec, source, group in (
            (Codec.OPUS, "microphone", PID),
            (Codec.VP8, "camera", PID),
            (Codec.VP8, "screen", f"{PID}-screen"),
        ):
            ssrc = 4_000_000_000 + number
            track = f"{PID}-{source}-{ssrc}"
            subscriber.add(OfferedTrack(codec, group, track, PID, ssrc, ssrc + OTHERS if codec is Codec.VP8 else 0))
    assert len(subscriber.offer(LOCAL)) <= PAGE_TAKES
    answer = captured(f"{browser}-subscribe-answer")
    head, anchor, sound, picture, _ = (len(part) + len("m=") for part in answer.split("m="))
    mids = OTHERS * 3 * len("57 7")  # in the BUNDLE group and in their sections, one digit more
    assert head + mids + anchor + OTHERS * (sound + 2 * picture) <= MAX_SDP_CHARACTERS


def test_the_stream_is_told_before_its_retransmissions() -> None:
    lines = section_of(negotiation(VP8).offer(LOCAL), "1")
    assert [line for line in lines if line.startswith("a=ssrc")] == [
        "a=ssrc-group:FID 1002 1003",
        "a=ssrc:1002 cname:c1",
        "a=ssrc:1003 cname:c1",
    ]
    assert "a=msid:s1 v1" in lines
    assert "a=sendonly" in lines


def test_payload_types_are_those_of_the_answer() -> None:
    subscriber = negotiation(VP8)
    answer = answered(subscriber.offer(LOCAL))
    answer = answer.replace("SAVPF 96 97", "SAVPF 120 124").replace(":96 ", ":120 ").replace(":97 ", ":124 ")
    assert subscriber.answer(answer.replace("apt=96", "apt=120")).tracks[0].payload == PayloadTypes(Codec.VP8, 120, 124)


def test_without_retransmissions_in_the_answer_none_are_sent() -> None:
    subscriber = negotiation(VP8)
    answer = answered(subscriber.offer(LOCAL)).replace("a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n", "")
    track = subscriber.answer(answer).tracks[0]
    assert (track.payload.rtx, track.rtx_ssrc) == (0, 0)


def test_the_anchor_stays_when_every_track_has_gone() -> None:
    subscriber = negotiation(OPUS)
    subscriber.answer(answered(subscriber.offer(LOCAL)))
    subscriber.remove("1")
    offer = subscriber.offer(LOCAL)
    assert "a=group:BUNDLE 0\r\n" in offer
    assert "a=inactive" in section_of(offer, "0") and section_of(offer, "0")[0].startswith("m=audio 9 ")
    assert section_of(offer, "1") == ["m=audio 0 UDP/TLS/RTP/SAVPF 111", "c=IN IP4 0.0.0.0", "a=mid:1", "a=inactive"]


def test_an_m_line_is_recycled_only_after_the_client_has_heard_that_it_stopped() -> None:
    subscriber = negotiation(VP8)
    subscriber.answer(answered(subscriber.offer(LOCAL)))
    subscriber.remove("1")
    subscriber.add(NEXT_VP8)
    offer = subscriber.offer(LOCAL)
    assert [section.port for section in parse_description(offer).sections] == [9, 0, 9]
    subscriber.answer(answered(offer))
    subscriber.add(VP9)
    offer = subscriber.offer(LOCAL)
    assert [line.split()[0] for line in offer.split("\r\n") if line.startswith("a=mid:")] == [
        "a=mid:0",
        "a=mid:3",
        "a=mid:2",
    ]


def test_an_m_line_is_not_recycled_for_another_kind() -> None:
    subscriber = negotiation(VP8)
    subscriber.answer(answered(subscriber.offer(LOCAL)))
    subscriber.remove("1")
    subscriber.answer(answered(subscriber.offer(LOCAL)))
    subscriber.add(OPUS)
    kinds = [section.kind for section in parse_description(subscriber.offer(LOCAL)).sections]
    assert kinds == ["audio", "video", "audio"]


def test_a_track_that_went_while_the_offer_was_under_way_is_not_in_the_answer() -> None:
    subscriber = negotiation(OPUS, VP8)
    answer = answered(subscriber.offer(LOCAL))
    subscriber.remove("2")
    assert [track.mid for track in subscriber.answer(answer).tracks] == ["1"]
    assert subscriber.needs_offer


def test_a_refused_track_is_named() -> None:
    subscriber = negotiation(OPUS, VP8)
    answer = answered(subscriber.offer(LOCAL))
    audio, video = answer.split("m=video")
    result = subscriber.answer(audio.replace("a=recvonly", "a=inactive") + "m=video" + video)
    assert (result.refused, [track.mid for track in result.tracks]) == (("1",), ["2"])


def test_a_restart_of_ice_changes_the_credentials_and_nothing_else() -> None:
    subscriber = negotiation(VP8)
    first = subscriber.offer(LOCAL)
    again = subscriber.offer(LOCAL._replace(ufrag="newUfrag"))
    assert again == first.replace(LOCAL.ufrag, "newUfrag").replace("o=- 7 1 ", "o=- 7 2 ")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("a=mid:1", "a=mid:9", "other m-lines"),
        ("a=group:BUNDLE 0 1", "a=group:BUNDLE 0", "BUNDLE"),
        ("m=audio 9", "m=audio 0", "BUNDLE"),
        ("a=rtcp-mux\r\n", "", "rtcp-mux"),
        ("setup:active", "setup:actpass", "chooses"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_and_another_may_follow(old: str, new: str, reason: str) -> None:
    subscriber = negotiation(VP8)
    answer = answered(subscriber.offer(LOCAL))
    assert old in answer
    with pytest.raises(SdpError, match=reason):
        subscriber.answer(answer.replace(old, new))
    assert len(subscriber.answer(answer).tracks) == 1


def test_an_answer_with_another_certificate_than_before_is_refused() -> None:
    subscriber = negotiation(VP8)
    answer = answered(subscriber.offer(LOCAL))
    with pytest.raises(SdpError, match="another one"):
        subscriber.answer(answer, fingerprints={bytes(32)})
    assert len(subscriber.answer(answer, fingerprints={bytes(32), LOCAL.fingerprint}).tracks) == 1


def test_an_answer_without_an_offer_is_refused() -> None:
    subscriber = negotiation(VP8)
    answer = answered(subscriber.offer(LOCAL))
    subscriber.answer(answer)
    with pytest.raises(SdpError, match="no offer"):
        subscriber.answer(answer)


def test_there_are_only_so_many_tracks() -> None:
    subscriber = negotiation(*[OPUS] * MAX_DOWN_TRACKS)
    with pytest.raises(ValueError, match="63 tracks"):
        subscriber.add(VP8)


def test_who_is_removed_twice_was_not_there() -> None:
    subscriber = negotiation(VP8)
    subscriber.remove("1")
    with pytest.raises(KeyError):
        subscriber.remove("1")


def test_an_offer_is_due_at_first_and_after_every_change() -> None:
    subscriber = negotiation()
    due = [subscriber.needs_offer]
    subscriber.offer(LOCAL)
    due.append(subscriber.needs_offer)
    mid = subscriber.add(VP8)
    due.append(subscriber.needs_offer)
    subscriber.offer(LOCAL)
    subscriber.remove(mid)
    due.append(subscriber.needs_offer)
    assert due == [True, False, True, True]
