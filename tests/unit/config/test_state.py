import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from config.schema import Settings
from config.self_signed import VALIDITY, issue_certificate, new_private_key
from config.state import State, StateError, open_state

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SECRET = "0123456789abcdef" * 2


@pytest.fixture(autouse=True)
def _with_a_careless_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "var"


def opened(directory: Path, now: datetime = NOW, **sections: object) -> State:
    return open_state(Settings.model_validate({"state_dir": str(directory), **sections}), now)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names_in(certificate_file: Path) -> list[str]:
    certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]


def test_everything_is_made_for_the_owner_alone(directory: Path) -> None:
    opened(directory)
    assert mode(directory) == 0o700
    files = sorted(directory.iterdir())
    assert [file.name for file in files] == ["certificate.pem", "locator-key", "private-key.pem", "turn-secret"]
    assert [mode(file) for file in files] == [0o600] * 4


def test_secrets_are_drawn_once_and_differ(directory: Path) -> None:
    first, second = opened(directory), opened(directory)
    assert first == second
    assert first.turn_secret != first.locator_key
    assert min(len(first.turn_secret), len(first.locator_key)) >= 32
    assert first.turn_secret.isascii()


def test_the_representation_shows_no_secret(directory: Path) -> None:
    state = opened(directory, secrets={"turn_secret": SECRET}, database_url="sqlite+aiosqlite:///geheim")
    assert SECRET not in repr(state)
    assert "geheim" not in repr(state)


def test_a_secret_of_the_settings_is_used_and_not_written(directory: Path) -> None:
    state = opened(directory, secrets={"turn_secret": SECRET})
    assert state.turn_secret == SECRET.encode()
    assert not (directory / "turn-secret").exists()


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620])
def test_a_secret_that_others_can_read_or_change_is_refused(directory: Path, bits: int) -> None:
    opened(directory)
    (directory / "turn-secret").chmod(bits)
    with pytest.raises(StateError, match=r"turn-secret can be read or changed by others .*; chmod 600"):
        opened(directory)


def test_a_private_key_that_others_can_read_is_refused(directory: Path) -> None:
    opened(directory)
    (directory / "private-key.pem").chmod(0o644)
    with pytest.raises(StateError, match=r"private-key\.pem can be read"):
        opened(directory)


def test_a_short_secret_is_refused_and_not_shown(directory: Path) -> None:
    opened(directory)
    (directory / "locator-key").write_text("geheim\n", encoding="utf-8")
    with pytest.raises(StateError, match="holds 6 bytes, fewer than 32; remove it") as caught:
        opened(directory)
    assert "geheim" not in str(caught.value)


def test_the_certificate_names_this_machine(directory: Path) -> None:
    names = names_in(opened(directory).certificate_file)
    assert {"localhost", "127.0.0.1", "::1"} <= set(names)


def test_the_certificate_is_renewed_before_it_ends_and_the_key_stays(directory: Path) -> None:
    first = opened(directory)
    certificate, key = first.certificate_file.read_bytes(), first.private_key_file.read_bytes()
    opened(directory, NOW + timedelta(days=300))
    assert first.certificate_file.read_bytes() == certificate
    opened(directory, NOW + VALIDITY)
    assert first.certificate_file.read_bytes() != certificate
    assert first.private_key_file.read_bytes() == key
    assert mode(first.certificate_file) == 0o600


def test_a_lost_certificate_is_made_anew(directory: Path) -> None:
    state = opened(directory)
    state.certificate_file.unlink()
    assert opened(directory).certificate_file.exists()


def test_rubbish_in_the_place_of_the_certificate_is_told(directory: Path) -> None:
    opened(directory).certificate_file.write_text("rubbish", encoding="utf-8")
    with pytest.raises(StateError, match="remove both to have new ones made"):
        opened(directory)


def test_the_operators_certificate_is_used_where_it_is(directory: Path, tmp_path: Path) -> None:
    key_file, certificate_file = tmp_path / "own.key", tmp_path / "own.pem"
    key_file.write_bytes(new_private_key())
    certificate_file.write_bytes(issue_certificate(key_file.read_bytes(), ["praxis.example"], NOW))
    state = opened(directory, tls={"certificate_file": str(certificate_file), "key_file": str(key_file)})
    assert (state.certificate_file, state.private_key_file) == (certificate_file, key_file)
    assert not state.is_self_signed
    assert not (directory / "private-key.pem").exists()


@pytest.mark.parametrize("text", [None, "rubbish"])
def test_an_unfit_certificate_is_told_at_the_start(directory: Path, tmp_path: Path, text: str | None) -> None:
    certificate_file = tmp_path / "own.pem"
    if text is not None:
        certificate_file.write_text(text, encoding="utf-8")
    tls = {"certificate_file": str(certificate_file), "key_file": str(certificate_file)}
    with pytest.raises(StateError, match=r"check tls\.certificate_file and tls\.key_file"):
        opened(directory, tls=tls)


def test_the_database_lies_under_the_state_unless_configured(directory: Path) -> None:
    assert opened(directory).database_url == f"sqlite+aiosqlite:///{directory}/redconnect.sqlite3"
    assert opened(directory, database_url="sqlite+aiosqlite://").database_url == "sqlite+aiosqlite://"


def test_a_directory_that_cannot_be_made_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="Not a directory"):
        opened(tmp_path / "file" / "var")


def test_a_file_that_another_process_made_first_wins(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory.mkdir(mode=0o700)
    real_link = os.link

    def link_after_a_rival(source: Path, target: Path) -> None:
        if target.name == "turn-secret" and not target.exists():
            target.write_text(SECRET, encoding="utf-8")
            target.chmod(0o600)
        real_link(source, target)

    monkeypatch.setattr(os, "link", link_after_a_rival)
    assert opened(directory).turn_secret == SECRET.encode()
    assert not [file for file in directory.iterdir() if file.name.startswith(".")]
