import dataclasses
import string
from collections.abc import Mapping

import pytest

from check.findings import Outcome, RowVerdict, SummaryCode
from check.languages import WORDS, choose_language

LOCALES = {
    "de_DE.UTF-8": "de",
    "de_AT": "de",
    "en_GB.UTF-8": "en",
    "fr_FR.UTF-8": "en",
    "C.UTF-8": "de",
    "C": "de",
    "POSIX": "de",
    "": "de",
}


@pytest.mark.parametrize(("locale", "language"), LOCALES.items())
def test_the_language_follows_lang(locale: str, language: str) -> None:
    assert choose_language({"LANG": locale}) == language


def test_lc_all_beats_lang() -> None:
    assert choose_language({"LANG": "de_DE", "LC_ALL": "en_US.UTF-8"}) == "en"
    assert choose_language({}) == "de"


@pytest.mark.parametrize("language", WORDS)
def test_every_finding_has_a_word(language: str) -> None:
    words = WORDS[language]
    assert set(words.summaries) == set(SummaryCode)
    assert set(words.verdicts) == set(words.meanings) == set(RowVerdict)
    assert set(words.outcomes) == set(Outcome)


def test_both_languages_fill_in_the_same_gaps() -> None:
    german, english = WORDS["de"], WORDS["en"]
    for field in dataclasses.fields(german):
        here, there = getattr(german, field.name), getattr(english, field.name)
        if isinstance(here, Mapping):
            assert {key: gaps(text) for key, text in here.items()} == {key: gaps(text) for key, text in there.items()}
        else:
            assert gaps(here) == gaps(there), field.name


def gaps(text: str) -> set[str | None]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
