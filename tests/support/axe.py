"""axe-core in a real page: what a machine can find of barriers."""

from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Page

_AXE: Final = Path(__file__).parents[1] / "e2e" / "node_modules" / "axe-core" / "axe.min.js"
# Every rule that axe has on by default (WCAG 2.0 to 2.1 A and AA, best practice), and what WCAG 2.2 adds.
_RUN: Final = """async () => {
  const { violations } = await axe.run(document, { rules: { "target-size": { enabled: true } } });
  return violations.flatMap(({ id, help, nodes }) =>
    nodes.map(({ target, any, all, none }) =>
      `${id} at ${target.join(" ")}: ${[...any, ...all, ...none].map(({ message }) => message).join("; ") || help}`));
}"""


def find_barriers(page: Page) -> list[str]:
    """Each violation of each element, in a line.

    Raises:
        RuntimeError: axe-core is not installed.
    """
    if not _AXE.exists():
        raise RuntimeError("axe-core is not installed: run `make setup`, which needs npm")
    # By the debugger's door, because the page's own policy lets no foreign script in.
    page.evaluate(_AXE.read_text(encoding="utf-8"))
    found: list[Any] = page.evaluate(_RUN)
    return [str(line) for line in found]
