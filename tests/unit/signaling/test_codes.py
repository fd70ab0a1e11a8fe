import base64
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.codes import (
    ALPHABET,
    AccessCode,
    InvalidCode,
    check_symbol,
    link,
    locator_from,
    normalise,
    secret_from,
)

CODES = st.builds(
    AccessCode,
    st.integers(0, 2**30 - 1).map(locator_from),
    st.integers(0, 2**25 - 1).map(secret_from),
)


def test_the_alphabet_is_crockfords() -> None:
    assert len(ALPHABET) == 32
    assert not set(ALPHABET) & set("ILOU")


def test_check_symbol_follows_the_written_formula() -> None:
    # c = 0, then c = 2·(c xor v): 1 becomes 2, 4, 8, 16, then 32 reduced to 5.
    assert [check_symbol("1" + "0" * zeros) for zeros in range(5)] == ["2", "4", "8", "G", "5"]


def test_a_known_code_is_shown_as_printed() -> None:
    code = AccessCode.compose("AB12CD", "34EFG")
    assert code.display == f"AB12-CD34-EFG{code.check}"
    assert code.compact == code.display.replace("-", "")


@given(CODES)
def test_every_code_reads_back(code: AccessCode) -> None:
    assert AccessCode.parse(code.display) == AccessCode.parse(code.compact) == code


@given(CODES, st.integers(0, 11), st.sampled_from(ALPHABET))
def test_every_wrong_symbol_is_found(code: AccessCode, position: int, symbol: str) -> None:
    right = code.compact
    wrong = right[:position] + symbol + right[position + 1 :]
    if wrong == right:
        assert AccessCode.parse(wrong) == code
    else:
        with pytest.raises(InvalidCode, match="check symbol"):
            AccessCode.parse(wrong)


@given(CODES, st.integers(0, 10))
def test_every_swap_of_neighbours_is_found(code: AccessCode, position: int) -> None:
    right = code.compact
    wrong = right[:position] + right[position + 1] + right[position] + right[position + 2 :]
    if wrong == right:
        assert AccessCode.parse(wrong) == code
    else:
        with pytest.raises(InvalidCode, match="check symbol"):
            AccessCode.parse(wrong)


@given(CODES, st.data())
def test_case_spaces_dashes_and_lookalikes_do_not_matter(code: AccessCode, data: st.DataObject) -> None:
    lookalikes = {"0": "0Oo", "1": "1IiLl"}
    typed = ""
    for symbol in code.compact:
        typed += data.draw(st.sampled_from(lookalikes.get(symbol, symbol + symbol.lower())))
        typed += data.draw(st.sampled_from(["", " ", "-", "\u2013", "\u00a0"]))
    assert AccessCode.parse(typed) == code


@pytest.mark.parametrize("text", ["\u00df", "\u0131", "\u017f", "U", "u", "\u0661", "\uff21", "A" * 65, "\x00"])
def test_a_strange_character_is_no_symbol(text: str) -> None:
    with pytest.raises(InvalidCode):
        normalise(text)


@given(st.text(max_size=80))
def test_parse_raises_nothing_but_its_own_error(text: str) -> None:
    with contextlib.suppress(InvalidCode):
        assert AccessCode.parse(text).compact == normalise(text)


def test_the_error_does_not_repeat_the_code() -> None:
    with pytest.raises(InvalidCode) as caught:
        AccessCode.parse("AB12-CD34-EFGH")
    assert "EFG" not in str(caught.value)


@pytest.mark.parametrize("length", [0, 11, 13])
def test_a_code_has_twelve_symbols(length: int) -> None:
    with pytest.raises(InvalidCode, match="not 12"):
        AccessCode.parse("0" * length)


@pytest.mark.parametrize(("locator", "secret"), [("00000", "00000"), ("000000", "0000"), ("00000O", "00000")])
def test_compose_takes_only_whole_parts(locator: str, secret: str) -> None:
    with pytest.raises(InvalidCode):
        AccessCode.compose(locator, secret)


def test_entropy_must_fit() -> None:
    assert locator_from(2**30 - 1) == "ZZZZZZ"
    assert secret_from(1) == "00001"
    for entropy in (-1, 2**30):
        with pytest.raises(ValueError, match="30 bits"):
            locator_from(entropy)
    with pytest.raises(ValueError, match="25 bits"):
        secret_from(2**25)


@given(CODES)
def test_repr_shows_no_part_of_a_code(code: AccessCode) -> None:
    assert repr(code) == "AccessCode()"


@given(CODES, st.text(max_size=100).filter(lambda name: name.isprintable()))
def test_link_keeps_code_and_name_in_the_fragment(code: AccessCode, name: str) -> None:
    base, _, fragment = link("https://example.org/", code, name).partition("#")
    assert base == "https://example.org/"
    written, _, encoded = fragment.partition(".")
    assert AccessCode.parse(written) == code
    assert base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode() == name


def test_link_refuses_an_endless_name() -> None:
    with pytest.raises(ValueError, match="100"):
        link("https://example.org", AccessCode.compose("000000", "00000"), "x" * 101)
