from sfu.conference_speakers import RoomSpeakers
from sfu.media_engine import TrackId

ADA, BEN = TrackId(1), TrackId(2)


def speak(speakers: RoomSpeakers, track: TrackId, begin: float, end: float, decibels: int = -20) -> None:
    """A packet of sound every 20 ms."""
    for at in range(int(begin * 50), int(end * 50)):
        speakers.receive(track, decibels, at / 50)
        speakers.update(at / 50)


def room(places: int = 3) -> RoomSpeakers:
    speakers = RoomSpeakers(places)
    speakers.add(ADA, "ada")
    speakers.add(BEN, "ben")
    return speakers


def test_who_writes_no_levels_is_always_forwarded_but_never_told() -> None:
    speakers = room(places=1)
    speak(speakers, ADA, 0, 1)
    assert speakers.forwards(BEN)
    assert speakers.poll(1.0) == ("ada",)


def test_the_quieter_one_of_two_is_not_forwarded_when_there_is_one_place() -> None:
    speakers = room(places=1)
    for at in range(100):
        speakers.receive(ADA, -20, at / 50)
        speakers.receive(BEN, -40, at / 50)
        speakers.update(at / 50)
    assert speakers.forwards(ADA) and not speakers.forwards(BEN)


def test_speakers_are_told_once_and_again_when_they_have_been_silent_for_a_while() -> None:
    speakers = room()
    assert speakers.poll(0.0) is None
    speak(speakers, ADA, 0, 1)
    assert speakers.poll(1.0) == ("ada",)
    assert speakers.poll(1.5) is None
    assert speakers.poll(1.0 + RoomSpeakers.HOLD_SECONDS) == ()


def test_who_holds_the_floor_comes_first_however_long_the_other_one_has_spoken() -> None:
    speakers = room()
    speak(speakers, ADA, 0, 2)
    speak(speakers, BEN, 2, 3.5)
    assert speakers.poll(3.5) == ("ben", "ada")
    assert (speakers.recency("ben"), speakers.recency("ada"), speakers.recency("cy")) == (0, 1, 2)


def test_who_has_left_is_neither_heard_nor_told_nor_remembered() -> None:
    speakers = room()
    speak(speakers, ADA, 0, 1)
    assert speakers.poll(1.0) == ("ada",)
    speakers.remove(ADA)
    speakers.update(1.1)
    assert speakers.poll(1.1) == ()
    assert speakers.recency("ada") == 0  # like everybody who has never spoken
    speakers.receive(ADA, -20, 1.2)
    assert speakers.poll(1.2) is None


def test_silence_is_no_speech() -> None:
    speakers = room()
    speak(speakers, ADA, 0, 2, decibels=-80)
    assert speakers.poll(2.0) is None
