"""The running SFU: one UDP port, an engine, the rooms, and a clock that wakes them."""

import asyncio
import logging
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from prometheus_client import CollectorRegistry

from sfu.bandwidth import BandwidthBounds, BandwidthEstimator
from sfu.conference import ConferenceBounds
from sfu.conference_messages import MediaState, Said, Side, Source, State, Wish
from sfu.conferences import Bounds, Conferences
from sfu.io.engine.py_engine import PyEngine
from sfu.io.metrics import BandwidthHistogram, SfuCollector
from sfu.io.mux import bind_udp
from sfu.io.peer_connections import Closed, Connected, Failed, PeerConnections, PeerEvent, Send
from sfu.media_engine import MediaEngine, MediaEvent
from sfu.settings import SfuAddress, SfuSettings
from sfu.transport_feedback import ArrivalLog

OBSERVE_SECONDS: Final = 5.0  # between two entries of an estimate in the histogram

_log = logging.getLogger(__name__)

Tell = Callable[[bytes, str, Said], None]  # room, pid, what


class SfuService:
    """Conferences on one UDP port. `start`, then `stop`; everything runs on the thread of the event loop.

    The commands never wait, and raise nothing because of what a client has sent: it is told `MediaState`.
    """

    def __init__(
        self, settings: SfuSettings, addresses: Sequence[SfuAddress], registry: CollectorRegistry, tell: Tell
    ) -> None:
        """Prepare; nothing is opened before `start`.

        Args:
            settings: bounds and bitrates.
            addresses: where to listen, one for each address family.
            registry: where the metrics go.
            tell: hears what members are to be told, in order, never from within a command.
        """
        self._settings = settings
        self._addresses = tuple(addresses)
        self._tell = tell
        self.endings: Counter[tuple[Side, str]] = Counter()
        self._peers: PeerConnections | None = None
        self._conferences: Conferences | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = float("inf")
        self._observing: asyncio.TimerHandle | None = None
        self._histogram = BandwidthHistogram(registry)
        registry.register(SfuCollector(self))

    async def start(self) -> None:
        """Bind the port, or nothing.

        Raises:
            OSError: the port is taken, or an address is not ours.
        """
        self._loop = asyncio.get_running_loop()
        settings = self._settings
        sockets: list[socket.socket] = []
        try:
            sockets += [bind_udp(address.bound) for address in self._addresses]
        except OSError:
            for sock in sockets:
                sock.close()
            raise
        candidates = [candidate for address in self._addresses for candidate in address.advertised]
        self._peers = PeerConnections(self._make_engine, sockets, candidates, self._on_event, self._on_media)
        room = ConferenceBounds(
            settings.max_members, settings.audio_places, settings.cameras, settings.start_bits_per_second
        )
        bounds = Bounds(settings.max_rooms, settings.max_members_in_all, room)
        self._conferences = Conferences(self._peers, self._peers.engine, bounds)
        self._observing = self._loop.call_later(OBSERVE_SECONDS, self._observe)
        _log.info("SFU ready: UDP port %d, %d address families", self._addresses[0].bound.port, len(self._addresses))

    async def stop(self) -> None:
        """End all connections, with a farewell, and close the port."""
        for handle in (self._alarm, self._observing):
            if handle is not None:
                handle.cancel()
        self._alarm = self._observing = None
        if self._peers is not None:
            self._peers.stop()
        self._peers = self._conferences = None

    def drain(self) -> None:
        """Let no conference begin any more; those that have begun go on, and people may still come to them."""
        if self._conferences is not None:
            self._conferences.is_draining = True

    @property
    def ready(self) -> bool:
        """Whether new conferences are welcome."""
        return self._conferences is not None and not self._conferences.is_draining

    @property
    def addresses(self) -> tuple[SfuAddress, ...]:
        """Where it listens, and what clients are told."""
        return self._addresses

    # What members say, by way of whoever carries it

    def enter(self, room: bytes, pid: str) -> None:
        """Let somebody in: he may publish, and is offered what the others publish."""
        conferences = self._running()
        before = conferences.rooms
        conferences.enter(room, pid, time.monotonic())
        if conferences.rooms > before:
            _log.info("conference begins: there are %d", conferences.rooms)
        self._settle()

    def leave(self, room: bytes, pid: str) -> None:
        """End both connections of a member; the room ends with its last one."""
        conferences = self._running()
        before = conferences.rooms
        conferences.leave(room, pid, time.monotonic())
        if conferences.rooms < before:
            _log.info("conference ends: there are %d", conferences.rooms)
        self._settle()

    def publish(self, room: bytes, pid: str, sdp: str, version: int, sources: Mapping[str, Source]) -> None:
        """Take an offer of a publishing side; `sources` says what each m-line carries, by its mid."""
        self._running().publish(room, pid, sdp, version, sources, time.monotonic())
        self._settle()

    def subscribed(self, room: bytes, pid: str, sdp: str, version: int) -> None:
        """Take the answer to the `Subscribe` of this version."""
        self._running().subscribed(room, pid, sdp, version, time.monotonic())
        self._settle()

    def want(self, room: bytes, pid: str, wishes: Sequence[Wish]) -> None:
        """Take what a member looks at, in place of its last list."""
        self._running().want(room, pid, wishes, time.monotonic())
        self._settle()

    def restart(self, room: bytes, pid: str) -> None:
        """Offer the subscribing side with new credentials, or anew after it has failed."""
        self._running().restart(room, pid, time.monotonic())
        self._settle()

    # What metrics read

    @property
    def rooms(self) -> int:
        """Conferences."""
        return 0 if self._conferences is None else self._conferences.rooms

    @property
    def members(self) -> int:
        """People in all of them."""
        return 0 if self._conferences is None else self._conferences.members

    @property
    def max_rooms(self) -> int:
        """Conferences that there may be."""
        return self._settings.max_rooms

    @property
    def max_members(self) -> int:
        """People that there may be in all of them."""
        return self._settings.max_members_in_all

    @property
    def switches(self) -> int:
        """How often something was forwarded from another layer."""
        return 0 if self._conferences is None else self._conferences.switches

    @property
    def sessions(self) -> Mapping[str, int]:
        """PeerConnections by state."""
        if self._peers is None or self._conferences is None:
            return {}
        connected = self._conferences.connected_sessions
        return {"connected": connected, "connecting": len(self._peers) - connected}

    def estimates(self) -> list[float]:
        """What the paths to all who are sent to are thought to carry, bits per second."""
        return [] if self._conferences is None else self._conferences.estimates()

    def engine_counters(self) -> Mapping[str, int]:
        """What the engine has counted."""
        return {} if self._peers is None else self._peers.engine.counters()

    def port_counters(self) -> Mapping[str, int]:
        """What the port, ICE and DTLS have counted."""
        return {} if self._peers is None else self._peers.counters()

    # What happens below

    def _make_engine(self, send: Send) -> MediaEngine:
        bounds = BandwidthBounds(
            start=float(self._settings.start_bits_per_second), ceiling=float(self._settings.max_bits_per_second)
        )
        return PyEngine(send, make_arrivals=ArrivalLog, make_estimator=lambda: BandwidthEstimator(bounds))

    def _running(self) -> Conferences:
        if self._conferences is None:
            raise RuntimeError("the SFU does not run")
        return self._conferences

    def _on_event(self, event: PeerEvent) -> None:
        conferences = self._conferences
        if conferences is None:
            return  # farewells as it stops
        now = time.monotonic()
        match event:
            case Connected(session):
                conferences.connected(session, now)
            case Failed(session, reason):
                conferences.ended(session, reason.value, now)
            case Closed(session):
                conferences.ended(session, None, now)
        self._settle()

    def _on_media(self, events: Sequence[MediaEvent]) -> None:
        if self._conferences is not None:
            self._conferences.receive_media(events, time.monotonic())
            self._settle()

    def _settle(self) -> None:
        """Have told what is to be told, and sleep until something is due."""
        conferences = self._running()
        for room, pid, said in conferences.poll_said():
            if isinstance(said, MediaState) and said.state is State.FAILED:
                self.endings[said.side, said.reason or ""] += 1
            self._loop.call_soon(self._tell, room, pid, said)  # whoever hears it may give the next command
        due_at = conferences.poll_timeout()
        if due_at is not None and due_at < self._alarm_at:
            if self._alarm is not None:
                self._alarm.cancel()
            self._alarm_at = due_at
            self._alarm = self._loop.call_later(max(0.0, due_at - time.monotonic()), self._wake)

    def _wake(self) -> None:
        self._alarm = None
        self._alarm_at = float("inf")
        if self._conferences is not None:
            self._conferences.handle_timeout(time.monotonic())
            self._settle()

    def _observe(self) -> None:
        self._observing = self._loop.call_later(OBSERVE_SECONDS, self._observe)
        for estimate in self.estimates():
            self._histogram.observe(estimate)
