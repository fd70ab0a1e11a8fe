"""The VP8 payload descriptor (RFC 7741 §4.2): it lies outside what participants encrypt, and is rewritten in place."""

from typing import Final, NamedTuple, Protocol

from sfu.errors import ParseFault, RtpParseError

CLOCK_RATE: Final = 90_000  # Hz (RFC 7741 §6.1)
MAX_DESCRIPTOR: Final = 6  # bytes
_START_CODE: Final = bytes.fromhex("9d012a")  # RFC 6386 §9.1


class PictureNumbers(Protocol):
    """Where a payload descriptor has the numbers of its picture; those of VP9 have them in the same form."""

    @property
    def picture_id_offset(self) -> int: ...  # noqa: D102
    @property
    def picture_id_bits(self) -> int: ...  # noqa: D102
    @property
    def tl0_pic_idx_offset(self) -> int: ...  # noqa: D102


class Vp8Descriptor(NamedTuple):
    """A payload descriptor; offsets are in bytes from the start of the packet."""

    length: int  # bytes of the descriptor
    starts_frame: bool  # the first packet of a frame: S, and partition 0
    is_reference: bool  # false for frames that nothing depends on: N
    picture_id: int | None
    picture_id_offset: int  # 0 without a picture id
    picture_id_bits: int  # 7 or 15; 0 without a picture id
    tl0_pic_idx: int | None
    tl0_pic_idx_offset: int  # 0 without TL0PICIDX
    temporal_id: int  # TID; 0 when there is none
    is_layer_sync: bool  # Y: depends on the base layer only
    key_idx: int | None


def decode_descriptor(packet: bytes, offset: int, end: int) -> Vp8Descriptor:
    """Read the payload descriptor of a VP8 packet whose payload lies between two offsets.

    Raises:
        RtpParseError: the payload is shorter than its descriptor.
    """
    if offset >= end:
        raise RtpParseError(ParseFault.TRUNCATED, "no VP8 payload descriptor")
    first = packet[offset]
    at = offset + 1
    picture_id = tl0_pic_idx = key_idx = None
    picture_id_offset = picture_id_bits = tl0_pic_idx_offset = temporal_id = 0
    is_layer_sync = False
    if first & 0x80:
        if at >= end:
            raise RtpParseError(ParseFault.TRUNCATED, "VP8 payload descriptor")
        extension = packet[at]
        at += 1
        has_layer = extension & 0x30  # T or K: their fields share a byte
        size = (extension >> 7 & 1) + (extension >> 6 & 1) + bool(has_layer)
        if extension & 0x80 and at < end and packet[at] & 0x80:
            size += 1
        if at + size > end:
            raise RtpParseError(ParseFault.TRUNCATED, "VP8 payload descriptor")
        if extension & 0x80:
            picture_id_offset = at
            picture_id = packet[at]
            if picture_id & 0x80:
                picture_id_bits = 15
                picture_id = (picture_id & 0x7F) << 8 | packet[at + 1]
                at += 2
            else:
                picture_id_bits = 7
                at += 1
        if extension & 0x40:
            tl0_pic_idx_offset = at
            tl0_pic_idx = packet[at]
            at += 1
        if has_layer:
            layer = packet[at]
            at += 1
            if extension & 0x20:
                temporal_id = layer >> 6
                is_layer_sync = bool(layer & 0x20)
            if extension & 0x10:
                key_idx = layer & 0x1F
    return Vp8Descriptor(
        at - offset,
        first & 0x17 == 0x10,
        not first & 0x20,
        picture_id,
        picture_id_offset,
        picture_id_bits,
        tl0_pic_idx,
        tl0_pic_idx_offset,
        temporal_id,
        is_layer_sync,
        key_idx,
    )


def begins_key_frame(packet: bytes, offset: int, end: int, descriptor: Vp8Descriptor) -> bool:
    """Whether a packet is the first one of a key frame, by the first ten bytes of the frame (RFC 6386 §9.1).

    Participants encrypt whole frames but leave these bytes of a key frame clear. The P bit alone is not believed: of
    an encrypted frame without a clear prefix it is a matter of chance; the start code behind it is not.
    """
    at = offset + descriptor.length
    return descriptor.starts_frame and at + 10 <= end and not packet[at] & 1 and packet[at + 3 : at + 6] == _START_CODE


def rewrite_descriptor(
    packet: bytearray, offset: int, descriptor: PictureNumbers, picture_id: int, tl0_pic_idx: int
) -> None:
    """Write another picture id and TL0PICIDX where the descriptor has them; each is cut to its width.

    Args:
        packet: a copy of the packet, or another one with the same payload.
        offset: how many bytes further back the payload lies than in the packet that was read; may be negative.
        descriptor: what was read.
        picture_id: the number of the picture.
        tl0_pic_idx: the number of the last picture of temporal layer 0.
    """
    if descriptor.picture_id_bits == 15:
        at = descriptor.picture_id_offset + offset
        packet[at] = 0x80 | picture_id >> 8 & 0x7F
        packet[at + 1] = picture_id & 0xFF
    elif descriptor.picture_id_bits:
        packet[descriptor.picture_id_offset + offset] = picture_id & 0x7F
    if descriptor.tl0_pic_idx_offset:
        packet[descriptor.tl0_pic_idx_offset + offset] = tl0_pic_idx & 0xFF
