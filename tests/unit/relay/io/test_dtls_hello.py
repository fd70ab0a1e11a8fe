"""What a stranger gets, asked of the verifier itself; the same over sockets is in test_dtls."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from config.self_signed import issue_certificate, new_private_key
from relay.io.dtls import build_dtls_context
from relay.io.dtls_hello import COOKIE_BYTES, SLOT_SECONDS, DtlsCookies, HelloVerifier
from stun.address import TransportAddress
from tests.support.dtls_client import client_context

KEY = b"k" * 32
CLIENT = TransportAddress.parse("192.0.2.1", 5000)
NEIGHBOUR = TransportAddress.parse("192.0.2.1", 5001)
RANDOM = bytes(range(32))
NOW = 1_000_000_020.0  # the first second of a slot


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> SSL.Context:
    folder: Path = tmp_path_factory.mktemp("dtls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    key.write_bytes(new_private_key())
    certificate.write_bytes(issue_certificate(key.read_bytes(), ["localhost"], datetime.now(UTC)))
    return build_dtls_context(certificate, key)


@pytest.fixture(scope="module")
def verifier(context: SSL.Context) -> HelloVerifier:
    return HelloVerifier(context, DtlsCookies([KEY]))


class Stranger:
    def __init__(self) -> None:
        self.ssl = SSL.Connection(client_context())
        self.ssl.set_connect_state()
        self.ssl.set_ciphertext_mtu(1200)

    def hello(self, answer: bytes = b"") -> bytes:
        if answer:
            self.ssl.bio_write(answer)
        with pytest.raises(SSL.WantReadError):
            self.ssl.do_handshake()
        return self.ssl.bio_read(2048)


def second_hello(verifier: HelloVerifier, client: TransportAddress = CLIENT, now: float = NOW) -> bytes:
    stranger = Stranger()
    answer = verifier.receive(stranger.hello(), client, now)
    assert isinstance(answer, bytes)
    return stranger.hello(answer)


def smallest_hello(**changes: bytes) -> bytes:
    """A ClientHello that ends behind its empty cookie."""
    parts = {
        "type": b"\x16",
        "version": b"\xfe\xff",
        "sequence": bytes(8),
        "length": (48).to_bytes(2),
        "message_type": b"\x01",
        "message_length": (36).to_bytes(3),
        "message_sequence": bytes(2),
        "fragment": bytes(3) + (36).to_bytes(3),
        "body": b"\xfe\xfd" + RANDOM + bytes(2),
    } | changes
    return b"".join(parts.values())


@pytest.mark.parametrize("age", [0, SLOT_SECONDS - 1, SLOT_SECONDS, 2 * SLOT_SECONDS - 1])
def test_a_cookie_is_good_in_its_slot_and_the_next(age: float) -> None:
    cookies = DtlsCookies([KEY])
    assert cookies.accepts(cookies.make(CLIENT, RANDOM, NOW), CLIENT, RANDOM, NOW + age)


@pytest.mark.parametrize("age", [2 * SLOT_SECONDS, 3 * SLOT_SECONDS, -1])
def test_a_cookie_of_another_time_is_refused(age: float) -> None:
    cookies = DtlsCookies([KEY])
    assert not cookies.accepts(cookies.make(CLIENT, RANDOM, NOW), CLIENT, RANDOM, NOW + age)


@given(st.binary(max_size=40), st.binary(min_size=32, max_size=32), st.ip_addresses(), st.integers(0, 65535))
def test_a_cookie_is_good_for_one_client_and_one_random(cookie: bytes, random: bytes, ip: object, port: int) -> None:
    cookies = DtlsCookies([KEY])
    client = TransportAddress.parse(str(ip), port)
    own = cookies.make(client, random, NOW)
    assert len(own) == COOKIE_BYTES
    assert cookies.accepts(own, client, random, NOW)
    assert not cookies.accepts(own, client._replace(port=port ^ 1), random, NOW)
    assert not cookies.accepts(own, client, bytes([random[0] ^ 1]) + random[1:], NOW)
    assert cookies.accepts(cookie, client, random, NOW) is (cookie == own)


def test_cookies_made_with_any_of_the_keys_are_good() -> None:
    old, new = DtlsCookies([KEY]), DtlsCookies([b"n" * 32, KEY])
    assert new.accepts(old.make(CLIENT, RANDOM, NOW), CLIENT, RANDOM, NOW)
    assert not old.accepts(new.make(CLIENT, RANDOM, NOW), CLIENT, RANDOM, NOW)


@pytest.mark.parametrize("keys", [[], [b"short"], [KEY, b"x" * 65]])
def test_keys_that_are_no_secrets_are_refused(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="key"):
        DtlsCookies(keys)


def test_the_connection_is_handed_over_for_a_good_cookie(verifier: HelloVerifier) -> None:
    answer = verifier.receive(second_hello(verifier), CLIENT, NOW)
    assert isinstance(answer, SSL.Connection)
    with pytest.raises(SSL.WantReadError):
        answer.do_handshake()
    assert b"localhost" in answer.bio_read(1 << 16)  # it has read the ClientHello and shows the certificate


def test_two_strangers_do_not_share_a_connection(verifier: HelloVerifier) -> None:
    first, second = (verifier.receive(second_hello(verifier), CLIENT, NOW) for _ in range(2))
    assert isinstance(first, SSL.Connection)
    assert isinstance(second, SSL.Connection)
    assert first is not second


def test_strangers_may_come_between_the_two_hellos_of_another(verifier: HelloVerifier) -> None:
    hellos = [second_hello(verifier, TransportAddress(CLIENT.ip, port)) for port in range(1, 9)]
    for port, hello in enumerate(hellos, start=1):
        assert isinstance(verifier.receive(hello, TransportAddress(CLIENT.ip, port), NOW), SSL.Connection)


def test_the_cookie_of_another_address_is_refused(verifier: HelloVerifier) -> None:
    hello = second_hello(verifier, NEIGHBOUR)
    assert isinstance(verifier.receive(hello, CLIENT, NOW), bytes)
    assert verifier.refused_cookie


def test_an_old_cookie_is_refused(verifier: HelloVerifier) -> None:
    hello = second_hello(verifier)
    assert isinstance(verifier.receive(hello, CLIENT, NOW + 2 * SLOT_SECONDS), bytes)
    assert verifier.refused_cookie


def test_a_hello_without_cookie_has_none_that_could_be_refused(verifier: HelloVerifier) -> None:
    verifier.receive(second_hello(verifier, NEIGHBOUR), CLIENT, NOW)
    assert isinstance(verifier.receive(Stranger().hello(), CLIENT, NOW), bytes)
    assert not verifier.refused_cookie


def test_the_answer_repeats_the_record_sequence_number(verifier: HelloVerifier) -> None:
    answer = verifier.receive(smallest_hello(sequence=b"\0\0\0\0\0\0\x12\x34"), CLIENT, NOW)
    assert isinstance(answer, bytes)
    assert answer[3:11] == b"\0\0\0\0\0\0\x12\x34"  # RFC 6347 §4.2.1


def test_the_smallest_hello_gets_a_smaller_answer(verifier: HelloVerifier) -> None:
    hello = smallest_hello()
    answer = verifier.receive(hello, CLIENT, NOW)
    assert isinstance(answer, bytes)
    assert (len(hello), len(answer)) == (61, 44)


@pytest.mark.parametrize(
    "hello",
    [
        smallest_hello()[:-1],
        smallest_hello(body=b"\xfe\xfd" + RANDOM + b"\0\x20"),
        smallest_hello(body=b"\xfe\xfd" + RANDOM + b"\x21\0"),
        smallest_hello(fragment=(1).to_bytes(3) + (36).to_bytes(3)),
        smallest_hello(message_type=b"\x02"),
        smallest_hello(version=b"\x03\x03"),
        smallest_hello(length=(200).to_bytes(2)),
        smallest_hello(sequence=b"\0\1" + bytes(6)),
        smallest_hello() + bytes(2048),
    ],
    ids=["cut", "cookie", "session ID", "fragment", "message type", "version", "length", "epoch", "size"],
)
def test_junk_gets_no_answer_and_leaves_nothing_behind(verifier: HelloVerifier, hello: bytes) -> None:
    assert verifier.receive(hello, CLIENT, NOW) is None
    assert isinstance(verifier.receive(second_hello(verifier), CLIENT, NOW), SSL.Connection)


@given(st.data())
def test_no_datagram_is_answered_with_more_bytes_than_it_has(verifier: HelloVerifier, data: st.DataObject) -> None:
    whole = data.draw(st.sampled_from([smallest_hello(), Stranger().hello()]))
    hello = bytearray(whole[: data.draw(st.integers(0, len(whole)))] + data.draw(st.binary(max_size=40)))
    for _ in range(data.draw(st.integers(0, 4))):
        if hello:
            hello[data.draw(st.integers(0, len(hello) - 1))] = data.draw(st.integers(0, 255))
    answer = verifier.receive(bytes(hello), CLIENT, NOW)
    assert answer is None or (isinstance(answer, bytes) and len(answer) < len(hello))


def test_a_new_context_is_used_for_the_next_stranger(
    verifier: HelloVerifier, context: SSL.Context, tmp_path: Path
) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    key.write_bytes(new_private_key())
    certificate.write_bytes(issue_certificate(key.read_bytes(), ["renewed"], datetime.now(UTC)))
    hello = second_hello(verifier)
    verifier.replace_context(build_dtls_context(certificate, key))
    try:
        answer = verifier.receive(hello, CLIENT, NOW)
    finally:
        verifier.replace_context(context)
    assert isinstance(answer, SSL.Connection)
    with pytest.raises(SSL.WantReadError):
        answer.do_handshake()
    assert b"renewed" in answer.bio_read(1 << 16)
