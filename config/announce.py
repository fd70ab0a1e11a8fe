"""Appointments made on the command line: their codes and links, and how they are shown."""

import secrets
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from config.schema import Settings
from signaling.appointments import Tier
from signaling.codes import SECRET_BITS, AccessCode, link, secret_from
from signaling.german_time import format_short

if TYPE_CHECKING:
    from signaling.io.store import AppointmentStore

_PANEL_MARGIN: Final = 6  # frame and padding on both sides


@dataclass(frozen=True, slots=True)
class CreatedAppointment:
    """A new appointment with both codes. Nothing but this object and its output ever holds them whole."""

    start: datetime
    tier: Tier
    organiser: AccessCode
    participant: AccessCode


async def create_appointment(store: "AppointmentStore", start: datetime, tier: Tier) -> CreatedAppointment:
    """Create an appointment; its secret is drawn here, so that the store never sees it.

    Args:
        store: is open; it keeps the locators.
        start: planned start, an aware instant.
        tier: basis or plus.

    Raises:
        StoreError: the database failed.
    """
    seats = await store.create(start, tier)
    return compose_codes(seats.appointment.start, tier, seats.organiser_locator, seats.participant_locator)


def compose_codes(start: datetime, tier: Tier, organiser: str, participant: str) -> CreatedAppointment:
    """Draw the secret of an appointment and make both codes of it and of the locators that the server drew."""
    secret = secret_from(secrets.randbits(SECRET_BITS))
    return CreatedAppointment(
        start, tier, AccessCode.compose(organiser, secret), AccessCode.compose(participant, secret)
    )


def page_url(settings: Settings) -> str:
    """The address of the page in links, without a slash at the end."""
    signaling = settings.signaling
    scheme = "https" if signaling.https else "http"
    return signaling.public_url or f"{scheme}://localhost:{signaling.port}"


def print_demo(console: Console, created: CreatedAppointment, settings: Settings) -> None:
    """Show the two links of the demo appointment, to be opened in two browser windows."""
    base = page_url(settings)
    hint = Text("Open them in two browser windows. Ctrl+C stops the service.", style="dim")
    body = [*_seat_lines("Organiser", created.organiser, link(base, created.organiser)), Text()]
    body += [*_seat_lines("Participant", created.participant, link(base, created.participant)), Text(), hint]
    _print_framed(console, "redconnect is ready: a demo appointment", body)


def print_appointment(
    console: Console, created: CreatedAppointment, organiser_link: str, participant_link: str
) -> None:
    """Show when an appointment is, and the code and link of each seat."""
    title = f"Appointment {format_short(created.start)} (German time), {created.tier.value}"
    body = [*_seat_lines("Organiser", created.organiser, organiser_link), Text()]
    body += _seat_lines("Participant", created.participant, participant_link)
    _print_framed(console, title, body)


def _seat_lines(label: str, code: AccessCode, url: str) -> list[Text]:
    return [
        Text.assemble((f"{label:13}", "bold"), (code.display, "bold green")),
        Text.assemble(" " * 13, (url, "cyan")),
    ]


def _print_framed(console: Console, title: str, body: list[Text]) -> None:
    """Print lines in a frame where there is room for it.

    A link that is cut or broken over two lines cannot be copied, so a narrow terminal, a file or a pipe gets the
    lines as they are.
    """
    width = max(line.cell_len for line in [Text(title), *body]) + _PANEL_MARGIN
    if console.is_terminal and width <= console.width:
        panel = Panel(
            Text("\n").join(body), title=title, title_align="left", width=width, padding=(1, 2), border_style="green"
        )
        console.print(panel)
        return
    for line in (Text(title, style="bold"), Text(), *body):
        console.print(line, soft_wrap=True)
