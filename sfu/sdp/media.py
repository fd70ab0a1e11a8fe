"""What the lines of a description mean for WebRTC: transport, m-lines, codecs, header extensions, layers.

Candidates are not read. A lite agent begins no checks, so it needs none of them, and the `.local` names and the
`a=end-of-candidates` that stop other agents (Firefox may offer nothing else) cannot do harm here.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from sfu.media_engine import Codec, Kind, PayloadTypes
from sfu.sdp.description import Attribute, SdpError, Section, SessionDescription
from stun.address import TransportAddress

PROTOCOL: Final = "UDP/TLS/RTP/SAVPF"
FINGERPRINT_BYTES: Final = 32  # of SHA-256
MAX_FINGERPRINTS: Final = 8
MAX_RIDS: Final = 4  # layers of an m-line; browsers make up to three
MAX_SSRCS: Final = 64  # of an m-line
MAX_ID_CHARACTERS: Final = 16  # of a MID or a RID: what a one-byte header extension holds (RFC 8285 §4.2)
MAX_MSID_CHARACTERS: Final = 64  # of each of the two identifiers (RFC 8830 §2)
MAX_EXTENSION_ID: Final = 14  # of one-byte headers; browsers count from 1 and never get there
DISCARD_PORT: Final = 9  # what stands where no candidate was chosen yet (RFC 8840 §4.1.1)

EXTENSION_FIELDS: Final = {
    "urn:ietf:params:rtp-hdrext:ssrc-audio-level": "audio_level",
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01": "transport_cc",
    "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time": "absolute_send_time",
    "urn:ietf:params:rtp-hdrext:sdes:mid": "mid",
    "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id": "rid",
    "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id": "repaired_rid",
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension": "dependency_descriptor",
    "urn:3gpp:video-orientation": "video_orientation",
}
EXTENSION_URIS: Final = {field: uri for uri, field in EXTENSION_FIELDS.items()}
FEEDBACK: Final = {
    Kind.AUDIO: ("transport-cc",),
    Kind.VIDEO: ("nack", "nack pli", "transport-cc"),
}

_MID: Final = re.compile(rf"[!#$%&'*+\-.0-9A-Z^_`a-z{{|}}~]{{1,{MAX_ID_CHARACTERS}}}")
_RID: Final = re.compile(rf"([0-9A-Za-z]{{1,{MAX_ID_CHARACTERS}}}) (send|recv)(?: (\S{{1,256}}))?")
_NUMBER: Final = re.compile(r"[0-9]{1,3}")
_RTPMAP: Final = re.compile(r"([0-9]{1,3}) ([^/ ]{1,64})/([0-9]{1,9})(?:/([0-9]{1,3}))? ?")
_OF_PAYLOAD: Final = re.compile(r"([0-9]{1,3}|\*) (.+)")
_APT: Final = re.compile(r"apt=([0-9]{1,3})")
_PROFILE: Final = re.compile(r"(?:^|;) ?profile-id=([0-9]+)")
_EXTMAP: Final = re.compile(r"([0-9]{1,5})(?:/(sendrecv|sendonly|recvonly|inactive))? (\S{1,256})(?: .*)?")
_SSRC: Final = re.compile(r"([0-9]{1,10}) .+")
_FID: Final = re.compile(r"FID ([0-9]{1,10}) ([0-9]{1,10})")
_MSID: Final = re.compile(rf"(\S{{1,{MAX_MSID_CHARACTERS}}})(?: (\S{{1,{MAX_MSID_CHARACTERS}}}))?")
_UFRAG: Final = re.compile(r"[0-9A-Za-z+/]{4,256}")  # RFC 8839 §5.4
_PASSWORD: Final = re.compile(r"[0-9A-Za-z+/]{22,256}")
_FINGERPRINT: Final = re.compile(r"(\S+) ([0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2})*)")

_MAX_PAYLOAD_TYPE: Final = 127
_MAX_SSRC: Final = (1 << 32) - 1
_HOST_TYPE_PREFERENCE: Final = 126  # RFC 8445 §5.1.2.2
_MAX_LOCAL_PREFERENCE: Final = 65535
_CLOCKS: Final = {Codec.OPUS: (48000, 2), Codec.VP8: (90000, 1), Codec.VP9: (90000, 1)}


class Direction(StrEnum):
    """Which way media flows, as whoever wrote the description sees it (RFC 8866 §6.7)."""

    SENDRECV = "sendrecv"
    SENDONLY = "sendonly"
    RECVONLY = "recvonly"
    INACTIVE = "inactive"

    @property
    def sends(self) -> bool:
        """Whether the writer sends."""
        return self in {Direction.SENDRECV, Direction.SENDONLY}

    @property
    def receives(self) -> bool:
        """Whether the writer receives."""
        return self in {Direction.SENDRECV, Direction.RECVONLY}


class Setup(StrEnum):
    """Who begins the DTLS handshake (RFC 8842 §5.2)."""

    ACTPASS = "actpass"
    ACTIVE = "active"
    PASSIVE = "passive"


class RtpCodec(NamedTuple):
    """A payload type of an m-line."""

    number: int
    name: str
    clock: int  # Hz
    channels: int
    parameters: str
    feedback: frozenset[str]


class ExtensionMap(NamedTuple):
    """An a=extmap (RFC 8285 §5); the direction is that of the m-line where it is not given."""

    number: int
    uri: str
    direction: Direction | None


class Rid(NamedTuple):
    """A layer that is sent (RFC 8851), with its restrictions as they were written."""

    name: str
    restrictions: str


class Media(NamedTuple):
    """One m-line."""

    section: Section
    mid: str
    direction: Direction
    is_rejected: bool  # port 0 without bundle-only (RFC 8843 §6)
    has_rtcp_mux: bool
    codecs: tuple[RtpCodec, ...]
    extensions: tuple[ExtensionMap, ...]
    rids: tuple[Rid, ...]  # of its simulcast, in that order
    ssrcs: tuple[int, ...]
    retransmissions: tuple[tuple[int, int], ...]  # FID groups: a stream, and that of its retransmissions
    msid: tuple[str, str]  # of its stream and its track; empty where there is none

    @property
    def kind(self) -> Kind | None:
        """What it carries; None for what is never forwarded."""
        return _KINDS.get(self.section.kind)

    def payload(self, codec: Codec) -> PayloadTypes | None:
        """The first payload type of a codec, with that of its retransmissions; None if it is not there.

        Of VP9, profile 0 only: what browsers decode everywhere.
        """
        clock, channels = _CLOCKS[codec]
        for each in self.codecs:
            if each.name.lower() != codec.value.lower() or (each.clock, each.channels) != (clock, channels):
                continue
            profile = _PROFILE.search(each.parameters)
            if codec is Codec.VP9 and profile is not None and profile[1] != "0":
                continue
            return PayloadTypes(codec, each.number, self._retransmission(each.number))
        return None

    def feedback(self, number: int) -> frozenset[str]:
        """What RTCP feedback a payload type may get (RFC 4585 §4.2)."""
        return next((each.feedback for each in self.codecs if each.number == number), frozenset())

    def _retransmission(self, number: int) -> int:
        for each in self.codecs:
            if each.name.lower() == "rtx" and (match := _APT.match(each.parameters)) and int(match[1]) == number:
                return each.number
        return 0


class RemoteTransport(NamedTuple):
    """Of a client: ICE credentials, SHA-256 fingerprints of its certificate, and who begins with DTLS."""

    ufrag: str
    password: str
    fingerprints: frozenset[bytes]
    setup: Setup


class LocalTransport(NamedTuple):
    """Ours, for one PeerConnection: ICE credentials, SHA-256 fingerprint, addresses from the best to the worst."""

    ufrag: str
    password: str
    fingerprint: bytes
    candidates: tuple[TransportAddress, ...]


_KINDS: Final = {kind.value: kind for kind in Kind}


def read_media(description: SessionDescription) -> tuple[Media, ...]:
    """Read the m-lines.

    Raises:
        SdpError: a known attribute is malformed, or two m-lines have the same identification.
    """
    default = _direction(description.attributes, Direction.SENDRECV)
    found = tuple(_read_section(section, default) for section in description.sections)
    if len({media.mid for media in found}) != len(found):
        raise SdpError("two m-lines have the same mid")
    return found


def read_bundle(description: SessionDescription) -> tuple[str, ...]:
    """The mids of the BUNDLE group, the tagged one first (RFC 8843 §5); empty without one.

    Raises:
        SdpError: there are several groups, or a mid stands in it twice.
    """
    groups = [value.split() for name, value in description.attributes if name == "group"]
    bundles = [tuple(words[1:]) for words in groups if words[:1] == ["BUNDLE"]]
    if len(bundles) > 1:
        raise SdpError("more than one BUNDLE group")
    bundle = bundles[0] if bundles else ()
    if len(set(bundle)) != len(bundle):
        raise SdpError("a mid stands in the BUNDLE group twice")
    return bundle


def read_transport(description: SessionDescription, section: Section) -> RemoteTransport:
    """Read the transport of an m-line; what it does not say itself, the session says.

    Raises:
        SdpError: something is missing or malformed, or the other end is a lite ICE agent like us.
    """
    if any(name == "ice-lite" for name, _ in description.attributes):
        raise SdpError("two lite ICE agents never find each other")
    places = (section.attributes, description.attributes)
    ufrag, password, setup = (_first(places, name) for name in ("ice-ufrag", "ice-pwd", "setup"))
    if _UFRAG.fullmatch(ufrag) is None or _PASSWORD.fullmatch(password) is None:
        raise SdpError("ICE credentials are missing or malformed")
    if setup not in _SETUPS:
        raise SdpError("a=setup is missing or unknown")
    lines = _all(section.attributes, "fingerprint") or _all(description.attributes, "fingerprint")
    if len(lines) > MAX_FINGERPRINTS:
        raise SdpError(f"more than {MAX_FINGERPRINTS} fingerprints")
    fingerprints = frozenset(digest for line in lines for digest in _read_fingerprint(line))
    if not fingerprints:
        raise SdpError("there is no SHA-256 fingerprint")
    return RemoteTransport(ufrag, password, fingerprints, Setup(setup))


def allows_mixed_extensions(description: SessionDescription, media: Iterable[Media]) -> bool:
    """Whether one- and two-byte header extensions may alternate (RFC 8285 §6).

    Without it Chromium leaves out Dependency Descriptors of more than 16 bytes, which are those of key frames.
    """
    places = [description.attributes, *(each.section.attributes for each in media)]
    return any(name == "extmap-allow-mixed" for attributes in places for name, _ in attributes)


def write_session(bundle: Sequence[str], *, mixed_extensions: bool) -> tuple[Attribute, ...]:
    """The attributes of our side of a session: a lite agent, one transport for these mids."""
    lines = [Attribute("ice-lite")]
    if bundle:
        lines.append(Attribute("group", " ".join(("BUNDLE", *bundle))))
    if mixed_extensions:
        lines.append(Attribute("extmap-allow-mixed"))
    return (*lines, Attribute("msid-semantic", "WMS *"))


def write_transport(local: LocalTransport, setup: Setup, *, with_candidates: bool) -> tuple[Attribute, ...]:
    """The transport of an m-line; candidates stand in the first one of a bundle only."""
    digest = ":".join(f"{byte:02X}" for byte in local.fingerprint)
    lines = [
        Attribute("ice-ufrag", local.ufrag),
        Attribute("ice-pwd", local.password),
        Attribute("fingerprint", f"sha-256 {digest}"),
        Attribute("setup", setup.value),
    ]
    if with_candidates:
        lines += [Attribute("candidate", _candidate(at, each)) for at, each in enumerate(local.candidates)]
        lines.append(Attribute("end-of-candidates"))
    return tuple(lines)


def write_payload(payload: PayloadTypes, feedback: Iterable[str]) -> tuple[Attribute, ...]:
    """The lines of a codec and its retransmissions."""
    clock, channels = _CLOCKS[payload.codec]
    encoding = f"{payload.codec.value}/{clock}" + (f"/{channels}" if channels > 1 else "")
    lines = [Attribute("rtpmap", f"{payload.primary} {encoding}")]
    lines += [Attribute("rtcp-fb", f"{payload.primary} {each}") for each in feedback]
    if payload.codec is Codec.OPUS:
        lines.append(Attribute("fmtp", f"{payload.primary} minptime=10;useinbandfec=1"))
    if payload.codec is Codec.VP9:
        lines.append(Attribute("fmtp", f"{payload.primary} profile-id=0"))
    if payload.rtx:
        lines.append(Attribute("rtpmap", f"{payload.rtx} rtx/{clock}"))
        lines.append(Attribute("fmtp", f"{payload.rtx} apt={payload.primary}"))
    return tuple(lines)


def payload_formats(payloads: Iterable[PayloadTypes]) -> tuple[str, ...]:
    """The formats of an m-line with these payload types."""
    return tuple(str(number) for payload in payloads for number in (payload.primary, payload.rtx) if number)


def rejected(section: Section, mid: str) -> Section:
    """The answer to an m-line that is not accepted, and the offer of one that is stopped (RFC 8829 §5.2.2, §5.3.1)."""
    attributes = (Attribute("mid", mid), Attribute("inactive"))
    return Section(section.kind, 0, section.protocol, section.formats, attributes)


def _read_section(section: Section, default: Direction) -> Media:
    attributes = section.attributes
    mid = _only(attributes, "mid")
    if _MID.fullmatch(mid) is None:
        raise SdpError("an m-line has no mid, or one that is malformed")
    bundle_only = any(name == "bundle-only" for name, _ in attributes)
    msid = _read_msid(attributes)
    is_rtp = section.kind in _KINDS
    return Media(
        section,
        mid,
        _direction(attributes, default),
        is_rejected=section.port == 0 and not bundle_only,
        has_rtcp_mux=any(name == "rtcp-mux" for name, _ in attributes),
        codecs=_read_codecs(section) if is_rtp else (),
        extensions=_read_extensions(attributes),
        rids=_read_simulcast(attributes),
        ssrcs=_read_ssrcs(attributes),
        retransmissions=_read_groups(attributes),
        msid=msid,
    )


def _read_codecs(section: Section) -> tuple[RtpCodec, ...]:
    order = [_payload_type(each) for each in section.formats]
    if len(set(order)) != len(order):
        raise SdpError("an m-line names a payload type twice")
    maps: dict[int, tuple[str, int, int]] = {}
    for value in _all(section.attributes, "rtpmap"):
        match = _match(_RTPMAP, value, "a=rtpmap")
        maps.setdefault(_payload_type(match[1]), (match[2], int(match[3]), int(match[4] or 1)))
    parameters: dict[int, str] = {}
    for value in _all(section.attributes, "fmtp"):
        match = _match(_OF_PAYLOAD, value, "a=fmtp")
        parameters.setdefault(_payload_type(match[1]), match[2])
    feedback: dict[int, set[str]] = {}
    of_all: set[str] = set()
    for value in _all(section.attributes, "rtcp-fb"):
        match = _match(_OF_PAYLOAD, value, "a=rtcp-fb")
        named = of_all if match[1] == "*" else feedback.setdefault(_payload_type(match[1]), set())
        named.add(match[2])
    shared = frozenset(of_all)
    return tuple(
        RtpCodec(number, *maps[number], parameters.get(number, ""), shared | feedback.get(number, frozenset()))
        for number in order
        if number in maps
    )


def _read_extensions(attributes: Sequence[Attribute]) -> tuple[ExtensionMap, ...]:
    found: list[ExtensionMap] = []
    for value in _all(attributes, "extmap"):
        match = _match(_EXTMAP, value, "a=extmap")
        found.append(ExtensionMap(int(match[1]), match[3], Direction(match[2]) if match[2] else None))
    if len({each.number for each in found}) != len(found):
        raise SdpError("an m-line gives one extension identifier to two extensions")
    return tuple(found)


def _read_simulcast(attributes: Sequence[Attribute]) -> tuple[Rid, ...]:
    """The layers of `a=simulcast:send`, of alternatives the first; those that no a=rid describes are left out.

    A layer that is bound to payload types (RFC 8851 §5) is left out, too: they may be some that are not accepted.
    """
    described: dict[str, Rid] = {}
    for value in _all(attributes, "rid"):
        match = _match(_RID, value, "a=rid")
        restrictions = match[3] or ""
        if match[2] == "send" and not restrictions.startswith("pt="):
            described.setdefault(match[1], Rid(match[1], restrictions))
    words = _only(attributes, "simulcast").split()
    if len(words) % 2 or any(word not in {"send", "recv"} for word in words[::2]):
        raise SdpError("a=simulcast is malformed")
    streams = dict(zip(words[::2], words[1::2], strict=True)).get("send", "")
    names = [each.partition(",")[0].removeprefix("~") for each in streams.split(";")]
    found = tuple(described[name] for name in dict.fromkeys(names) if name in described)
    if len(found) > MAX_RIDS:
        raise SdpError(f"more than {MAX_RIDS} layers")
    return found


def _read_ssrcs(attributes: Sequence[Attribute]) -> tuple[int, ...]:
    numbers = (_ssrc(_match(_SSRC, value, "a=ssrc")[1]) for value in _all(attributes, "ssrc"))
    found = tuple(dict.fromkeys(numbers))
    if len(found) > MAX_SSRCS:
        raise SdpError(f"more than {MAX_SSRCS} SSRCs of an m-line")
    return found


def _read_groups(attributes: Sequence[Attribute]) -> tuple[tuple[int, int], ...]:
    lines = [value for value in _all(attributes, "ssrc-group") if value.startswith("FID ")]
    if len(lines) > MAX_SSRCS:
        raise SdpError(f"more than {MAX_SSRCS} groups of SSRCs")
    matches = (_match(_FID, line, "a=ssrc-group") for line in lines)
    return tuple((_ssrc(match[1]), _ssrc(match[2])) for match in matches)


def _read_msid(attributes: Sequence[Attribute]) -> tuple[str, str]:
    lines = _all(attributes, "msid")
    if not lines:
        return "", ""
    match = _match(_MSID, lines[0], "a=msid")  # of several streams, the first
    return match[1], match[2] or ""


def _read_fingerprint(line: str) -> tuple[bytes, ...]:
    match = _match(_FINGERPRINT, line, "a=fingerprint")
    if match[1].lower() != "sha-256":
        return ()  # of another hash; one of ours may stand beside it (RFC 8122 §5)
    digest = bytes.fromhex(match[2].replace(":", ""))
    if len(digest) != FINGERPRINT_BYTES:
        raise SdpError(f"a SHA-256 fingerprint of {len(digest)} bytes")
    return (digest,)


def _candidate(at: int, address: TransportAddress) -> str:
    priority = _HOST_TYPE_PREFERENCE << 24 | (_MAX_LOCAL_PREFERENCE - at) << 8 | 255
    return f"{at + 1} 1 udp {priority} {ipaddress.ip_address(address.ip)} {address.port} typ host"


def _payload_type(text: str) -> int:
    if _NUMBER.fullmatch(text) is None or int(text) > _MAX_PAYLOAD_TYPE:
        raise SdpError("a payload type is no number from 0 to 127")
    return int(text)


def _ssrc(text: str) -> int:
    number = int(text)
    if number > _MAX_SSRC:
        raise SdpError("an SSRC has more than 32 bits")
    return number


def _direction(attributes: Sequence[Attribute], default: Direction) -> Direction:
    found = [Direction(name) for name, _ in attributes if name in _DIRECTIONS]
    if len(found) > 1:
        raise SdpError("more than one direction")
    return found[0] if found else default


def _match(pattern: re.Pattern[str], value: str, what: str) -> re.Match[str]:
    match = pattern.fullmatch(value)
    if match is None:
        raise SdpError(f"{what} is malformed")
    return match


def _all(attributes: Sequence[Attribute], name: str) -> list[str]:
    return [each.value for each in attributes if each.name == name]


def _only(attributes: Sequence[Attribute], name: str) -> str:
    found = _all(attributes, name)
    if len(found) > 1:
        raise SdpError(f"more than one a={name}")
    return found[0] if found else ""


def _first(places: Iterable[Sequence[Attribute]], name: str) -> str:
    return next((value for attributes in places if (value := _only(attributes, name))), "")


_DIRECTIONS: Final = frozenset(each.value for each in Direction)
_SETUPS: Final = frozenset(each.value for each in Setup)
