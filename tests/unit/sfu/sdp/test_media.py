import pytest

from sfu.media_engine import Codec, PayloadTypes
from sfu.sdp import media as meaning
from sfu.sdp.description import SdpError, SessionDescription, parse_description
from sfu.sdp.media import (
    Direction,
    Media,
    RemoteTransport,
    Rid,
    Setup,
    read_bundle,
    read_media,
    read_transport,
    write_payload,
    write_transport,
)
from tests.support.sdp import LOCAL, captured

HEAD = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
VIDEO = "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=mid:0\r\na=rtpmap:96 VP8/90000\r\n"
UFRAG, PASSWORD = "a=ice-ufrag:abcd\r\n", "a=ice-pwd:" + "p" * 22 + "\r\n"
FINGERPRINT = "a=fingerprint:sha-256 " + ":".join(["0A"] * 32) + "\r\n"
SETUP = "a=setup:actpass\r\n"


def read(lines: str, session: str = "") -> Media:
    return read_media(parse_description(HEAD + session + VIDEO + lines))[0]


def transport(lines: str, session: str = "") -> RemoteTransport:
    description = parse_description(HEAD + session + VIDEO + lines)
    return read_transport(description, description.sections[0])


def test_chromium_video_is_read_with_codecs_extensions_and_layers() -> None:
    video = read_media(parse_description(captured("chromium-publish-offer-simulcast")))[1]
    assert video.payload(Codec.VP8) == PayloadTypes(Codec.VP8, 96, 97)
    assert video.payload(Codec.VP9) == PayloadTypes(Codec.VP9, 98, 99)
    assert video.payload(Codec.OPUS) is None
    assert video.feedback(96) >= {"nack", "nack pli", "transport-cc"}
    assert video.rids == (Rid("q", ""), Rid("h", ""), Rid("f", ""))
    assert video.direction is Direction.SENDONLY
    assert {each.number: each.direction for each in video.extensions}[12] is None


def test_firefox_video_is_read_with_its_directions_and_groups() -> None:
    audio, video = read_media(parse_description(captured("firefox-publish-offer-simulcast")))
    assert video.payload(Codec.VP8) == PayloadTypes(Codec.VP8, 120, 124)
    assert not video.is_rejected  # port 0, but bundle-only
    assert {each.number: each.direction for each in video.extensions}[8] is Direction.SENDONLY
    assert {each.number: each.direction for each in audio.extensions}[2] is Direction.RECVONLY
    assert [pair[0] in video.ssrcs and pair[1] in video.ssrcs for pair in video.retransmissions] == [True] * 3


def test_vp9_of_another_profile_is_no_vp9_of_ours() -> None:
    assert read("a=rtpmap:97 VP9/90000\r\na=fmtp:97 profile-id=2\r\n").payload(Codec.VP9) is None
    assert read("a=rtpmap:97 VP9/90000\r\na=fmtp:97 x=1; profile-id=0\r\n").payload(Codec.VP9) is not None
    assert read("a=rtpmap:97 VP9/90000\r\na=fmtp:97 max-fs=1\r\n").payload(Codec.VP9) is not None


def test_feedback_for_all_payload_types_counts_for_each() -> None:
    assert read("a=rtcp-fb:* nack pli\r\n").feedback(96) == {"nack pli"}


def test_a_direction_of_the_session_holds_where_an_m_line_has_none() -> None:
    assert read("", "a=recvonly\r\n").direction is Direction.RECVONLY
    assert read("a=sendonly\r\n", "a=recvonly\r\n").direction is Direction.SENDONLY
    assert read("").direction is Direction.SENDRECV


def test_layers_without_description_or_bound_to_payload_types_are_left_out() -> None:
    lines = "a=rid:a send\r\na=rid:b send pt=96\r\na=rid:c recv\r\na=rid:d send max-width=320\r\n"
    assert read(lines + "a=simulcast:send ~a,x;b;c;d;e recv z\r\n").rids == (Rid("a", ""), Rid("d", "max-width=320"))


@pytest.mark.parametrize(
    "lines",
    [
        "a=mid:1\r\n",
        "a=rtpmap:96\r\n",
        "a=rtpmap:128 VP8/90000\r\n",
        "a=fmtp:x y\r\n",
        "a=rtcp-fb:96\r\n",
        "a=extmap:x urn:y\r\n",
        "a=extmap:1 urn:x\r\na=extmap:1 urn:y\r\n",
        "a=sendonly\r\na=recvonly\r\n",
        "a=rid:!! send\r\n",
        "a=rid:" + "a" * 17 + " send\r\n",
        "a=simulcast:send\r\n",
        "a=simulcast:both a\r\n",
        "a=ssrc:4294967296 cname:x\r\n",
        "a=ssrc-group:FID 1\r\n",
        "a=msid:" + "s" * 65 + " t\r\n",
        "".join(f"a=ssrc:{number} cname:x\r\n" for number in range(meaning.MAX_SSRCS + 1)),
        "a=ssrc-group:FID 1 2\r\n" * (meaning.MAX_SSRCS + 1),
        "".join(f"a=rid:l{each} send\r\n" for each in range(5)) + "a=simulcast:send l0;l1;l2;l3;l4\r\n",
    ],
)
def test_a_known_attribute_that_is_malformed_or_too_much_is_refused(lines: str) -> None:
    with pytest.raises(SdpError):
        read(lines)


@pytest.mark.parametrize("media", ["m=video 9 X 96\r\n", "m=video 9 X 96\r\na=mid:" + "m" * 17 + "\r\n"])
def test_an_m_line_needs_a_mid_that_fits_a_header_extension(media: str) -> None:
    with pytest.raises(SdpError, match="mid"):
        read_media(parse_description(HEAD + media))


def test_two_m_lines_with_one_mid_are_refused() -> None:
    with pytest.raises(SdpError, match="same mid"):
        read_media(parse_description(HEAD + VIDEO + VIDEO))


@pytest.mark.parametrize("formats", ["96 96", "96 x", "96 128"])
def test_payload_types_are_distinct_numbers_below_128(formats: str) -> None:
    with pytest.raises(SdpError, match="payload type"):
        read_media(parse_description(HEAD + f"m=video 9 X {formats}\r\na=mid:0\r\n"))


def test_a_transport_is_read_from_the_m_line_or_else_from_the_session() -> None:
    expected = RemoteTransport("abcd", "p" * 22, frozenset({bytes([10] * 32)}), Setup.ACTPASS)
    assert transport(UFRAG + PASSWORD + FINGERPRINT + SETUP) == expected
    assert transport("", UFRAG + PASSWORD + FINGERPRINT + SETUP) == expected


def test_a_fingerprint_of_another_hash_may_stand_beside_that_of_sha_256() -> None:
    lines = UFRAG + PASSWORD + SETUP + "a=fingerprint:sha-512 " + ":".join(["0B"] * 64) + "\r\n"
    assert transport(lines + FINGERPRINT).fingerprints == {bytes([10] * 32)}
    with pytest.raises(SdpError, match="no SHA-256"):
        transport(lines)


@pytest.mark.parametrize(
    ("lines", "session"),
    [
        (PASSWORD + FINGERPRINT + SETUP, ""),
        (UFRAG + FINGERPRINT + SETUP, ""),
        (UFRAG + PASSWORD + SETUP, ""),
        (UFRAG + PASSWORD + FINGERPRINT, ""),
        ("a=ice-ufrag:abc\r\n" + PASSWORD + FINGERPRINT + SETUP, ""),
        (UFRAG + "a=ice-pwd:short\r\n" + FINGERPRINT + SETUP, ""),
        (UFRAG + PASSWORD + FINGERPRINT + "a=setup:holdconn\r\n", ""),
        (UFRAG + PASSWORD + FINGERPRINT * 9 + SETUP, ""),
        (UFRAG + PASSWORD + "a=fingerprint:sha-256 0A:0B\r\n" + SETUP, ""),
        (UFRAG + PASSWORD + FINGERPRINT + SETUP, "a=ice-lite\r\n"),
    ],
)
def test_a_transport_that_cannot_work_is_refused(lines: str, session: str) -> None:
    with pytest.raises(SdpError):
        transport(lines, session)


def test_a_bundle_names_every_mid_once() -> None:
    def bundle(lines: str) -> tuple[str, ...]:
        return read_bundle(parse_description(HEAD + lines))

    assert bundle("a=group:LS x y\r\na=group:BUNDLE 1 0\r\n") == ("1", "0")
    assert bundle("") == ()
    for lines in ("a=group:BUNDLE 0 0\r\n", "a=group:BUNDLE 0\r\na=group:BUNDLE 1\r\n"):
        with pytest.raises(SdpError, match="BUNDLE"):
            bundle(lines)


def test_our_transport_is_read_back_as_it_was_written() -> None:
    lines = write_transport(LOCAL, Setup.PASSIVE, with_candidates=True)
    section = parse_description(HEAD + VIDEO).sections[0]._replace(attributes=lines)
    description = SessionDescription(1, 1, (), (section,))
    assert read_transport(parse_description(description.encode()), section) == RemoteTransport(
        LOCAL.ufrag, LOCAL.password, frozenset({LOCAL.fingerprint}), Setup.PASSIVE
    )
    assert [value for name, value in lines if name == "candidate"] == [
        "1 1 udp 2130706431 192.0.2.1 7882 typ host",
        "2 1 udp 2130706175 2001:db8::1 7882 typ host",
    ]


@pytest.mark.parametrize(
    "payload",
    [PayloadTypes(Codec.OPUS, 109), PayloadTypes(Codec.VP8, 120, 124), PayloadTypes(Codec.VP9, 98, 99)],
)
def test_a_payload_type_is_read_back_as_it_was_written(payload: PayloadTypes) -> None:
    section = parse_description(HEAD + VIDEO).sections[0]
    attributes = (section.attributes[0], *write_payload(payload, ("nack",)))
    section = section._replace(formats=meaning.payload_formats([payload]), attributes=attributes)
    media = read_media(SessionDescription(1, 1, (), (section,)))[0]
    assert media.payload(payload.codec) == payload
    assert media.feedback(payload.primary) == {"nack"}
