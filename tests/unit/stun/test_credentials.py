import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stun.credentials import (
    MAX_CACHED_KEYS,
    Credential,
    CredentialBook,
    check_secret,
    issue_credential,
    long_term_key,
    opaque_string,
    userhash,
)
from stun.errors import CredentialError, CredentialFault
from stun.integrity import IntegrityKey
from stun.registry import IntegrityAlgorithm, PasswordAlgorithm

SECRET = b"0123456789abcdef0123456789abcdef"
OTHER = b"fedcba9876543210fedcba9876543210"
NOW = 1_763_800_000
REALM = "redconnect"
MD5 = PasswordAlgorithm.MD5


@pytest.fixture
def book() -> CredentialBook:
    return CredentialBook(REALM, {"alice": "wonderland", "1999999999": "static"}, {"new": SECRET, "old": OTHER})


def is_key(key: IntegrityKey, username: str, password: str, algorithm: PasswordAlgorithm = MD5) -> bool:
    """Keys cannot be looked into; two of them are alike if they sign alike."""
    same = IntegrityKey(long_term_key(username, REALM, password, algorithm))
    return all(key.digest(b"message", each) == same.digest(b"message", each) for each in IntegrityAlgorithm)


def fault(book: CredentialBook, username: str, unix_time: float = NOW) -> CredentialFault:
    with pytest.raises(CredentialError) as caught:
        book.keys(username, unix_time)
    return caught.value.reason


def test_the_long_term_key_is_that_of_the_rfc() -> None:
    assert long_term_key("user", "realm", "pass") == hashlib.md5(b"user:realm:pass").digest()  # noqa: S324
    assert long_term_key("user", "realm", "pass").hex() == "8493fbc53ba582fb4c044c456bdc40eb"  # RFC 8489 §9.2.2


def test_an_issued_credential_is_expiry_and_hmac() -> None:
    username, password = issue_credential(SECRET, NOW + 60, "seat")
    assert username == f"{NOW + 60}:seat"
    assert password == base64.b64encode(hmac.new(SECRET, username.encode(), "sha1").digest()).decode()
    assert issue_credential(SECRET, NOW).username == str(NOW)


def test_a_static_user_has_one_key(book: CredentialBook) -> None:
    ((secret, key),) = book.keys("alice", NOW)
    assert secret == ""
    assert is_key(key, "alice", "wonderland")


def test_a_static_user_may_look_like_an_expiry(book: CredentialBook) -> None:
    ((_, key),) = book.keys("1999999999", 3_000_000_000)
    assert is_key(key, "1999999999", "static")


@given(
    st.sampled_from([("new", SECRET), ("old", OTHER)]),
    st.sampled_from(PasswordAlgorithm),
    st.integers(NOW + 1, NOW + 10**6),
    st.text("abcdef0123456789:", max_size=20),
)
def test_what_is_issued_with_any_of_the_secrets_is_accepted(
    named: tuple[str, bytes], algorithm: PasswordAlgorithm, expires_at: int, identity: str
) -> None:
    book = CredentialBook(REALM, {}, {"new": SECRET, "old": OTHER})
    name, secret = named
    credential = issue_credential(secret, expires_at, identity)
    for _ in range(2):  # the second time from the cache
        keys = dict(book.keys(credential.username, NOW, algorithm))
        assert list(keys) == ["new", "old"]
        assert is_key(keys[name], *credential, algorithm)


def test_the_password_of_an_unknown_secret_fits_no_key(book: CredentialBook) -> None:
    forged = issue_credential(b"x" * 32, NOW + 60)
    assert not any(is_key(key, *forged) for _, key in book.keys(forged.username, NOW))


def test_a_time_limited_user_expires_at_the_second(book: CredentialBook) -> None:
    assert len(book.keys(str(NOW), NOW - 0.5)) == 2
    assert fault(book, str(NOW), NOW) is CredentialFault.EXPIRED
    assert fault(book, f"{NOW - 1}:x") is CredentialFault.EXPIRED


@pytest.mark.parametrize(
    "username",
    [
        "",
        ":",
        ":x",
        "bob",
        "-1",
        "+1999999999",
        " 1999999998",
        "1_999_999_998",
        "1999999998.0",
        "9" * 13,
        "\u0661" * 10,
    ],
)
def test_a_name_that_is_neither_user_nor_expiry_is_unknown(book: CredentialBook, username: str) -> None:
    assert fault(book, username) is CredentialFault.UNKNOWN_USER


def test_without_shared_secrets_only_static_users_exist() -> None:
    book = CredentialBook(REALM, {"alice": "wonderland"}, {})
    assert fault(book, str(NOW + 60)) is CredentialFault.UNKNOWN_USER
    assert book.keys("alice", NOW)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_name_raises_nothing_but_a_credential_error(username: str) -> None:
    book = CredentialBook(REALM, {}, {"only": SECRET})
    try:
        keys = book.keys(username, NOW)
    except CredentialError:
        return
    assert username.partition(":")[0].isdigit()
    assert len(keys) == 1


@pytest.mark.parametrize("length", [0, 1, 31])
def test_a_short_secret_is_refused_everywhere(length: int) -> None:
    with pytest.raises(ValueError, match="at least 32 bytes"):
        check_secret(bytes(length))
    with pytest.raises(ValueError, match="at least 32 bytes"):
        issue_credential(bytes(length), NOW)
    with pytest.raises(ValueError, match="at least 32 bytes"):
        CredentialBook(REALM, {}, {"good": SECRET, "short": bytes(length)})


def test_a_credential_unpacks_as_an_ice_server_takes_it() -> None:
    assert Credential("name", "word") == ("name", "word")


def test_a_key_by_sha256_is_that_of_the_registry() -> None:
    expected = hashlib.sha256(b"user:realm:pass").digest()  # RFC 8489 §18.5.1.2
    assert long_term_key("user", "realm", "pass", PasswordAlgorithm.SHA256) == expected


def test_a_static_user_has_one_key_by_sha256(book: CredentialBook) -> None:
    ((secret, key),) = book.keys("alice", NOW, PasswordAlgorithm.SHA256)
    assert secret == ""
    assert is_key(key, "alice", "wonderland", PasswordAlgorithm.SHA256)


def test_the_keys_of_a_time_limited_user_are_made_once(book: CredentialBook) -> None:
    username = str(NOW + 60)
    first = book.keys(username, NOW)
    assert book.keys(username, NOW + 59) is first
    assert book.keys(username, NOW, PasswordAlgorithm.SHA256) is not first


def test_an_expired_name_is_never_served_from_the_cache(book: CredentialBook) -> None:
    username = str(NOW + 60)
    assert book.keys(username, NOW + 59.9)
    assert fault(book, username, NOW + 60) is CredentialFault.EXPIRED


def test_the_cache_forgets_the_name_that_was_not_used_for_longest() -> None:
    book = CredentialBook(REALM, {}, {"only": SECRET})
    names = [f"{NOW + 60}:{number}" for number in range(MAX_CACHED_KEYS)]
    kept, lost = book.keys(names[0], NOW), book.keys(names[1], NOW)
    for name in names[2:]:
        book.keys(name, NOW)
    assert book.keys(names[0], NOW) is kept
    book.keys(f"{NOW + 60}:one more", NOW)
    assert book.keys(names[0], NOW) is kept
    assert book.keys(names[1], NOW) is not lost


def test_a_static_user_is_found_by_userhash(book: CredentialBook) -> None:
    assert userhash("alice", REALM) == hashlib.sha256(b"alice:redconnect").digest()
    assert book.by_userhash(userhash("alice", REALM)) == "alice"


@pytest.mark.parametrize(
    "value", [b"", bytes(32), userhash("bob", REALM), userhash("alice", "elsewhere"), userhash(str(NOW + 60), REALM)]
)
def test_any_other_userhash_is_unknown(book: CredentialBook, value: bytes) -> None:
    book.keys(str(NOW + 60), NOW)
    with pytest.raises(CredentialError) as caught:
        book.by_userhash(value)
    assert caught.value.reason is CredentialFault.UNKNOWN_USER


@pytest.mark.parametrize(
    ("users", "secrets", "expected"),
    [
        ({"alice": "x"}, {}, True),
        ({"alice": "x"}, {"only": SECRET}, False),
        ({}, {"only": SECRET}, False),
        ({}, {}, False),
    ],
)
def test_users_are_anonymous_only_where_all_of_them_are_static(
    users: dict[str, str], secrets: dict[str, bytes], *, expected: bool
) -> None:
    assert CredentialBook(REALM, users, secrets).has_anonymous_users is expected


@pytest.mark.parametrize(
    ("text", "prepared"),
    [("a\u0308", "\u00e4"), ("a\u00a0b\u3000c", "a b c"), ("TheMatrIX", "TheMatrIX"), ("\u2168", "\u2168"), ("", "")],
)
def test_opaque_string_composes_characters_and_keeps_one_kind_of_space(text: str, prepared: str) -> None:
    assert opaque_string(text) == prepared


def test_a_configured_password_is_prepared_as_clients_prepare_it() -> None:
    book = CredentialBook(REALM, {"ju\u0308rgen": "scho\u0308n"}, {})
    ((_, key),) = book.keys("j\u00fcrgen", NOW)
    assert is_key(key, "j\u00fcrgen", "sch\u00f6n")
