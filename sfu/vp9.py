"""The VP9 payload descriptor (RFC 9628 §4.2), as far as forwarding needs it: frames, pictures and temporal layers.

Spatial layers of one stream (SVC) are read and forwarded together; they are never taken apart here.
"""

from typing import Final, NamedTuple

from sfu.errors import ParseFault, RtpParseError

CLOCK_RATE: Final = 90_000  # Hz (RFC 9628 §5)
MAX_REFERENCES: Final = 3  # P_DIFF of one packet (RFC 9628 §4.2)


class Vp9Descriptor(NamedTuple):
    """A payload descriptor up to its references; offsets are in bytes from the start of the packet."""

    starts_frame: bool  # B
    ends_frame: bool  # E
    is_predicted: bool  # P: needs earlier pictures
    picture_id: int | None
    picture_id_offset: int  # 0 without a picture id
    picture_id_bits: int  # 7 or 15; 0 without a picture id
    temporal_id: int
    spatial_id: int
    is_switching_point: bool  # U: higher temporal layers may be joined here
    tl0_pic_idx: int | None
    tl0_pic_idx_offset: int  # 0 without TL0PICIDX


class _Reader:
    """Takes bytes of a payload one by one, and refuses to go beyond its end."""

    def __init__(self, packet: bytes, offset: int, end: int) -> None:
        self._packet = packet
        self.offset = offset
        self._end = end

    def take(self) -> int:
        if self.offset >= self._end:
            raise RtpParseError(ParseFault.TRUNCATED, "VP9 payload descriptor")
        byte = self._packet[self.offset]
        self.offset += 1
        return byte


def decode_descriptor(packet: bytes, offset: int, end: int) -> Vp9Descriptor:
    """Read the payload descriptor of a VP9 packet whose payload lies between two offsets.

    Raises:
        RtpParseError: the payload is shorter than its descriptor, or there are more than MAX_REFERENCES.
    """
    reader = _Reader(packet, offset, end)
    first = reader.take()
    picture_id = tl0_pic_idx = None
    picture_id_offset = picture_id_bits = tl0_pic_idx_offset = temporal_id = spatial_id = 0
    is_switching_point = False
    is_flexible = bool(first & 0x10)
    if first & 0x80:
        picture_id_offset = reader.offset
        picture_id = reader.take()
        picture_id_bits = 7
        if picture_id & 0x80:
            picture_id_bits = 15
            picture_id = (picture_id & 0x7F) << 8 | reader.take()
    if first & 0x20:
        layer = reader.take()
        temporal_id, spatial_id, is_switching_point = layer >> 5, layer >> 1 & 7, bool(layer & 0x10)
        if not is_flexible:
            tl0_pic_idx_offset = reader.offset
            tl0_pic_idx = reader.take()
    if is_flexible and first & 0x40:
        references = 1
        while reader.take() & 1:  # N: another one follows
            references += 1
            if references > MAX_REFERENCES:
                raise RtpParseError(ParseFault.TOO_MANY, "VP9 references")
    return Vp9Descriptor(
        bool(first & 0x08),
        bool(first & 0x04),
        bool(first & 0x40),
        picture_id,
        picture_id_offset,
        picture_id_bits,
        temporal_id,
        spatial_id,
        is_switching_point,
        tl0_pic_idx,
        tl0_pic_idx_offset,
    )


def begins_key_frame(descriptor: Vp9Descriptor) -> bool:
    """Whether a packet is the first one of a key picture: the first frame of a picture that needs no other."""
    return descriptor.starts_frame and not descriptor.is_predicted and descriptor.spatial_id == 0
