"""Attacks on the running relay over real sockets: reflection, and floods of junk around a good client."""

import contextlib
import ipaddress
import random
import socket
import ssl
from collections.abc import Callable, Iterator

import pytest

from stun.address import TransportAddress
from stun.attributes import REQUESTED_TRANSPORT
from stun.demux import encode_channel_data
from stun.message import encode_message
from stun.registry import MessageClass, Method
from tests.conformance.conftest import Connect
from tests.support.amplification import BINDING_LIMITS, LIMIT, measure
from tests.support.turn_client import indication, new_transaction_id
from tests.support.wire_client import Peer, Server

JUNK = 50_000  # datagrams
BURST = 2_000  # between two steps of the good client; far more than the server's socket holds
SOURCES = 8
CHANNEL = 0x4000
DENIED = TransportAddress.parse("10.11.12.13", 4000)
REACHED = TransportAddress.parse("9.9.9.9", 4000)


@pytest.mark.rfc(8489, "16.1.2")
@pytest.mark.parametrize("host", BINDING_LIMITS)
def test_no_unauthenticated_message_is_answered_with_more_than_three_times_its_bytes(relay: Server, host: str) -> None:
    measured = list(measure(relay, host))
    by_name = {each.name: each for each in measured}
    assert max(measured, key=lambda each: each.factor).factor <= LIMIT
    assert 0 < by_name["Binding"].factor <= BINDING_LIMITS[host]
    assert 0 < by_name["Binding with FINGERPRINT"].factor <= BINDING_LIMITS[host]
    # Challenges are answers that clients need, so these must not be kept small by saying nothing.
    assert by_name["Allocate of Chromium"].request == 28
    assert by_name["Allocate of Firefox"].request == 44
    assert all(by_name[f"Allocate of {browser}"].answer > 0 for browser in ("Chromium", "Firefox"))


@pytest.mark.rfc(8489, "16.1.2")
@pytest.mark.parametrize("host", BINDING_LIMITS)
def test_what_asks_for_no_answer_gets_none(relay: Server, host: str) -> None:
    silent = {
        "Binding of RFC 3489, without cookie",
        "a request of an unknown method",
        "Binding indication",
        "Send indication",
        "Data indication",
        "a success response",
        "an error response",
        "ChannelData",
        "one byte",
        "20 bytes of zeros",
        "1,200 bytes of ones",
    }
    assert {each.name for each in measure(relay, host) if not each.answer} >= silent


class Flood:
    """Sends junk from many sockets, each connected, and counts bytes both ways."""

    def __init__(self, server: Server) -> None:
        self.sent = [0] * SOURCES
        self.answered = [0] * SOURCES
        self.datagrams = 0
        self._random = random.Random(3)  # noqa: S311  # the same junk in every run
        self._sockets = []
        for number in range(SOURCES):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self._sockets.append(sock)
            sock.bind((f"127.0.0.{number + 10}", 0))
            sock.connect(("127.0.0.1", server.ports["udp"]))
            sock.setblocking(False)  # noqa: FBT003  # its only argument

    def burst(self, count: int) -> None:
        """Send so many datagrams, as fast as they go."""
        for _ in range(count):
            source = self.datagrams % SOURCES
            junk = self._junk()
            try:
                self._sockets[source].send(junk)
            except BlockingIOError:
                continue  # the queue of this socket is full; what did not leave does not count
            self.datagrams += 1
            self.sent[source] += len(junk)
        self.collect()

    def collect(self) -> None:
        """Read all answers."""
        for source, sock in enumerate(self._sockets):
            while True:
                try:
                    self.answered[source] += len(sock.recv(65536))
                except BlockingIOError:
                    break

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()

    def _junk(self) -> bytes:
        draw = self._random
        match draw.randrange(6):
            case 0:
                return draw.randbytes(draw.randrange(1, 200))
            case 1:
                allocate = encode_message(Method.ALLOCATE, MessageClass.REQUEST, draw.randbytes(12), (b"\xff" * 40,))
                return allocate[: draw.randrange(1, 60)]
            case 2:
                return encode_channel_data(draw.randrange(0x4000, 0x7FFF), draw.randbytes(draw.randrange(160)))
            case 3:
                wish = REQUESTED_TRANSPORT.pack(17)
                return encode_message(Method.ALLOCATE, MessageClass.REQUEST, new_transaction_id(), (wish,))
            case 4:
                return indication(draw.choice([Method.BINDING, Method.SEND, Method.DATA]))
            case _:
                return b"\x01\x01" + draw.randbytes(18)


@pytest.fixture
def flood(relay: Server) -> Iterator[Flood]:
    opened = Flood(relay)
    yield opened
    opened.close()


@pytest.mark.rfc(8489, "16.1.2")
def test_a_good_client_is_served_during_and_after_fifty_thousand_datagrams_of_junk(
    relay: Server, flood: Flood, make_peer: Callable[..., Peer]
) -> None:
    peer = make_peer()
    flood.burst(BURST)
    old = relay.client()  # allocates in the middle of it, and relays until the end
    relayed = old.relayed()
    assert old.bind(CHANNEL, peer.address).code == 0
    while flood.datagrams < JUNK:
        flood.burst(BURST)
        old.exchange(old.binding())  # sent behind the burst; retransmitted if the server's queue was full
        old.send_through(CHANNEL, b"during the flood")
        assert peer.receive() == (b"during the flood", relayed)
        peer.send(b"and back", relayed)
        assert old.receive_channel_data() == (CHANNEL, b"and back")
    new = relay.client()
    assert new.allocate().code == 0
    assert new.permit(peer.address).code == 0
    flood.collect()
    for sent, answered in zip(flood.sent, flood.answered, strict=True):
        assert answered <= LIMIT * sent
    for client in (old, new):
        client.close()


@pytest.mark.rfc(8656, "12.5")
def test_http_is_never_answered(connect_stream: Connect) -> None:
    client = connect_stream()
    request = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"
    size = 4 + int.from_bytes(request[2:4])  # what it claims, read as ChannelData
    with contextlib.suppress(ConnectionError, ssl.SSLEOFError):  # closed at once is just as silent
        client.wire.send(request.ljust(size, b" "))
        assert client.hears_nothing_more()


@pytest.mark.rfc(8656, "21.1")
def test_the_log_names_neither_user_nor_client_nor_peer(relay: Server, connect: Connect) -> None:
    client = connect()
    assert client.permit(DENIED).code == 437
    relayed = client.relayed()
    assert client.permit(DENIED).code == 403
    assert client.bind(CHANNEL, REACHED).code == client.refresh(0).code == 0
    assert client.refresh(0).code == 437
    logged = relay.service.log.read_text()
    assert "allocation over" in logged  # the end of the one above, at least
    for secret in (client.turn.username, client.turn.password, f":{client.address.port}", f":{relayed.port}"):
        assert secret not in logged
    for peer in (DENIED, REACHED):
        assert str(ipaddress.ip_address(peer.ip)) not in logged
