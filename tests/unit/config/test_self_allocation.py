"""The dialogue with hostile and with broken relays; that it works with the real one is in tests/processes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import self_allocation
from config.health import Verdict
from config.self_allocation import (
    MAX_MISSED,
    Dialogue,
    SelfAllocation,
    SelfAllocationFailed,
    Target,
    choose_target,
    self_test_secret,
)
from relay.settings import RelaySettings
from stun.address import TransportAddress
from stun.attributes import ERROR_CODE, LIFETIME, NONCE, REALM, USERNAME, XOR_RELAYED_ADDRESS, ErrorValue
from stun.credentials import Credential, issue_credential, long_term_key
from stun.integrity import IntegrityKey
from stun.message import decode_message, encode_message
from stun.registry import ErrorCode, MessageClass, Method
from tests.support.ports import free_port

CREDENTIAL = Credential("1:self-0", "password")
SECRET = bytes(range(32))
BOTH = ["203.0.113.5", "127.0.0.1"]


def counted() -> Callable[[int], bytes]:
    numbers = iter(range(1, 1000))
    return lambda size: next(numbers).to_bytes(size)


def settings_of(**relay: Any) -> RelaySettings:  # noqa: ANN401
    return RelaySettings.model_validate(relay)


def key_of(realm: str = "realm") -> IntegrityKey:
    return IntegrityKey(long_term_key(CREDENTIAL.username, realm, CREDENTIAL.password))


def challenge(request: bytes, code: int = 401, nonce: str = "nonce") -> bytes:
    message = decode_message(request)
    attributes = [ERROR_CODE.pack(ErrorValue(code, "")), REALM.pack("realm"), NONCE.pack(nonce)]
    return encode_message(message.method, MessageClass.ERROR, message.transaction_id, attributes)


def success(request: bytes, key: IntegrityKey | None, *, port: int = 50_000) -> bytes:
    message = decode_message(request)
    relayed = XOR_RELAYED_ADDRESS.pack(TransportAddress.parse("192.0.2.1", port), message.transaction_id)
    attributes = [relayed] if message.method == Method.ALLOCATE else []
    return encode_message(message.method, MessageClass.SUCCESS, message.transaction_id, attributes, key=key)


def challenged() -> tuple[Dialogue, bytes]:
    dialogue = Dialogue(CREDENTIAL, counted())
    assert dialogue.receive(challenge(dialogue.next_request()))
    return dialogue, dialogue.next_request()


def test_it_allocates_and_gives_back() -> None:
    dialogue, allocate = challenged()
    assert dialogue.receive(success(allocate, key_of()))
    assert dialogue.relayed == TransportAddress.parse("192.0.2.1", 50_000)
    assert not dialogue.is_over
    refresh = decode_message(dialogue.next_request())
    assert refresh.method == Method.REFRESH
    refresh.verify(key_of())
    assert dialogue.receive(success(refresh.raw, key_of()))
    assert dialogue.is_over


def test_one_that_is_broken_off_gives_back_what_it_may_have_asked_for() -> None:
    assert Dialogue(CREDENTIAL, counted()).farewell() == b""
    dialogue, _ = challenged()
    farewell = decode_message(dialogue.farewell())
    assert farewell.method == Method.REFRESH
    assert farewell.get(LIFETIME) == 0
    farewell.verify(key_of())


def test_a_nonce_may_become_stale_once() -> None:
    dialogue, allocate = challenged()
    assert dialogue.receive(challenge(allocate, 438, "fresh"))
    again = dialogue.next_request()
    assert decode_message(again).get(NONCE) == "fresh"
    with pytest.raises(SelfAllocationFailed, match="refused with 438"):
        dialogue.receive(challenge(again, 438))


@pytest.mark.parametrize("code", [401, 486, 508])
def test_a_refusal_is_told_by_its_code(code: int) -> None:
    dialogue, allocate = challenged()
    with pytest.raises(SelfAllocationFailed, match=f"Allocate is refused with {code}"):
        dialogue.receive(challenge(allocate, code))


def test_somebody_who_does_not_know_the_secret_is_not_the_relay() -> None:
    dialogue, allocate = challenged()
    with pytest.raises(SelfAllocationFailed, match="somebody else answers"):
        dialogue.receive(success(allocate, key_of("another realm")))


def test_a_success_that_is_not_signed_is_none() -> None:
    dialogue, allocate = challenged()
    with pytest.raises(SelfAllocationFailed, match="without a credential"):
        dialogue.receive(success(allocate, None))


def test_answers_to_other_requests_are_not_heard() -> None:
    dialogue = Dialogue(CREDENTIAL, counted())
    old = challenge(dialogue.next_request())
    dialogue.next_request()
    assert not dialogue.receive(old)


@given(st.binary(max_size=200))
def test_any_bytes_are_no_answer(data: bytes) -> None:
    dialogue = Dialogue(CREDENTIAL, counted())
    dialogue.next_request()
    assert not dialogue.receive(data)


@pytest.mark.parametrize(
    ("relay", "target"),
    [
        ({}, Target("127.0.0.1", 3478, is_stream=False)),
        ({"udp_ports": []}, Target("127.0.0.1", 3478, is_stream=True)),
        ({"udp_ports": [], "tcp_ports": []}, Target("127.0.0.1", 5349, is_stream=True)),
        ({"udp_ports": [], "proxy_sources": ["127.0.0.0/8"]}, Target("203.0.113.5", 3478, is_stream=True)),
        ({"udp_ports": [], "tcp_ports": [], "tls_ports": []}, None),
        (
            {"realms": {"clinic": {"ports": [3478], "users": {"a": "b"}}}},
            Target("127.0.0.1", 3479, is_stream=False),
        ),
        (
            {"realms": {"clinic": {"addresses": ["127.0.0.1"], "users": {"a": "b"}}}},
            Target("203.0.113.5", 3478, is_stream=False),
        ),
    ],
)
def test_it_asks_where_the_general_realm_is_offered(relay: dict[str, Any], target: Target | None) -> None:
    assert choose_target(settings_of(**relay), BOTH) == target


def test_its_secret_is_not_that_of_clients() -> None:
    assert self_test_secret(SECRET) != SECRET
    assert issue_credential(self_test_secret(SECRET), 1).password


class FakeRelay(asyncio.DatagramProtocol):
    """Answers over UDP as the relay would, or as the test wants."""

    def __init__(self) -> None:
        self.refuse_with = 0
        self.is_silent = False
        self.next_port = 50_000
        self.live = 0

    def connection_made(self, transport: Any) -> None:  # noqa: ANN401  # uvloop's is none of asyncio's
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if not self.is_silent:
            self._transport.sendto(self._answer(data), addr)

    def _answer(self, data: bytes) -> bytes:
        message = decode_message(data)
        username = message.get(USERNAME)
        if username is None:
            return challenge(data)
        if self.refuse_with:
            return challenge(data, self.refuse_with)
        password = issue_credential(self_test_secret(SECRET), *_parts(username)).password
        self.live += 1 if message.method == Method.ALLOCATE else -1
        self.next_port += 1
        return success(data, IntegrityKey(long_term_key(username, "realm", password)), port=self.next_port)


def _parts(username: str) -> tuple[int, str]:
    expiry, _, identity = username.partition(":")
    return int(expiry), identity


@asynccontextmanager
async def fake_relay() -> AsyncIterator[tuple[FakeRelay, int]]:
    port = free_port()
    transport, relay = await asyncio.get_running_loop().create_datagram_endpoint(
        FakeRelay, local_addr=("127.0.0.1", port)
    )
    try:
        yield relay, port
    finally:
        transport.close()


def prober(port: int, worker_of: Callable[[int], int] = lambda _port: 0, workers: int = 1) -> SelfAllocation:
    settings = settings_of(listen_addresses=["127.0.0.1"], udp_ports=[port], workers=workers)
    return SelfAllocation(settings, SECRET, worker_of)


async def test_a_relay_that_relays_passes_and_nothing_stays_behind() -> None:
    async with fake_relay() as (relay, port):
        assert await prober(port).probe() == Verdict(holds=True)
        assert relay.live == 0


async def test_a_relay_that_is_full_fails() -> None:
    async with fake_relay() as (relay, port):
        relay.refuse_with = int(ErrorCode.INSUFFICIENT_CAPACITY)
        assert await prober(port).probe() == Verdict(holds=False, reason="Allocate is refused with 508")


async def test_silence_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_allocation, "RETRANSMIT_SECONDS", 0.001)
    async with fake_relay() as (relay, port):
        relay.is_silent = True
        assert await prober(port).probe() == Verdict(holds=False, reason=f"UDP port {port} does not answer")


async def test_every_worker_has_to_give_one_and_one_that_is_never_reached_fails_in_the_end() -> None:
    async with fake_relay() as (_, port):
        assert (await prober(port, worker_of=lambda relayed: relayed % 2, workers=2).probe()).holds
        lonely = prober(port, worker_of=lambda _relayed: 0, workers=2)
        for _ in range(MAX_MISSED - 1):
            assert (await lonely.probe()).holds
        assert await lonely.probe() == Verdict(holds=False, reason=f"worker 1 gives no allocation at UDP port {port}")


async def test_a_relay_that_can_only_be_reached_otherwise_is_not_held_against_it() -> None:
    own = SelfAllocation(settings_of(udp_ports=[], tcp_ports=[], tls_ports=[], dtls_ports=[5349]), SECRET, lambda _: 0)
    assert (await own.probe()).holds
