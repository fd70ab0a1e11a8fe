"""What a client publishes: its offer, and our answer (RFC 8829 §5.3).

Everything flows towards us over one transport (BUNDLE with rtcp-mux). What cannot be forwarded is rejected m-line by
m-line; what contradicts itself rejects the offer.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from sfu.media_engine import Codec, Extensions, Kind, PayloadTypes, UpTrack
from sfu.sdp.description import Attribute, SdpError, Section, SessionDescription, parse_description
from sfu.sdp.media import (
    DISCARD_PORT,
    EXTENSION_FIELDS,
    FEEDBACK,
    MAX_EXTENSION_ID,
    MAX_RIDS,
    PROTOCOL,
    Direction,
    LocalTransport,
    Media,
    RemoteTransport,
    Rid,
    Setup,
    allows_mixed_extensions,
    payload_formats,
    read_bundle,
    read_media,
    read_transport,
    rejected,
    write_payload,
    write_session,
    write_transport,
)

DEFAULT_CODECS: Final = (Codec.OPUS, Codec.VP8)  # in the order in which they are preferred
_ECHOED: Final = ("rtcp-mux", "rtcp-rsize")
_KIND_OF: Final = {Codec.OPUS: Kind.AUDIO, Codec.VP8: Kind.VIDEO, Codec.VP9: Kind.VIDEO}


class PublishedTrack(NamedTuple):
    """An m-line that is accepted."""

    announced: UpTrack
    stream: str  # identifiers of its a=msid, as the client chose them; empty without
    track: str


class PublishOffer(NamedTuple):
    """An offer that can be answered."""

    transport: RemoteTransport
    tracks: tuple[PublishedTrack, ...]
    extensions: Extensions
    accepted: tuple["AcceptedMedia | None", ...]  # for each m-line; None for one that is rejected
    media: tuple[Media, ...]
    bundle: tuple[str, ...]  # mids of the m-lines that are accepted, the tagged one first
    mixed_extensions: bool


class AcceptedMedia(NamedTuple):
    """What is taken of an m-line."""

    direction: Direction  # of the answer
    payloads: tuple[PayloadTypes, ...]
    extensions: tuple[tuple[int, str, Direction], ...]  # identifier, URI and direction, for the answer
    layers: tuple[Rid, ...]


def read_publish_offer(
    text: str, codecs: Sequence[Codec] = DEFAULT_CODECS, agreed: Extensions | None = None
) -> PublishOffer:
    """Read the offer of a client that publishes.

    Args:
        text: the session description.
        codecs: what is forwarded, preferred ones first.
        agreed: header extensions that the session has already: these keep their identifiers, others may be added.

    Raises:
        SdpError: the offer is malformed, wants anything but one transport, or holds nothing that can be forwarded.
    """
    description = parse_description(text)
    media = read_media(description)
    mixed = allows_mixed_extensions(description, media)
    taken = _ExtensionTable(agreed)
    accepted = tuple(_accept(each, codecs, taken) for each in media)
    bundle = read_bundle(description)
    live = {each.mid: each for each, taken_of in zip(media, accepted, strict=True) if taken_of is not None}
    if not live:
        raise SdpError("no m-line can be forwarded")
    if not live.keys() <= set(bundle):
        raise SdpError("an m-line is not in the BUNDLE group")
    if not all(each.has_rtcp_mux for each in live.values()):
        raise SdpError("an m-line does without rtcp-mux")
    order = tuple(mid for mid in bundle if mid in live)
    tracks = tuple(
        _track(each, taken_of)
        for each, taken_of in zip(media, accepted, strict=True)
        if taken_of is not None and taken_of.direction is Direction.RECVONLY
    )
    transport = read_transport(description, live[order[0]].section)
    return PublishOffer(transport, tracks, taken.extensions(), accepted, media, order, mixed)


def write_publish_answer(offer: PublishOffer, local: LocalTransport, session_id: int, version: int) -> str:
    """Write the answer: what was accepted flows to us, over our addresses, and the client begins with DTLS.

    Args:
        offer: what was read.
        local: our transport.
        session_id: of the origin: 64 bits at random, the same in all descriptions of a PeerConnection.
        version: one more than that of the last description.
    """
    setup = Setup.ACTIVE if offer.transport.setup is Setup.PASSIVE else Setup.PASSIVE
    sections = tuple(
        rejected(media.section, media.mid)
        if accepted is None
        else Section(
            media.section.kind,
            DISCARD_PORT,
            PROTOCOL,
            payload_formats(accepted.payloads),
            (
                Attribute("mid", media.mid),
                Attribute(accepted.direction.value),
                *(Attribute(name) for name in _ECHOED if Attribute(name) in media.section.attributes),
                *write_transport(local, setup, with_candidates=media.mid == offer.bundle[0]),
                *_codec_lines(media, accepted),
                *_extension_lines(accepted),
                *_layer_lines(accepted),
            ),
        )
        for media, accepted in zip(offer.media, offer.accepted, strict=True)
    )
    attributes = write_session(offer.bundle, mixed_extensions=offer.mixed_extensions)
    return SessionDescription(session_id, version, attributes, sections).encode()


class _ExtensionTable:
    """Gives every extension one identifier for the whole transport, which all m-lines share (RFC 8843 §9.1)."""

    def __init__(self, agreed: Extensions | None) -> None:
        known: dict[str, int] = {} if agreed is None else agreed._asdict()
        self._numbers = {field: number for field, number in known.items() if number}

    def take(self, media: Media) -> tuple[tuple[int, str, Direction], ...]:
        """The extensions that are accepted of an m-line: known, sent by the client, and without contradiction."""
        found: list[tuple[int, str, Direction]] = []
        for number, uri, direction in media.extensions:
            field = EXTENSION_FIELDS.get(uri)
            sends = (direction or media.direction).sends
            if field is None or not sends or not 1 <= number <= MAX_EXTENSION_ID or not self._fits(field, number):
                continue
            self._numbers[field] = number
            found.append((number, uri, Direction.RECVONLY))
        return tuple(found)

    def extensions(self) -> Extensions:
        """What was accepted."""
        return Extensions(**self._numbers)

    def _fits(self, field: str, number: int) -> bool:
        if field in self._numbers:
            return self._numbers[field] == number
        return number not in self._numbers.values()


def _accept(media: Media, codecs: Sequence[Codec], table: _ExtensionTable) -> AcceptedMedia | None:
    kind = media.kind
    if kind is None or media.is_rejected or media.section.protocol != PROTOCOL:
        return None
    payloads = tuple(
        payload for codec in codecs if _KIND_OF[codec] is kind and (payload := media.payload(codec)) is not None
    )
    if not payloads:
        return None
    direction = Direction.RECVONLY if media.direction.sends else Direction.INACTIVE
    extensions = table.take(media)
    # Without the extension that carries it on packets, nobody could tell the layers apart.
    knows_rid = any(EXTENSION_FIELDS[uri] == "rid" for _, uri, _ in extensions)
    return AcceptedMedia(direction, payloads, extensions, media.rids if knows_rid else ())


def _track(media: Media, accepted: AcceptedMedia) -> PublishedTrack:
    rids = tuple(each.name for each in accepted.layers)
    paired = {ssrc for pair in media.retransmissions for ssrc in pair}
    streams = (*media.retransmissions, *((ssrc,) for ssrc in media.ssrcs if ssrc not in paired))
    # Where layers have names, these stand on the packets; nothing says that SSRCs come in the same order.
    ssrcs = () if rids else streams[:MAX_RIDS]
    announced = UpTrack(_KIND_OF[accepted.payloads[0].codec], media.mid, accepted.payloads, rids, ssrcs)
    return PublishedTrack(announced, *media.msid)


def _codec_lines(media: Media, accepted: AcceptedMedia) -> tuple[Attribute, ...]:
    lines: list[Attribute] = []
    for payload in accepted.payloads:
        offered = media.feedback(payload.primary)
        lines += write_payload(payload, [each for each in FEEDBACK[_KIND_OF[payload.codec]] if each in offered])
    return tuple(lines)


def _extension_lines(accepted: AcceptedMedia) -> tuple[Attribute, ...]:
    return tuple(
        Attribute("extmap", f"{number} {uri}" if direction is accepted.direction else f"{number}/{direction} {uri}")
        for number, uri, direction in accepted.extensions
    )


def _layer_lines(accepted: AcceptedMedia) -> tuple[Attribute, ...]:
    if not accepted.layers:
        return ()
    rids = [Attribute("rid", f"{name} recv {restrictions}".rstrip()) for name, restrictions in accepted.layers]
    return (*rids, Attribute("simulcast", f"recv {';'.join(each.name for each in accepted.layers)}"))
