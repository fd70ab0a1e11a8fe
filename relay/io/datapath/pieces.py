"""Pieces of a buffer, each a stride behind the one before it, as a joined run of datagrams holds them.

This is the portable form. `pieces.c` is its twin, built by `make native`, with the same names: there no object is made
for a piece.
"""

from typing import Final

from relay.io.clients import Buffer

MAX_ALIGN: Final = 4  # bytes
MAX_STRIDE: Final = 65536  # bytes from one piece to the next


def alike(data: Buffer, start: int, stop: int, stride: int, length: int) -> bool:
    """Whether the `length` bytes that lie at `start` lie again at each `stride` behind it, up to `stop`.

    Raises:
        ValueError: no pieces lie there.
    """
    _check_pieces(data, start, stop, stride, length)
    first = data[start : start + length]
    return all(at + length <= stop and data[at : at + length] == first for at in range(start, stop, stride))


def compact(data: memoryview, start: int, stop: int, stride: int, length: int) -> int:
    """Move the pieces of `length` bytes that begin at `start`, and every `stride` bytes behind it, together in place.

    The last is cut off at `stop`. Returns where the last one ends now.

    Raises:
        ValueError: no pieces lie there.
    """
    _check_pieces(data, start, stop, stride, length)
    pieces = b"".join([data[at : min(at + length, stop)] for at in range(start, stop, stride)])
    data[start : start + len(pieces)] = pieces
    return start + len(pieces)


def interleave(out: memoryview, heads: Buffer, data: Buffer, start: int, stop: int, size: int, align: int) -> int:
    """Write `data[start:stop]` in pieces of `size` bytes, the last may be shorter, each with a head in front of it.

    Args:
        out: where they are written, from its begin.
        heads: one for each piece, of equal length.
        data: not in `out`.
        start: where the first piece begins.
        stop: where the last one ends.
        size: bytes of each piece.
        align: zero bytes follow a piece until this, at most 4, divides its length.

    Returns:
        how many bytes were written.

    Raises:
        ValueError: heads and pieces do not fit each other or the buffers.
    """
    if not (0 <= start < stop <= len(data) and 1 <= size <= MAX_STRIDE and 1 <= align <= MAX_ALIGN):
        raise ValueError("heads and pieces do not fit")
    count = -(-(stop - start) // size)
    head, rest = divmod(len(heads), count)
    parts: list[Buffer] = []
    for number, at in enumerate(range(start, stop, size)):
        piece = data[at : min(at + size, stop)]
        parts += heads[number * head : (number + 1) * head], piece, bytes(-len(piece) % align)
    written = b"".join(parts)
    if rest or len(written) > len(out):
        raise ValueError("heads and pieces do not fit")
    out[: len(written)] = written
    return len(written)


def _check_pieces(data: Buffer, start: int, stop: int, stride: int, length: int) -> None:
    if not (0 <= start <= stop <= len(data) and 1 <= length <= stride <= MAX_STRIDE):
        raise ValueError("no pieces lie there")
