"""A file of settings that others can read."""

import os
from pathlib import Path

import pytest

from config.load import load_settings
from config.settings_file import SettingsFile, look_at_settings_file

SECRET = "a shared secret of thirty-two bytes, or more"
WITH_SECRET = f"secrets: {{turn_secret: '{SECRET}'}}"


@pytest.fixture(autouse=True)
def reachable(tmp_path: Path) -> None:
    """Pytest's own folders are closed to others."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and folder.name.startswith(("pytest-", "test_")):
            folder.chmod(0o755)


def look(tmp_path: Path, text: str, mode: int = 0o644, **environ: str) -> SettingsFile:
    file = tmp_path / "redconnect.yaml"
    file.write_text(text)
    file.chmod(mode)
    found = look_at_settings_file(file, environ, load_settings(file, environ))
    assert found is not None
    return found


@pytest.mark.parametrize(
    "text",
    [
        WITH_SECRET,
        f"relay: {{secrets: {{former: '{SECRET}'}}}}",
        "relay: {users: {alice: wonderland}}",
        "relay: {realms: {clinic: {ports: [3478], users: {alice: wonderland}}}}",
        "database_url: postgresql+asyncpg://redconnect:wonderland@db/redconnect",
        "database_url: postgresql+asyncpg://db/redconnect?user=redconnect&password=wonderland",
        "signaling: {redis_url: 'redis://:wonderland@redis:6379/0'}",
    ],
)
def test_a_secret_that_everybody_can_read_is_found_wherever_it_stands(tmp_path: Path, text: str) -> None:
    assert look(tmp_path, text).exposure == "holds secrets and can be read by others"
    for mode in (0o640, 0o600, 0o440):
        assert look(tmp_path, text, mode).exposure == ""


@pytest.mark.parametrize(
    "text",
    ["", "relay: {realm: example}", "database_url: postgresql+asyncpg:///redconnect?host=/run/postgresql"],
)
def test_a_file_without_a_secret_may_be_read_and_not_changed(tmp_path: Path, text: str) -> None:
    assert look(tmp_path, text).exposure == ""
    assert look(tmp_path, text, 0o666).exposure == "can be changed by others"


def test_a_secret_from_the_environment_is_none_of_the_file(tmp_path: Path) -> None:
    assert look(tmp_path, "", REDCONNECT_SECRETS__TURN_SECRET=SECRET).exposure == ""


def test_a_folder_that_others_cannot_enter_protects_what_is_in_it(tmp_path: Path) -> None:
    assert look(tmp_path, WITH_SECRET).exposure
    tmp_path.chmod(0o750)
    assert look(tmp_path, WITH_SECRET).exposure == ""


def test_without_a_file_there_is_nothing_to_look_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert look_at_settings_file(None, {}, load_settings(None, {})) is None
