from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from config.leaf import Leaf, fits
from config.self_signed import issue_certificate, new_private_key

NOW = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
DAY = timedelta(days=1)
NAMES = [x509.DNSName("video.example.org"), x509.DNSName("*.relay.example.org")]


def issued(*names: x509.GeneralName) -> Leaf:
    """A certificate of an authority, good from yesterday until tomorrow."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "common.example.org")]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "An authority")]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Leaf.of(builder.sign(key, hashes.SHA256()))


def test_nothing_is_said_against_what_an_authority_has_signed_for_the_host() -> None:
    assert issued(*NAMES).problem("video.example.org", NOW) is None


def test_a_certificate_of_our_own_is_refused_for_every_host() -> None:
    pem = issue_certificate(new_private_key(), ["video.example.org"], NOW)
    leaf = Leaf.of(x509.load_pem_x509_certificate(pem))
    assert leaf.problem("video.example.org", NOW) == "self_signed"


@pytest.mark.parametrize(
    ("now", "problem"),
    [
        (NOW - DAY - timedelta(seconds=1), "outside_validity"),
        (NOW - DAY, None),
        (NOW + DAY - timedelta(seconds=1), None),
        (NOW + DAY, "outside_validity"),
    ],
)
def test_a_certificate_is_good_from_its_beginning_until_before_its_end(now: datetime, problem: str | None) -> None:
    assert issued(*NAMES).problem("video.example.org", now) == problem


def test_the_common_name_is_no_name() -> None:
    assert issued(*NAMES).problem("common.example.org", NOW) == "other_name"
    assert issued().problem("common.example.org", NOW) == "other_name"


@pytest.mark.parametrize(
    ("host", "name", "is_fit"),
    [
        ("Video.example.org", "video.EXAMPLE.org", True),
        ("relay.example.org", "video.example.org", False),
        ("one.relay.example.org", "*.relay.example.org", True),
        ("one.two.relay.example.org", "*.relay.example.org", False),
        ("relay.example.org", "*.relay.example.org", False),
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "*.0.2.1", False),
        ("2001:DB8:0::1", "2001:db8::1", True),
        ("2001:db8::2", "2001:db8::1", False),
    ],
)
def test_a_host_is_covered_by_its_name_its_address_or_one_star(host: str, name: str, *, is_fit: bool) -> None:
    assert fits(host, name) is is_fit
