"""The commands `redconnect ctl …`, as people call them; `config.ctl` talks to the service."""

import json
from pathlib import Path
from typing import Annotated

import typer

from config import ctl
from config.command import FAILED, MISUSED, ConfigOption, JsonOption, fail, load_or_exit

StateDirOption = Annotated[
    Path | None,
    typer.Option("--state-dir", metavar="DIR", help="Of the service. Default: state_dir of the settings."),
]

ctl_app = typer.Typer(help="Ask and tell the running service of this machine.", no_args_is_help=True)


@ctl_app.command("status")
def ctl_status(config: ConfigOption = None, *, state_dir: StateDirOption = None, as_json: JsonOption = False) -> None:
    """Tell version, processes, listeners, what goes on, and what came of the last reload."""
    from config.status import status_lines  # the other commands need no metrics

    status = _ask_service(config, state_dir, "status")["status"]
    for line in [json.dumps(status, indent=2)] if as_json else status_lines(status):
        typer.echo(line)


@ctl_app.command("drain")
def ctl_drain(
    config: ConfigOption = None,
    *,
    state_dir: StateDirOption = None,
    deadline: Annotated[
        int | None,
        typer.Option(min=0, max=ctl.MAX_DEADLINE_SECONDS, help="Seconds. Default: drain_seconds of the settings."),
    ] = None,
) -> None:
    """End the service as SIGTERM does, after those who are there; wait until it has ended."""
    try:
        ctl.drain(state_dir or Path(load_or_exit(config).state_dir), deadline, typer.echo)
    except ctl.CtlError as error:
        fail(str(error), FAILED)


@ctl_app.command("stop")
def ctl_stop(config: ConfigOption = None, *, state_dir: StateDirOption = None) -> None:
    """End the service at once."""
    _ask_service(config, state_dir, "stop")


@ctl_app.command("reload")
def ctl_reload(config: ConfigOption = None, *, state_dir: StateDirOption = None, as_json: JsonOption = False) -> None:
    """Let the service read its settings anew; tell what differs, or what is wrong and exit with status 1."""
    outcome = _ask_service(config, state_dir, "reload", if_unfit=FAILED)
    for line in [json.dumps(outcome, indent=2)] if as_json else outcome["lines"]:
        typer.echo(line, err=not outcome["reloaded"])
    if not outcome["reloaded"]:
        raise typer.Exit(FAILED)
    if not as_json:
        typer.echo(f"reloaded: {len(outcome['lines'])} keys differ")


def _ask_service(config: Path | None, state_dir: Path | None, command: str, *, if_unfit: int = MISUSED) -> ctl.Reply:
    """Ask the running service; `if_unfit` is the exit status if the settings, which say where it is, are wrong."""
    try:
        return ctl.ask(state_dir or Path(load_or_exit(config, if_unfit).state_dir), command)
    except ctl.CtlError as error:
        fail(str(error), FAILED)
