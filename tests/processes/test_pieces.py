"""Pieces of a run, in Python and in C: one contract for both."""

import gc
import sys
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.twins import load_native, load_source

NAME = "relay.io.datapath.pieces"


@pytest.fixture(scope="module", params=[load_source, load_native], ids=["python", "native"])
def pieces_of(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param(NAME)
    return module


def strided(data: bytes, start: int, stop: int, stride: int, length: int) -> list[bytes]:
    return [data[at : min(at + length, stop)] for at in range(start, stop, stride)]


PIECES = st.tuples(
    st.integers(-1, 70),
    st.integers(-1, 70),
    st.integers(-1, 20) | st.sampled_from((65536, 65537, sys.maxsize)),
    st.integers(-1, 20),
)


def are_there(data: bytes, start: int, stop: int, stride: int, length: int) -> bool:
    return 0 <= start <= stop <= len(data) and 1 <= length <= stride <= 65536


@given(data=st.text("ab", max_size=64), pieces=PIECES)
def test_pieces_are_alike_if_all_of_them_are_whole_and_the_same(
    pieces_of: ModuleType, data: str, pieces: tuple[int, int, int, int]
) -> None:
    raw = data.encode()
    if are_there(raw, *pieces):
        found = strided(raw, *pieces)
        assert pieces_of.alike(memoryview(raw), *pieces) is all(
            piece == found[0] and len(piece) == pieces[3] for piece in found
        )
    else:
        with pytest.raises(ValueError, match="no pieces"):
            pieces_of.alike(memoryview(raw), *pieces)


@given(data=st.binary(max_size=64), pieces=PIECES)
def test_compacting_moves_pieces_together_and_touches_nothing_else(
    pieces_of: ModuleType, data: bytes, pieces: tuple[int, int, int, int]
) -> None:
    buffer = bytearray(data)
    if are_there(data, *pieces):
        joined = b"".join(strided(data, *pieces))
        end = pieces_of.compact(memoryview(buffer), *pieces)
        assert end == pieces[0] + len(joined)
        assert buffer == data[: pieces[0]] + joined + data[end:]
    else:
        with pytest.raises(ValueError, match="no pieces"):
            pieces_of.compact(memoryview(buffer), *pieces)
        assert buffer == data


@given(
    data=st.binary(min_size=1, max_size=64), size=st.integers(1, 20), head=st.integers(0, 5), align=st.integers(1, 4)
)
def test_each_piece_gets_its_head_and_zeros_behind_it(
    pieces_of: ModuleType, data: bytes, size: int, head: int, align: int
) -> None:
    pieces = strided(data, 0, len(data), size, size)
    heads = [bytes([number]) * head for number in range(len(pieces))]
    expected = b"".join(one + piece + bytes(-len(piece) % align) for one, piece in zip(heads, pieces, strict=True))
    out = memoryview(bytearray(b"\xff" * (len(expected) + 1)))
    source = memoryview(b"before" + data + b"behind")
    written = pieces_of.interleave(out, b"".join(heads), source, 6, 6 + len(data), size, align)
    assert written == len(expected)
    assert out == expected + b"\xff"
    with pytest.raises(ValueError, match="do not fit"):
        pieces_of.interleave(out[: written - 1], b"".join(heads), source, 6, 6 + len(data), size, align)
    if len(pieces) > 1:
        with pytest.raises(ValueError, match="do not fit"):
            pieces_of.interleave(out, b"".join(heads) + b"?", source, 6, 6 + len(data), size, align)


@pytest.mark.parametrize(
    ("start", "stop", "size", "align"),
    [(-1, 4, 1, 1), (0, 9, 1, 1), (4, 4, 1, 1), (5, 4, 1, 1), (0, 4, 0, 1), (0, 4, -1, 1), (0, 4, 1, 0), (0, 4, 1, 5)],
)
def test_pieces_that_are_not_there_get_no_heads(
    pieces_of: ModuleType, start: int, stop: int, size: int, align: int
) -> None:
    out = memoryview(bytearray(64))
    with pytest.raises(ValueError, match="do not fit"):
        pieces_of.interleave(out, b"", bytes(8), start, stop, size, align)
    assert not any(out)


def test_the_native_form_refuses_what_is_no_piece_of_a_buffer() -> None:
    module = load_native(NAME)
    for function, arguments in ((module.alike, 5), (module.compact, 5), (module.interleave, 7)):
        with pytest.raises(TypeError):
            function(*[bytearray(9)] * (arguments - 1))
        with pytest.raises(TypeError):
            function(*[bytearray(9)] * arguments)
    with pytest.raises((TypeError, BufferError)):
        module.compact(b"read only", 0, 9, 2, 1)
    with pytest.raises((TypeError, BufferError)):
        module.interleave(b"read only", b"", b"data", 0, 4, 4, 1)


def test_the_native_form_keeps_no_reference_too_many() -> None:
    module = load_native(NAME)
    buffer, out = bytearray(64), memoryview(bytearray(96))

    def work() -> int:
        for _ in range(2000):
            module.compact(buffer, 0, 64, 8, 4)
            module.alike(buffer, 0, 64, 8, 4)
            module.interleave(out, b"head" * 8, buffer, 0, 64, 8, 4)
            with pytest.raises(ValueError, match="do not fit"):
                module.interleave(out, b"head" * 9, buffer, 0, 64, 8, 4)
        gc.collect()
        return sys.getallocatedblocks()

    work()
    before = work()
    assert abs(work() - before) < 200
