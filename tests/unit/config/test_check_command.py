import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from check.findings import Report
from check.io.run import Request
from check.plan import Family, Ports, Purpose
from check.target import Target
from config import check_command
from config.cli import app
from tests.support.check_samples import all_open, report_of

SECRET = "a shared secret of thirty-two bytes, or more"


@pytest.fixture(autouse=True)
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Request]:
    """What would have been run; the network is left alone, and all is well."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name in {"LANG", "LC_ALL", "LC_MESSAGES"}]:
        monkeypatch.delenv(name)
    requests: list[Request] = []

    async def run(request: Request, _progress: Any) -> Report:  # noqa: ANN401
        requests.append(request)
        report = report_of(all_open())
        report.language = request.language
        return report

    monkeypatch.setattr(check_command, "run_check", run)
    return requests


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["check", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_a_host_alone_is_checked_over_both_families_with_what_it_documents(asked: list[Request]) -> None:
    status, out, _ = run("video.example.org")
    assert status == 0
    assert "Videosprechstunde möglich: ja" in out
    (request,) = asked
    assert request.target == Target("video.example.org", 443)
    assert list(request.families) == [Family.IPV4, Family.IPV6]
    assert (request.ports, request.credential, request.source) == (None, None, None)


def test_the_language_is_an_option() -> None:
    assert "Video consultation possible: yes" in run("video.example.org", "--language", "en")[1]


def test_ports_that_are_not_named_are_the_documented_ones(asked: list[Request]) -> None:
    run("video.example.org", "--udp-ports", "443,3478", "--tls-ports", "")
    assert asked[0].ports == Ports(udp=(443, 3478), tls=())


def test_json_is_all_that_is_printed_and_has_the_verdict_in_words() -> None:
    status, out, _ = run("video.example.org", "--json", "--language", "en")
    report = json.loads(out)
    assert (status, report["summary"]["text"]) == (0, "Video consultation possible: yes")
    assert report["rows"][0]["purpose"] == Purpose.PAGES.value


def test_a_page_is_written_beside_what_is_printed() -> None:
    assert run("video.example.org", "--html", "report.html")[0] == 0
    assert "Videosprechstunde möglich: ja" in Path("report.html").read_text()


def test_a_shared_secret_makes_a_credential_that_soon_expires(asked: list[Request]) -> None:
    Path("secret").write_text(f"{SECRET}\n")
    Path("secret").chmod(0o600)
    assert run("video.example.org", "--secret-file", "secret")[0] == 0
    credential = asked[0].credential
    assert credential is not None and re.fullmatch(r"\d+:check-[0-9a-f]{8}", credential.username)


def test_the_password_of_a_user_is_asked_for_and_not_shown(asked: list[Request]) -> None:
    result = CliRunner().invoke(app, ["check", "video.example.org", "--user", "alice"], input="secret\n")
    assert result.exit_code == 0
    assert asked[0].credential == ("alice", "secret")
    assert "secret" not in result.stdout + result.stderr


MISTAKES = {
    "no host": (("a b",), "'a b' is no host; write a name such as video.example.org, or its address"),
    "no port": (("h", "--udp-ports", "x"), "--udp-ports: 'x' is no port; allowed is 1 to 65535"),
    "no ports": (("h", "--udp-ports", "", "--tcp-ports", "", "--tls-ports", ""), "name at least one port"),
    "no family": (("h", "--no-ipv4", "--no-ipv6"), "--no-ipv4 and --no-ipv6 together leave nothing to check"),
    "no network": (("h", "--source", "lan"), "write a network such as 192.0.2.0/24 or 2001:db8::/64"),
    "no language": (("h", "--language", "fr"), "--language takes de or en"),
    "a password without a user": (("h", "--password", "x"), "--user and --password belong together"),
    "two credentials": (
        ("h", "--user", "u", "--password", "p", "--secret-file", "s"),
        "--secret-file takes neither --user nor --password",
    ),
    "no secret": (("h", "--secret-file", "nowhere"), "nowhere: No such file or directory"),
    "no folder": (("h", "--html", "nowhere/x.html"), "--html: nowhere/x.html: No such file or directory"),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_wrong_use_is_told_in_one_line_and_nothing_is_sent(
    arguments: tuple[str, ...], message: str, asked: list[Request]
) -> None:
    assert run(*arguments) == (2, "", f"redconnect: {message}\n")
    assert asked == []


def test_a_short_secret_and_one_that_others_can_read_are_refused(asked: list[Request]) -> None:
    Path("secret").write_text("short")
    Path("secret").chmod(0o600)
    assert "at least 32 bytes" in run("h", "--secret-file", "secret")[2]
    Path("secret").chmod(0o644)
    assert "can be read or changed by others" in run("h", "--secret-file", "secret")[2]
    assert asked == []
