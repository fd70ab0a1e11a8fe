import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfu.errors import ParseFault, RtpParseError
from sfu.vp8 import MAX_DESCRIPTOR, begins_key_frame, decode_descriptor, rewrite_descriptor

KEY_FRAME = bytes.fromhex("50a9009d012a80026801")  # what RFC 6386 §9.1 puts first: 640 by 360
FULL = bytes.fromhex("90f0 9234 ab b5")  # X, S; I, L, T, K; picture id 0x1234; TL0PICIDX; TID 2, Y, KEYIDX 21


def test_every_field_lies_where_the_rfc_says() -> None:
    packet = b"head" + FULL + b"data"
    descriptor = decode_descriptor(packet, 4, len(packet))
    assert descriptor.length == len(FULL) == MAX_DESCRIPTOR
    assert descriptor.starts_frame
    assert descriptor.is_reference
    assert (descriptor.picture_id, descriptor.picture_id_bits, descriptor.picture_id_offset) == (0x1234, 15, 6)
    assert (descriptor.tl0_pic_idx, descriptor.tl0_pic_idx_offset) == (0xAB, 8)
    assert (descriptor.temporal_id, descriptor.is_layer_sync, descriptor.key_idx) == (2, True, 21)


@pytest.mark.parametrize(
    ("raw", "length", "picture_id", "bits", "tl0_pic_idx", "temporal_id"),
    [
        ("10", 1, None, 0, None, 0),
        ("9080 05", 3, 5, 7, None, 0),
        ("9080 8005", 4, 5, 15, None, 0),
        ("9040 07", 3, None, 0, 7, 0),
        ("9020 40", 3, None, 0, None, 1),
        ("9010 5f", 3, None, 0, None, 0),
        ("90e0 7f 01 c0", 5, 127, 7, 1, 3),
        ("9000", 2, None, 0, None, 0),
    ],
)
def test_each_field_may_be_absent(
    raw: str, length: int, picture_id: int | None, bits: int, tl0_pic_idx: int | None, temporal_id: int
) -> None:
    packet = bytes.fromhex(raw) + b"data"
    descriptor = decode_descriptor(packet, 0, len(packet))
    assert descriptor.length == length
    assert (descriptor.picture_id, descriptor.picture_id_bits) == (picture_id, bits)
    assert descriptor.tl0_pic_idx == tl0_pic_idx
    assert descriptor.temporal_id == temporal_id


@pytest.mark.parametrize("size", range(len(FULL)))
def test_a_payload_shorter_than_its_descriptor_is_refused(size: int) -> None:
    with pytest.raises(RtpParseError) as refused:
        decode_descriptor(FULL, 0, size)
    assert refused.value.fault is ParseFault.TRUNCATED


@pytest.mark.parametrize(("first", "starts"), [(0x10, True), (0x00, False), (0x11, False), (0x30, True)])
def test_a_frame_starts_with_its_first_partition(first: int, starts: bool) -> None:  # noqa: FBT001
    descriptor = decode_descriptor(bytes((first, 0)), 0, 2)
    assert descriptor.starts_frame is starts
    assert descriptor.is_reference is (first != 0x30)


def test_a_key_frame_is_known_by_its_clear_prefix() -> None:
    packet = FULL + KEY_FRAME + b"ciphertext"
    assert begins_key_frame(packet, 0, len(packet), decode_descriptor(packet, 0, len(packet)))


@pytest.mark.parametrize(
    "payload",
    [
        FULL + KEY_FRAME[:9],
        FULL + b"\x51" + KEY_FRAME[1:],
        FULL + KEY_FRAME[:3] + b"\x9d\x01\x2b" + KEY_FRAME[6:],
        b"\x80" + FULL[1:] + KEY_FRAME,
        FULL + bytes(20),
    ],
)
def test_a_p_bit_alone_is_no_key_frame(payload: bytes) -> None:
    assert not begins_key_frame(payload, 0, len(payload), decode_descriptor(payload, 0, len(payload)))


@given(st.binary(max_size=12), st.integers(0, 12))
def test_the_parser_raises_nothing_but_its_own_error(payload: bytes, offset: int) -> None:
    with contextlib.suppress(RtpParseError):
        descriptor = decode_descriptor(payload, offset, len(payload))
        assert 1 <= descriptor.length <= min(MAX_DESCRIPTOR, len(payload) - offset)


@given(
    st.sampled_from(["90f0 9234 ab b5", "90e0 12 ab 80", "9080 8005", "9040 07", "10"]),
    st.integers(0, 1 << 20),
    st.integers(0, 1 << 12),
    st.integers(0, 20),
)
def test_what_is_rewritten_reads_as_what_was_written_and_the_rest_stays(
    raw: str, picture_id: int, tl0_pic_idx: int, shift: int
) -> None:
    payload = bytes.fromhex(raw) + b"data"
    before = decode_descriptor(payload, 0, len(payload))
    packet = bytearray(bytes(shift) + payload)
    rewrite_descriptor(packet, shift, before, picture_id, tl0_pic_idx)
    after = decode_descriptor(bytes(packet), shift, len(packet))
    if before.picture_id is not None:
        assert after.picture_id == picture_id & (1 << before.picture_id_bits) - 1
    if before.tl0_pic_idx is not None:
        assert after.tl0_pic_idx == tl0_pic_idx & 0xFF
    assert (
        after._replace(
            picture_id=before.picture_id,
            tl0_pic_idx=before.tl0_pic_idx,
            picture_id_offset=before.picture_id_offset,
            tl0_pic_idx_offset=before.tl0_pic_idx_offset,
        )
        == before
    )
    assert packet.endswith(b"data")
