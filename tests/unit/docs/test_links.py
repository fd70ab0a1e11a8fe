"""A link in a document leads to a file that is there, and to a heading that is in it."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[3]
DOCUMENTS: Final = sorted(
    path for pattern in ("*.md", "docs/**/*.md", "deploy/**/*.md", "loadtest/*.md") for path in ROOT.glob(pattern)
)
_BLOCK: Final = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
_LINK: Final = re.compile(r'\]\(([^)\s]+)\)|\b(?:src|href)="([^"]+)"')
_ELSEWHERE: Final = re.compile(r"https?:|mailto:")


def links(document: Path) -> Iterator[str]:
    for inline, html in _LINK.findall(_BLOCK.sub("", document.read_text())):
        if not _ELSEWHERE.match(inline or html):
            yield inline or html


def anchors(document: Path) -> set[str]:
    """What headings are called in addresses: of equal ones the second has a number."""
    found: Counter[str] = Counter()
    names = set()
    for heading in re.findall(r"^#{1,6} (.*)$", _BLOCK.sub("", document.read_text()), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", words.lower()).strip().replace(" ", "-")
        names.add(f"{name}-{found[name]}" if found[name] else name)
        found[name] += 1
    return names


def dead(document: Path, link: str) -> str:
    """Why a link leads nowhere; empty if it does not."""
    file, _, anchor = link.partition("#")
    target = (document.parent / file).resolve() if file else document
    if not target.exists():
        return f"{link}: there is no such file"
    if anchor and target.suffix == ".md" and anchor not in anchors(target):
        return f"{link}: there is no such heading"
    return ""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    assert [reason for link in links(document) if (reason := dead(document, link))] == []


def test_there_are_enough_links_to_look_at() -> None:
    assert sum(1 for document in DOCUMENTS for _ in links(document)) > 200


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        ("nothing.md", "file"),
        ("#nothing", "heading"),
        ("b.md#second-1", ""),
        ("b.md#second-2", "heading"),
        ("b.md", ""),
    ],
)
def test_a_link_to_nothing_is_found(tmp_path: Path, link: str, reason: str) -> None:
    (tmp_path / "a.md").write_text("# A\n\n```\n# nothing\n```\n")
    (tmp_path / "b.md").write_text("# B\n\n## Second\n\n## `Second`\n")
    assert dead(tmp_path / "a.md", link).endswith(reason)
    assert bool(reason) == bool(dead(tmp_path / "a.md", link))
