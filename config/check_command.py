"""`redconnect check`: from the options of the command line to a report, and back to an exit status."""

import asyncio
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console

from check.findings import Report, to_json
from check.firewall import SourceError, parse_source
from check.io.run import Request, run_check
from check.io.terminal import LiveProgress, show
from check.languages import WORDS, choose_language
from check.page import to_page
from check.plan import Family, PlanError, Ports, parse_ports
from check.target import TargetError, parse_target
from check.view import summary_text
from config.state import StateError, read_private
from stun.credentials import Credential, issue_credential

CREDENTIAL_SECONDS: Final = 120  # of one made from --secret-file: the check and clocks that differ a little


class CheckMisuse(Exception):
    """The options make no sense; the message says in one line what would."""


@dataclass(frozen=True)
class CheckOptions:
    """What was typed."""

    host: str
    udp_ports: str | None = None
    tcp_ports: str | None = None
    tls_ports: str | None = None
    ipv4: bool = True
    ipv6: bool = True
    user: str | None = None
    password: str | None = None
    secret_file: Path | None = None
    source: str | None = None
    language: str | None = None
    as_json: bool = False
    html: Path | None = None
    all_rules: bool = False


def check(options: CheckOptions, environment: Mapping[str, str]) -> int:
    """Run the check, show the report, return the exit status.

    Raises:
        CheckMisuse: the options make no sense, or the page cannot be written.
    """
    request = _request(options, environment)
    words = WORDS[request.language]
    if options.html is not None:
        _write(options.html, "", mode="a")  # a path that cannot be written to is told now, not after half a minute
    with LiveProgress(Console(stderr=True), words) as progress:
        report = asyncio.run(run_check(request, progress))
    report.summary.text = summary_text(report, words)
    if options.html is not None:
        _write(options.html, to_page(report, words, is_complete=options.all_rules))
    _print(report, options)
    return report.summary.exit_status


def _print(report: Report, options: CheckOptions) -> None:
    if options.as_json:
        Console(highlight=False, markup=False, soft_wrap=True).out(to_json(report), end="", highlight=False)
    else:
        show(report, WORDS[report.language], Console(highlight=False), is_complete=options.all_rules)


def _request(options: CheckOptions, environment: Mapping[str, str]) -> Request:
    try:
        target = parse_target(options.host)
        source = None if options.source is None else parse_source(options.source)
    except (TargetError, SourceError) as error:
        raise CheckMisuse(str(error)) from error
    families = [family for family, wanted in ((Family.IPV4, options.ipv4), (Family.IPV6, options.ipv6)) if wanted]
    if not families:
        raise CheckMisuse("--no-ipv4 and --no-ipv6 together leave nothing to check")
    language = options.language or choose_language(environment)
    if language not in WORDS:
        raise CheckMisuse(f"--language takes {' or '.join(WORDS)}")
    return Request(target, language, families, _ports(options), _credential(options), source)


def _ports(options: CheckOptions) -> Ports | None:
    """None if no option names any; those of a transport that no option names are the documented ones."""
    given = {"udp": options.udp_ports, "tcp": options.tcp_ports, "tls": options.tls_ports}
    if all(text is None for text in given.values()):
        return None
    chosen: dict[str, tuple[int, ...]] = {}
    for name, text in given.items():
        if text is not None:
            try:
                chosen[name] = parse_ports(text)
            except PlanError as error:
                raise CheckMisuse(f"--{name}-ports: {error}") from error
    ports = Ports(**chosen)
    if not any(ports):
        raise CheckMisuse("name at least one port")
    return ports


def _credential(options: CheckOptions) -> Credential | None:
    if options.secret_file is not None:
        if options.user is not None or options.password is not None:
            raise CheckMisuse("--secret-file takes neither --user nor --password")
        return _issue(options.secret_file)
    if options.user is None and options.password is None:
        return None
    if not options.user or options.password is None:
        raise CheckMisuse("--user and --password belong together")
    return Credential(options.user, options.password)


def _issue(secret_file: Path) -> Credential:
    try:
        secret = read_private(secret_file).strip()
        return issue_credential(secret, int(time.time()) + CREDENTIAL_SECONDS, f"check-{secrets.token_hex(4)}")
    except OSError as error:
        raise CheckMisuse(f"{secret_file}: {error.strerror or type(error).__name__}") from error
    except (StateError, ValueError) as error:
        raise CheckMisuse(f"{secret_file}: {error}") from error


def _write(path: Path, text: str, mode: str = "w") -> None:
    try:
        with path.open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise CheckMisuse(f"--html: {path}: {error.strerror or type(error).__name__}") from error
