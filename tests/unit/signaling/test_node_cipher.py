import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.node_cipher import MAX_SENDERS, SEAL_BYTES, CipherError, NodeCipher
from signaling.node_messages import NODE_ID_BYTES

KEY = bytes(range(32))
SENDER = b"a" * NODE_ID_BYTES


def sealing(sender: bytes = SENDER, key: bytes = KEY) -> NodeCipher:
    cipher = NodeCipher(key)
    cipher.begin(sender)
    return cipher


def test_a_sealed_text_opens_for_its_purpose_and_names_its_sender() -> None:
    cipher = sealing()
    for number in (1, 2, 3):
        opened = NodeCipher(KEY).open(cipher.seal(b"hello", b"post"), b"post")
        assert opened == (SENDER, number, b"hello")


def test_no_text_is_sealed_alike_twice_and_none_shows_itself() -> None:
    cipher = sealing()
    sealed = {cipher.seal(b"hello hello", b"post") for _ in range(100)}
    assert len(sealed) == 100
    assert not any(b"hello" in each for each in sealed)
    assert {len(each) for each in sealed} == {len(b"hello hello") + SEAL_BYTES}


def test_another_purpose_sender_or_key_does_not_open_it() -> None:
    sealed = sealing().seal(b"hello", b"post")
    other_sender = b"b" * NODE_ID_BYTES + sealed[NODE_ID_BYTES:]
    for cipher, data, purpose in (
        (NodeCipher(KEY), sealed, b"room"),
        (NodeCipher(KEY), other_sender, b"post"),
        (NodeCipher(bytes(32)), sealed, b"post"),
    ):
        with pytest.raises(CipherError):
            cipher.open(data, purpose)


@given(st.integers(0), st.integers(1, 255))
def test_every_altered_byte_is_noticed(position: int, difference: int) -> None:
    sealed = bytearray(sealing().seal(b"hello", b"post"))
    sealed[position % len(sealed)] ^= difference
    with pytest.raises(CipherError):
        NodeCipher(KEY).open(bytes(sealed), b"post")


@given(st.binary(max_size=100))
def test_bytes_that_nobody_sealed_raise_nothing_but_their_own_error(data: bytes) -> None:
    with contextlib.suppress(CipherError):
        NodeCipher(KEY).open(data, b"post")
        raise AssertionError("it opened")


def test_keys_of_senders_are_bounded() -> None:
    cipher = NodeCipher(KEY)
    for number in range(MAX_SENDERS + 10):
        cipher.open(sealing(number.to_bytes(NODE_ID_BYTES)).seal(b"", b"post"), b"post")
    assert len(cipher._ciphers) == MAX_SENDERS


def test_a_name_tells_nothing_and_is_the_same_everywhere() -> None:
    assert NodeCipher(KEY).name(b"room", b"x") == NodeCipher(KEY).name(b"room", b"x")
    names = {
        NodeCipher(KEY).name(b"room", b"x"),
        NodeCipher(KEY).name(b"roomx", b""),
        NodeCipher(bytes(32)).name(b"room", b"x"),
    }
    assert len(names) == 3


def test_a_short_key_and_a_sender_without_a_name_are_refused() -> None:
    with pytest.raises(ValueError, match="31 bytes"):
        NodeCipher(bytes(31))
    with pytest.raises(RuntimeError):
        NodeCipher(KEY).seal(b"", b"post")
