"""How a command tells its user what is wrong: one line on standard error, and an exit status."""

from typing import Final, NoReturn

import typer

FAILED: Final = 1
MISUSED: Final = 2


def fail(message: str, status: int) -> NoReturn:
    """Tell what is wrong and leave the command with a status.

    Raises:
        Exit: always.
    """
    tell(message)
    raise typer.Exit(status)


def tell(message: str) -> None:
    """Print one line to standard error."""
    typer.echo(f"redconnect: {message}", err=True)
