"""One frame through the kernel program, and nothing else: BPF_PROG_TEST_RUN."""

import ctypes
import struct
from enum import Enum
from typing import Final, NamedTuple

from relay.io.datapath.bpf import syscalls
from relay.io.datapath.bpf.program import Hook, KernelProgram

_TEST_RUN: Final = 10
_LARGEST: Final = 4096  # bytes of a frame that comes out
_CONTEXT_BYTES: Final = 192  # struct __sk_buff
_GSO_SIZE_AT: Final = 176


class Verdict(Enum):
    """What the program wants to be done with a frame."""

    UP = "up"
    ON = "on"
    DROPPED = "dropped"


_VERDICTS: Final = {
    Hook.TCX: {0xFFFFFFFF: Verdict.UP, 7: Verdict.ON, 2: Verdict.DROPPED},
    Hook.XDP: {2: Verdict.UP, 4: Verdict.ON, 1: Verdict.DROPPED},
}


class Outcome(NamedTuple):
    """The verdict, and the frame as it is then."""

    verdict: Verdict
    frame: bytes


def run(program: KernelProgram, frame: bytes, *, gso_size: int = 0, repeat: int = 1) -> Outcome:
    """Let the program look at a frame that came in over the loopback interface of this network namespace.

    Args:
        program: of any hook.
        frame: at least an Ethernet header.
        gso_size: bytes of each datagram of a joined run; tcx only.
        repeat: how often it sees the same frame, in whatever state the run before left it.

    Raises:
        OSError: the kernel cannot make such a frame.
    """
    given = ctypes.create_string_buffer(frame, len(frame))
    result = ctypes.create_string_buffer(_LARGEST)
    context = ctypes.create_string_buffer(_CONTEXT_BYTES)
    struct.pack_into("=I", context, _GSO_SIZE_AT, gso_size)
    context_bytes, context_at = (_CONTEXT_BYTES, ctypes.addressof(context)) if gso_size else (0, 0)
    words = (program.descriptor, 0, len(frame), _LARGEST, ctypes.addressof(given), ctypes.addressof(result), repeat, 0)
    attributes = ctypes.create_string_buffer(struct.pack("=IIIIQQIIIIQ", *words, context_bytes, 0, context_at), 128)
    syscalls._call(_TEST_RUN, attributes)
    verdict, _, size = struct.unpack_from("=III", attributes, 4)
    return Outcome(_VERDICTS[program.hook][verdict], result.raw[:size])
