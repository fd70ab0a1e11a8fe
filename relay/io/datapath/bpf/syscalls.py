"""bpf(2), as far as the loader needs it: maps, programs, links. Everything raises OSError with the kernel's number.

No library: what libbpf does beyond these calls is of no use here (docs/decisions/0031-kernel-program.md).
"""

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator
from typing import Final

_NUMBERS: Final = {"x86_64": 321, "aarch64": 280}  # of the system call, by machine
_ATTRIBUTE_BYTES: Final = 128  # zeros behind what a command reads mean: nothing more is asked for
_LOG_BYTES: Final = 1 << 16  # of the verifier's reasons; a longer log ends with ENOSPC
_NOTE_CHARACTERS: Final = 1000

_MAP_CREATE: Final = 0
_MAP_LOOKUP: Final = 1
_MAP_UPDATE: Final = 2
_MAP_DELETE: Final = 3
_PROG_LOAD: Final = 5
_PROG_QUERY: Final = 16
_MAP_LOOKUP_BATCH: Final = 24
_LINK_CREATE: Final = 28

SCHED_CLS: Final = 3  # program types
XDP: Final = 6
ATTACH_XDP: Final = 37  # where programs are attached
XDP_IN_DRIVER: Final = 1 << 2  # and not for socket buffers that have been made already
ATTACH_TCX_INGRESS: Final = 46

_Buffer = ctypes.Array[ctypes.c_char]

_libc = ctypes.CDLL(None, use_errno=True)
_number: Final = _NUMBERS.get(platform.machine())


def is_supported() -> bool:
    """Whether the number of the system call is known for this kind of machine."""
    return _number is not None and struct.pack("=H", 1) == b"\x01\x00"


def create_map(kind: int, key_bytes: int, value_bytes: int, max_entries: int, flags: int, name: str) -> int:
    """Make a map and return its descriptor (close-on-exec, as all descriptors of bpf(2))."""
    named = name.encode("ascii")[:15]
    return _call(
        _MAP_CREATE, _attributes(struct.pack("=7I16s", kind, key_bytes, value_bytes, max_entries, flags, 0, 0, named))
    )


def load_program(kind: int, attach_type: int, instructions: bytes, licence: bytes, name: str) -> int:
    """Let the verifier look at a program and return its descriptor.

    Raises:
        OSError: refused; with EACCES or EINVAL the end of the verifier's reasons is in a note of the error.
    """
    code = ctypes.create_string_buffer(instructions, len(instructions))
    terms = ctypes.create_string_buffer(licence)
    count = len(instructions) // 8

    def attributes(level: int, size: int, log: int) -> _Buffer:
        words = kind, count, ctypes.addressof(code), ctypes.addressof(terms), level, size, log, 0, 0
        return _attributes(struct.pack("=IIQQIIQII16sII", *words, name.encode("ascii")[:15], 0, attach_type))

    try:
        return _call(_PROG_LOAD, attributes(0, 0, 0))
    except OSError as refusal:
        if refusal.errno == errno.EPERM:  # it was not even looked at
            raise
        log = ctypes.create_string_buffer(_LOG_BYTES)
        try:  # again, to hear why; it fails in the same way
            return _call(_PROG_LOAD, attributes(1, _LOG_BYTES, ctypes.addressof(log)))
        except OSError as explained:
            explained.add_note(log.value.decode("ascii", "replace")[-1000:])
            raise


def attach(program: int, interface: int, where: int, flags: int) -> int:
    """Attach a program to an interface and return the link; it lets go when its descriptor is closed."""
    return _call(_LINK_CREATE, _attributes(struct.pack("=IIII", program, interface, where, flags)))


def query(interface: int, where: int) -> int:
    """How many programs are attached to a place of an interface; OSError with ENOENT if none has ever been."""
    attributes = _attributes(struct.pack("=II", interface, where))
    _call(_PROG_QUERY, attributes)
    count: int = struct.unpack_from("=I", attributes, 24)[0]
    return count


class Map:
    """A map's elements by the bytes of their keys."""

    __slots__ = ("_change", "_key", "_remove", "_value", "descriptor", "key_bytes", "value_bytes")

    def __init__(self, descriptor: int, key_bytes: int, value_bytes: int) -> None:
        """Take a map over; `value_bytes` counts what the system call moves, all processors' for a per-CPU map."""
        self.descriptor = descriptor
        self.key_bytes = key_bytes
        self.value_bytes = value_bytes
        self._key = ctypes.create_string_buffer(key_bytes)
        self._value = ctypes.create_string_buffer(value_bytes)
        key_at = struct.pack("=IxxxxQ", descriptor, ctypes.addressof(self._key))
        # All bytes behind the key must be zero on removing, else EINVAL, and the element stays.
        self._remove = _attributes(key_at)
        self._change = _attributes(key_at + struct.pack("=Q", ctypes.addressof(self._value)))

    def set(self, key: bytes, value: bytes) -> None:
        """Create or replace an element; OSError with E2BIG if there is no room."""
        self._key.raw = key
        self._value.raw = value
        _call(_MAP_UPDATE, self._change)

    def get(self, key: bytes) -> bytes:
        """The value of an element; OSError with ENOENT if there is none."""
        self._key.raw = key
        _call(_MAP_LOOKUP, self._change)
        return self._value.raw

    def remove(self, key: bytes) -> bool:
        """Remove an element; False if there is none."""
        self._key.raw = key
        try:
            _call(_MAP_DELETE, self._remove)
        except FileNotFoundError:
            return False
        return True

    def keys(self, batch: int) -> Iterator[bytes]:
        """Every key that stands there from the first step to the last; of those that come and go meanwhile, some.

        Args:
            batch: how many are read by one call; more than any bucket of the hash table holds.
        """
        size = self.key_bytes
        keys = ctypes.create_string_buffer(batch * size)
        values = ctypes.create_string_buffer(batch * self.value_bytes)
        place = ctypes.create_string_buffer(8)
        found = memoryview(keys)
        here = ctypes.addressof(place)
        before = 0  # at first there is no place to go on from
        is_last = False
        while not is_last:
            words = (before, here, ctypes.addressof(keys), ctypes.addressof(values), batch, self.descriptor)
            attributes = _attributes(struct.pack("=QQQQII", *words))
            try:
                _call(_MAP_LOOKUP_BATCH, attributes)
            except FileNotFoundError:  # there is no more behind these
                is_last = True
            before = here
            (count,) = struct.unpack_from("=I", attributes, 32)
            for at in range(count):
                yield found[at * size : (at + 1) * size].tobytes()

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.descriptor)


def _attributes(packed: bytes) -> _Buffer:
    return ctypes.create_string_buffer(packed, _ATTRIBUTE_BYTES)


def _call(command: int, attributes: _Buffer) -> int:
    result = int(_libc.syscall(_number, command, attributes, _ATTRIBUTE_BYTES))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
