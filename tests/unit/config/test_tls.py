import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from config.self_signed import issue_certificate, new_private_key
from config.tls import build_server_context


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    key.write_bytes(new_private_key())
    certificate.write_bytes(issue_certificate(key.read_bytes(), ["localhost"], datetime.now(UTC)))
    return certificate, key


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> ssl.SSLObject:
    """Join two ends in memory; returns the client's."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
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


def test_a_client_that_trusts_the_certificate_gets_tls_1_3_and_its_protocol(files: tuple[Path, Path]) -> None:
    end = handshake(build_server_context(*files, alpn=["http/1.1"]), client_for(files[0]))
    assert end.version() == "TLSv1.3"
    assert end.selected_alpn_protocol() == "http/1.1"


def test_without_protocols_none_is_negotiated(files: tuple[Path, Path]) -> None:
    assert handshake(build_server_context(*files), client_for(files[0])).selected_alpn_protocol() is None


def test_tls_1_2_is_still_spoken(files: tuple[Path, Path]) -> None:
    client = client_for(files[0])
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    end = handshake(build_server_context(*files), client)
    cipher = end.cipher()
    assert cipher is not None
    assert cipher[0].startswith("ECDHE-ECDSA-AES")


def test_a_cipher_without_forward_secrecy_is_refused(files: tuple[Path, Path]) -> None:
    client = client_for(files[0])
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.set_ciphers("ECDHE-ECDSA-AES128-SHA256:AES128-GCM-SHA256")
    with pytest.raises(ssl.SSLError):
        handshake(build_server_context(*files), client)


def test_every_cipher_is_authenticated_encryption_with_ephemeral_keys(files: tuple[Path, Path]) -> None:
    for cipher in build_server_context(*files).get_ciphers():
        assert cipher["aead"], cipher["name"]
        assert cipher["name"].startswith(("TLS_", "ECDHE-")), cipher["name"]


def test_a_key_that_does_not_fit_is_refused(files: tuple[Path, Path]) -> None:
    files[1].write_bytes(new_private_key())
    with pytest.raises(ssl.SSLError):
        build_server_context(*files)
