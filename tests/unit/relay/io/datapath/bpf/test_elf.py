"""Object files for BPF, built here by hand: what is read, and that nothing but BadObject comes of damage."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.io.datapath.bpf.elf import MAX_OBJECT_BYTES, BadObject, MapDefinition, read_object

LOAD_MAP = bytes.fromhex("1801000000000000" + "00" * 8)
EXIT = bytes.fromhex("9500000000000000")
NULL, PROGBITS, SYMTAB, STRTAB, REL = 0, 1, 2, 3, 9
MAP_RELOCATION = 1


class _Names:
    def __init__(self) -> None:
        self.table = b"\0"

    def add(self, name: str) -> int:
        at = len(self.table)
        self.table += name.encode() + b"\0"
        return at


def make_object(*, machine: int = 247, relocation: int = MAP_RELOCATION, offset: int = 16, symbol: int = 2) -> bytes:
    """A program of a map's load between two others' instructions, with two maps, of which it uses the second."""
    names, symbols = _Names(), _Names()
    maps = struct.pack("<5I", 1, 56, 64, 1, 0) + struct.pack("<5I", 2, 4, 128, 1, 1024)
    entries = [(0, 0, 0, 0, 0, 0), (symbols.add("flows"), 1, 0, 2, 0, 20), (symbols.add("slots"), 1, 0, 2, 20, 20)]
    entries.append((symbols.add("elsewhere"), 1, 0, 1, 0, 8))
    bodies = [  # name, type, body, link, info
        ("", NULL, b"", 0, 0),
        ("tcx", PROGBITS, EXIT * 2 + LOAD_MAP + EXIT, 0, 0),
        ("maps", PROGBITS, maps, 0, 0),
        ("license", PROGBITS, b"GPL\0", 0, 0),
        (".reltcx", REL, struct.pack("<QQ", offset, symbol << 32 | relocation), 5, 1),
        (".symtab", SYMTAB, b"".join(struct.pack("<IBBHQQ", *entry) for entry in entries), 6, 0),
        (".symnames", STRTAB, symbols.table, 0, 0),
        (".strtab", STRTAB, b"", 0, 0),
    ]
    heads, data = b"", b""
    starts = [names.add(name) for name, *_ in bodies]
    bodies[-1] = (".strtab", STRTAB, names.table, 0, 0)
    for start, (_, kind, body, link, info) in zip(starts, bodies, strict=True):
        heads += struct.pack("<IIQQQQIIQQ", start, kind, 0, 0, 64 + len(data), len(body), link, info, 1, 0)
        data += body
    identity = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    words = (1, machine, 1, 0, 0, 64 + len(data), 0, 64, 0, 0, 64, len(bodies), len(bodies) - 1)
    return identity + struct.pack("<HHIQQQIHHHHHH", *words) + data + heads


def test_maps_licence_and_the_place_of_a_map_are_read() -> None:
    read = read_object(make_object())
    assert read.maps == {"flows": MapDefinition(1, 56, 64, 1, 0), "slots": MapDefinition(2, 4, 128, 1, 1024)}
    assert read.licence == b"GPL\0"
    assert read.programs["tcx"].maps == {16: "slots"}


def test_linking_puts_the_descriptor_into_the_instruction_and_nowhere_else() -> None:
    program = read_object(make_object()).programs["tcx"]
    linked = program.linked({"flows": 3, "slots": 0x01020304})
    assert linked == EXIT * 2 + bytes.fromhex("1811000004030201" + "00" * 8) + EXIT
    assert program.instructions == EXIT * 2 + LOAD_MAP + EXIT


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"machine": 62}, "not an object file for BPF"),
        ({"relocation": 10}, "is no map"),
        ({"symbol": 3}, "'elsewhere', which is no map"),
        ({"offset": 0}, "where no instruction loads one"),
        ({"symbol": 77}, "damaged"),
        ({"offset": 7777}, "damaged"),
    ],
)
def test_what_the_loader_does_not_know_is_refused(wrong: dict[str, int], reason: str) -> None:
    with pytest.raises(BadObject, match=reason):
        read_object(make_object(**wrong))


def test_an_object_beyond_the_bound_is_not_looked_at() -> None:
    with pytest.raises(BadObject, match="larger"):
        read_object(bytes(MAX_OBJECT_BYTES + 1))


@given(st.binary(max_size=400))
def test_random_bytes_raise_nothing_but_bad_object(data: bytes) -> None:
    with pytest.raises(BadObject):
        read_object(data)


@given(st.data())
def test_a_damaged_object_raises_nothing_but_bad_object(data: st.DataObject) -> None:
    damaged = bytearray(make_object())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    del damaged[data.draw(st.integers(0, len(damaged))) :]
    with contextlib.suppress(BadObject):
        read_object(bytes(damaged))
