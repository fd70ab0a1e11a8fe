import pytest

from sfu.layers import MAX_CHANGES, MAX_LAYERS, MAX_SOURCES, MAX_TRACKS, SILENCE, LayerTable, TooManyTracks
from sfu.media_engine import Codec, Kind, PayloadTypes, TrackId, UpTrack

VP8 = PayloadTypes(Codec.VP8, 96, 97)
OPUS = PayloadTypes(Codec.OPUS, 111)
CAMERA = TrackId(1)
MICROPHONE = TrackId(2)


@pytest.fixture
def table() -> LayerTable:
    table = LayerTable()
    table.expect(CAMERA, UpTrack(Kind.VIDEO, "0", (VP8,), ("q", "h", "f")))
    table.expect(MICROPHONE, UpTrack(Kind.AUDIO, "1", (OPUS,)))
    return table


def test_a_layer_is_learnt_by_mid_and_rid(table: LayerTable) -> None:
    source = table.learn(7, 96, b"0", b"h")
    assert source is not None
    assert (source.track, source.layer, source.kind, source.payload, source.is_rtx) == (
        CAMERA,
        1,
        Kind.VIDEO,
        VP8,
        False,
    )
    assert table.find(7) is source
    assert table.source_of(CAMERA, 1) is source


def test_retransmissions_are_learnt_by_the_rid_that_they_repair(table: LayerTable) -> None:
    source = table.learn(8, 97, b"0", b"", b"f")
    assert source is not None
    assert (source.layer, source.is_rtx) == (2, True)
    assert table.source_of(CAMERA, 2) is None
    assert table.source_of(CAMERA, 2, is_rtx=True) is source


def test_without_simulcast_the_mid_is_enough(table: LayerTable) -> None:
    source = table.learn(9, 111, b"1")
    assert source is not None
    assert (source.track, source.layer) == (MICROPHONE, 0)


def test_a_payload_type_that_only_one_track_has_names_it(table: LayerTable) -> None:
    source = table.learn(9, 111)
    assert source is not None
    assert source.track == MICROPHONE


def test_an_ssrc_of_the_sdp_names_layer_and_retransmissions() -> None:
    table = LayerTable()
    for track in (1, 2):
        table.expect(TrackId(track), UpTrack(Kind.VIDEO, str(track), (VP8,), (), ((10 * track, 10 * track + 1),)))
    primary, rtx = table.learn(20, 96), table.learn(21, 97)
    assert primary is not None and rtx is not None
    assert (primary.track, primary.is_rtx) == (2, False)
    assert (rtx.track, rtx.is_rtx) == (2, True)
    assert table.learn(22, 96) is None


@pytest.mark.parametrize(
    ("payload_type", "mid", "rid"),
    [
        (96, b"0", b""),
        (96, b"0", b"x"),
        (96, b"0", b"\xff"),
        (96, b"2", b"q"),
        (97, b"0", b"q"),
        (98, b"0", b"q"),
        (96, b"1", b""),
        (0, b"1", b""),
        (0, b"", b""),
    ],
)
def test_a_packet_that_says_too_little_or_what_was_not_announced_is_nobodys(
    table: LayerTable, payload_type: int, mid: bytes, rid: bytes
) -> None:
    assert table.learn(7, payload_type, mid, rid) is None
    assert table.find(7) is None


def test_a_layer_that_begins_anew_has_a_new_ssrc(table: LayerTable) -> None:
    table.learn(7, 96, b"0", b"q")
    source = table.learn(17, 96, b"0", b"q")
    assert table.find(7) is None
    assert table.source_of(CAMERA, 0) is source


def test_a_late_packet_of_the_ssrc_before_does_not_take_its_layer_back(table: LayerTable) -> None:
    table.learn(7, 96, b"0", b"q")
    source = table.learn(17, 96, b"0", b"q")
    assert table.learn(7, 96, b"0", b"q") is None
    assert table.source_of(CAMERA, 0) is source
    table.forget(CAMERA)
    table.expect(CAMERA, UpTrack(Kind.VIDEO, "0", (VP8,), ("q",)))
    assert table.learn(7, 96, b"0", b"q") is not None  # announced anew, everything may be as it was once


def test_an_ssrc_stays_with_its_layer_whatever_its_packets_say(table: LayerTable) -> None:
    source = table.learn(7, 96, b"0", b"q")
    assert table.learn(7, 97, b"0", b"", b"q") is None
    assert table.learn(7, 96, b"0", b"h") is None
    assert table.learn(7, 111, b"1") is None
    assert list(table) == [source]
    assert table.find(7) is source


def test_the_codec_of_an_ssrc_may_change() -> None:
    table = LayerTable()
    table.expect(CAMERA, UpTrack(Kind.VIDEO, "0", (VP8, PayloadTypes(Codec.VP9, 98, 99))))
    table.learn(7, 96, b"0")
    source = table.learn(7, 98, b"0")
    assert source is not None
    assert source.payload.codec is Codec.VP9
    assert table.find(7) is source


def test_a_track_changes_its_ssrcs_only_so_often(table: LayerTable) -> None:
    learnt = [table.learn(ssrc, 96, b"0", b"q") for ssrc in range(MAX_CHANGES + 3)]
    assert learnt[MAX_CHANGES] is table.source_of(CAMERA, 0)
    assert learnt[MAX_CHANGES + 1 :] == [None, None]
    assert table.learn(9, 111, b"1") is not None  # other tracks are not concerned


def test_a_session_has_a_bounded_number_of_sources_however_many_ssrcs_it_invents(table: LayerTable) -> None:
    for ssrc in range(10 * MAX_SOURCES):
        table.learn(ssrc, 96, b"0", b"qhf"[ssrc % 3 : ssrc % 3 + 1])
    assert len(list(table)) == 3


def test_tracks_and_layers_have_a_bound(table: LayerTable) -> None:
    with pytest.raises(TooManyTracks):
        table.expect(TrackId(3), UpTrack(Kind.VIDEO, "3", (VP8,), tuple("abcdefg"[: MAX_LAYERS + 1])))
    for track in range(3, MAX_TRACKS + 1):
        table.expect(TrackId(track), UpTrack(Kind.VIDEO, str(track), (VP8,)))
    with pytest.raises(TooManyTracks):
        table.expect(TrackId(99), UpTrack(Kind.VIDEO, "99", (VP8,)))
    assert MAX_TRACKS * MAX_LAYERS * 2 <= MAX_SOURCES


def test_a_layer_starts_with_its_first_packet_and_stops_when_none_came_for_a_while(table: LayerTable) -> None:
    source = table.learn(7, 96, b"0", b"q")
    assert source is not None
    assert source.hear(10.0) is True
    assert source.hear(11.0) is False
    assert table.silent(11.0 + SILENCE - 0.1) == []
    assert table.silent(11.0 + SILENCE) == [source]
    assert table.silent(99.0) == []
    assert source.hear(100.0) is True


def test_retransmissions_that_stop_are_no_layer_that_stops(table: LayerTable) -> None:
    source = table.learn(8, 97, b"0", b"", b"f")
    assert source is not None
    source.hear(0.0)
    assert table.silent(99.0) == []


def test_a_forgotten_track_takes_its_sources_along(table: LayerTable) -> None:
    camera, microphone = table.learn(7, 96, b"0", b"q"), table.learn(9, 111)
    assert table.forget(CAMERA) == [camera]
    assert table.find(7) is None
    assert list(table) == [microphone]
    assert table.learn(7, 96, b"0", b"q") is None
