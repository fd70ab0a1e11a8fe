"""One TCP stream, at once and in pieces: a byte says how many cuts follow, each of two bytes, then the stream."""

import contextlib
import itertools

from stun.demux import MAX_FRAME, StreamDecoder, decode_channel_data
from stun.errors import MessageParseError
from stun.message import decode_message

_MAX_CUTS = 15


def run(data: bytes) -> None:
    """However a stream is cut, the frames are the same."""
    count = data[0] % (_MAX_CUTS + 1) if data else 0
    cuts, stream = data[1 : 1 + 2 * count], data[1 + 2 * count :]
    places = sorted(int.from_bytes(cuts[at : at + 2]) % (len(stream) + 1) for at in range(0, len(cuts), 2))
    whole, failed = decode_pieces([stream])
    pieces, failed_in_pieces = decode_pieces([stream[a:b] for a, b in itertools.pairwise([0, *places, len(stream)])])
    assert failed == failed_in_pieces
    # Of a stream that turns into junk, frames in the same piece as the junk are not handed out.
    assert pieces == whole if not failed else whole == []
    assert sum(map(len, pieces)) <= len(stream)
    for frame in pieces:
        with contextlib.suppress(MessageParseError):
            if frame[0] < 4:
                decode_message(frame)
            else:
                decode_channel_data(frame)


def decode_pieces(chunks: list[bytes]) -> tuple[list[bytes], bool]:
    """The frames of a stream that comes in these pieces, and whether it turned into junk."""
    decoder = StreamDecoder()
    found: list[bytes] = []
    for chunk in chunks:
        try:
            found += decoder.receive(chunk)
        except MessageParseError:
            return found, True
        assert decoder.buffered < MAX_FRAME
    return found, False


if __name__ == "__main__":
    from tests.fuzz.targets.loop import fuzz

    fuzz("tests.fuzz.targets.framing")
