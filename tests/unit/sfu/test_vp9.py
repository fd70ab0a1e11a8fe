import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfu.errors import ParseFault, RtpParseError
from sfu.vp8 import rewrite_descriptor
from sfu.vp9 import begins_key_frame, decode_descriptor

FULL = bytes.fromhex("ac 9234 50 ab")  # I, L, B, E; picture id 0x1234; TID 2, U, SID 0; TL0PICIDX
FLEXIBLE = bytes.fromhex("f8 05 22 03 05 06")  # I, P, L, F, B; TID 1, SID 1; three references


def test_every_field_lies_where_the_rfc_says() -> None:
    packet = b"head" + FULL + b"data"
    descriptor = decode_descriptor(packet, 4, len(packet))
    assert (descriptor.starts_frame, descriptor.ends_frame, descriptor.is_predicted) == (True, True, False)
    assert (descriptor.picture_id, descriptor.picture_id_bits, descriptor.picture_id_offset) == (0x1234, 15, 5)
    assert (descriptor.temporal_id, descriptor.spatial_id, descriptor.is_switching_point) == (2, 0, True)
    assert (descriptor.tl0_pic_idx, descriptor.tl0_pic_idx_offset) == (0xAB, 8)
    assert begins_key_frame(descriptor)


def test_in_flexible_mode_references_take_the_place_of_tl0picidx() -> None:
    descriptor = decode_descriptor(FLEXIBLE, 0, len(FLEXIBLE))
    assert (descriptor.picture_id, descriptor.picture_id_bits) == (5, 7)
    assert (descriptor.temporal_id, descriptor.spatial_id) == (1, 1)
    assert descriptor.tl0_pic_idx is None
    assert descriptor.is_predicted
    assert not begins_key_frame(descriptor)


@pytest.mark.parametrize(("raw", "begins"), [("08", True), ("00", False), ("48", False), ("28 0200", False)])
def test_a_key_picture_begins_with_its_lowest_frame(raw: str, begins: bool) -> None:  # noqa: FBT001
    payload = bytes.fromhex(raw)
    assert begins_key_frame(decode_descriptor(payload, 0, len(payload))) is begins


@pytest.mark.parametrize("full", [FULL, FLEXIBLE])
def test_a_payload_shorter_than_its_descriptor_is_refused(full: bytes) -> None:
    for size in range(len(full)):
        with pytest.raises(RtpParseError) as refused:
            decode_descriptor(full, 0, size)
        assert refused.value.fault is ParseFault.TRUNCATED


def test_a_fourth_reference_is_refused() -> None:
    with pytest.raises(RtpParseError) as refused:
        decode_descriptor(bytes.fromhex("58 03 03 03 02"), 0, 5)
    assert refused.value.fault is ParseFault.TOO_MANY


@given(st.binary(max_size=12), st.integers(0, 12))
def test_the_parser_raises_nothing_but_its_own_error(payload: bytes, offset: int) -> None:
    with contextlib.suppress(RtpParseError):
        descriptor = decode_descriptor(payload, offset, len(payload))
        assert descriptor.picture_id_offset < len(payload)
        assert descriptor.tl0_pic_idx_offset < len(payload)


@given(
    st.sampled_from(["ac 9234 50 ab", "a8 12 50 ab", "f8 05 22 02", "08"]), st.integers(0, 1 << 20), st.integers(0, 999)
)
def test_what_is_rewritten_reads_as_what_was_written_and_the_rest_stays(
    raw: str, picture_id: int, tl0_pic_idx: int
) -> None:
    payload = bytes.fromhex(raw) + b"data"
    before = decode_descriptor(payload, 0, len(payload))
    packet = bytearray(b"head" + payload)
    rewrite_descriptor(packet, 4, before, picture_id, tl0_pic_idx)
    after = decode_descriptor(bytes(packet[4:]), 0, len(payload))
    if before.picture_id is not None:
        assert after.picture_id == picture_id & (1 << before.picture_id_bits) - 1
    if before.tl0_pic_idx is not None:
        assert after.tl0_pic_idx == tl0_pic_idx & 0xFF
    assert after._replace(picture_id=None, tl0_pic_idx=None) == before._replace(picture_id=None, tl0_pic_idx=None)
    assert packet.startswith(b"head") and packet.endswith(b"data")
