"""What a packet tells of its frame in the clear: where frames and key frames begin, and what may be left out."""

from typing import Final, NamedTuple

from sfu import vp8, vp9
from sfu.dependency_descriptor import DependencyReader, Structure, Template, with_frame_number
from sfu.media_engine import Codec
from sfu.rewriter import NO_PICTURE, Picture, Rewritten
from sfu.rtp import RtpHeader

_SWITCH: Final = 2  # a decode target indication


class Frame(NamedTuple):
    """What one packet says of the frame that it belongs to."""

    starts_frame: bool
    begins_key_frame: bool
    temporal_id: int
    is_switching_point: bool  # from here on, its temporal layer can be decoded without earlier frames of that layer
    picture: Picture
    frame_number: int  # of the Dependency Descriptor; 0 without one
    numbers: vp8.PictureNumbers | None  # where the payload descriptor has the numbers of the picture
    head: int  # bytes of the payload in which they lie


# Every packet of audio can be played by itself.
AUDIO: Final = Frame(True, True, 0, True, NO_PICTURE, 0, None, 0)  # noqa: FBT003  # a tuple


def inspect(codec: Codec, packet: bytes, header: RtpHeader, dependency: bytes, reader: DependencyReader) -> Frame:
    """Find out about the frame of a packet with a payload, by its Dependency Descriptor and else by its payload.

    Args:
        codec: of its payload type.
        packet: all of it.
        header: as `decode_header` read it.
        dependency: the value of its Dependency Descriptor, or nothing.
        reader: of the stream; it learns the structure that is attached.

    Raises:
        RtpParseError: the descriptor of the payload, or the Dependency Descriptor, does not parse.
    """
    if codec is Codec.OPUS:
        return AUDIO
    begin, end = header.payload_offset, header.payload_end
    numbers: vp8.Vp8Descriptor | vp9.Vp9Descriptor
    if codec is Codec.VP8:
        numbers = vp8.decode_descriptor(packet, begin, end)
        is_switching_point = numbers.is_layer_sync
        is_key = vp8.begins_key_frame(packet, begin, end, numbers)
    else:
        numbers = vp9.decode_descriptor(packet, begin, end)
        is_switching_point = numbers.is_switching_point
        is_key = vp9.begins_key_frame(numbers)
    head = max(numbers.picture_id_offset + (numbers.picture_id_bits + 7) // 8, numbers.tl0_pic_idx_offset + 1) - begin
    picture = Picture(numbers.picture_id or 0, numbers.picture_id_bits, numbers.tl0_pic_idx or 0)
    starts_frame, temporal_id, frame_number = numbers.starts_frame, numbers.temporal_id, 0
    if dependency:
        described = reader.read(dependency)
        starts_frame, frame_number, is_key = described.starts_frame, described.frame_number, described.begins_key_frame
        if described.frame is not None and reader.structure is not None:
            temporal_id = described.frame.temporal_id
            is_switching_point = _is_switching_point(described.frame, reader.structure)
    return Frame(
        starts_frame,
        is_key,
        temporal_id,
        is_switching_point or temporal_id == 0,
        picture,
        frame_number,
        numbers,
        max(head, 0),
    )


def _is_switching_point(frame: Template, structure: Structure) -> bool:
    """Whether a decode target that ends at the temporal layer of a frame may be joined at it."""
    for target, indication in enumerate(frame.indications):
        if indication == _SWITCH and frame.temporal_id == max(
            (template.temporal_id for template in structure.templates if template.indications[target]), default=0
        ):
            return True
    return False


def rewrite(packet: bytes, header: RtpHeader, frame: Frame, out: Rewritten) -> bytes:
    """The payload of a packet with the numbers of its picture under which it goes out."""
    payload = packet[header.payload_offset : header.payload_end]
    if frame.numbers is None:
        return payload
    head = bytearray(payload[: frame.head])
    vp8.rewrite_descriptor(head, -header.payload_offset, frame.numbers, out.picture_id, out.tl0_pic_idx)
    return bytes(head) + payload[frame.head :]


def rewrite_dependency(dependency: bytes, out: Rewritten) -> bytes:
    """A Dependency Descriptor with the frame number under which it goes out."""
    return with_frame_number(dependency, out.frame_number)
