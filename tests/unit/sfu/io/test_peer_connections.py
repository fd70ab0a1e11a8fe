import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from sfu import ice_lite
from sfu.ice_lite import IceCount
from sfu.io import peer_connections
from sfu.io.dtls import HANDSHAKE_SECONDS, DtlsRole, DtlsState
from sfu.io.mux import bind_udp
from sfu.io.peer_connections import (
    Closed,
    Connected,
    Failed,
    FailureReason,
    PeerConnections,
    PeerEvent,
    TooManySessionsError,
)
from sfu.media_engine import Codec, Loudness, MediaEvent, SessionId, TrackId
from sfu.sdp.description import SdpError
from sfu.sdp.subscribe import OFFERED_EXTENSIONS, OfferedTrack
from stun.address import TransportAddress
from stun.registry import MessageClass
from tests.support.counting_engine import CountingEngine
from tests.support.peer_client import RTP, PeerClient
from tests.support.udp_endpoint import PATIENCE, UdpEndpoint, udp_endpoint

VP8 = OfferedTrack(Codec.VP8, "s1", "v1", "c1", 1002, 1003)


class Worker:
    """PeerConnections over a loopback port, and what they tell."""

    def __init__(self, ip: str = "127.0.0.1") -> None:
        self.events: asyncio.Queue[PeerEvent] = asyncio.Queue()
        self.media: asyncio.Queue[Sequence[MediaEvent]] = asyncio.Queue()
        self.known: list[int] = []  # sessions that there were at each event
        sock = bind_udp(TransportAddress.parse(ip, 0))
        self.where: tuple[str, int] = sock.getsockname()[:2]
        self.peers = PeerConnections(
            CountingEngine,
            [sock],
            [TransportAddress.parse(*self.where)],
            self._tell,
            self.media.put_nowait,
        )

    def _tell(self, event: PeerEvent) -> None:
        self.known.append(len(self.peers))
        self.events.put_nowait(event)

    @property
    def engine(self) -> CountingEngine:
        assert isinstance(self.peers.engine, CountingEngine)
        return self.peers.engine

    async def event(self) -> PeerEvent:
        async with asyncio.timeout(PATIENCE):
            return await self.events.get()

    async def has(self, fact: Callable[[], bool]) -> None:
        """Until the packets that were sent have arrived."""
        async with asyncio.timeout(PATIENCE):
            while not fact():  # noqa: ASYNC110  # what arrives gives no other sign
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def meeting(ip: str = "127.0.0.1") -> AsyncIterator[tuple[Worker, PeerClient]]:
    worker = Worker(ip)
    try:
        async with udp_endpoint(ip) as endpoint:
            yield worker, PeerClient(endpoint, worker.where)
    finally:
        worker.peers.stop()


def address_of(endpoint: UdpEndpoint) -> TransportAddress:
    return TransportAddress.parse(*endpoint.address)


async def published(worker: Worker, client: PeerClient) -> tuple[SessionId, str]:
    publication = worker.peers.publish(client.offer())
    await client.connect(publication.answer)
    assert await worker.event() == Connected(publication.session)
    return publication.session, publication.answer


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
async def test_a_publisher_connects_and_its_packets_are_authentic(ip: str) -> None:
    async with meeting(ip) as (worker, client):
        publication = worker.peers.publish(client.offer())
        assert [track.announced.mid for track in publication.tracks] == ["0", "1"]
        await client.connect(publication.answer)
        assert await worker.event() == Connected(publication.session)
        assert worker.engine.addresses[publication.session] == [address_of(client.endpoint)]
        assert worker.engine.extensions[publication.session].dependency_descriptor == 12
        client.endpoint.send(client.protect(), worker.where)
        await worker.has(lambda: worker.engine.counts["rtp"] == 1)
        assert worker.engine.plain[publication.session] == [RTP]


async def test_what_the_engine_sends_reaches_the_client() -> None:
    async with meeting() as (worker, client):
        session, _ = await published(worker, client)
        address = worker.engine.addresses[session][-1]
        assert address is not None
        worker.engine.send(b"\x80 from the engine", address)
        while (datagram := await client.endpoint.receive())[0] != 0x80:
            pass
        assert datagram == b"\x80 from the engine"


@pytest.mark.parametrize(("setup", "role"), [("active", DtlsRole.CLIENT), ("passive", DtlsRole.SERVER)])
async def test_a_subscriber_connects_whoever_begins_with_dtls(setup: str, role: DtlsRole) -> None:
    async with meeting() as (worker, client):
        session = worker.peers.subscribe()
        mid = worker.peers.add_track(session, VP8)
        offer = worker.peers.offer(session)
        answer = worker.peers.answer(session, client.answer(offer, setup=setup))
        assert [track.mid for track in answer.tracks] == [mid]
        client.begin_dtls(offer, role)
        assert (await client.check(offer)).message_class is MessageClass.SUCCESS
        client.send_dtls()
        await client.finish_dtls()
        assert await worker.event() == Connected(session)
        assert worker.engine.extensions[session] == OFFERED_EXTENSIONS


async def test_checks_and_dtls_may_be_faster_than_the_answer() -> None:
    async with meeting() as (worker, client):
        session = worker.peers.subscribe()
        offer = worker.peers.offer(session)
        await client.check(offer)
        client.begin_dtls(offer)
        await worker.has(lambda: worker.peers.counters()["mux_dtls"] == client.sent_dtls)
        worker.peers.answer(session, client.answer(offer))
        assert client.association is not None
        client.association.receive(await client.endpoint.receive())  # without another ClientHello
        client.send_dtls()
        await client.finish_dtls()
        assert await worker.event() == Connected(session)


async def test_only_so_much_dtls_waits_for_the_answer() -> None:
    async with meeting() as (worker, client):
        offer = worker.peers.offer(worker.peers.subscribe())
        await client.check(offer)
        sent = peer_connections.MAX_EARLY_DATAGRAMS + 2
        for _ in range(sent):
            client.endpoint.send(b"\x16\xfe\xfd" + bytes(40), worker.where)
        await worker.has(lambda: worker.peers.counters()["mux_dtls"] == sent)
        assert worker.peers.dropped_dtls == 2


async def test_lost_flights_are_repeated() -> None:
    async with meeting() as (worker, client):
        lossy = PeerClient(client.endpoint, worker.where, loses=lambda number: number in {1, 3})
        await published(worker, lossy)
        assert lossy.association is not None and lossy.association.state is DtlsState.CONNECTED


async def test_a_certificate_that_was_not_announced_is_refused() -> None:
    async with meeting() as (worker, client):
        publication = worker.peers.publish(client.offer())
        client.certificate = PeerClient(client.endpoint, worker.where).certificate
        await client.connect(publication.answer)
        assert await worker.event() == Failed(publication.session, FailureReason.DTLS_FINGERPRINT)
        assert worker.engine.keys == {}
        assert len(worker.peers) == 0


async def test_a_farewell_of_the_client_closes_the_session() -> None:
    async with meeting() as (worker, client):
        session, _ = await published(worker, client)
        client.say_farewell()
        assert await worker.event() == Closed(session)
        assert worker.engine.removed == [session]
        client.endpoint.send(client.protect(), worker.where)
        await worker.has(lambda: worker.peers.counters()["mux_unknown_source"] == 1)


async def test_a_client_hears_when_its_session_is_closed() -> None:
    async with meeting() as (worker, client):
        session, answer = await published(worker, client)
        worker.peers.close(session)
        await client.hear_farewell()
        assert worker.engine.removed == [session]
        client.send_check(answer)
        await worker.has(lambda: worker.peers.counters()[f"ice_{IceCount.UNKNOWN_USER}"] == 1)
        with pytest.raises(KeyError):
            worker.peers.close(session)


async def test_a_client_that_never_comes_fails_when_its_time_is_over() -> None:
    async with meeting() as (worker, client):
        session = worker.peers.publish(client.offer()).session
        began_at = time.monotonic()
        worker.peers.sweep(began_at + HANDSHAKE_SECONDS)  # there was no handshake that could have been too slow
        worker.peers.sweep(began_at + ice_lite.CONSENT_SECONDS)
        assert await worker.event() == Failed(session, FailureReason.ICE)
        assert len(worker.peers) == 0


async def test_a_client_that_falls_silent_fails_when_its_consent_is_over() -> None:
    async with meeting() as (worker, client):
        session, _ = await published(worker, client)
        worker.peers.sweep(time.monotonic() + ice_lite.CONSENT_SECONDS)
        assert await worker.event() == Failed(session, FailureReason.ICE)
        assert worker.engine.removed == [session]


async def test_of_several_that_fail_in_one_moment_each_is_told_before_the_next_one_is_gone() -> None:
    # Whoever hears of the first one asks about the others: the engine has them, or their end was told.
    async with meeting() as (worker, client):
        sessions = [worker.peers.publish(client.offer()).session for _ in range(3)]
        worker.peers.sweep(time.monotonic() + ice_lite.CONSENT_SECONDS)
        assert [await worker.event() for _ in sessions] == [Failed(each, FailureReason.ICE) for each in sessions]
        assert worker.known == [2, 1, 0]


async def test_a_client_that_changes_its_address_keeps_its_session() -> None:
    async with meeting() as (worker, client), udp_endpoint() as elsewhere:
        session, answer = await published(worker, client)
        home, client.endpoint = client.endpoint, elsewhere
        await client.check(answer)
        await worker.has(lambda: worker.engine.addresses[session] == [address_of(home), address_of(elsewhere)])
        elsewhere.send(client.protect(), worker.where)
        await worker.has(lambda: worker.engine.plain[session] == [RTP])


async def test_a_client_cannot_point_what_it_is_sent_at_somebody_who_does_not_answer() -> None:
    async with meeting() as (worker, client), udp_endpoint() as victim:
        session, answer = await published(worker, client)
        home, client.endpoint = client.endpoint, victim
        for _ in range(3):
            await client.check(answer, proves=False)
        client.endpoint = home
        assert (await client.check(answer, nominate=False)).message_class is MessageClass.SUCCESS
        assert worker.engine.addresses[session] == [address_of(home)]


async def test_a_restart_of_ice_by_the_publisher_keeps_session_and_keys() -> None:
    async with meeting() as (worker, client), udp_endpoint() as elsewhere:
        session, first = await published(worker, client)
        client.ufrag = "anew"
        second = worker.peers.publish_again(session, client.offer())
        assert second.session == session
        assert second.answer != first
        client.endpoint = elsewhere
        await client.check(second.answer)
        await worker.has(lambda: worker.engine.addresses[session][-1] == address_of(elsewhere))
        assert worker.engine.removed == []
        client.send_check(first)
        await worker.has(lambda: worker.peers.counters()[f"ice_{IceCount.UNKNOWN_USER}"] == 1)


async def test_a_later_offer_without_a_restart_keeps_the_credentials() -> None:
    async with meeting() as (worker, client):
        session, first = await published(worker, client)
        offer = client.offer().replace("a=sendonly", "a=inactive")
        second = worker.peers.publish_again(session, offer)
        assert second.tracks == ()
        assert [line for line in second.answer.split("\r\n") if "ice-" in line] == [
            line for line in first.split("\r\n") if "ice-" in line
        ]
        assert " 2 IN IP4 " in second.answer.split("\r\n")[1]


async def test_a_restart_of_ice_for_a_subscriber_keeps_session_and_keys() -> None:
    async with meeting() as (worker, client), udp_endpoint() as elsewhere:
        session = worker.peers.subscribe()
        offer = worker.peers.offer(session)
        worker.peers.answer(session, client.answer(offer))
        await client.connect(offer)
        assert await worker.event() == Connected(session)
        offer = worker.peers.offer(session, restart_ice=True)
        client.ufrag = "anew"
        worker.peers.answer(session, client.answer(offer))
        client.endpoint = elsewhere
        await client.check(offer)
        await worker.has(lambda: worker.engine.addresses[session][-1] == address_of(elsewhere))
        assert worker.engine.removed == []


async def test_a_later_description_with_another_certificate_is_refused_and_changes_nothing() -> None:
    async with meeting() as (worker, client):
        session, answer = await published(worker, client)
        stranger = PeerClient(client.endpoint, worker.where)
        stranger.ufrag = "anew"
        with pytest.raises(SdpError, match="certificate"):
            worker.peers.publish_again(session, stranger.offer())
        assert (await client.check(answer)).message_class is MessageClass.SUCCESS


async def test_the_engine_of_a_live_session_hears_of_extensions_that_a_later_offer_adds() -> None:
    async with meeting() as (worker, client):
        first = client.offer().replace("a=extmap:12 ", "a=extmap:12 x:")
        publication = worker.peers.publish(first)
        await client.connect(publication.answer)
        assert await worker.event() == Connected(publication.session)
        before = worker.engine.extensions[publication.session]
        assert before.dependency_descriptor == 0
        assert "dependency-descriptor" in worker.peers.publish_again(publication.session, client.offer()).answer
        assert worker.engine.extensions[publication.session] == before._replace(dependency_descriptor=12)
        # What was agreed stays, also where a later offer does not name it or gives its identifier away.
        worker.peers.publish_again(publication.session, first.replace("a=extmap:1 ", "a=extmap:12 "))
        assert worker.engine.extensions[publication.session] == before._replace(dependency_descriptor=12)


async def test_a_publisher_is_no_subscriber() -> None:
    async with meeting() as (worker, client):
        publisher, subscriber = worker.peers.publish(client.offer()).session, worker.peers.subscribe()
        with pytest.raises(KeyError):
            worker.peers.offer(publisher)
        with pytest.raises(KeyError):
            worker.peers.publish_again(subscriber, client.offer())


async def test_there_are_only_so_many_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_connections, "MAX_SESSIONS", 2)
    async with meeting() as (worker, client):
        worker.peers.subscribe()
        first = worker.peers.publish(client.offer()).session
        with pytest.raises(TooManySessionsError):
            worker.peers.subscribe()
        worker.peers.close(first)
        worker.peers.subscribe()


async def test_a_refused_offer_leaves_no_session_behind() -> None:
    async with meeting() as (worker, _):
        with pytest.raises(SdpError):
            worker.peers.publish("v=0")
        assert len(worker.peers) == 0


async def test_dtls_of_one_session_is_limited() -> None:
    async with meeting() as (worker, client):
        _, answer = await published(worker, client)
        flood = peer_connections.DTLS_AT_ONCE + 20
        for _ in range(flood):
            client.endpoint.send(b"\x17\xfe\xfd" + bytes(40), worker.where)
        await worker.has(lambda: worker.peers.counters()["mux_dtls"] >= flood)
        assert worker.peers.dropped_dtls > 0
        assert (await client.check(answer)).message_class is MessageClass.SUCCESS


async def test_what_the_engine_tells_is_passed_on_while_there_are_sessions() -> None:
    async with meeting() as (worker, _):
        worker.peers.subscribe()
        loudness = Loudness(TrackId(1), -30)
        worker.engine.events.append(loudness)
        async with asyncio.timeout(PATIENCE):
            assert await worker.media.get() == [loudness]


async def test_who_hears_of_a_connection_may_close_it_at_once() -> None:
    async with meeting() as (worker, client):
        worker.peers._on_event = lambda event: worker.peers.close(event.session)
        publication = worker.peers.publish(client.offer())
        await client.connect(publication.answer)
        await client.hear_farewell()
        assert worker.engine.removed == [publication.session]
        assert len(worker.peers) == 0
