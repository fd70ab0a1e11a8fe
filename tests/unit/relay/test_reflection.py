"""The published reflection factors, measured on the control plane with its real encoders."""

import itertools

import pytest

from relay.five_tuple import FiveTuple, Transport
from relay.reflection import MAX_FACTOR, is_within_budget
from stun.address import TransportAddress
from stun.attributes import XOR_PEER_ADDRESS
from tests.support.reflection import Factor, measure
from tests.support.relay_harness import RelayHarness, peer

LONGEST_REALM = "r" * 12  # that leaves room for PASSWORD-ALGORITHMS; a longer one leaves none, and has none
CLIENTS = {"IPv4": ("198.41.0.4", "91.198.174.192"), "IPv6": ("2a02:8109::4", "2001:470::1")}


@pytest.fixture(params=CLIENTS, scope="module")
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def factors(family: str) -> dict[str, Factor]:
    harness = RelayHarness(realm=LONGEST_REALM)
    server, client = (TransportAddress.parse(text, 3478) for text in CLIENTS[family])
    numbers = itertools.count(1)

    def exchange(data: bytes) -> list[bytes]:
        stranger = client._replace(ip=client.ip[:2] + next(numbers).to_bytes(2) + client.ip[4:])
        return harness.receive(data, FiveTuple(Transport.UDP, server, stranger))

    measured = measure(exchange, peer=(XOR_PEER_ADDRESS, peer("91.198.174.1")), realm=LONGEST_REALM)
    assert not harness.plane.relays, "a stranger was given something"
    return measured


def test_no_answer_to_a_stranger_exceeds_three_times_the_request(factors: dict[str, Factor]) -> None:
    assert {factor for factor in factors.values() if factor.ratio > MAX_FACTOR} == set()


def test_binding_stays_at_the_published_factor(factors: dict[str, Factor], family: str) -> None:
    assert factors["Binding"].ratio == {"IPv4": 32 / 20, "IPv6": 44 / 20}[family]


@pytest.mark.parametrize("kind", ["Allocate", "Refresh", "Create permission", "Channel bind"])
def test_a_request_that_needs_a_password_is_answered_all_the_same(factors: dict[str, Factor], kind: str) -> None:
    assert factors[kind].ratio > 1.0


@pytest.mark.parametrize(
    "kind",
    [
        "indication of any method",
        "success of any method",
        "error of any method",
        "request of an unknown method",
        "ChannelData",
        "junk",
    ],
)
def test_what_is_no_request_of_ours_draws_nothing(factors: dict[str, Factor], kind: str) -> None:
    assert factors[kind].answer_bytes == 0


@pytest.mark.parametrize(("answer", "fits"), [(59, True), (60, True), (61, False)])
def test_the_budget_is_three_times_the_request(answer: int, *, fits: bool) -> None:
    assert is_within_budget(bytes(answer), bytes(20)) is fits
