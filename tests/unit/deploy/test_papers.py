"""The papers for auditors stay true: what they name exists, and what they must name is in them."""

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from sqlalchemy import Table

from config.keys import is_secret, leaves
from signaling.io.redis_bus import _CHANNEL, _NODE_KEY, _ROOM_KEY
from signaling.io.schema import METADATA

ROOT: Final = Path(__file__).resolve().parents[3]
DEPLOY: Final = ROOT / "deploy"
COMPLIANCE: Final = DEPLOY / "compliance"
THREATS: Final = DEPLOY / "THREAT_MODEL.md"
INVENTORY: Final = DEPLOY / "data-inventory.md"
PAPERS: Final = [
    THREATS,
    INVENTORY,
    DEPLOY / "sbom.md",
    ROOT / "SECURITY.md",
    *sorted(COMPLIANCE.glob("*.md")),
]
PARTS: Final = (  # what the threat model has to look at
    "Pages",
    "Reverse proxies",
    "Signaling and its socket",
    "Appointment API",
    "Connection test",
    "Database",
    "Redis",
    "Relay, whatever the transport",
    "Over UDP",
    "Over TCP and TLS",
    "Over DTLS",
    "SFU",
    "Admin port",
    "Settings, files and control of the process",
    "Control socket",
    "Doctor",
    "Supply chain",
    "The operator as adversary",
)
RULES: Final = [*(f"PRV-{number:02}" for number in range(1, 12)), *(f"AUD-{number:02}" for number in range(1, 12))]
TOP_TEN: Final = [f"A{number:02}" for number in range(1, 11)]
CHAPTERS: Final = [f"V{number} " for number in range(1, 15)]

_TICKED: Final = re.compile(r"`([^`\n]+)`")
_TEST: Final = re.compile(r"tests/[\w./-]+\.py::\w+")
_TEST_LINK: Final = re.compile(r"\[([\w ]+)\]\((?:\.\./)+(tests/[\w./-]+\.py)\)")  # its text is the name of the test
_FILE: Final = re.compile(
    r"(?:config|deploy|docs|loadtest|relay|requirements|scripts|sfu|signaling|stun|tests)/[\w./-]*\w"
)
_BARE_FILE: Final = re.compile(r"(?:Makefile|pyproject\.toml|README\.md|SECURITY\.md|CHANGELOG\.md)")
_LINK: Final = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def ids(paths: list[Path]) -> list[str]:
    return [path.relative_to(ROOT).as_posix() for path in paths]


@cache
def functions_of(path: Path) -> frozenset[str]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, functions))


def references(text: str) -> Iterator[str]:
    """What a text names: tests and files of this repository between backticks, tests as links."""
    for name, path in _TEST_LINK.findall(text):
        yield f"{path}::test_{name.replace(' ', '_')}"
    for ticked in _TICKED.findall(text):
        if _TEST.fullmatch(ticked) or _FILE.fullmatch(ticked) or _BARE_FILE.fullmatch(ticked):
            yield ticked


def is_there(reference: str) -> bool:
    path, _, test = reference.partition("::")
    return (ROOT / path).exists() and (not test or test in functions_of(ROOT / path))


def rows(text: str) -> list[list[str]]:
    """The rows of every table, short of their heads."""
    found = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("|") and not set(line) <= set("|-: "):
            found.append(cells)
    return found


def section(text: str, title: str) -> str:
    """A section, short of those below it."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, f"there is no section {title!r}"
    return found[1]


@pytest.mark.parametrize("paper", PAPERS, ids=ids(PAPERS))
def test_every_file_and_test_that_a_paper_names_exists(paper: Path) -> None:
    text = paper.read_text()
    assert [each for each in references(text) if not is_there(each)] == []
    targets = [target for target in _LINK.findall(text) if "://" not in target]
    assert [target for target in targets if not (paper.parent / target).exists()] == []


@pytest.mark.parametrize("paper", PAPERS, ids=ids(PAPERS))
def test_every_test_that_a_paper_names_is_a_link_or_stands_between_backticks_and_whole(paper: Path) -> None:
    text = paper.read_text()
    assert len(re.findall(r"tests/[\w./-]+\.py\)", text)) == len(_TEST_LINK.findall(text))
    named = [each for each in _TICKED.findall(text) if each.startswith("tests/") and "::" in each]
    assert [each for each in named if not _TEST.fullmatch(each)] == []
    assert text.count("::test_") == len(named)


def test_the_papers_name_enough_to_be_more_than_words() -> None:
    named = {each for paper in PAPERS for each in references(paper.read_text()) if "::" in each}
    assert len(named) > 200


@pytest.mark.parametrize("part", PARTS)
def test_every_part_is_looked_at_by_every_letter_and_every_threat_has_a_test_or_says_it_has_none(
    part: str,
) -> None:
    threats = [row for row in rows(section(THREATS.read_text(), part)) if row[0] in set("STRIDE")]
    assert {row[0] for row in threats} == set("STRIDE")
    for row in threats:
        assert len(row) == 5, row
        shown = [each for each in references(row[3]) if "::" in each]
        assert shown or row[3] == "not shown by any test", row[1]
        assert shown or row[4], "what is not shown by a test leaves something"


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_of_privacy_and_every_demand_of_auditors_has_something_that_shows_it(rule: str) -> None:
    found = [row for row in rows((COMPLIANCE / "README.md").read_text()) if row[0] == rule]
    assert len(found) == 1
    assert list(references(found[0][2]))


@pytest.mark.parametrize("item", [*TOP_TEN, *CHAPTERS])
def test_every_risk_and_chapter_of_owasp_has_a_test(item: str) -> None:
    found = [row for row in rows((COMPLIANCE / "owasp.md").read_text()) if row[0].startswith(item)]
    assert len(found) == 1
    assert [each for cell in found[0] for each in references(cell) if "::" in each]


@pytest.mark.parametrize("table", METADATA.sorted_tables, ids=lambda table: table.name)
def test_every_column_of_the_database_is_in_the_inventory(table: Table) -> None:
    listed = set(_TICKED.findall(section(INVENTORY.read_text(), "Database")))
    assert {f"{table.name}.{column.name}" for column in table.columns} <= listed
    claimed = {each for each in listed if each.startswith(f"{table.name}.")}
    assert claimed == {f"{table.name}.{column.name}" for column in table.columns}, "no column that there is not"


def test_every_setting_that_holds_a_secret_is_in_the_inventory_and_marked_as_secret() -> None:
    listed = {row[0].strip("`"): row[2] for row in rows(section(INVENTORY.read_text(), "Settings")) if len(row) == 3}
    secret = {".".join(path) for path, field in leaves() if is_secret(field)}
    assert secret
    assert {key for key, mark in listed.items() if mark == "yes"} == secret
    known = {".".join(path[: size + 1]) for path, _ in leaves() for size in range(len(path))}
    assert {key for key in listed if key != "key"} <= known


def test_every_key_in_redis_is_in_the_inventory() -> None:
    listed = set(_TICKED.findall(section(INVENTORY.read_text(), "Redis")))
    assert {_NODE_KEY, _CHANNEL, _ROOM_KEY} <= listed


def test_every_file_of_the_state_is_in_the_inventory() -> None:
    source = (ROOT / "config" / "state.py").read_text()
    files = set(re.findall(r"directory / [\"']([\w.-]+)[\"']", source))
    assert {"turn-secret", "private-key.pem", "redconnect.sqlite3"} <= files
    assert files <= set(_TICKED.findall(section(INVENTORY.read_text(), "Files of the state")))


def test_every_key_in_the_storage_of_the_browser_is_in_the_inventory() -> None:
    keys: set[str] = set()
    for script in (ROOT / "signaling" / "web" / "js").rglob("*.js"):
        text = script.read_text()
        if re.search(r"localStorage|sessionStorage", text):
            keys |= set(re.findall(r"KEY = \"([^\"]+)\"", text))
    assert keys == {"redconnect.preferences", "redconnect.session", "redconnect.entry"}
    assert keys <= set(_TICKED.findall(section(INVENTORY.read_text(), "Browser of a participant")))


def test_every_pin_has_a_hash_and_installation_demands_them() -> None:
    for name in ("runtime", "dev"):
        text = (ROOT / "requirements" / f"{name}.txt").read_text()
        pins = re.findall(
            r"^[A-Za-z0-9][^\n]*==[^\n]*\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+", text, re.MULTILINE
        )
        assert len(pins) == len(re.findall(r"^[A-Za-z0-9]", text, re.MULTILINE)) > 20
        assert "://" not in text
    installs = re.findall(r"^.*pip install.*requirements/.*$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert len(installs) == 2
    assert all("--require-hashes" in line for line in installs)


def test_decoders_and_recorders_are_forbidden_to_every_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contract = next(
        each for each in project["tool"]["importlinter"]["contracts"] if each["name"].startswith("No decoder")
    )
    assert {"stun", "relay", "signaling", "sfu", "config"} <= set(contract["source_modules"])
    assert {"av", "aiortc", "cv2", "wave"} <= set(contract["forbidden_modules"])
    assert contract["allow_indirect_imports"] is False
    runtime = (ROOT / "requirements" / "runtime.txt").read_text().lower()
    assert not re.search(r"^(av|aiortc|opencv|pyav|ffmpeg|pydub|sounddevice)\b", runtime, re.MULTILINE)


def compared(tree: ast.AST) -> Iterator[str]:
    """Comparisons by == and != of what is called like a secret."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq | ast.NotEq):
            sides = [ast.unparse(side) for side in (node.left, *node.comparators)]
            if any(re.search(r"(?:\b|_)(?:token|tag|mac|password|digest\(\)|secret)$", side) for side in sides):
                yield ast.unparse(node)


def test_secrets_are_compared_in_constant_time() -> None:
    for path in ("stun/integrity.py", "stun/nonce.py", "signaling/room.py", "sfu/io/dtls.py", "relay/io/dtls_hello.py"):
        assert "compare_digest" in (ROOT / path).read_text(), path
    found = [
        comparison
        for package in ("stun", "relay", "signaling", "sfu", "config")
        for path in (ROOT / package).rglob("*.py")
        for comparison in compared(ast.parse(path.read_text()))
    ]
    assert sorted(found) == [
        "(TREE / STAMP).read_text() == digest()",  # of the sources, at the start: no secret
        "shared.memory[at:at + TOKEN_BYTES] == token",  # a worker's own, when it forgets it: nobody waits for that
    ]
    assert list(compared(ast.parse("if claim.token == token: pass")))


def test_the_terms_show_every_duty_and_no_advertising() -> None:
    text = " ".join((ROOT / "signaling" / "web" / "pages" / "terms.html").read_text().split())
    for duty in (
        "eine angemessene Technik",
        "die Vertraulichkeit der Räume",
        "vertraulichen und störungsfreien Ablauf, frei von Werbung",
        "einen Anbieter, der die vorgeschriebenen Zertifikate hat",
        "die Einwilligung der anderen Seite, wo sie vorgeschrieben ist, bei Patient/innen schriftlich",
        "Zeichnen Sie nichts auf",
        "kann der Dienst weder erkennen noch verhindern",
        "Auf den Seiten gibt es keine Werbung",
    ):
        assert duty in text


@pytest.mark.parametrize(
    "breach",
    [
        "`tests/unit/deploy/test_papers.py::test_that_nobody_wrote`",
        "`tests/unit/deploy/test_nothing.py::test_x`",
        "`config/nothing.py`",
        "[that nobody wrote](../tests/unit/deploy/test_papers.py)",
        "[a b](../../tests/unit/deploy/test_nothing.py)",
    ],
)
def test_a_reference_to_nothing_would_be_found(breach: str) -> None:
    assert len([each for each in references(f"shown by {breach}") if not is_there(each)]) == 1
