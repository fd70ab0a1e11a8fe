"""YAML as settings need it: plain values only, every key once, scalars by the core schema of YAML 1.2.

By YAML 1.1, which PyYAML follows, `no` is false, `12:30` is 750 and `0123` is 83. None of that is what a person
means who writes a realm or a user name, so here only `true`, `false`, `null` and numbers are more than text. Anchors
and tags are refused: settings do not need them, and an alias can name more values than fit into memory.
"""

import re
from typing import Final, cast

import yaml
from yaml.composer import Composer
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

MAX_DEPTH: Final = 16  # sections, lists and mappings inside each other

Value = None | bool | int | float | str | list["Value"] | dict[str, "Value"]

_TAG: Final = "tag:yaml.org,2002:"
_QUOTE: Final = re.compile(r"'(?:.|<[a-z ]+>)'")
_WORDS: Final[dict[str, Value]] = {"": None, "~": None, "null": None, "true": True, "false": False}
_PLAIN_SCALARS: Final = (  # YAML 1.2 §10.3.2
    ("null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")),
    ("int", re.compile(r"^(?:[-+]?[0-9]+|0x[0-9a-fA-F]+)$"), list("-+0123456789")),
    ("float", re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$"), list("-+.0123456789")),
)


class YamlError(Exception):
    """The text cannot be read. The message names a line, but never quotes it: it could hold a secret."""


class _CoreSchemaResolver(BaseResolver):
    """Resolves plain scalars by YAML 1.2 instead of 1.1."""


for _name, _pattern, _first in _PLAIN_SCALARS:
    _CoreSchemaResolver.add_implicit_resolver(_TAG + _name, _pattern, _first)


class _Loader(Reader, Scanner, Parser, Composer, _CoreSchemaResolver):
    """Reads text into a tree of nodes; values are made of them here and not by PyYAML."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        _CoreSchemaResolver.__init__(self)
        self._depth = 0

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        """Compose one value, neither an alias nor tagged nor too deep (PyYAML recurses)."""
        event: yaml.Event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise YamlError(f"line {line}: an anchor or alias (& or *), write the value itself, or put it in quotes")
        if getattr(event, "tag", None) is not None:
            raise YamlError(f"line {line}: a tag (!), leave it out, or put the value in quotes")
        if self._depth >= MAX_DEPTH:
            raise YamlError(f"line {line}: more than {MAX_DEPTH} levels inside each other")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def read_yaml(text: str) -> Value:
    """Read one YAML document.

    Raises:
        YamlError: it is not YAML, or more than plain values with every key once.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise YamlError(f"{place}{_without_quotations(error.problem or error.context or 'not YAML')}") from None
    except yaml.reader.ReaderError as error:
        raise YamlError(f"character {error.position + 1} is not allowed in YAML") from None
    except (ValueError, OverflowError):  # of PyYAML itself: "\UFFFFFFFF" is no character, %YAML 9….9 no version
        raise YamlError("an escape or a directive that means nothing") from None
    return None if node is None else _value(node)


def _value(node: Node) -> Value:
    match node:
        case MappingNode():
            return _mapping(node)
        case SequenceNode():
            return [_value(item) for item in node.value]
        case _:
            return _scalar(cast("ScalarNode", node))


def _mapping(node: MappingNode) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, ScalarNode):
            raise YamlError(f"line {line}: a key must be a word, not a list or a mapping")
        key = _text(key_node)  # keys are text as they stand: a user may be called 1234
        if key in values:
            raise YamlError(f"line {line}: the key {key[:40]!a} is there twice")
        values[key] = _value(value_node)
    return values


def _scalar(node: ScalarNode) -> Value:
    match node.tag.removeprefix(_TAG):
        case "null" | "bool":
            return _WORDS[node.value.lower()]
        case "int" if node.value.startswith("0x"):
            return int(node.value, 16)
        case "int":
            return _integer(node)
        case "float":
            return float(node.value)
        case _:
            return _text(node)


def _integer(node: ScalarNode) -> int:
    try:
        return int(node.value)
    except ValueError:  # more digits than Python converts
        raise YamlError(f"line {node.start_mark.line + 1}: a number of {len(node.value)} digits") from None


def _text(node: ScalarNode) -> str:
    text: str = node.value
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise YamlError(f"line {node.start_mark.line + 1}: half of a surrogate pair") from None
    return text


def _without_quotations(problem: str) -> str:
    """PyYAML quotes names of aliases and tags, which may be the beginning of an unquoted password."""
    rest = _QUOTE.sub(lambda quote: quote.group().replace("'", "\N{PRIME}"), problem)
    return rest.partition("'")[0].replace("\N{PRIME}", "'").strip()
