"""Mistakes in the settings: what is wrong, why, and how to mend it, each in one line that holds no secret."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from config.keys import (
    MAX_SHOWN_CHARACTERS,
    Path,
    allowed,
    default_text,
    dotted,
    field_at,
    is_secret,
    model_of,
    show,
)
from config.schema import CONTRADICTION, Contradiction, Settings
from relay.settings import Contradictions

MAX_MISTAKES: Final = 100
_EXAMPLE: Final = "see redconnect.example.yaml"

_KINDS: Final = {  # error type of pydantic: what was expected
    "bool_type": "true or false",
    "dict_type": "a mapping such as {key: value}",
    "float_type": "a number",
    "int_type": "a whole number",
    "model_type": "a section with keys of its own",
    "string_type": "text",
    "tuple_type": "a list",
}


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong with the settings."""

    key: str
    reason: str
    mend: str

    def __str__(self) -> str:
        return f"{self.key}: {self.reason}; {self.mend}"


class ConfigError(Exception):
    """The settings cannot be used; holds every mistake that was found."""

    is_for_operator: ClassVar = True  # what it says is about the machine and its settings

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("\n".join(map(str, mistakes)))
        self.mistakes = tuple(mistakes)


def explain(error: ValidationError, variables: Mapping[Path, str]) -> list[Mistake]:
    """Turn what pydantic found into mistakes.

    Args:
        error: of validating `Settings`.
        variables: which keys came from the environment, and their variables' names.
    """
    found: list[Mistake] = []
    for details in error.errors(include_url=False):
        raised = details.get("ctx", {}).get("error")
        if details["type"] == CONTRADICTION:
            found += _contradictions(details, variables)
        elif isinstance(raised, Contradictions):
            key = _name(details["loc"], variables)
            found += [Mistake(key, _cut(reason), _EXAMPLE) for reason in raised.reasons]
        else:
            found.append(_explain_one(details, variables))
    if len(found) > MAX_MISTAKES:
        rest = len(found) - MAX_MISTAKES
        found[MAX_MISTAKES:] = [Mistake("…", f"{rest} more mistakes", "mend those above first")]
    return found


def suggest(wrong: str, known: Iterable[str]) -> str:
    """The mend of a misspelt word: the nearest known one, or all of them."""
    choices = list(known)
    nearest = nearest_to(wrong, choices)
    return f"did you mean `{nearest}`?" if nearest else f"known here: {', '.join(choices)}"


def nearest_to(wrong: str, known: Iterable[str]) -> str | None:
    """The known word that a misspelt one resembles most, if one does."""
    return next(iter(difflib.get_close_matches(wrong[:MAX_SHOWN_CHARACTERS], list(known), n=1)), None)


def _explain_one(details: ErrorDetails, variables: Mapping[Path, str]) -> Mistake:
    path = details["loc"]
    key = _name(path, variables)
    if details["type"] == "extra_forbidden":
        parent = field_at(path[:-1])
        model = Settings if parent is None else model_of(parent)
        known = model.model_fields if model else ()
        return Mistake(key, "unknown key", suggest(str(path[-1]), known))
    field = field_at(path)
    if field is None:
        return Mistake(key or "settings", _cut(details["msg"]), _EXAMPLE)
    if model_of(field) is not None and details["type"] != "model_type":
        return Mistake(key, _reason(details, ""), _EXAMPLE)
    # Text in the place of a section may be the secret that belongs into it.
    hidden = is_secret(field) or model_of(field) is not None
    shown = "" if hidden else show(details["input"])
    return Mistake(key, _reason(details, shown), _mend(details, field))


def _reason(details: ErrorDetails, shown: str) -> str:
    kind = details["type"]
    context = details.get("ctx", {})
    given = f"{shown} " if shown else "the value "
    match kind:
        case "value_error":
            return _cut(str(context["error"]))
        case "greater_than_equal":
            return f"{given}is below {context['ge']}"
        case "less_than_equal":
            return f"{given}is above {context['le']}"
        case "literal_error":
            return f"{given}is not known"
        case "string_too_long" | "too_long":
            return f"is longer than {context['max_length']}"
        case "string_too_short" | "too_short":
            return "is empty" if context["min_length"] == 1 else f"is shorter than {context['min_length']}"
        case "string_pattern_mismatch":
            return f"{given}does not match {context['pattern']}"
    if kind in _KINDS:
        return f"must be {_KINDS[kind]}" + (f", not {shown}" if shown else "")
    return _cut(details["msg"])


def _mend(details: ErrorDetails, field: FieldInfo) -> str:
    if model_of(field) is not None:
        return _EXAMPLE
    if is_secret(field):
        return "put it in quotes" if details["type"] == "string_type" else f"leave it empty, or {_EXAMPLE}"
    if details["type"] == "literal_error":
        choices = re.findall(r"'([^']*)'", str(details.get("ctx", {}).get("expected", "")))
        return suggest(str(details["input"]), choices)
    is_number = isinstance(details["input"], int | float) and not isinstance(details["input"], bool)
    if details["type"] == "string_type" and is_number:
        return "put it in quotes"
    scope = allowed(field)
    default = f"the default is {default_text(field)}"
    return f"allowed is {scope}, {default}" if scope else default


def _contradictions(details: ErrorDetails, variables: Mapping[Path, str]) -> Iterator[Mistake]:
    found: list[Contradiction] = details["ctx"]["found"]
    for key, reason, mend in found:
        yield Mistake(_name(tuple(key.split(".")), variables), reason, mend)


def _name(path: Path, variables: Mapping[Path, str]) -> str:
    """The variable that set the key if one did, else the dotted key."""
    for length in range(len(path), 0, -1):
        variable = variables.get(path[:length])
        if variable is not None:
            return dotted(path[length:], start=variable)
    return dotted(path)


def _cut(text: str) -> str:
    line = text.replace("\n", " ")
    return line if len(line) <= 2 * MAX_SHOWN_CHARACTERS else line[: 2 * MAX_SHOWN_CHARACTERS - 1] + "…"
