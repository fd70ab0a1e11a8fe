import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stun.errors import IntegrityError
from stun.integrity import IntegrityKey, fingerprint_of
from stun.message import decode_message, encode_message
from stun.registry import IntegrityAlgorithm, MessageClass, Method

KEY = b"a key"
every_algorithm = pytest.mark.parametrize("algorithm", IntegrityAlgorithm)


def signed(algorithm: IntegrityAlgorithm, *, fingerprint: bool = False, attributes: tuple[bytes, ...] = ()) -> bytes:
    return encode_message(
        Method.REFRESH,
        MessageClass.REQUEST,
        bytes(12),
        attributes,
        key=IntegrityKey(KEY),
        algorithm=algorithm,
        fingerprint=fingerprint,
    )


@every_algorithm
@given(key=st.binary(max_size=150), messages=st.lists(st.binary(max_size=200), min_size=1, max_size=3))
def test_a_prepared_key_makes_the_same_hmac_as_the_standard_library_message_after_message(
    algorithm: IntegrityAlgorithm, key: bytes, messages: list[bytes]
) -> None:
    prepared = IntegrityKey(key)
    for message in messages:
        assert prepared.digest(message, algorithm) == hmac.digest(key, message, algorithm.digest)


@given(st.binary(max_size=100), st.lists(st.sampled_from(IntegrityAlgorithm), max_size=5))
def test_a_key_serves_both_algorithms_in_any_order(key: bytes, order: list[IntegrityAlgorithm]) -> None:
    prepared = IntegrityKey(key)
    for algorithm in order:
        assert prepared.digest(b"message", algorithm) == hmac.digest(key, b"message", algorithm.digest)


@pytest.mark.parametrize("length", [63, 64, 65])
@every_algorithm
def test_a_key_around_the_block_length_is_treated_as_the_standard_library_does(
    algorithm: IntegrityAlgorithm, length: int
) -> None:
    key = bytes(range(length))
    assert IntegrityKey(key).digest(b"x", algorithm) == hmac.digest(key, b"x", algorithm.digest)


@every_algorithm
@pytest.mark.parametrize("fingerprint", [False, True])
def test_the_hmac_covers_a_header_whose_length_ends_with_the_integrity(
    algorithm: IntegrityAlgorithm, *, fingerprint: bool
) -> None:
    message = signed(algorithm, fingerprint=fingerprint)
    header = b"\0\x04" + (4 + algorithm.size).to_bytes(2) + bytes.fromhex("2112a442") + bytes(12)
    assert message[20 : 24 + algorithm.size] == (
        algorithm.attribute_type.to_bytes(2) + algorithm.size.to_bytes(2) + hmac.digest(KEY, header, algorithm.digest)
    )
    IntegrityKey(KEY).verify(message, 20, algorithm)


@every_algorithm
def test_the_sizes_are_those_of_the_hashes(algorithm: IntegrityAlgorithm) -> None:
    assert hashlib.new(algorithm.digest).digest_size == algorithm.size


@every_algorithm
@given(flipped=st.integers(0, 8 * 24 - 1), fingerprint=st.booleans())
def test_one_flipped_bit_in_header_or_body_breaks_the_integrity(
    algorithm: IntegrityAlgorithm,
    flipped: int,
    fingerprint: bool,  # noqa: FBT001
) -> None:
    message = bytearray(signed(algorithm, attributes=(b"\x80\x22\0\0",), fingerprint=fingerprint))
    at, bit = divmod(flipped, 8)
    message[at] ^= 1 << bit
    if fingerprint and at in {2, 3}:  # the length field is not covered as it stands, if something follows
        IntegrityKey(KEY).verify(bytes(message), 24, algorithm)
    else:
        with pytest.raises(IntegrityError):
            IntegrityKey(KEY).verify(bytes(message), 24, algorithm)


@every_algorithm
@given(key=st.binary(max_size=40))
def test_no_other_key_verifies(algorithm: IntegrityAlgorithm, key: bytes) -> None:
    message = signed(algorithm)
    if key.rstrip(b"\0") == KEY:  # HMAC pads keys with zeroes
        IntegrityKey(key).verify(message, 20, algorithm)
    else:
        with pytest.raises(IntegrityError, match=algorithm.name):
            IntegrityKey(key).verify(message, 20, algorithm)


@every_algorithm
def test_a_cut_integrity_does_not_verify(algorithm: IntegrityAlgorithm) -> None:
    with pytest.raises(IntegrityError):
        IntegrityKey(KEY).verify(signed(algorithm)[:-1], 20, algorithm)


def test_the_stronger_of_two_integrity_attributes_decides() -> None:
    first = signed(IntegrityAlgorithm.SHA1)
    covered = first[:2] + (24 + 36).to_bytes(2) + first[4:]
    good = covered + b"\0\x1c\0\x20" + hmac.digest(KEY, covered, "sha256")
    message = decode_message(good)
    assert message.integrity is IntegrityAlgorithm.SHA256
    message.verify(IntegrityKey(KEY))
    with pytest.raises(IntegrityError):
        decode_message(good[:-1] + bytes((good[-1] ^ 1,))).verify(IntegrityKey(KEY))


def test_a_message_without_integrity_cannot_be_verified() -> None:
    message = decode_message(encode_message(Method.BINDING, MessageClass.REQUEST, bytes(12)))
    assert message.integrity is None
    with pytest.raises(ValueError, match="no integrity"):
        message.verify(IntegrityKey(KEY))


def test_the_fingerprint_takes_any_buffer() -> None:
    data = b"some covered bytes"
    assert fingerprint_of(data) == fingerprint_of(memoryview(data))
    assert 0 <= fingerprint_of(b"") <= 0xFFFFFFFF
