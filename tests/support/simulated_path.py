"""A network path without a network: capacity, delay, queue, loss, jitter and reordering, by a seeded generator.

And a sender and a receiver on it, the way the SFU and a browser use the bandwidth modules. Everything happens in
simulated time, so a run gives the same figures on every machine.
"""

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from sfu.allocator import Allocator, Content, Hints, Layer, Offer
from sfu.bandwidth import BandwidthBounds, BandwidthEstimator
from sfu.media_engine import DownTrackId, TrackId
from sfu.transport_feedback import ArrivalLog

MTU = 1200  # bytes
TICK = 0.005  # seconds: how often the shell of the SFU looks at its timers
FRAME_SECONDS = 1 / 30
PACING = 2.5  # times the rate: browsers send a frame so fast, and the SFU forwards it as it comes


class PathShape(NamedTuple):
    """What a path is like. Rates in bits per second, times in seconds."""

    capacity: Sequence[tuple[float, float]]  # (from when, how much); the first from 0
    propagation: float = 0.025
    queue_seconds: float = 0.5  # at the first capacity; more is dropped at the tail
    loss: float = 0.0
    jitter: float = 0.0  # standard deviation of an extra delay; packets keep their order
    reordered: float = 0.0  # the part of packets that is held back
    held_back: float = 0.02


class SimulatedPath:
    """A link with a queue in front of it, behind it a way that may lose, delay and reorder."""

    def __init__(self, shape: PathShape, seed: int) -> None:
        self._shape = shape
        self._random = random.Random(seed)  # noqa: S311  # not for secrets
        self._queue_bytes = shape.capacity[0][1] * shape.queue_seconds / 8
        self._queued: deque[tuple[float, int]] = deque()  # when it has left the queue, its size
        self._queued_bytes = 0
        self._free_at = 0.0
        self._last_arrival = 0.0
        self._arriving: list[tuple[float, int, int]] = []
        self._order = itertools.count()
        self.dropped = 0

    def capacity(self, now: float) -> float:
        return next(rate for since, rate in reversed(self._shape.capacity) if since <= now)

    def queue_delay(self, now: float) -> float:
        """How long a packet that is sent now would wait."""
        return max(self._free_at - now, 0.0)

    def send(self, size: int, sequence: int | None, now: float) -> None:
        """Send a packet; without a sequence number it is somebody else's, and only takes up room."""
        while self._queued and self._queued[0][0] <= now:
            self._queued_bytes -= self._queued.popleft()[1]
        if self._queued_bytes + size > self._queue_bytes:
            self.dropped += 1
            return
        self._free_at = self._serialised(max(self._free_at, now), size * 8)
        self._queued.append((self._free_at, size))
        self._queued_bytes += size
        if sequence is None or self._random.random() < self._shape.loss:
            return
        arrival = self._free_at + self._shape.propagation + abs(self._random.gauss(0, self._shape.jitter))
        if self._random.random() < self._shape.reordered:
            arrival += self._shape.held_back
        else:
            self._last_arrival = arrival = max(arrival, self._last_arrival)
        heapq.heappush(self._arriving, (arrival, next(self._order), sequence))

    def _serialised(self, start: float, bits: float) -> float:
        """When so many bits have left that begin to leave at `start`, whatever the capacity does meanwhile."""
        changes = [since for since, _ in self._shape.capacity if since > start]
        for end in (*changes, float("inf")):
            rate = self.capacity(start)
            if bits <= (end - start) * rate:
                break
            bits -= (end - start) * rate
            start = end
        return start + bits / self.capacity(start)

    def arrivals(self, now: float) -> list[tuple[float, int]]:
        """What has arrived by now: when, and its sequence number."""
        arrived = []
        while self._arriving and self._arriving[0][0] <= now:
            at, _, sequence = heapq.heappop(self._arriving)
            arrived.append((at, sequence))
        return arrived


class Sample(NamedTuple):
    """The state at one instant."""

    at: float
    estimate: float  # bits per second
    queue_delay: float  # seconds: the least since the last sample, so what lasts and not what a frame brings
    sent: float  # bits per second since the last sample


class SimulatedCall:
    """A subscriber's path with media on it that follows the estimate, and feedback on the way back.

    `media` says how much the application would send at most at an instant, `others` how much somebody else sends into
    the same queue, `hears` whether feedback sent at an instant gets through, `reads` when the receiver, short of time,
    gets to look at what arrived at an instant.
    """

    SAMPLE_SECONDS = 0.1

    def __init__(
        self,
        shape: PathShape,
        *,
        seed: int = 1,
        bounds: BandwidthBounds = BandwidthBounds(),  # noqa: B008  # immutable
        wanted: float = 10_000_000,
        media: Callable[[float], float] = lambda _now: float("inf"),
        others: Callable[[float], float] = lambda _now: 0.0,
        hears: Callable[[float], bool] = lambda _now: True,
        reads: Callable[[float], float] = lambda now: now,
    ) -> None:
        self.path = SimulatedPath(shape, seed)
        self.estimator = BandwidthEstimator(bounds, first_sequence=65_000)  # the numbers wrap after some seconds
        self.estimator.want(wanted)
        self._log = ArrivalLog()
        self._return_seconds = shape.propagation
        self._media, self._others, self._hears, self._reads = media, others, hears, reads
        self._unread: deque[tuple[float, int]] = deque()
        self._feedback: deque[tuple[float, bytes]] = deque()
        self._owed = self._owed_by_others = 0.0  # bits
        self._frame = self._paced = 0.0  # bits of frames that have not left, and how many of them may leave
        self._frame_at = 0.0
        self._sent_bits = 0.0
        self._ticks = 0
        self._least_queue = float("inf")
        self.samples: list[Sample] = []

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK)):
            self._ticks += 1
            now = self._ticks * TICK
            self._unread += [(self._reads(at), sequence) for at, sequence in self.path.arrivals(now)]
            while self._unread and self._unread[0][0] <= now:
                at, sequence = self._unread.popleft()
                self._log.receive(sequence, at + 1000)  # the receiver has a clock of its own
            while (fci := self._log.poll_feedback(now + 1000)) is not None:
                if self._hears(now):
                    self._feedback.append((now + self._return_seconds, fci))
            while self._feedback and self._feedback[0][0] <= now:
                self.estimator.receive_feedback(self._feedback.popleft()[1], now)
            if now >= self.estimator.poll_timeout():
                self.estimator.handle_timeout(now)
            self._least_queue = min(self._least_queue, self.path.queue_delay(now))
            self._send(now)
            if self._ticks % round(self.SAMPLE_SECONDS / TICK) == 0:
                rate = self._sent_bits / self.SAMPLE_SECONDS
                self.samples.append(Sample(now, self.estimator.bits_per_second, self._least_queue, rate))
                self._sent_bits, self._least_queue = 0.0, float("inf")

    def _send(self, now: float) -> None:
        self._owed_by_others += self._others(now) * TICK
        while self._owed_by_others >= MTU * 8:
            self._owed_by_others -= MTU * 8
            self.path.send(MTU, None, now)
        rate = min(self._media(now), self.estimator.bits_per_second)
        self._owed += rate * TICK
        if now >= self._frame_at:
            self._frame_at += FRAME_SECONDS
            self._frame, self._owed = self._frame + self._owed, 0.0
        self._paced = min(self._paced + PACING * rate * TICK, max(self._frame, 0.0))
        while self._frame >= 800 and self._paced > 0:
            size = min(MTU, int(self._frame / 8))
            self._frame -= size * 8
            self._paced -= size * 8
            self._leave(size, now, probe=False)
        while (size_of_probe := self.estimator.poll_probe(now)) is not None:
            self._leave(size_of_probe, now, probe=True)

    def _leave(self, size: int, now: float, *, probe: bool) -> None:
        self._sent_bits += size * 8
        self.path.send(size, self.estimator.send(size, now, probe=probe), now)

    def between(self, begin: float, end: float) -> list[Sample]:
        return [sample for sample in self.samples if begin < sample.at <= end]


class LayeredCall:
    """A subscriber with sound and some cameras of three layers, who gets what the allocator says by the estimate."""

    SOUND = 40_000.0
    CAMERA = (
        Layer((60e3, 80e3, 100e3), 320, 180),
        Layer((180e3, 240e3, 300e3), 640, 360),
        Layer((600e3, 800e3, 1000e3), 1280, 720),
    )

    def __init__(self, shape: PathShape, cameras: int, *, seed: int = 1) -> None:
        view = Hints(width=1280, height=720)
        self._sound = Offer(DownTrackId(0), TrackId(0), Content.AUDIO, (Layer((self.SOUND,)),))
        self._cameras = [
            Offer(DownTrackId(number), TrackId(number), Content.CAMERA, self.CAMERA, view)
            for number in range(1, cameras + 1)
        ]
        self._allocator = Allocator()
        self._decide_at = self._rate = 0.0
        self.call = SimulatedCall(shape, seed=seed, wanted=0.0, media=self._media)
        self.changes: list[tuple[float, tuple[int | None, ...]]] = []  # when, and the layers from then on

    def _media(self, now: float) -> float:
        if now >= self._decide_at:
            self._decide_at = now + 0.1
            estimator = self.call.estimator
            result = self._allocator.allocate([self._sound, *self._cameras], estimator.bits_per_second, now)
            estimator.want(self._allocator.wanted)
            self._rate = sum(allocation.bits_per_second for allocation in result.values())
            layers = tuple(result[camera.down_track].layer for camera in self._cameras)
            if not self.changes or self.changes[-1][1] != layers:
                self.changes.append((now, layers))
        return self._rate

    def at(self, instant: float) -> tuple[int | None, ...]:
        """The layers that were sent at an instant."""
        return next(layers for since, layers in reversed(self.changes) if since <= instant)

    def changed(self, begin: float, end: float) -> int:
        """How often a layer was raised or lowered."""
        return sum(begin < since <= end for since, _ in self.changes)
