"""Loads the settings: built-in defaults, then one YAML file, then environment variables."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel, ValidationError

from config.environment import FILE_VARIABLE, Override, read_environment
from config.keys import model_of
from config.mistakes import ConfigError, Mistake, explain
from config.schema import Settings
from config.yaml_text import Value, YamlError, read_yaml

DEFAULT_FILE: Final = Path("redconnect.yaml")
MAX_FILE_BYTES: Final = 1 << 20


def load_settings(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """Read the settings, or tell everything that is wrong with them.

    Without a path the file is the one that `REDCONNECT_CONFIG` names, or else `redconnect.yaml` in the working
    directory; only the latter may be missing. Relative paths in the settings start at the folder of the file.

    Raises:
        ConfigError: with every mistake in the file and in the environment.
    """
    overrides, mistakes = read_environment(environ)
    values: dict[str, Value] = {}
    source = choose_file(path, environ)
    try:
        values = {} if source is None else read_file(source)
    except ConfigError as error:
        mistakes += error.mistakes
    for override in overrides:
        _set(values, override)
    variables = {override.path: override.variable for override in overrides}
    try:
        # JSON mode is the strict mode that takes a list for a tuple: "8080" is no port, and true is not 1.
        settings = Settings.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        mistakes += explain(error, variables)
        raise ConfigError(mistakes) from None  # its text would show values, and with them secrets
    if mistakes:
        raise ConfigError(mistakes)
    return settings if source is None else _anchor(settings, source.parent)


def parse_file(text: str) -> dict[str, Value]:
    """Read the text of a settings file; an empty section means its defaults.

    Raises:
        YamlError: it is not a mapping in YAML.
    """
    values = read_yaml(text)
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise YamlError("not a mapping of keys to values")
    return _without_empty_sections(values, Settings)


def choose_file(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The file that `load_settings` reads when it gets these; None for the built-in defaults."""
    if path is None and environ.get(FILE_VARIABLE):
        return Path(environ[FILE_VARIABLE])
    if path is None and DEFAULT_FILE.exists():
        return DEFAULT_FILE
    return path


def _anchor(settings: Settings, folder: Path) -> Settings:
    """Let relative paths start at the file that names them, wherever the command is called.

    Else `redconnect credential` in another folder would draw itself new secrets there.
    """
    tls = {key: str(folder / value) for key, value in settings.tls.model_dump().items() if value}
    return settings.model_copy(
        update={
            "state_dir": str(folder / settings.state_dir),
            "tls": settings.tls.model_copy(update=tls),
        }
    )


def read_file(source: Path) -> dict[str, Value]:
    """Read a file of settings, and check nothing but its form.

    Raises:
        ConfigError: it cannot be read, or is none.
    """
    key = ascii(str(source))[1:-1]
    try:
        return parse_file(_read_text(source))
    except FileNotFoundError:
        raise _error(key, "no such file", "check --config, or copy redconnect.example.yaml to it") from None
    except OSError as error:
        raise _error(key, error.strerror or type(error).__name__, "name a file that can be read") from None
    except UnicodeDecodeError as error:
        raise _error(key, f"not UTF-8 at byte {error.start}", "save it as UTF-8") from None
    except (YamlError, ValueError) as error:
        raise _error(key, str(error), "compare it with redconnect.example.yaml") from None


def _read_text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise YamlError(f"longer than {MAX_FILE_BYTES} bytes")
    return data.decode("utf-8-sig")


def _without_empty_sections(values: dict[str, Value], model: type[BaseModel]) -> dict[str, Value]:
    """`relay:` with every key under it commented out is null in YAML, and means the defaults."""
    filled = dict(values)
    for name, field in model.model_fields.items():
        inner = model_of(field)
        if inner is None or name not in filled:
            continue
        value = filled[name]
        if value is None:
            filled[name] = {}
        elif isinstance(value, dict):
            filled[name] = _without_empty_sections(value, inner)
    return filled


def _set(values: dict[str, Value], override: Override) -> None:
    section = values
    for part in override.path[:-1]:
        inner = section.setdefault(str(part), {})
        if not isinstance(inner, dict):
            return  # the file has something else where a section belongs: that is told as a mistake of its own
        section = inner
    section[str(override.path[-1])] = override.value


def _error(key: str, reason: str, mend: str) -> ConfigError:
    return ConfigError([Mistake(key, reason, mend)])
