"""What the schema says about a key: where it is, what it takes, whether it is secret, and how it is written."""

import json
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, cast

from annotated_types import Ge, Le
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from config.schema import Settings

MAX_SHOWN_CHARACTERS: Final = 60  # of a value or key that came from outside

_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")

Path = tuple[int | str, ...]
Leaf = tuple[tuple[str, ...], FieldInfo]


def show(value: object) -> str:
    """A value for a message: by its representation, cut short, never a container (it could hold secrets)."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else text[: MAX_SHOWN_CHARACTERS - 1] + "…"


def dotted(path: Path, start: str = "") -> str:
    """The path of a key as people write it: `relay.udp_ports[0]`."""
    parts = start
    for part in path:
        if isinstance(part, int):
            parts += f"[{part}]"
        elif part != "[key]":  # pydantic's word for "the key of this mapping, not its value"
            parts += ("." if parts else "") + (part if _PLAIN_KEY.fullmatch(part) else show(part))
    return parts


def field_at(path: Path) -> FieldInfo | None:
    """The field that a path leads to or into; None where the path leaves the schema."""
    model: type[BaseModel] | None = Settings
    field: FieldInfo | None = None
    for part in path:
        if model is None:
            return field  # the rest of the path is inside a list or a mapping
        field = model.model_fields.get(str(part))
        if field is None:
            return None
        model = model_of(field)
    return field


def model_of(field: FieldInfo) -> type[BaseModel] | None:
    """The model of a section; None for a key."""
    annotation = field.annotation
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return cast("type[BaseModel]", annotation) if is_model else None


def is_secret(field: FieldInfo) -> bool:
    """Whether values of the field must never be shown, because they are secret or hold something that is."""
    for kind in _types_in(field.annotation):
        if kind is SecretStr:
            return True
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return any(is_secret(inner) for inner in kind.model_fields.values())
    return False


def is_text(field: FieldInfo) -> bool:
    """Whether the field takes one text (and not a list of texts)."""
    if typing.get_origin(field.annotation) is Literal:
        return True
    return field.annotation in {str, SecretStr}


def allowed(field: FieldInfo) -> str:
    """What a field takes, in words: `1 to 65535`, `console or json`; empty when everything of its type."""
    if typing.get_origin(field.annotation) is Literal:
        return " or ".join(typing.get_args(field.annotation))
    choices = [choice for kind in _types_in(field.annotation) for choice in _choices(kind)]
    if choices:
        return f"list of {_enumeration(choices)}"
    bounds = [*field.metadata, *_item_metadata(field.annotation)]
    low = next((bound.ge for bound in bounds if isinstance(bound, Ge)), None)
    high = next((bound.le for bound in bounds if isinstance(bound, Le)), None)
    return "" if low is None or high is None else f"{low} to {high}"


def default_text(field: FieldInfo) -> str:
    """The default as one writes it in YAML's flow style."""
    default: Any = field.get_default(call_default_factory=True)
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    return json.dumps(default, ensure_ascii=False)


def leaves(model: type[BaseModel] = Settings, above: tuple[str, ...] = ()) -> Iterator[Leaf]:
    """Every key that is not a section, with its path, in the order of the schema."""
    for name, field in model.model_fields.items():
        inner = model_of(field)
        if inner is None:
            yield (*above, name), field
        else:
            yield from leaves(inner, (*above, name))


def _types_in(annotation: object) -> Iterator[object]:
    yield annotation
    for inner in typing.get_args(annotation):
        if isinstance(inner, type | types.GenericAlias) or typing.get_origin(inner) is not None:
            yield from _types_in(inner)


def _enumeration(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _choices(kind: object) -> tuple[str, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) is Literal else ()


def _item_metadata(annotation: object) -> Iterator[object]:
    for inner in typing.get_args(annotation):
        for note in getattr(inner, "__metadata__", ()):
            yield from note.metadata if isinstance(note, FieldInfo) else (note,)
