"""German and English: which one, and its words."""

from collections.abc import Mapping
from typing import Final

from check.words import Words
from check.words_de import DE
from check.words_en import EN

WORDS: Final[Mapping[str, Words]] = {words.language: words for words in (DE, EN)}
_VARIABLES: Final = ("LC_ALL", "LC_MESSAGES", "LANG")  # in the order in which they count (POSIX §8.2)
_NO_LANGUAGE: Final = frozenset({"", "C", "POSIX"})


def choose_language(environment: Mapping[str, str]) -> str:
    """German, unless the environment names another language: German is the first language here."""
    locale = next((environment[name] for name in _VARIABLES if environment.get(name)), "")
    name = locale.partition(".")[0].partition("@")[0]
    return "de" if name in _NO_LANGUAGE or name.lower().startswith("de") else "en"
