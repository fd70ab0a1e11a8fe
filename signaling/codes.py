"""Access codes: what a participant types or follows (docs/signaling.md, "Access codes")."""

import base64
from dataclasses import dataclass, field
from typing import Self

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LOCATOR_SYMBOLS = 6
SECRET_SYMBOLS = 5
CODE_SYMBOLS = LOCATOR_SYMBOLS + SECRET_SYMBOLS + 1
LOCATOR_BITS = 5 * LOCATOR_SYMBOLS
SECRET_BITS = 5 * SECRET_SYMBOLS
MAX_TYPED_CHARACTERS = 64  # twelve symbols and generous spacing
MAX_NAME_CHARACTERS = 100

_VALUES = {symbol: value for value, symbol in enumerate(ALPHABET)}
_IGNORED = " \t\r\n\u00a0\u202f\u2009-\u2010\u2011\u2012\u2013\u2014\u2212"
# Only ASCII is folded: str.upper() would turn a dotless i or a long s into a symbol of the alphabet.
_FOLD = str.maketrans(
    {
        **{symbol.lower(): symbol for symbol in ALPHABET if symbol.isalpha()},
        **dict.fromkeys("Oo", "0"),
        **dict.fromkeys("IiLl", "1"),
        **dict.fromkeys(_IGNORED),
    }
)
_REDUCTION = 0b100101  # x^5 + x^2 + 1, primitive: its root has order 31, more than the length of a code


class InvalidCode(ValueError):
    """The text is no access code. The message never repeats it, because most of it may be right."""


def normalise(text: str) -> str:
    """Fold what people type to symbols: upper case, no spaces or dashes, O as 0, I and L as 1.

    Raises:
        InvalidCode: a character is left that is no symbol, or the text is far too long.
    """
    if len(text) > MAX_TYPED_CHARACTERS:
        raise InvalidCode(f"{len(text)} characters, at most {MAX_TYPED_CHARACTERS} are read")
    folded = text.translate(_FOLD)
    if not all(symbol in _VALUES for symbol in folded):
        raise InvalidCode("a character that no code contains")
    return folded


def check_symbol(symbols: str) -> str:
    """Compute the check symbol over the eleven others: `c = 2·(c xor v)` in GF(2⁵) modulo x⁵+x²+1."""
    check = 0
    for symbol in symbols:
        check = (check ^ _VALUES[symbol]) << 1
        if check > 31:
            check ^= _REDUCTION
    return ALPHABET[check]


def locator_from(entropy: int) -> str:
    """Write 30 random bits as a locator.

    Raises:
        ValueError: the number does not fit 30 bits.
    """
    return _encode(entropy, LOCATOR_SYMBOLS)


def secret_from(entropy: int) -> str:
    """Write 25 random bits as a secret.

    Raises:
        ValueError: the number does not fit 25 bits.
    """
    return _encode(entropy, SECRET_SYMBOLS)


@dataclass(frozen=True, slots=True)
class AccessCode:
    """The code of one seat. Its repr shows neither part, so that no log line can."""

    locator: str = field(repr=False)
    secret: str = field(repr=False)

    @classmethod
    def compose(cls, locator: str, secret: str) -> Self:
        """Join a locator that the store drew and a secret that only the caller knows.

        Raises:
            InvalidCode: a part has the wrong length or a character that is no symbol.
        """
        if len(locator) != LOCATOR_SYMBOLS or len(secret) != SECRET_SYMBOLS:
            raise InvalidCode("a part of the code has the wrong length")
        if not all(symbol in _VALUES for symbol in locator + secret):
            raise InvalidCode("a character that no code contains")
        return cls(locator, secret)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a typed code.

        Raises:
            InvalidCode: it has the wrong length, a strange character or a wrong check symbol.
        """
        symbols = normalise(text)
        if len(symbols) != CODE_SYMBOLS:
            raise InvalidCode(f"{len(symbols)} symbols, not {CODE_SYMBOLS}")
        if check_symbol(symbols[:-1]) != symbols[-1]:
            raise InvalidCode("the check symbol does not fit")
        return cls(symbols[:LOCATOR_SYMBOLS], symbols[LOCATOR_SYMBOLS:-1])

    @property
    def check(self) -> str:
        """The twelfth symbol."""
        return check_symbol(self.locator + self.secret)

    @property
    def compact(self) -> str:
        """Twelve symbols without dashes, as in a link."""
        return f"{self.locator}{self.secret}{self.check}"

    @property
    def display(self) -> str:
        """`LLLL-LLSS-SSSC`, as it is shown, printed and read over the telephone."""
        compact = self.compact
        return f"{compact[:4]}-{compact[4:8]}-{compact[8:]}"


def link(base_url: str, code: AccessCode, name: str = "") -> str:
    """Compose the invitation link. Code and name stand in the fragment, which no browser sends.

    Args:
        base_url: address of the page, without a path.
        code: the code of the seat.
        name: name of the person who follows the link, so that they need not type it.

    Raises:
        ValueError: the name is too long for the page.
    """
    if len(name) > MAX_NAME_CHARACTERS:
        raise ValueError(f"a name has at most {MAX_NAME_CHARACTERS} characters")
    fragment = code.compact
    if name:
        fragment += "." + base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")
    return f"{base_url.rstrip('/')}/#{fragment}"


def _encode(entropy: int, symbols: int) -> str:
    if not 0 <= entropy < 1 << (5 * symbols):
        raise ValueError(f"{symbols} symbols take {5 * symbols} bits")
    return "".join(ALPHABET[entropy >> shift & 31] for shift in range(5 * (symbols - 1), -1, -5))
