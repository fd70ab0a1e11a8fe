"""Send and Data indications on the packet path, read and written in place (RFC 8656 §11).

Firefox never binds a channel: all its media travels in these. So they get a reader for the one shape that browsers
send (XOR-PEER-ADDRESS, DATA, perhaps FINGERPRINT) and a writer that puts the header in front of a payload where it
lies. Indications of any other shape go up to the control plane, which reads them with the full codec.
"""

import struct
from typing import Final, NamedTuple

from stun.address import IPV4, IPV6
from stun.integrity import fingerprint_of
from stun.registry import HEADER_LENGTH, MAGIC_COOKIE

HEADROOM: Final = 48  # bytes in front of a payload: header 20, XOR-PEER-ADDRESS 24 (IPv6), DATA 4
TAILROOM: Final = 4  # bytes behind it: padding
MAX_PAYLOAD: Final = 0xFFFC - (HEADROOM - HEADER_LENGTH)  # bytes: what the length field of any indication has room for

_SEND_TYPE: Final = 0x0016
_DATA_TYPE: Final = 0x0017
_HEADER: Final = struct.Struct("!HH4s")
_PEER: Final = struct.Struct("!HHH")  # type and length of XOR-PEER-ADDRESS, then a zero byte and the family
_PEER_V4: Final = (0x0012, 8, IPV4)
_PEER_V6: Final = (0x0012, 20, IPV6)
_TLV: Final = struct.Struct("!HH")
_DATA: Final = 0x0013
_FINGERPRINT: Final = b"\x80\x28\x00\x04"
_DATA_HEAD_V4: Final = struct.Struct("!HH4s12sHHHHIHH")
_DATA_HEAD_V6: Final = struct.Struct("!HH4s12sHHHH16sHH")
_COOKIE: Final = int.from_bytes(MAGIC_COOKIE)
_COOKIE_PORT: Final = _COOKIE >> 16
_MASK_V4: Final = int.from_bytes(MAGIC_COOKIE[:2] + MAGIC_COOKIE)


class Send(NamedTuple):
    """Where the two values of a Send indication lie in the buffer."""

    peer: bytes  # port and IP address, still XORed; for IPv6 the transaction ID takes part in that
    start: int
    end: int


def find_send(view: memoryview, size: int) -> Send | None:
    """Find peer and data of a Send indication of the usual shape in `view[:size]`; None means: ask the full codec."""
    if size < HEADER_LENGTH + 12 + 4:
        return None
    message_type, length, cookie = _HEADER.unpack_from(view)
    if message_type != _SEND_TYPE or cookie != MAGIC_COOKIE or length != size - HEADER_LENGTH:
        return None
    shape = _PEER.unpack_from(view, HEADER_LENGTH)
    if shape == _PEER_V4:
        head = 32
    elif shape == _PEER_V6 and size >= HEADER_LENGTH + 24 + 4:
        head = 44
    else:
        return None
    number, data_length = _TLV.unpack_from(view, head)
    start = head + 4
    end = start + data_length
    padded = end + 3 & ~3
    if number != _DATA or (padded != size and not _is_fingerprint(view, padded, size)):
        return None
    return Send(bytes(view[26:head]), start, end)


def unmask_v4(peer: bytes) -> bytes:
    """Undo the XOR of the port and IPv4 address that `find_send` found."""
    return (int.from_bytes(peer) ^ _MASK_V4).to_bytes(6)


def unmask_v6(peer: bytes, transaction_id: bytes) -> bytes:
    """Undo the XOR of the port and IPv6 address that `find_send` found."""
    return (int.from_bytes(peer) ^ int.from_bytes(MAGIC_COOKIE[:2] + MAGIC_COOKIE + transaction_id)).to_bytes(18)


def wrap_data_v4(buffer: bytearray, size: int, transaction_id: bytes, ip: int, port: int) -> tuple[int, int]:
    """Write a Data indication around the payload at `buffer[HEADROOM:HEADROOM + size]`; returns its start and end."""
    end = HEADROOM + size
    padded = end + 3 & ~3
    buffer[end:padded] = b"\0\0\0"[: padded - end]
    start = HEADROOM - _DATA_HEAD_V4.size
    _DATA_HEAD_V4.pack_into(
        buffer,
        start,
        _DATA_TYPE,
        padded - start - HEADER_LENGTH,
        MAGIC_COOKIE,
        transaction_id,
        *_PEER_V4,
        port ^ _COOKIE_PORT,
        ip ^ _COOKIE,
        _DATA,
        size,
    )
    return start, padded


def wrap_data_v6(buffer: bytearray, size: int, transaction_id: bytes, ip: int, port: int) -> tuple[int, int]:
    """As `wrap_data_v4`, for an IPv6 peer."""
    end = HEADROOM + size
    padded = end + 3 & ~3
    buffer[end:padded] = b"\0\0\0"[: padded - end]
    start = HEADROOM - _DATA_HEAD_V6.size
    mask = int.from_bytes(MAGIC_COOKIE + transaction_id)
    _DATA_HEAD_V6.pack_into(
        buffer,
        start,
        _DATA_TYPE,
        padded - start - HEADER_LENGTH,
        MAGIC_COOKIE,
        transaction_id,
        *_PEER_V6,
        port ^ _COOKIE_PORT,
        (ip ^ mask).to_bytes(16),
        _DATA,
        size,
    )
    return start, padded


def _is_fingerprint(view: memoryview, at: int, size: int) -> bool:
    if at + 8 != size or bytes(view[at : at + 4]) != _FINGERPRINT:
        return False
    return fingerprint_of(view[:at]) == int.from_bytes(view[at + 4 : size])
