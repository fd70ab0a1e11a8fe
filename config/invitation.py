"""The German text with which an organiser invites the other person by e-mail."""

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from signaling.codes import AccessCode
from signaling.german_time import format_clock, format_date

_TEXT: Final = """\
Guten Tag{name},

für Sie ist eine Videosprechstunde geplant:

{date}, {clock} (deutsche Zeit)

Bitte öffnen Sie zum Termin diesen Link:

{link}

Oder öffnen Sie {page} und geben Sie Ihren Zugangscode ein:

{code}

Sie brauchen nur einen aktuellen Browser (Chrome, Edge, Firefox oder Safari), eine Kamera und ein Mikrofon. \
Sie müssen nichts installieren und sich nicht anmelden, und für Sie ist die Teilnahme kostenlos.

{entry} Wird das Gespräch unterbrochen, können Sie mit demselben Link oder Zugangscode erneut \
beitreten, bis {last_date}, {last_clock}.

Link und Zugangscode sind nur für Sie bestimmt. Bitte geben Sie beides nicht weiter.
"""


class Invitation(NamedTuple):
    """An e-mail without its addresses."""

    subject: str
    body: str


class Entry(NamedTuple):
    """When the codes of an appointment open the room: minutes before its start until hours after it."""

    opens_minutes: int
    closes_hours: int


def compose_invitation(start: datetime, entry: Entry, code: AccessCode, page: str, link: str, name: str) -> Invitation:
    """Write the invitation to one participant.

    Args:
        start: planned start, an aware instant.
        entry: when the code is valid.
        code: of the participant's seat.
        page: address of the page.
        link: with the code in its fragment.
        name: of the participant; empty: a salutation without a name.
    """
    last = start + timedelta(hours=entry.closes_hours)
    body = _TEXT.format(
        name=f" {name}" if name else "",
        date=format_date(start),
        clock=format_clock(start),
        link=link,
        page=page,
        code=code.display,
        entry=_entry_sentence(entry.opens_minutes),
        last_date=format_date(last),
        last_clock=format_clock(last),
    )
    subject = f"Ihre Videosprechstunde am {format_date(start)}, {format_clock(start)}"
    return Invitation(subject, body)


def _entry_sentence(minutes: int) -> str:
    if minutes == 0:
        return "Sie können ab dem geplanten Beginn beitreten."
    unit = "Minute" if minutes == 1 else "Minuten"
    return f"Sie können ab {minutes} {unit} vor dem geplanten Beginn beitreten."
