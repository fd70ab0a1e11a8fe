"""What a real browser sends, header by header: parsed, learnt and described. Its payloads are not needed for that."""

import json
from pathlib import Path

import pytest

from sfu.dependency_descriptor import DependencyReader
from sfu.layers import LayerTable
from sfu.media_engine import Codec, Kind, PayloadTypes, TrackId, UpTrack
from sfu.rtp import ONE_BYTE_PROFILE, TWO_BYTE_PROFILE, decode_extensions, decode_header

VECTORS = json.loads((Path(__file__).parents[2] / "vectors/rtp-headers-chromium.json").read_text())
MID, RID, REPAIRED_RID, TRANSPORT, DEPENDENCY = 9, 10, 11, 4, 13
VP8, RTX = VECTORS["payload_types"]["vp8"], VECTORS["payload_types"]["rtx"]


@pytest.fixture
def headers() -> list[bytes]:
    # The padding bit speaks of payloads that are left out.
    raw = [bytes.fromhex(text) for text in VECTORS["headers"]]
    return [bytes((header[0] & 0xDF,)) + header[1:] for header in raw]


def test_every_packet_is_numbered_for_its_transport(headers: list[bytes]) -> None:
    values = [decode_extensions(raw, decode_header(raw))[TRANSPORT] for raw in headers]
    assert all(len(value) == 2 for value in values)
    assert len(set(values)) == len(values)


def test_long_values_come_with_headers_of_two_bytes(headers: list[bytes]) -> None:
    profiles = {decode_header(raw).profile for raw in headers}
    assert profiles <= {ONE_BYTE_PROFILE, TWO_BYTE_PROFILE}
    assert len(profiles) == 2


def test_the_layer_and_its_retransmissions_are_learnt_from_their_first_packets(headers: list[bytes]) -> None:
    table = LayerTable()
    table.expect(TrackId(1), UpTrack(Kind.VIDEO, "0", (PayloadTypes(Codec.VP8, VP8, RTX),), ("q", "h")))
    for raw in headers:
        header = decode_header(raw)
        values = decode_extensions(raw, header)
        if table.find(header.ssrc) is None:
            ids = (values.get(identifier, b"") for identifier in (MID, RID, REPAIRED_RID))
            assert table.learn(header.ssrc, header.payload_type, *ids) is not None
    sources = sorted((source.layer, source.is_rtx) for source in table)
    assert sources == [(0, False), (0, True)]


def test_frames_are_numbered_on_and_alternate_between_the_temporal_layers(headers: list[bytes]) -> None:
    reader = DependencyReader()
    frames = []
    for raw in headers:
        header = decode_header(raw)
        value = decode_extensions(raw, header).get(DEPENDENCY)
        if header.payload_type == VP8:
            assert value is not None
            frames.append(reader.read(value))
    assert [frame.frame_number for frame in frames] == list(range(1, len(frames) + 1))
    assert [frame.begins_key_frame for frame in frames] == [True] + [False] * (len(frames) - 1)
    temporal_ids = [frame.frame.temporal_id if frame.frame is not None else None for frame in frames]
    assert temporal_ids[:7] == [0, 1, 0, 1, 0, 1, 0]
