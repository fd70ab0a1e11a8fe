"""Runs one target under atheris, with the product instrumented for coverage.

    python -m tests.fuzz.targets.message -max_total_time=60 var/fuzz/message tests/fuzz/corpus/message

The options are libFuzzer's; new inputs go to the first folder.
"""

import importlib
import sys
from typing import Final

import atheris  # type: ignore[import-untyped]  # has no stubs

_PRODUCT: Final = ("stun", "relay")


def fuzz(name: str) -> None:
    """Feed the `run` of a module with inputs until it raises or the time is over. Does not return.

    Args:
        name: of the module, which is imported again: what is instrumented is loaded by atheris.
    """
    for loaded in list(sys.modules):
        if loaded.partition(".")[0] in {*_PRODUCT, "tests"} and loaded != __name__:
            del sys.modules[loaded]
    with atheris.instrument_imports(include=list(_PRODUCT)):
        target = importlib.import_module(name)
    atheris.Setup(sys.argv, target.run)
    atheris.Fuzz()
