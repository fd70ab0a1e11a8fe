"""Settings from environment variables: `REDCONNECT_RELAY__REALM` sets `relay.realm`."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from pydantic.fields import FieldInfo

from config.keys import Path, field_at, is_text, leaves, model_of, show
from config.mistakes import Mistake, nearest_to
from config.native import PURE_VARIABLE
from config.yaml_text import Value, YamlError, read_yaml

PREFIX: Final = "REDCONNECT_"
FILE_VARIABLE: Final = "REDCONNECT_CONFIG"  # names the file of settings and is not a setting itself
_NO_SETTINGS: Final = (FILE_VARIABLE, PURE_VARIABLE)
MAX_VALUE_CHARACTERS: Final = 65_536


class Override(NamedTuple):
    """One key as a variable sets it."""

    path: Path
    variable: str
    value: Value


def read_environment(environ: Mapping[str, str]) -> tuple[list[Override], list[Mistake]]:
    """Read every variable that begins with the prefix.

    Keys that take a text get the value as it is, so that a realm may be `2026` and a password may hold `#`. For
    all others the value is YAML: `true`, `9641`, `[3478, 3479]`.
    """
    overrides: list[Override] = []
    mistakes: list[Mistake] = []
    known = {variable_of(path): path for path, _ in leaves()}
    for variable, text in sorted(environ.items()):
        if not variable.startswith(PREFIX) or variable in _NO_SETTINGS:
            continue
        path = known.get(variable)
        if path is None:
            mistakes.append(_unknown(variable, [*known, *_NO_SETTINGS]))
            continue
        field = field_at(path)
        try:
            overrides.append(Override(path, variable, _read(text, field)))
        except YamlError as error:
            mistakes.append(Mistake(variable, f"not YAML: {error}", "write it as in redconnect.example.yaml"))
    return overrides, mistakes


def variable_of(path: Path) -> str:
    """The variable that sets a key."""
    return PREFIX + "__".join(str(part) for part in path).upper()


def _read(text: str, field: FieldInfo | None) -> Value:
    if len(text) > MAX_VALUE_CHARACTERS:
        raise YamlError(f"longer than {MAX_VALUE_CHARACTERS} characters")
    if field is None or not is_text(field):
        return read_yaml(text)
    if any("\ud800" <= character <= "\udfff" for character in text):  # bytes that Python could not decode
        raise YamlError("not UTF-8")
    return text


def _unknown(variable: str, known: list[str]) -> Mistake:
    path = tuple(variable.removeprefix(PREFIX).lower().split("__"))
    field = field_at(path)
    section = model_of(field) if field is not None else None
    if section is not None:
        first = variable_of((*path, next(iter(section.model_fields))))
        return Mistake(variable, "is a section, not a key", f"set its keys one by one, such as {first}")
    nearest = nearest_to(variable.removeprefix(PREFIX), (name.removeprefix(PREFIX) for name in known))
    mend = f"did you mean `{PREFIX}{nearest}`?" if nearest else "write two underscores between section and key"
    return Mistake(show(variable)[1:-1], "unknown variable", mend)
