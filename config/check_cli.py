"""The command `redconnect check` and its options; what it does is imported when it is called."""

import os
from pathlib import Path
from typing import Annotated

import typer

from config.command import MISUSED, fail


def check_network(  # noqa: PLR0913 - the options of one command
    host: Annotated[str, typer.Argument(metavar="HOST", help="Name of the service: HOST, HOST:PORT or https://HOST.")],
    *,
    udp_ports: Annotated[
        str | None, typer.Option(metavar="PORTS", help="Instead of those documented: 3478,3479")
    ] = None,
    tcp_ports: Annotated[
        str | None, typer.Option(metavar="PORTS", help="Instead of those documented: 3478,3479")
    ] = None,
    tls_ports: Annotated[
        str | None, typer.Option(metavar="PORTS", help="Instead of those documented: 5349,5350")
    ] = None,
    ipv4: Annotated[bool, typer.Option("--ipv4/--no-ipv4", help="Check over IPv4.")] = True,
    ipv6: Annotated[bool, typer.Option("--ipv6/--no-ipv6", help="Check over IPv6.")] = True,
    user: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Check HOST as any TURN server, as this user; asks for a password."),
    ] = None,
    password: Annotated[str | None, typer.Option(metavar="TEXT", help="Of --user; seen by others in `ps`.")] = None,
    secret_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Check HOST as any TURN server, by its shared secret; mode 0600."),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option(metavar="NETWORK", help="Source in the firewall rules. Default: this machine's address."),
    ] = None,
    language: Annotated[str | None, typer.Option(metavar="de|en", help="Default: by LANG, else German.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write one page that can be printed.")] = None,
    all_rules: Annotated[bool, typer.Option("--all-rules", help="Rules for what is open, too.")] = False,
) -> None:
    """Check which ports to a service are open from here; exit status 0 all, 1 some, 3 too few, 2 wrong use."""
    from config.check_command import CheckMisuse, CheckOptions, check  # other commands need no aiohttp

    if user is not None and password is None and secret_file is None:
        password = typer.prompt("Password", hide_input=True, err=True)
    options = CheckOptions(
        host,
        udp_ports,
        tcp_ports,
        tls_ports,
        ipv4,
        ipv6,
        user,
        password,
        secret_file,
        source,
        language,
        as_json,
        html,
        all_rules,
    )
    try:
        status = check(options, os.environ)
    except CheckMisuse as error:
        fail(str(error), MISUSED)
    raise typer.Exit(status)
