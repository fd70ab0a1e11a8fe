import pytest

from signaling.conference_media import Answer, Enter, Leave, Look, MediaCommand, Offer, OfferAgain, Source, Wish
from tests.unit.signaling.io.recording_media import RecordingMedia

ROOM = bytes(16)
WISH = Wish("b", Source.SCREEN, visible=True, width=1280, height=720, pinned=False)


@pytest.mark.parametrize(
    ("command", "call"),
    [
        (Enter(ROOM, "a"), ("enter", "a")),
        (Offer(ROOM, "a", "bad", 5, {"0": Source.CAMERA}), ("publish", "a", "bad", 5, {"0": Source.CAMERA})),
        (Answer(ROOM, "a", "v=0", 3), ("subscribed", "a", "v=0", 3)),
        (Look(ROOM, "a", (WISH,)), ("want", "a", (WISH,))),
        (OfferAgain(ROOM, "a"), ("restart", "a")),
        (Leave(ROOM, "a"), ("leave", "a")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_command_makes_its_call(command: MediaCommand, call: tuple[object, ...]) -> None:
    media = RecordingMedia()
    media.tell = lambda *_: None
    media.rooms[ROOM] = ["a"]
    command.carry_out(media)
    assert media.calls == [call]


def test_commands_of_the_same_participant_are_not_the_same_command() -> None:
    assert len({Enter(ROOM, "a"), Leave(ROOM, "a"), OfferAgain(ROOM, "a")}) == 3
