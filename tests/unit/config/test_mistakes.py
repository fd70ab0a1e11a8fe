import pytest
from pydantic import ValidationError

from config.mistakes import MAX_MISTAKES, ConfigError, Mistake, explain, suggest
from config.schema import Settings


def lines(text: str, variables: dict[tuple[int | str, ...], str] | None = None) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate_json(text, strict=True)
    return [str(mistake) for mistake in explain(caught.value, variables or {})]


def test_a_mistake_is_one_line_of_key_reason_and_mend() -> None:
    assert str(Mistake("relay.relam", "unknown key", "did you mean `realm`?")) == (
        "relay.relam: unknown key; did you mean `realm`?"
    )


def test_an_error_lists_every_mistake() -> None:
    error = ConfigError([Mistake("a", "b", "c"), Mistake("d", "e", "f")])
    assert str(error) == "a: b; c\nd: e; f"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"relay": {"relam": "x"}}', "relay.relam: unknown key; did you mean `realm`?"),
        ('{"singaling": {}}', "singaling: unknown key; did you mean `signaling`?"),
        ('{"log": {"zzz": 1}}', "log.zzz: unknown key; known here: format, level"),
        (
            '{"admin": {"port": 70000}}',
            "admin.port: 70000 is above 65535; allowed is 1 to 65535, the default is 9641",
        ),
        (
            '{"relay": {"udp_ports": [3478, 0]}}',
            "relay.udp_ports[1]: 0 is below 1; allowed is 1 to 65535, the default is [3478, 3479]",
        ),
        (
            '{"admin": {"port": "9641"}}',
            'admin.port: must be a whole number, not "9641"; allowed is 1 to 65535, the default is 9641',
        ),
        ('{"relay": {"realm": 2026}}', "relay.realm: must be text, not 2026; put it in quotes"),
        ('{"relay": {"realm": null}}', 'relay.realm: must be text, not nothing; the default is "redconnect"'),
        ('{"log": {"format": "jsno"}}', 'log.format: "jsno" is not known; did you mean `json`?'),
        ('{"log": []}', "log: must be a section with keys of its own; see redconnect.example.yaml"),
        ('{"state_dir": ""}', 'state_dir: is empty; the default is "var"'),
        (
            '{"relay": {"port_min": 60000, "port_max": 50000}}',
            "relay: port_min must not lie above port_max; see redconnect.example.yaml",
        ),
        (
            '{"signaling": {"port": 9641}}',
            "admin.port: TCP port 9641 is also taken by signaling.port; choose different ports",
        ),
    ],
)
def test_what_is_wrong_is_told_in_words(text: str, line: str) -> None:
    assert lines(text) == [line]


@pytest.mark.parametrize(
    "text",
    [
        '{"secrets": {"turn_secret": "geheim"}}',
        '{"secrets": {"turn_secret": ["geheim"]}}',
        '{"secrets": "geheim"}',
        '{"secrets": {"turn_secert": "geheim"}}',
        '{"relay": {"users": {"alice": ["geheim"]}}}',
        '{"relay": {"users": "geheim"}}',
        '{"database_url": "mysql://user:geheim@host"}',
    ],
)
def test_a_secret_is_never_repeated(text: str) -> None:
    found = lines(text)
    assert len(found) == 1
    assert "geheim" not in found[0]


def test_a_number_for_a_password_is_asked_for_in_quotes_without_being_shown() -> None:
    assert lines('{"relay": {"users": {"alice": 815}}}') == ["relay.users.alice: must be text; put it in quotes"]


def test_a_key_from_the_environment_is_told_by_its_variable() -> None:
    found = lines('{"relay": {"udp_ports": [0]}}', {("relay", "udp_ports"): "REDCONNECT_RELAY__UDP_PORTS"})
    assert found[0].startswith("REDCONNECT_RELAY__UDP_PORTS[0]: 0 is below 1")


def test_a_strange_key_cannot_break_the_line() -> None:
    assert lines('{"a\\nb": 1}')[0].startswith('"a\\nb": unknown key')


def test_there_is_a_bound_on_what_is_told() -> None:
    ports = ", ".join(["0"] * (MAX_MISTAKES + 5))
    found = lines(f'{{"relay": {{"udp_ports": [{ports}]}}}}')
    assert len(found) == MAX_MISTAKES + 1
    assert found[-1] == "…: 5 more mistakes; mend those above first"


def test_without_a_near_word_all_are_listed() -> None:
    assert suggest("zzz", ["relay", "log"]) == "known here: relay, log"
