import re

import pytest

from sfu.media_engine import Codec, Extensions, Kind, PayloadTypes
from sfu.sdp.description import SdpError, parse_description
from sfu.sdp.media import RemoteTransport, Setup, read_media, read_transport
from sfu.sdp.publish import DEFAULT_CODECS, PublishOffer, read_publish_offer, write_publish_answer
from tests.support.sdp import BROWSERS, LOCAL, captured, section_of

SIMULCAST = "chromium-publish-offer-simulcast"


def answer_to(offer: PublishOffer) -> str:
    return write_publish_answer(offer, LOCAL, session_id=7, version=1)


@pytest.mark.parametrize(
    ("browser", "opus", "vp8", "extensions"),
    [
        ("chromium", 111, (96, 97), Extensions(1, 3, 2, 4, 10, 11, 12, 13)),
        ("firefox", 109, (120, 124), Extensions(1, 7, 4, 3, 9, 10, 8)),
    ],
)
def test_what_a_browser_publishes_is_understood(
    browser: str, opus: int, vp8: tuple[int, int], extensions: Extensions
) -> None:
    offer = read_publish_offer(captured(f"{browser}-publish-offer-simulcast"))
    audio, video = (each.announced for each in offer.tracks)
    assert (audio.kind, audio.mid, audio.payloads) == (Kind.AUDIO, "0", (PayloadTypes(Codec.OPUS, opus),))
    assert (video.kind, video.mid, video.payloads) == (Kind.VIDEO, "1", (PayloadTypes(Codec.VP8, *vp8),))
    assert (audio.rids, video.rids) == ((), ("q", "h", "f"))
    assert offer.extensions == extensions
    assert offer.transport.setup is Setup.ACTPASS


@pytest.mark.parametrize("browser", BROWSERS)
def test_without_simulcast_the_ssrcs_of_stream_and_retransmissions_are_told(browser: str) -> None:
    text = captured(f"{browser}-publish-offer-plain")
    audio, video = read_publish_offer(text).tracks
    assert video.announced.rids == ()
    (pair,) = video.announced.ssrcs
    assert f"a=ssrc-group:FID {pair[0]} {pair[1]}\r\n" in text
    assert [len(stream) for stream in audio.announced.ssrcs] == [1]


@pytest.mark.parametrize("browser", BROWSERS)
def test_layers_that_have_names_are_not_looked_for_by_ssrc(browser: str) -> None:
    _, video = read_publish_offer(captured(f"{browser}-publish-offer-simulcast")).tracks
    assert (video.announced.rids, video.announced.ssrcs) == (("q", "h", "f"), ())


@pytest.mark.parametrize("browser", BROWSERS)
def test_the_answer_takes_what_was_offered_and_nothing_else(browser: str) -> None:
    text = captured(f"{browser}-publish-offer-simulcast")
    answer = answer_to(read_publish_offer(text))
    description = parse_description(answer)
    for offered, answered in zip(read_media(parse_description(text)), read_media(description), strict=True):
        assert answered.mid == offered.mid
        assert answered.direction == "recvonly"
        assert {each.number for each in answered.codecs} <= {each.number for each in offered.codecs}
        assert {each.name for each in answered.codecs} <= {"opus", "VP8", "rtx"}
        assert {each[:2] for each in answered.extensions} <= {each[:2] for each in offered.extensions}
        for each in answered.codecs:
            assert each.feedback <= offered.feedback(each.number)
    transport = read_transport_of(answer)
    assert (transport.ufrag, transport.password, transport.setup) == (LOCAL.ufrag, LOCAL.password, Setup.PASSIVE)
    assert "a=ice-lite\r\na=group:BUNDLE 0 1\r\na=extmap-allow-mixed\r\n" in answer
    assert answer.count("a=candidate:") == 2
    assert "a=simulcast:recv q;h;f" in section_of(answer, "1")
    assert {"a=rid:q recv", "a=rid:h recv", "a=rid:f recv"} <= set(section_of(answer, "1"))


def test_reduced_size_reports_are_answered_where_they_were_offered() -> None:
    answer = answer_to(read_publish_offer(captured("firefox-publish-offer-simulcast")))
    assert ["a=rtcp-rsize" in section_of(answer, mid) for mid in ("0", "1")] == [False, True]
    assert ["a=rtcp-mux" in section_of(answer, mid) for mid in ("0", "1")] == [True, True]


def read_transport_of(text: str) -> RemoteTransport:
    description = parse_description(text.replace("a=ice-lite\r\n", ""))
    return read_transport(description, description.sections[0])


def test_an_extension_that_only_the_client_receives_is_not_answered() -> None:
    text = captured(SIMULCAST).replace("a=extmap:12 ", "a=extmap:12/recvonly ")
    offer = read_publish_offer(text)
    assert offer.extensions.dependency_descriptor == 0
    assert "dependency-descriptor" not in answer_to(offer)


def test_an_extension_that_the_client_sends_only_is_received_only() -> None:
    answer = answer_to(read_publish_offer(captured("firefox-publish-offer-simulcast")))
    assert "a=extmap:8 https://aomediacodec" in answer  # recvonly, as the m-line is
    text = captured(SIMULCAST).replace("a=sendonly", "a=inactive").replace("a=extmap:12 ", "a=extmap:12/sendonly ")
    assert "a=extmap:12/recvonly https://aomediacodec" in answer_to(read_publish_offer(text))


def test_an_identifier_means_one_extension_in_all_m_lines() -> None:
    text = captured(SIMULCAST)
    audio, video = text.split("m=video")
    moved = video.replace("a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid", "a=extmap:1 urn:3gpp:video-orientation")
    moved = moved.replace("a=extmap:13 ", "a=extmap:14 x").replace("a=extmap:14 urn", "a=extmap:7 x:urn")
    offer = read_publish_offer(audio + "m=video" + re.sub(r"a=extmap:7 http\S+\r\n", "", moved))
    assert (offer.extensions.audio_level, offer.extensions.mid, offer.extensions.video_orientation) == (1, 4, 0)


def test_layers_that_packets_could_not_name_are_not_taken() -> None:
    text = captured(SIMULCAST).replace("a=extmap:10 ", "a=extmap:15 ")
    offer = read_publish_offer(text)
    assert offer.tracks[1].announced.rids == ()
    assert "simulcast" not in answer_to(offer)


def test_a_session_that_lives_already_keeps_what_it_agreed_on_and_may_get_more() -> None:
    whole = read_publish_offer(captured(SIMULCAST)).extensions
    offer = read_publish_offer(captured(SIMULCAST), agreed=Extensions(audio_level=1, mid=4))
    assert offer.extensions == whole
    other = read_publish_offer(captured(SIMULCAST), agreed=Extensions(audio_level=whole.rid, mid=14))
    assert other.extensions == whole._replace(audio_level=whole.rid, mid=14, rid=0)
    assert other.tracks[1].announced.rids == ()
    assert "sdes:mid" not in answer_to(other)


def test_vp9_is_taken_when_it_is_wanted_and_offered() -> None:
    offer = read_publish_offer(captured(SIMULCAST), codecs=(*DEFAULT_CODECS, Codec.VP9))
    assert [each.codec for each in offer.tracks[1].announced.payloads] == [Codec.VP8, Codec.VP9]
    assert section_of(answer_to(offer), "1")[0] == "m=video 9 UDP/TLS/RTP/SAVPF 96 97 98 99"


def test_what_cannot_be_forwarded_is_rejected_and_the_rest_accepted() -> None:
    data = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:2\r\na=sctp-port:5000\r\n"
    text = captured(SIMULCAST).replace("BUNDLE 0 1", "BUNDLE 2 0 1").replace("a=rtpmap:111 opus", "a=rtpmap:111 speex")
    offer = read_publish_offer(text + data)
    answer = answer_to(offer)
    assert [each.announced.mid for each in offer.tracks] == ["1"]
    assert "a=group:BUNDLE 1\r\n" in answer
    assert section_of(answer, "0")[0].startswith("m=audio 0 ")
    assert section_of(answer, "2")[0] == "m=application 0 UDP/DTLS/SCTP webrtc-datachannel"
    assert "a=candidate:" in "\r\n".join(section_of(answer, "1"))


def test_an_m_line_that_rests_is_accepted_without_a_track() -> None:
    offer = read_publish_offer(captured(SIMULCAST).replace("a=sendonly", "a=inactive"))
    assert offer.tracks == ()
    assert answer_to(offer).count("a=inactive\r\n") == 2


def test_a_client_that_waits_for_dtls_is_called() -> None:
    answer = answer_to(read_publish_offer(captured(SIMULCAST).replace("setup:actpass", "setup:passive")))
    assert "a=setup:active" in answer and "a=setup:passive" not in answer


def test_candidates_of_the_client_change_nothing() -> None:
    text = captured("firefox-publish-offer-simulcast")
    without = re.sub(r"a=(candidate:.*|end-of-candidates)\r\n", "", text)
    assert without != text
    assert answer_to(read_publish_offer(without)) == answer_to(read_publish_offer(text))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("a=group:BUNDLE 0 1\r\n", "", "BUNDLE"),
        ("a=group:BUNDLE 0 1\r\n", "a=group:BUNDLE 0\r\n", "BUNDLE"),
        ("a=rtcp-mux\r\n", "", "rtcp-mux"),
        ("UDP/TLS/RTP/SAVPF", "RTP/AVP", "no m-line"),
        ("a=fingerprint:sha-256", "a=fingerprint:sha-1", "SHA-256"),
    ],
)
def test_an_offer_of_anything_but_one_encrypted_transport_is_refused(old: str, new: str, reason: str) -> None:
    text = captured(SIMULCAST)
    assert old in text
    with pytest.raises(SdpError, match=reason):
        read_publish_offer(text.replace(old, new))
