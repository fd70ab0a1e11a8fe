"""Packet paths compiled to machine code: an optional twin of three packages, out of the same sources (`make native`).

It lies in a tree of its own, so that nothing changes for whoever did not build it, and it is used only if it was made
of exactly the sources that lie beside it: a stale twin would be a program that nobody can read.
"""

import hashlib
import importlib.util
import os
import sys
import sysconfig
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
TREE: Final = ROOT / "build" / "native"
PACKAGES: Final = ("stun", "relay", "sfu")
STAMP: Final = "sources.sha256"
PURE_VARIABLE: Final = "REDCONNECT_PURE"  # =1: interpret the sources, compiled or not


def prefer() -> bool:
    """Let `PACKAGES` come from the compiled tree, if it fits; to be called before any of them is imported.

    Returns:
        Whether it fits.
    """
    if os.environ.get(PURE_VARIABLE) == "1" or not is_fresh():
        return False
    sys.path.insert(0, str(TREE))
    return True


def describe() -> str:
    """How the relay's code runs in this process: "compiled" or "interpreted"."""
    found = importlib.util.find_spec("stun.message")
    return "compiled" if found is not None and str(found.origin).endswith(".so") else "interpreted"


def is_fresh() -> bool:
    """Whether there is a compiled tree that was made of today's sources, for this interpreter."""
    try:
        return (TREE / STAMP).read_text() == digest()
    except FileNotFoundError:
        return False


def digest() -> str:
    """What the compiled tree depends on, in hexadecimal: the sources and the interpreter's binary interface."""
    seen = hashlib.sha256(f"{sysconfig.get_config_var('SOABI')} {sys.version}".encode())
    for path in sources():
        body = path.read_bytes()
        seen.update(f"{path.relative_to(ROOT)} {len(body)}\n".encode())
        seen.update(body)
    return seen.hexdigest()


def sources() -> list[Path]:
    """The modules of the packages, and the twins that some of them have in C."""
    folders = [ROOT / package for package in PACKAGES]
    return sorted(path for folder in folders for pattern in ("*.py", "*.c") for path in folder.rglob(pattern))
