"""A real browser against the port of the SFU: descriptions, ICE and DTLS-SRTP, both ways round."""

import asyncio
import functools
import ipaddress
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeVar, cast

import uvloop
from playwright.sync_api import Browser, BrowserContext, Page

from sfu.io.engine.py_engine import PyEngine
from sfu.io.mux import bind_udp
from sfu.io.peer_connections import Closed, Connected, PeerConnections, PeerEvent, Publication, Send
from sfu.media_engine import Codec, DownTrack, DownTrackId, MediaEngine, SessionId, SrtpProfile, TrackId
from sfu.sdp.subscribe import OfferedTrack
from stun.address import TransportAddress
from tests.support.counting_engine import CountingEngine

T = TypeVar("T")

PATIENCE: Final = 20.0  # seconds
ENOUGH: Final = 100  # packets: two seconds of sound, or less with pictures
BLANK: Final = "http://localhost/blank"  # fulfilled by the test; a secure context, so that there is a camera
SOUND: Final = OfferedTrack(Codec.OPUS, "s", "a", "c", 1001)
VIDEO: Final = OfferedTrack(Codec.VP8, "s", "v", "c", 1002, 1003)
OFFER: Final = """async () => {
  const media = await navigator.mediaDevices.getUserMedia({ audio: true, video: { width: 640, height: 360 } });
  const connection = (window.publisher = new RTCPeerConnection({ bundlePolicy: "max-bundle" }));
  connection.addTransceiver(media.getAudioTracks()[0], { direction: "sendonly" });
  connection.addTransceiver(media.getVideoTracks()[0], {
    direction: "sendonly",
    sendEncodings: [{ rid: "q", scaleResolutionDownBy: 2 }, { rid: "h" }],
  });
  await connection.setLocalDescription();
  return connection.localDescription.sdp;
}"""
RESTART: Final = """async () => {
  window.publisher.restartIce();
  await window.publisher.setLocalDescription();
  return window.publisher.localDescription.sdp;
}"""
TAKE_ANSWER: Final = """async (sdp) => window.publisher.setRemoteDescription({ type: "answer", sdp })"""
ANSWER: Final = """async (sdp) => {
  const connection = (window.subscriber = new RTCPeerConnection({ bundlePolicy: "max-bundle" }));
  connection.ontrack = ({ track }) => {
    const element = document.body.appendChild(document.createElement(track.kind));
    Object.assign(element, { srcObject: new MediaStream([track]), autoplay: true });
  };
  await connection.setRemoteDescription({ type: "offer", sdp });
  await connection.setLocalDescription();
  return connection.localDescription.sdp;
}"""


class Sfu:
    """The port with its event loop on a thread of its own; the browser is driven on that of the test."""

    def __init__(self, make_engine: Callable[[Send], MediaEngine]) -> None:
        self.make_engine = make_engine
        self.events: list[PeerEvent] = []
        self.changed = threading.Condition()
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.peers = self.call(self._start)

    @property
    def engine(self) -> CountingEngine:
        assert isinstance(self.peers.engine, CountingEngine)
        return self.peers.engine

    def call(self, function: Callable[[], T]) -> T:
        """What the function returns on the thread of the loop."""

        async def run() -> T:
            return function()

        return self.wait(run())

    def wait(self, action: Coroutine[None, None, T]) -> T:
        """What comes of it on the thread of the loop."""
        return asyncio.run_coroutine_threadsafe(action, self._loop).result(PATIENCE)

    def wait_for(self, event: PeerEvent) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: event in self.events, PATIENCE), self.events

    def wait_until(self, fact: Callable[[], bool]) -> None:
        """Ask the thread of the loop now and then."""
        deadline = time.monotonic() + PATIENCE
        while not self.call(fact):
            assert time.monotonic() < deadline, self.call(self.peers.counters)
            time.sleep(0.1)

    def stop(self) -> None:
        self.call(self.peers.stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _start(self) -> PeerConnections:
        sock = bind_udp(TransportAddress.parse("127.0.0.1", 0))
        candidates = [TransportAddress.parse(*sock.getsockname())]
        return PeerConnections(self.make_engine, [sock], candidates, self._on_event, print)

    def _on_event(self, event: PeerEvent) -> None:
        with self.changed:
            self.events.append(event)
            self.changed.notify_all()


@contextmanager
def running(make_engine: Callable[[Send], MediaEngine] = CountingEngine) -> Iterator[Sfu]:
    sfu = Sfu(make_engine)
    try:
        yield sfu
    finally:
        sfu.stop()


class Outside(asyncio.DatagramProtocol):
    """What the port of the SFU takes for the browser."""

    def __init__(self, nat: "Nat") -> None:
        self.nat = nat

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.nat.outside = cast(asyncio.DatagramTransport, transport)  # uvloop's is none of its subclasses

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:  # noqa: ARG002  # all is of the port
        if self.nat.client is not None:
            self.nat.inside.sendto(data, self.nat.client)


class Nat(asyncio.DatagramProtocol):
    """What the browser takes for the port of the SFU; what it sends there comes from a port that may change."""

    def __init__(self, port: tuple[str, int]) -> None:
        self.port = port
        self.client: tuple[str, int] | None = None
        self.outside: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.inside = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.client = addr
        if self.outside is not None:
            self.outside.sendto(data, self.port)

    @property
    def candidate(self) -> TransportAddress:
        return TransportAddress.parse(*self.inside.get_extra_info("sockname"))

    async def rebind(self) -> TransportAddress:
        """Take another port for all that the browser sends; which one."""
        if self.outside is not None:
            self.outside.close()
        loop = asyncio.get_running_loop()
        outside, _ = await loop.create_datagram_endpoint(lambda: Outside(self), ("127.0.0.1", 0))
        return TransportAddress.parse(*outside.get_extra_info("sockname"))

    def close(self) -> None:
        assert self.outside is not None
        self.inside.close()
        self.outside.close()


def connected(page: Page, name: str) -> None:
    page.wait_for_function(f"() => window.{name}.connectionState === 'connected'", timeout=1000 * PATIENCE)


def subscribed(sfu: Sfu, page: Page, *tracks: OfferedTrack) -> tuple[SessionId, tuple[DownTrack, ...]]:
    session = sfu.call(sfu.peers.subscribe)
    for track in tracks:
        sfu.call(functools.partial(sfu.peers.add_track, session, track))
    answer = page.evaluate(ANSWER, sfu.call(lambda: sfu.peers.offer(session)))
    return session, sfu.call(lambda: sfu.peers.answer(session, answer)).tracks


def blank_page(context: BrowserContext) -> Page:
    page = context.new_page()
    page.route("**/*", lambda route: route.fulfill(body="<!doctype html>", content_type="text/html"))
    page.goto(BLANK)
    return page


def published(sfu: Sfu, page: Page) -> Publication:
    offer = page.evaluate(OFFER)
    publication = sfu.call(lambda: sfu.peers.publish(offer))
    page.evaluate(TAKE_ANSWER, publication.answer)
    return publication


def restarted(sfu: Sfu, page: Page, session: SessionId) -> Publication:
    offer = page.evaluate(RESTART)
    publication = sfu.call(lambda: sfu.peers.publish_again(session, offer))
    page.evaluate(TAKE_ANSWER, publication.answer)
    return publication


def ice_ufrag(description: str) -> str:
    return description.partition("a=ice-ufrag:")[2].partition("\r\n")[0]


def test_chromium_publishes_restarts_and_subscribes_over_one_port_and_its_packets_are_authentic(
    browser: Browser,
) -> None:
    with running() as sfu, browser.new_context() as context:
        page = blank_page(context)
        publication = published(sfu, page)
        connected(page, "publisher")
        sfu.wait_for(Connected(publication.session))
        sfu.wait_until(lambda: sfu.engine.counts["rtp"] >= ENOUGH)
        assert sfu.engine.counts["rtcp"] > 0
        assert sfu.engine.counts["forged"] == 0
        assert sfu.engine.keys[publication.session].profile is SrtpProfile.AEAD_AES_256_GCM
        packets = sfu.call(lambda: list(sfu.engine.plain[publication.session]))
        kinds = {packet[1] & 0x7F for packet in packets}
        assert {track.announced.payloads[0].primary for track in publication.tracks} <= kinds
        assert publication.tracks[1].announced.rids == ("q", "h")

        again = restarted(sfu, page, publication.session)
        assert again.tracks == publication.tracks
        assert ice_ufrag(again.answer) != ice_ufrag(publication.answer)
        before = sfu.call(sfu.peers.counters)["ice_answered"], sfu.engine.counts["rtp"]
        sfu.wait_until(lambda: sfu.peers.counters()["ice_answered"] > before[0])
        sfu.wait_until(lambda: sfu.engine.counts["rtp"] >= before[1] + ENOUGH)
        assert sfu.engine.counts["forged"] == 0

        subscriber, _ = subscribed(sfu, page, VIDEO)
        connected(page, "subscriber")
        sfu.wait_for(Connected(subscriber))

        page.evaluate("() => { window.publisher.close(); window.subscriber.close(); }")
        sfu.wait_for(Closed(publication.session))
        sfu.wait_for(Closed(subscriber))


def test_chromium_behind_a_nat_that_changes_its_port_proves_the_new_one_and_is_sent_to_there(browser: Browser) -> None:
    with running() as sfu, browser.new_context() as context:
        page = blank_page(context)
        port = sfu.call(lambda: sfu.peers._candidates[0])
        server = (str(ipaddress.ip_address(port.ip)), port.port)

        async def begin() -> Nat:
            _, nat = await asyncio.get_running_loop().create_datagram_endpoint(lambda: Nat(server), ("127.0.0.1", 0))
            sfu.peers._candidates = (nat.candidate,)
            return nat

        nat = sfu.wait(begin())
        first = sfu.wait(nat.rebind())
        publication = published(sfu, page)
        connected(page, "publisher")
        sfu.wait_for(Connected(publication.session))
        assert sfu.engine.addresses[publication.session] == [first]
        assert sfu.call(sfu.peers.counters)["ice_proved"] == 0
        second = sfu.wait(nat.rebind())
        sfu.wait_until(lambda: sfu.engine.addresses[publication.session] == [first, second])
        assert sfu.call(sfu.peers.counters)["ice_proved"] == 1
        before = sfu.engine.counts["rtp"]
        sfu.wait_until(lambda: sfu.engine.counts["rtp"] >= before + ENOUGH)
        sfu.call(nat.close)


def forward(sfu: Sfu, publisher: Publication, subscriber: SessionId, down_tracks: Sequence[DownTrack]) -> None:
    engine = sfu.peers.engine
    for number, (up, down) in enumerate(zip(publisher.tracks, down_tracks, strict=True)):
        engine.add_up_track(publisher.session, TrackId(number), up.announced)
        engine.add_down_track(subscriber, DownTrackId(number), down)
        engine.route(DownTrackId(number), TrackId(number))


def test_picture_and_sound_of_one_page_reach_another_one_through_port_and_engine(browser: Browser) -> None:
    with running(PyEngine) as sfu, browser.new_context() as context:
        source, sink = blank_page(context), blank_page(context)
        publication = published(sfu, source)
        session, down_tracks = subscribed(sfu, sink, SOUND, VIDEO)
        sfu.wait_for(Connected(publication.session))
        sfu.wait_for(Connected(session))
        sfu.call(lambda: forward(sfu, publication, session, down_tracks))
        sink.wait_for_function(
            """async () => {
              const stats = [...(await window.subscriber.getStats()).values()];
              const inbound = stats.filter((each) => each.type === "inbound-rtp");
              return inbound.some((each) => each.framesDecoded > 10)
                && inbound.some((each) => each.totalAudioEnergy > 0);
            }""",
            timeout=1000 * PATIENCE,
        )
        assert sfu.call(sfu.peers.engine.counters)["dropped_unauthentic"] == 0
