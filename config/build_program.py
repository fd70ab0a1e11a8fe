"""Compile the kernel's share of the forwarding plane (docs/decisions/0031-kernel-program.md): `make bpf`.

It needs clang and the kernel's headers for user space (Debian's packages clang and linux-libc-dev). The object lies
beside its source and says which source it was made of, so that a stale one is never loaded.
"""

import hashlib
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from relay.io.datapath.bpf.elf import BadObject, read_object

SOURCE: Final = Path(__file__).resolve().parents[1] / "relay/io/datapath/bpf/relay.bpf.c"
OBJECT: Final = SOURCE.with_suffix(".o")

# Types come from linux/*.h alone, whose own asm/types.h Debian keeps in the folder of the architecture. Version 3 of
# the instruction set (Linux 5.12) has the atomic operations that counters and buckets want.
_OPTIONS: Final = (
    *(
        "-target",
        "bpf",
        "-mcpu=v3",
        "-Xclang",
        "-target-feature",
        "-Xclang",
        "-alu32",
        "-O2",
        "-g0",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-fno-strict-aliasing",
    ),
    *("-idirafter", f"/usr/include/{platform.machine()}-linux-gnu"),
)


def main() -> None:
    """Build the object, or leave a fresh one alone."""
    if is_fresh():
        return
    clang = shutil.which("clang")
    if clang is None:
        sys.exit("the kernel program needs clang to be compiled")
    with tempfile.TemporaryDirectory(dir=OBJECT.parent, prefix=".bpf-") as folder:
        made = Path(folder) / OBJECT.name
        words = [clang, *_OPTIONS, f'-DSOURCE="{_digest()}"', "-c", SOURCE.name, "-o", str(made)]
        done = subprocess.run(words, cwd=SOURCE.parent, capture_output=True, text=True, check=False)  # noqa: S603  # our own words
        if done.returncode:
            sys.exit(f"{done.stderr[-4000:]}\ncould not compile the kernel program")
        made.replace(OBJECT)


def is_fresh() -> bool:
    """Whether there is an object that was made of today's source."""
    try:
        made_of = read_object(OBJECT.read_bytes()).sections.get("source", b"")
    except (FileNotFoundError, BadObject):
        return False
    return made_of.rstrip(b"\0") == _digest().encode()


def _digest() -> str:
    return hashlib.sha256(SOURCE.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
