import pytest
import typer

from config.command import MISUSED, fail, tell


def test_what_is_wrong_is_one_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    tell("no such thing")
    assert capsys.readouterr() == ("", "redconnect: no such thing\n")


def test_a_command_that_fails_ends_with_its_status(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        fail("call it differently", MISUSED)
    assert ended.value.exit_code == 2
    assert capsys.readouterr().err == "redconnect: call it differently\n"
