"""`openssl s_client` against the running relay: versions, ciphers and ALPN of TLS and DTLS (BSI TR-02102-2)."""

import subprocess

import pytest

from tests.support.wire_client import Server

WEAK = "DEFAULT:@SECLEVEL=0"  # the client would do anything: what is refused is refused by the server
ALERT_PROTOCOL_VERSION = "alert protocol version"


def s_client(server: Server, port: str, *words: str) -> str:
    """Connect, say nothing, and return what was printed."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.ports[port]}", *words]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)
    return (result.stdout + result.stderr).decode(errors="replace")


@pytest.mark.rfc(8489, "6.2.3")
@pytest.mark.parametrize("port", ["tls", "tcp"])
@pytest.mark.parametrize(
    ("option", "version", "cipher"),
    [
        ("-tls1_3", "TLSv1.3", "TLS_AES_256_GCM_SHA384"),
        ("-tls1_2", "TLSv1.2", "ECDHE-ECDSA-AES256-GCM-SHA384"),
    ],
)
def test_current_versions_are_accepted_on_every_tcp_port(
    relay: Server, port: str, option: str, version: str, cipher: str
) -> None:
    printed = s_client(relay, port, option, "-alpn", "stun.turn")
    assert f"New, {version}, Cipher is {cipher}" in printed
    assert "ALPN protocol: stun.turn" in printed


@pytest.mark.rfc(8489, "6.2.3")
def test_the_newest_version_is_preferred(relay: Server) -> None:
    assert "New, TLSv1.3, Cipher is" in s_client(relay, "tls")


@pytest.mark.rfc(8489, "6.2.3")
@pytest.mark.parametrize("option", ["-tls1_1", "-tls1"])
def test_old_versions_are_refused(relay: Server, option: str) -> None:
    printed = s_client(relay, "tls", option, "-cipher", WEAK)
    assert ALERT_PROTOCOL_VERSION in printed
    assert "Cipher is (NONE)" in printed


@pytest.mark.rfc(8489, "6.2.3")
@pytest.mark.parametrize("port", ["tls", "dtls"])
@pytest.mark.parametrize(
    "ciphers",
    ["ALL:!AESGCM:!CHACHA20:!AESCCM", "kRSA", "DHE", "aNULL", "ECDHE:!AESGCM:!CHACHA20:!AESCCM", "PSK"],
    ids=["no AEAD", "no forward secrecy", "finite fields", "anonymous", "CBC", "pre-shared keys"],
)
def test_nothing_but_ephemeral_keys_with_authenticated_encryption(relay: Server, port: str, ciphers: str) -> None:
    options = ["-dtls1_2"] if port == "dtls" else ["-tls1_2"]
    printed = s_client(relay, port, *options, "-psk", "00", "-cipher", f"{ciphers}:@SECLEVEL=0")
    assert "alert handshake failure" in printed
    assert "Cipher is (NONE)" in printed


@pytest.mark.rfc(7443, "2")
@pytest.mark.parametrize("option", ["-tls1_3", "-tls1_2"])
def test_an_unknown_application_is_not_served(relay: Server, option: str) -> None:
    printed = s_client(relay, "tls", option, "-alpn", "h2")
    assert "No ALPN negotiated" in printed or "alert no application protocol" in printed


@pytest.mark.rfc(7350, "4.1")
def test_dtls_1_2_is_accepted(relay: Server) -> None:
    printed = s_client(relay, "dtls", "-dtls1_2", "-alpn", "stun.turn")
    assert "Protocol  : DTLSv1.2" in printed
    assert "Cipher is ECDHE-ECDSA-AES256-GCM-SHA384" in printed
    assert "ALPN protocol: stun.turn" in printed


@pytest.mark.rfc(7350, "4.1")
def test_dtls_1_0_is_refused(relay: Server) -> None:
    printed = s_client(relay, "dtls", "-dtls1", "-cipher", WEAK)
    assert ALERT_PROTOCOL_VERSION in printed
    assert "Cipher is (NONE)" in printed
