"""What the HTTP API for appointments takes and answers (docs/api.md). The OpenAPI document is made of these models."""

import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, TypeVar

from pydantic import BaseModel, Field, PlainSerializer, StringConstraints, ValidationError, WithJsonSchema

from signaling.appointments import APPOINTMENT_ID_BYTES, MAX_PEOPLE, EntryWindow, PlannedAppointment, Tier
from signaling.codes import LOCATOR_SYMBOLS

MAX_BODY_BYTES = 1024
MAX_START_CHARACTERS = 64
MAX_PAGE = 1000
DEFAULT_PAGE = 100
MAX_DETAIL_CHARACTERS = 300

_ID_CHARACTERS = 2 * APPOINTMENT_ID_BYTES
_POSITION = re.compile(rf"(\d{{1,11}})-([0-9a-f]{{{_ID_CHARACTERS}}})", re.ASCII)


class ApiFault(StrEnum):
    """Why a request was refused; the values are the `code` of a problem."""

    BAD_REQUEST = "bad_request"
    BAD_START = "bad_start"
    UNAUTHORIZED = "unauthorized"
    TIER = "tier"
    UNKNOWN_APPOINTMENT = "unknown_appointment"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    TIMEOUT = "timeout"
    TOO_MANY_APPOINTMENTS = "too_many_appointments"
    TOO_LARGE = "too_large"
    TOO_MANY_PARTICIPANTS = "too_many_participants"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    RATE_LIMITED = "rate_limited"
    INTERNAL = "internal"
    UNAVAILABLE = "unavailable"


STATUS_OF: dict[ApiFault, int] = {
    ApiFault.BAD_REQUEST: 400,
    ApiFault.UNAUTHORIZED: 401,
    ApiFault.TIER: 403,
    ApiFault.UNKNOWN_APPOINTMENT: 404,
    ApiFault.NOT_FOUND: 404,
    ApiFault.METHOD_NOT_ALLOWED: 405,
    ApiFault.TIMEOUT: 408,
    ApiFault.TOO_MANY_APPOINTMENTS: 409,
    ApiFault.TOO_LARGE: 413,
    ApiFault.UNSUPPORTED_MEDIA_TYPE: 415,
    ApiFault.BAD_START: 422,
    ApiFault.TOO_MANY_PARTICIPANTS: 422,
    ApiFault.RATE_LIMITED: 429,
    ApiFault.INTERNAL: 500,
    ApiFault.UNAVAILABLE: 503,
}


class ApiRefused(Exception):
    """A request is answered with a problem.

    Attributes:
        fault: the kind.
        retry_after: whole seconds after which the same request may succeed; None where waiting does not help.
    """

    def __init__(self, fault: ApiFault, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.fault = fault
        self.retry_after = retry_after


AppointmentId = Annotated[str, StringConstraints(pattern=rf"^[0-9a-f]{{{_ID_CHARACTERS}}}$")]
Locator = Annotated[str, StringConstraints(pattern=rf"^[0-9A-HJKMNP-TV-Z]{{{LOCATOR_SYMBOLS}}}$")]
Instant = Annotated[
    datetime,
    PlainSerializer(lambda value: f"{value:%Y-%m-%dT%H:%M:%SZ}", return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
StartText = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_START_CHARACTERS),
    Field(
        description='Planned start: ISO 8601 with an offset ("2026-12-01T14:30+01:00"), German wall clock time '
        '("2026-12-01 14:30" or "01.12.2026 14:30"), or "now". An hour that does not exist, or comes twice, when '
        "the clocks change is refused; write it with an offset then.",
        examples=["2026-12-01T14:30:00+01:00"],
    ),
]


class _Model(BaseModel, frozen=True, extra="forbid", hide_input_in_errors=True):
    pass


_ModelT = TypeVar("_ModelT", bound=_Model)


class AppointmentWish(_Model):
    """An appointment to be made."""

    start: StartText
    tier: Tier | None = Field(None, description="At most the organisation's tier, which is the default.")
    participants: int = Field(
        1,
        ge=1,
        lt=MAX_PEOPLE,
        description="People beside the organiser. More than one makes a conference, which needs the tier plus.",
    )


class Move(_Model):
    """Another planned start."""

    start: StartText


class AppointmentView(_Model):
    """An appointment, without anything that opens its room."""

    id: AppointmentId
    start: Instant = Field(description="Planned start.")
    entry_opens: Instant = Field(description="From then on its codes open the room.")
    end: Instant = Field(description="From then on its codes are unknown and everything about it is deleted.")
    tier: Tier
    participants: int = Field(ge=1, lt=MAX_PEOPLE, description="People beside the organiser.")


class Locators(_Model):
    """The first six symbols of each code. The secret part is drawn by the client, for all codes the same."""

    organiser: Locator
    participant: Locator = Field(description="Of the first participant.")
    participants: tuple[Locator, ...] = Field(
        min_length=1, max_length=MAX_PEOPLE - 1, description="Of every participant, the first one included."
    )


class NewAppointmentView(AppointmentView):
    """A new appointment; its locators are told now and never again."""

    locators: Locators


class AppointmentPage(_Model):
    """Appointments by their planned start."""

    appointments: tuple[AppointmentView, ...] = Field(max_length=MAX_PAGE)
    next: str | None = Field(description="The `after` of the next page; null on the last one.")


class Problem(_Model):
    """Why a request was refused."""

    code: ApiFault
    message: str = Field(description="For developers, in English.")


class PageWish(_Model):
    """Which part of the list, by query parameters."""

    limit: int = Field(DEFAULT_PAGE, ge=1, le=MAX_PAGE, description="Appointments in one answer.")
    after: str | None = Field(None, pattern=f"^{_POSITION.pattern}$", description="The `next` of the page before.")


def parse_body(model: type[_ModelT], body: bytes) -> _ModelT:
    """Read the body of a request.

    Raises:
        ApiRefused: it is no JSON, or not what the model says; tells every mistake without repeating a value.
    """
    try:
        return model.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise ApiRefused(ApiFault.BAD_REQUEST, explain(error)) from None


def explain(error: ValidationError) -> str:
    """Say what is wrong in one line that repeats no value."""
    mistakes = (
        ": ".join(filter(None, (".".join(map(ascii, details["loc"])).replace("'", ""), details["msg"])))
        for details in error.errors(include_url=False, include_input=False)
    )
    return "; ".join(mistakes)[:MAX_DETAIL_CHARACTERS]


def parse_position(text: str) -> tuple[datetime, bytes]:
    """Read the `after` of a page: the start and id of the appointment before it.

    Raises:
        ApiRefused: it is not what a page's `next` was.
    """
    match = _POSITION.fullmatch(text)
    if match is None:
        raise ApiRefused(ApiFault.BAD_REQUEST, "after: write the `next` of the page before")
    return datetime.fromtimestamp(int(match[1]), UTC), bytes.fromhex(match[2])


def write_position(appointment: PlannedAppointment) -> str:
    """Write where the next page begins."""
    return f"{int(appointment.start.timestamp())}-{appointment.id.hex()}"


def show_appointment(planned: PlannedAppointment, window: EntryWindow) -> AppointmentView:
    """Write an appointment as the API shows it."""
    return AppointmentView(
        id=planned.id.hex(),
        start=planned.start,
        entry_opens=window.opens_at,
        end=window.closes_at,
        tier=planned.tier,
        participants=planned.participants,
    )


def add_locators(view: AppointmentView, organiser: str, participants: tuple[str, ...]) -> NewAppointmentView:
    """Write an appointment that has just been made, with the locators of its seats."""
    locators = Locators(organiser=organiser, participant=participants[0], participants=participants)
    return NewAppointmentView(**dict(view), locators=locators)
