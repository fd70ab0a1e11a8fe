import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stun.address import TransportAddress
from stun.errors import StaleNonceError
from stun.nonce import NONCE_LENGTH, NonceSealer

KEY = b"0123456789abcdef"
OTHER_KEY = b"fedcba9876543210"
CLIENT = TransportAddress.parse("192.0.2.1", 5000)
NOW = 1_763_800_000.5
addresses = st.builds(
    TransportAddress,
    st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)),
    st.integers(0, 0xFFFF),
)


@pytest.fixture
def sealer() -> NonceSealer:
    return NonceSealer([KEY], 3600)


@given(addresses, st.floats(0, 4e9), st.floats(0, 3598))
def test_a_nonce_is_accepted_from_its_own_address_while_it_lives(
    client: TransportAddress, issued_at: float, age: float
) -> None:
    sealer = NonceSealer([KEY], 3600)
    nonce = sealer.issue(client, issued_at)
    assert len(nonce) == NONCE_LENGTH
    assert nonce.isascii()
    sealer.verify(nonce, client, issued_at + age)


@given(addresses, addresses)
def test_a_nonce_is_stale_from_every_other_address(one: TransportAddress, other: TransportAddress) -> None:
    sealer = NonceSealer([KEY], 3600)
    nonce = sealer.issue(one, NOW)
    if one == other:
        sealer.verify(nonce, other, NOW)
    else:
        with pytest.raises(StaleNonceError, match="for this address"):
            sealer.verify(nonce, other, NOW)


def test_a_nonce_expires_at_its_second(sealer: NonceSealer) -> None:
    nonce = sealer.issue(CLIENT, NOW)
    sealer.verify(nonce, CLIENT, int(NOW) + 3599.9)
    with pytest.raises(StaleNonceError, match="expired"):
        sealer.verify(nonce, CLIENT, int(NOW) + 3600)


def test_all_keys_verify_and_the_first_one_signs() -> None:
    before, after = NonceSealer([KEY], 3600), NonceSealer([OTHER_KEY, KEY], 3600)
    after.verify(before.issue(CLIENT, NOW), CLIENT, NOW)
    with pytest.raises(StaleNonceError):
        before.verify(after.issue(CLIENT, NOW), CLIENT, NOW)


@pytest.mark.parametrize("keys", [[], [b"short"], [KEY, b"x" * 15], [b"x" * 65]])
def test_keys_that_are_missing_too_short_or_too_long_are_refused(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="16 to 64 bytes"):
        NonceSealer(keys, 3600)


@given(st.one_of(st.text(), st.text(min_size=NONCE_LENGTH, max_size=NONCE_LENGTH)))
def test_any_other_text_is_stale_and_nothing_worse(nonce: str) -> None:
    with pytest.raises(StaleNonceError):
        NonceSealer([KEY], 3600).verify(nonce, CLIENT, NOW)


@given(st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/=", min_size=24, max_size=24))
def test_any_text_that_looks_like_a_nonce_is_stale(nonce: str) -> None:
    with pytest.raises(StaleNonceError):
        NonceSealer([KEY], 3600).verify(nonce, CLIENT, NOW)


@given(st.integers(0, 8 * 18 - 1))
def test_no_bit_of_a_nonce_can_be_changed(flipped: int) -> None:
    sealer = NonceSealer([KEY], 3600)
    sealed = bytearray(base64.urlsafe_b64decode(sealer.issue(CLIENT, NOW)))
    sealed[flipped // 8] ^= 1 << flipped % 8
    with pytest.raises(StaleNonceError):
        sealer.verify(base64.urlsafe_b64encode(sealed).decode(), CLIENT, NOW)
