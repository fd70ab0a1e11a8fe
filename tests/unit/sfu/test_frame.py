import pytest

from sfu.dependency_descriptor import DependencyDescriptor, DependencyReader, Structure, Template, decode_descriptor
from sfu.errors import RtpParseError
from sfu.frame import AUDIO, Frame, inspect, rewrite, rewrite_dependency
from sfu.media_engine import Codec
from sfu.rewriter import Picture, Rewritten
from sfu.rtp import decode_header, encode_packet
from tests.support.dependency_descriptors import encode_descriptor

KEY_FRAME = bytes.fromhex("50a9009d012a80026801")
VP8 = bytes.fromhex("90e0 9234 ab 40")  # picture 0x1234, TID 1, no layer sync
OUT = Rewritten(7, 8, 0x7FFF + 1 + 0x1122, 0x44, 0x1BBCC)

# Three temporal layers: T2 T1 T2 T0, and a decode target for each.
TEMPLATES = (
    Template(0, 0, (2, 2, 2), ()),
    Template(0, 0, (2, 3, 3), (4,)),
    Template(0, 1, (0, 2, 3), (2,)),
    Template(0, 1, (0, 1, 1), (2,)),
    Template(0, 2, (0, 0, 2), (1,)),
    Template(0, 2, (0, 0, 1), (1,)),
)
STRUCTURE = Structure(0, 3, TEMPLATES)


def _inspect(
    payload: bytes, codec: Codec = Codec.VP8, dependency: bytes = b"", reader: DependencyReader | None = None
) -> Frame:
    packet = encode_packet(96, 1, 2, 3, payload)
    return inspect(codec, packet, decode_header(packet), dependency, reader or DependencyReader())


def _described(template_id: int, *, attached: bool = False, starts_frame: bool = True) -> bytes:
    return encode_descriptor(
        DependencyDescriptor(
            starts_frame=starts_frame,
            ends_frame=True,
            template_id=template_id,
            frame_number=99,
            attached=STRUCTURE if attached else None,
            frame=TEMPLATES[template_id],
        ),
        STRUCTURE,
    )


def _reader() -> DependencyReader:
    reader = DependencyReader()
    reader.read(_described(0, attached=True))
    return reader


def test_sound_needs_no_look() -> None:
    assert _inspect(b"anything", Codec.OPUS) is AUDIO


def test_without_a_dependency_descriptor_the_payload_tells() -> None:
    frame = _inspect(VP8 + bytes(20))
    assert (frame.starts_frame, frame.begins_key_frame, frame.temporal_id, frame.is_switching_point) == (
        True,
        False,
        1,
        False,
    )
    assert frame.picture == Picture(0x1234, 15, 0xAB)
    assert _inspect(VP8 + KEY_FRAME).begins_key_frame


def test_the_lowest_temporal_layer_can_always_be_joined() -> None:
    assert _inspect(bytes.fromhex("90e0 9234 ab 00") + bytes(9)).is_switching_point


def test_the_dependency_descriptor_is_believed_before_the_payload() -> None:
    frame = _inspect(VP8 + KEY_FRAME, dependency=_described(4), reader=_reader())
    assert (frame.begins_key_frame, frame.temporal_id, frame.frame_number) == (False, 2, 99)
    frame = _inspect(VP8 + bytes(20), dependency=_described(0, attached=True))
    assert (frame.begins_key_frame, frame.temporal_id) == (True, 0)


@pytest.mark.parametrize(("template_id", "can_join"), [(1, True), (2, True), (3, False), (4, True), (5, False)])
def test_a_temporal_layer_is_joined_where_its_decode_target_has_a_switch(template_id: int, can_join: bool) -> None:  # noqa: FBT001
    assert _inspect(VP8 + bytes(9), dependency=_described(template_id), reader=_reader()).is_switching_point is can_join


def test_a_descriptor_of_an_unknown_structure_leaves_the_layer_to_the_payload() -> None:
    frame = _inspect(VP8 + bytes(9), dependency=_described(4))
    assert (frame.temporal_id, frame.frame_number) == (1, 99)


def test_what_does_not_parse_is_refused() -> None:
    for payload, dependency in ((b"\x90", b""), (VP8 + bytes(9), b"\0")):
        with pytest.raises(RtpParseError):
            _inspect(payload, dependency=dependency)


@pytest.mark.parametrize(
    ("codec", "before", "after"),
    [
        (Codec.VP8, "90e0 9234 ab 40", "90e0 9122 44 40"),
        (Codec.VP8, "90e0 34 ab 40", "90e0 22 44 40"),
        (Codec.VP8, "9080 34", "9080 22"),
        (Codec.VP8, "9040 ab", "9040 44"),
        (Codec.VP8, "10", "10"),
        (Codec.VP9, "ac 9234 50 ab", "ac 9122 50 44"),
        (Codec.VP9, "88 34", "88 22"),
        (Codec.OPUS, "9080 34", "9080 34"),
    ],
)
def test_only_the_numbers_of_the_picture_are_rewritten(codec: Codec, before: str, after: str) -> None:
    packet = encode_packet(96, 1, 2, 3, bytes.fromhex(before) + b"ciphertext")
    header = decode_header(packet)
    frame = inspect(codec, packet, header, b"", DependencyReader())
    assert rewrite(packet, header, frame, OUT) == bytes.fromhex(after) + b"ciphertext"


def test_only_the_frame_number_of_a_dependency_descriptor_is_rewritten() -> None:
    before = _described(0, attached=True)
    after = decode_descriptor(rewrite_dependency(before, OUT), None)
    assert after == decode_descriptor(before, None)._replace(frame_number=0xBBCC)
