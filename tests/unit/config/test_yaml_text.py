import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.yaml_text import MAX_DEPTH, YamlError, read_yaml

YAML_LIKE = st.text(alphabet=st.sampled_from("ab01:,-[]{}&*!|>%@`'\"#~?. \n\t\\xuUe+_=<\ud800é"), max_size=80)


def mistake(text: str) -> str:
    with pytest.raises(YamlError) as caught:
        read_yaml(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("null", None),
        ("~", None),
        ("", None),
        ("3478", 3478),
        ("-0x1f", "-0x1f"),
        ("0x1f", 31),
        ("1.5e3", 1500.0),
        ("1e3", 1000.0),
        ('"3478"', "3478"),
        ("[3478, 3479]", [3478, 3479]),
        ("{a: 1}", {"a": 1}),
    ],
)
def test_plain_values_follow_the_core_schema(text: str, value: object) -> None:
    assert read_yaml(text) == value


@pytest.mark.parametrize("text", ["no", "on", "12:30", "0b1", "2026-12-01", "1_000", "=", "<<"])
def test_what_yaml_1_1_would_turn_into_something_else_stays_text(text: str) -> None:
    assert read_yaml(text) == text


def test_a_leading_zero_does_not_make_a_number_octal() -> None:
    assert read_yaml("0123") == 123


def test_keys_are_text_as_they_stand() -> None:
    assert read_yaml("{1234: a, true: b}") == {"1234": "a", "true": "b"}


def test_a_key_that_is_there_twice_is_a_mistake() -> None:
    assert mistake("a: 1\nb: 2\na: 3") == "line 3: the key 'a' is there twice"


@pytest.mark.parametrize("text", ["a: &geheim 1", "a: *geheim", "a: !geheim b", "a: !!python/object:geheim {}"])
def test_anchors_and_tags_are_refused_without_being_repeated(text: str) -> None:
    message = mistake(text)
    assert message.startswith("line 1: ")
    assert "geheim" not in message


@pytest.mark.parametrize("text", ["a: !geheim!x b", "a: %geheim", "a: 'geheim", "a: @geheim", 'a: "geheim\\q"', "a: ]"])
def test_bad_syntax_is_told_by_its_place_and_never_quotes_a_value(text: str) -> None:
    message = mistake(text)
    assert message.startswith("line 1, column ")
    assert "geheim" not in message


def test_values_nest_to_a_bound() -> None:
    assert f"more than {MAX_DEPTH}" in mistake("[" * 100_000)


def test_a_number_that_python_does_not_convert_is_a_mistake() -> None:
    assert mistake("a: " + "9" * 5000) == "line 1: a number of 5000 digits"


@pytest.mark.parametrize(
    "text", ['"\\UFFFFFFFF"', '"\\ud800"', "%YAML " + "9" * 5000 + ".1\n---\na", "\x00", "? [a]\n: b"]
)
def test_nonsense_is_a_mistake(text: str) -> None:
    assert mistake(text)


@given(st.text(max_size=200) | YAML_LIKE)
def test_arbitrary_text_raises_nothing_but_its_own_error(text: str) -> None:
    with contextlib.suppress(YamlError):
        read_yaml(text)
