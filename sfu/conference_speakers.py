"""Who of a room is heard, and who is told to be speaking."""

from collections.abc import Set as AbstractSet
from typing import Final

from sfu.audio_levels import AudioLevels, DominantSpeaker
from sfu.media_engine import TrackId


class _Voice:
    """When somebody began to speak, and was heard last."""

    __slots__ = ("began_at", "pid", "spoke_at")

    def __init__(self, pid: str) -> None:
        self.pid = pid
        self.began_at = float("-inf")
        self.spoke_at = float("-inf")


class RoomSpeakers:
    """The microphones of a room."""

    MAX_TOLD: Final = 3
    HOLD_SECONDS: Final = 2.0  # after the last sound somebody still counts as speaking: pauses change nothing
    UPDATE_SECONDS: Final = 0.02  # a packet of sound: more often nothing can have changed

    def __init__(self, places: int) -> None:
        """`places` is how many are forwarded to the others.

        Raises:
            ValueError: no place at all.
        """
        self._levels = AudioLevels(places)
        self._dominant = DominantSpeaker()
        self._voices: dict[TrackId, _Voice] = {}
        self._measured: set[TrackId] = set()
        self._heard: AbstractSet[TrackId] = frozenset()
        self._floor: TrackId | None = None
        self._told: tuple[str, ...] = ()
        self._updated_at = float("-inf")

    def add(self, track: TrackId, pid: str) -> None:
        """Know a microphone."""
        self._voices[track] = _Voice(pid)

    def remove(self, track: TrackId) -> None:
        """Forget a microphone, known or not."""
        self._voices.pop(track, None)
        self._measured.discard(track)
        self._levels.remove(track)
        self._dominant.remove(track)
        self._heard -= {track}
        if self._floor == track:
            self._floor = None

    def receive(self, track: TrackId, decibels: int, now: float) -> None:
        """Note how loud a microphone is, dBov; of one that is not known it is ignored."""
        voice = self._voices.get(track)
        if voice is None:
            return
        if track not in self._measured:
            self._measured.add(track)
            self._levels.add(track)
            self._dominant.add(track, now)
        self._levels.receive(track, decibels, now)
        self._dominant.receive(track, decibels, now)
        if decibels >= AudioLevels.SPEECH:
            if now - voice.spoke_at >= self.HOLD_SECONDS:
                voice.began_at = now
            voice.spoke_at = now

    def update(self, now: float) -> bool:
        """Decide anew; whether others are forwarded than before."""
        if now - self._updated_at < self.UPDATE_SECONDS:
            return False
        self._updated_at = now
        self._floor = self._dominant.update(now)
        before, self._heard = self._heard, self._levels.update(now)
        return before != self._heard

    def forwards(self, track: TrackId) -> bool:
        """Whether a microphone goes to the others; one that says no levels always does."""
        return track in self._heard or track not in self._measured

    def recency(self, pid: str) -> int:
        """0 for who held the floor last, 1 for who did before, and so on."""
        recent = [self._voices[track].pid for track in self._dominant.recent]
        return recent.index(pid) if pid in recent else len(recent)

    def poll(self, now: float) -> tuple[str, ...] | None:
        """Who speaks, if that is something else than what was told last."""
        speaking = [
            (track != self._floor, voice.began_at, voice.pid)
            for track, voice in self._voices.items()
            if now - voice.spoke_at < self.HOLD_SECONDS and self.forwards(track)
        ]
        # Sorted by who began first, not by loudness, which would change the order with every word.
        pids = tuple(pid for _, _, pid in sorted(speaking)[: self.MAX_TOLD])
        if pids == self._told:
            return None
        self._told = pids
        return pids

    @property
    def told(self) -> tuple[str, ...]:
        """What was told last."""
        return self._told
