import contextlib
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stun.address import (
    IPV4,
    IPV6,
    TransportAddress,
    decode_address,
    decode_xor_address,
    encode_address,
    encode_xor_address,
)
from stun.errors import MessageParseError, ParseFault

TRANSACTION_ID = bytes.fromhex("b7e7a701bc34d686fa87dfae")
packed_ips = st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16))
addresses = st.builds(TransportAddress, packed_ips, st.integers(0, 0xFFFF))
transaction_ids = st.binary(min_size=12, max_size=12)
REFUSALS = [
    (b"", ParseFault.TRUNCATED),
    (b"\0\1\0", ParseFault.TRUNCATED),
    (b"\0\0\0\0" + bytes(4), ParseFault.UNKNOWN_FAMILY),
    (b"\0\3\0\0" + bytes(4), ParseFault.UNKNOWN_FAMILY),
    (b"\0\1\0\0" + bytes(3), ParseFault.BAD_LENGTH),
    (b"\0\1\0\0" + bytes(16), ParseFault.BAD_LENGTH),
    (b"\0\2\0\0" + bytes(4), ParseFault.BAD_LENGTH),
    (b"\0\2\0\0" + bytes(17), ParseFault.BAD_LENGTH),
]


@given(addresses)
def test_a_plain_address_survives_the_round_trip(address: TransportAddress) -> None:
    assert decode_address(encode_address(address)) == address


@given(addresses, transaction_ids)
def test_an_xor_address_survives_the_round_trip(address: TransportAddress, transaction_id: bytes) -> None:
    assert decode_xor_address(encode_xor_address(address, transaction_id), transaction_id) == address


@pytest.mark.parametrize(
    ("address", "plain", "masked"),
    [
        (TransportAddress.parse("192.0.2.1", 32853), "00018055c0000201", "0001a147e112a643"),
        (
            TransportAddress.parse("2001:db8:1234:5678:11:2233:4455:6677", 32853),
            "0002805520010db8123456780011223344556677",
            "0002a1470113a9faa5d3f179bc25f4b5bed2b9d9",
        ),
    ],
)
def test_addresses_have_the_published_bytes(address: TransportAddress, plain: str, masked: str) -> None:
    assert encode_address(address).hex() == plain
    assert encode_xor_address(address, TRANSACTION_ID).hex() == masked


@given(addresses, transaction_ids, transaction_ids)
def test_only_ipv6_addresses_depend_on_the_transaction(address: TransportAddress, one: bytes, other: bytes) -> None:
    alike = encode_xor_address(address, one) == encode_xor_address(address, other)
    assert alike is (address.family == IPV4 or one == other)


@pytest.mark.parametrize(("value", "fault"), REFUSALS)
def test_a_malformed_address_is_refused_with_its_fault(value: bytes, fault: ParseFault) -> None:
    with pytest.raises(MessageParseError) as plain:
        decode_address(value)
    with pytest.raises(MessageParseError) as masked:
        decode_xor_address(value, TRANSACTION_ID)
    assert plain.value.fault is masked.value.fault is fault


@given(st.binary(max_size=64), transaction_ids)
def test_arbitrary_bytes_raise_nothing_but_a_parse_error(value: bytes, transaction_id: bytes) -> None:
    with contextlib.suppress(MessageParseError):
        decode_address(value)
    with contextlib.suppress(MessageParseError):
        decode_xor_address(value, transaction_id)


@given(st.integers(0, 255), addresses)
def test_the_reserved_first_byte_is_ignored(first: int, address: TransportAddress) -> None:
    assert decode_address(bytes((first,)) + encode_address(address)[1:]) == address


@pytest.mark.parametrize(
    ("ip", "text", "family"),
    [
        ("192.0.2.1", "192.0.2.1:7", IPV4),
        ("2001:DB8::1", "[2001:db8::1]:7", IPV6),
        ("fe80::1%eth0", "[fe80::1]:7", IPV6),
    ],
)
def test_text_is_read_and_written(ip: str, text: str, family: int) -> None:
    address = TransportAddress.parse(ip, 7)
    assert str(address) == text
    assert address.family == family


@pytest.mark.parametrize("text", ["", "localhost", "192.0.2", "192.0.2.256", "1:2"])
def test_what_is_no_ip_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        TransportAddress.parse(text, 1)


@given(addresses, addresses)
def test_addresses_are_values(one: TransportAddress, other: TransportAddress) -> None:
    assert (one == other) is (str(one) == str(other))
    assert len({one, TransportAddress(bytes(bytearray(one.ip)), one.port)}) == 1


@given(packed_ips)
def test_the_family_is_that_of_the_ip_address(ip: bytes) -> None:
    assert TransportAddress(ip, 0).family == {4: IPV4, 6: IPV6}[ipaddress.ip_address(ip).version]
