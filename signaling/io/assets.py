"""The files of the page, read once: what is not in the table cannot be reached by any path."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

MAX_TOTAL_BYTES = 16_777_216
MAX_TEMPLATE_BYTES = 131_072
PAGES = {"/": "index.html", "/test": "test.html"}  # by the path of their URL
FOLDERS = ("css", "js", "img")
TEMPLATES = "pages"  # not among the folders: nobody gets a page before it is filled in

# Of our own, because the system's table calls modules what it likes, and nosniff then forbids them.
_CONTENT_TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".webp": "image/webp",
}
_TEXT_TYPES = {"text/css", "text/javascript", "application/json", "image/svg+xml"}


class Asset(NamedTuple):
    """One file as it is served."""

    body: bytes
    content_type: str
    charset: str | None
    etag: str


def load_assets(root: Path) -> Mapping[str, Asset]:
    """Read the pages and their files under `css`, `js` and `img`, by the path of their URL.

    Hidden files, links out of the folder and files of other kinds are left out.

    Raises:
        FileNotFoundError: a page is missing.
        ValueError: the files are larger than 16 MiB together.
    """
    root = root.resolve(strict=True)
    assets = {path: _asset((root / name).read_bytes(), "text/html") for path, name in PAGES.items()}
    total = sum(len(page.body) for page in assets.values())
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            kind = _CONTENT_TYPES.get(path.suffix)
            hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
            if kind is None or hidden or not path.is_file() or not path.resolve().is_relative_to(root):
                continue
            total += path.stat().st_size
            if total > MAX_TOTAL_BYTES:
                raise ValueError(f"the files of the page are larger than {MAX_TOTAL_BYTES} bytes")
            assets[f"/{path.relative_to(root).as_posix()}"] = _asset(path.read_bytes(), kind)
    return assets


def load_templates(root: Path, names: Iterable[str]) -> Mapping[str, str]:
    """Read the templates of the pages that are filled in on the server, by their names.

    Raises:
        FileNotFoundError: one is not there.
        ValueError: one is larger than 128 KiB, or is not UTF-8.
    """
    templates = {}
    for name in names:
        body = (root / TEMPLATES / f"{name}.html").read_bytes()
        if len(body) > MAX_TEMPLATE_BYTES:
            raise ValueError(f"the template {name} is larger than {MAX_TEMPLATE_BYTES} bytes")
        templates[name] = body.decode()
    return templates


def _asset(body: bytes, content_type: str) -> Asset:
    charset = "utf-8" if content_type in _TEXT_TYPES or content_type == "text/html" else None
    return Asset(body, content_type, charset, hashlib.sha256(body).hexdigest()[:32])
