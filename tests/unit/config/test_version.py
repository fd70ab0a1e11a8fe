import re
from importlib import metadata

import pytest

from config import version


def test_the_version_has_three_numbers() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", version.current_version())


def test_an_installed_distribution_knows_its_version(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr(version, "__file__", f"{tmp_path}/config/version.py")
    monkeypatch.setattr(metadata, "version", {"redconnect": "9.8.7"}.__getitem__)
    assert version.current_version() == "9.8.7"
