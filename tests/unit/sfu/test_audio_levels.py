import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfu.audio_levels import MAX_TRACKS, SILENCE, AudioLevels, DominantSpeaker, TooManyTracks
from sfu.media_engine import TrackId

SPEECH, LOUD, NOISE = -28, -20, -65
PACKET = 0.02  # seconds


def tracks(*numbers: int) -> frozenset[TrackId]:
    return frozenset(map(TrackId, numbers))


def listening(count: int, places: int = 3) -> AudioLevels:
    levels = AudioLevels(places)
    for number in range(count):
        levels.add(TrackId(number))
    return levels


def test_with_as_many_places_as_tracks_everybody_is_heard_in_silence_too() -> None:
    assert listening(3).update(1.0) == tracks(0, 1, 2)


def test_who_begins_to_speak_is_heard_at_once() -> None:
    levels = listening(5)
    assert levels.update(1.0) == tracks(0, 1, 2)
    levels.receive(TrackId(4), SPEECH, 1.02)
    assert levels.update(1.02) == tracks(0, 1, 4)


def test_only_the_loudest_are_heard() -> None:
    levels = listening(6)
    levels.update(1.0)
    for number, decibels in enumerate([-60, -40, -30, -20, -35, -45]):
        levels.receive(TrackId(number), decibels, 2.0)
    assert levels.update(2.0) == tracks(2, 3, 4)


def test_who_is_hardly_louder_takes_no_place_from_anybody() -> None:
    levels = listening(2, places=1)
    levels.receive(TrackId(0), -30, 1.0)
    assert levels.update(1.0) == tracks(0)
    for decibels, heard in [(-28, 0), (-27, 1)]:
        levels.receive(TrackId(0), -30, 3.0)
        levels.receive(TrackId(1), decibels, 3.0)
        assert levels.update(3.0) == tracks(heard)


def test_noise_takes_no_place_from_silence() -> None:
    levels = listening(2, places=1)
    levels.update(1.0)
    levels.receive(TrackId(1), NOISE, 2.0)
    assert levels.update(2.0) == tracks(0)


def test_who_speaks_keeps_a_fresh_place_for_half_a_second() -> None:
    levels = listening(3, places=1)
    levels.update(0.5)
    levels.receive(TrackId(1), -40, 1.0)
    assert levels.update(1.0) == tracks(1)
    levels.receive(TrackId(1), -40, 1.4)
    levels.receive(TrackId(2), LOUD, 1.4)
    assert levels.update(1.4) == tracks(1)
    levels.receive(TrackId(2), LOUD, 1.5)
    assert levels.update(1.5) == tracks(2)


def test_a_pause_between_words_does_not_cost_the_place() -> None:
    levels = listening(2, places=1)
    levels.receive(TrackId(0), LOUD, 1.0)
    levels.update(1.0)
    levels.receive(TrackId(1), -40, 1.8)  # the pause, without a packet, counts 16 dB
    assert levels.update(1.8) == tracks(0)
    levels.receive(TrackId(1), -40, 2.2)
    assert levels.update(2.2) == tracks(1)


def test_who_is_removed_leaves_a_place_to_the_next() -> None:
    levels = listening(4)
    assert levels.update(1.0) == tracks(0, 1, 2)
    levels.remove(TrackId(1))
    levels.receive(TrackId(1), LOUD, 1.1)
    assert levels.update(1.1) == tracks(0, 2, 3)


def test_without_a_place_nothing_can_be_decided() -> None:
    with pytest.raises(ValueError, match="0 places"):
        AudioLevels(0)


def test_both_know_a_bounded_number_of_tracks() -> None:
    levels, dominant = AudioLevels(), DominantSpeaker()
    for number in range(MAX_TRACKS):
        levels.add(TrackId(number))
        dominant.add(TrackId(number), 1.0)
    levels.add(TrackId(0))
    dominant.add(TrackId(0), 1.0)
    with pytest.raises(TooManyTracks):
        levels.add(TrackId(MAX_TRACKS))
    with pytest.raises(TooManyTracks):
        dominant.add(TrackId(MAX_TRACKS), 1.0)


packets = st.lists(st.tuples(st.integers(0, 7), st.integers(-200, 100), st.floats(0, 2)), max_size=80)


@given(packets, st.integers(1, 5), st.integers(0, 8))
def test_exactly_the_places_are_taken_whatever_comes(
    course: list[tuple[int, int, float]], places: int, count: int
) -> None:
    levels = listening(count, places)
    now = 1.0
    for number, decibels, wait in course:
        now += wait
        levels.receive(TrackId(number), decibels, now)
        heard = levels.update(now)
        assert len(heard) == min(places, count)
        assert levels.update(now) == heard


class Talk:
    """People who speak or are silent; who is silent sends nothing, but for a packet of noise now and then."""

    def __init__(self, count: int) -> None:
        self.dominant = DominantSpeaker()
        self.now = 10.0
        self._packets = 0
        for number in range(count):
            self.dominant.add(TrackId(number), self.now)

    def speak(self, seconds: float, *, speaking: dict[int, int], dtx: bool = True, listeners: int = 0) -> int | None:
        """Go on for a while; gives who holds the floor then."""
        speaker = self.dominant.update(self.now)
        for _ in range(round(seconds / PACKET)):
            self.now += PACKET
            self._packets += 1
            for number in range(max([*speaking, listeners]) + 1):
                # Syllables: four packets of sound, then one that is quieter.
                if number in speaking:
                    self.dominant.receive(TrackId(number), speaking[number] - 12 * (self._packets % 5 == 0), self.now)
                elif not dtx or self._packets % 20 == 0:
                    self.dominant.receive(TrackId(number), NOISE, self.now)
            speaker = self.dominant.update(self.now)
        return speaker


def test_nobody_holds_the_floor_before_anybody_has_spoken() -> None:
    talk = Talk(3)
    assert talk.speak(3.0, speaking={}, listeners=2) is None
    assert talk.speak(1.0, speaking={1: SPEECH}) == 1


@pytest.mark.parametrize("dtx", [True, False], ids=["silence sends nothing", "silence sends noise"])
def test_the_floor_goes_to_who_speaks_when_the_other_has_stopped(dtx: bool) -> None:  # noqa: FBT001
    talk = Talk(3)
    assert talk.speak(3.0, speaking={0: SPEECH}, dtx=dtx, listeners=2) == 0
    assert talk.speak(1.5, speaking={2: SPEECH}, dtx=dtx, listeners=2) == 2


def test_a_cough_does_not_take_the_floor() -> None:
    talk = Talk(2)
    talk.speak(3.0, speaking={0: SPEECH})
    assert talk.speak(0.2, speaking={0: SPEECH, 1: -10}) == 0
    assert talk.speak(1.0, speaking={0: SPEECH}) == 0


def test_a_pause_of_the_speaker_with_a_cough_in_it_does_not_cost_the_floor() -> None:
    talk = Talk(2)
    talk.speak(3.0, speaking={0: SPEECH})
    assert talk.speak(0.3, speaking={1: -10}) == 0
    assert talk.speak(1.0, speaking={0: SPEECH}) == 0


def test_who_has_the_floor_keeps_it_in_silence() -> None:
    talk = Talk(2)
    talk.speak(2.0, speaking={1: SPEECH})
    assert talk.speak(30.0, speaking={}, listeners=1) == 1


def test_who_has_spoken_is_told_in_order_the_last_one_first() -> None:
    talk = Talk(4)
    for speaker in (2, 0, 3, 2):
        talk.speak(2.0, speaking={speaker: SPEECH}, listeners=3)
    assert list(map(int, talk.dominant.recent)) == [2, 3, 0]
    talk.dominant.remove(TrackId(3))
    assert list(map(int, talk.dominant.recent)) == [2, 0]


def test_a_quiet_voice_in_a_quiet_room_holds_the_floor_too() -> None:
    talk = Talk(2)
    talk.speak(3.0, speaking={0: LOUD}, listeners=1)
    assert talk.speak(2.0, speaking={1: -45}, listeners=1) == 1


def test_noise_that_goes_on_neither_keeps_the_floor_nor_takes_it() -> None:
    dominant = DominantSpeaker()
    for number in (0, 1):
        dominant.add(TrackId(number), 10.0)
    floor = []
    for step in range(3000):
        now = 10.0 + step * PACKET
        dominant.receive(TrackId(1), -50, now)
        if 2000 <= step < 2150:
            dominant.receive(TrackId(0), SPEECH - 12 * (step % 5 == 0), now)
        floor.append(dominant.update(now))
    assert floor[2149:] == [0] * 851


def test_who_is_removed_holds_nothing() -> None:
    talk = Talk(2)
    talk.speak(2.0, speaking={0: SPEECH})
    talk.dominant.remove(TrackId(0))
    talk.dominant.receive(TrackId(0), LOUD, talk.now)
    assert talk.dominant.update(talk.now) is None


@given(packets)
def test_only_who_is_known_ever_holds_the_floor(course: list[tuple[int, int, float]]) -> None:
    dominant = DominantSpeaker()
    now = 1.0
    for number in range(4):
        dominant.add(TrackId(number), now)
    for number, decibels, wait in course:
        now += wait
        dominant.receive(TrackId(number), decibels, now)
        assert dominant.update(now) in {None, 0, 1, 2, 3}


def test_levels_outside_their_range_count_as_its_ends() -> None:
    levels = listening(2, places=1)
    levels.receive(TrackId(0), 0, 1.0)
    levels.update(1.0)
    levels.receive(TrackId(1), 1000, 1.0 + AudioLevels.MIN_STAY)
    levels.receive(TrackId(0), 0, 1.0 + AudioLevels.MIN_STAY)
    assert levels.update(1.0 + AudioLevels.MIN_STAY) == tracks(0)
    assert SILENCE == -127
