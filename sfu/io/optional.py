"""What only a compiled tree has (`make native`): nothing depends on it but speed."""

import importlib
from types import ModuleType
from typing import Final


def _find(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


EXPRESS: Final = _find("sfu.io.express")  # the last steps of a packet (`express.c`)
