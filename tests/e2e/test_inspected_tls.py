"""The connection test in Chromium where a company breaks TLS open: its proxy answers with a certificate of its own."""

import base64
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from playwright.sync_api import Playwright, expect

from tests.support.browser import CHROMIUM, Participant, chromium
from tests.support.connection_test_page import lines, run_test, states, step
from tests.support.firewall_lab import HOST, Authority, FirewallLab, open_firewall_lab
from tests.support.service import run_service

pytestmark = pytest.mark.long

TLS_PORTS = [5349, 5350]
TLS_ROWS = {f"TCP (TLS) {port}" for port in TLS_PORTS}


class Company(NamedTuple):
    """A practice in a company's network, and the certificate of the service outside of it."""

    lab: FirewallLab
    certificate: Path


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Company]:
    """The service has a certificate of an authority, for its name and, as there is no DNS in the lab, its address."""
    with open_firewall_lab(tmp_path_factory.mktemp("lab")) as lab:
        settings = lab.settings
        certificate_file, key_file = lab.authority.issue(
            HOST, lab.lab.bob_ip
        )  # in the place of the one in the settings
        settings["tls"] = {"certificate_file": str(certificate_file), "key_file": str(key_file)}
        settings["signaling"] |= {"ice": {"host": lab.lab.bob_ip}}
        with run_service(lab.folder, settings, lab.server):
            yield Company(lab, certificate_file)


@contextlib.contextmanager
def visiting(playwright: Playwright, lab: FirewallLab, *trusted: Path) -> Iterator[Participant]:
    """Somebody whose test is done, in a browser that takes these certificates and no other one for the relay."""
    program = lab.lab.wrapper(lab.client, CHROMIUM, lab.folder)
    with chromium(playwright, program, trusting=[name_of_key(each) for each in trusted]) as browser:
        visitor = Participant(browser)
        run_test(visitor.page, f"https://{HOST}")
        yield visitor
        visitor.close()


def name_of_key(certificate_file: Path) -> str:
    key = x509.load_pem_x509_certificate(certificate_file.read_bytes()).public_key()
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    digest = hashes.Hash(hashes.SHA256())
    digest.update(key.public_bytes(*form))
    return base64.b64encode(digest.finalize()).decode()


def test_without_a_proxy_the_certificate_of_the_service_opens_every_port(
    playwright: Playwright, company: Company
) -> None:
    with visiting(playwright, company.lab, company.certificate) as visitor:
        assert {states(visitor.page)[row] for row in TLS_ROWS} == {"open"}
        assert "Alle Ports sind offen" in visitor.text("test-verdict")
        expect(visitor.page.get_by_test_id("test-certificate")).to_be_hidden()


def test_a_proxy_that_breaks_tls_open_is_named_and_so_is_the_mend(playwright: Playwright, company: Company) -> None:
    lab = company.lab
    with (
        lab.inspection(Authority("Corporate Inspection", lab.folder), TLS_PORTS),
        visiting(playwright, lab, company.certificate) as visitor,
    ):
        found = {f"{line.transport} {line.port}": line for line in lines(visitor.page)}
        assert {row for row, line in found.items() if line.state == "closed"} == TLS_ROWS
        for row in TLS_ROWS:
            assert found[row].words.startswith("gesperrt: abgewiesen, oder TLS wird unterwegs aufgebrochen")
        assert step(visitor.page) == "weak"
        expect(visitor.page.get_by_test_id("test-inspection")).to_contain_text(
            f"Nehmen Sie {lab.lab.bob_ip} davon aus."
        )
        expect(visitor.page.get_by_test_id("test-certificate")).to_be_hidden()
        visitor.page.screenshot(path=lab.folder / "inspected.png", full_page=True)


def test_a_proxy_whose_authority_the_device_trusts_lets_consultations_through(
    playwright: Playwright, company: Company
) -> None:
    lab = company.lab
    inspector = Authority("Trusted Inspection", lab.folder)
    with lab.inspection(inspector, TLS_PORTS):
        shown = lab.folder / f"{inspector.file.stem}-{HOST}.crt"
        with visiting(playwright, lab, company.certificate, shown) as visitor:
            assert {states(visitor.page)[row] for row in TLS_ROWS} == {"open"}
