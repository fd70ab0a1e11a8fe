"""Text from the network, made fit to be shown: no control characters, never long."""

from typing import Final

MAX_FOREIGN_CHARACTERS: Final = 80
_CUT: Final = "…"


def plain(text: str, limit: int = MAX_FOREIGN_CHARACTERS) -> str:
    """Text of a stranger in one line, at most `limit` characters, each of which a terminal just shows.

    Escape sequences, line breaks and marks that turn the direction of writing become "?": they could rewrite what
    stands on the screen already.
    """
    shown = "".join(each if each.isprintable() else "?" for each in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + _CUT
