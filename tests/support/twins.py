"""Both forms of a module that has a twin in C, side by side."""

import importlib.util
from pathlib import Path
from types import ModuleType

from config import native


def load_source(name: str) -> ModuleType:
    """The module as it is interpreted."""
    return _load(name, (native.ROOT / name.replace(".", "/")).with_suffix(".py"))


def load_native(name: str) -> ModuleType:
    """Its twin, out of the compiled tree."""
    place = native.TREE / name.replace(".", "/")
    (path,) = place.parent.glob(f"{place.name}.*.so")
    return _load(name, path)


def _load(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
