"""The PROXY protocol, versions 1 and 2: how a load balancer tells whom it speaks for.

Specification: haproxy, "The PROXY protocol, versions 1 & 2", 2020-03-05. Checksums and other extensions (TLVs) are
skipped: the header is believed because of the network it comes from, and for nothing else.
"""

import ipaddress
from typing import Final, NamedTuple

from stun.address import TransportAddress

MAX_HEADER: Final = 536  # bytes: what every IPv4 host takes in one segment (§2.2)

_V1_PREFIX: Final = b"PROXY "
_V1_MAX: Final = 107  # bytes with the line end (§2.1)
_V2_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_V2_FIXED: Final = 16  # bytes: signature, version and command, family and protocol, length
_LOCAL: Final = 0x20
_PROXY: Final = 0x21
_UNSPECIFIED: Final = 0x00
_TCP4: Final = 0x11
_TCP6: Final = 0x21
_UNIX_STREAM: Final = 0x31
_V2_ADDRESS_BYTES: Final = {_TCP4: 12, _TCP6: 36, _UNIX_STREAM: 216}
_V1_VERSIONS: Final = {b"TCP4": 4, b"TCP6": 6}


class ProxyHeaderError(ValueError):
    """Bytes that are no PROXY protocol header."""


class ProxyHeader(NamedTuple):
    """What a load balancer says before it passes on the client's bytes."""

    client: TransportAddress | None  # None: the load balancer speaks for itself or does not know the client
    length: int  # bytes of the header; behind them the client speaks


def decode_proxy_header(data: bytes) -> ProxyHeader | None:
    """Read the header in front of a connection; None means that it is not complete yet.

    At `MAX_HEADER` bytes at the latest there is an answer.

    Raises:
        ProxyHeaderError: there is no header in front, or one that cannot be right.
    """
    if data[: len(_V2_SIGNATURE)] == _V2_SIGNATURE[: len(data)]:
        return _decode_v2(data)
    if data[: len(_V1_PREFIX)] == _V1_PREFIX[: len(data)]:
        return _decode_v1(data)
    raise ProxyHeaderError("neither version 1 nor version 2")


def may_become_proxy_header(data: bytes) -> bool:
    """Whether the first bytes of a connection are, or may yet become, those of a version 1 header."""
    return data[: len(_V1_PREFIX)] == _V1_PREFIX[: len(data)]


def _decode_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, _V1_MAX)
    if end < 0:
        if len(data) >= _V1_MAX:
            raise ProxyHeaderError(f"a line of more than {_V1_MAX} bytes")
        return None
    words = data[:end].split(b" ")
    if words[1] == b"UNKNOWN":
        return ProxyHeader(None, end + 2)
    version = _V1_VERSIONS.get(words[1])
    if version is None or len(words) != 6:
        raise ProxyHeaderError("not PROXY, TCP4 or TCP6, two addresses and two ports")
    source, destination = (_decode_v1_ip(word, version) for word in words[2:4])
    source_port, destination_port = (_decode_v1_port(word) for word in words[4:])
    del destination, destination_port  # read, so that a header which is wrong there is refused
    return ProxyHeader(TransportAddress(source, source_port), end + 2)


def _decode_v1_ip(word: bytes, version: int) -> bytes:
    try:
        ip = ipaddress.ip_address(word.decode("ascii"))
    except ValueError as error:  # UnicodeDecodeError is one, too
        raise ProxyHeaderError("an address that is none") from error
    if ip.version != version or b"%" in word:
        raise ProxyHeaderError("an address of another family")
    return ip.packed


def _decode_v1_port(word: bytes) -> int:
    if not word.isdigit() or len(word) > 5 or (word[:1] == b"0" and word != b"0") or int(word) > 0xFFFF:
        raise ProxyHeaderError("a port that is none")
    return int(word)


def _decode_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < _V2_FIXED:
        return None
    command, family = data[12], data[13]
    length = _V2_FIXED + int.from_bytes(data[14:16])
    if command not in {_LOCAL, _PROXY}:
        raise ProxyHeaderError(f"version and command {command:#04x}")
    if length > MAX_HEADER:
        raise ProxyHeaderError(f"a header of {length} bytes")
    needed = _V2_ADDRESS_BYTES.get(family, 0)
    if command == _PROXY and family != _UNSPECIFIED and (not needed or length < _V2_FIXED + needed):
        raise ProxyHeaderError(f"family and protocol {family:#04x} with {length - _V2_FIXED} bytes")
    if len(data) < length:
        return None
    if command == _PROXY and family == _TCP4:
        return ProxyHeader(TransportAddress(data[16:20], int.from_bytes(data[24:26])), length)
    if command == _PROXY and family == _TCP6:
        return ProxyHeader(TransportAddress(data[16:32], int.from_bytes(data[48:50])), length)
    return ProxyHeader(None, length)
