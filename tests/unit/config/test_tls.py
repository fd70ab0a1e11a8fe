import os
import ssl
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from config.self_signed import VALIDITY, issue_certificate, new_private_key
from config.tls import ReloadingContext, build_server_context

NOW = datetime.now(UTC).replace(microsecond=0)


class Files:
    """A certificate and its key, that can be replaced."""

    def __init__(self, folder: Path) -> None:
        self.certificate, self.key = folder / "certificate.pem", folder / "key.pem"

    def write(self, now: datetime = NOW) -> None:
        key, certificate = new_pair(now)
        self.key.write_bytes(key)
        self.certificate.write_bytes(certificate)


def new_pair(now: datetime = NOW) -> tuple[bytes, bytes]:
    key = new_private_key()
    return key, issue_certificate(key, ["localhost"], now)


def new_rsa_pair() -> tuple[bytes, bytes]:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private, certificate.public_bytes(pem)


def test_it_tells_the_fingerprint_of_the_certificate_that_it_serves_now(files: "Files") -> None:
    def fingerprint() -> str:
        return x509.load_pem_x509_certificate(files.certificate.read_bytes()).fingerprint(hashes.SHA256()).hex()

    context = ReloadingContext(files.certificate, files.key)
    first = fingerprint()
    assert context.leaf.fingerprint == first
    files.write()
    assert context.refresh()
    assert context.leaf.fingerprint == fingerprint() != first


@pytest.fixture
def files(tmp_path: Path) -> Files:
    files = Files(tmp_path)
    files.write()
    return files


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str | None = "localhost") -> ssl.SSLObject:
    """Join two ends in memory; returns the client's."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = list(ends)
    for _ in range(10):
        for end in tuple(waiting):
            try:
                end.do_handshake()
                waiting.remove(end)
            except ssl.SSLWantReadError:
                continue
    assert not waiting
    return ends[0]


def client_for(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(certificate))
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def build(files: Files, *alpn: str) -> ssl.SSLContext:
    return build_server_context(files.certificate, files.key, alpn)


def test_a_client_that_trusts_the_certificate_gets_tls_1_3_and_its_protocol(files: Files) -> None:
    end = handshake(build(files, "http/1.1"), client_for(files.certificate))
    assert end.version() == "TLSv1.3"
    assert end.selected_alpn_protocol() == "http/1.1"


def test_without_protocols_none_is_negotiated(files: Files) -> None:
    assert handshake(build(files), client_for(files.certificate)).selected_alpn_protocol() is None


def test_a_client_without_a_common_protocol_is_served_all_the_same(files: Files) -> None:
    end = handshake(build(files, "stun.turn", "stun.nat-discovery"), client_for(files.certificate))
    assert end.selected_alpn_protocol() is None


def test_tls_1_2_is_still_spoken(files: Files) -> None:
    client = client_for(files.certificate)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    end = handshake(build(files), client)
    cipher = end.cipher()
    assert cipher is not None
    assert cipher[0].startswith("ECDHE-ECDSA-AES")


@pytest.mark.parametrize("ciphers", ["ECDHE-ECDSA-AES128-SHA256:AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"])
def test_a_cipher_that_the_bsi_does_not_recommend_is_refused(files: Files, ciphers: str) -> None:
    client = client_for(files.certificate)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers(ciphers)
    with pytest.raises(ssl.SSLError):
        handshake(build(files), client)


def test_in_tls_1_3_aes_is_chosen_whatever_the_client_prefers(files: Files) -> None:
    cipher = handshake(build(files), client_for(files.certificate)).cipher()
    assert cipher is not None
    assert cipher[0].startswith("TLS_AES_")


def test_every_cipher_is_authenticated_encryption_with_ephemeral_keys(files: Files) -> None:
    for cipher in build(files).get_ciphers():
        assert cipher["aead"], cipher["name"]
        assert cipher["name"].startswith(("TLS_", "ECDHE-")), cipher["name"]


def test_a_key_that_does_not_fit_is_refused(files: Files) -> None:
    files.key.write_bytes(new_private_key())
    with pytest.raises(ssl.SSLError):
        build(files)
    with pytest.raises(ssl.SSLError):
        ReloadingContext(files.certificate, files.key)


# Certificates that change


class Served:
    """A server that follows its files, with a clock of our own."""

    def __init__(self, files: Files, *alpn: str) -> None:
        self.now = 100.0
        self.reloading = ReloadingContext(files.certificate, files.key, alpn, clock=lambda: self.now)

    def certificate(self, after: float = 1.0, name: str | None = "localhost", ciphers: str = "") -> bytes:
        """What a client that connects after a while is shown, as DER."""
        self.now += after
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.verify_mode = ssl.CERT_NONE
        if ciphers:
            client.maximum_version = ssl.TLSVersion.TLSv1_2
            client.set_ciphers(ciphers)
        shown = handshake(self.reloading.context, client, name).getpeercert(binary_form=True)
        assert shown is not None
        return shown


def der(files: Files) -> bytes:
    return ssl.PEM_cert_to_DER_cert(files.certificate.read_text())


@pytest.fixture
def served(files: Files) -> Served:
    return Served(files)


@pytest.mark.parametrize("name", ["localhost", None])
def test_a_changed_certificate_is_served_without_a_restart_named_or_not(
    files: Files, served: Served, name: str | None
) -> None:
    assert served.certificate(name=name) == der(files)
    files.write(NOW + timedelta(days=7))
    assert served.certificate(name=name) == der(files)
    assert served.reloading.reloads == 1
    assert abs(served.reloading.not_after - (NOW + timedelta(days=7) + VALIDITY)) <= timedelta(hours=1)


def test_the_files_are_looked_at_once_a_second_at_most(files: Files, served: Served) -> None:
    before = served.certificate()
    files.write()
    assert served.certificate(after=0.5) == before
    assert served.certificate(after=0.5) == der(files)


def test_a_file_that_takes_the_place_of_another_is_noticed_even_with_its_time_and_size(
    files: Files, served: Served
) -> None:
    before = files.certificate.stat()
    key, certificate = new_pair()
    for path, data in ((files.key, key), (files.certificate, certificate)):
        other = path.with_suffix(".new")
        other.write_bytes(data)
        os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
        other.replace(path)
    assert served.certificate() == der(files)


@pytest.mark.parametrize("first", ["certificate", "key"])
def test_certificate_and_key_may_be_replaced_one_after_the_other(files: Files, served: Served, first: str) -> None:
    before = served.certificate()
    key, certificate = new_pair()
    steps = [(files.certificate, certificate), (files.key, key)]
    if first == "key":
        steps.reverse()
    steps[0][0].write_bytes(steps[0][1])
    assert served.certificate() == before
    assert served.reloading.failures == 1
    steps[1][0].write_bytes(steps[1][1])
    assert served.certificate() == der(files) != before
    assert served.reloading.reloads == 1


@pytest.mark.parametrize("unfit", [b"", b"no certificate", None])
def test_an_unfit_certificate_is_told_once_and_the_old_one_stays(
    files: Files, served: Served, unfit: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    before = served.certificate()
    not_after = served.reloading.not_after
    if unfit is None:
        files.certificate.unlink()
    else:
        files.certificate.write_bytes(unfit)
    assert [served.certificate() for _ in range(5)] == [before] * 5
    assert served.reloading.failures == 1
    assert served.reloading.not_after == not_after
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert str(files.certificate) not in caplog.text


def test_after_a_change_of_the_kind_of_key_the_old_certificate_is_gone(files: Files, served: Served) -> None:
    """What loading into the same context gets wrong: OpenSSL would keep the RSA certificate beside the new one."""
    key, certificate = new_rsa_pair()
    files.key.write_bytes(key)
    files.certificate.write_bytes(certificate)
    assert served.certificate(ciphers="ECDHE+AESGCM+aRSA") == der(files)
    files.write()
    with pytest.raises(ssl.SSLError):
        served.certificate(ciphers="ECDHE+AESGCM+aRSA")
    assert served.certificate() == der(files)


def test_protocols_and_versions_hold_after_a_reload(files: Files) -> None:
    served = Served(files, "stun.turn", "http/1.1")
    files.write()
    served.now += 1
    end = handshake(served.reloading.context, client_for(files.certificate))
    assert (end.version(), end.selected_alpn_protocol()) == ("TLSv1.3", "http/1.1")
    assert served.reloading.reloads == 1


def test_a_look_on_demand_does_not_wait(files: Files, served: Served) -> None:
    assert not served.reloading.refresh()
    files.write()
    assert served.reloading.refresh()
    assert served.certificate(after=0.0) == der(files)


def test_servers_of_other_protocols_share_the_certificate_and_its_changes(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    served = Served(files, "stun.turn")
    pages = served.reloading.context_for(["http/1.1"])
    files.write()
    served.now += 1
    end = handshake(pages, client_for(files.certificate))
    assert end.selected_alpn_protocol() == "http/1.1"
    assert end.getpeercert(binary_form=True) == served.certificate() == der(files)
    files.key.write_bytes(b"no key")
    served.certificate()
    handshake(pages, client_for(files.certificate))
    assert [record.levelname for record in caplog.records].count("WARNING") == 1


def test_other_files_are_served_from_the_moment_they_are_taken_into_use(files: Files, tmp_path: Path) -> None:
    served = Served(files)
    folder = tmp_path / "other"
    folder.mkdir()
    other = Files(folder)
    other.write()
    take = served.reloading.prepare(other.certificate, other.key)
    assert served.certificate() == der(files)
    take()
    take()
    assert served.certificate() == der(other) != der(files)
    assert served.reloading.reloads == 1
    files.certificate.unlink()
    assert served.certificate() == der(other)


def test_unfit_other_files_change_nothing(files: Files, served: Served, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        served.reloading.prepare(tmp_path / "missing.pem", files.key)
    assert served.certificate() == der(files)
    assert served.reloading.files == (files.certificate, files.key)


def test_a_certificate_that_a_companion_cannot_use_is_used_by_nobody(files: Files, served: Served) -> None:
    taken: list[str] = []

    def companion(certificate_file: Path, _key_file: Path) -> Callable[[], None]:
        key = x509.load_pem_x509_certificate(certificate_file.read_bytes()).public_key()
        if isinstance(key, rsa.RSAPublicKey):
            raise ValueError("not this kind of key")  # noqa: TRY004  # as a parser would
        return lambda: taken.append("taken")

    served.reloading.accompany(companion)
    before = served.certificate()
    key, certificate = new_rsa_pair()
    files.key.write_bytes(key)
    files.certificate.write_bytes(certificate)
    assert served.certificate() == before
    assert (served.reloading.failures, taken) == (1, [])
    files.write()
    assert served.certificate() == der(files)
    assert taken == ["taken"]


def test_the_expiry_is_the_one_that_openssl_reads(files: Files, served: Served) -> None:
    told = subprocess.run(
        ["openssl", "x509", "-noout", "-enddate", "-in", str(files.certificate)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    assert told == served.reloading.not_after.strftime("notAfter=%b %e %H:%M:%S %Y GMT")


def refuse(*_files: Path) -> None:
    raise OSError("no DTLS with this key")
