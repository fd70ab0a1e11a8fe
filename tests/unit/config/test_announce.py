import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from config.announce import CreatedAppointment, create_appointment, page_url, print_appointment, print_demo
from config.schema import Settings
from signaling.appointments import Role, Tier
from signaling.codes import AccessCode, link
from signaling.io.store import AppointmentStore

START = datetime(2026, 12, 1, 13, 30, tzinfo=UTC)
CREATED = CreatedAppointment(
    START, Tier.PLUS, AccessCode.compose("ABC123", "XYZ45"), (AccessCode.compose("DEF678", "XYZ45"),)
)
LONG_URL = "https://" + "x" * 120 + ".example"


def shown(width: int, settings: Settings, *, terminal: bool = True) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=terminal, color_system=None, legacy_windows=False)
    print_demo(console, CREATED, settings)
    return stream.getvalue()


@pytest.fixture
def settings() -> Settings:
    return Settings.model_validate({"signaling": {"port": 8443, "https": True}})


async def test_both_seats_share_a_secret_that_the_store_never_sees(tmp_path: Path) -> None:
    store = AppointmentStore(f"sqlite+aiosqlite:///{tmp_path}/a.sqlite3", bytes(32))
    await store.open()
    try:
        first = await create_appointment(store, START, Tier.PLUS)
        second = await create_appointment(store, START, Tier.BASIS)
        seat = await store.find(first.organiser.locator)
    finally:
        await store.close()
    assert first.organiser.secret == first.participant.secret != second.organiser.secret
    assert first.organiser.locator != first.participant.locator
    assert seat is not None
    assert (seat.role, seat.appointment.tier, seat.appointment.start) == (Role.ORGANISER, Tier.PLUS, START)
    assert (first.tier, first.start) == (Tier.PLUS, START)


def test_the_page_is_the_configured_one_or_this_machine(settings: Settings) -> None:
    assert page_url(Settings()) == "http://localhost:8080"
    assert page_url(settings) == "https://localhost:8443"
    public = Settings.model_validate({"signaling": {"public_url": "https://video.example"}})
    assert page_url(public) == "https://video.example"


@pytest.mark.parametrize("width", [20, 40, 80, 200])
@pytest.mark.parametrize("terminal", [True, False])
def test_links_and_codes_stay_whole_at_every_width(settings: Settings, width: int, *, terminal: bool) -> None:
    lines = shown(width, settings, terminal=terminal).splitlines()
    for code in (CREATED.organiser, CREATED.participant):
        assert any(link("https://localhost:8443", code) in line for line in lines)
        assert any(code.display in line for line in lines)


def test_a_link_that_is_wider_than_the_terminal_is_not_broken() -> None:
    settings = Settings.model_validate({"signaling": {"public_url": LONG_URL}})
    assert any(link(LONG_URL, CREATED.participant) in line for line in shown(80, settings).splitlines())


def test_a_terminal_gets_a_frame_and_a_pipe_does_not(settings: Settings) -> None:
    assert "╭" in shown(100, settings)
    assert "╭" not in shown(100, settings, terminal=False)


def test_an_appointment_is_shown_with_its_german_time() -> None:
    stream = io.StringIO()
    print_appointment(Console(file=stream), CREATED, "https://a/#b", ["https://c/#d"])
    assert "Appointment 2026-12-01 14:30 (German time), plus" in stream.getvalue()
    assert "https://c/#d" in stream.getvalue()


def test_every_participant_of_a_conference_has_a_numbered_line_and_columns_are_straight() -> None:
    codes = tuple(AccessCode.compose(f"DEF6{number:02d}", "XYZ45") for number in range(12))
    created = CreatedAppointment(START, Tier.PLUS, CREATED.organiser, codes)
    stream = io.StringIO()
    links = [link("https://a", code) for code in codes]
    print_appointment(Console(file=stream, width=200), created, "https://a/#b", links)
    lines = stream.getvalue().splitlines()
    for number, (code, url) in enumerate(zip(codes, links, strict=True), start=1):
        at = next(index for index, line in enumerate(lines) if line.startswith(f"Participant {number} "))
        assert lines[at] == f"Participant {number}".ljust(16) + code.display
        assert lines[at + 1] == " " * 16 + url
