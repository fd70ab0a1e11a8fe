"""Our SFU as a process of its own for the benchmark: PeerConnections on one UDP port, told what to do over a socket.

    .venv/bin/python -m tests.bench.sfu_server 127.0.0.1 4000 /tmp/control.sock    # interpreted; `sfu.py` knows both

Requests and responses are JSON, one a line: {"publish": offer} gives {"answer"}; {"subscribe": true} gives {"session",
"offer"} of all that is published; {"session", "answer"} finishes that; {"counters": true} gives what was counted.
Everything that a conference uses is on: retransmissions, key frame requests, feedback, estimation, reports.
"""

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import uvloop

from config.garbage import spare_the_collector
from sfu.bandwidth import BandwidthEstimator
from sfu.io.engine.py_engine import PyEngine
from sfu.io.mux import bind_udp
from sfu.io.peer_connections import Connected, PeerConnections, PeerEvent
from sfu.media_engine import DownTrackId, MediaEngine, MediaEvent, SessionId, TrackId
from sfu.sdp.subscribe import OfferedTrack
from sfu.transport_feedback import ArrivalLog
from stun.address import TransportAddress

WANTED: Final = 9_000_000.0  # bits per second towards each subscriber
_LINE_BYTES: Final = 1 << 20


class _Published(NamedTuple):
    id: TrackId
    track: OfferedTrack  # without SSRCs


class BenchServer:
    """Forwards everything to everybody."""

    def __init__(self, address: TransportAddress) -> None:
        self.peers = PeerConnections(_make_engine, [bind_udp(address)], [address], self._on_event, self._on_media)
        self._published: list[_Published] = []
        self._when_connected: dict[SessionId, Callable[[], None]] = {}
        self._connected: set[SessionId] = set()
        self._next_ssrc = 1000

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what one line asks for."""
        match request:
            case {"publish": offer}:
                return self._publish(offer)
            case {"subscribe": True}:
                return self._subscribe()
            case {"session": session, "answer": answer}:
                return self._answer(session, answer)
            case {"counters": True}:
                return {**self.peers.engine.counters(), **self.peers.counters()}
        raise ValueError(f"unknown request {sorted(request)}")

    def _publish(self, offer: str) -> dict[str, Any]:
        publication = self.peers.publish(offer)
        tracks = []
        for each in publication.tracks:
            track = TrackId(len(self._published) + 1)
            codec = each.announced.payloads[0].codec
            offered = OfferedTrack(codec, str(publication.session), str(track), "bench", 0)
            self._published.append(_Published(track, offered))
            tracks.append((track, each.announced))

        def begin() -> None:
            for track, announced in tracks:
                self.peers.engine.add_up_track(publication.session, track, announced)

        self._when(publication.session, begin)
        return {"answer": publication.answer}

    def _subscribe(self) -> dict[str, Any]:
        session = self.peers.subscribe()
        for each in self._published:
            self._next_ssrc += 2
            rtx = self._next_ssrc + 1 if each.track.codec.value == "VP8" else 0
            self.peers.add_track(session, each.track._replace(ssrc=self._next_ssrc, rtx_ssrc=rtx))
        return {"session": session, "offer": self.peers.offer(session)}

    def _answer(self, session: SessionId, text: str) -> dict[str, Any]:
        answer = self.peers.answer(session, text)

        def begin() -> None:
            engine: MediaEngine = self.peers.engine
            for published, track in zip(self._published, answer.tracks, strict=True):
                down = DownTrackId(track.ssrc)
                engine.add_down_track(session, down, track)
                engine.route(down, published.id)
            engine.want(session, WANTED)

        self._when(session, begin)
        return {}

    def _when(self, session: SessionId, begin: Callable[[], None]) -> None:
        if session in self._connected:
            begin()
        else:
            self._when_connected[session] = begin

    def _on_event(self, event: PeerEvent) -> None:
        if isinstance(event, Connected):
            self._connected.add(event.session)
            if (begin := self._when_connected.pop(event.session, None)) is not None:
                begin()
        else:
            print(event, file=sys.stderr, flush=True)

    def _on_media(self, events: Sequence[MediaEvent]) -> None:
        """Routes never change here."""


def _make_engine(send: Callable[[bytes | memoryview, TransportAddress], None]) -> MediaEngine:
    return PyEngine(send, make_arrivals=ArrivalLog, make_estimator=BandwidthEstimator)


async def _run(address: TransportAddress, path: Path) -> None:
    server = BenchServer(address)
    spare_the_collector()  # as the service does

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(json.dumps(server.handle(json.loads(line))).encode() + b"\n")
            await writer.drain()
        writer.close()

    control = await asyncio.start_unix_server(serve, path, limit=_LINE_BYTES)
    async with control:
        await control.serve_forever()


def main() -> None:
    """Serve at an IP address and a port, and be told what to do over a UNIX socket: three words of the command."""
    uvloop.run(_run(TransportAddress.parse(sys.argv[1], int(sys.argv[2])), Path(sys.argv[3])))


if __name__ == "__main__":
    main()
