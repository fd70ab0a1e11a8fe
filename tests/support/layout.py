"""What a layout cuts off, covers or makes too small: measured in the page, not looked up in its styles."""

import contextlib
from collections.abc import Iterator
from typing import Any, Final

from playwright.sync_api import Page

_IS_SEEN: Final = """
  const isOnlyRead = (element) => element !== null
    && (getComputedStyle(element).clipPath === "inset(50%)" || isOnlyRead(element.parentElement));
  const isSeen = (element) => element.checkVisibility({ opacityProperty: true, visibilityProperty: true })
    && !element.closest("[aria-hidden=true]") && !isOnlyRead(element);
"""
# Every line of text, against the window and against each box around it that cuts something off. What a box scrolls
# up and down can be reached; what lies beside a box cannot.
_FIND_CLIPPED: Final = f"""() => {{
  {_IS_SEEN}
  const found = [];
  if (document.scrollingElement.scrollWidth > innerWidth) found.push("the page scrolls sideways");
  const scrolls = (overflow) => overflow === "auto" || overflow === "scroll";
  const limitsOf = (element) => {{
    const limits = {{ left: 0, right: innerWidth, top: -Infinity, bottom: Infinity }};
    let reachable = false; // by scrolling up and down, within some box
    for (let box = element; box !== null && box !== document.body; box = box.parentElement) {{
      const {{ overflowX, overflowY, position }} = getComputedStyle(box);
      const {{ left, right, top, bottom }} = box.getBoundingClientRect();
      if (overflowX !== "visible") {{
        limits.left = Math.max(limits.left, left);
        limits.right = Math.min(limits.right, right);
      }}
      reachable ||= scrolls(overflowY);
      if (!reachable && overflowY !== "visible") {{
        limits.top = Math.max(limits.top, top);
        limits.bottom = Math.min(limits.bottom, bottom);
      }}
      if (position === "fixed" && !reachable) {{
        limits.top = Math.max(limits.top, 0);
        limits.bottom = Math.min(limits.bottom, innerHeight);
      }}
      if (position === "fixed") break;
    }}
    return limits;
  }};
  const inside = (rect, limits) => rect.left >= limits.left - 1 && rect.right <= limits.right + 1
    && rect.top >= limits.top - 1 && rect.bottom <= limits.bottom + 1;
  for (const element of document.body.querySelectorAll("*")) {{
    if (!isSeen(element)) continue;
    const words = [...element.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE && node.data.trim() !== "");
    const rects = words.flatMap((node) => {{
      const range = document.createRange();
      range.selectNodeContents(node);
      return [...range.getClientRects()];
    }});
    if (element.matches("button, input, select")) rects.push(element.getBoundingClientRect());
    const limits = limitsOf(element);
    for (const rect of rects) {{
      if (inside(rect, limits)) continue;
      const round = (edges) => edges.map(Math.round).join(" ");
      const at = round([rect.left, rect.right, rect.top, rect.bottom]);
      const name = element.id || element.className || element.tagName;
      const text = element.textContent.trim().slice(0, 40);
      found.push(`${{name}} "${{text}}" at ${{at}}, within ${{round(Object.values(limits))}}`);
      break;
    }}
  }}
  return found;
}}"""
_FIND_COVERED: Final = f"""() => {{
  {_IS_SEEN}
  const found = [];
  for (const element of document.querySelectorAll("button, select, input, a[href]")) {{
    if (!isSeen(element)) continue;
    element.scrollIntoView({{ block: "nearest" }});
    const {{ x, y, width, height }} = element.getBoundingClientRect();
    const hit = document.elementFromPoint(x + width / 2, y + height / 2);
    if (hit === null || !(element.contains(hit) || element.closest("label")?.contains(hit))) {{
      found.push(`${{element.id || element.textContent.trim()}} lies under ${{hit?.id || hit?.className || hit}}`);
    }}
  }}
  return found;
}}"""
# What lies on a text by more than the air around its letters.
_FIND_OVERLAPPING: Final = f"""() => {{
  {_IS_SEEN}
  const seenPart = (element, {{ left, right, top, bottom }}) => {{
    for (let box = element; box !== null; box = box.parentElement) {{
      if (getComputedStyle(box).overflowY === "visible" || box === document.scrollingElement) continue;
      const limits = box.getBoundingClientRect();
      top = Math.max(top, limits.top);
      bottom = Math.min(bottom, limits.bottom);
    }}
    return {{ left, right, top, bottom }};
  }};
  const isText = (node) => node.nodeType === Node.TEXT_NODE && node.data.trim() !== "";
  const texts = [...document.body.querySelectorAll("*")].filter(isSeen).flatMap((element) =>
    [...element.childNodes].filter(isText).flatMap((node) => {{
      const range = document.createRange();
      range.selectNodeContents(node);
      return [...range.getClientRects()].map((rect) => ({{ element, rect: seenPart(element, rect) }}));
    }}));
  const overlap = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 4;
  const controls = [...document.querySelectorAll("button, select, input")].filter(isSeen)
    .map((element) => ({{ element, rect: element.getBoundingClientRect() }}));
  const apart = (one, other) => !one.contains(other) && !other.contains(one);
  return texts.flatMap((one, at) => [...texts.slice(at + 1), ...controls]
    .filter((other) => apart(one.element, other.element) && overlap(one.rect, other.rect))
    .map(({{ element }}) => `"${{one.element.textContent}}" meets ${{element.id || element.textContent.trim()}}`));
}}"""
_FIND_SMALL: Final = f"""([selector, least]) => {{
  {_IS_SEEN}
  return [...document.querySelectorAll(selector)].filter(isSeen).flatMap((element) => {{
    const {{ width, height }} = (element.closest("label") ?? element).getBoundingClientRect();
    if (Math.min(width, height) >= least - 0.01) return [];
    return [`${{element.id || element.textContent.trim()}}: ${{width}} × ${{height}}`];
  }});
}}"""
# WCAG 1.4.12: nobody may lose anything who reads with these distances.
_SPACE_TEXT: Final = """() => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(`
    * { line-height: 1.5 !important; letter-spacing: 0.12em !important; word-spacing: 0.16em !important; }
    p { margin-bottom: 2em !important; }
  `);
  document.adoptedStyleSheets = [sheet];
}"""
_NEXT_PICTURES: Final = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
TARGETS: Final = "button, select, input, a[href]"


def find_clipped(page: Page) -> list[str]:
    """Every text and control of which a part cannot be seen or reached by scrolling up and down."""
    return _list(page.evaluate(_FIND_CLIPPED))


def find_covered(page: Page) -> list[str]:
    """Every control whose middle lies under something else."""
    return _list(page.evaluate(_FIND_COVERED))


def find_overlapping(page: Page) -> list[str]:
    """Every text that lies on another one, or on a control that it does not belong to."""
    return _list(page.evaluate(_FIND_OVERLAPPING))


def find_small(page: Page, least: float, selector: str = TARGETS) -> list[str]:
    """Every target that is narrower or lower than `least` CSS pixels; a field with its label counts as one."""
    return _list(page.evaluate(_FIND_SMALL, [selector, least]))


def await_layout(page: Page) -> None:
    """Wait until scripts that place things by the sizes of others have done so: they are told with the next picture."""
    page.evaluate(_NEXT_PICTURES)


@contextlib.contextmanager
def spaced_text(page: Page) -> Iterator[None]:
    """Meanwhile the page has the distances of WCAG 1.4.12 between lines, paragraphs, letters and words."""
    page.evaluate(_SPACE_TEXT)
    await_layout(page)
    yield
    page.evaluate("() => { document.adoptedStyleSheets = []; }")
    await_layout(page)


def _list(found: Any) -> list[str]:  # noqa: ANN401  # what a page answers
    return [str(line) for line in found]
