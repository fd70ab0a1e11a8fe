"""The access codes of the page and those of Python are the same codes."""

import random
from collections.abc import Callable

import pytest
from playwright.sync_api import Page

from signaling.codes import LOCATOR_BITS, SECRET_BITS, AccessCode, InvalidCode, link, locator_from, secret_from
from tests.support.browser import Participant
from tests.support.service import Service

SAMPLES = 500
# What stands in a printed code, what is typed instead, and what comes along when text is copied from elsewhere.
BLANKS_AND_DASHES = " \t\u00a0\u2007\u2009\u200b\u202f\u2060\ufeff-\u00ad\u2010\u2011\u2013\u2014\u2212\uff0d_.,/"
CHARACTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZoOiIlLuU" + BLANKS_AND_DASHES + "äßıſ*٣０１Ａａⅷ²"


@pytest.fixture
def page(invite: Callable[..., Participant], service: Service) -> Page:
    visitor = invite()
    visitor.open(service.create_appointment().organiser_link.partition("#")[0])
    return visitor.page


def random_codes() -> list[AccessCode]:
    draw = random.Random(20261122)  # noqa: S311  # samples, not secrets
    return [
        AccessCode.compose(locator_from(draw.getrandbits(LOCATOR_BITS)), secret_from(draw.getrandbits(SECRET_BITS)))
        for _ in range(SAMPLES)
    ]


def read_in_page(page: Page, texts: list[str]) -> list[list[str] | None]:
    read: list[list[str] | None] = page.evaluate(
        """async (texts) => {
          const { parseCode } = await import("/js/codes.js");
          return texts.map((text) => {
            const code = parseCode(text);
            return code === null ? null : [code.locator, code.secret, code.check];
          });
        }""",
        texts,
    )
    return read


def read_in_python(text: str) -> list[str] | None:
    try:
        code = AccessCode.parse(text)
    except InvalidCode:
        return None
    return [code.locator, code.secret, code.check]


def assert_judged_alike(page: Page, texts: list[str]) -> None:
    expected = [read_in_python(text) for text in texts]
    assert None in expected
    assert any(expected)
    told = zip(texts, expected, read_in_page(page, texts), strict=True)
    assert [(text, python, browser) for text, python, browser in told if python != browser] == []


def test_the_page_reads_every_code_that_python_composes(page: Page) -> None:
    codes = random_codes()
    expected = [[code.locator, code.secret, code.check] for code in codes]
    assert read_in_page(page, [code.display for code in codes]) == expected


def test_page_and_python_judge_mutilated_codes_alike(page: Page) -> None:
    draw = random.Random(8489)  # noqa: S311
    texts = []
    for code in random_codes():
        text = code.display
        for _ in range(draw.randrange(4)):
            at = draw.randrange(len(text))
            kept = draw.choice((at, at + 1))  # so that the new character stands before, or instead of, the old one
            text = text[:at] + draw.choice(["", *CHARACTERS]) + text[kept:]
        texts.append(text.lower() if draw.random() < 0.3 else text)
    assert_judged_alike(page, texts)


def test_page_and_python_ignore_the_same_characters_and_no_others(page: Page) -> None:
    code = random_codes()[0].display
    assert_judged_alike(page, [f"{character}{code}" for character in CHARACTERS])
    assert_judged_alike(page, [f"{code[:7]}{character}{code[7:]}" for character in CHARACTERS])
    assert_judged_alike(page, [f"{code}{' ' * number}" for number in range(48, 53)])
    assert_judged_alike(page, [code[:at] + code[at + 1 :] for at in range(len(code))])


def test_the_page_reads_the_fragment_of_every_link_that_python_makes(page: Page) -> None:
    names = ["", "Petra Muster", "Żółć Ærøskøbing 医者", "O'Brien-Łukasiewicz & Söhne"]
    links = [link("https://example.org", code, names[at % len(names)]) for at, code in enumerate(random_codes())]
    read = page.evaluate(
        """async (links) => {
          const { parseFragment } = await import("/js/codes.js");
          return links.map((link) => parseFragment(new URL(link).hash));
        }""",
        links,
    )
    for at, (code, entry) in enumerate(zip(random_codes(), read, strict=True)):
        assert entry["name"] == names[at % len(names)]
        assert AccessCode.parse(entry["code"]) == code
