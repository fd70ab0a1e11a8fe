from pathlib import Path

import pytest

from signaling.io import assets
from signaling.io.assets import load_assets, load_templates


def test_only_the_page_and_the_files_of_three_folders_are_served(web_root: Path) -> None:
    (web_root / "img").mkdir()
    (web_root / "img" / "logo.svg").write_text("<svg/>")
    (web_root / "js" / "deep").mkdir()
    (web_root / "js" / "deep" / "a.js").write_text("")
    for stray in ("secret.js", "js/.hidden.js", "js/notes.md", "css/room.css.map"):
        (web_root / stray).write_text("x")
    assert set(load_assets(web_root)) == {
        "/",
        "/test",
        "/js/room.js",
        "/js/deep/a.js",
        "/css/room.css",
        "/img/logo.svg",
    }


def test_a_link_out_of_the_folder_is_left_out(web_root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.js").write_text("x")
    (web_root / "js" / "link.js").symlink_to(tmp_path / "outside.js")
    assert "/js/link.js" not in load_assets(web_root)


@pytest.mark.parametrize("missing", ["index.html", "test.html"])
def test_without_all_its_pages_nothing_is_served(web_root: Path, missing: str) -> None:
    (web_root / missing).unlink()
    with pytest.raises(FileNotFoundError):
        load_assets(web_root)


def test_the_memory_is_bounded(web_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets, "MAX_TOTAL_BYTES", 10)
    with pytest.raises(ValueError, match="larger than"):
        load_assets(web_root)


def test_no_template_is_served_as_it_stands(web_root: Path) -> None:
    assert not [path for path in load_assets(web_root) if "pages" in path]


def test_a_missing_template_is_told_at_the_start(web_root: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_templates(web_root, ["layout", "nothing"])


def test_a_template_is_bounded(web_root: Path) -> None:
    (web_root / "pages" / "long.html").write_text("x" * (assets.MAX_TEMPLATE_BYTES + 1))
    with pytest.raises(ValueError, match="the template long is larger than"):
        load_templates(web_root, ["long"])
