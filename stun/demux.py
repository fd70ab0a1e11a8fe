"""ChannelData, and how a byte stream is cut into it and STUN messages (RFC 7983, RFC 8656 §12.4, §12.5)."""

from typing import Final

from stun.errors import MessageParseError, ParseFault
from stun.registry import HEADER_LENGTH, MAGIC_COOKIE

CHANNEL_HEADER_LENGTH: Final = 4  # bytes: number and length (RFC 8656 §12.4)
MIN_CHANNEL: Final = 0x4000
MAX_CHANNEL: Final = 0x7FFE  # RFC 8656 ends at 0x4FFF, deployed clients follow RFC 5766
MAX_FRAME: Final = HEADER_LENGTH + 0xFFFC  # bytes: the largest STUN message; no ChannelData frame is longer


def encode_channel_data(number: int, data: bytes) -> bytes:
    """A ChannelData message without padding, as a datagram carries it (RFC 8656 §12.4)."""
    return number.to_bytes(2) + len(data).to_bytes(2) + data


def decode_channel_data(frame: bytes) -> tuple[int, bytes]:
    """Read number and data of a ChannelData message; bytes behind the data are padding (RFC 8656 §12.5).

    Raises:
        MessageParseError: it is no ChannelData, or shorter than it claims.
    """
    if len(frame) < CHANNEL_HEADER_LENGTH:
        raise MessageParseError(ParseFault.TRUNCATED, f"{len(frame)} bytes of ChannelData")
    number = int.from_bytes(frame[:2])
    if not MIN_CHANNEL <= number <= MAX_CHANNEL:
        raise MessageParseError(ParseFault.BAD_VALUE, f"channel {number:#06x}")
    length = int.from_bytes(frame[2:4])
    if CHANNEL_HEADER_LENGTH + length > len(frame):
        raise MessageParseError(ParseFault.TRUNCATED, f"ChannelData claims {length} bytes")
    return number, frame[CHANNEL_HEADER_LENGTH : CHANNEL_HEADER_LENGTH + length]


def find_frames(
    buffer: bytes | bytearray, start: int, end: int
) -> tuple[list[tuple[int, int]], int, int, ParseFault | None]:
    """Find the frames of a stream where they lie, in `buffer[start:end]` (RFC 8656 §12.5).

    Returns:
        where each whole frame begins and ends, without its padding; where the first incomplete one begins; how many
        bytes of it are needed before it is worth another look; and what is wrong there, if it can never become a frame.
    """
    bounds: list[tuple[int, int]] = []
    at = start
    while (left := end - at) >= CHANNEL_HEADER_LENGTH:
        first = buffer[at]
        length = buffer[at + 2] << 8 | buffer[at + 3]
        if 0x40 <= first <= 0x7F:
            size = CHANNEL_HEADER_LENGTH + length
            step = size + 3 & ~3
        elif first < 0x04 and not length & 3:
            size = step = HEADER_LENGTH + length
            if left < 8:
                return bounds, at, 8, None
            if buffer[at + 4 : at + 8] != MAGIC_COOKIE:
                return bounds, at, 0, ParseFault.BAD_COOKIE
        else:
            return bounds, at, 0, ParseFault.NOT_STUN
        if left < step:
            return bounds, at, step, None
        bounds.append((at, at + size))
        at += step
    return bounds, at, CHANNEL_HEADER_LENGTH, None


class StreamDecoder:
    """Cuts the bytes of one TCP or TLS connection into STUN messages and ChannelData (RFC 8656 §12.5).

    Holds at most one incomplete frame, hence little more than 64 KiB. After an error the connection cannot be
    understood any more and must be closed.
    """

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = b""

    @property
    def buffered(self) -> int:
        """Bytes of the incomplete frame."""
        return len(self._buffer)

    def receive(self, data: bytes) -> list[bytes]:
        """Take bytes in, give whole frames out, each without its padding.

        Raises:
            MessageParseError: what comes is neither STUN nor ChannelData.
        """
        buffer = self._buffer + data if self._buffer else data
        bounds, at, _, fault = find_frames(buffer, 0, len(buffer))
        if fault is not None:
            raise MessageParseError(fault, f"frame begins with {buffer[at]:#04x}")
        self._buffer = buffer[at:]
        return [buffer[start:end] for start, end in bounds]
