import base64
import hmac
from pathlib import Path

import pytest

from config.tls import ReloadingContext
from config.trials import TrialCredentials
from stun.credentials import CredentialBook
from tests.unit.config.test_tls import NOW, Files

SECRET = b"s" * 32


def test_a_credential_is_signed_and_says_until_when_and_for_whom() -> None:
    username, password = TrialCredentials(SECRET, None).issue(1_780_000_000, 60, "203.0.113.7")
    assert username == "1780000060:test:203.0.113.7"
    assert password == base64.b64encode(hmac.digest(SECRET, username.encode(), "sha1")).decode()
    assert CredentialBook("realm", {}, {"turn_secret": SECRET}).keys(username, 1_780_000_059.9)


def test_nobody_without_an_address_gets_one() -> None:
    with pytest.raises(ValueError, match="address"):
        TrialCredentials(SECRET, None).issue(1_780_000_000, 60, "")


def test_the_fingerprint_is_that_of_the_certificate_which_lies_there_now(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.write()
    certificate = ReloadingContext(files.certificate, files.key)
    trials = TrialCredentials(SECRET, certificate)
    first = trials.certificates_sha256
    files.write()
    assert trials.certificates_sha256 == (certificate.leaf.fingerprint,) != first
    assert TrialCredentials(SECRET, None).certificates_sha256 == ()


def test_what_is_wrong_with_the_certificate_is_said_and_nothing_of_one_that_is_elsewhere(tmp_path: Path) -> None:
    files = Files(tmp_path)
    files.write()
    trials = TrialCredentials(SECRET, ReloadingContext(files.certificate, files.key))
    assert trials.certificate_problem("localhost", NOW) == "self_signed"
    assert TrialCredentials(SECRET, None).certificate_problem("localhost", NOW) is None
