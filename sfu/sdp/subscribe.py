"""What a client gets: our offers, and its answers (RFC 8829 §5.2).

The first m-line is an anchor that never carries anything: it holds the transport, so that all others may come and go
while ICE and DTLS live on. An m-line whose track has gone is stopped (port 0, inactive) and, once the client has
answered that, recycled for another track under a new mid: browsers then make a new transceiver, which no key of
another sender clings to.
"""

from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

from sfu.media_engine import Codec, DownTrack, Extensions, Kind, PayloadTypes
from sfu.sdp.description import (
    MAX_SECTIONS,
    Attribute,
    SdpError,
    Section,
    SessionDescription,
    parse_description,
)
from sfu.sdp.media import (
    DISCARD_PORT,
    EXTENSION_URIS,
    FEEDBACK,
    PROTOCOL,
    Direction,
    LocalTransport,
    Media,
    RemoteTransport,
    Setup,
    payload_formats,
    read_bundle,
    read_media,
    read_transport,
    rejected,
    write_payload,
    write_session,
    write_transport,
)

# Identifiers that Chromium gives them, too, so that most packets pass with their extensions as they are.
OFFERED_EXTENSIONS: Final = Extensions(
    audio_level=1, absolute_send_time=2, transport_cc=3, mid=4, dependency_descriptor=12, video_orientation=13
)
MAX_DOWN_TRACKS: Final = MAX_SECTIONS - 1  # one m-line is the anchor

_ANCHOR_MID: Final = "0"
_PAYLOADS: Final = {
    Codec.OPUS: PayloadTypes(Codec.OPUS, 111),
    Codec.VP8: PayloadTypes(Codec.VP8, 96, 97),
    Codec.VP9: PayloadTypes(Codec.VP9, 98, 99),
}
_KIND_OF: Final = {Codec.OPUS: Kind.AUDIO, Codec.VP8: Kind.VIDEO, Codec.VP9: Kind.VIDEO}
_EXTENSIONS_OF: Final = {
    Kind.AUDIO: ("audio_level", "absolute_send_time", "transport_cc", "mid"),
    Kind.VIDEO: ("absolute_send_time", "transport_cc", "mid", "dependency_descriptor", "video_orientation"),
}


class OfferedTrack(NamedTuple):
    """A track as a client is told of it."""

    codec: Codec
    stream: str  # identifiers of a=msid: what belongs together has the same stream
    track: str
    cname: str
    ssrc: int
    rtx_ssrc: int = 0


class SubscribeAnswer(NamedTuple):
    """What a client agrees to."""

    transport: RemoteTransport
    tracks: tuple[DownTrack, ...]
    refused: tuple[str, ...]  # mids


class _Line:
    """One m-line, over all offers."""

    def __init__(self, mid: str, track: OfferedTrack) -> None:
        self.mid = mid
        self.track = track
        self.is_stopped = False
        self.is_free = False  # stopped, and the client knows it


class SubscribeNegotiation:
    """The m-lines of one subscriber, from offer to offer."""

    def __init__(self, session_id: int) -> None:
        """Begin with nothing but the anchor.

        Args:
            session_id: of the origin, 64 bits at random.
        """
        self._session_id = session_id
        self._version = 0
        self._next_mid = 1
        self._lines: list[_Line] = []
        self._offered: tuple[tuple[str, bool], ...] | None = None  # mid and whether it is stopped, of each m-line
        self.needs_offer = True

    def add(self, track: OfferedTrack) -> str:
        """Tell of a track with the next offer.

        Returns:
            its mid, which no other track of this subscriber had or will have.

        Raises:
            ValueError: there are MAX_DOWN_TRACKS already.
        """
        kind = _KIND_OF[track.codec]
        free = next((line for line in self._lines if line.is_free and _KIND_OF[line.track.codec] is kind), None)
        if free is None and len(self._lines) == MAX_DOWN_TRACKS:
            raise ValueError(f"more than {MAX_DOWN_TRACKS} tracks for a subscriber")
        line = _Line(str(self._next_mid), track)
        self._next_mid += 1
        if free is None:
            self._lines.append(line)
        else:
            self._lines[self._lines.index(free)] = line
        self.needs_offer = True
        return line.mid

    def remove(self, mid: str) -> None:
        """Stop the m-line of a track with the next offer.

        Raises:
            KeyError: there is no such m-line, or it is stopped already.
        """
        line = self._live().get(mid)
        if line is None:
            raise KeyError(mid)
        line.is_stopped = True
        self.needs_offer = True

    def offer(self, local: LocalTransport) -> str:
        """The offer of all tracks as they are now; an earlier one that was not answered is forgotten.

        Args:
            local: our transport; with new credentials it restarts ICE (RFC 8839 §4.4.3.1.1).
        """
        self._version += 1
        self._offered = tuple((line.mid, line.is_stopped) for line in self._lines)
        self.needs_offer = False
        sections = [_anchor(local), *(_section(line, local) for line in self._lines)]
        bundle = [_ANCHOR_MID, *self._live()]
        attributes = write_session(bundle, mixed_extensions=True)
        return SessionDescription(self._session_id, self._version, attributes, tuple(sections)).encode()

    def answer(self, text: str, fingerprints: AbstractSet[bytes] | None = None) -> SubscribeAnswer:
        """Take the answer to the last offer.

        Args:
            text: the session description.
            fingerprints: what the client's certificate is known by already; None before it has one.

        Raises:
            SdpError: it is malformed, does not belong to that offer, or wants anything but one transport. The offer
                stays unanswered.
        """
        if self._offered is None:
            raise SdpError("there is no offer to answer")
        description = parse_description(text)
        media = read_media(description)
        expected = (_ANCHOR_MID, *(mid for mid, _ in self._offered))
        if tuple(each.mid for each in media) != expected:
            raise SdpError("the answer has other m-lines than the offer")
        live = [each for each in media if not each.is_rejected]
        if media[0].is_rejected or not {each.mid for each in live} <= set(read_bundle(description)):
            raise SdpError("an m-line is not in the BUNDLE group")
        if not all(each.has_rtcp_mux for each in live):
            raise SdpError("an m-line does without rtcp-mux")
        transport = read_transport(description, media[0].section)
        if transport.setup is Setup.ACTPASS:
            raise SdpError("an answer chooses who begins with DTLS")
        if fingerprints is not None and not fingerprints & transport.fingerprints:
            raise SdpError("the certificate is another one than before")
        tracks, refused = self._read_tracks(media[1:])
        self._free_stopped(self._offered)
        self._offered = None
        return SubscribeAnswer(transport, tracks, refused)

    def _live(self) -> dict[str, _Line]:
        return {line.mid: line for line in self._lines if not line.is_stopped}

    def _read_tracks(self, media: tuple[Media, ...]) -> tuple[tuple[DownTrack, ...], tuple[str, ...]]:
        lines = self._live()
        tracks: list[DownTrack] = []
        refused: list[str] = []
        for each in media:
            line = lines.get(each.mid)
            if line is None:
                continue  # stopped, with this offer or since
            kind = _KIND_OF[line.track.codec]
            payload = each.payload(line.track.codec)
            if each.is_rejected or not each.direction.receives or each.kind is not kind or payload is None:
                refused.append(each.mid)
                continue
            rtx_ssrc = line.track.rtx_ssrc if payload.rtx else 0
            tracks.append(DownTrack(kind, each.mid, payload, line.track.ssrc, rtx_ssrc))
        return tuple(tracks), tuple(refused)

    def _free_stopped(self, offered: tuple[tuple[str, bool], ...]) -> None:
        told = {mid for mid, is_stopped in offered if is_stopped}
        for line in self._lines:
            line.is_free = line.is_free or line.mid in told


def _anchor(local: LocalTransport) -> Section:
    payload = _PAYLOADS[Codec.OPUS]
    lines = (Attribute("mid", _ANCHOR_MID), Attribute(Direction.INACTIVE.value), Attribute("rtcp-mux"))
    transport = write_transport(local, Setup.ACTPASS, with_candidates=True)
    attributes = (*lines, *transport, *write_payload(payload, FEEDBACK[Kind.AUDIO]), *_extension_lines(Kind.AUDIO))
    return Section(Kind.AUDIO.value, DISCARD_PORT, PROTOCOL, payload_formats([payload]), attributes)


def _section(line: _Line, local: LocalTransport) -> Section:
    track = line.track
    kind, payload = _KIND_OF[track.codec], _PAYLOADS[track.codec]
    formats = payload_formats([payload])
    if line.is_stopped:
        return rejected(Section(kind.value, 0, PROTOCOL, formats, ()), line.mid)
    attributes = (
        Attribute("mid", line.mid),
        Attribute(Direction.SENDONLY.value),
        Attribute("rtcp-mux"),
        Attribute("rtcp-rsize"),
        *write_transport(local, Setup.ACTPASS, with_candidates=False),
        *write_payload(payload, FEEDBACK[kind]),
        *_extension_lines(kind),
        Attribute("msid", f"{track.stream} {track.track}"),
        *_ssrc_lines(track),
    )
    return Section(kind.value, DISCARD_PORT, PROTOCOL, formats, attributes)


def _ssrc_lines(track: OfferedTrack) -> tuple[Attribute, ...]:
    """The primary stream before its retransmissions: in the other order Chromium shows no video, silently."""
    lines = [Attribute("ssrc", f"{ssrc} cname:{track.cname}") for ssrc in (track.ssrc, track.rtx_ssrc) if ssrc]
    if track.rtx_ssrc:
        lines.insert(0, Attribute("ssrc-group", f"FID {track.ssrc} {track.rtx_ssrc}"))
    return tuple(lines)


def _extension_lines(kind: Kind) -> tuple[Attribute, ...]:
    numbers = OFFERED_EXTENSIONS._asdict()
    return tuple(Attribute("extmap", f"{numbers[field]} {EXTENSION_URIS[field]}") for field in _EXTENSIONS_OF[kind])
