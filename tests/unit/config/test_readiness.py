from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config.health import Verdict
from config.readiness import check_certificate, check_database
from config.self_signed import VALIDITY, issue_certificate, new_private_key
from signaling.io.store import AppointmentStore

NOW = datetime(2026, 12, 1, tzinfo=UTC)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    path = tmp_path / "certificate.pem"
    path.write_bytes(issue_certificate(new_private_key(), ["localhost"], NOW))
    return path


def test_a_certificate_is_good_between_its_two_instants(certificate: Path) -> None:
    assert check_certificate(certificate, NOW) == Verdict(holds=True)
    assert "has expired on" in check_certificate(certificate, NOW + VALIDITY).reason
    assert "is the clock right?" in check_certificate(certificate, NOW - timedelta(days=2)).reason


def test_a_certificate_that_cannot_be_read_is_none(certificate: Path, tmp_path: Path) -> None:
    certificate.write_text("nonsense")
    assert check_certificate(certificate, NOW) == Verdict(
        holds=False, reason="the certificate cannot be read: it is none"
    )
    assert "No such file" in check_certificate(tmp_path / "absent", NOW).reason


async def test_a_database_that_answers_is_good_and_one_that_has_gone_is_not(tmp_path: Path) -> None:
    store = AppointmentStore(f"sqlite+aiosqlite:///{tmp_path / 'a.sqlite3'}", bytes(32))
    try:
        await store.open()
        assert (await check_database(store)).holds
    finally:
        await store.close()
    (tmp_path / "b.sqlite3").write_bytes(b"not a database" * 100)
    lost = AppointmentStore(f"sqlite+aiosqlite:///{tmp_path / 'b.sqlite3'}", bytes(32))
    try:
        assert await check_database(lost) == Verdict(holds=False, reason="the database does not answer")
    finally:
        await lost.close()
