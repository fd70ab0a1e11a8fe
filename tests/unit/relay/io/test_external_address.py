import asyncio
from collections.abc import Callable

import pytest

from relay.io import external_address
from relay.io.external_address import ExternalAddressError, ask_external_address, check_advertised
from stun.address import TransportAddress
from stun.attributes import XOR_MAPPED_ADDRESS
from stun.message import encode_message
from stun.registry import MessageClass, Method
from tests.support.udp_endpoint import UdpEndpoint, udp_endpoint

OWN = TransportAddress.parse("127.0.0.1", 0).ip
SEEN = TransportAddress.parse("198.41.0.4", 4711)


def answer(transaction_id: bytes, message_class: MessageClass = MessageClass.SUCCESS) -> bytes:
    return encode_message(
        Method.BINDING, message_class, transaction_id, [XOR_MAPPED_ADDRESS.pack(SEEN, transaction_id)]
    )


async def ask(server: UdpEndpoint, answers: Callable[[bytes], list[bytes]], *, lose: int = 0) -> bytes:
    """Ask a server that loses the first requests and then sends these answers."""
    asking = asyncio.ensure_future(ask_external_address(OWN, TransportAddress.parse(*server.address)))
    for _ in range(lose):
        await server.receive()
    request, client = await server.receive_from()
    for data in answers(request[8:20]):
        server.send(data, client)
    return await asking


async def test_the_mapped_address_is_the_external_one() -> None:
    async with udp_endpoint() as server:
        assert await ask(server, lambda transaction_id: [answer(transaction_id)]) == SEEN.ip


async def test_a_lost_request_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_address, "RETRANSMIT_SECONDS", 0.01)
    async with udp_endpoint() as server:
        assert await ask(server, lambda transaction_id: [answer(transaction_id)], lose=2) == SEEN.ip


async def test_what_does_not_answer_the_request_is_passed_over() -> None:
    async with udp_endpoint() as server:
        lies = [b"", b"garbage", answer(bytes(12))]
        assert (
            await ask(
                server,
                lambda transaction_id: [*lies, answer(transaction_id, MessageClass.REQUEST), answer(transaction_id)],
            )
            == SEEN.ip
        )


async def test_a_server_that_is_silent_is_named_with_the_key_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(external_address, "RETRANSMIT_SECONDS", 0.001)
    async with udp_endpoint() as server:
        with pytest.raises(ExternalAddressError, match=r"relay\.external_address_from"):
            await ask_external_address(OWN, TransportAddress.parse(*server.address))


@pytest.mark.parametrize(
    "advertised",
    [
        "0.0.0.0",  # noqa: S104
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "169.254.1.1",
        "127.0.0.1",
    ],
)
def test_an_address_that_no_peer_reaches_is_refused(advertised: str) -> None:
    inner, outer = (TransportAddress.parse(text, 0).ip for text in ("10.0.0.1", advertised))
    with pytest.raises(ExternalAddressError, match=r"relay\.external_addresses"):
        check_advertised(inner, outer)


@pytest.mark.parametrize(
    ("bound", "advertised"),
    [("10.0.0.1", "10.0.0.1"), ("10.0.0.1", "198.41.0.4"), ("127.0.0.1", "127.0.0.1"), ("2a00::1", "2a00::2")],
)
def test_an_address_that_somebody_may_reach_is_taken(bound: str, advertised: str) -> None:
    check_advertised(*(TransportAddress.parse(text, 0).ip for text in (bound, advertised)))
