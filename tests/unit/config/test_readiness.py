from datetime import UTC, datetime, timedelta

from config.health import Verdict
from config.readiness import Validity, check_certificate

BEGINS = datetime(2026, 12, 1, tzinfo=UTC)
MONTH = timedelta(days=30)
VALIDITY = Validity(BEGINS, BEGINS + MONTH)


def test_a_certificate_is_good_between_its_two_instants() -> None:
    assert check_certificate(VALIDITY, BEGINS) == Verdict(holds=True)
    assert "has expired on" in check_certificate(VALIDITY, BEGINS + MONTH).reason
    assert "is the clock right?" in check_certificate(VALIDITY, BEGINS - timedelta(seconds=1)).reason


def test_days_that_are_left_are_whole_ones() -> None:
    assert VALIDITY.days_left(BEGINS) == 30
    assert VALIDITY.days_left(BEGINS + timedelta(seconds=1)) == 29
    assert VALIDITY.days_left(BEGINS + MONTH + timedelta(seconds=1)) == -1
