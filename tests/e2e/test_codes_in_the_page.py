"""The access codes of the page and those of Python are the same codes."""

import random
from collections.abc import Callable

import pytest
from playwright.sync_api import Page

from signaling.codes import LOCATOR_BITS, SECRET_BITS, AccessCode, InvalidCode, link, locator_from, secret_from
from tests.support.browser import Participant
from tests.support.service import Service

SAMPLES = 500


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


def test_the_page_reads_every_code_that_python_composes(page: Page) -> None:
    codes = random_codes()
    expected = [[code.locator, code.secret, code.check] for code in codes]
    assert read_in_page(page, [code.display for code in codes]) == expected


def test_page_and_python_judge_mutilated_codes_alike(page: Page) -> None:
    draw = random.Random(8489)  # noqa: S311
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZoOiIlLuU -äß*"
    texts = []
    for code in random_codes():
        symbols = list(code.display)
        for _ in range(draw.randrange(3)):
            symbols[draw.randrange(len(symbols))] = draw.choice(alphabet)
        texts.append("".join(symbols).lower() if draw.random() < 0.3 else "".join(symbols))
    expected = [read_in_python(text) for text in texts]
    assert None in expected
    assert read_in_page(page, texts) == expected


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
