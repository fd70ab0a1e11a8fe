"""Transport addresses and their two encodings (RFC 8489 §14.1, §14.2)."""

import ipaddress
import struct
from typing import Final, NamedTuple

from stun.errors import MessageParseError, ParseFault
from stun.registry import MAGIC_COOKIE

IPV4: Final = 0x01
IPV6: Final = 0x02
_IP_SIZES: Final = {IPV4: 4, IPV6: 16}
_FAMILIES: Final = {4: IPV4, 16: IPV6}
_COOKIE: Final = int.from_bytes(MAGIC_COOKIE)
_COOKIE_PORT: Final = _COOKIE >> 16
_XOR_V6: Final = struct.Struct("!HH16s")


class TransportAddress(NamedTuple):
    """An IP address and a port (RFC 8489 §4). Compares, hashes and sorts by value."""

    ip: bytes  # packed: 4 bytes for IPv4, 16 for IPv6
    port: int

    @property
    def family(self) -> int:
        """0x01 for IPv4, 0x02 for IPv6, as on the wire."""
        return family_of(self.ip)

    @classmethod
    def parse(cls, ip: str, port: int) -> "TransportAddress":
        """Read the textual form of an IP address; an IPv6 zone is dropped.

        Raises:
            ValueError: `ip` is not an IP address.
        """
        return cls(ipaddress.ip_address(ip.partition("%")[0]).packed, port)

    def __str__(self) -> str:
        ip = ipaddress.ip_address(self.ip)
        return f"[{ip}]:{self.port}" if ip.version == 6 else f"{ip}:{self.port}"


def family_of(ip: bytes) -> int:
    """0x01 for a packed IPv4 address, 0x02 for IPv6, as on the wire."""
    return _FAMILIES[len(ip)]


def decode_address(value: bytes) -> TransportAddress:
    """Read the value of a MAPPED-ADDRESS attribute (RFC 8489 §14.1).

    Raises:
        MessageParseError: the family is unknown, or the length does not fit it.
    """
    _check_shape(value)
    return TransportAddress(value[4:], int.from_bytes(value[2:4]))


def encode_address(address: TransportAddress) -> bytes:
    """Write the value of a MAPPED-ADDRESS attribute (RFC 8489 §14.1)."""
    return bytes((0, address.family)) + address.port.to_bytes(2) + address.ip


def decode_xor_address(value: bytes, transaction_id: bytes) -> TransportAddress:
    """Read the value of an XOR-MAPPED-ADDRESS attribute (RFC 8489 §14.2).

    Raises:
        MessageParseError: the family is unknown, or the length does not fit it.
    """
    size = _check_shape(value)
    port = (value[2] << 8 | value[3]) ^ _COOKIE_PORT
    if size == 4:
        ip = (value[4] << 24 | value[5] << 16 | value[6] << 8 | value[7]) ^ _COOKIE
        return TransportAddress(ip.to_bytes(4, "big"), port)
    masked = int.from_bytes(value[4:]) ^ int.from_bytes(MAGIC_COOKIE + transaction_id)
    return TransportAddress(masked.to_bytes(16), port)


def encode_xor_address(address: TransportAddress, transaction_id: bytes) -> bytes:
    """Write the value of an XOR-MAPPED-ADDRESS attribute (RFC 8489 §14.2)."""
    ip, port = address
    if len(ip) == 4:
        number = (ip[0] << 24 | ip[1] << 16 | ip[2] << 8 | ip[3]) ^ _COOKIE
        return (IPV4 << 48 | (port ^ _COOKIE_PORT) << 32 | number).to_bytes(8, "big")
    masked = int.from_bytes(ip) ^ int.from_bytes(MAGIC_COOKIE + transaction_id)
    return _XOR_V6.pack(IPV6, port ^ _COOKIE_PORT, masked.to_bytes(16))


def _check_shape(value: bytes) -> int:
    if len(value) < 4:
        raise MessageParseError(ParseFault.TRUNCATED, f"{len(value)} bytes of address")
    size = _IP_SIZES.get(value[1])
    if size is None:
        raise MessageParseError(ParseFault.UNKNOWN_FAMILY, f"{value[1]:#04x}")
    if len(value) != 4 + size:
        raise MessageParseError(ParseFault.BAD_LENGTH, f"{len(value)} bytes, not {4 + size}")
    return size
