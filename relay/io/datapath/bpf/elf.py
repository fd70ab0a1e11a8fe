"""Reading what clang made of the C file: programs, definitions of maps, and where the programs refer to maps.

An object file for BPF is a relocatable ELF file of 64 bits (System V gABI, chapter 4). Programs have a section each,
the definitions of all maps share one, and a relocation says which instruction wants the descriptor of which map.
"""

import struct
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

INSTRUCTION_BYTES: Final = 8
MAX_OBJECT_BYTES: Final = 1 << 20
MAX_SECTIONS: Final = 64

_HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION: Final = struct.Struct("<IIQQQQIIQQ")
_SYMBOL: Final = struct.Struct("<IBBHQQ")
_RELOCATION: Final = struct.Struct("<QQ")
_DEFINITION: Final = struct.Struct("<5I")
_IDENTITY: Final = b"\x7fELF\x02\x01"  # 64 bits, little-endian
_EM_BPF: Final = 247
_SYMBOL_TABLE: Final = 2
_RELOCATIONS: Final = 9
_R_BPF_64_64: Final = 1
_LOAD_64: Final = 0x18  # the instruction that loads a constant of 64 bits, or a map
_PSEUDO_MAP: Final = 1  # BPF_PSEUDO_MAP_FD, in the place of the source register
_PROGRAM_SECTIONS: Final = ("tcx", "xdp")
_MAPS: Final = "maps"
_LICENCE: Final = "license"


class BadObject(ValueError):
    """The bytes are not an object file that this loader understands."""


class MapDefinition(NamedTuple):
    """What a map is to be like; `max_entries` is for the loader to say."""

    type: int
    key_bytes: int
    value_bytes: int
    max_entries: int
    flags: int


class Program(NamedTuple):
    """The instructions of one program, and which of them want the descriptor of which map."""

    instructions: bytes
    maps: Mapping[int, str]  # by the offset of the instruction, in bytes

    def linked(self, descriptors: Mapping[str, int]) -> bytes:
        """The instructions with the maps' descriptors in place."""
        code = bytearray(self.instructions)
        for at, name in self.maps.items():
            code[at + 1] = code[at + 1] & 0x0F | _PSEUDO_MAP << 4
            struct.pack_into("<I", code, at + 4, descriptors[name])
        return bytes(code)


class ObjectFile(NamedTuple):
    """An object file for BPF."""

    programs: Mapping[str, Program]  # by the name of their section
    maps: Mapping[str, MapDefinition]
    licence: bytes
    sections: Mapping[str, bytes]


class _Section(NamedTuple):
    name: str
    type: int
    body: bytes
    link: int
    info: int


class _Symbol(NamedTuple):
    name: str
    section: int
    value: int


def read_object(data: bytes) -> ObjectFile:
    """Read an object file.

    Raises:
        BadObject: it is damaged, for another machine, or uses what this loader does not know.
    """
    if len(data) > MAX_OBJECT_BYTES:
        raise BadObject("larger than any object of ours")
    try:
        sections = list(_sections(data))
        symbols = list(_symbols(sections))
        maps = {symbol.name: definition for symbol, definition in _definitions(sections, symbols)}
        programs = {
            section.name: Program(section.body, _references(sections, symbols, at, maps))
            for at, section in enumerate(sections)
            if section.name in _PROGRAM_SECTIONS
        }
    except BadObject:
        raise
    except (struct.error, IndexError, OverflowError, ValueError) as error:
        raise BadObject("damaged") from error
    bodies = {section.name: section.body for section in sections}
    return ObjectFile(programs, maps, bodies.get(_LICENCE, b""), bodies)


def _sections(data: bytes) -> Iterator[_Section]:
    identity, _, machine, _, _, _, table, _, _, _, _, size, count, names_at = _HEADER.unpack_from(data)
    if not identity.startswith(_IDENTITY) or machine != _EM_BPF or size != _SECTION.size:
        raise BadObject("not an object file for BPF")
    if count > MAX_SECTIONS:
        raise BadObject("more sections than any object of ours")
    heads = [_SECTION.unpack_from(data, table + at * size) for at in range(count)]
    _, _, _, _, start, length, *_ = heads[names_at]
    names = data[start : start + length]
    for name, kind, _, _, start, length, link, info, _, _ in heads:
        yield _Section(_text(names, name), kind, data[start : start + length], link, info)


def _symbols(sections: list[_Section]) -> Iterator[_Symbol]:
    for section in sections:
        if section.type == _SYMBOL_TABLE:
            names = sections[section.link].body
            for name, _, _, where, value, _ in _SYMBOL.iter_unpack(section.body):
                yield _Symbol(_text(names, name), where, value)


def _definitions(sections: list[_Section], symbols: list[_Symbol]) -> Iterator[tuple[_Symbol, MapDefinition]]:
    for symbol in symbols:
        if symbol.section < len(sections) and sections[symbol.section].name == _MAPS and symbol.name:
            yield symbol, MapDefinition(*_DEFINITION.unpack_from(sections[symbol.section].body, symbol.value))


def _references(
    sections: list[_Section], symbols: list[_Symbol], program: int, maps: Mapping[str, MapDefinition]
) -> dict[int, str]:
    found: dict[int, str] = {}
    for section in sections:
        if section.type != _RELOCATIONS or section.info != program:
            continue
        for offset, info in _RELOCATION.iter_unpack(section.body):
            name = symbols[info >> 32].name
            if info & 0xFFFFFFFF != _R_BPF_64_64 or name not in maps:
                raise BadObject(f"refers to {name[:64]!r}, which is no map")
            if sections[program].body[offset] != _LOAD_64:
                raise BadObject("refers to a map where no instruction loads one")
            found[offset] = name
    return found


def _text(names: bytes, at: int) -> str:
    return names[at : names.index(b"\0", at)].decode("ascii") if at < len(names) else ""
