import asyncio
from collections.abc import Callable

import pytest

from check.conversation import Answer, Conversation, PeerData
from check.findings import Outcome
from check.io import links
from check.io.dial import connect
from check.io.links import Link, LinkClosed, open_datagram_link, open_stream_link
from stun.address import TransportAddress
from stun.attributes import DATA, XOR_PEER_ADDRESS
from stun.binding import answer_binding
from stun.message import decode_message, encode_message
from stun.registry import MessageClass, Method
from tests.support.tcp_server import serve_tcp

CLIENT = TransportAddress.parse("192.0.2.5", 4000)
ID = bytes(12)


def answer(request: bytes) -> bytes:
    return answer_binding(decode_message(request), CLIENT)


class Scripted:
    """A carrier that answers the n-th message as the script says; None: not at all."""

    def __init__(self, link: Link, *script: Callable[[bytes], bytes] | None, is_reliable: bool = False) -> None:
        self.is_reliable = is_reliable
        self.sent: list[bytes] = []
        self._link = link
        self._script = list(script)
        link.carried_by(self)

    def send(self, message: bytes) -> None:
        self.sent.append(message)
        step = self._script.pop(0) if self._script else None
        if step is not None:
            asyncio.get_running_loop().call_soon(self._link.receive, step(message))

    async def close(self) -> None:
        self.sent.clear()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "RETRANSMIT_SECONDS", 0.01)


async def test_a_request_is_answered() -> None:
    link = Link(Conversation())
    Scripted(link, answer)
    step, found = await link.step(link.conversation.binding)
    assert step.outcome is Outcome.OK and step.milliseconds is not None
    assert found is not None and found.mapped == CLIENT


async def test_a_datagram_that_is_lost_is_sent_again_unchanged() -> None:
    link = Link(Conversation())
    carrier = Scripted(link, None, None, answer)
    step, _ = await link.step(link.conversation.binding)
    assert step.outcome is Outcome.OK
    assert len(carrier.sent) == 3 and len(set(carrier.sent)) == 1


async def test_over_a_stream_nothing_is_sent_twice() -> None:
    link = Link(Conversation())
    carrier = Scripted(link, is_reliable=True)
    with pytest.raises(TimeoutError):
        await link.ask(link.conversation.binding, 0.1)
    assert len(carrier.sent) == 1


async def test_an_answer_to_another_request_is_none() -> None:
    link = Link(Conversation())
    strange = decode_message(Conversation().binding(b"another one!"))
    Scripted(link, lambda _request: answer_binding(strange, CLIENT))
    with pytest.raises(TimeoutError):
        await link.ask(link.conversation.binding, 0.05)


async def test_something_that_is_not_stun_is_a_strange_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "REQUEST_SECONDS", 0.05)
    link = Link(Conversation())
    Scripted(link, lambda _request: b"HTTP/1.1 400 Bad Request\r\n")
    with pytest.raises(TimeoutError):
        await link.ask(link.conversation.binding, 0.05)
    assert link.junk == 1


async def test_whoever_waits_is_told_when_the_way_breaks_and_so_is_whoever_asks_later() -> None:
    link = Link(Conversation())
    Scripted(link)
    asyncio.get_running_loop().call_later(0.02, link.broke, Outcome.REFUSED)
    for _ in range(2):
        step, _ = await link.step(link.conversation.binding)
        assert step.outcome is Outcome.REFUSED


async def test_an_error_code_is_a_rejection_unless_it_is_the_one_expected() -> None:
    def refuse(request: bytes) -> bytes:
        message = decode_message(request)
        return encode_message(message.method, MessageClass.ERROR, message.transaction_id, [b"\0\x09\0\x04\0\0\x04\x01"])

    link = Link(Conversation())
    Scripted(link, refuse, refuse)
    for expected, outcome in ((401, Outcome.OK), (0, Outcome.REJECTED)):
        step, _ = await link.step(lambda it: link.conversation.allocate(it, 1), expected)
        assert (step.outcome, step.code) == (outcome, 401)


async def test_data_of_peers_and_answers_that_nobody_waits_for_are_handed_on() -> None:
    link = Link(Conversation())
    data: list[PeerData] = []
    answers: list[Answer] = []
    link.on_data = lambda found, _now: data.append(found)
    link.on_answer = lambda found, _now: answers.append(found)
    attributes = [XOR_PEER_ADDRESS.pack(CLIENT, ID), DATA.pack(b"hello")]
    link.receive(encode_message(Method.DATA, MessageClass.INDICATION, ID, attributes))
    link.receive(answer(Conversation().binding(ID)))
    assert data == [PeerData(CLIENT, b"hello")]
    assert [each.transaction_id for each in answers] == [ID]


async def test_without_a_carrier_nothing_can_be_asked() -> None:
    with pytest.raises(LinkClosed):
        await Link(Conversation()).ask(Conversation().binding)


async def test_a_port_that_nobody_has_refuses_datagrams() -> None:
    link = await open_datagram_link("127.0.0.1", 9, Conversation())
    step, _ = await link.step(link.conversation.binding)
    await link.close()
    assert step.outcome is Outcome.REFUSED


async def test_an_icmp_error_after_an_answer_breaks_nothing() -> None:
    link = Link(Conversation())
    socket = links.Datagrams(link)
    Scripted(link, answer, answer)
    await link.step(link.conversation.binding)
    socket.error_received(ConnectionRefusedError())
    step, _ = await link.step(link.conversation.binding)
    assert step.outcome is Outcome.OK


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (answer, Outcome.OK),
        (lambda _request: b"HTTP/1.1 400 Bad Request\r\n\r\n", Outcome.WRONG_ANSWER),
        (lambda _request: b"", Outcome.CLOSED),
    ],
    ids=["a STUN server", "a web server", "one that hangs up"],
)
async def test_a_stream_shows_who_is_at_its_other_end(reply: Callable[[bytes], bytes], outcome: Outcome) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(await reader.readexactly(20)))
        await writer.drain()
        if outcome is Outcome.OK:
            await reader.read()
        else:
            writer.close()
            await writer.wait_closed()

    async with serve_tcp(serve) as port:
        _, streams = await connect("127.0.0.1", port)
        assert streams is not None
        link = open_stream_link(streams, Conversation())
        step, _ = await link.step(link.conversation.binding)
        await link.close()
    assert step.outcome is outcome
