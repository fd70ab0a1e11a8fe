"""The port of the SFU against clients and strangers that send anything. HYPOTHESIS_PROFILE=fuzz turns it up."""

import asyncio
import contextlib
import hashlib
import itertools
import time

from hypothesis import given
from hypothesis import strategies as st

from sfu.ice_lite import CONSENT_SECONDS
from sfu.io.dtls import DtlsAssociation, DtlsCertificate, DtlsRole, build_dtls_context
from sfu.io.mux import bind_udp
from sfu.io.peer_connections import PeerConnections, PeerEvent
from sfu.media_engine import Codec, SessionId
from sfu.sdp.description import SdpError
from sfu.sdp.subscribe import OfferedTrack
from stun.address import TransportAddress
from stun.integrity import IntegrityKey
from stun.message import decode_message, encode_success
from tests.fuzz.test_sdp import mutated_sdp
from tests.support.counting_engine import CountingEngine
from tests.support.ice_client import check
from tests.support.mutations import mutated
from tests.support.peer_client import PASSWORD, PeerClient, credentials_of
from tests.support.udp_endpoint import udp_endpoint

VIDEO = OfferedTrack(Codec.VP8, "s", "v", "c", 1002, 1003)
HELLO = DtlsAssociation(build_dtls_context(DtlsCertificate()), DtlsRole.CLIENT, {bytes(32)}, 0.0).poll_transmit() or b""
MEDIA = bytes.fromhex("806f0001000000000000002a") + bytes(40)
# Nobody listens there: what the port sends to them is lost.
SOURCES = [TransportAddress.parse("127.0.0.1", port) for port in (2, 3, 5)]

steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["publish", "again", "subscribe", "answer", "close", "wait", "dtls", "media"]
            + 3 * ["check", "nominate", "prove"]
        ),
        st.integers(0, 3),
        st.sampled_from(SOURCES),
    ),
    min_size=15,
    max_size=40,
)


class Port:
    """PeerConnections on a real socket, whose datagrams come from the test; and all that clients know of them."""

    def __init__(self, client: PeerClient, data: st.DataObject) -> None:
        self.client = client
        self.data = data
        self.events: list[PeerEvent] = []
        self.descriptions: dict[SessionId, str] = {}
        self.now = time.monotonic()
        sock = bind_udp(TransportAddress.parse("127.0.0.1", 0))
        where = TransportAddress.parse(*sock.getsockname())
        drawn = itertools.count()
        self.peers = PeerConnections(
            CountingEngine,
            [sock],
            [where],
            self.events.append,
            lambda _: None,
            entropy=lambda size: hashlib.shake_256(str(next(drawn)).encode()).digest(size),
        )

    def spoilt(self, datagram: bytes) -> bytes:
        return self.data.draw(mutated(st.just(datagram))) if self.is_spoilt() else datagram

    def spoilt_text(self, text: str) -> str:
        return self.data.draw(mutated_sdp(st.just(text))) if self.is_spoilt() else text

    def is_spoilt(self) -> bool:
        return self.data.draw(st.integers(0, 4)) == 4

    def step(self, action: str, number: int, source: TransportAddress) -> None:
        peers = self.peers
        sessions = list(peers._peers)
        session = sessions[number % len(sessions)] if sessions else None
        match action:
            case "publish":
                publication = peers.publish(self.spoilt_text(self.client.offer()))
                self.descriptions[publication.session] = publication.answer
            case "subscribe":
                subscriber = peers.subscribe()
                peers.add_track(subscriber, VIDEO)
                self.descriptions[subscriber] = peers.offer(subscriber)
            case "wait":
                self.now += 0.1 if number else CONSENT_SECONDS
                peers.sweep(self.now)
            case "media" if (owner := peers._ice._owners.get(source)) is not None:
                if peers._peers[owner].is_connected:
                    peers.engine.receive(owner, self.spoilt(MEDIA), self.now)
            case "dtls" if (owner := peers._ice._owners.get(source)) is not None:
                peers.receive_dtls(owner, memoryview(self.spoilt(HELLO)), self.now)
            case "prove" if (owner := peers._ice._owners.get(source)) is not None:
                transaction_id = peers._ice._agents[owner].pairs[source].transaction_id
                asked = decode_message(check(("them", PASSWORD), transaction_id=transaction_id))
                response = encode_success(asked, key=IntegrityKey(PASSWORD.encode()))
                assert peers.receive_stun(self.spoilt(response), source, self.now) is None
            case _ if session is not None:
                self.step_of(action, session, source)

    def step_of(self, action: str, session: SessionId, source: TransportAddress) -> None:
        peers, description = self.peers, self.descriptions[session]
        match action:
            case "check" | "nominate":
                request = self.spoilt(check(credentials_of(description), nominate=action == "nominate"))
                response = peers.receive_stun(request, source, self.now)
                assert response is None or len(response) < 2 * len(request)
            case "again" if peers._peers[session].negotiation is None:
                self.client.ufrag = self.data.draw(st.sampled_from(["them", "anew"]))
                self.descriptions[session] = peers.publish_again(session, self.spoilt_text(self.client.offer())).answer
            case "again":
                self.descriptions[session] = peers.offer(session, restart_ice=True)
            case "answer" if peers._peers[session].negotiation is not None:
                peers.answer(session, self.spoilt_text(self.client.answer(description)))
            case "close":
                peers.close(session)

    def check(self) -> None:
        """All parts know the same."""
        peers = self.peers
        owners = peers._ice._owners
        assert set(peers._mux._routes) == set(owners)
        assert set(peers._mux._inlets) <= set(peers._peers) == set(peers._ice._agents)
        for session, peer in peers._peers.items():
            assert peer.addresses == {address for address, owner in owners.items() if owner == session}
            assert peer.chosen is None or peer.chosen in peer.addresses
        assert (peers._sweep_timer is not None) is bool(peers._peers)


@given(steps, st.data())
def test_whatever_arrives_at_the_port_all_parts_know_the_same_of_it_and_nothing_is_left_at_the_end(
    script: list[tuple[str, int, TransportAddress]], data: st.DataObject
) -> None:
    async def scene() -> None:
        async with udp_endpoint() as endpoint:
            port = Port(PeerClient(endpoint, ("127.0.0.1", 9)), data)
            try:
                for step in script:
                    with contextlib.suppress(SdpError):
                        port.step(*step)
                    port.check()
                for session in list(port.peers._peers):
                    port.peers.close(session)
                port.check()
                assert not port.peers._ice._owners and not port.peers._ice._by_ufrag
            finally:
                port.peers.stop()

    asyncio.run(scene())
