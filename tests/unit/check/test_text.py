from hypothesis import given
from hypothesis import strategies as st

from check.text import MAX_FOREIGN_CHARACTERS, plain


def test_ordinary_text_stays_as_it_is() -> None:
    assert plain("Prüfstelle für Zertifikate – Ost") == "Prüfstelle für Zertifikate – Ost"


def test_escape_sequences_and_line_breaks_are_made_harmless() -> None:
    assert plain("\x1b[2Jgone\r\n\u202eevil\x9b") == "?[2Jgone???evil?"


@given(st.text())
def test_whatever_comes_is_short_and_printable(text: str) -> None:
    shown = plain(text)
    assert shown.isprintable()
    assert len(shown) <= MAX_FOREIGN_CHARACTERS
