"""What the commands have in common: where the settings are, how their user's mistakes are told, exit statuses."""

import os
from pathlib import Path
from typing import Annotated, Final, NoReturn

import typer

from config.load import load_settings
from config.mistakes import ConfigError
from config.schema import Settings

FAILED: Final = 1
MISUSED: Final = 2

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="Settings in YAML. Default: $REDCONNECT_CONFIG, else redconnect.yaml here, else built-in defaults.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def load_or_exit(config: Path | None, if_unfit: int = MISUSED) -> Settings:
    """Read the settings, or tell every mistake and leave with the exit status `if_unfit`."""
    try:
        return load_settings(config, os.environ)
    except ConfigError as error:
        for mistake in error.mistakes:
            typer.echo(str(mistake), err=True)
        raise typer.Exit(if_unfit) from error


def fail(message: str, status: int) -> NoReturn:
    """Tell in one line what is wrong, and leave with this exit status."""
    tell(message)
    raise typer.Exit(status)


def tell(message: str) -> None:
    """Say something beside the output."""
    typer.echo(f"redconnect: {message}", err=True)
