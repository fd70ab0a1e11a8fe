import contextlib
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.keys import leaves
from config.load import MAX_FILE_BYTES, load_settings
from config.mistakes import ConfigError
from config.schema import Settings

KEYS = st.sampled_from([path[-1] for path, _ in leaves()] + [path[0] for path, _ in leaves() if len(path) > 1])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(autouse=True)
def _in_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(text: str, environ: Mapping[str, str] | None = None) -> Settings:
    path = Path("settings.yaml")
    path.write_text(text, encoding="utf-8")
    return load_settings(path, environ or {})


def mistakes(text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(text, environ)
    return [str(mistake) for mistake in caught.value.mistakes]


def test_nothing_configured_means_the_defaults() -> None:
    assert load_settings(None, {}) == Settings()


def test_the_file_in_the_working_directory_is_found() -> None:
    Path("redconnect.yaml").write_text("relay: {realm: here}", encoding="utf-8")
    assert load_settings(None, {}).relay.realm == "here"


def test_the_variable_names_the_file_unless_the_caller_does() -> None:
    Path("a.yaml").write_text("relay: {realm: a}", encoding="utf-8")
    Path("b.yaml").write_text("relay: {realm: b}", encoding="utf-8")
    environ = {"REDCONNECT_CONFIG": "a.yaml"}
    assert load_settings(None, environ).relay.realm == "a"
    assert load_settings(Path("b.yaml"), environ).relay.realm == "b"


@pytest.mark.parametrize("environ", [{}, {"REDCONNECT_CONFIG": "missing.yaml"}])
def test_a_file_that_was_named_must_exist(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"missing\.yaml: no such file"):
        load_settings(None if environ else Path("missing.yaml"), environ)


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Is a directory; name a file that can be read"):
        load_settings(tmp_path, {})


def test_an_empty_file_or_section_means_the_defaults() -> None:
    assert load("") == Settings()
    assert load("# nothing\n") == Settings()
    assert load("relay:\n  quota:\nlog:\n") == Settings()


def test_a_list_becomes_a_tuple() -> None:
    assert load("relay: {udp_ports: [3478]}").relay.udp_ports == (3478,)


def test_the_environment_beats_the_file() -> None:
    environ = {"REDCONNECT_RELAY__REALM": "2026", "REDCONNECT_RELAY__UDP_PORTS": "[5000]"}
    relay = load("relay: {realm: file, tcp_ports: [5001]}", environ).relay
    assert (relay.realm, relay.udp_ports, relay.tcp_ports) == ("2026", (5000,), (5001,))


def test_a_section_that_the_environment_fills_may_be_empty_in_the_file() -> None:
    assert (
        load("relay:\n", {"REDCONNECT_RELAY__QUOTA__ALLOCATIONS_PER_USER": "3"}).relay.quota.allocations_per_user == 3
    )


def test_all_mistakes_of_file_and_environment_are_told_at_once() -> None:
    text = "relay: {relam: x, port_min: 80}\nlog: {level: loud}\nadmin: {address: nowhere}"
    environ = {"REDCONNECT_SIGNALING__PORT": "http", "REDCONNECT_REALM": "x"}
    found = [line.partition(":")[0] for line in mistakes(text, environ)]
    assert sorted(found) == [
        "REDCONNECT_REALM",
        "REDCONNECT_SIGNALING__PORT",
        "admin.address",
        "log.level",
        "relay.port_min",
        "relay.relam",
    ]


def test_mistakes_in_the_environment_are_told_although_the_file_is_missing() -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(Path("missing.yaml"), {"REDCONNECT_ADMIN__PORT": "0"})
    assert [mistake.key for mistake in caught.value.mistakes] == ["missing.yaml", "REDCONNECT_ADMIN__PORT"]


def test_a_variable_below_what_is_no_section_does_not_hide_the_mistake() -> None:
    assert mistakes("relay: 5", {"REDCONNECT_RELAY__REALM": "x"}) == [
        "relay: must be a section with keys of its own; see redconnect.example.yaml"
    ]


@pytest.mark.parametrize("text", ["- a", "just text", "5"])
def test_a_file_is_a_mapping(text: str) -> None:
    assert "not a mapping" in mistakes(text)[0]


def test_a_key_that_is_there_twice_is_a_mistake() -> None:
    assert "the key 'realm' is there twice" in mistakes("relay:\n  realm: a\n  realm: b\n")[0]


def test_a_file_is_bounded() -> None:
    assert f"longer than {MAX_FILE_BYTES} bytes" in mistakes("# " + "x" * MAX_FILE_BYTES)[0]


def test_a_file_is_utf_8() -> None:
    Path("latin.yaml").write_bytes(b"relay: {realm: \xe4}")
    with pytest.raises(ConfigError, match="not UTF-8 at byte 15"):
        load_settings(Path("latin.yaml"), {})


def test_no_value_of_a_secret_reaches_a_mistake() -> None:
    text = "secrets: {turn_secret: geheim, locator_key: [geheim]}\nrelay: {users: {a: 'geheim', b: {x: geheim}}}"
    found = mistakes(text, {"REDCONNECT_DATABASE_URL": "mysql://u:geheim@h"})
    assert len(found) == 4
    assert not any("geheim" in line for line in found)


def test_the_error_is_raised_without_the_values_that_pydantic_shows() -> None:
    with pytest.raises(ConfigError) as caught:
        load("secrets: {turn_secret: geheim}")
    assert caught.value.__suppress_context__


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=200))
def test_arbitrary_text_raises_nothing_but_config_error(text: str) -> None:
    Path("any.yaml").write_bytes(text.encode(errors="surrogatepass"))
    with contextlib.suppress(ConfigError):
        load_settings(Path("any.yaml"), {})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(sorted(Settings.model_fields)), VALUES, max_size=5))
def test_arbitrary_values_raise_nothing_but_config_error_of_one_line_each(values: dict[str, object]) -> None:
    Path("any.yaml").write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8", errors="surrogatepass")
    try:
        load_settings(Path("any.yaml"), {})
    except ConfigError as error:
        for mistake in error.mistakes:
            assert str(mistake).isprintable()
            assert len(str(mistake)) < 600
