import pytest

from sfu.allocator import Content, Hints
from sfu.conference_layers import NOMINAL_SOUND
from sfu.conference_member import MAX_WISHES, Member, PublishedSource, accepted_sources
from sfu.conference_messages import Source, Wish
from sfu.media_engine import DownTrackId, TrackId
from sfu.sdp.description import SdpError
from tests.support.fake_media import camera, microphone

CAMERA = PublishedSource(TrackId(1), "ben", Source.CAMERA, camera().announced)


def test_a_member_looks_at_everything_until_it_says_at_what() -> None:
    member = Member("ada")
    assert member.hints(CAMERA) == Hints()
    member.take_wishes([Wish("ben", Source.SCREEN)])
    assert not member.hints(CAMERA).visible
    member.take_wishes([Wish("ben", Source.CAMERA, visible=True, width=320, height=180, pinned=True)])
    assert member.hints(CAMERA) == Hints(visible=True, width=320, height=180, pinned=True)


def test_wishes_beyond_the_bound_are_not_looked_at() -> None:
    member = Member("ada")
    others = [Wish(f"m{number}", Source.CAMERA) for number in range(MAX_WISHES)]
    member.take_wishes([*others, Wish("ben", Source.CAMERA)])
    assert not member.hints(CAMERA).visible
    member.take_wishes([*others[1:], Wish("ben", Source.CAMERA)])
    assert member.hints(CAMERA).visible


def test_sound_costs_what_it_was_measured_at() -> None:
    up = PublishedSource(TrackId(1), "ben", Source.MICROPHONE, microphone().announced)
    assert up.layers(((),))[0].bitrates == (NOMINAL_SOUND,)
    assert up.layers(((20e3,),))[0].bitrates == (20e3,)
    assert Member("ada").offer(DownTrackId(7), up, up.layers(()), 0).content is Content.AUDIO


def test_each_m_line_is_what_the_client_says_it_is() -> None:
    accepted = accepted_sources(
        [microphone(), camera("1"), camera("2", ())],
        {"0": Source.MICROPHONE, "1": Source.CAMERA, "2": Source.SCREEN, "9": Source.SCREEN},
    )
    assert {mid: source for mid, (source, _) in accepted.items()} == {
        "0": Source.MICROPHONE,
        "1": Source.CAMERA,
        "2": Source.SCREEN,
    }


@pytest.mark.parametrize(
    "sources",
    [
        {},
        {"0": Source.MICROPHONE},
        {"0": Source.CAMERA, "1": Source.MICROPHONE},
        {"0": Source.SCREEN, "1": Source.CAMERA},
    ],
)
def test_a_track_without_a_source_or_of_another_kind_is_refused(sources: dict[str, Source]) -> None:
    with pytest.raises(SdpError):
        accepted_sources([microphone(), camera()], sources)


def test_two_cameras_of_one_member_are_refused() -> None:
    with pytest.raises(SdpError, match="two tracks"):
        accepted_sources([camera("1"), camera("2")], {"1": Source.CAMERA, "2": Source.CAMERA})
