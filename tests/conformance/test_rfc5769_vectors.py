"""The sample messages of RFC 5769: they were made by somebody else, so they catch what a round trip cannot."""

import zlib

import pytest

from stun.address import TransportAddress
from stun.attributes import (
    NONCE,
    REALM,
    SOFTWARE,
    UNDERSTOOD_IN_BINDING,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    pack_attribute,
)
from stun.credentials import long_term_key
from stun.errors import IntegrityError
from stun.integrity import IntegrityKey
from stun.message import decode_message, encode_message
from stun.registry import IntegrityAlgorithm, MessageClass, Method

PASSWORD = b"VOkJxbRl1RmTxUk/WvJxBt"
TRANSACTION_ID = bytes.fromhex("b7e7a701bc34d686fa87dfae")
LONG_TERM_USERNAME = "\u30de\u30c8\u30ea\u30c3\u30af\u30b9"
LONG_TERM_KEY = long_term_key(LONG_TERM_USERNAME, "example.org", "TheMatrIX")

REQUEST = bytes.fromhex(
    "000100582112a442b7e7a701bc34d686fa87dfae"
    "802200105354554e207465737420636c69656e74"
    "002400046e0001ff"
    "80290008932ff9b151263b36"
    "000600096576746a3a68367659202020"
    "000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2"
    "80280004e57a3bcf"
)
RESPONSE_V4 = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae"
    "8022000b7465737420766563746f7220"
    "002000080001a147e112a643"
    "000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7"
    "80280004c07d4c96"
)
RESPONSE_V6 = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae"
    "8022000b7465737420766563746f7220"
    "002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9"
    "00080014a382954e4be67bf11784c97c8292c275bfe3ed41"
    "80280004c8fb0b4c"
)
LONG_TERM_REQUEST = bytes.fromhex(
    "000100602112a44278ad3433c6ad72c029da412e"
    "00060012e3839ee38388e383aae38383e382afe382b90000"
    "0015001c662f2f3439396b39353464364f4c33346f4c394653547679363473410014000b6578616d706c652e6f726700"
    "00080014f67024656dd64a3e02b8e0712e85c9a28ca89666"
)
VECTORS = {  # RFC 5769 section: (message, key of MESSAGE-INTEGRITY)
    "2.1": (REQUEST, PASSWORD),
    "2.2": (RESPONSE_V4, PASSWORD),
    "2.3": (RESPONSE_V6, PASSWORD),
    "2.4": (LONG_TERM_REQUEST, LONG_TERM_KEY),
}
every_vector = pytest.mark.parametrize(("raw", "key"), VECTORS.values(), ids=VECTORS)


@every_vector
@pytest.mark.rfc(5769, "2")
def test_the_integrity_of_every_published_message_verifies(raw: bytes, key: bytes) -> None:
    message = decode_message(raw)
    assert message.integrity is IntegrityAlgorithm.SHA1
    message.verify(IntegrityKey(key))


@every_vector
@pytest.mark.rfc(5769, "2")
def test_no_other_key_verifies_a_published_message(raw: bytes, key: bytes) -> None:
    with pytest.raises(IntegrityError):
        decode_message(raw).verify(IntegrityKey(key + b"\0x"))


@every_vector
@pytest.mark.rfc(5769, "2")
def test_a_fingerprint_is_found_where_one_was_published(raw: bytes, key: bytes) -> None:
    assert decode_message(raw).has_fingerprint is (key is PASSWORD)  # the sample of section 2.4 has none


@pytest.mark.rfc(5769, "2.1")
def test_the_sample_request_decodes_fully() -> None:
    message = decode_message(REQUEST)
    assert (message.method, message.message_class) == (Method.BINDING, MessageClass.REQUEST)
    assert message.transaction_id == TRANSACTION_ID
    assert message.get(SOFTWARE) == "STUN test client"
    assert message.get(USERNAME) == "evtj:h6vY"
    assert list(message.values) == [0x8022, 0x0024, 0x8029, 0x0006]
    # PRIORITY belongs to ICE, which a server does not speak.
    assert message.unknown_attributes(UNDERSTOOD_IN_BINDING) == (0x0024,)


@pytest.mark.parametrize(
    ("raw", "ip"),
    [(RESPONSE_V4, "192.0.2.1"), (RESPONSE_V6, "2001:db8:1234:5678:11:2233:4455:6677")],
    ids=["2.2", "2.3"],
)
@pytest.mark.rfc(5769, "2.2")
@pytest.mark.rfc(5769, "2.3")
def test_the_sample_responses_decode_fully(raw: bytes, ip: str) -> None:
    message = decode_message(raw)
    assert (message.method, message.message_class) == (Method.BINDING, MessageClass.SUCCESS)
    assert message.transaction_id == TRANSACTION_ID
    assert message.get(SOFTWARE) == "test vector"
    assert message.get(XOR_MAPPED_ADDRESS) == TransportAddress.parse(ip, 32853)
    assert message.unknown_attributes(UNDERSTOOD_IN_BINDING) == ()


@pytest.mark.rfc(5769, "2.4")
def test_the_sample_request_with_long_term_authentication_decodes_fully() -> None:
    message = decode_message(LONG_TERM_REQUEST)
    assert (message.method, message.message_class) == (Method.BINDING, MessageClass.REQUEST)
    assert message.transaction_id == bytes.fromhex("78ad3433c6ad72c029da412e")
    assert message.get(USERNAME) == LONG_TERM_USERNAME
    assert message.get(NONCE) == "f//499k954d6OL34oL9FSTvy64sA"
    assert message.get(REALM) == "example.org"


@pytest.mark.rfc(5769, "2.4")
def test_encoding_the_long_term_request_gives_the_published_bytes() -> None:
    # The only sample that pads with zeroes, as this encoder does.
    attributes = (
        USERNAME.pack(LONG_TERM_USERNAME),
        NONCE.pack("f//499k954d6OL34oL9FSTvy64sA"),
        REALM.pack("example.org"),
    )
    transaction_id = bytes.fromhex("78ad3433c6ad72c029da412e")
    key = IntegrityKey(LONG_TERM_KEY)
    raw = encode_message(Method.BINDING, MessageClass.REQUEST, transaction_id, attributes, key=key)
    assert raw == LONG_TERM_REQUEST


@pytest.mark.parametrize(
    ("raw", "fields"),
    [
        (
            REQUEST,
            (
                SOFTWARE.pack("STUN test client"),
                pack_attribute(0x0024, bytes.fromhex("6e0001ff")),
                pack_attribute(0x8029, bytes.fromhex("932ff9b151263b36")),
                USERNAME.pack("evtj:h6vY")[:-3] + b"   ",
            ),
        ),
        (
            RESPONSE_V4,
            (
                SOFTWARE.pack("test vector")[:-1] + b" ",
                XOR_MAPPED_ADDRESS.pack(TransportAddress.parse("192.0.2.1", 32853), TRANSACTION_ID),
            ),
        ),
        (
            RESPONSE_V6,
            (
                SOFTWARE.pack("test vector")[:-1] + b" ",
                XOR_MAPPED_ADDRESS.pack(
                    TransportAddress.parse("2001:db8:1234:5678:11:2233:4455:6677", 32853), TRANSACTION_ID
                ),
            ),
        ),
    ],
    ids=["2.1", "2.2", "2.3"],
)
@pytest.mark.rfc(5769, "2")
def test_encoding_with_the_padding_of_the_samples_gives_the_published_bytes(
    raw: bytes, fields: tuple[bytes, ...]
) -> None:
    message = decode_message(raw)
    again = encode_message(
        message.method, message.message_class, TRANSACTION_ID, fields, key=IntegrityKey(PASSWORD), fingerprint=True
    )
    assert again == raw


@pytest.mark.rfc(8489, "14.7")
@pytest.mark.parametrize("raw", [REQUEST, RESPONSE_V4, RESPONSE_V6], ids=["2.1", "2.2", "2.3"])
def test_the_published_fingerprint_is_a_masked_crc32(raw: bytes) -> None:
    assert int.from_bytes(raw[-4:]) == zlib.crc32(raw[:-8]) ^ 0x5354554E
