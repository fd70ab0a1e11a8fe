import subprocess
import sys
from pathlib import Path

import pytest

from config import native


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one module in each package, and a compiled tree that was made of it."""
    monkeypatch.delenv(native.PURE_VARIABLE, raising=False)
    monkeypatch.setattr(native, "ROOT", tmp_path)
    monkeypatch.setattr(native, "TREE", tmp_path / "build" / "native")
    monkeypatch.setattr(sys, "path", ["elsewhere"])
    for package in native.PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "module.py").write_text("VALUE = 1\n")
    native.TREE.mkdir(parents=True)
    (native.TREE / native.STAMP).write_text(native.digest())
    return tmp_path


@pytest.mark.usefixtures("checkout")
def test_a_tree_that_was_made_of_todays_sources_comes_first() -> None:
    assert native.prefer()
    assert sys.path == [str(native.TREE), "elsewhere"]


@pytest.mark.parametrize("package", native.PACKAGES)
def test_a_changed_source_makes_the_tree_stale(checkout: Path, package: str) -> None:
    (checkout / package / "module.py").write_text("VALUE = 2\n")
    assert not native.prefer()
    assert sys.path == ["elsewhere"]


def test_so_does_a_changed_twin_in_c(checkout: Path) -> None:
    twin = checkout / "relay" / "module.c"
    twin.write_text("int value = 1;\n")
    (native.TREE / native.STAMP).write_text(native.digest())
    assert native.is_fresh()
    twin.write_text("int value = 2;\n")
    assert not native.is_fresh()


def test_so_does_a_source_more_or_less_or_in_another_place(checkout: Path) -> None:
    module = checkout / "relay" / "module.py"
    module.rename(checkout / "relay" / "other.py")
    assert not native.is_fresh()
    (checkout / "relay" / "other.py").rename(module)
    assert native.is_fresh()
    (checkout / "stun" / "another.py").touch()
    assert not native.is_fresh()


@pytest.mark.usefixtures("checkout")
def test_another_interpreter_does_not_load_what_this_one_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version", "another one")
    assert not native.prefer()


@pytest.mark.usefixtures("checkout")
def test_the_operator_can_refuse_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.PURE_VARIABLE, "1")
    assert not native.prefer()
    assert sys.path == ["elsewhere"]


def test_without_a_tree_the_sources_are_interpreted(checkout: Path) -> None:
    (checkout / "build" / "native" / native.STAMP).unlink()
    assert not native.prefer()


def test_no_entry_imports_a_packet_path_before_it_is_known_which_one() -> None:
    program = "import sys, config.__main__; print([name for name in sys.modules if name in ('stun', 'relay', 'sfu')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
