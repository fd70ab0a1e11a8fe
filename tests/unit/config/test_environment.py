import pytest

from config.environment import read_environment, variable_of
from config.keys import leaves


def value_of(variable: str, text: str) -> object:
    overrides, mistakes = read_environment({variable: text})
    assert not mistakes
    return overrides[0].value


def mistake_of(variable: str, text: str) -> str:
    overrides, mistakes = read_environment({variable: text})
    assert not overrides
    return str(mistakes[0])


def test_every_key_has_a_variable_of_its_own() -> None:
    variables = [variable_of(path) for path, _ in leaves()]
    assert len(set(variables)) == len(variables)
    assert "REDCONNECT_SIGNALING__ICE__HOST" in variables


@pytest.mark.parametrize("text", ["2026", "true", "a: b", "x#y", "'quoted'", "*", ""])
def test_a_text_is_taken_as_it_is(text: str) -> None:
    assert value_of("REDCONNECT_SECRETS__TURN_SECRET", text) == text
    assert value_of("REDCONNECT_RELAY__REALM", text) == text


def test_everything_else_is_yaml() -> None:
    assert value_of("REDCONNECT_RELAY__UDP_PORTS", "[3478]") == [3478]
    assert value_of("REDCONNECT_SIGNALING__HTTPS", "true") is True
    assert value_of("REDCONNECT_RELAY__USERS", "{alice: wonder}") == {"alice": "wonder"}


def test_variables_of_others_are_none_of_our_business() -> None:
    assert read_environment({"PATH": "/bin", "REDCONNECTED": "1", "REDCONNECT_CONFIG": "x.yaml"}) == ([], [])


def test_a_misspelt_variable_is_a_mistake_with_a_suggestion() -> None:
    message = mistake_of("REDCONNECT_RELAY__RELAM", "x")
    assert message == "REDCONNECT_RELAY__RELAM: unknown variable; did you mean `REDCONNECT_RELAY__REALM`?"


def test_a_single_underscore_between_the_levels_is_understood() -> None:
    assert "`REDCONNECT_ADMIN__PORT`" in mistake_of("REDCONNECT_ADMIN_PORT", "1")


def test_a_section_cannot_be_set_as_a_whole() -> None:
    assert "set its keys one by one, such as REDCONNECT_LOG__FORMAT" in mistake_of("REDCONNECT_LOG", "{}")


def test_a_value_that_is_not_yaml_is_not_repeated() -> None:
    message = mistake_of("REDCONNECT_RELAY__USERS", "{alice: 'geheim")
    assert message.startswith("REDCONNECT_RELAY__USERS: not YAML: line 1")
    assert "geheim" not in message


def test_bytes_that_are_not_utf_8_are_a_mistake() -> None:
    assert "not UTF-8" in mistake_of("REDCONNECT_RELAY__REALM", b"\xff".decode(errors="surrogateescape"))


def test_a_value_is_bounded() -> None:
    assert "longer than" in mistake_of("REDCONNECT_RELAY__REALM", "x" * 70_000)
