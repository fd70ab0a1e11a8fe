"""Certificates and stores as they lie on the disk."""

import asyncio
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from config.doctor.facts import Redis
from config.doctor.io import installation
from config.doctor.io.installation import (
    collect_certificate,
    collect_database,
    collect_redis,
    collect_service,
    collect_state_directory,
)
from config.schema import Settings
from config.state import StateError, open_state
from signaling.io.store import AppointmentStore
from tests.support.ports import free_port

NOW = datetime(2026, 12, 1, tzinfo=UTC)
DAY = timedelta(days=1)


Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Authority(NamedTuple):
    name: x509.Name
    key: Key


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def issue(name: str, by: Authority | None, key: Key | None = None) -> tuple[bytes, Authority]:
    """A certificate as PEM, and its holder; by itself if by nobody."""
    own = Authority(named(name), key or ec.generate_private_key(ec.SECP256R1()))
    issuer = by or own
    certificate = (
        x509.CertificateBuilder()
        .subject_name(own.name)
        .issuer_name(issuer.name)
        .public_key(own.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + 60 * DAY)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(issuer.key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM), own


def settings_of(folder: Path, **changes: Any) -> Settings:  # noqa: ANN401
    return Settings.model_validate({"state_dir": str(folder / "var"), **changes})


def served(folder: Path, chain: list[bytes], key: Key) -> Settings:
    (folder / "chain.pem").write_bytes(b"".join(chain))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    tls = {"certificate_file": str(folder / "chain.pem"), "key_file": str(folder / "key.pem")}
    signaling = {"https": True, "public_url": "https://video.example.org", "ice": {"host": "turn.example.org"}}
    return settings_of(folder, tls=tls, signaling=signaling)


def test_a_chain_is_read_with_its_order_and_its_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root_pem, root = issue("root", None)
    middle_pem, middle = issue("middle", root)
    leaf_pem, leaf = issue("video.example.org", middle)
    bundle = tmp_path / "roots.pem"
    bundle.write_bytes(root_pem)
    monkeypatch.setattr(installation, "_BUNDLES", (bundle,))

    def signed(*chain: bytes) -> list[bool]:
        facts = collect_certificate(served(tmp_path, list(chain), leaf.key), NOW)
        assert facts is not None and not facts.refusal and not facts.is_ours
        assert facts.names == ("video.example.org",)
        assert facts.hosts == ("video.example.org", "turn.example.org")
        return [link.is_signed_by_next for link in facts.chain]

    assert signed(leaf_pem, middle_pem) == [True, True]
    assert signed(leaf_pem, middle_pem, root_pem) == [True, True, True]
    assert signed(leaf_pem) == [False]
    assert signed(leaf_pem, root_pem, middle_pem)[0] is False


def test_a_root_of_the_same_name_and_another_key_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, root = issue("root", None)
    impostor, _ = issue("root", None)
    leaf_pem, leaf = issue("video.example.org", root)
    bundle = tmp_path / "roots.pem"
    bundle.write_bytes(impostor)
    monkeypatch.setattr(installation, "_BUNDLES", (bundle,))
    facts = collect_certificate(served(tmp_path, [leaf_pem], leaf.key), NOW)
    assert facts is not None and not facts.chain[0].is_signed_by_next


def test_the_bundle_of_this_system_can_be_read(tmp_path: Path) -> None:
    stranger = Authority(named("nobody knows this one"), ec.generate_private_key(ec.SECP256R1()))
    leaf_pem, leaf = issue("video.example.org", stranger)
    facts = collect_certificate(served(tmp_path, [leaf_pem], leaf.key), NOW)
    assert facts is not None and not facts.chain[0].is_signed_by_next


def test_a_key_of_another_certificate_does_not_fit(tmp_path: Path) -> None:
    pem, _ = issue("video.example.org", None)
    facts = collect_certificate(served(tmp_path, [pem], ec.generate_private_key(ec.SECP256R1())), NOW)
    assert facts is not None and facts.refusal == "KEY_VALUES_MISMATCH"


def test_what_the_service_would_refuse_is_found(tmp_path: Path) -> None:
    """A doctor that judged by rules of its own would call well what no start accepts."""
    weak = rsa.generate_private_key(65_537, 1024)  # noqa: S505  # that is the point
    pem, _ = issue("video.example.org", None, weak)
    settings = served(tmp_path, [pem], weak)
    facts = collect_certificate(settings, NOW)
    assert facts is not None and facts.refusal == "EE_KEY_TOO_SMALL"
    with pytest.raises(StateError):
        open_state(settings, NOW)


def test_one_of_our_own_is_known_and_before_the_first_start_there_is_none(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    assert collect_certificate(settings, NOW) is None
    assert not (tmp_path / "var").exists()
    open_state(settings, NOW)
    facts = collect_certificate(settings, NOW)
    assert facts is not None and facts.is_ours and not facts.refusal


def test_a_database_is_not_made_by_looking_at_it(tmp_path: Path) -> None:
    assert not collect_database(settings_of(tmp_path)).exists
    assert not (tmp_path / "var").exists()
    assert not collect_database(settings_of(tmp_path, services=["relay"])).is_needed


def test_a_database_of_another_shape_is_told_and_not_changed(tmp_path: Path) -> None:
    (tmp_path / "var").mkdir()
    file = tmp_path / "var" / "redconnect.sqlite3"
    file.touch()
    facts = collect_database(settings_of(tmp_path))
    assert not facts.is_current and not facts.error
    assert file.read_bytes() == b""


def test_a_database_is_current_after_its_first_start(tmp_path: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/a strange%name.sqlite3"

    async def make() -> None:
        store = AppointmentStore(url, bytes(32))
        await store.open()
        assert await store.is_current()
        await store.close()

    asyncio.run(make())
    facts = collect_database(settings_of(tmp_path, database_url=url))
    assert facts.exists and facts.is_current and not facts.error


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    file = tmp_path / "no.sqlite3"
    file.write_bytes(b"not a database" * 100)
    facts = collect_database(settings_of(tmp_path, database_url=f"sqlite+aiosqlite:///{file}"))
    assert facts.error == "sqlite3.DatabaseError"


def test_redis_that_is_not_there_is_told_without_its_password(tmp_path: Path) -> None:
    url = f"redis://:hunter2@127.0.0.1:{free_port()}/0"
    facts = collect_redis(settings_of(tmp_path, signaling={"redis_url": url, "max_participants": 2}))
    assert facts == Redis(is_needed=True, error="ConnectionError")
    assert not collect_redis(settings_of(tmp_path)).is_needed


def test_modes_owners_and_room_are_read(tmp_path: Path) -> None:
    settings = settings_of(tmp_path)
    assert not collect_state_directory(settings, None).exists
    open_state(settings, NOW)
    facts = collect_state_directory(settings, None)
    assert (facts.mode, facts.owner) == (0o700, facts.expected_owner)
    assert {file.mode for file in facts.files} == {0o600} and facts.free > 0
    (tmp_path / "var" / "turn-secret").chmod(stat.S_IRUSR | stat.S_IROTH)
    assert any(file.mode == 0o404 for file in collect_state_directory(settings, None).files)


def test_where_no_service_runs_that_is_told(tmp_path: Path) -> None:
    service, pid = collect_service(settings_of(tmp_path))
    assert not service.is_running and not service.trouble and pid == 0
