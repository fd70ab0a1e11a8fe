import ipaddress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from config.self_signed import (
    MAX_NAMES,
    RENEW_BEFORE_END,
    VALIDITY,
    issue_certificate,
    needs_renewal,
    new_private_key,
)

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
KEY = new_private_key()


def issued(*names: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(issue_certificate(KEY, names, NOW))


def names_in(certificate: x509.Certificate) -> tuple[list[str], list[str]]:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName), [str(ip) for ip in names.get_values_for_type(x509.IPAddress)]


def foreign_certificate(now: datetime) -> bytes:
    key = serialization.load_pem_private_key(KEY, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "praxis.example")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=90)).not_valid_after(now + timedelta(days=1))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def test_the_key_is_an_ecdsa_key_on_p_256() -> None:
    key = serialization.load_pem_private_key(KEY, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert key.curve.name == "secp256r1"


def test_names_and_addresses_are_told_apart() -> None:
    names, addresses = names_in(issued("localhost", "127.0.0.1", "::1", "fe80::1%eth0", "localhost"))
    assert names == ["localhost"]
    assert addresses == ["127.0.0.1", "::1", str(ipaddress.ip_address("fe80::1"))]


def test_what_is_no_name_is_left_out() -> None:
    assert names_in(issued("localhost", "müller", "a b", "", "-x", "a..b", "x" * 300)) == (["localhost"], [])


def test_the_number_of_names_is_bounded() -> None:
    names, _ = names_in(issued(*(f"host{number}" for number in range(MAX_NAMES + 5))))
    assert len(names) == MAX_NAMES


def test_it_is_valid_for_less_than_825_days_and_no_authority() -> None:
    certificate = issued("localhost")
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == VALIDITY
    assert timedelta(days=825) > VALIDITY
    assert certificate.not_valid_before_utc < NOW
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_it_is_renewed_in_its_last_thirty_days() -> None:
    pem = issue_certificate(KEY, ["localhost"], NOW)
    end = x509.load_pem_x509_certificate(pem).not_valid_after_utc
    assert not needs_renewal(pem, KEY, end - RENEW_BEFORE_END)
    assert needs_renewal(pem, KEY, end - RENEW_BEFORE_END + timedelta(seconds=1))
    assert needs_renewal(pem, KEY, end + timedelta(days=1))


def test_it_is_renewed_when_it_belongs_to_another_key() -> None:
    assert needs_renewal(issue_certificate(KEY, ["localhost"], NOW), new_private_key(), NOW)


def test_the_certificate_of_somebody_else_is_never_renewed() -> None:
    assert not needs_renewal(foreign_certificate(NOW), KEY, NOW + timedelta(days=400))


def test_only_an_ecdsa_key_gets_a_certificate() -> None:
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(ValueError, match="not an ECDSA key"):
        issue_certificate(key, ["localhost"], NOW)
