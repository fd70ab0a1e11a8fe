import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stun.errors import IntegrityError
from stun.integrity import IntegrityAlgorithm, fingerprint_of, integrity_of, verify_integrity
from stun.message import decode_message, encode_message
from stun.registry import MessageClass, Method

KEY = b"a key"
every_algorithm = pytest.mark.parametrize("algorithm", IntegrityAlgorithm)


def signed(algorithm: IntegrityAlgorithm, *, fingerprint: bool = False, attributes: tuple[bytes, ...] = ()) -> bytes:
    return encode_message(
        Method.REFRESH,
        MessageClass.REQUEST,
        bytes(12),
        attributes,
        key=KEY,
        algorithm=algorithm,
        fingerprint=fingerprint,
    )


@every_algorithm
def test_the_hmac_covers_a_header_whose_length_ends_with_the_integrity(algorithm: IntegrityAlgorithm) -> None:
    message = signed(algorithm, fingerprint=True)
    header = b"\0\x04" + (4 + algorithm.size).to_bytes(2) + bytes.fromhex("2112a442") + bytes(12)
    assert integrity_of(message, 20, KEY, algorithm) == hmac.new(KEY, header, algorithm.digest).digest()
    assert message[20 : 24 + algorithm.size] == (
        algorithm.attribute_type.to_bytes(2) + algorithm.size.to_bytes(2) + hmac.digest(KEY, header, algorithm.digest)
    )


@every_algorithm
def test_the_sizes_are_those_of_the_hashes(algorithm: IntegrityAlgorithm) -> None:
    assert hashlib.new(algorithm.digest).digest_size == algorithm.size


@every_algorithm
@given(flipped=st.integers(0, 8 * 24 - 1))
def test_one_flipped_bit_in_header_or_body_breaks_the_integrity(algorithm: IntegrityAlgorithm, flipped: int) -> None:
    message = bytearray(signed(algorithm, attributes=(b"\x80\x22\0\0",)))
    at, bit = divmod(flipped, 8)
    message[at] ^= 1 << bit
    if at in {2, 3}:  # the length field is not covered as it stands
        verify_integrity(bytes(message), 24, KEY, algorithm)
    else:
        with pytest.raises(IntegrityError):
            verify_integrity(bytes(message), 24, KEY, algorithm)


@every_algorithm
@given(key=st.binary(max_size=40))
def test_no_other_key_verifies(algorithm: IntegrityAlgorithm, key: bytes) -> None:
    message = signed(algorithm)
    if key.rstrip(b"\0") == KEY:  # HMAC pads keys with zeroes
        verify_integrity(message, 20, key, algorithm)
    else:
        with pytest.raises(IntegrityError, match=algorithm.name):
            verify_integrity(message, 20, key, algorithm)


@every_algorithm
def test_a_cut_integrity_does_not_verify(algorithm: IntegrityAlgorithm) -> None:
    with pytest.raises(IntegrityError):
        verify_integrity(signed(algorithm)[:-1], 20, KEY, algorithm)


def test_the_stronger_of_two_integrity_attributes_decides() -> None:
    first = signed(IntegrityAlgorithm.SHA1)
    both = first[:2] + (24 + 36).to_bytes(2) + first[4:]
    good = both + b"\0\x1c\0\x20" + integrity_of(both, len(both), KEY, IntegrityAlgorithm.SHA256)
    message = decode_message(good)
    assert message.integrity is IntegrityAlgorithm.SHA256
    message.verify(KEY)
    with pytest.raises(IntegrityError):
        decode_message(good[:-1] + bytes((good[-1] ^ 1,))).verify(KEY)


def test_a_message_without_integrity_cannot_be_verified() -> None:
    message = decode_message(encode_message(Method.BINDING, MessageClass.REQUEST, bytes(12)))
    assert message.integrity is None
    with pytest.raises(ValueError, match="no integrity"):
        message.verify(KEY)


def test_the_fingerprint_takes_any_buffer() -> None:
    data = b"some covered bytes"
    assert fingerprint_of(data) == fingerprint_of(memoryview(data))
    assert 0 <= fingerprint_of(b"") <= 0xFFFFFFFF
