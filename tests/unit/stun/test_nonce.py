import pytest
from hypothesis import given
from hypothesis import strategies as st

from stun.address import TransportAddress
from stun.errors import StaleNonceError
from stun.nonce import MAX_LIFETIME, NONCE_LENGTH, NonceSealer, SecurityFeatures, security_features

KEY = b"0123456789abcdef"
OTHER_KEY = b"fedcba9876543210"
CLIENT = TransportAddress.parse("192.0.2.1", 5000)
NOW = 1_763_800_000.5
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-\u00e4"
features = st.integers(0, (1 << 24) - 1)
addresses = st.builds(
    TransportAddress,
    st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)),
    st.integers(0, 0xFFFF),
)


@pytest.fixture
def sealer() -> NonceSealer:
    return NonceSealer([KEY], 3600)


@given(addresses, st.floats(0, 9e9), st.floats(0, 3598), features)
def test_a_nonce_is_accepted_from_its_own_address_while_it_lives(
    client: TransportAddress, issued_at: float, age: float, bits: int
) -> None:
    sealer = NonceSealer([KEY], 3600)
    nonce = sealer.issue(client, issued_at, bits)
    assert len(nonce) == NONCE_LENGTH
    assert nonce.isascii()
    assert sealer.verify(nonce, client, issued_at + age) == int(issued_at) + 3600
    assert security_features(nonce) == bits


@given(addresses, st.integers(0, 9 * 10**9), st.integers(60, MAX_LIFETIME), st.integers(0, 10 * MAX_LIFETIME))
def test_a_nonce_never_comes_back_to_life(client: TransportAddress, issued_at: int, lifetime: int, late: int) -> None:
    sealer = NonceSealer([KEY], lifetime)
    nonce = sealer.issue(client, issued_at)
    with pytest.raises(StaleNonceError):
        sealer.verify(nonce, client, issued_at + lifetime + late)


@given(st.integers(1, 20))
def test_a_nonce_does_not_come_back_when_the_bits_of_its_expiry_do(turns: int) -> None:
    sealer = NonceSealer([KEY], 3600)
    nonce = sealer.issue(CLIENT, NOW)
    with pytest.raises(StaleNonceError):
        sealer.verify(nonce, CLIENT, NOW + turns * (MAX_LIFETIME + 1))


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


def test_two_nonces_of_different_seconds_differ(sealer: NonceSealer) -> None:
    assert sealer.issue(CLIENT, NOW) != sealer.issue(CLIENT, NOW + 1)


def test_all_keys_verify_and_the_first_one_signs() -> None:
    before, after = NonceSealer([KEY], 3600), NonceSealer([OTHER_KEY, KEY], 3600)
    after.verify(before.issue(CLIENT, NOW), CLIENT, NOW)
    with pytest.raises(StaleNonceError):
        before.verify(after.issue(CLIENT, NOW), CLIENT, NOW)


@pytest.mark.parametrize("keys", [[], [b"short"], [KEY, b"x" * 15], [b"x" * 65]])
def test_keys_that_are_missing_too_short_or_too_long_are_refused(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="16 to 64 bytes"):
        NonceSealer(keys, 3600)


@pytest.mark.parametrize("lifetime", [-1, 0, MAX_LIFETIME + 1])
def test_a_lifetime_that_the_expiry_has_no_bits_for_is_refused(lifetime: int) -> None:
    with pytest.raises(ValueError, match="seconds"):
        NonceSealer([KEY], lifetime)


@given(st.one_of(st.text(), st.text(min_size=NONCE_LENGTH, max_size=NONCE_LENGTH)))
def test_any_other_text_is_stale_and_nothing_worse(nonce: str) -> None:
    with pytest.raises(StaleNonceError):
        NonceSealer([KEY], 3600).verify(nonce, CLIENT, NOW)
    assert security_features(nonce) == 0


@given(st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=", max_size=20), st.floats(0, 9e9))
def test_any_text_that_looks_like_a_nonce_is_stale(rest: str, now: float) -> None:
    with pytest.raises(StaleNonceError):
        NonceSealer([KEY], 3600).verify("obMatJos2" + rest, CLIENT, now)
    assert 0 <= security_features("obMatJos2" + rest) < 1 << 24


@given(st.integers(0, NONCE_LENGTH - 1), st.sampled_from(ALPHABET), features)
def test_no_character_of_a_nonce_can_be_changed(at: int, other: str, bits: int) -> None:
    sealer = NonceSealer([KEY], 3600)
    nonce = sealer.issue(CLIENT, NOW, bits)
    changed = nonce[:at] + other + nonce[at + 1 :]
    if changed == nonce:
        assert sealer.verify(changed, CLIENT, NOW) == int(NOW) + 3600
    else:
        with pytest.raises(StaleNonceError):
            sealer.verify(changed, CLIENT, NOW)


@pytest.mark.parametrize(
    ("bits", "encoded"),
    [
        (SecurityFeatures.NONE, "AAAA"),
        (SecurityFeatures.PASSWORD_ALGORITHMS, "gAAA"),
        (SecurityFeatures.USERNAME_ANONYMITY, "QAAA"),
        (SecurityFeatures.PASSWORD_ALGORITHMS | SecurityFeatures.USERNAME_ANONYMITY, "wAAA"),
        (1, "AAAB"),
    ],
)
def test_the_nonce_cookie_counts_its_bits_from_the_most_significant(
    sealer: NonceSealer, bits: int, encoded: str
) -> None:
    nonce = sealer.issue(CLIENT, NOW, bits)
    assert nonce.startswith("obMatJos2" + encoded)
    assert security_features(nonce) == bits


@pytest.mark.parametrize(
    "nonce",
    [
        "",
        "obMatJos",
        "obMatJos2",
        "obMatJos2gAA",
        "obMatJos2gA==",
        "xbMatJos2gAAA",
        "obMatJos2\u00e4\u00e4\u00e4\u00e4",
    ],
)
def test_what_is_no_nonce_cookie_claims_no_features(nonce: str) -> None:
    assert security_features(nonce) == 0
