"""Writes redconnect.example.yaml: every key of the schema with its default, what it means and what it takes."""

import json
import sys
import textwrap
from collections.abc import Iterator
from typing import Any, Final

from pydantic import BaseModel, SecretStr

from config.keys import allowed, model_of
from config.schema import Settings

_WIDTH: Final = 110
_HEADER: Final = (
    "Settings of redconnect. Every key stands here with its default, so that a file needs only what differs.",
    "",
    (
        "Copy it to redconnect.yaml, or name your file with --config or the variable REDCONNECT_CONFIG."
        " `redconnect check-config` tells every mistake and how to mend it."
    ),
    "",
    (
        "An environment variable sets a key, too, and beats the file. Two underscores stand between the levels:"
        ' REDCONNECT_RELAY__REALM=example.org, REDCONNECT_RELAY__UDP_PORTS="[3478]".'
    ),
    "",
    "Written by `python -m config.example`: do not change it by hand.",
)


def example_text() -> str:
    """The text of the example file."""
    lines = [line for part in _HEADER for line in _comment(part, "")]
    lines += _section(Settings(), "")
    return "\n".join(lines) + "\n"


def _section(settings: BaseModel, indent: str) -> Iterator[str]:
    """The lines of a section: its keys first, then the sections in it."""
    fields = type(settings).model_fields
    separator = [] if indent else [""]  # no empty line between a section and its first key
    for name, field in fields.items():
        if model_of(field) is None:
            scope = allowed(field)
            yield from separator
            separator = [""]
            yield from _comment("; ".join(filter(None, (field.description, scope))), indent)
            yield f"{indent}{name}: {_flow(getattr(settings, name))}"
    for name, field in fields.items():
        model = model_of(field)
        if model is not None:
            yield ""
            yield from _comment((model.__doc__ or "").partition("\n")[0], indent)
            yield f"{indent}{name}:"
            yield from _section(getattr(settings, name), indent + "  ")


def _comment(text: str, indent: str) -> Iterator[str]:
    prefix = f"{indent}# "
    lines = textwrap.wrap(text, _WIDTH, initial_indent=prefix, subsequent_indent=prefix, break_on_hyphens=False)
    return iter(lines or [prefix.rstrip()])


def _flow(value: Any) -> str:  # noqa: ANN401 (any value that a setting may have)
    """A value in YAML's flow style, of which JSON is a part."""
    return json.dumps(value.get_secret_value() if isinstance(value, SecretStr) else value, ensure_ascii=False)


if __name__ == "__main__":
    sys.stdout.write(example_text())
