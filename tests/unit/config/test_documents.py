"""The commands and settings in the documents are such that exist. That they do what stands there other tests show."""

import importlib.util
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import typer

from config.cli import app
from config.keys import leaves
from config.load import parse_file
from config.schema import Settings

ROOT: Final = Path(__file__).parents[3]
DOCUMENTS: Final = sorted(
    path for pattern in ("*.md", "docs/**/*.md", "deploy/**/*.md", "loadtest/*.md") for path in ROOT.glob(pattern)
)
_COMMENT: Final = re.compile(r"\s+#\s.*$")
_SECTIONS: Final = frozenset(path[0] for path, _ in leaves())


class Line(NamedTuple):
    """A line of a block of code."""

    document: Path
    number: int
    text: str

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.number}"


def code_lines() -> Iterator[Line]:
    for document in DOCUMENTS:
        is_fenced = False
        for number, text in enumerate(document.read_text().splitlines(), 1):
            if text.startswith("```"):
                is_fenced = not is_fenced
            elif is_fenced or text.startswith("    "):
                yield Line(document, number, _COMMENT.sub("", text.strip().removeprefix("$ ")))


LINES: Final = list(code_lines())
# What the service prints begins with its name as well: "redconnect is ready: …", "redconnect 0.1.0, PID …".
COMMANDS: Final = [line for line in LINES if re.match(r"redconnect [a-z|-]+(?: (?!.*: )|$)", line.text)]
MAKES: Final = [(line, target) for line in LINES for target in re.findall(r"\bmake ([a-z][a-z-]*)\b", line.text)]
MODULES: Final = [
    (line, module) for line in LINES for module in re.findall(r"\bpython -m ([a-z_.]+[a-z_])\b", line.text)
]
FILES: Final = [
    (line, word)
    for line in LINES
    if re.match(r"(?:install|docker|kubectl|nft|promtool|locust|sed) ", line.text)
    for word in line.text.split()  # a quotation may go on in the next line
    if re.match(r"(?:deploy|loadtest|config)/", word)
]


def alternatives(command: str) -> Iterator[list[str]]:
    """What a line stands for: `ctl status|stop` for two commands, `[--plus]` for one with and one without."""
    words = shlex.split(re.sub(r"[\[\]]|\s\|\s", " ", command))
    spread: list[list[str]] = [[]]
    for word in words:
        spread = [[*before, each] for before in spread for each in word.split("|")]
    yield from spread


def test_there_is_enough_to_look_at() -> None:
    assert min(len(COMMANDS), len(MAKES), len(MODULES), len(FILES), len(BLOCKS)) > 4


@pytest.mark.parametrize("line", COMMANDS, ids=str)
def test_every_command_of_a_document_exists_with_its_options(line: Line) -> None:
    for words in alternatives(line.text):
        command: Any = typer.main.get_command(app)
        rest = words[1:]
        while hasattr(command, "commands"):
            assert rest and rest[0] in command.commands, words
            command = command.commands[rest.pop(0)]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        named = [word.partition("=")[0] for word in rest if word.startswith("--")]
        assert set(named) <= known, words


@pytest.mark.parametrize(("line", "target"), MAKES, ids=str)
def test_every_target_of_make_exists(line: Line, target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), line


@pytest.mark.parametrize(("line", "module"), MODULES, ids=str)
def test_every_module_that_is_run_exists(line: Line, module: str) -> None:
    assert module == "pytest" or importlib.util.find_spec(module) is not None, line


@pytest.mark.parametrize(("line", "file"), FILES, ids=str)
def test_every_file_that_a_command_takes_exists(line: Line, file: str) -> None:
    assert (ROOT / file).exists(), line


def settings_blocks() -> Iterator[tuple[Line, str]]:
    """Runs of lines that begin with a section of the settings."""
    block: list[Line] = []
    for document in DOCUMENTS:
        for number, text in enumerate([*document.read_text().splitlines(), ""], 1):
            is_code = text.startswith("    ")
            if is_code and (block or re.match(rf"    ({'|'.join(_SECTIONS)}):", text)):
                block.append(Line(document, number, text.removeprefix("    ")))
            elif block:
                yield block[0], "\n".join(line.text for line in block)
                block = []


BLOCKS: Final = list(settings_blocks())


@pytest.mark.parametrize(("line", "text"), BLOCKS, ids=[str(line) for line, _ in BLOCKS])
def test_settings_that_a_document_shows_are_taken(line: Line, text: str) -> None:
    text = re.sub(r'"([0-9a-f]{4})…"', lambda found: f'"{found[1] * 16}"', text)  # a hash that was cut short
    values = parse_file(text.replace('"…"', '"a stand-in for what everybody draws"'))
    settings = Settings.model_validate_json(json.dumps(values), strict=True)
    assert settings.model_fields_set == values.keys(), line
