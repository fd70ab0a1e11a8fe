"""Which SSRC carries what: learnt from MID and RID (RFC 8843 §9.2, RFC 8852), then known by SSRC."""

from collections.abc import Iterator
from typing import Final

from sfu.media_engine import Kind, PayloadTypes, TrackId, UpTrack

MAX_SOURCES: Final = 64  # SSRCs of one session: 8 tracks of 4 layers, each with retransmissions
MAX_TRACKS: Final = 8  # of one session
MAX_LAYERS: Final = 4  # of one track
MAX_CHANGES: Final = 64  # of the SSRCs of one track; each leaves a cache behind, as long as subscribers may ask for it
SILENCE: Final = 2.0  # seconds without a packet after which a layer has stopped; quiet audio sends two a second


class TooManyTracks(ValueError):
    """A publisher announces more than MAX_TRACKS, or a track of more than MAX_LAYERS."""


class Source:
    """An SSRC of a publisher: a layer of a track, or the retransmissions of one."""

    __slots__ = ("heard_at", "is_alive", "is_rtx", "kind", "layer", "payload", "ssrc", "track")

    def __init__(
        self, ssrc: int, track: TrackId, kind: Kind, layer: int, payload: PayloadTypes, *, is_rtx: bool
    ) -> None:
        self.ssrc = ssrc
        self.track = track
        self.kind = kind
        self.layer = layer
        self.payload = payload
        self.is_rtx = is_rtx
        self.heard_at = float("-inf")
        self.is_alive = False

    def hear(self, now: float) -> bool:
        """Note a packet; whether it is the first one, or the first one after a pause."""
        self.heard_at = now
        if self.is_alive:
            return False
        self.is_alive = True
        return True


class LayerTable:
    """The sources of one session."""

    def __init__(self) -> None:
        self._tracks: dict[TrackId, UpTrack] = {}
        self._sources: dict[int, Source] = {}
        self._replaced: dict[TrackId, set[int]] = {}  # SSRCs that others have taken the place of
        self._changes: dict[TrackId, int] = {}
        self.find = self._sources.get  # the source of an SSRC that was learnt, or None: once per packet

    def __iter__(self) -> Iterator[Source]:
        return iter(self._sources.values())

    def expect(self, track: TrackId, announced: UpTrack) -> None:
        """Be ready for what a publisher announced.

        Raises:
            TooManyTracks: there is no room for it.
        """
        layers = max(len(announced.rids), len(announced.ssrcs), 1)
        if (track not in self._tracks and len(self._tracks) >= MAX_TRACKS) or layers > MAX_LAYERS:
            raise TooManyTracks(f"{len(self._tracks)} tracks, {layers} layers")
        self._tracks[track] = announced
        self._replaced[track] = set()
        self._changes[track] = 0

    def forget(self, track: TrackId) -> list[Source]:
        """Expect a track no more; its sources."""
        del self._tracks[track], self._replaced[track], self._changes[track]
        gone = [source for source in self._sources.values() if source.track == track]
        for source in gone:
            del self._sources[source.ssrc]
        return gone

    def learn(
        self, ssrc: int, payload_type: int, mid: bytes = b"", rid: bytes = b"", repaired_rid: bytes = b""
    ) -> Source | None:
        """Find out what a new SSRC carries, by what its first packets say; None if they do not say enough.

        A layer has one SSRC, and one for its retransmissions: a new one takes the place of the one before, whose
        packets are late from then on. An SSRC stays with its layer, and the changes of a track are bounded.

        Args:
            ssrc: the new one.
            payload_type: of the packet.
            mid: its MID, or nothing.
            rid: its RID, or nothing.
            repaired_rid: the RID of the layer that it repairs, or nothing.
        """
        if payload_type == 0:  # stands for "none" in what was announced, and is of no codec that is forwarded
            return None
        track = self._track_of(ssrc, payload_type, mid)
        if track is None:
            return None
        announced = self._tracks[track]
        payload = next((known for known in announced.payloads if payload_type in known[1:]), None)
        if payload is None:
            return None
        is_rtx = payload_type != payload.primary
        layer = _layer_of(announced, ssrc, repaired_rid if is_rtx else rid)
        if layer is None:
            return None
        source = Source(ssrc, track, announced.kind, layer, payload, is_rtx=is_rtx)
        old = self.source_of(track, layer, is_rtx=is_rtx)
        if ssrc in self._replaced[track] or self._sources.get(ssrc, old) is not old:
            return None
        if old is not None:
            if self._changes[track] == MAX_CHANGES:
                return None
            self._changes[track] += 1
            del self._sources[old.ssrc]
            if old.ssrc != ssrc:
                self._replaced[track].add(old.ssrc)
        elif len(self._sources) >= MAX_SOURCES:
            return None
        self._sources[ssrc] = source
        return source

    def _track_of(self, ssrc: int, payload_type: int, mid: bytes) -> TrackId | None:
        if mid:
            text = mid.decode("ascii", "replace")
            return next((track for track, known in self._tracks.items() if known.mid == text), None)
        for track, known in self._tracks.items():
            if any(ssrc in pair for pair in known.ssrcs):
                return track
        # RFC 8843 §9.2: a payload type that only one m-line has names it.
        fitting = [
            track
            for track, known in self._tracks.items()
            if any(payload_type in payload[1:] for payload in known.payloads)
        ]
        return fitting[0] if len(fitting) == 1 else None

    def source_of(self, track: TrackId, layer: int, *, is_rtx: bool = False) -> Source | None:
        """The source of a layer, or of its retransmissions, if it is known."""
        for source in self._sources.values():
            if source.track == track and source.layer == layer and source.is_rtx is is_rtx:
                return source
        return None

    def silent(self, now: float) -> list[Source]:
        """Layers of which nothing came for SILENCE; each is told once."""
        gone = [
            source
            for source in self._sources.values()
            if source.is_alive and not source.is_rtx and now - source.heard_at >= SILENCE
        ]
        for source in gone:
            source.is_alive = False
        return gone


def _layer_of(announced: UpTrack, ssrc: int, rid: bytes) -> int | None:
    if announced.rids:
        text = rid.decode("ascii", "replace")
        if text in announced.rids:
            return announced.rids.index(text)
    for layer, pair in enumerate(announced.ssrcs):
        if ssrc in pair:
            return layer
    return None if announced.rids else 0
