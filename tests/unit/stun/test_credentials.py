import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stun.credentials import Credential, CredentialBook, check_secret, issue_credential, long_term_key
from stun.errors import CredentialError, CredentialFault

SECRET = b"0123456789abcdef0123456789abcdef"
OTHER = b"fedcba9876543210fedcba9876543210"
NOW = 1_763_800_000
REALM = "redconnect"


@pytest.fixture
def book() -> CredentialBook:
    return CredentialBook(REALM, {"alice": "wonderland", "1999999999": "static"}, [SECRET, OTHER])


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
    assert book.keys("alice", NOW) == (long_term_key("alice", REALM, "wonderland"),)


def test_a_static_user_may_look_like_an_expiry(book: CredentialBook) -> None:
    assert book.keys("1999999999", 3_000_000_000) == (long_term_key("1999999999", REALM, "static"),)


@given(st.sampled_from([SECRET, OTHER]), st.integers(NOW + 1, NOW + 10**6), st.text("abcdef0123456789:", max_size=20))
def test_what_is_issued_with_any_of_the_secrets_is_accepted(secret: bytes, expires_at: int, identity: str) -> None:
    book = CredentialBook(REALM, {}, [SECRET, OTHER])
    credential = issue_credential(secret, expires_at, identity)
    assert long_term_key(credential.username, REALM, credential.password) in book.keys(credential.username, NOW)


def test_the_password_of_an_unknown_secret_fits_no_key(book: CredentialBook) -> None:
    forged = issue_credential(b"x" * 32, NOW + 60)
    assert long_term_key(forged.username, REALM, forged.password) not in book.keys(forged.username, NOW)


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
    book = CredentialBook(REALM, {"alice": "wonderland"}, [])
    assert fault(book, str(NOW + 60)) is CredentialFault.UNKNOWN_USER
    assert book.keys("alice", NOW)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_name_raises_nothing_but_a_credential_error(username: str) -> None:
    book = CredentialBook(REALM, {}, [SECRET])
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
        CredentialBook(REALM, {}, [SECRET, bytes(length)])


def test_a_credential_unpacks_as_an_ice_server_takes_it() -> None:
    assert Credential("name", "word") == ("name", "word")
