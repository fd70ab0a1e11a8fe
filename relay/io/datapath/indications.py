"""Send and Data indications on the packet path, read and written in place (RFC 8656 §11).

Firefox never binds a channel: all its media travels in these. So they get a reader for the one shape that browsers
send (XOR-PEER-ADDRESS, DATA, perhaps FINGERPRINT) and a writer that puts the header in front of a payload where it
lies. Indications of any other shape go up to the control plane, which reads them with the full codec.
"""

import struct
from typing import Final

from stun.address import IPV4, IPV6
from stun.registry import HEADER_LENGTH, MAGIC_COOKIE

HEADROOM: Final = 48  # bytes in front of a payload: header 20, XOR-PEER-ADDRESS 24 (IPv6), DATA 4
TAILROOM: Final = 4  # bytes behind it: padding
MAX_PAYLOAD: Final = 0xFFFC - (HEADROOM - HEADER_LENGTH)  # bytes: what the length field of any indication has room for
SEND_TYPE: Final = 0x0016

_DATA_TYPE: Final = 0x0017
_DATA: Final = 0x0013
_COOKIE: Final = int.from_bytes(MAGIC_COOKIE)
_COOKIE_PORT: Final = _COOKIE >> 16
_PEER_V4: Final = 0x0012 << 16 | 8  # type and length of XOR-PEER-ADDRESS
_PEER_V6: Final = 0x0012 << 16 | 20
_PEER_V4_HEAD: Final = _PEER_V4.to_bytes(4) + bytes((0, IPV4))
_FINGERPRINT: Final = b"\x80\x28\x00\x04"
_MASK_V4: Final = int.from_bytes(MAGIC_COOKIE[:2] + MAGIC_COOKIE)
_MASK_V6: Final = int.from_bytes(MAGIC_COOKIE[:2] + MAGIC_COOKIE) << 96
# Type, length, cookie; type and length of XOR-PEER-ADDRESS, zero byte and family, port and IP; type, length of DATA.
_SEND_V4: Final = struct.Struct("!HHI12xIH6sHH")
_SEND_V6: Final = struct.Struct("!HHI12sIH18sHH")
_DATA_HEAD_V6: Final = struct.Struct("!HHIIQIHH16sHH")
DATA_HEAD_V4_BYTES: Final = 36
DATA_HEAD_V6_BYTES: Final = _DATA_HEAD_V6.size

Send = tuple[bytes | int, int, int]  # who the peer is, and where the payload begins and ends


def find_send(view: memoryview, start: int, end: int) -> Send | None:
    """Find peer and data of a Send indication of the usual shape in `view[start:end]`; None: ask the full codec.

    The peer comes in a form that is quick to make and to look up, and the same each time: see `peer_of`.
    """
    size = end - start
    if size < HEADER_LENGTH + 12 + 4:
        return None
    kind, length, cookie, attribute, family, peer, number, data_length = _SEND_V4.unpack_from(view, start)
    if kind != SEND_TYPE or cookie != _COOKIE or length != size - HEADER_LENGTH:
        return None
    key: bytes | int
    if attribute == _PEER_V4 and family == IPV4:
        key = peer
        at = start + 36
    elif attribute == _PEER_V6 and family == IPV6 and size >= HEADER_LENGTH + 24 + 4:
        _, _, _, transaction_id, _, _, peer, number, data_length = _SEND_V6.unpack_from(view, start)
        # The transaction ID takes part in the XOR, so that the masked form is new each time.
        key = int.from_bytes(peer) ^ (_MASK_V6 | int.from_bytes(transaction_id))
        at = start + 48
    else:
        return None
    stop = at + data_length
    padded = stop + (-data_length & 3)
    if number != _DATA or (padded != end and not _is_fingerprint(view, padded, end)):
        return None
    return key, at, stop


def peer_of(key: bytes | int) -> tuple[bytes, int]:
    """The packed IP address and the port of a peer that `find_send` found."""
    plain = key.to_bytes(18) if isinstance(key, int) else (int.from_bytes(key) ^ _MASK_V4).to_bytes(6)
    return plain[2:], int.from_bytes(plain[:2])


class TransactionIds:
    """Transaction IDs of Data indications: unique, though nothing depends on it (RFC 8489 §5)."""

    __slots__ = ("count", "fixed", "salt")

    def __init__(self, salt: int) -> None:
        self.salt = salt  # 32 bits
        self.fixed = MAGIC_COOKIE + salt.to_bytes(4)  # of each header: what lies between length and count
        self.count = 0  # 64 bits, taken and advanced in place by who writes indications

    def next(self) -> bytes:
        """A new one."""
        self.count += 1
        return self.salt.to_bytes(4) + self.count.to_bytes(8)


def data_head_v4(size: int, ids: TransactionIds, ip: int, port: int) -> bytes:
    """Everything of a Data indication that comes before a payload of `size` bytes; padding follows the payload."""
    ids.count = count = ids.count + 1
    length = 16 + (size + 3 & ~3)
    peer = (port ^ _COOKIE_PORT) << 32 | ip ^ _COOKIE
    # Compiled, four numbers are written quicker than a `Struct` takes the same out of eleven objects.
    return b"".join(
        (
            (_DATA_TYPE << 16 | length).to_bytes(4, "big"),
            ids.fixed,
            count.to_bytes(8, "big"),
            _PEER_V4_HEAD,
            peer.to_bytes(6, "big"),
            (_DATA << 16 | size).to_bytes(4, "big"),
        )
    )


def data_head_v6(size: int, ids: TransactionIds, ip: int, port: int) -> bytes:
    """As `data_head_v4`, for an IPv6 peer."""
    ids.count = count = ids.count + 1
    length = 28 + (size + 3 & ~3)
    masked = (ip ^ (_COOKIE << 96 | ids.salt << 64 | count)).to_bytes(16)
    return _DATA_HEAD_V6.pack(
        _DATA_TYPE, length, _COOKIE, ids.salt, count, _PEER_V6, IPV6, port ^ _COOKIE_PORT, masked, _DATA, size
    )


def _is_fingerprint(view: memoryview, at: int, end: int) -> bool:
    """Whether the rest is a FINGERPRINT, whatever its value.

    It tells STUN from other protocols (RFC 8489 §14.7); here the type, the cookie, every length and the five-tuple of
    an allocation have done so. Firefox sends one in each indication.
    """
    return at + 8 == end and bytes(view[at : at + 4]) == _FINGERPRINT
