"""An engine and connections that move nothing, and hold whoever drives them to the rules of the real ones."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sfu.media_engine import (
    Codec,
    DownTrack,
    DownTrackId,
    Extensions,
    Kind,
    MediaEvent,
    PayloadTypes,
    SessionId,
    SrtpKeys,
    TrackId,
    UpTrack,
)
from sfu.sdp.description import SdpError
from sfu.sdp.media import RemoteTransport, Setup
from sfu.sdp.publish import PublishedTrack
from sfu.sdp.subscribe import OfferedTrack, SubscribeAnswer
from stun.address import TransportAddress

MALFORMED = "malformed"
_TRANSPORT = RemoteTransport("ufrag", "password", frozenset({b"f"}), Setup.ACTIVE)
OPUS = PayloadTypes(Codec.OPUS, 111)
VP8 = PayloadTypes(Codec.VP8, 96, 97)
RIDS = ("q", "h", "f")


def microphone(mid: str = "0") -> PublishedTrack:
    return PublishedTrack(UpTrack(Kind.AUDIO, mid, (OPUS,)), "s", "m")


def camera(mid: str = "1", rids: tuple[str, ...] = RIDS) -> PublishedTrack:
    return PublishedTrack(UpTrack(Kind.VIDEO, mid, (VP8,), rids), "s", "c")


@dataclass
class FakeEngine:
    """Knows who belongs to whom; what it is not told twice, and never of what it has forgotten."""

    sessions: set[SessionId] = field(default_factory=set)
    ups: dict[TrackId, tuple[SessionId, UpTrack]] = field(default_factory=dict)
    downs: dict[DownTrackId, tuple[SessionId, DownTrack]] = field(default_factory=dict)
    routes: dict[DownTrackId, tuple[TrackId, int, int]] = field(default_factory=dict)
    rates: dict[TrackId, tuple[tuple[float, ...], ...]] = field(default_factory=dict)
    wanted: dict[SessionId, float] = field(default_factory=dict)
    used: dict[SessionId, set[int]] = field(default_factory=dict)  # SSRCs of down tracks, those that have gone too

    def add_session(
        self, session: SessionId, keys: SrtpKeys, address: TransportAddress, extensions: Extensions
    ) -> None: ...

    def set_address(self, session: SessionId, address: TransportAddress | None) -> None: ...

    def set_extensions(self, session: SessionId, extensions: Extensions) -> None: ...

    def remove_session(self, session: SessionId) -> None:
        self.sessions.remove(session)
        for track in [track for track, (owner, _) in self.ups.items() if owner == session]:
            self.remove_up_track(track)
        for down in [down for down, (owner, _) in self.downs.items() if owner == session]:
            self.remove_down_track(down)

    def add_up_track(self, session: SessionId, track: TrackId, announced: UpTrack) -> None:
        assert session in self.sessions and track not in self.ups
        self.ups[track] = (session, announced)

    def remove_up_track(self, track: TrackId) -> None:
        del self.ups[track]
        self.routes = {down: route for down, route in self.routes.items() if route[0] != track}

    def add_down_track(self, session: SessionId, down_track: DownTrackId, announced: DownTrack) -> None:
        assert session in self.sessions and down_track not in self.downs
        # For good: a stream that begins anew under one SSRC begins with numbers that SRTP may have seen already.
        used = self.used.setdefault(session, set())
        ssrcs = {announced.ssrc, announced.rtx_ssrc} - {0}
        assert used.isdisjoint(ssrcs)
        used |= ssrcs
        self.downs[down_track] = (session, announced)

    def remove_down_track(self, down_track: DownTrackId) -> None:
        del self.downs[down_track]
        self.routes.pop(down_track, None)

    def route(self, down_track: DownTrackId, track: TrackId | None, layer: int = 0, max_temporal: int = 7) -> None:
        announced = self.downs[down_track][1]
        if track is None:
            self.routes.pop(down_track, None)
            return
        up = self.ups[track][1]
        assert up.kind is announced.kind and 0 <= layer < max(len(up.rids), 1)
        self.routes[down_track] = (track, layer, max_temporal)

    def receive(self, session: SessionId, datagram: bytes | memoryview, now: float) -> None: ...

    def bitrates(self, track: TrackId, now: float) -> tuple[tuple[float, ...], ...]:  # noqa: ARG002
        layers = max(len(self.ups[track][1].rids), 1)
        return self.rates.get(track, ((),) * layers)

    def want(self, session: SessionId, bits_per_second: float) -> None:
        assert session in self.sessions
        self.wanted[session] = bits_per_second

    def request_key_frame(self, track: TrackId, layer: int, now: float) -> None: ...

    def pump(self, now: float) -> Sequence[MediaEvent]:  # noqa: ARG002
        return ()

    def counters(self) -> Mapping[str, int]:
        return {}


class FakePublication(NamedTuple):
    session: SessionId
    answer: str
    tracks: tuple[PublishedTrack, ...]


@dataclass
class FakeSubscriber:
    lines: dict[str, OfferedTrack] = field(default_factory=dict)
    stopped: set[str] = field(default_factory=set)
    free: int = 0  # m-lines that may be used again
    unanswered: bool = False
    changed: bool = True
    offers: int = 0
    restarts: int = 0


class FakeConnections:
    """Descriptions are the words of a test: an offer names what is published, `offers` says what it means."""

    MAX_LINES = 12

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.offers: dict[str, tuple[PublishedTrack, ...]] = {}
        self.certificates: dict[SessionId, str] = {}  # of publishers; an offer begins with that of its page
        self.subscribers: dict[SessionId, FakeSubscriber] = {}
        self.connected: set[SessionId] = set()
        self.closed: list[SessionId] = []
        self._numbers = itertools.count(1)

    def connect(self, session: SessionId) -> None:
        """What happens before anybody is told that a session is connected."""
        self.engine.sessions.add(session)
        self.connected.add(session)

    def lose(self, session: SessionId) -> None:
        """What happens before anybody is told that a session is over."""
        self.certificates.pop(session, None)
        self.subscribers.pop(session, None)
        if session in self.connected:
            self.connected.remove(session)
            self.engine.remove_session(session)

    def publish(self, offer: str) -> FakePublication:
        if offer not in self.offers:
            raise SdpError(offer)
        session = SessionId(next(self._numbers))
        self.certificates[session] = offer.partition(" ")[0]
        return FakePublication(session, f"answer to {offer}", self.offers[offer])

    def publish_again(self, session: SessionId, offer: str) -> FakePublication:
        if offer not in self.offers or self.certificates[session] != offer.partition(" ")[0]:
            raise SdpError(offer)
        return FakePublication(session, f"answer to {offer}", self.offers[offer])

    def subscribe(self) -> SessionId:
        session = SessionId(next(self._numbers))
        self.subscribers[session] = FakeSubscriber()
        return session

    def add_track(self, session: SessionId, track: OfferedTrack) -> str:
        subscriber = self.subscribers[session]
        if subscriber.free:
            subscriber.free -= 1
        elif len(subscriber.lines) + len(subscriber.stopped) == self.MAX_LINES:
            raise ValueError("full")
        mid = str(next(self._numbers))
        subscriber.lines[mid] = track
        subscriber.changed = True
        return mid

    def remove_track(self, session: SessionId, mid: str) -> None:
        subscriber = self.subscribers[session]
        del subscriber.lines[mid]
        subscriber.stopped.add(mid)
        subscriber.changed = True

    def needs_offer(self, session: SessionId) -> bool:
        return self.subscribers[session].changed

    def offer(self, session: SessionId, *, restart_ice: bool = False) -> str:
        subscriber = self.subscribers[session]
        subscriber.changed = False
        subscriber.unanswered = True
        subscriber.offers += 1
        subscriber.restarts += restart_ice
        return f"offer {subscriber.offers} of {session}"

    def answer(self, session: SessionId, text: str) -> SubscribeAnswer:
        subscriber = self.subscribers[session]
        assert subscriber.unanswered
        if text == MALFORMED:
            raise SdpError(text)
        subscriber.unanswered = False
        subscriber.free += len(subscriber.stopped)
        subscriber.stopped.clear()
        refused = tuple(mid for mid in text.split() if mid in subscriber.lines)
        agreed = tuple(
            DownTrack(
                Kind.AUDIO if line.codec is Codec.OPUS else Kind.VIDEO,
                mid,
                OPUS if line.codec is Codec.OPUS else VP8,
                line.ssrc,
                line.rtx_ssrc,
            )
            for mid, line in subscriber.lines.items()
            if mid not in refused
        )
        return SubscribeAnswer(_TRANSPORT, agreed, refused)

    def close(self, session: SessionId) -> None:
        assert session in self.certificates or session in self.subscribers
        self.closed.append(session)
        self.lose(session)
