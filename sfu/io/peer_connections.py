"""PeerConnections: session descriptions, ICE, DTLS and one UDP port, bound together around a media engine.

A client has two: one that it publishes with (it offers) and one that it is sent to (we offer), so that two offers never
cross. Everything runs on the thread of the event loop. Whoever is told of an event may call back into this class.
"""

import asyncio
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from sfu.ice_lite import (
    CREDENTIAL_ENTROPY_BYTES,
    AddressChosen,
    AddressGone,
    AddressValid,
    CheckDue,
    ConsentLost,
    IceCredentials,
    IceEvent,
    IceLite,
)
from sfu.io.dtls import (
    DtlsAssociation,
    DtlsCertificate,
    DtlsFault,
    DtlsRole,
    DtlsState,
    build_dtls_context,
)
from sfu.io.mux import UdpMux
from sfu.io.optional import EXPRESS
from sfu.media_engine import Codec, Extensions, MediaEngine, MediaEvent, SessionId
from sfu.rate_limit import RateLimit
from sfu.sdp.description import SdpError
from sfu.sdp.media import LocalTransport, RemoteTransport, Setup
from sfu.sdp.publish import DEFAULT_CODECS, PublishedTrack, read_publish_offer, write_publish_answer
from sfu.sdp.subscribe import OFFERED_EXTENSIONS, OfferedTrack, SubscribeAnswer, SubscribeNegotiation
from stun.address import TransportAddress

MAX_SESSIONS: Final = 1000  # of a worker, which runs out of CPU long before
PUMP_SECONDS: Final = 0.01  # how often the engine may do what is due
SWEEP_SECONDS: Final = 0.1  # how often deadlines and retransmissions of ICE and DTLS are looked after
MAX_EARLY_DATAGRAMS: Final = 4  # of DTLS, before the client's answer has come: the ClientHello may be faster
DTLS_PER_SECOND: Final = 50.0  # datagrams of one session; after the handshake there should be none
DTLS_AT_ONCE: Final = 200

_ICE_SECRET_BYTES: Final = 32
_SESSION_ID_BYTES: Final = 8
_SESSION_ID_BITS: Final = 63  # RFC 8829 §5.2.1: the highest of the 64 is zero


class TooManySessionsError(RuntimeError):
    """There are MAX_SESSIONS already."""


class FailureReason(StrEnum):
    """Why a PeerConnection failed; a bounded set, fit for a metric label."""

    ICE = "ice"  # no check for as long as consent lasts: never reachable, or not any more
    DTLS_TIMEOUT = "dtls_timeout"
    DTLS_PROTOCOL = "dtls_protocol"
    DTLS_FINGERPRINT = "dtls_fingerprint"
    DTLS_NO_SRTP = "dtls_no_srtp"


@dataclass(frozen=True, slots=True)
class Connected:
    """ICE and DTLS are done; the engine knows the session and its keys."""

    session: SessionId


@dataclass(frozen=True, slots=True)
class Failed:
    """The session is over because something went wrong; nobody knows it any more."""

    session: SessionId
    reason: FailureReason


@dataclass(frozen=True, slots=True)
class Closed:
    """The session is over because the client has said farewell; nobody knows it any more."""

    session: SessionId


PeerEvent = Connected | Failed | Closed
Send = Callable[[bytes | memoryview, TransportAddress], None]


class Publication(NamedTuple):
    """What became of an offer of a publisher."""

    session: SessionId
    answer: str
    tracks: tuple[PublishedTrack, ...]


_REASONS: Final = {
    DtlsFault.TIMEOUT: FailureReason.DTLS_TIMEOUT,
    DtlsFault.PROTOCOL: FailureReason.DTLS_PROTOCOL,
    DtlsFault.FINGERPRINT: FailureReason.DTLS_FINGERPRINT,
    DtlsFault.NO_SRTP: FailureReason.DTLS_NO_SRTP,
}


class _Peer:
    """One PeerConnection."""

    def __init__(self, session: SessionId, credentials: IceCredentials, description_id: int) -> None:
        self.session = session
        self.credentials = credentials
        self.description_id = description_id  # of the origin line
        self.version = 0  # of our last answer
        self.extensions = Extensions()
        self.negotiation: SubscribeNegotiation | None = None  # of a subscriber
        self.remote: RemoteTransport | None = None
        self.association: DtlsAssociation | None = None
        self.early: list[bytes] = []
        self.addresses: set[TransportAddress] = set()
        self.chosen: TransportAddress | None = None
        self.is_connected = False

    def agreed(self) -> Extensions | None:
        """What the engine was told when the session connected; None before."""
        return self.extensions if self.is_connected else None


class PeerConnections:
    """The PeerConnections of a worker."""

    def __init__(
        self,
        make_engine: Callable[[Send], MediaEngine],
        sockets: Sequence[socket.socket],
        candidates: Sequence[TransportAddress],
        on_event: Callable[[PeerEvent], None],
        on_media: Callable[[Sequence[MediaEvent]], None],
        codecs: Sequence[Codec] = DEFAULT_CODECS,
        entropy: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """Begin to receive; an event loop has to run.

        Args:
            make_engine: makes what forwards the media, out of what it shall send with.
            sockets: from `bind_udp`, at most one for each address family; `stop` closes them.
            candidates: where clients reach them, preferred addresses first.
            on_event: hears what becomes of sessions.
            on_media: hears what the engine tells.
            codecs: what publishers may send, preferred ones first.
            entropy: makes so many random bytes.
        """
        gathering = None
        if EXPRESS is not None:
            descriptors = {each.family: each.fileno() for each in sockets}
            gathering = EXPRESS.Outbox(
                self.send, descriptors.get(socket.AF_INET, -1), descriptors.get(socket.AF_INET6, -1)
            )
        self.engine: Final = make_engine(self.send if gathering is None else gathering)
        self._candidates = tuple(candidates)
        self._on_event = on_event
        self._on_media = on_media
        self._codecs = tuple(codecs)
        self._entropy = entropy
        self._ice = IceLite(entropy(_ICE_SECRET_BYTES))
        self._dtls_limit = RateLimit[SessionId](DTLS_PER_SECOND, DTLS_AT_ONCE, MAX_SESSIONS)
        certificate = DtlsCertificate()
        self._context = build_dtls_context(certificate)
        self._fingerprint = certificate.fingerprint
        self._peers: dict[SessionId, _Peer] = {}
        self._next_session = 1
        self.dropped_dtls = 0  # datagrams beyond the limit, of a wrong length, or too early
        self._mux = UdpMux(sockets, self, self.engine.receive, gathering)
        self._loop = asyncio.get_running_loop()
        self._pump_timer: asyncio.TimerHandle | None = None  # without sessions nothing is ever due
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._drains_ice = False

    def __len__(self) -> int:
        return len(self._peers)

    def counters(self) -> dict[str, int]:
        """Datagrams by what became of them, of the port, of ICE and of DTLS; the names never change."""
        named = {f"mux_{count}": value for count, value in self._mux.counts.items()}
        named |= {f"ice_{count}": value for count, value in self._ice.counts.items()}
        return named | {"dtls_dropped": self.dropped_dtls}

    def send(self, datagram: bytes | memoryview, address: TransportAddress) -> None:
        """Send to an address that the engine was told of (`add_session`, `set_address`)."""
        self._mux.send(datagram, address)

    def publish(self, offer: str) -> Publication:
        """Make a PeerConnection for the offer of a publisher.

        Raises:
            SdpError: the offer is not accepted.
            TooManySessionsError: there are MAX_SESSIONS.
        """
        read = read_publish_offer(offer, self._codecs)
        peer = self._add_peer()
        self._set_remote(peer, read.transport)
        peer.extensions = read.extensions
        peer.version = 1
        answer = write_publish_answer(read, self._local(peer), peer.description_id, peer.version)
        return Publication(peer.session, answer, read.tracks)

    def publish_again(self, session: SessionId, offer: str) -> Publication:
        """Answer a later offer of a publisher: other tracks, or new ICE credentials after a change of network.

        Header extensions that a session has keep their identifiers; an offer may add others.

        Raises:
            KeyError: there is no such publisher.
            SdpError: the offer is not accepted, or comes with another certificate. The session stays as it was.
        """
        peer = self._peers[session]
        if peer.negotiation is not None or peer.remote is None:
            raise KeyError(session)
        read = read_publish_offer(offer, self._codecs, peer.agreed())
        if not peer.remote.fingerprints & read.transport.fingerprints:
            raise SdpError("the certificate is another one than before")
        # Who once waited for our ClientHello goes on waiting (RFC 8842 §5.5).
        transport = read.transport._replace(setup=peer.remote.setup)
        if transport.ufrag != peer.remote.ufrag:
            peer.credentials = self._ice.restart(session, self._entropy(CREDENTIAL_ENTROPY_BYTES), time.monotonic())
            self._ice.set_remote(session, IceCredentials(transport.ufrag, transport.password))
            self._drain_ice()
        peer.remote = transport
        if peer.is_connected and read.extensions != peer.extensions:
            self.engine.set_extensions(session, read.extensions)
        peer.extensions = read.extensions
        peer.version += 1
        read = read._replace(transport=transport)
        answer = write_publish_answer(read, self._local(peer), peer.description_id, peer.version)
        return Publication(session, answer, read.tracks)

    def subscribe(self) -> SessionId:
        """Make a PeerConnection for a subscriber; `offer` has what it must be told.

        Raises:
            TooManySessionsError: there are MAX_SESSIONS.
        """
        peer = self._add_peer()
        peer.extensions = OFFERED_EXTENSIONS
        peer.negotiation = SubscribeNegotiation(peer.description_id)
        return peer.session

    def add_track(self, session: SessionId, track: OfferedTrack) -> str:
        """Tell a subscriber of a track with the next offer; returns its mid.

        Raises:
            KeyError: there is no such subscriber.
            ValueError: it has as many tracks as it can have.
        """
        return self._negotiation(session).add(track)

    def remove_track(self, session: SessionId, mid: str) -> None:
        """Take a track away from a subscriber with the next offer.

        Raises:
            KeyError: there is no such subscriber, or no such track.
        """
        self._negotiation(session).remove(mid)

    def needs_offer(self, session: SessionId) -> bool:
        """Whether something has changed since the last offer.

        Raises:
            KeyError: there is no such subscriber.
        """
        return self._negotiation(session).needs_offer

    def offer(self, session: SessionId, *, restart_ice: bool = False) -> str:
        """The offer for a subscriber; wait for its answer before the next one.

        Args:
            session: of a subscriber.
            restart_ice: new credentials, for a client that has changed its network.

        Raises:
            KeyError: there is no such subscriber.
        """
        negotiation = self._negotiation(session)
        peer = self._peers[session]
        if restart_ice:
            peer.credentials = self._ice.restart(session, self._entropy(CREDENTIAL_ENTROPY_BYTES), time.monotonic())
        return negotiation.offer(self._local(peer))

    def answer(self, session: SessionId, text: str) -> SubscribeAnswer:
        """Take the answer of a subscriber.

        Raises:
            KeyError: there is no such subscriber.
            SdpError: the answer does not fit the last offer, or comes with another certificate.
        """
        negotiation = self._negotiation(session)
        peer = self._peers[session]
        answer = negotiation.answer(text, None if peer.association is None else peer.association.fingerprints)
        self._set_remote(peer, answer.transport)
        return answer

    def close(self, session: SessionId) -> None:
        """End a session, and say farewell.

        Raises:
            KeyError: there is no such session.
        """
        peer = self._peers[session]
        if peer.association is not None:
            peer.association.close()
            self._send_dtls(peer)
        self._remove(peer)

    def stop(self) -> None:
        """End all sessions and close the sockets."""
        for session in list(self._peers):
            self.close(session)
        self._mux.close()

    def receive_stun(self, datagram: bytes, source: TransportAddress, now: float) -> bytes | None:
        """Take a STUN message; returns what to send back (`MuxHandler`)."""
        response = self._ice.receive(datagram, source, now)
        self._drain_ice()
        return response

    def receive_dtls(self, session: SessionId, datagram: memoryview, now: float) -> None:
        """Take a DTLS datagram from an address of a session (`MuxHandler`)."""
        peer = self._peers[session]
        if not self._dtls_limit.admits(session, now):
            self.dropped_dtls += 1
        elif peer.association is not None:
            if not peer.association.receive(datagram):
                self.dropped_dtls += 1
            self._settle_dtls(peer)
        elif len(peer.early) < MAX_EARLY_DATAGRAMS:
            peer.early.append(bytes(datagram))
        else:
            self.dropped_dtls += 1

    def _add_peer(self) -> _Peer:
        if len(self._peers) >= MAX_SESSIONS:
            raise TooManySessionsError(f"{MAX_SESSIONS} sessions")
        session = SessionId(self._next_session)
        credentials = self._ice.add(session, self._entropy(CREDENTIAL_ENTROPY_BYTES), time.monotonic())
        self._next_session += 1
        description_id = int.from_bytes(self._entropy(_SESSION_ID_BYTES)) & (1 << _SESSION_ID_BITS) - 1
        peer = self._peers[session] = _Peer(session, credentials, description_id)
        if self._pump_timer is None:
            self._pump_timer = self._loop.call_later(PUMP_SECONDS, self._on_pump)
            self._sweep_timer = self._loop.call_later(SWEEP_SECONDS, self._on_sweep)
        return peer

    def _negotiation(self, session: SessionId) -> SubscribeNegotiation:
        negotiation = self._peers[session].negotiation
        if negotiation is None:
            raise KeyError(session)
        return negotiation

    def _local(self, peer: _Peer) -> LocalTransport:
        return LocalTransport(*peer.credentials, self._fingerprint, self._candidates)

    def _set_remote(self, peer: _Peer, transport: RemoteTransport) -> None:
        peer.remote = transport
        self._ice.set_remote(peer.session, IceCredentials(transport.ufrag, transport.password))
        self._drain_ice()
        if peer.association is None:
            self._begin_dtls(peer)

    def _begin_dtls(self, peer: _Peer) -> None:
        """Begin when it is known with whom and where: whom ICE does not find has not been slow to shake hands."""
        if peer.remote is None or peer.association is not None or peer.chosen is None:
            return
        role = DtlsRole.CLIENT if peer.remote.setup is Setup.PASSIVE else DtlsRole.SERVER
        peer.association = DtlsAssociation(self._context, role, peer.remote.fingerprints, time.monotonic())
        for datagram in peer.early:
            peer.association.receive(datagram)
        peer.early.clear()
        self._settle_dtls(peer)

    def _settle_dtls(self, peer: _Peer) -> None:
        """Send what the association has to say, and tell what has become of it."""
        association = peer.association
        if association is None:
            return
        self._send_dtls(peer)
        if association.keys is not None and not peer.is_connected and peer.chosen is not None:
            peer.is_connected = True
            self.engine.add_session(peer.session, association.keys, peer.chosen, peer.extensions)
            for address in peer.addresses:
                self._mux.admit_media(address)
            self._on_event(Connected(peer.session))
        if association.state is DtlsState.FAILED and association.fault is not None:
            self._end(peer, Failed(peer.session, _REASONS[association.fault]))
        elif association.state is DtlsState.CLOSED:
            self._end(peer, Closed(peer.session))

    def _send_dtls(self, peer: _Peer) -> None:
        if peer.association is None:
            return
        while (datagram := peer.association.poll_transmit()) is not None:
            if peer.chosen is not None:
                self._mux.send(datagram, peer.chosen)

    def _drain_ice(self) -> None:
        """Take all events, one after the other: who hears of the end of one session finds the others as they were."""
        if self._drains_ice:
            return  # further out, and goes on with what has come meanwhile
        self._drains_ice = True
        try:
            while (event := self._ice.poll_event()) is not None:
                self._take_ice_event(event)
        finally:
            self._drains_ice = False

    def _take_ice_event(self, event: IceEvent) -> None:
        peer = self._peers.get(event.session)
        match event:
            case AddressValid():
                self._mux.admit(event.address, event.session)
                if peer is not None:
                    peer.addresses.add(event.address)
                    if peer.is_connected:
                        self._mux.admit_media(event.address)
            case AddressGone():
                self._mux.forget(event.address)
                if peer is not None:
                    peer.addresses.discard(event.address)
                    if peer.chosen == event.address:
                        peer.chosen = None
                        if peer.is_connected:
                            self.engine.set_address(peer.session, None)
            case AddressChosen() if peer is not None:
                peer.chosen = event.address
                if peer.is_connected:
                    self.engine.set_address(peer.session, event.address)
                self._begin_dtls(peer)
            case CheckDue():
                self._mux.send(event.datagram, event.address)
            case ConsentLost() if peer is not None:
                self._end(peer, Failed(peer.session, FailureReason.ICE))

    def _end(self, peer: _Peer, event: Failed | Closed) -> None:
        if self._peers.get(peer.session) is peer:  # the one who heard of it may have closed it already
            self._remove(peer)
            self._on_event(event)

    def _remove(self, peer: _Peer) -> None:
        del self._peers[peer.session]
        if peer.is_connected:
            self.engine.remove_session(peer.session)
        self._ice.remove(peer.session)
        self._drain_ice()
        self._mux.forget_session(peer.session)
        if not self._peers and self._pump_timer is not None and self._sweep_timer is not None:
            self._pump_timer.cancel()
            self._sweep_timer.cancel()
            self._pump_timer = self._sweep_timer = None

    def _on_pump(self) -> None:
        self._pump_timer = self._loop.call_later(PUMP_SECONDS, self._on_pump)
        events = self.engine.pump(time.monotonic())
        self._mux.flush()
        if events:
            self._on_media(events)

    def _on_sweep(self) -> None:
        self._sweep_timer = self._loop.call_later(SWEEP_SECONDS, self._on_sweep)
        self.sweep(time.monotonic())

    def sweep(self, now: float) -> None:
        """End what has outlived its time, and retransmit what was not answered.

        Args:
            now: monotonic time, in seconds.
        """
        self._ice.handle_timeout(now)
        self._drain_ice()
        for peer in list(self._peers.values()):
            is_known = self._peers.get(peer.session) is peer  # what was told of another one may have ended it
            if is_known and peer.association is not None:
                peer.association.handle_timeout(now)
                self._settle_dtls(peer)
