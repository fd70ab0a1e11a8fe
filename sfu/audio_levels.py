"""Who is heard and who speaks, by the levels that senders write on their packets (RFC 6464). Sound is never decoded.

`AudioLevels` says whose sound is forwarded: the loudest few, with inertia. `DominantSpeaker` says who holds the floor,
by three windows as in Volfin and Cohen, "Dominant speaker identification for multipoint videoconferencing" (2012). Both
know that who is silent may send nothing at all (DTX): time without packets counts as silence.
"""

import math
from collections import deque
from typing import Final

from sfu.media_engine import TrackId

SILENCE: Final = -127  # dBov
MAX_TRACKS: Final = 256  # that are remembered; whoever comes beyond that is refused


class TooManyTracks(ValueError):
    """More tracks than `MAX_TRACKS`."""


def _clamped(decibels: int) -> int:
    return min(max(decibels, SILENCE), 0)


class _Loudness:
    """A peak that falls with time: a word is not forgotten in the pause after it."""

    __slots__ = ("_at", "_peak", "taken_at")

    def __init__(self) -> None:
        self._peak = float(SILENCE)
        self._at = 0.0
        self.taken_at = 0.0  # when its track got its place

    def receive(self, decibels: int, now: float) -> None:
        if decibels >= self.at(now):
            self._peak, self._at = float(decibels), now

    def at(self, now: float) -> float:
        return max(self._peak - AudioLevels.RELEASE * (now - self._at), float(SILENCE))


class AudioLevels:
    """The tracks whose sound is forwarded: at most so many as there are places.

    A place is given at once, so that no first syllable is cut off; nobody loses one to somebody hardly louder, or
    sooner than `MIN_STAY` after getting it while still speaking; a place that nobody else needs is kept in silence. A
    track whose sender writes no levels is silent here: whoever routes must forward it always.
    """

    MIN_PLACES: Final = 1
    RELEASE: Final = 20.0  # dB a second
    SPEECH: Final = -50.0  # dBov: what lies below takes no place from anybody
    MARGIN: Final = 3.0  # dB
    MIN_STAY: Final = 0.5  # seconds

    def __init__(self, places: int = 3) -> None:
        """`places` is 3 to 5 in practice.

        Raises:
            ValueError: no place at all.
        """
        if places < self.MIN_PLACES:
            raise ValueError(f"{places} places")
        self._places = places
        self._known: dict[TrackId, _Loudness] = {}
        self._heard: set[TrackId] = set()

    def add(self, track: TrackId) -> None:
        """Know a track; it is silent at first.

        Raises:
            TooManyTracks: `MAX_TRACKS` are known.
        """
        if track not in self._known and len(self._known) >= MAX_TRACKS:
            raise TooManyTracks(f"{MAX_TRACKS} tracks")
        self._known.setdefault(track, _Loudness())

    def remove(self, track: TrackId) -> None:
        """Forget a track, known or not."""
        self._known.pop(track, None)
        self._heard.discard(track)

    def receive(self, track: TrackId, decibels: int, now: float) -> None:
        """Note the level of a packet: dBov, -127 (silence) to 0. Of a track that is not known it is ignored."""
        known = self._known.get(track)
        if known is not None:
            known.receive(_clamped(decibels), now)

    def update(self, now: float) -> frozenset[TrackId]:
        """Whose sound is to be forwarded from now on; to be asked for some tens of times a second."""
        levels = {track: known.at(now) for track, known in self._known.items()}
        waiting = sorted(levels.keys() - self._heard, key=lambda track: (-levels[track], track))
        for track in waiting:
            if len(self._heard) >= self._places:
                loser = self._loser(levels, levels[track], now)
                if loser is None:
                    break  # whoever comes after is no louder
                self._heard.discard(loser)
            self._heard.add(track)
            self._known[track].taken_at = now
        return frozenset(self._heard)

    def _loser(self, levels: dict[TrackId, float], loudness: float, now: float) -> TrackId | None:
        """Who gives its place to a track of this loudness."""
        if loudness < self.SPEECH:
            return None
        settled = [
            track
            for track in self._heard
            if levels[track] < self.SPEECH or now - self._known[track].taken_at >= self.MIN_STAY
        ]
        loser = min(settled, key=lambda track: (levels[track], -track), default=None)
        return None if loser is None or loudness < levels[loser] + self.MARGIN else loser


def _scores(count: int, rate: float) -> tuple[float, ...]:
    """How much more likely speech is than silence, as a logarithm, by how many of `count` are active.

    Active each with one half in speech; in silence their number falls off exponentially. Never below a tiny positive
    number, so that scores can be divided.
    """
    return tuple(
        max(math.log(math.comb(count, active)) - count * math.log(2) - math.log(rate) + rate * active, 1e-10)
        for active in range(count + 1)
    )


class _Activity:
    """What a track did in the last second, in frames of 20 ms."""

    FRAMES: Final = 50
    BLOCK: Final = 5  # frames of the medium window
    BLOCKS: Final = FRAMES // BLOCK  # of the long window
    STEPS: Final = 13  # of a frame's level above the noise
    STEP: Final = 2.5  # dB
    ABOVE_NOISE: Final = 6.0  # dB: what lies closer to the noise is noise
    ACTIVE_FRAME: Final = 4  # steps that a frame must exceed to count in its block
    ACTIVE_BLOCK: Final = 2  # active frames that a block must exceed to count in the long window
    HELD_FRAMES: Final = 2  # without a packet a level goes on for so long: packets are late, lost, or hold 60 ms
    NOISE_MIN: Final = -75.0  # dBov; a sender with DTX never shows its noise
    NOISE_MAX: Final = -45.0
    NOISE_RISE: Final = 0.02  # dB a frame: one a second
    NOISE_FALL: Final = 1.0  # dB a frame

    __slots__ = ("_frame", "_frames", "_held", "_level", "_noise")

    def __init__(self, frame: int) -> None:
        self._frames: deque[int] = deque([0] * self.FRAMES, maxlen=self.FRAMES)  # steps; the last one is the newest
        self._frame = frame  # the one that is being filled
        self._level = SILENCE  # dBov, of that one
        self._held = 0  # frames without a packet
        self._noise = self.NOISE_MIN

    def receive(self, decibels: int, frame: int) -> None:
        self.advance(frame)
        # A level that only goes on from an earlier frame gives way.
        self._level = decibels if self._held else max(self._level, decibels)
        self._held = 0
        self._noise = min(max(min(float(decibels), self._noise), self.NOISE_MIN), self.NOISE_MAX)

    def advance(self, frame: int) -> None:
        """Close every frame before this one."""
        passed = frame - self._frame
        self._frame = max(frame, self._frame)
        for _ in range(min(passed, self.FRAMES + self.HELD_FRAMES)):
            self._frames.append(self._steps())
            # What goes on without end is noise; who sends nothing has none.
            moved = self._noise + (self.NOISE_RISE if self._level > SILENCE else -self.NOISE_FALL)
            self._noise = min(max(moved, self.NOISE_MIN), self.NOISE_MAX)
            self._held += 1
            if self._held > self.HELD_FRAMES:
                self._level = SILENCE

    def _steps(self) -> int:
        above = (self._level - self._noise - self.ABOVE_NOISE) / self.STEP
        return min(max(int(above), 0), self.STEPS)

    def windows(self) -> tuple[int, int, int]:
        """Steps of the newest frame, active frames of the newest block, active blocks."""
        frames = list(self._frames)
        blocks = [
            sum(steps > self.ACTIVE_FRAME for steps in frames[start : start + self.BLOCK])
            for start in range(0, self.FRAMES, self.BLOCK)
        ]
        return frames[-1], blocks[-1], sum(active > self.ACTIVE_BLOCK for active in blocks)


class DominantSpeaker:
    """Who holds the floor. Changes when somebody else has been more active in all three windows, not for a cough."""

    FRAME_SECONDS: Final = 0.02
    DECISION_SECONDS: Final = 0.3
    MARGINS: Final = (3.0, 2.0, 0.0)  # of the logarithm of the ratio of scores: immediate, medium, long
    _TABLES: Final = (
        _scores(_Activity.STEPS, 0.78),
        _scores(_Activity.BLOCK, 24.0),
        _scores(_Activity.BLOCKS, 47.0),
    )

    def __init__(self) -> None:
        self._known: dict[TrackId, _Activity] = {}
        self._speaker: TrackId | None = None
        self._recent: list[TrackId] = []
        self._decide_at = float("-inf")

    @property
    def recent(self) -> tuple[TrackId, ...]:
        """Who has held the floor, the last one first, each once; who never did is not among them."""
        return tuple(self._recent)

    def add(self, track: TrackId, now: float) -> None:
        """Know a track.

        Raises:
            TooManyTracks: `MAX_TRACKS` are known.
        """
        if track not in self._known and len(self._known) >= MAX_TRACKS:
            raise TooManyTracks(f"{MAX_TRACKS} tracks")
        self._known.setdefault(track, _Activity(self._frame(now)))

    def remove(self, track: TrackId) -> None:
        """Forget a track, known or not; if it held the floor, nobody does until somebody speaks."""
        self._known.pop(track, None)
        if track in self._recent:
            self._recent.remove(track)
        if self._speaker == track:
            self._speaker = None

    def receive(self, track: TrackId, decibels: int, now: float) -> None:
        """Note the level of a packet: dBov, -127 (silence) to 0. Of a track that is not known it is ignored."""
        known = self._known.get(track)
        if known is not None:
            known.receive(_clamped(decibels), self._frame(now))

    def update(self, now: float) -> TrackId | None:
        """Who holds the floor, decided anew every `DECISION_SECONDS`; None before anybody has spoken."""
        if now < self._decide_at:
            return self._speaker
        self._decide_at = now + self.DECISION_SECONDS
        frame = self._frame(now)
        scores = {}
        for track, known in self._known.items():
            known.advance(frame)
            windows = known.windows()
            scores[track] = tuple(table[active] for table, active in zip(self._TABLES, windows, strict=True))
        # Without a speaker whoever beats silence takes the floor.
        silence = tuple(table[0] for table in self._TABLES)
        present = silence if self._speaker is None else scores[self._speaker]
        before, best = self._speaker, 0.0
        for track in sorted(scores.keys() - {self._speaker}):
            ratios = [math.log(new / old) for new, old in zip(scores[track], present, strict=True)]
            if ratios[1] > best and all(ratio > margin for ratio, margin in zip(ratios, self.MARGINS, strict=True)):
                self._speaker, best = track, ratios[1]
        if self._speaker is not None and self._speaker != before:
            self._recent = [self._speaker, *(track for track in self._recent if track != self._speaker)]
        return self._speaker

    def _frame(self, now: float) -> int:
        return int(now / self.FRAME_SECONDS)
