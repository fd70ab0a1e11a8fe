import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stun.address import TransportAddress
from stun.attributes import (
    ADDITIONAL_ADDRESS_FAMILY,
    ADDRESS_ERROR_CODE,
    ALTERNATE_DOMAIN,
    ALTERNATE_SERVER,
    ATTRIBUTES,
    CHANGE_REQUEST,
    CHANNEL_NUMBER,
    CONNECTION_ID,
    DATA,
    DONT_FRAGMENT,
    DRAFT_ADDITIONAL_ADDRESS_FAMILY,
    ERROR_CODE,
    EVEN_PORT,
    FINGERPRINT,
    ICMP,
    LIFETIME,
    MAPPED_ADDRESS,
    MAX_DOMAIN_BYTES,
    MAX_PASSWORD_ALGORITHMS,
    MAX_TEXT_BYTES,
    MAX_USERNAME_BYTES,
    MESSAGE_INTEGRITY,
    MESSAGE_INTEGRITY_SHA256,
    MOBILITY_TICKET,
    NONCE,
    OTHER_ADDRESS,
    PADDING,
    PASSWORD_ALGORITHM,
    PASSWORD_ALGORITHMS,
    REALM,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    RESERVATION_TOKEN,
    RESPONSE_ORIGIN,
    RESPONSE_PORT,
    SOFTWARE,
    UNDERSTOOD_IN_BINDING,
    UNDERSTOOD_IN_TURN,
    UNDERSTOOD_WITH_DISCOVERY,
    UNDERSTOOD_WITH_DONT_FRAGMENT,
    UNDERSTOOD_WITH_TCP_ALLOCATIONS,
    UNKNOWN_ATTRIBUTES,
    USERHASH,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
    AddressError,
    Attribute,
    ChangeRequest,
    ErrorValue,
    IcmpError,
    PasswordAlgorithmEntry,
    error_value,
    pack_attribute,
)
from stun.errors import MessageParseError, ParseFault
from stun.registry import ErrorCode

TRANSACTION_ID = bytes(range(12))
ADDRESS = TransportAddress.parse("192.0.2.1", 32853)
EVERY = pytest.mark.parametrize("attribute", ATTRIBUTES.values(), ids=lambda attribute: attribute.name)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=100)
addresses = st.builds(
    TransportAddress,
    st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16)),
    st.integers(0, 0xFFFF),
)
entries = st.builds(PasswordAlgorithmEntry, st.integers(0, 0xFFFF), st.binary(max_size=9))
VALUES: dict[Attribute[Any], st.SearchStrategy[Any]] = {
    MAPPED_ADDRESS: addresses,
    USERNAME: texts,
    MESSAGE_INTEGRITY: st.binary(min_size=20, max_size=20),
    ERROR_CODE: st.builds(ErrorValue, st.integers(300, 699), texts),
    UNKNOWN_ATTRIBUTES: st.lists(st.integers(0, 0xFFFF)).map(tuple),
    CHANNEL_NUMBER: st.integers(0, 0xFFFF),
    LIFETIME: st.integers(0, 0xFFFFFFFF),
    XOR_PEER_ADDRESS: addresses,
    DATA: st.binary(),
    REALM: texts,
    NONCE: texts,
    XOR_RELAYED_ADDRESS: addresses,
    REQUESTED_ADDRESS_FAMILY: st.integers(0, 255),
    EVEN_PORT: st.booleans(),
    REQUESTED_TRANSPORT: st.integers(0, 255),
    MESSAGE_INTEGRITY_SHA256: st.binary(min_size=32, max_size=32),
    XOR_MAPPED_ADDRESS: addresses,
    RESERVATION_TOKEN: st.binary(min_size=8, max_size=8),
    SOFTWARE: texts,
    FINGERPRINT: st.integers(0, 0xFFFFFFFF),
    USERHASH: st.binary(min_size=32, max_size=32),
    PASSWORD_ALGORITHM: entries,
    PASSWORD_ALGORITHMS: st.lists(entries, max_size=MAX_PASSWORD_ALGORITHMS).map(tuple),
    ALTERNATE_SERVER: addresses,
    ALTERNATE_DOMAIN: st.text(st.characters(max_codepoint=127), max_size=MAX_DOMAIN_BYTES),
    DONT_FRAGMENT: st.just(b""),
    ADDITIONAL_ADDRESS_FAMILY: st.integers(0, 255),
    DRAFT_ADDITIONAL_ADDRESS_FAMILY: st.integers(0, 255),
    ADDRESS_ERROR_CODE: st.builds(AddressError, st.integers(0, 255), st.integers(300, 699), texts),
    ICMP: st.builds(IcmpError, st.integers(0, 127), st.integers(0, 511), st.binary(min_size=4, max_size=4)),
    CONNECTION_ID: st.integers(0, 0xFFFFFFFF),
    CHANGE_REQUEST: st.builds(ChangeRequest, st.booleans(), st.booleans()),
    PADDING: st.binary(),
    RESPONSE_PORT: st.integers(0, 0xFFFF),
    RESPONSE_ORIGIN: addresses,
    OTHER_ADDRESS: addresses,
    MOBILITY_TICKET: st.binary(),
}


def test_every_attribute_has_a_round_trip_here() -> None:
    assert set(VALUES) == set(ATTRIBUTES.values())


@EVERY
@given(data=st.data())
def test_a_value_survives_the_round_trip(attribute: Attribute[Any], data: st.DataObject) -> None:
    value = data.draw(VALUES[attribute])
    packed = attribute.pack(value, TRANSACTION_ID)
    length = int.from_bytes(packed[2:4])
    assert int.from_bytes(packed[:2]) == attribute.type
    assert len(packed) == 4 + length + -length % 4
    assert not any(packed[4 + length :])
    assert attribute.decode(packed[4 : 4 + length], TRANSACTION_ID) == value


@EVERY
@given(value=st.one_of(st.binary(max_size=40), st.binary(min_size=500, max_size=800)))
def test_arbitrary_bytes_raise_nothing_but_a_parse_error(attribute: Attribute[Any], value: bytes) -> None:
    with contextlib.suppress(MessageParseError):
        attribute.decode(value, TRANSACTION_ID)


@pytest.mark.parametrize(
    ("attribute", "value", "packed"),
    [
        (MAPPED_ADDRESS, ADDRESS, "0001 0008 00018055c0000201"),
        (USERNAME, "evtj:h6vY", "0006 0009 6576746a3a68367659 000000"),
        (ERROR_CODE, ErrorValue(401, ""), "0009 0004 00000401"),
        (ERROR_CODE, ErrorValue(699, "x"), "0009 0005 00000663 78 000000"),
        (UNKNOWN_ATTRIBUTES, (0x001A, 0x7F00, 1), "000a 0006 001a7f000001 0000"),
        (CHANNEL_NUMBER, 0x4001, "000c 0004 40010000"),
        (LIFETIME, 600, "000d 0004 00000258"),
        (DATA, b"", "0013 0000"),
        (DATA, b"12345", "0013 0005 3132333435 000000"),
        (REQUESTED_ADDRESS_FAMILY, 2, "0017 0004 02000000"),
        (EVEN_PORT, True, "0018 0001 80 000000"),
        (EVEN_PORT, False, "0018 0001 00 000000"),
        (REQUESTED_TRANSPORT, 17, "0019 0004 11000000"),
        (RESERVATION_TOKEN, b"12345678", "0022 0008 3132333435363738"),
        (SOFTWARE, "\u30de", "8022 0003 e3839e 00"),
        (FINGERPRINT, 0xE57A3BCF, "8028 0004 e57a3bcf"),
        (USERHASH, bytes(range(32)), "001e 0020" + bytes(range(32)).hex()),
        (PASSWORD_ALGORITHM, PasswordAlgorithmEntry(2), "001d 0004 0002 0000"),
        (
            PASSWORD_ALGORITHMS,
            (PasswordAlgorithmEntry(2), PasswordAlgorithmEntry(1)),
            "8002 0008 0002 0000 0001 0000",
        ),
        (
            PASSWORD_ALGORITHMS,
            (PasswordAlgorithmEntry(0xFFFF, b"p"), PasswordAlgorithmEntry(1)),
            "8002 000c ffff 0001 70 000000 0001 0000",
        ),
        (ALTERNATE_SERVER, ADDRESS, "8023 0008 00018055c0000201"),
        (ALTERNATE_DOMAIN, "a.example", "8003 0009 612e6578616d706c65 000000"),
        (DONT_FRAGMENT, b"", "001a 0000"),
        (ADDITIONAL_ADDRESS_FAMILY, 2, "8000 0004 02000000"),
        (ADDRESS_ERROR_CODE, AddressError(2, 440, ""), "8001 0004 02000428"),
        (ICMP, IcmpError(3, 4, (1400).to_bytes(4)), "8004 0008 0000 0604 00000578"),
        (ICMP, IcmpError(127, 511, bytes(4)), "8004 0008 0000 ffff 00000000"),
        (CONNECTION_ID, 0x01020304, "002a 0004 01020304"),
        (CHANGE_REQUEST, ChangeRequest(ip=True, port=False), "0003 0004 00000004"),
        (CHANGE_REQUEST, ChangeRequest(ip=False, port=True), "0003 0004 00000002"),
        (PADDING, b"12345", "0026 0005 3132333435 000000"),
        (RESPONSE_PORT, 3478, "0027 0002 0d96 0000"),
        (RESPONSE_ORIGIN, ADDRESS, "802b 0008 00018055c0000201"),
        (OTHER_ADDRESS, ADDRESS, "802c 0008 00018055c0000201"),
        (MOBILITY_TICKET, b"", "8030 0000"),
    ],
    ids=str,
)
def test_an_attribute_has_the_published_bytes(attribute: Attribute[Any], value: object, packed: str) -> None:
    assert attribute.pack(value, TRANSACTION_ID) == bytes.fromhex(packed)


@pytest.mark.parametrize(
    ("attribute", "value", "fault"),
    [
        (USERNAME, b"x" * (MAX_USERNAME_BYTES + 1), ParseFault.BAD_LENGTH),
        (USERNAME, b"\xff", ParseFault.BAD_VALUE),
        (REALM, b"x" * (MAX_TEXT_BYTES + 1), ParseFault.BAD_LENGTH),
        (NONCE, b"\xed\xa0\x80", ParseFault.BAD_VALUE),  # a lone surrogate
        (MESSAGE_INTEGRITY, bytes(19), ParseFault.BAD_LENGTH),
        (MESSAGE_INTEGRITY_SHA256, bytes(31), ParseFault.BAD_LENGTH),
        (ERROR_CODE, bytes(3), ParseFault.TRUNCATED),
        (ERROR_CODE, bytes((0, 0, 2, 99)), ParseFault.BAD_VALUE),
        (ERROR_CODE, bytes((0, 0, 7, 0)), ParseFault.BAD_VALUE),
        (ERROR_CODE, bytes((0, 0, 4, 100)), ParseFault.BAD_VALUE),
        (ERROR_CODE, bytes((0, 0, 4, 0)) + b"x" * (MAX_TEXT_BYTES + 1), ParseFault.BAD_LENGTH),
        (UNKNOWN_ATTRIBUTES, bytes(3), ParseFault.BAD_LENGTH),
        (CHANNEL_NUMBER, bytes(2), ParseFault.BAD_LENGTH),
        (LIFETIME, bytes(5), ParseFault.BAD_LENGTH),
        (REQUESTED_ADDRESS_FAMILY, bytes(1), ParseFault.BAD_LENGTH),
        (EVEN_PORT, b"", ParseFault.BAD_LENGTH),
        (EVEN_PORT, bytes(4), ParseFault.BAD_LENGTH),
        (REQUESTED_TRANSPORT, b"\x11", ParseFault.BAD_LENGTH),
        (RESERVATION_TOKEN, bytes(7), ParseFault.BAD_LENGTH),
        (FINGERPRINT, bytes(3), ParseFault.BAD_LENGTH),
        (USERHASH, bytes(31), ParseFault.BAD_LENGTH),
        (USERHASH, bytes(33), ParseFault.BAD_LENGTH),
        (PASSWORD_ALGORITHM, b"", ParseFault.BAD_VALUE),
        (PASSWORD_ALGORITHM, bytes(8), ParseFault.BAD_VALUE),
        (PASSWORD_ALGORITHM, bytes(3), ParseFault.TRUNCATED),
        (PASSWORD_ALGORITHMS, b"\0\1\0\1", ParseFault.TRUNCATED),
        (PASSWORD_ALGORITHMS, b"\0\1\0\0\0", ParseFault.TRUNCATED),
        (PASSWORD_ALGORITHMS, bytes(4 * MAX_PASSWORD_ALGORITHMS + 4), ParseFault.TOO_MANY),
        (ALTERNATE_SERVER, bytes(8), ParseFault.UNKNOWN_FAMILY),
        (ALTERNATE_DOMAIN, b"x" * (MAX_DOMAIN_BYTES + 1), ParseFault.BAD_VALUE),
        (ALTERNATE_DOMAIN, "\u00e4.example".encode(), ParseFault.BAD_VALUE),
        (DONT_FRAGMENT, b"\0", ParseFault.BAD_LENGTH),
        (ADDITIONAL_ADDRESS_FAMILY, bytes(3), ParseFault.BAD_LENGTH),
        (ADDRESS_ERROR_CODE, bytes((2, 0, 2, 0)), ParseFault.BAD_VALUE),
        (ICMP, bytes(7), ParseFault.BAD_LENGTH),
        (CONNECTION_ID, bytes(2), ParseFault.BAD_LENGTH),
        (CHANGE_REQUEST, bytes(3), ParseFault.BAD_LENGTH),
        (RESPONSE_PORT, bytes(3), ParseFault.BAD_LENGTH),
        (OTHER_ADDRESS, bytes(3), ParseFault.TRUNCATED),
        (XOR_PEER_ADDRESS, b"\0\x05\0\0" + bytes(4), ParseFault.UNKNOWN_FAMILY),
    ],
    ids=str,
)
def test_a_malformed_value_is_refused_with_its_fault(
    attribute: Attribute[Any], value: bytes, fault: ParseFault
) -> None:
    with pytest.raises(MessageParseError) as caught:
        attribute.decode(value, TRANSACTION_ID)
    assert caught.value.fault is fault


@pytest.mark.parametrize(("attribute", "limit"), [(USERNAME, MAX_USERNAME_BYTES), (SOFTWARE, MAX_TEXT_BYTES)])
def test_text_is_written_up_to_its_limit_in_bytes(attribute: Attribute[str], limit: int) -> None:
    assert attribute.decode(b"x" * limit, b"") == "x" * limit
    assert len(attribute.pack("x" * limit)) == 4 + limit + -limit % 4
    with pytest.raises(ValueError, match="bytes of text"):
        attribute.pack("\u00e4" * (limit // 2 + 1))


def test_reserved_bytes_and_bits_are_ignored() -> None:
    assert REQUESTED_TRANSPORT.decode(b"\x11\xff\xff\xff", b"") == 17
    assert CHANNEL_NUMBER.decode(b"\x40\x01\xff\xff", b"") == 0x4001
    assert EVEN_PORT.decode(b"\x7f", b"") is False
    assert EVEN_PORT.decode(b"\xff", b"") is True
    assert ERROR_CODE.decode(b"\xff\xff\xfc\x01", b"") == ErrorValue(401, "")
    assert ADDRESS_ERROR_CODE.decode(b"\x01\xff\xfc\x28", b"") == AddressError(1, 440, "")
    assert ICMP.decode(b"\xff\xff\x06\x04\0\0\5\0", b"") == IcmpError(3, 4, b"\0\0\5\0")
    assert CHANGE_REQUEST.decode(b"\xff\xff\xff\xf9", b"") == ChangeRequest(ip=False, port=False)
    assert RESPONSE_PORT.decode(b"\x0d\x96\xff\xff", b"") == 3478
    assert PASSWORD_ALGORITHMS.decode(b"\0\3\0\1p\xff\xff\xff", b"") == (PasswordAlgorithmEntry(3, b"p"),)


@given(st.integers(0, 0xFFFF), st.binary(max_size=70))
def test_padding_is_zero_and_reaches_the_next_four_bytes(number: int, body: bytes) -> None:
    packed = pack_attribute(number, body)
    assert packed == number.to_bytes(2) + len(body).to_bytes(2) + body + bytes(-len(body) % 4)


@pytest.mark.parametrize("code", ErrorCode)
def test_an_error_carries_its_reason_only_if_wished(code: ErrorCode) -> None:
    assert error_value(code, with_reason=False) == (code, "")
    assert error_value(code, with_reason=True).reason


def test_types_and_names_are_unique() -> None:
    assert len({attribute.name for attribute in ATTRIBUTES.values()}) == len(ATTRIBUTES)
    assert repr(LIFETIME) == "<LIFETIME 0x000d>"


def test_a_domain_is_written_up_to_its_limit() -> None:
    assert len(ALTERNATE_DOMAIN.pack("x" * MAX_DOMAIN_BYTES)) == 4 + 256
    with pytest.raises(ValueError, match="domain name"):
        ALTERNATE_DOMAIN.pack("x" * (MAX_DOMAIN_BYTES + 1))
    with pytest.raises(ValueError, match="ordinal not in range"):
        ALTERNATE_DOMAIN.pack("\u00e4")


def test_every_comprehension_required_codec_is_understood_somewhere_or_ends_a_message() -> None:
    switched = UNDERSTOOD_WITH_DONT_FRAGMENT | UNDERSTOOD_WITH_TCP_ALLOCATIONS | UNDERSTOOD_WITH_DISCOVERY
    closing = {MESSAGE_INTEGRITY.type, MESSAGE_INTEGRITY_SHA256.type}
    required = {number for number in ATTRIBUTES if number < 0x8000}
    assert UNDERSTOOD_IN_BINDING < UNDERSTOOD_IN_TURN
    assert not UNDERSTOOD_IN_TURN & switched
    assert UNDERSTOOD_IN_TURN | switched | closing == required
