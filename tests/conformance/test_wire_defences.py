"""Attacks on the running relay over real sockets, one row after the other of what is closed first.

| danger | attacked by |
|---|---|
| relay into private networks | `test_no_form_of_a_private_address_is_relayed_to`; `test_denied_peers.py` watches the wire |
| our own services as peers | `test_own_services_are_no_peers_and_other_relayed_clients_are` |
| reflection | `test_no_unauthenticated_message_is_answered_with_more_than_three_times_its_bytes`, `test_what_asks_for_no_answer_gets_none`, `test_a_source_that_asks_too_often_is_silenced_and_another_is_answered` |
| state before authentication | `test_ten_thousand_strangers_leave_nothing_behind` |
| exhaustion | `test_ports_come_back_however_allocations_end`, `test_one_user_cannot_take_what_others_need` |
| bandwidth and peer rate | `test_a_flood_from_a_peer_is_cut_and_another_allocation_unharmed`, `test_a_client_that_sends_too_much_is_cut` |
| STUN loops | `test_a_request_from_a_port_of_reflectors_is_not_answered`, `test_a_request_from_an_own_listener_is_not_answered`, `test_two_relays_pointed_at_each_other_fall_silent` |
| slow or hostile TCP | `test_a_connection_that_never_says_a_whole_message_is_closed`, `test_a_slow_loris_does_not_keep_others_out`, `test_a_client_that_does_not_read_is_bounded_and_others_are_served`; half frames: `test_wire_rfc8489.py` |
| guessing | `test_guessed_nonces_and_passwords_get_in_nowhere`, `test_the_allocation_of_another_user_is_a_441` |
| HTTP on TURN ports | `test_http_is_never_answered` |
| parser bugs | `test_a_good_client_is_served_during_and_after_fifty_thousand_datagrams_of_junk`, `test_mutated_requests_neither_stop_the_relay_nor_get_in` |
| privacy | `test_the_log_names_neither_user_nor_client_nor_peer`, `test_the_metrics_name_neither_user_nor_realm_nor_address` |
"""  # noqa: E501  # a table

import base64
import contextlib
import ipaddress
import random
import re
import resource
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relay.io.stream import FIRST_MESSAGE_SECONDS
from stun.address import IPV4, IPV6, TransportAddress
from stun.attributes import ADDITIONAL_ADDRESS_FAMILY, DATA, EVEN_PORT, REQUESTED_TRANSPORT, RESERVATION_TOKEN
from stun.demux import encode_channel_data
from stun.message import encode_message
from stun.registry import MessageClass, Method
from tests.conformance.conftest import Connect
from tests.support.amplification import BINDING_LIMITS, LIMIT, measure
from tests.support.samples import sample_sum
from tests.support.turn_client import TurnClient, indication, new_transaction_id
from tests.support.wire import PATIENCE, TcpWire, UdpWire
from tests.support.wire_client import REALM, Peer, Server, WireClient, run_relay

BURST_OF_CHALLENGES = 30
BYTES_PER_SECOND = 50_000
PEER_PACKETS_PER_SECOND = 100
STRANGERS = 10_000
JUNK = 50_000  # datagrams
BURST = 2_000  # between two steps of the good client; far more than the server's socket holds
SOURCES = 8
CHANNEL = 0x4000
DENIED = TransportAddress.parse("10.11.12.13", 4000)
REACHED = TransportAddress.parse("9.9.9.9", 4000)
REACHED_V6 = TransportAddress.parse("2620:fe::fe", 4000)


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


# Relay into private networks, and our own services as peers


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A relay as nobody has opened it, with little of everything: ten ports, few challenges, narrow buckets."""
    with run_relay(
        tmp_path_factory.mktemp("closed"),
        port_min=50_300,
        port_max=50_309,
        peers={"allow": ["127.0.0.3/32"]},
        quota={
            "allocations_per_user": 3,
            "total_share_percent": 100,
            "challenges_per_second": 1,
            "challenge_burst": BURST_OF_CHALLENGES,
            "bytes_per_second": BYTES_PER_SECOND,
            "peer_packets_per_second": PEER_PACKETS_PER_SECOND,
            "stream_connections": 64,
        },
    ) as server:
        yield server


@pytest.fixture
def stranger(closed: Server) -> Iterator[Callable[..., WireClient]]:
    """Opens clients of the closed relay, over TCP unless told otherwise: there challenges have no rate."""
    opened: list[WireClient] = []

    def connect(transport: str = "tcp", user: WireClient | None = None, source: str = "") -> WireClient:
        turn = None if user is None else TurnClient(user.turn.username, user.turn.password)
        if source:
            client = WireClient(UdpWire(("127.0.0.1", closed.ports["udp"]), source), closed.new_user())
        else:
            client = closed.client(transport) if turn is None else closed.client_of(turn, transport)
        opened.append(client)
        return client

    yield connect
    for client in opened:
        client.close()


Stranger = Callable[..., WireClient]


@pytest.mark.rfc(8656, "21.2.1")
@pytest.mark.parametrize(
    "text",
    [
        *("10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "127.0.0.2"),
        "0.0.0.0",  # noqa: S104  # nobody binds to it here
        *("224.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "192.88.99.1", "240.0.0.1"),
        *("::ffff:10.0.0.1", "::10.0.0.1", "2002:a00:1::", "2001:0:a00:1::1", "64:ff9b::a00:1", "64:ff9b:1::a00:1"),
        *("2620:fe::5efe:a00:1", "2620:fe::200:5efe:a00:1", "::", "::2", "fd00::1", "fe80::1", "ff02::1"),
        *("2001:db8::1", "100::1", "3fff::1", "5f00::1"),
    ],
)
def test_no_form_of_a_private_address_is_relayed_to(stranger: Stranger, text: str) -> None:
    client = stranger()
    peer = TransportAddress.parse(text, 4000)
    assert (client.relayed if peer.family == IPV4 else client.relayed_ipv6)()
    assert client.permit(peer).code == client.bind(CHANNEL, peer).code == 403
    good = REACHED if peer.family == IPV4 else REACHED_V6
    assert client.permit(good, peer).code == 403
    assert client.bind(CHANNEL, good).code == 0, "nothing of the refused requests is left"


@pytest.mark.rfc(8656, "21.2.1")
def test_own_services_are_no_peers_and_other_relayed_clients_are(closed: Server, stranger: Stranger) -> None:
    alice, bob = stranger(), stranger()
    own, other = alice.relayed(), bob.relayed()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as service:
        service.bind(("127.0.0.1", 0))
        service.settimeout(PATIENCE)
        at_service = TransportAddress.parse(*service.getsockname())
        listener = TransportAddress.parse("127.0.0.1", closed.ports["udp"])
        before = sample_sum(closed.service, "redconnect_relay_requests_answered_total", method="binding")
        assert alice.permit(at_service).code == bob.permit(own).code == 0  # the address is that of all relayed clients
        for peer in (at_service, listener):
            alice.send_to(peer, alice.binding())
        alice.send_to(other, b"to another client")
        assert bob.receive_indication().get(DATA) == b"to another client"
        service.setblocking(False)  # noqa: FBT003  # its only argument
        with pytest.raises(BlockingIOError):
            service.recv(1)
    assert sample_sum(closed.service, "redconnect_relay_requests_answered_total", method="binding") == before


# Reflection and state before authentication


@pytest.mark.rfc(8489, "16.1.2")
def test_a_source_that_asks_too_often_is_silenced_and_another_is_answered(stranger: Stranger) -> None:
    attacker = stranger(source="127.0.0.61")
    count = 20 * BURST_OF_CHALLENGES
    for _ in range(count):
        attacker.wire.send(attacker.turn.build(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17)))
    last = attacker.binding()
    attacker.wire.send(last)
    answers = 0
    while attacker.wire.receive()[8:20] != last[8:20]:
        answers += 1
    assert 0 < answers <= BURST_OF_CHALLENGES + 5  # one per second comes on top
    assert stranger(source="127.0.0.62").get_challenged().code == 401


@pytest.mark.rfc(8489, "16.1.2")
def test_ten_thousand_strangers_leave_nothing_behind(relay: Server) -> None:
    before = held(relay)
    memory = resident_bytes(relay)
    client = relay.client()
    for number in range(STRANGERS):
        client.wire.send(client.turn.build(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17)))
        if number % 100 == 99:
            client.exchange(client.binding())
    assert held(relay) == before
    assert resident_bytes(relay) - memory < 4 << 20
    client.close()


def held(server: Server) -> dict[str, float]:
    """All that the relay keeps of its clients, by name of the metric."""
    names = ("redconnect_relay_allocations{", "redconnect_relay_ports_taken{", "redconnect_relay_connections{")
    return {name: value for name, value in server.service.metrics().items() if name.startswith(names) and value}


def resident_bytes(server: Server) -> int:
    pages = int(Path(f"/proc/{server.service.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


# Exhaustion


@pytest.mark.rfc(8656, "21.3.1")
def test_ports_come_back_however_allocations_end(closed: Server, stranger: Stranger) -> None:
    """Six ports of ten are taken each time, so that a leak of one would be felt in the fifth round."""

    def taken() -> float:
        return sample_sum(closed.service, "redconnect_relay_ports_taken")

    assert comes_true(lambda: taken() == 0)  # of the tests before
    for _ in range(6):
        refreshed, cut, reserving, dual = (stranger() for _ in range(4))
        second = stranger(user=reserving)
        assert refreshed.allocate().code == cut.allocate().code == 0
        assert dual.allocate((ADDITIONAL_ADDRESS_FAMILY, IPV6)).code == 0
        token = reserving.allocate((EVEN_PORT, True)).get(RESERVATION_TOKEN)
        assert second.allocate((RESERVATION_TOKEN, token)).code == 0
        assert taken() == 6
        for client in (refreshed, dual, reserving, second):
            assert client.refresh(0).code == 0
        assert isinstance(cut.wire, TcpWire)
        cut.wire.reset()
        assert comes_true(lambda: taken() == 0)


def comes_true(condition: Callable[[], bool]) -> bool:
    """Whether something holds within the time that a client waits; a connection's end takes a moment to be noticed."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            return False
    return True


@pytest.mark.rfc(8656, "21.3.1")
def test_one_user_cannot_take_what_others_need(stranger: Stranger) -> None:
    first = stranger()
    assert first.allocate().code == 0
    codes = [stranger(user=first).allocate().code for _ in range(4)]
    assert codes == [0, 0, 486, 486]
    assert stranger().allocate().code == 0


# Bandwidth and peer rate


@pytest.mark.rfc(8656, "21.3.2")
def test_a_flood_from_a_peer_is_cut_and_another_allocation_unharmed(
    closed: Server, stranger: Stranger, make_peer: Callable[..., Peer]
) -> None:
    noisy, quiet = make_peer("127.0.0.3"), make_peer("127.0.0.3")
    victim, other = stranger(), stranger()
    at_victim, at_other = victim.relayed(), other.relayed()
    assert victim.bind(CHANNEL, noisy.address).code == other.bind(CHANNEL, quiet.address).code == 0
    for _ in range(20 * PEER_PACKETS_PER_SECOND):
        noisy.send(b"flood", at_victim)
    quiet.send(b"speech", at_other)
    assert other.receive_channel_data() == (CHANNEL, b"speech")
    last = victim.binding()
    victim.wire.send(last)
    passed = 0
    while victim.wire.receive()[8:20] != last[8:20]:
        passed += 1
    assert 0 < passed <= 3 * PEER_PACKETS_PER_SECOND
    assert sample_sum(closed.service, "redconnect_relay_packets_dropped_total") > 0


@pytest.mark.rfc(8656, "21.3.2")
def test_a_client_that_sends_too_much_is_cut(stranger: Stranger, make_peer: Callable[..., Peer]) -> None:
    peer = make_peer("127.0.0.3")
    client = stranger()
    client.relayed()
    assert client.bind(CHANNEL, peer.address).code == 0
    for _ in range(20 * BYTES_PER_SECOND // 1000):
        client.send_through(CHANNEL, bytes(1000))
    assert client.hears_nothing_more()  # and so all of it has been dealt with
    passed = 0
    while not peer.has_heard_nothing():
        passed += 1000
    assert 0 < passed <= 4 * BYTES_PER_SECOND


# STUN loops


@pytest.mark.rfc(8489, "16.1.2")
@pytest.mark.parametrize("port", [7, 19, 53, 123, 1900, 11211])
def test_a_request_from_a_port_of_reflectors_is_not_answered(relay: Server, port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.63", port))
        sock.connect(("127.0.0.1", relay.ports["udp"]))
        ask_in_vain(relay, sock)


@pytest.mark.rfc(8489, "16.1.2")
def test_a_request_from_an_own_listener_is_not_answered(closed: Server, stranger: Stranger) -> None:
    dropped = sample_sum(closed.service, "redconnect_relay_packets_dropped_total", reason="reflector")
    client = stranger()
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        server = ("127.0.0.1", closed.ports["udp"])
        sock.sendto(forged(server, server, client.binding()), server)
    client.exchange(client.binding())
    assert sample_sum(closed.service, "redconnect_relay_packets_dropped_total", reason="reflector") == dropped + 1


@pytest.mark.rfc(8489, "16.1.2")
def test_two_relays_pointed_at_each_other_fall_silent(relay: Server, closed: Server) -> None:
    one, other = ("127.0.0.1", relay.ports["udp"]), ("127.0.0.1", closed.ports["udp"])
    with contextlib.closing(relay.client()) as client, contextlib.closing(closed.client()) as judge:
        allocate = client.turn.build(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17))
        seeds = (client.binding(), allocate)
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
            for seed in seeds:
                sock.sendto(forged(one, other, seed), other)
        name = "redconnect_relay_messages_dropped_total"
        judge.exchange(judge.binding())  # its answers have left
        client.exchange(client.binding())  # and have been dropped
        settled = sample_sum(relay.service, name, reason="not_a_request")
        assert settled >= len(seeds)
        for _ in range(3):
            judge.exchange(judge.binding())
            client.exchange(client.binding())
        assert sample_sum(relay.service, name, reason="not_a_request") == settled


def ask_in_vain(server: Server, sock: socket.socket) -> None:
    with contextlib.closing(server.client()) as client:
        sock.send(client.binding())
        client.exchange(client.binding())
    sock.setblocking(False)  # noqa: FBT003  # its only argument
    with pytest.raises(BlockingIOError):
        sock.recv(1)


def forged(source: tuple[str, int], destination: tuple[str, int], payload: bytes) -> bytes:
    """An IPv4 datagram whose source is whatever one likes."""
    udp = struct.pack("!HHHH", source[1], destination[1], 8 + len(payload), 0) + payload
    addresses = socket.inet_aton(source[0]) + socket.inet_aton(destination[0])
    return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, socket.IPPROTO_UDP, 0) + addresses + udp


# Slow or hostile TCP


@pytest.mark.rfc(8656, "21.3.1")
def test_a_connection_that_never_says_a_whole_message_is_closed(closed: Server, stranger: Stranger) -> None:
    silent, half = stranger(), stranger()
    begun = time.monotonic()
    half.wire.send(half.binding()[:19])
    for client in (silent, half):
        with pytest.raises(ConnectionError):
            client.wire.receive(3 * FIRST_MESSAGE_SECONDS)
    assert FIRST_MESSAGE_SECONDS - 1 < time.monotonic() - begun < 2 * FIRST_MESSAGE_SECONDS
    assert sample_sum(closed.service, "redconnect_relay_connections", transport="tcp") == 0


@pytest.mark.rfc(8656, "21.3.1")
def test_a_slow_loris_does_not_keep_others_out(relay: Server) -> None:
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(contextlib.closing(relay.client("tcp"))) for _ in range(100)]
        for byte in range(19):
            for client in slow:
                client.wire.send(client.binding()[byte : byte + 1])
        good = stack.enter_context(contextlib.closing(relay.client("tcp")))
        assert good.allocate().code == 0


@pytest.mark.rfc(8656, "21.3.1")
def test_a_client_that_does_not_read_is_bounded_and_others_are_served(
    relay: Server, make_peer: Callable[..., Peer]
) -> None:
    peer = make_peer()
    with contextlib.closing(relay.client("tcp")) as deaf, contextlib.closing(relay.client("tcp")) as good:
        relayed = deaf.relayed()
        assert deaf.bind(CHANNEL, peer.address).code == 0
        memory = resident_bytes(relay)
        for number in range(20_000):  # 24 MB, more than any buffer takes
            peer.send(bytes(1200), relayed)
            if number % 200 == 199:
                good.exchange(good.binding())
        assert good.allocate().code == 0
        assert resident_bytes(relay) - memory < 8 << 20


# Guessing


@pytest.mark.rfc(8656, "21.1.1")
def test_guessed_nonces_and_passwords_get_in_nowhere(connect: Connect) -> None:
    draw = random.Random(4)  # noqa: S311  # the same guesses in every run
    client = connect()
    client.get_challenged()
    nonce, password = client.turn.nonce, client.turn.password
    assert nonce is not None
    for _ in range(20):
        client.turn.nonce = nonce[:9] + base64.b64encode(draw.randbytes(12))[: len(nonce) - 9].decode()
        assert client.allocate().code == 438
        client.turn.nonce = nonce
        client.turn.password = password[:-2] + draw.choice("ABCDEFGH") + "!"
        assert client.allocate().code == 401
        client.turn.nonce, client.turn.password = nonce, password
    assert client.allocate().code == 0


@pytest.mark.rfc(8656, "5")
def test_the_allocation_of_another_user_is_a_441(connect: Connect) -> None:
    owner, thief = connect(), connect().turn
    owner.relayed()
    mine = owner.turn
    thief.realm, thief.nonce = mine.realm, mine.nonce
    owner.turn = thief
    assert owner.refresh(0).code == owner.permit(REACHED).code == owner.bind(CHANNEL, REACHED).code == 441
    owner.turn = mine
    assert owner.refresh().code == 0


# Parser, and privacy of the metrics


@pytest.mark.rfc(8489, "6.3")
def test_mutated_requests_neither_stop_the_relay_nor_get_in(relay: Server, connect_datagram: Connect) -> None:
    draw = random.Random(5)  # noqa: S311  # the same junk in every run
    client = connect_datagram()
    client.get_challenged()
    created = sample_sum(relay.service, "redconnect_relay_allocations_created_total")
    for number in range(2_000):
        request = bytearray(client.turn.build(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17), (EVEN_PORT, True)))
        for position in draw.sample(range(len(request)), draw.randrange(1, 4)):
            request[position] ^= 1 << draw.randrange(8)
        client.wire.send(bytes(request))
        if number % 100 == 99:
            client.exchange(client.binding())
    assert sample_sum(relay.service, "redconnect_relay_allocations_created_total") == created
    assert client.allocate().code == 0


@pytest.mark.rfc(8656, "21.1")
def test_the_metrics_name_neither_user_nor_realm_nor_address(relay: Server, connect: Connect) -> None:
    client = connect()
    relayed = client.relayed()
    assert client.permit(DENIED).code == 403
    assert client.bind(CHANNEL, REACHED).code == 0
    labels = [name.partition("{")[2] for name in relay.service.metrics()]
    for secret in (client.turn.username.partition(":")[2], REALM, str(relayed.port), str(client.address.port)):
        assert not any(f'"{secret}"' in each for each in labels)
    assert not any(re.search(r"\d+\.\d+\.\d+\.\d+", each) for each in labels)
