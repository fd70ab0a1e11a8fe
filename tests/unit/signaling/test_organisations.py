import hashlib
import secrets

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signaling.appointments import Tier
from signaling.organisations import (
    TOKEN_CHARACTERS,
    TOKEN_ENTROPY_BYTES,
    Organisation,
    OrganisationBook,
    UnknownToken,
    hash_token,
)
from signaling.settings import OrganisationSettings

OLD, NEW, OTHER = ("a" * 43, "b" * 43, "c" * 43)
BOOK = OrganisationBook(
    {
        "practice": OrganisationSettings(tokens_sha256=(hash_token(OLD), hash_token(NEW)), tier=Tier.PLUS),
        "chambers": OrganisationSettings(tokens_sha256=(hash_token(OTHER),)),
    }
)


@pytest.mark.parametrize("token", [OLD, NEW])
def test_every_token_of_an_organisation_is_its_own(token: str) -> None:
    assert BOOK.authenticate(f"Bearer {token}") == Organisation("practice", Tier.PLUS)


def test_an_organisation_has_basis_unless_told_otherwise() -> None:
    assert BOOK.authenticate(f"bearer {OTHER}") == Organisation("chambers", Tier.BASIS)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        f"Bearer {'d' * 43}",
        f"Basic {OLD}",
        OLD,
        f"Bearer {OLD} ",
        f"Bearer {OLD}\n",
        f"Bearer {OLD[:-1]}",
        f"Bearer {OLD}a",
        f"Bearer {OLD},{NEW}",
        f"Bearer {hash_token(OLD)}",
        f"Bearer {'ä' * 43}",
    ],
)
def test_everything_else_is_nobodys(header: str) -> None:
    with pytest.raises(UnknownToken):
        BOOK.authenticate(header)


@given(st.text(max_size=200))
def test_arbitrary_text_is_nobodys(text: str) -> None:
    for header in (text, f"Bearer {text}"):
        with pytest.raises(UnknownToken):
            BOOK.authenticate(header)


def test_without_organisations_every_token_is_unknown() -> None:
    with pytest.raises(UnknownToken):
        OrganisationBook({}).authenticate(f"Bearer {OLD}")


def test_a_hash_is_sha_256_in_hexadecimal() -> None:
    assert hash_token(OLD) == hashlib.sha256(b"a" * 43).hexdigest()


def test_a_drawn_token_has_the_length_that_is_looked_for() -> None:
    assert TOKEN_ENTROPY_BYTES >= 32
    assert len(secrets.token_urlsafe(TOKEN_ENTROPY_BYTES)) == TOKEN_CHARACTERS
