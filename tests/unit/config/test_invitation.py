from datetime import UTC, datetime

import pytest

from config.invitation import Entry, compose_invitation
from signaling.codes import AccessCode

START = datetime(2026, 12, 1, 13, 30, tzinfo=UTC)
CODE = AccessCode.compose("ABC123", "XYZ45")
LINK = "https://video.example/#ABC123XYZ45" + CODE.check


def invitation(name: str = "", minutes: int = 30) -> tuple[str, str]:
    return compose_invitation(START, Entry(minutes, 24), CODE, "https://video.example", LINK, name)


def test_it_names_date_code_page_and_link() -> None:
    subject, body = invitation()
    assert subject == "Ihre Videosprechstunde am Dienstag, 1. Dezember 2026, 14:30 Uhr"
    for part in ("Dienstag, 1. Dezember 2026, 14:30 Uhr (deutsche Zeit)", f"\n{CODE.display}\n", f"\n{LINK}\n"):
        assert part in body
    assert "Oder öffnen Sie https://video.example und geben Sie Ihren Zugangscode ein" in body
    assert "bis Mittwoch, 2. Dezember 2026, 14:30 Uhr" in body


def test_it_greets_by_name_if_there_is_one() -> None:
    assert invitation("Erika {Muster}")[1].startswith("Guten Tag Erika {Muster},\n")
    assert invitation()[1].startswith("Guten Tag,\n")


@pytest.mark.parametrize(
    ("minutes", "sentence"),
    [(30, "ab 30 Minuten vor dem"), (1, "ab 1 Minute vor dem"), (0, "ab dem geplanten Beginn")],
)
def test_it_says_when_entry_opens(minutes: int, sentence: str) -> None:
    assert sentence in invitation(minutes=minutes)[1]
