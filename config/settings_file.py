"""Whether the file of settings is left open to others on this machine although it holds secrets."""

import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr

from config.load import choose_file, read_file
from config.schema import Settings
from config.yaml_text import Value


class SettingsFile(NamedTuple):
    """The file as it lies there."""

    path: Path
    mode: int
    holds_secrets: bool
    is_reachable: bool  # others may enter every folder on the way to it

    @property
    def exposure(self) -> str:
        """What others may do that they should not, for a sentence; empty: nothing."""
        if not self.is_reachable:
            return ""
        if self.mode & stat.S_IWOTH:
            return "can be changed by others"
        if self.holds_secrets and self.mode & stat.S_IROTH:
            return "holds secrets and can be read by others"
        return ""


def look_at_settings_file(path: Path | None, environ: Mapping[str, str], settings: Settings) -> SettingsFile | None:
    """Look at the file that these settings were read from; None if there is none.

    Args:
        path: as `load_settings` took it.
        environ: the same.
        settings: what came of both.

    Raises:
        OSError: it may not be looked at.
        ConfigError: it has become unreadable meanwhile.
    """
    source = choose_file(path, environ)
    if source is None:
        return None
    file = source.resolve()
    secrets = set(_secrets(settings))
    holds_secrets = not secrets.isdisjoint(_texts(read_file(file)))
    is_reachable = all(folder.stat().st_mode & stat.S_IXOTH for folder in file.parents)
    return SettingsFile(file, stat.S_IMODE(file.stat().st_mode), holds_secrets, is_reachable)


def _secrets(value: object) -> Iterator[str]:
    """Every secret in the settings, wherever it stands; an address of a server is one only with a password in it."""
    if isinstance(value, SecretStr):
        text = value.get_secret_value()
        is_plain_address = "://" in text and urlsplit(text).password is None and "password=" not in text
        if text and not is_plain_address:
            yield text
    elif isinstance(value, BaseModel):
        for _, inner in value:
            yield from _secrets(inner)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _secrets(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _secrets(inner)


def _texts(value: Value) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
