"""Appointments made on the command line: their codes and links, and how they are shown."""

import secrets
from collections.abc import Sequence
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

_LABEL_GAP: Final = 2
_PANEL_MARGIN: Final = 6  # frame and padding on both sides


@dataclass(frozen=True, slots=True)
class CreatedAppointment:
    """A new appointment with its codes. Nothing but this object and its output ever holds them whole."""

    start: datetime
    tier: Tier
    organiser: AccessCode
    participants: tuple[AccessCode, ...]

    @property
    def participant(self) -> AccessCode:
        """The code of the first participant."""
        return self.participants[0]

    @property
    def participant_labels(self) -> tuple[str, ...]:
        """The participants as people are told them: with a number where there are several."""
        if len(self.participants) == 1:
            return ("Participant",)
        return tuple(f"Participant {number}" for number in range(1, len(self.participants) + 1))


async def create_appointment(store: "AppointmentStore", start: datetime, tier: Tier) -> CreatedAppointment:
    """Create an appointment for two; its secret is drawn here, so that the store never sees it.

    Args:
        store: is open; it keeps the locators.
        start: planned start, an aware instant.
        tier: basis or plus.

    Raises:
        StoreError: the database failed.
    """
    seats = await store.create(start, tier)
    return compose_codes(seats.appointment.start, tier, seats.organiser_locator, seats.participant_locators)


def compose_codes(start: datetime, tier: Tier, organiser: str, participants: Sequence[str]) -> CreatedAppointment:
    """Draw the secret of an appointment and make its codes of it and of the locators that the server drew."""
    secret = secret_from(secrets.randbits(SECRET_BITS))
    codes = tuple(AccessCode.compose(locator, secret) for locator in participants)
    return CreatedAppointment(start, tier, AccessCode.compose(organiser, secret), codes)


def page_url(settings: Settings) -> str:
    """The address of the page in links, without a slash at the end."""
    signaling = settings.signaling
    scheme = "https" if signaling.https else "http"
    return signaling.public_url or f"{scheme}://localhost:{signaling.port}"


def print_demo(console: Console, created: CreatedAppointment, settings: Settings) -> None:
    """Show the two links of the demo appointment, to be opened in two browser windows."""
    base = page_url(settings)
    hint = Text("Open them in two browser windows. Ctrl+C stops the service.", style="dim")
    links = [link(base, code) for code in created.participants]
    body = [*_list_seats(created, link(base, created.organiser), links), Text(), hint]
    _print_framed(console, "redconnect is ready: a demo appointment", body)


def print_appointment(
    console: Console, created: CreatedAppointment, organiser_link: str, participant_links: Sequence[str]
) -> None:
    """Show when an appointment is, and the code and link of each seat."""
    title = f"Appointment {format_short(created.start)} (German time), {created.tier.value}"
    _print_framed(console, title, _list_seats(created, organiser_link, participant_links))


def _list_seats(created: CreatedAppointment, organiser_link: str, participant_links: Sequence[str]) -> list[Text]:
    """Write code and link of each seat, with an empty line between seats."""
    labels = ("Organiser", *created.participant_labels)
    codes = (created.organiser, *created.participants)
    width = max(map(len, labels)) + _LABEL_GAP
    lines: list[Text] = []
    for label, code, url in zip(labels, codes, (organiser_link, *participant_links), strict=True):
        lines += [
            Text(),
            Text.assemble((label.ljust(width), "bold"), (code.display, "bold green")),
            Text.assemble(" " * width, (url, "cyan")),
        ]
    return lines[1:]


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
