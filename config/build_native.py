"""Compile `stun`, and the busy parts of `relay` and `sfu`, into `build/native` (docs/decisions/0019-compiled-twin.md).

`make native` runs it; it needs mypy, setuptools, a C compiler and Python's headers. Whatever is not compiled is copied,
so that the tree holds the packages whole.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from config import build_program, native

# Compiled code is quicker where the work is done per message. The rest is built once, or is made of what mypyc cannot
# compile: pydantic models, and exceptions with fields of their own.
_INTERPRETED: Final = {
    "stun/__init__.py",
    "stun/errors.py",
    "stun/registry.py",
    "relay/__init__.py",
    "relay/errors.py",
    "relay/five_tuple.py",
    "relay/ledger.py",
    "relay/settings.py",
    "relay/io/__init__.py",
    "relay/io/datapath/__init__.py",
    "relay/io/datapath/datagrams.py",  # has a twin in C, and the next one, too
    "relay/io/datapath/pieces.py",
}
_INTERPRETED_FOLDER: Final = Path("relay/io/datapath/bpf")  # commands the kernel, never sees a packet
_COMPILED_IO: Final = {"clients", "counts", "entropy", "poller", "service", "stream", "tcp_plane", "tls", "udp"}
# Of the conference server the way of a packet, and what is measured on it: a list, for all else is interpreted.
_COMPILED_SFU: Final = {
    *("sfu/audio_levels.py", "sfu/bandwidth.py", "sfu/delay_trend.py", "sfu/dependency_descriptor.py", "sfu/frame.py"),
    *("sfu/keyframe_requests.py", "sfu/layers.py", "sfu/loss_control.py", "sfu/nack.py", "sfu/packet_cache.py"),
    *("sfu/probing.py", "sfu/rate_control.py", "sfu/rate_limit.py", "sfu/rate_meter.py", "sfu/reception.py"),
    *("sfu/rewriter.py", "sfu/rtcp.py", "sfu/rtp.py", "sfu/send_log.py", "sfu/sequence.py", "sfu/throughput.py"),
    *("sfu/transport_feedback.py", "sfu/vp8.py", "sfu/vp9.py", "sfu/io/mux.py", "sfu/io/engine/congestion.py"),
    *("sfu/io/engine/forwarding.py", "sfu/io/engine/py_engine.py", "sfu/io/engine/session.py"),
    *("sfu/io/engine/srtp.py", "sfu/io/engine/streams.py"),
}

# What gcc makes of it: 2 for a service; 0 builds in a third of the time, for tests that look at behaviour alone.
_LEVEL: Final = os.environ.get("NATIVE_LEVEL", "2")
_SETUP: Final = """
import sys
from mypyc.build import mypycify
from setuptools import Extension, setup
level, at = sys.argv[1], sys.argv.index("--")
modules = mypycify(sys.argv[2:at], opt_level=level, debug_level="0")
modules += mypycify(sys.argv[at + 1:], opt_level=level, debug_level="0")  # a library of its own: no room needs another
modules.append(Extension("relay.io.datapath.datagrams", ["relay/io/datapath/datagrams.c"]))
modules.append(Extension("relay.io.datapath.pieces", ["relay/io/datapath/pieces.c"]))
modules.append(Extension("sfu.io.express", ["sfu/io/express.c"]))
words = ["--quiet", "build_ext", "--inplace", "--parallel", "2"]
setup(name="native", packages=[], ext_modules=modules, script_args=words)
"""


def main() -> None:
    """Build the tree, or leave a fresh one alone; it holds the kernel program, too, which is built first."""
    build_program.main()
    built = native.TREE / build_program.OBJECT.relative_to(native.ROOT)
    if native.is_fresh():
        shutil.copy2(build_program.OBJECT, built)
        return
    with tempfile.TemporaryDirectory(dir=_made(native.TREE.parent), prefix="native-") as folder:
        tree = Path(folder) / "tree"
        for package in native.PACKAGES:
            shutil.copytree(native.ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
        before = native.digest()
        _compile(tree)
        (tree / native.STAMP).write_text(before)
        shutil.rmtree(native.TREE, ignore_errors=True)
        tree.rename(native.TREE)


def _compile(tree: Path) -> None:
    modules = [str(path.relative_to(native.ROOT)) for path in native.sources() if _is_compiled(path)]
    options = ["--config-file", str(native.ROOT / "pyproject.toml"), "--explicit-package-bases"]
    words = [*options, *(name for name in modules if name not in _COMPILED_SFU)]
    words += ["--", *options, *(name for name in modules if name in _COMPILED_SFU)]
    done = subprocess.run(  # noqa: S603  # our own words
        [sys.executable, "-c", _SETUP, _LEVEL, *words],
        cwd=tree,
        env=os.environ | {"MYPYPATH": str(tree)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{done.stdout[-4000:]}\ncould not compile the packet paths")
    shutil.rmtree(tree / "build")


def _is_compiled(path: Path) -> bool:
    name = path.relative_to(native.ROOT)
    if name.parts[0] == "sfu":
        return str(name) in _COMPILED_SFU
    if path.suffix != ".py" or str(name) in _INTERPRETED or name.is_relative_to(_INTERPRETED_FOLDER):
        return False
    return name.parent != Path("relay/io") or name.stem in _COMPILED_IO


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


if __name__ == "__main__":
    main()
