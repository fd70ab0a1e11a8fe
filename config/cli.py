"""The command line. Mistakes of its user are told in one line each; exit status 2 means "call it differently"."""

import asyncio
import json
import os
import re
import secrets
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, NoReturn

import typer
import yaml
from rich.console import Console
from typer.exceptions import TyperException

from config import native
from config.announce import CreatedAppointment, create_appointment, page_url, print_appointment
from config.german_time import StartError, parse_start
from config.invitation import Entry, Invitation, compose_invitation
from config.load import load_settings
from config.logs import configure_logging
from config.mistakes import ConfigError
from config.schema import Settings
from config.state import State, StateError, open_state
from config.version import current_version
from signaling.appointments import EntryWindow, Tier
from signaling.codes import MAX_NAME_CHARACTERS, link
from stun.credentials import issue_credential

if TYPE_CHECKING:
    from signaling.io.store import AppointmentStore

MAX_CREDENTIAL_SECONDS: Final = 604_800

_FAILED: Final = 1
_MISUSED: Final = 2
_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells have it
_IDENTITY: Final = re.compile(r"[A-Za-z0-9._@-]{1,64}")

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings in YAML. Default: $REDCONNECT_CONFIG, else redconnect.yaml here, else built-in defaults.",
    ),
]

app = typer.Typer(
    name="redconnect",
    help="Media infrastructure for confidential video consultations: STUN/TURN relay, signaling, room page.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
appointment_app = typer.Typer(help="Appointments and their access codes.", no_args_is_help=True)
app.add_typer(appointment_app, name="appointment")


def main() -> None:
    """Run the command line and leave the process with its exit status."""
    try:
        status = app(prog_name="redconnect", standalone_mode=False)
    except TyperException as error:  # an unknown option, a missing value: one line instead of a box
        if message := error.format_message():  # empty when the help was printed instead
            _tell(f"{message.rstrip('.')}; see redconnect --help")
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
    settings = _load(config)
    if demo and "signaling" not in settings.services:
        _fail("--demo needs `signaling` among the services", _MISUSED)
    configure_logging(settings.log)
    state = _open(settings)
    from config.assembly import run_service  # the other commands need neither sockets nor uvloop

    raise typer.Exit(run_service(settings, state, lambda: load_settings(config, os.environ), demo=demo))


@app.command("check-config")
def check_config(
    config: ConfigOption = None,
    *,
    show: Annotated[bool, typer.Option("--show", help="Print the effective settings, secrets masked.")] = False,
) -> None:
    """Check the settings: print `ok`, or one line per mistake and exit with status 2."""
    settings = _load(config)
    if show:
        values = settings.model_dump(mode="json")
        typer.echo(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, default_flow_style=None), nl=False)
    else:
        typer.echo("ok")


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
        _fail("--id takes at most 64 letters, digits and . _ @ -", _MISUSED)
    settings = _load(config)
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


@app.command("version")
def print_version() -> None:
    """Print the version, and whether the relay's code is compiled (`make native`)."""
    typer.echo(f"redconnect {current_version()} ({native.describe()})")


@appointment_app.command("create")
def create(
    start: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help='Planned start in German time, such as "2026-12-01 14:30"; ISO 8601 with an offset; or now.',
        ),
    ],
    config: ConfigOption = None,
    *,
    plus: Annotated[bool, typer.Option("--plus", help="The tier plus: with screen sharing.")] = False,
    name_organiser: Annotated[str, typer.Option(metavar="NAME", help="Name in the organiser's link.")] = "",
    name_participant: Annotated[str, typer.Option(metavar="NAME", help="Name in the participant's link.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Create an appointment; print both codes, both links and a German text for an e-mail."""
    _check_name("--name-organiser", name_organiser)
    _check_name("--name-participant", name_participant)
    settings = _load(config)
    instant = _read_start(start, settings)
    created = _create(_open(settings), instant, Tier.PLUS if plus else Tier.BASIS)
    page = page_url(settings)
    organiser_link = link(page, created.organiser, name_organiser)
    participant_link = link(page, created.participant, name_participant)
    entry = Entry(settings.signaling.entry_opens_minutes, settings.signaling.entry_closes_hours)
    mail = compose_invitation(instant, entry, created.participant, page, participant_link, name_participant)
    if as_json:
        typer.echo(_as_json(created, entry, mail, organiser_link, participant_link))
        return
    console = Console(highlight=False)
    print_appointment(console, created, organiser_link, participant_link)
    console.print("\nText for an e-mail to the participant:\n", style="bold")
    typer.echo(f"Betreff: {mail.subject}\n\n{mail.body}", nl=False)


def _create(state: State, start: datetime, tier: Tier) -> CreatedAppointment:
    from signaling.io.store import AppointmentStore, StoreError  # the other commands need no database

    store = AppointmentStore(state.database_url, state.locator_key)
    try:
        return asyncio.run(_create_in_store(store, start, tier))
    except StoreError as error:
        _fail(f"{error}: {type(error.__cause__).__name__}; check database_url and state_dir", _FAILED)


async def _create_in_store(store: "AppointmentStore", start: datetime, tier: Tier) -> CreatedAppointment:
    try:
        await store.open()
        return await create_appointment(store, start, tier)
    finally:
        await store.close()


def _read_start(text: str, settings: Settings) -> datetime:
    now = datetime.now(UTC)
    try:
        start = parse_start(text, now)
    except StartError as error:
        _fail(f"--start: {error}", _MISUSED)
    signaling = settings.signaling
    window = EntryWindow.around(
        start, opens_minutes=signaling.entry_opens_minutes, closes_hours=signaling.entry_closes_hours
    )
    if window.closes_at <= now:
        _fail(f"--start: the codes would have ended at {_instant(window.closes_at)}; choose a later time", _MISUSED)
    return start


def _check_name(option: str, name: str) -> None:
    if len(name) > MAX_NAME_CHARACTERS or not name.isprintable():
        _fail(f"{option} takes at most {MAX_NAME_CHARACTERS} printable characters", _MISUSED)


def _as_json(
    created: CreatedAppointment, entry: Entry, mail: Invitation, organiser_link: str, participant_link: str
) -> str:
    window = EntryWindow.around(created.start, opens_minutes=entry.opens_minutes, closes_hours=entry.closes_hours)
    return json.dumps(
        {
            "start": _instant(created.start),
            "entry_opens": _instant(window.opens_at),
            "entry_closes": _instant(window.closes_at),
            "tier": created.tier.value,
            "organiser": {"code": created.organiser.display, "link": organiser_link},
            "participant": {"code": created.participant.display, "link": participant_link},
            "invitation": {"subject": mail.subject, "body": mail.body},
        },
        ensure_ascii=False,
        indent=2,
    )


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _load(config: Path | None) -> Settings:
    try:
        return load_settings(config, os.environ)
    except ConfigError as error:
        for mistake in error.mistakes:
            typer.echo(str(mistake), err=True)
        raise typer.Exit(_MISUSED) from error


def _open(settings: Settings) -> State:
    try:
        return open_state(settings, datetime.now(UTC))
    except StateError as error:
        _fail(str(error), _FAILED)


def _fail(message: str, status: int) -> NoReturn:
    _tell(message)
    raise typer.Exit(status)


def _tell(message: str) -> None:
    typer.echo(f"redconnect: {message}", err=True)


if __name__ == "__main__":
    main()
