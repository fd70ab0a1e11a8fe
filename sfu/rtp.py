"""RTP packets (RFC 3550 §5.1), their header extensions (RFC 8285), retransmissions (RFC 4588), and what a datagram is.

Packets are bytes and offsets: nothing is copied before something is built from it.
"""

import struct
from collections.abc import Iterable
from enum import Enum
from typing import Final, NamedTuple

from sfu.errors import ParseFault, RtpParseError

HEADER_LENGTH: Final = 12  # bytes: without contributing sources and extensions
MAX_PACKET: Final = 1500  # bytes: what an Ethernet carries; RTP is never fragmented on purpose
MAX_EXTENSIONS: Final = 32  # elements of one packet; browsers send at most 8
ONE_BYTE_PROFILE: Final = 0xBEDE
TWO_BYTE_PROFILE: Final = 0x1000  # and 4 bits of "appbits" (RFC 8285 §4.3)

_HEADER: Final = struct.Struct("!BBHII")
_BLOCK: Final = struct.Struct("!HH")
_unpack_header = _HEADER.unpack_from
_unpack_block = _BLOCK.unpack_from


class DatagramKind(Enum):
    """What the first bytes of a datagram say that it is (RFC 7983 §7, RFC 5761 §4)."""

    STUN = "stun"
    DTLS = "dtls"
    RTP = "rtp"
    RTCP = "rtcp"
    UNKNOWN = "unknown"


def kind_of(datagram: bytes) -> DatagramKind:
    """Tell the protocol of a datagram; what is empty or of none of the four is UNKNOWN."""
    if not datagram:
        return DatagramKind.UNKNOWN
    first = datagram[0]
    if 128 <= first <= 191:
        return DatagramKind.RTCP if is_rtcp(datagram) else DatagramKind.RTP
    if first <= 3:
        return DatagramKind.STUN
    if 20 <= first <= 63:
        return DatagramKind.DTLS
    return DatagramKind.UNKNOWN


def is_rtcp(datagram: bytes | memoryview) -> bool:
    """Whether an RTP or RTCP datagram is RTCP: its packet type is 192 to 223 (RFC 5761 §4)."""
    return len(datagram) > 1 and 192 <= datagram[1] <= 223


class RtpHeader(NamedTuple):
    """The fixed header of an RTP packet, and where its parts lie: offsets in bytes from the start of the packet."""

    marker: bool
    payload_type: int
    sequence_number: int
    timestamp: int
    ssrc: int
    profile: int  # of the extension block; 0 without one
    extensions_offset: int  # of the first element, behind profile and length
    payload_offset: int  # where the extension block ends, too
    payload_end: int  # where padding begins


def _header(fields: tuple[bool, int, int, int, int, int, int, int, int]) -> RtpHeader:
    # Half the price of the constructor, which matters here: it is called once per packet.
    return tuple.__new__(RtpHeader, fields)


def decode_header(packet: bytes) -> RtpHeader:
    """Read the header of an RTP packet (RFC 3550 §5.1) and find its extensions, payload and padding.

    Raises:
        RtpParseError: it is no RTP, or its lengths point outside the packet.
    """
    size = len(packet)
    if size < HEADER_LENGTH:
        raise RtpParseError(ParseFault.TRUNCATED, f"{size} bytes")
    first, second, sequence_number, timestamp, ssrc = _unpack_header(packet)
    if first & 0xC0 != 0x80:
        raise RtpParseError(ParseFault.BAD_VERSION, f"{first >> 6}")
    offset = extensions = HEADER_LENGTH + ((first & 0x0F) << 2)
    profile = 0
    if first & 0x10:
        extensions = offset + 4
        if extensions > size:
            raise RtpParseError(ParseFault.TRUNCATED, "no room for the extension header")
        profile, words = _unpack_block(packet, offset)
        offset = extensions + (words << 2)
    if offset > size:
        raise RtpParseError(ParseFault.TRUNCATED, f"{size} bytes, but the payload begins at {offset}")
    end = size
    if first & 0x20:
        end -= packet[-1]
        if end == size or end < offset:
            raise RtpParseError(ParseFault.BAD_PADDING, f"{packet[-1]} bytes")
    return _header((second > 127, second & 0x7F, sequence_number, timestamp, ssrc, profile, extensions, offset, end))


def decode_extensions(packet: bytes, header: RtpHeader) -> dict[int, bytes]:
    """Read the header extensions of a packet by their identifiers (RFC 8285 §4.2, §4.3).

    A block of an unknown profile has none. Of a repeated identifier, which the RFC forbids, the last one counts.

    Raises:
        RtpParseError: an element ends outside the block, or there are more than MAX_EXTENSIONS.
    """
    profile = header.profile
    found: dict[int, bytes] = {}
    if profile == ONE_BYTE_PROFILE:
        one_byte = True
    elif profile & 0xFFF0 == TWO_BYTE_PROFILE:
        one_byte = False
    else:
        return found
    at, end = header.extensions_offset, header.payload_offset
    elements = 0
    while at < end:
        identifier = packet[at]
        at += 1
        if identifier == 0:  # padding
            continue
        if one_byte:
            length = (identifier & 0x0F) + 1
            identifier >>= 4
            if not 0 < identifier < 15:  # stop here (RFC 8285 §4.2)
                break
        else:
            if at == end:
                raise RtpParseError(ParseFault.TRUNCATED, f"extension {identifier} without a length")
            length = packet[at]
            at += 1
        if at + length > end:
            raise RtpParseError(ParseFault.BAD_LENGTH, f"{length} bytes of extension {identifier}")
        elements += 1
        if elements > MAX_EXTENSIONS:
            raise RtpParseError(ParseFault.TOO_MANY, "extensions")
        found[identifier] = packet[at : at + length]
        at += length
    return found


def encode_extensions(extensions: Iterable[tuple[int, bytes]]) -> bytes:
    """Write an extension block (RFC 8285), with headers of one byte if all fit them; without elements, nothing.

    Raises:
        ValueError: an identifier is not 1 to 255, or a value is longer than 255 bytes.
    """
    elements = tuple(extensions)
    if not elements:
        return b""
    if all(0 < identifier < 15 and 0 < len(value) <= 16 for identifier, value in elements):
        profile = ONE_BYTE_PROFILE
        parts = [bytes((identifier << 4 | len(value) - 1,)) + value for identifier, value in elements]
    else:
        if not all(0 < identifier <= 255 for identifier, _ in elements):
            raise ValueError("identifiers of header extensions are 1 to 255")
        profile = TWO_BYTE_PROFILE
        parts = [bytes((identifier, len(value))) + value for identifier, value in elements]
    data = b"".join(parts)
    data += bytes(-len(data) % 4)
    return _BLOCK.pack(profile, len(data) >> 2) + data


def encode_packet(
    payload_type: int,
    sequence_number: int,
    timestamp: int,
    ssrc: int,
    payload: bytes,
    *,
    marker: bool = False,
    extensions: bytes = b"",
    padding: int = 0,
) -> bytes:
    """Write an RTP packet (RFC 3550 §5.1).

    Args:
        payload_type: 0 to 127.
        sequence_number: 16 bits.
        timestamp: 32 bits.
        ssrc: 32 bits.
        payload: what it carries.
        marker: the marker bit.
        extensions: a block as `encode_extensions` writes it.
        padding: 0 to 255 bytes behind the payload, the one that says how many included.
    """
    first = 0x80 | (0x10 if extensions else 0) | (0x20 if padding else 0)
    second = payload_type | (0x80 if marker else 0)
    header = _HEADER.pack(first, second, sequence_number, timestamp, ssrc)
    if padding:
        return header + extensions + payload + bytes(padding - 1) + bytes((padding,))
    return header + extensions + payload


def original_sequence_number(packet: bytes, header: RtpHeader) -> int | None:
    """Read which packet a retransmission repeats (RFC 4588 §4): its payload is behind these two bytes.

    None for one that repeats nothing: senders probe for bandwidth by retransmissions that are all padding.

    Raises:
        RtpParseError: the payload is a single byte.
    """
    offset = header.payload_offset
    size = header.payload_end - offset
    if size == 0:
        return None
    if size == 1:
        raise RtpParseError(ParseFault.TRUNCATED, "half an original sequence number")
    return packet[offset] << 8 | packet[offset + 1]
