"""The sample message of RFC 8489 appendix B.1, as printed and as errata 6268 corrects it."""

import pytest

from stun.attributes import (
    NONCE,
    PASSWORD_ALGORITHM,
    REALM,
    UNDERSTOOD_IN_BINDING,
    USERHASH,
    USERNAME,
    PasswordAlgorithmEntry,
)
from stun.credentials import CredentialBook, long_term_key, userhash
from stun.errors import IntegrityError
from stun.integrity import IntegrityKey
from stun.message import decode_message, encode_message
from stun.nonce import security_features
from stun.registry import IntegrityAlgorithm, MessageClass, Method, PasswordAlgorithm

USERNAME_TEXT = "\u30de\u30c8\u30ea\u30c3\u30af\u30b9"
PASSWORD = "TheMatrIX"
REALM_TEXT = "example.org"
NONCE_TEXT = "obMatJos2AAACf//499k954d6OL34oL9FSTvy64sA"
TRANSACTION_ID = bytes.fromhex("78ad3433c6ad72c029da412e")
HASH = bytes.fromhex("4a3cf38fef6992bda952c6780417da0f24819415569e60b205c46e41407f1704")
BODY = bytes.fromhex(
    f"2112a442 {TRANSACTION_ID.hex()}"
    f"001e0020 {HASH.hex()}"
    "00150029 6f624d61744a6f73324141414366 2f2f3439396b393534 64364f4c33346f4c 3946535476793634 7341000000"
    "0014000b 6578616d706c652e6f726700"
)
# As corrected: the key by SHA-256, and PASSWORD-ALGORITHM to say so.
CORRECTED = (
    bytes.fromhex("00010090")
    + BODY
    + bytes.fromhex("001d0004 00020000001c0020 b5c7bf005b6c52a21c51c5e892f81924136296cb927c43149309278cc6518e65")
)
# As printed the header claims 156 bytes where 136 follow; no receiver may accept that.
PRINTED = (
    bytes.fromhex("0001009c")
    + BODY
    + bytes.fromhex("001c0020 e4686c8f0edeb59013e07090010a93efccbccc544c0a45d9f830aa6d6f735a01")
)
KEY = long_term_key(USERNAME_TEXT, REALM_TEXT, PASSWORD, PasswordAlgorithm.SHA256)


@pytest.mark.rfc(8489, "B.1")
def test_the_sample_request_decodes_fully() -> None:
    message = decode_message(CORRECTED)
    assert (message.method, message.message_class) == (Method.BINDING, MessageClass.REQUEST)
    assert message.transaction_id == TRANSACTION_ID
    assert message.get(USERNAME) is None
    assert message.get(USERHASH) == HASH
    assert message.get(NONCE) == NONCE_TEXT
    assert message.get(REALM) == REALM_TEXT
    assert message.get(PASSWORD_ALGORITHM) == PasswordAlgorithmEntry(PasswordAlgorithm.SHA256)
    assert message.integrity is IntegrityAlgorithm.SHA256
    assert message.unknown_attributes(UNDERSTOOD_IN_BINDING) == ()


@pytest.mark.rfc(8489, "B.1")
def test_the_integrity_of_the_sample_request_verifies() -> None:
    decode_message(CORRECTED).verify(IntegrityKey(KEY))


@pytest.mark.rfc(8489, "B.1")
def test_a_key_by_md5_does_not_verify_the_sample_request() -> None:
    with pytest.raises(IntegrityError):
        decode_message(CORRECTED).verify(IntegrityKey(long_term_key(USERNAME_TEXT, REALM_TEXT, PASSWORD)))


@pytest.mark.rfc(8489, "B.1")
def test_encoding_the_sample_request_gives_the_published_bytes() -> None:
    attributes = (
        USERHASH.pack(userhash(USERNAME_TEXT, REALM_TEXT)),
        NONCE.pack(NONCE_TEXT),
        REALM.pack(REALM_TEXT),
        PASSWORD_ALGORITHM.pack(PasswordAlgorithmEntry(PasswordAlgorithm.SHA256)),
    )
    raw = encode_message(
        Method.BINDING,
        MessageClass.REQUEST,
        TRANSACTION_ID,
        attributes,
        key=IntegrityKey(KEY),
        algorithm=IntegrityAlgorithm.SHA256,
    )
    assert raw == CORRECTED


@pytest.mark.rfc(8489, "14.4")
@pytest.mark.rfc(8489, "B.1")
def test_the_userhash_of_the_sample_finds_its_user() -> None:
    book = CredentialBook(REALM_TEXT, {USERNAME_TEXT: PASSWORD}, {})
    assert book.by_userhash(HASH) == USERNAME_TEXT
    ((_, key),) = book.keys(USERNAME_TEXT, 0, PasswordAlgorithm.SHA256)
    decode_message(CORRECTED).verify(key)


@pytest.mark.rfc(8489, "9.2")
def test_the_nonce_of_the_sample_sets_the_bit_before_the_last() -> None:
    # Bit 1, "username anonymity", if counted from the least significant. The text of §9.2 counts from the other end.
    assert security_features(NONCE_TEXT) == 1 << 1


@pytest.mark.rfc(8489, "9.2.2")
def test_the_key_by_md5_is_the_published_one() -> None:
    assert long_term_key("user", "realm", "pass").hex() == "8493fbc53ba582fb4c044c456bdc40eb"


@pytest.mark.rfc(8489, "5")
def test_the_sample_as_first_printed_is_refused_for_its_length() -> None:
    with pytest.raises(ValueError, match="length field 156 in 156 bytes"):
        decode_message(PRINTED)
