import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from check.findings import Chain, Outcome, TlsFinding
from check.io.dial import Streams, close, connect, describe_certificate, outcome_of, secure
from tests.support.firewall_lab import Authority
from tests.support.tcp_server import saying, serve_tcp


@asynccontextmanager
async def serving(context: ssl.SSLContext | None, greeting: bytes = b"") -> AsyncIterator[Streams]:
    """A connection to a server that says its greeting and then listens."""
    async with serve_tcp(saying(greeting), context) as port:
        step, streams = await connect("127.0.0.1", port)
        assert step.outcome is Outcome.OK and step.milliseconds is not None and streams is not None
        yield streams
        await close(streams)


@pytest.fixture
def context(tmp_path: Path) -> ssl.SSLContext:
    """Of a server whose certificate no system trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*Authority("Somebody Else", tmp_path).issue("localhost"))
    context.set_alpn_protocols(["stun.turn"])
    return context


async def test_an_untrusted_chain_ends_the_handshake_with_its_reason(context: ssl.SSLContext) -> None:
    async with serving(context) as streams:
        found, is_usable = await secure(streams, "localhost", ("stun.turn",), verify=True)
    assert not is_usable
    assert found.chain is Chain.UNTRUSTED and found.chain_problem


async def test_without_verification_it_shows_whose_certificate_it_is(context: ssl.SSLContext) -> None:
    async with serving(context) as streams:
        found, is_usable = await secure(streams, "localhost", ("stun.turn",), verify=False)
    assert is_usable
    assert (found.outcome, found.version, found.alpn) == (Outcome.OK, "TLSv1.3", "stun.turn")
    assert (found.issuer, found.chain) == ("Somebody Else", Chain.UNTRUSTED)
    assert len(found.sha256) == 64 and found.days_left is not None and found.days_left > 80


async def test_a_server_without_tls_gives_a_strange_answer() -> None:
    async with serving(None, b"HTTP/1.1 400 Bad Request\r\n\r\n") as streams:
        found, is_usable = await secure(streams, "localhost", (), verify=False)
    assert (found.outcome, is_usable) == (Outcome.WRONG_ANSWER, False)


async def test_a_port_that_nobody_has_refuses() -> None:
    step, streams = await connect("127.0.0.1", 9)
    assert (step.outcome, step.milliseconds, streams) == (Outcome.REFUSED, None, None)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ConnectionRefusedError(), Outcome.REFUSED),
        (ConnectionResetError(), Outcome.CLOSED),
        (TimeoutError(), Outcome.TIMED_OUT),
        (OSError(113, "No route to host"), Outcome.UNREACHABLE),
        (PermissionError(), Outcome.UNREACHABLE),
    ],
)
def test_an_error_says_what_became_of_the_way(error: OSError, outcome: Outcome) -> None:
    assert outcome_of(error) is outcome


@given(st.binary(max_size=200))
def test_any_bytes_may_be_a_certificate(der: bytes) -> None:
    found = TlsFinding()
    describe_certificate(found, der, datetime.now(UTC))
    assert len(found.sha256) == 64
    assert found.detail.isprintable()


@pytest.mark.parametrize("name", ["\x1b[2J\r\nEvil", "x" * 64])
def test_the_name_of_an_issuer_is_made_harmless(tmp_path: Path, name: str) -> None:
    authority = Authority("plain", tmp_path)
    authority.rename(name)
    certificate_file, _ = authority.issue("localhost")
    found = TlsFinding()
    describe_certificate(found, ssl.PEM_cert_to_DER_cert(certificate_file.read_text()), datetime.now(UTC))
    assert found.issuer.isprintable() and found.issuer
