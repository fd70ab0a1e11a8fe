"""Certificates that are replaced on disk are served without a restart, over TLS, DTLS and HTTPS."""

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import NameOID

from tests.support.ports import free_port
from tests.support.running_calls import running_calls
from tests.support.service import LOOK_EVERY_SECONDS
from tests.support.wire import DtlsWire
from tests.support.wire_client import Peer, Server, run_relay

NOW = datetime.now(UTC).replace(microsecond=0)
LOOK_SECONDS = 3.0  # the service looks at the files once a second, when somebody connects
EXPIRY = "redconnect_certificate_expiry_timestamp_seconds"


class Files:
    """A certificate and its key on disk."""

    def __init__(self, folder: Path) -> None:
        self.certificate, self.key = folder / "certificate.pem", folder / "key.pem"
        self.serial = 0

    def replace(self, key: CertificateIssuerPrivateKeyTypes, days: int) -> int:
        """Put a new pair in the place of the old one, as certbot does; returns its serial number."""
        self.serial += 1
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "relay.example.org")])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(self.serial)
            .not_valid_before(NOW - timedelta(days=1))
            .not_valid_after(NOW + timedelta(days=days))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("relay.example.org")]), critical=False)
            .sign(key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        self._put(self.key, private)
        self._put(self.certificate, certificate.public_bytes(pem))
        return self.serial

    @staticmethod
    def _put(path: Path, data: bytes) -> None:
        temporary = path.with_suffix(".new")
        temporary.write_bytes(data)
        temporary.replace(path)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    files = Files(tmp_path)
    files.replace(rsa.generate_private_key(65537, 2048), days=10)
    return files


@pytest.fixture(params=[1, 2], ids=lambda count: f"{count} workers")
def relay(request: pytest.FixtureRequest, tmp_path: Path, files: Files) -> Iterator[Server]:
    tls = {"certificate_file": str(files.certificate), "key_file": str(files.key)}
    dtls = free_port()
    with run_relay(tmp_path, tls=tls, dtls_ports=[dtls], workers=request.param) as server:
        yield server._replace(ports={**server.ports, "dtls": dtls})


def shown_over_tls(port: int) -> int:
    """The serial number of the certificate that a new client is shown."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname="relay.example.org") as secured,
    ):
        shown = secured.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown).serial_number


def shown_over_dtls(port: int) -> int:
    with contextlib.closing(DtlsWire(("127.0.0.1", port))) as wire:
        return wire.certificate_serial


def test_a_new_key_and_certificate_are_served_while_open_connections_go_on(relay: Server, files: Files) -> None:
    peer = Peer("127.0.0.1")
    with contextlib.closing(peer), contextlib.closing(relay.client("tls")) as old:
        relayed = old.relayed()
        assert old.permit(peer.address).code == 0
        assert shown_over_tls(relay.ports["tls"]) == shown_over_dtls(relay.ports["dtls"]) == 1
        before = relay.service.metrics()
        new_key = ec.generate_private_key(ec.SECP256R1())  # RSA gives way to ECDSA
        assert files.replace(new_key, days=90) == 2
        relay.service.await_that(lambda: shown_over_tls(relay.ports["tls"]) == 2, LOOK_SECONDS)
        relay.service.metrics()  # a scrape makes every worker look
        assert [shown_over_tls(relay.ports["tls"]) for _ in range(8)] == [2] * 8
        assert [shown_over_dtls(relay.ports["dtls"]) for _ in range(8)] == [2] * 8
        old.send_to(peer.address, b"still here")
        assert peer.receive() == (b"still here", relayed)
        assert old.refresh().code == 0
        after = relay.service.metrics()
    assert before[EXPIRY] == (NOW + timedelta(days=10)).timestamp()
    assert after[EXPIRY] == (NOW + timedelta(days=90)).timestamp()
    changed = 'redconnect_certificate_reloads_total{result="success"}'
    assert (before[changed], after[changed]) == (0, relay.service.settings["relay"]["workers"])


def test_no_call_old_or_new_notices_that_certificates_are_exchanged_while_it_runs(relay: Server, files: Files) -> None:
    with running_calls(relay, ("udp", "tcp", "tls", "dtls")) as calls:
        for days in (30, 60, 90):
            files.replace(ec.generate_private_key(ec.SECP256R1()), days)
            relay.service.await_that(lambda: shown_over_tls(relay.ports["tls"]) == files.serial, LOOK_SECONDS)
            for transport in ("tls", "dtls"):
                with contextlib.closing(relay.client(transport)) as late:
                    assert late.allocate().code == 0
            calls.go_on()


@pytest.mark.parametrize("unfit", ["another key", "no certificate", "missing"])
def test_an_unfit_certificate_keeps_the_old_one_is_told_once_and_counted(
    relay: Server, files: Files, unfit: str
) -> None:
    workers = relay.service.settings["relay"]["workers"]
    if unfit == "another key":
        good = files.key.read_bytes()
        files.replace(ec.generate_private_key(ec.SECP256R1()), days=90)
        files.key.write_bytes(good)
    elif unfit == "no certificate":
        files.certificate.write_bytes(b"nothing")
    else:
        files.certificate.unlink()
    failures = 'redconnect_certificate_reloads_total{result="failure"}'
    relay.service.await_that(lambda: relay.service.metrics()[failures] == workers)
    began = time.monotonic()
    while time.monotonic() - began < 2.5:  # two more looks at the files
        assert shown_over_tls(relay.ports["tls"]) == shown_over_dtls(relay.ports["dtls"]) == 1
        time.sleep(LOOK_EVERY_SECONDS)
    assert relay.service.readiness()["checks"]["certificate"], "what is served counts, not what the file holds"
    metrics = relay.service.metrics()
    assert metrics[failures] == workers
    assert metrics[EXPIRY] == (NOW + timedelta(days=10)).timestamp()
    told = relay.service.log.read_text()
    processes = 1 if workers == 1 else 1 + workers
    assert told.count("the changed certificate is not used, the old one stays") == processes
    files.replace(ec.generate_private_key(ec.SECP256R1()), days=90)
    relay.service.await_that(lambda: shown_over_tls(relay.ports["tls"]) == files.serial, LOOK_SECONDS)


def test_other_files_named_in_the_settings_are_served_after_a_hangup(
    relay: Server, files: Files, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    other = Files(folder)
    other.serial = 40
    other.replace(ec.generate_private_key(ec.SECP384R1()), days=30)
    relay.service.reload({"tls": {"certificate_file": str(other.certificate), "key_file": str(other.key)}})
    assert [shown_over_tls(relay.ports["tls"]) for _ in range(8)] == [41] * 8
    assert [shown_over_dtls(relay.ports["dtls"]) for _ in range(8)] == [41] * 8
    files.replace(ec.generate_private_key(ec.SECP256R1()), days=90)
    relay.service.metrics()
    assert shown_over_tls(relay.ports["tls"]) == 41


@pytest.mark.parametrize(
    ("services", "workers"),
    [(["signaling"], 1), (["relay", "signaling"], 1), (["relay", "signaling"], 2)],
    ids=["alone", "beside a relay", "beside two workers"],
)
def test_the_pages_follow_the_files_too(tmp_path: Path, files: Files, services: list[str], workers: int) -> None:
    pages = free_port()
    tls = {"certificate_file": str(files.certificate), "key_file": str(files.key)}
    signaling = {"port": pages, "https": True}
    with run_relay(tmp_path, services=services, tls=tls, signaling=signaling, workers=workers) as server:
        service = server.service
        assert shown_over_tls(pages) == 1
        assert service.metrics()[EXPIRY] == (NOW + timedelta(days=10)).timestamp()
        files.replace(ec.generate_private_key(ec.SECP256R1()), days=90)
        service.await_that(lambda: shown_over_tls(pages) == 2, LOOK_SECONDS)
        folder = tmp_path / "other"
        folder.mkdir()
        other = Files(folder)
        other.serial = 40
        other.replace(ec.generate_private_key(ec.SECP384R1()), days=30)
        service.reload({"tls": {"certificate_file": str(other.certificate), "key_file": str(other.key)}})
        assert shown_over_tls(pages) == 41
        if "relay" in services:
            assert shown_over_tls(server.ports["tls"]) == 41
        assert service.metrics()[EXPIRY] == (NOW + timedelta(days=30)).timestamp()
        other.certificate.write_bytes(b"nothing")
        service.metrics()  # workers look
        processes = 1 if workers == 1 else 1 + workers

        def told() -> int:
            assert shown_over_tls(pages) == 41  # the pages look
            return service.log.read_text().count("the changed certificate is not used, the old one stays")

        service.await_that(lambda: told() == processes, LOOK_SECONDS)
