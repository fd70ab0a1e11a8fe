import json
import os
import stat
import subprocess
import sys
import types
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from config.cli import app
from config.load import load_settings
from config.schema import Settings
from config.state import State
from signaling.appointments import Tier
from signaling.codes import AccessCode
from signaling.organisations import Organisation, OrganisationBook
from stun.credentials import CredentialBook
from stun.registry import IntegrityAlgorithm

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("REDCONNECT_")]:
        monkeypatch.delenv(name)


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def run_process(*arguments: str) -> tuple[int, str, str]:
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "config", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def test_the_version_is_printed_by_command_and_option() -> None:
    assert run("version") == run("--version")
    assert run("version")[1].startswith("redconnect ")


def test_good_settings_are_ok() -> None:
    assert run("check-config") == (0, "ok\n", "")


def test_every_mistake_is_one_line_on_standard_error_and_the_status_is_2() -> None:
    Path("bad.yaml").write_text("relay: {relam: x}\nlog: {level: loud}\n", encoding="utf-8")
    status, out, err = run_process("check-config", "--config", "bad.yaml")
    assert (status, out) == (2, "")
    assert err.splitlines() == [
        "relay.relam: unknown key; did you mean `realm`?",
        'log.level: "loud" is not known; known here: debug, info, warning, error',
    ]


def test_every_contradiction_is_one_line() -> None:
    Path("bad.yaml").write_text(
        "relay: {workers: 2, mobility: true, share_with_pages: true, port_min: 60000, port_max: 50000,"
        " realm: telemedicine-clinic}\nadmin: {port: 8080}\n",
        encoding="utf-8",
    )
    status, out, err = run_process("check-config", "--config", "bad.yaml")
    assert (status, out) == (2, "")
    lines = err.splitlines()
    assert len(lines) == 4
    assert all(line.startswith("relay: ") for line in lines)
    for text in ("port_min must", "mobility needs workers: 1", "share_with_pages needs", "'telemedicine-clinic' is"):
        assert sum(text in line for line in lines) == 1, err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serve", "--foo"], "redconnect: No such option: --foo; see redconnect --help\n"),
        (["appointment", "create"], "redconnect: Missing option '--start'; see redconnect --help\n"),
        (["check-config", "--config", "x.yaml"], "x.yaml: no such file; check --config"),
        (["appointment", "create", "--start", "2027-03-28 02:30"], "redconnect: --start: there is no 02:30"),
    ],
)
def test_a_wrong_call_is_one_line_and_status_2(arguments: list[str], message: str) -> None:
    status, out, err = run_process(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_without_a_command_the_help_is_shown() -> None:
    status, out, err = run_process()
    assert status == 2
    assert "Usage: redconnect" in out + err
    assert "redconnect: " not in err


def test_effective_settings_load_again_and_mask_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDCONNECT_SECRETS__TURN_SECRET", "geheim" * 8)
    monkeypatch.setenv("REDCONNECT_RELAY__USERS", "{alice: geheim}")
    monkeypatch.setenv("REDCONNECT_RELAY__REALM", "2026")
    status, out, _ = run("check-config", "--show")
    assert status == 0
    assert "geheim" not in out
    shown = yaml.safe_load(out)
    assert shown["relay"]["realm"] == "2026"
    assert shown["relay"]["users"] == {"alice": "**********"}
    assert shown.keys() == Settings.model_fields.keys()


def test_a_credential_is_one_that_the_relay_accepts() -> None:
    status, out, _ = run("credential", "--ttl-seconds", "60", "--id", "test", "--json")
    assert status == 0
    issued = json.loads(out)
    expiry, _, identity = issued["username"].partition(":")
    assert identity == "test"
    assert datetime.fromisoformat(issued["expires"]) == datetime.fromtimestamp(int(expiry), UTC)
    secret = Path("var/turn-secret").read_bytes().strip()
    book = CredentialBook("r", {}, {"current": secret})
    other = CredentialBook("r", {issued["username"]: issued["password"]}, {})
    ((_, key),) = book.keys(issued["username"], int(expiry) - 60)
    ((_, same),) = other.keys(issued["username"], 0)
    assert key.digest(b"message", IntegrityAlgorithm.SHA1) == same.digest(b"message", IntegrityAlgorithm.SHA1)


def test_a_credential_comes_with_a_command_to_try_it() -> None:
    status, out, _ = run("credential")
    assert status == 0
    username, password, _, command = (line[11:] for line in out.splitlines())
    assert command == f"turnutils_uclient -y -p 3478 -u {username} -w {password} 127.0.0.1"


@pytest.mark.parametrize("identity", ["a b", "a:b", "", "x" * 65, "ü"])
def test_an_identity_holds_only_plain_characters(identity: str) -> None:
    assert run("credential", "--id", identity)[0] == 2


def test_an_appointment_has_two_codes_two_links_and_an_invitation() -> None:
    arguments = ["--start", "2026-12-01T14:30+01:00", "--plus", "--name-participant", "Erika Müller", "--json"]
    monday = run("appointment", "create", *arguments)
    assert monday[0] == 0, monday[2]
    created = json.loads(monday[1])
    assert created["tier"] == "plus"
    assert created["start"] == "2026-12-01T13:30:00Z"
    assert created["entry_opens"] == "2026-12-01T13:00:00Z"
    assert created["entry_closes"] == "2026-12-02T13:30:00Z"
    organiser, participant = (AccessCode.parse(created[role]["code"]) for role in ("organiser", "participant"))
    assert organiser.secret == participant.secret
    assert created["organiser"]["link"] == f"http://localhost:8080/#{organiser.compact}"
    assert created["participant"]["link"] == f"http://localhost:8080/#{participant.compact}.RXJpa2EgTcO8bGxlcg"
    assert created["participant"]["link"] in created["invitation"]["body"]
    assert created["organiser"]["code"] not in created["invitation"]["body"]
    assert stat.S_IMODE(Path("var/redconnect.sqlite3").stat().st_mode) == 0o600


def test_a_conference_has_a_code_a_link_and_an_invitation_for_each_participant() -> None:
    names = ["--name-participant", "Erika Müller", "--name-participant", "Max Mohn"]
    status, out, err = run("appointment", "create", "--start", "now", "--plus", "--participants", "3", *names, "--json")
    assert status == 0, err
    created = json.loads(out)
    guests = created["participants"]
    codes = [AccessCode.parse(seat["code"]) for seat in (created["organiser"], *guests)]
    assert len({code.locator for code in codes}) == 4
    assert len({code.secret for code in codes}) == 1
    assert created["participant"]["code"] == guests[0]["code"]
    assert created["invitation"] == guests[0]["invitation"]
    salutations = [guest["invitation"]["body"].splitlines()[0] for guest in guests]
    assert salutations == ["Guten Tag Erika Müller,", "Guten Tag Max Mohn,", "Guten Tag,"]
    for guest in guests:
        others = [other["code"] for other in (created["organiser"], *guests) if other is not guest]
        assert guest["link"] in guest["invitation"]["body"]
        assert not any(code in guest["invitation"]["body"] for code in others)


def test_a_conference_for_people_names_whose_text_is_whose() -> None:
    status, out, _ = run("appointment", "create", "--start", "now", "--plus", "--participants", "2")
    assert status == 0
    assert out.count("\nBetreff: ") == 2
    assert out.index("Text for an e-mail to participant 1:") < out.index("Text for an e-mail to participant 2:")


@pytest.mark.parametrize(
    ("arguments", "message", "status"),
    [
        (["--participants", "2"], "--participants above 1 needs --plus", 2),
        (["--plus", "--participants", "20"], "less than or equal to 19", 2),
        (["--name-participant", "a", "--name-participant", "b"], "--name-participant is given more often", 2),
        (["--plus", "--participants", "8"], "at most 8 people may meet", 1),
    ],
)
def test_a_conference_that_cannot_be_is_refused(arguments: list[str], message: str, status: int) -> None:
    done, out, err = run_process("appointment", "create", "--start", "now", *arguments)
    assert (done, out) == (status, "")
    assert message in err


def test_an_appointment_for_people_is_plain_text_in_a_pipe() -> None:
    status, out, err = run("appointment", "create", "--start", "now")
    assert (status, err) == (0, "")
    assert "Organiser    " in out
    assert "\nBetreff: Ihre Videosprechstunde am " in out
    assert "\x1b" not in out


def test_appointments_of_this_machine_are_listed_moved_and_cancelled() -> None:
    later = f"{datetime.now(UTC).year + 1}-12-01 14:30"
    first = json.loads(run("appointment", "create", "--start", later, "--json")[1])
    second = json.loads(run("appointment", "create", "--start", "now", "--plus", "--json")[1])
    assert [line[:32] for line in run("appointment", "list")[1].splitlines()] == [second["id"], first["id"]]
    status, out, err = run("appointment", "move", first["id"], "--start", "now", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["start"] != first["start"]
    assert run("appointment", "cancel", second["id"]) == (0, "", "")
    listed = json.loads(run("appointment", "list", "--json")[1])
    assert [entry["id"] for entry in listed] == [first["id"]]
    status, out, err = run("appointment", "cancel", second["id"])
    assert (status, out) == (1, "")
    assert err.startswith("redconnect: there is no such appointment")


def test_a_drawn_token_is_the_one_whose_hash_the_settings_get() -> None:
    status, out, err = run("organisation", "token", "practice", "--tier", "plus")
    assert (status, err) == (0, "")
    token = out.split()[1]
    settings = out[out.index("signaling:") :]
    Path("redconnect.yaml").write_text(settings, encoding="utf-8")
    assert run("check-config") == (0, "ok\n", "")
    known = load_settings(None, {}).signaling.organisations
    assert OrganisationBook(known).authenticate(f"Bearer {token}") == Organisation("practice", Tier.PLUS)
    assert out.count(token) == 1
    assert run("organisation", "token", "practice")[1] != out
    assert token not in "".join(path.read_text() for path in Path().iterdir() if path.is_file())


@pytest.mark.parametrize("name", ["", "a b", "ä", "x" * 65, "a\nb"])
def test_an_organisation_has_a_plain_name(name: str) -> None:
    status, out, err = run("organisation", "token", name)
    assert (status, out) == (2, "")
    assert err.startswith("redconnect: NAME takes")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--server", "https://video.example.org"], "--server needs --token-file"),
        (["--token-file", "token"], "--token-file needs --server"),
        (["--server", "https://x.example", "--token-file", "t", "--config", "c.yaml"], "takes no --config"),
        (["--server", "https://video.example.org", "--token-file", "none"], "none: No such file"),
        (["--server", "http://video.example.org", "--token-file", "token"], "must not travel unencrypted"),
    ],
)
def test_a_server_and_a_token_come_together(arguments: list[str], message: str) -> None:
    Path("token").touch(mode=0o600)
    Path("token").write_text("t" * 43)
    status, out, err = run("appointment", "list", *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_an_appointment_that_is_over_is_refused() -> None:
    status, _, err = run("appointment", "create", "--start", "2026-01-01 10:00")
    assert status == 2
    assert "the codes would have ended at 2026-01-02T09:00:00Z" in err


@pytest.mark.parametrize("name", ["x" * 101, "a\nb", "a\x1bb"])
def test_a_name_is_short_and_printable(name: str) -> None:
    status, _, err = run("appointment", "create", "--start", "now", "--name-organiser", name)
    assert status == 2
    assert err.startswith("redconnect: --name-organiser takes at most 100")


def test_a_database_that_cannot_be_opened_is_one_line_and_status_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDCONNECT_DATABASE_URL", "sqlite+aiosqlite:////nowhere/at/all")
    status, _, err = run("appointment", "create", "--start", "now")
    assert status == 1
    assert err.startswith("redconnect: the appointment store cannot be opened: ")
    assert err.count("\n") == 1


def test_an_unfit_state_is_one_line_and_status_1() -> None:
    assert run("credential")[0] == 0
    Path("var/turn-secret").chmod(0o644)
    status, _, err = run("credential")
    assert status == 1
    assert err.count("\n") == 1


def test_serving_hands_settings_and_state_to_the_assembly(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Settings, State, bool]] = []

    def run_service(settings: Settings, state: State, load: Callable[[], Settings], *, demo: bool) -> int:
        assert load() == settings
        calls.append((settings, state, demo))
        return 7

    assembly = types.ModuleType("config.assembly")
    monkeypatch.setattr(assembly, "run_service", run_service, raising=False)
    monkeypatch.setitem(sys.modules, "config.assembly", assembly)
    monkeypatch.setattr("config.cli.configure_logging", lambda _settings: None)
    assert run("serve", "--demo")[0] == 7
    ((settings, state, demo),) = calls
    assert settings == Settings()
    assert state.directory == Path("var").absolute()
    assert demo


def test_serving_warns_once_of_settings_that_others_can_read(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    assembly = types.ModuleType("config.assembly")
    monkeypatch.setattr(assembly, "run_service", lambda *_, **__: 0, raising=False)
    monkeypatch.setitem(sys.modules, "config.assembly", assembly)
    monkeypatch.setattr("config.cli.configure_logging", lambda _settings: None)
    for folder in (tmp_path, *tmp_path.parents):  # pytest's own are closed to others
        if folder.name.startswith(("pytest-", "test_")):
            folder.chmod(0o755)
    file = tmp_path / "redconnect.yaml"
    file.write_text("relay: {users: {alice: wonderland}}")
    warned = []
    for mode in (0o640, 0o644):
        file.chmod(mode)
        caplog.clear()
        assert run("serve")[0] == 0
        warned.append([record.getMessage() for record in caplog.records if record.name == "config.cli"])
    assert warned[0] == []
    (line,) = warned[1]
    assert "can be read by others" in line and "chmod 640" in line and "wonderland" not in line


def test_a_demo_needs_signaling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDCONNECT_SERVICES", "[relay]")
    status, _, err = run("serve", "--demo")
    assert (status, err) == (2, "redconnect: --demo needs `signaling` among the services\n")
