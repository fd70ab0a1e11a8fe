from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from config.health import Verdict
from config.readiness import check_certificate
from config.self_signed import VALIDITY, issue_certificate, new_private_key

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
