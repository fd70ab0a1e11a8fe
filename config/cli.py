"""The command line. Mistakes of its user are told in one line each; exit status 2 means "call it differently"."""

import asyncio
import json
import logging
import os
import re
import secrets
import sys
import time
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple, TypeVar

import typer
import yaml
from rich.console import Console
from typer.exceptions import TyperException

from config import native
from config.announce import CreatedAppointment, compose_codes, page_url, print_appointment
from config.check_cli import check_network
from config.command import FAILED, MISUSED, ConfigOption, JsonOption, fail, load_or_exit, tell
from config.crash import name_error
from config.ctl_command import ctl_app
from config.invitation import Entry, Invitation, compose_invitation
from config.load import load_settings
from config.logs import configure_logging
from config.mistakes import ConfigError
from config.schema import Settings
from config.settings_file import look_at_settings_file
from config.state import State, StateError, open_state
from config.version import current_version
from signaling.appointments import MAX_PEOPLE, Tier
from signaling.codes import MAX_NAME_CHARACTERS, AccessCode, link
from signaling.german_time import StartError, format_short, parse_start
from signaling.organisations import TOKEN_ENTROPY_BYTES, hash_token
from stun.credentials import issue_credential

if TYPE_CHECKING:
    from config.appointment_book import AppointmentBook
    from signaling.api_messages import AppointmentView, NewAppointmentView

_LOGGER: Final = logging.getLogger(__name__)
MAX_CREDENTIAL_SECONDS: Final = 604_800

_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells have it
_ORGANISATION: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_IDENTITY: Final = re.compile(r"[A-Za-z0-9._@-]{1,64}")

StartOption = Annotated[
    str,
    typer.Option(
        "--start",
        metavar="TIME",
        help='Planned start in German time, such as "2026-12-01 14:30"; ISO 8601 with an offset; or now.',
    ),
]
ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server",
        metavar="URL",
        help="Address of the page of a running service, to use its API. Default: the database of this machine.",
    ),
]
TokenFileOption = Annotated[
    Path | None,
    typer.Option("--token-file", metavar="FILE", help="With --server: the organisation's token, mode 0600."),
]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="As `create` and `list` print it.")]
Result = TypeVar("Result")

app = typer.Typer(
    name="redconnect",
    help="Media infrastructure for confidential video consultations: STUN/TURN relay, signaling, room page.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
appointment_app = typer.Typer(help="Appointments and their access codes.", no_args_is_help=True)
app.add_typer(appointment_app, name="appointment")
organisation_app = typer.Typer(help="Organisations that make appointments by the API.", no_args_is_help=True)
app.add_typer(organisation_app, name="organisation")
app.add_typer(ctl_app, name="ctl")


def main() -> None:
    """Run the command line and leave the process with its exit status."""
    try:
        status = app(prog_name="redconnect", standalone_mode=False)
    except TyperException as error:  # an unknown option, a missing value: one line instead of a box
        if message := error.format_message():  # empty when the help was printed instead
            tell(f"{message.rstrip('.')}; see redconnect --help")
        status = error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        status = _INTERRUPTED
    sys.exit(status)


@app.callback(invoke_without_command=True)
def _options(
    *, version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False
) -> None:
    if version:
        print_version()
        raise typer.Exit


@app.command()
def serve(
    config: ConfigOption = None,
    *,
    demo: Annotated[bool, typer.Option("--demo", help="Create an appointment for now and print its links.")] = False,
) -> None:
    """Run the service until SIGTERM or Ctrl+C."""
    settings = load_or_exit(config)
    if demo and "signaling" not in settings.services:
        fail("--demo needs `signaling` among the services", MISUSED)
    configure_logging(settings.log)
    _warn_of_exposed_settings(config, settings)
    state = _open(settings)
    from config.assembly import run_service  # the other commands need neither sockets nor uvloop

    raise typer.Exit(run_service(settings, state, lambda: load_settings(config, os.environ), demo=demo))


def _warn_of_exposed_settings(config: Path | None, settings: Settings) -> None:
    try:
        file = look_at_settings_file(config, os.environ, settings)
    except (OSError, ConfigError) as error:
        _LOGGER.warning("whether others can read the file of settings is not known: %s", name_error(error))
        return
    if file is not None and file.exposure:
        _LOGGER.warning("%s %s: chmod 640 it; `redconnect doctor` says more", file.path, file.exposure)


@app.command("check-config")
def check_config(
    config: ConfigOption = None,
    *,
    show: Annotated[bool, typer.Option("--show", help="Print the effective settings, secrets masked.")] = False,
) -> None:
    """Check the settings: print `ok`, or one line per mistake and exit with status 2."""
    settings = load_or_exit(config)
    if show:
        values = settings.model_dump(mode="json")
        typer.echo(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, default_flow_style=None), nl=False)
    else:
        typer.echo("ok")


@app.command()
def doctor(config: ConfigOption = None, *, as_json: JsonOption = False) -> None:
    """Check this machine and these settings, tell the mend of each finding; status 1: warnings, 3: faults."""
    from config.doctor.diagnosis import diagnose  # the other commands need none of its parts
    from config.doctor.findings import exit_status
    from config.doctor.report import as_json as report_as_json
    from config.doctor.report import print_report

    settings = load_or_exit(config)
    findings = diagnose(settings, lambda: look_at_settings_file(config, os.environ, settings))
    if as_json:
        typer.echo(report_as_json(findings))
    else:
        print_report(Console(highlight=False), findings)
    raise typer.Exit(exit_status(findings))


@app.command()
def credential(
    config: ConfigOption = None,
    *,
    ttl_seconds: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_CREDENTIAL_SECONDS, help="Validity. Default: as for clients, see settings."),
    ] = None,
    identity: Annotated[
        str | None, typer.Option("--id", metavar="TEXT", help="Second part of the user name. Default: random.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Issue a time-limited TURN credential."""
    if identity is not None and not _IDENTITY.fullmatch(identity):
        fail("--id takes at most 64 letters, digits and . _ @ -", MISUSED)
    settings = load_or_exit(config)
    state = _open(settings)
    lifetime = ttl_seconds or settings.signaling.ice.credential_lifetime_seconds
    expires_at = int(time.time()) + lifetime
    issued = issue_credential(state.turn_secret, expires_at, identity or secrets.token_hex(8))
    expiry = _instant(datetime.fromtimestamp(expires_at, UTC))
    if as_json:
        typer.echo(json.dumps({"username": issued.username, "password": issued.password, "expires": expiry}))
        return
    host = settings.signaling.ice.host or "127.0.0.1"
    port = next(iter(settings.relay.udp_ports), 3478)
    typer.echo(f"user name  {issued.username}")
    typer.echo(f"password   {issued.password}")
    typer.echo(f"expires    {expiry}")
    typer.echo(f"try it     turnutils_uclient -y -p {port} -u {issued.username} -w {issued.password} {host}")


app.command("check")(check_network)


@app.command("version")
def print_version() -> None:
    """Print the version, and whether the relay's code is compiled (`make native`)."""
    typer.echo(f"redconnect {current_version()} ({native.describe()})")


@organisation_app.command("token")
def draw_token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="1 to 64 letters, digits and . _ -")],
    *,
    tier: Annotated[Tier, typer.Option(help="The highest tier of its appointments.")] = Tier.BASIS,
) -> None:
    """Draw a token for the API; print it, once, and the settings that make it valid."""
    if not _ORGANISATION.fullmatch(name):
        fail("NAME takes 1 to 64 letters, digits and . _ -", MISUSED)
    token = secrets.token_urlsafe(TOKEN_ENTROPY_BYTES)
    typer.echo(f"token  {token}\n")
    typer.echo("Keep it in a file with mode 0600: it is not stored here and cannot be shown again. In the settings:\n")
    typer.echo("signaling:\n  organisations:")
    typer.echo(f'    {json.dumps(name)}: {{tokens_sha256: ["{hash_token(token)}"], tier: {tier.value}}}')


@appointment_app.command("create")
def create(  # noqa: PLR0913 - the options of one command
    start: StartOption,
    config: ConfigOption = None,
    *,
    server: ServerOption = None,
    token_file: TokenFileOption = None,
    plus: Annotated[bool, typer.Option("--plus", help="The tier plus: with screen sharing and conferences.")] = False,
    participants: Annotated[
        int,
        typer.Option(
            min=1,
            max=MAX_PEOPLE - 1,
            help="People beside the organiser. More than one makes a conference, which needs --plus.",
        ),
    ] = 1,
    name_organiser: Annotated[str, typer.Option(metavar="NAME", help="Name in the organiser's link.")] = "",
    name_participant: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Name in the participant's link; once for each participant, in order."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Create an appointment; print its codes, its links and a German text for an e-mail to each participant."""
    names = name_participant or []
    _check_name("--name-organiser", name_organiser)
    for name in names:
        _check_name("--name-participant", name)
    if len(names) > participants:
        fail("--name-participant is given more often than there are participants; see --participants", MISUSED)
    if participants > 1 and not plus:
        fail("--participants above 1 needs --plus", MISUSED)
    desk = _open_desk(config, server, token_file)
    instant = _read_start(start, desk.settings)
    view = _run(desk.book, desk.book.create(instant, Tier.PLUS if plus else Tier.BASIS, participants))
    created = compose_codes(view.start, view.tier, view.locators.organiser, view.locators.participants)
    organiser_link = link(desk.page, created.organiser, name_organiser)
    invited = _invite(view, created, desk.page, names)
    if as_json:
        typer.echo(_as_json(view, created, organiser_link, invited))
        return
    console = Console(highlight=False)
    print_appointment(console, created, organiser_link, [guest.link for guest in invited])
    console.print(f"\nTo move or cancel it: {view.id}", soft_wrap=True)
    for label, guest in zip(created.participant_labels, invited, strict=True):
        whom = "the participant" if len(invited) == 1 else label.lower()
        console.print(f"\nText for an e-mail to {whom}:\n", style="bold")
        typer.echo(f"Betreff: {guest.mail.subject}\n\n{guest.mail.body}", nl=False)


@appointment_app.command("list")
def list_planned(
    config: ConfigOption = None,
    *,
    server: ServerOption = None,
    token_file: TokenFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the appointments that have not ended: id, German time, tier. Codes cannot be shown again."""
    desk = _open_desk(config, server, token_file)
    views = _run(desk.book, desk.book.list_planned())
    if as_json:
        typer.echo(json.dumps([view.model_dump(mode="json") for view in views], indent=2))
        return
    for view in views:
        typer.echo(_line(view))


@appointment_app.command("move")
def move(
    appointment_id: IdArgument,
    start: StartOption,
    config: ConfigOption = None,
    *,
    server: ServerOption = None,
    token_file: TokenFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give an appointment another start. Codes and links stay the same."""
    desk = _open_desk(config, server, token_file)
    view = _run(desk.book, desk.book.move(appointment_id, _read_start(start, desk.settings)))
    typer.echo(json.dumps(view.model_dump(mode="json"), indent=2) if as_json else _line(view))


@appointment_app.command("cancel")
def cancel(
    appointment_id: IdArgument,
    config: ConfigOption = None,
    *,
    server: ServerOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Cancel an appointment: its codes are unknown from now on."""
    desk = _open_desk(config, server, token_file)
    _run(desk.book, desk.book.cancel(appointment_id))


class _Desk(NamedTuple):
    """Where appointments are made, and what their links begin with."""

    book: "AppointmentBook"
    page: str
    settings: Settings | None  # None: the server's hold, which it does not tell


def _open_desk(config: Path | None, server: str | None, token_file: Path | None) -> _Desk:
    from config.appointment_book import BookError, LocalBook, RemoteBook, read_token  # other commands need no aiohttp
    from signaling.io.store import AppointmentStore

    if server is None:
        if token_file is not None:
            fail("--token-file needs --server", MISUSED)
        settings = load_or_exit(config)
        state = _open(settings)
        store = AppointmentStore(state.database_url, state.locator_key)
        return _Desk(LocalBook(store, settings), page_url(settings), settings)
    if token_file is None or config is not None:
        fail("--server needs --token-file, and takes no --config", MISUSED)
    try:
        return _Desk(RemoteBook(server, read_token(token_file)), server.rstrip("/"), None)
    except BookError as error:
        fail(str(error), MISUSED)


def _run(book: "AppointmentBook", action: Coroutine[None, None, Result]) -> Result:
    from config.appointment_book import BookError

    async def run() -> Result:
        try:
            return await action
        finally:
            await book.close()

    try:
        return asyncio.run(run())
    except BookError as error:
        fail(str(error), FAILED)


def _line(view: "AppointmentView") -> str:
    return f"{view.id}  {format_short(view.start)}  {view.tier}"


def _read_start(text: str, settings: Settings | None) -> datetime:
    now = datetime.now(UTC)
    try:
        start = parse_start(text, now)
    except StartError as error:
        fail(f"--start: {error}", MISUSED)
    if settings is None:
        return start  # the server knows when its codes end
    ends_at = settings.signaling.window(start).closes_at
    if ends_at <= now:
        fail(f"--start: the codes would have ended at {_instant(ends_at)}; choose a later time", MISUSED)
    return start


def _check_name(option: str, name: str) -> None:
    if len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        fail(f"{option} takes at most {MAX_NAME_CHARACTERS} printable characters", MISUSED)


class _Invited(NamedTuple):
    """One participant: what is sent to it."""

    code: AccessCode
    link: str
    mail: Invitation


def _invite(view: "NewAppointmentView", created: CreatedAppointment, page: str, names: Sequence[str]) -> list[_Invited]:
    """Write the invitation of each participant; who has no name is greeted without one."""
    entry = Entry(
        (view.start - view.entry_opens) // timedelta(minutes=1), (view.end - view.start) // timedelta(hours=1)
    )
    invited = []
    given = (*names, *[""] * (len(created.participants) - len(names)))
    for code, name in zip(created.participants, given, strict=True):
        url = link(page, code, name)
        invited.append(_Invited(code, url, compose_invitation(view.start, entry, code, page, url, name)))
    return invited


def _as_json(
    view: "NewAppointmentView", created: CreatedAppointment, organiser_link: str, invited: Sequence[_Invited]
) -> str:
    first = invited[0]
    return json.dumps(
        {
            "id": view.id,
            "start": _instant(view.start),
            "entry_opens": _instant(view.entry_opens),
            "entry_closes": _instant(view.end),
            "tier": view.tier.value,
            "organiser": _show_seat(created.organiser, organiser_link),
            "participant": _show_seat(first.code, first.link),
            "invitation": first.mail._asdict(),
            "participants": [
                {**_show_seat(guest.code, guest.link), "invitation": guest.mail._asdict()} for guest in invited
            ],
        },
        ensure_ascii=False,
        indent=2,
    )


def _show_seat(code: AccessCode, url: str) -> dict[str, str]:
    return {"code": code.display, "link": url}


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _open(settings: Settings) -> State:
    try:
        return open_state(settings, datetime.now(UTC))
    except StateError as error:
        fail(str(error), FAILED)


if __name__ == "__main__":
    main()
