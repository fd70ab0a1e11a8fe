import ipaddress
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.proxy_protocol import (
    MAX_HEADER,
    ProxyHeader,
    ProxyHeaderError,
    decode_proxy_header,
    may_become_proxy_header,
)
from stun.address import TransportAddress

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
V4 = TransportAddress.parse("192.0.2.1", 56324)
V6 = TransportAddress.parse("2001:db8::1", 443)
ports = st.integers(0, 65535)


def v2(command: int, family: int, body: bytes, length: int | None = None) -> bytes:
    return SIGNATURE + bytes((command, family)) + struct.pack("!H", len(body) if length is None else length) + body


def v2_tcp(client: TransportAddress, server: TransportAddress, extensions: bytes = b"") -> bytes:
    body = client.ip + server.ip + struct.pack("!HH", client.port, server.port) + extensions
    return v2(0x21, 0x11 if len(client.ip) == 4 else 0x21, body)


def v1(client: TransportAddress, server: TransportAddress) -> bytes:
    source, destination = ipaddress.ip_address(client.ip), ipaddress.ip_address(server.ip)
    return f"PROXY TCP{source.version} {source} {destination} {client.port} {server.port}\r\n".encode()


addresses = st.one_of(
    *(st.tuples(*[st.builds(TransportAddress, st.binary(min_size=size, max_size=size), ports)] * 2) for size in (4, 16))
)
HEADERS = {
    "version 1, IPv4": (b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n", V4),
    "version 1, IPv6": (b"PROXY TCP6 2001:db8::1 2001:db8::2 443 5349\r\n", V6),
    "version 1, unknown": (b"PROXY UNKNOWN\r\n", None),
    "version 1, unknown with addresses": (b"PROXY UNKNOWN ffff:f::1 ffff:f::2 65535 65535\r\n", None),
    "version 2, IPv4": (v2_tcp(V4, V4), V4),
    "version 2, IPv6": (v2_tcp(V6, V6), V6),
    "version 2, with extensions": (v2_tcp(V4, V4, b"\x04\0\x03abc\x03\0\x04\0\0\0\0"), V4),
    "version 2, local": (v2(0x20, 0x00, b""), None),
    "version 2, local with an address that does not count": (v2(0x20, 0x11, bytes(12)), None),
    "version 2, unspecified": (v2(0x21, 0x00, b"\x04\0\x01x"), None),
    "version 2, AF_UNIX": (v2(0x21, 0x31, b"/run/x".ljust(216, b"\0")), None),
    "version 2, the longest": (v2(0x20, 0x00, bytes(MAX_HEADER - 16)), None),
}


@pytest.mark.parametrize(("header", "client"), HEADERS.values(), ids=HEADERS)
def test_a_header_tells_the_client_and_where_it_ends(header: bytes, client: TransportAddress | None) -> None:
    assert decode_proxy_header(header) == ProxyHeader(client, len(header))
    assert decode_proxy_header(header + b"\x16\x03\x01\r\nPROXY ") == ProxyHeader(client, len(header))


@pytest.mark.parametrize("header", [header for header, _ in HEADERS.values()], ids=HEADERS)
def test_every_piece_of_a_header_waits_for_more(header: bytes) -> None:
    assert [size for size in range(len(header)) if decode_proxy_header(header[:size]) is not None] == []


LIES = {
    "not a header": b"GET / HTTP/1.1\r\n",
    "STUN": b"\0\1\0\0\x21\x12\xa4\x42",
    "a ClientHello": b"\x16\x03\x01\x02\0",
    "lower case": b"proxy TCP4 192.0.2.1 198.51.100.7 1 2\r\n",
    "no family": b"PROXY \r\n",
    "another protocol": b"PROXY UDP4 192.0.2.1 198.51.100.7 1 2\r\n",
    "an address of the other family": b"PROXY TCP4 2001:db8::1 198.51.100.7 1 2\r\n",
    "a destination of the other family": b"PROXY TCP6 2001:db8::1 198.51.100.7 1 2\r\n",
    "no address": b"PROXY TCP4 192.0.2.256 198.51.100.7 1 2\r\n",
    "an octal address": b"PROXY TCP4 192.0.2.01 198.51.100.7 1 2\r\n",
    "a zone": b"PROXY TCP6 fe80::1%eth0 fe80::2 1 2\r\n",
    "not ASCII": "PROXY TCP4 192.0.2.\uff11 198.51.100.7 1 2\r\n".encode(),
    "a large port": b"PROXY TCP4 192.0.2.1 198.51.100.7 65536 2\r\n",
    "a signed port": b"PROXY TCP4 192.0.2.1 198.51.100.7 +1 2\r\n",
    "a padded port": b"PROXY TCP4 192.0.2.1 198.51.100.7 01 2\r\n",
    "a destination port that is none": b"PROXY TCP4 192.0.2.1 198.51.100.7 1 x\r\n",
    "a huge port": b"PROXY TCP4 192.0.2.1 198.51.100.7 1 " + b"9" * 40 + b"\r\n",
    "two spaces": b"PROXY TCP4  192.0.2.1 198.51.100.7 1 2\r\n",
    "a word too many": b"PROXY TCP4 192.0.2.1 198.51.100.7 1 2 3\r\n",
    "a word too few": b"PROXY TCP4 192.0.2.1 198.51.100.7 1\r\n",
    "an endless line": b"PROXY UNKNOWN " + b"x" * 93,
    "version 1 in binary": v2(0x11, 0x11, bytes(12)),
    "an unknown command": v2(0x22, 0x11, bytes(12)),
    "UDP over TCP": v2(0x21, 0x12, bytes(12)),
    "an unknown family": v2(0x21, 0x41, bytes(216)),
    "too short for IPv4": v2(0x21, 0x11, bytes(11)),
    "too short for IPv6": v2(0x21, 0x21, bytes(35)),
    "too short for AF_UNIX": v2(0x21, 0x31, bytes(215)),
    "longer than any": v2(0x20, 0x00, b"", length=MAX_HEADER - 15),
    "as long as can be": v2(0x21, 0x11, bytes(12), length=0xFFFF),
}


@pytest.mark.parametrize("header", LIES.values(), ids=LIES)
def test_a_lie_is_refused(header: bytes) -> None:
    with pytest.raises(ProxyHeaderError):
        decode_proxy_header(header)


def test_the_longest_line_is_read_and_one_byte_more_is_not() -> None:
    longest = b"PROXY UNKNOWN ".ljust(105, b"x") + b"\r\n"
    assert decode_proxy_header(longest) == ProxyHeader(None, 107)
    with pytest.raises(ProxyHeaderError):
        decode_proxy_header(b"PROXY UNKNOWN ".ljust(106, b"x") + b"\r\n")


@given(addresses, st.sampled_from([v1, v2_tcp]), st.binary(max_size=40))
def test_what_is_written_is_read(
    pair: tuple[TransportAddress, TransportAddress],
    write: Callable[[TransportAddress, TransportAddress], bytes],
    behind: bytes,
) -> None:
    header = write(*pair)
    assert decode_proxy_header(header + behind) == ProxyHeader(pair[0], len(header))


@pytest.mark.parametrize("head", [b"P", b"PR", b"PROXY", b"PROXY ", b"PROXY TCP4"])
def test_the_beginning_of_a_header_is_noticed_behind_the_wrong_door(head: bytes) -> None:
    assert may_become_proxy_header(head)


@pytest.mark.parametrize("head", [b"G", b"PO", b"PROPFIND / ", b"PRI * HTTP/2.0"])
def test_a_request_line_is_no_header(head: bytes) -> None:
    assert not may_become_proxy_header(head)
