"""The DTLS listener over real sockets, with OpenSSL at the other end."""

import asyncio
import contextlib
import errno
import random
import socket
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509 import load_pem_x509_certificate
from OpenSSL import SSL

from config.self_signed import issue_certificate, new_private_key
from relay.five_tuple import FiveTuple, Transport
from relay.io.clients import ClientRelay, Connection
from relay.io.dtls import HANDSHAKE_SECONDS, DtlsAssociation, DtlsCount, DtlsListener, build_dtls_context
from relay.io.dtls_hello import HANDSHAKE_MTU_BYTES
from relay.io.poller import Poller
from relay.io.stream import ALLOCATION_SECONDS, FIRST_MESSAGE_SECONDS
from relay.io.udp import enlarge_buffers
from stun.address import TransportAddress
from stun.demux import encode_channel_data
from stun.message import encode_message
from stun.registry import MessageClass, Method
from tests.support.dtls_client import DTLS_1_0, DtlsClient, client_context, records
from tests.support.udp_endpoint import PATIENCE, udp_endpoint

BINDING = encode_message(Method.BINDING, MessageClass.REQUEST, bytes(12))
MAX_ASSOCIATIONS = 5
RECORD_OVERHEAD = 37
RETRANSMISSION = 1.0  # seconds


def write_certificate(folder: Path, names: list[str]) -> tuple[Path, Path]:
    certificate, key = folder / f"{names[0]}.pem", folder / f"{names[0]}.key"
    key.write_bytes(new_private_key())
    certificate.write_bytes(issue_certificate(key.read_bytes(), names, datetime.now(UTC)))
    return certificate, key


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_certificate(tmp_path_factory.mktemp("dtls"), ["localhost"])


class Service:
    """Plays the service: it sends every message back over the association that it came from."""

    def __init__(self) -> None:
        self.connections: dict[FiveTuple, Connection] = {}
        self.received: list[tuple[bytes, FiveTuple]] = []
        self.ended: list[Connection] = []

    def receive(self, data: bytes, path: FiveTuple) -> None:
        self.received.append((data, path))
        self.connections[path].send_message(data)

    def connected(self, connection: Connection) -> None:
        assert connection.path not in self.connections
        self.connections[connection.path] = connection

    def disconnected(self, connection: Connection) -> None:
        assert self.connections.pop(connection.path) is connection
        self.ended.append(connection)


class FakeRelay(ClientRelay):
    """Keeps where its messages lie until it is flushed, as a burst would."""

    def __init__(self) -> None:
        self.waiting: list[memoryview] = []
        self.bursts: list[list[bytes]] = []

    def relay_one(self, view: memoryview, size: int, head: int, now: float) -> bool:
        assert head == int.from_bytes(view[:4])
        taken = self.from_client(view, 0, size, now)
        if taken:
            self.flush()
        return taken

    def relay_run(self, _view: memoryview, _size: int, _segment: int, _head: int, _now: float) -> bool:
        return False

    def from_client(self, view: memoryview, start: int, end: int, now: float) -> bool:
        assert abs(now - time.monotonic()) < PATIENCE
        if view[start] < 4 and view[start + 1] != 0x16:
            return False
        self.waiting.append(view[start:end])
        return True

    def flush(self) -> None:
        self.bursts.append([bytes(view) for view in self.waiting])
        self.waiting.clear()


class Wired:
    def __init__(self, context: SSL.Context, host: str = "127.0.0.1") -> None:
        self.service = Service()
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)  # noqa: FBT003  # its only argument
        self.sock.bind((host, 0))
        self.server: tuple[str, int] = self.sock.getsockname()[:2]
        self.poller = Poller(asyncio.get_running_loop())
        self.listener = DtlsListener(
            self.poller,
            TransportAddress.parse(*self.server),
            self.sock,
            context,
            self.service,
            [b"k" * 32],
            MAX_ASSOCIATIONS,
        )
        self.stack = contextlib.AsyncExitStack()

    async def client(self, context: SSL.Context | None = None) -> DtlsClient:
        """A client that has not said anything yet."""
        endpoint = await self.stack.enter_async_context(udp_endpoint(self.server[0]))
        return DtlsClient(endpoint, self.server, context)

    async def connected(self) -> DtlsClient:
        client = await self.client()
        await client.connect()
        return client

    async def association(self, client: DtlsClient) -> DtlsAssociation:
        """The server's end, after a message has gone back and forth."""
        await self.echo(client)
        association = self.service.connections[self.path(client)]
        assert isinstance(association, DtlsAssociation)
        return association

    async def echo(self, client: DtlsClient, message: bytes = BINDING) -> None:
        """A message and its answer; what was sent to the listener before has been read by then.

        Said again each second, as STUN over UDP is: a machine that others keep busy loses datagrams even on loopback.
        """
        async with asyncio.timeout(PATIENCE):
            while True:
                client.send(message)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(RETRANSMISSION):
                        assert await client.receive() == message
                        return

    async def read_all(self) -> None:
        """Wait until the listener has read what was sent to it: it answers a stranger after that."""
        async with udp_endpoint(self.server[0]) as endpoint:
            stranger = DtlsClient(endpoint, self.server)
            stranger.send_datagram(stranger.step())
            await stranger.receive_datagram()
        self.listener.counts[DtlsCount.HELLO_VERIFY] -= 1

    def path(self, client: DtlsClient) -> FiveTuple:
        return FiveTuple(
            Transport.DTLS, TransportAddress.parse(*self.server), TransportAddress.parse(*client.endpoint.address)
        )

    def counts(self) -> dict[DtlsCount, int]:
        return {name: count for name, count in self.listener.counts.items() if count}


@contextlib.asynccontextmanager
async def wire(context: SSL.Context, host: str = "127.0.0.1") -> AsyncIterator[Wired]:
    wired = Wired(context, host)
    async with wired.stack:
        try:
            yield wired
        finally:
            if wired.sock.fileno() >= 0:
                wired.listener.close()
            wired.poller.close()
    assert wired.service.connections == {}


@pytest.fixture
async def wired(files: tuple[Path, Path]) -> AsyncIterator[Wired]:
    async with wire(build_dtls_context(*files)) as wired:
        yield wired


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_message_reaches_the_service_with_the_five_tuple_and_is_answered(
    files: tuple[Path, Path], host: str
) -> None:
    async with wire(build_dtls_context(*files), host) as wired:
        client = await wired.connected()
        await wired.echo(client)
        assert wired.service.received == [(BINDING, wired.path(client))]
        assert client.ssl.get_protocol_version_name() == "DTLSv1.2"
        assert client.ssl.get_alpn_proto_negotiated() == b"stun.turn"
        assert wired.counts() == {DtlsCount.HELLO_VERIFY: 1, DtlsCount.HANDSHAKE: 1}


async def test_openssl_s_client_connects_speaks_and_says_farewell(wired: Wired, files: tuple[Path, Path]) -> None:
    process = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", "-dtls1_2", "-alpn", "stun.turn", "-CAfile", str(files[0]), "-verify_return_error"),
        *("-connect", f"127.0.0.1:{wired.server[1]}"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    async with asyncio.timeout(2 * PATIENCE):
        process.stdin.write(BINDING)
        output = await process.stdout.readuntil(BINDING)
        process.stdin.close()
        await process.communicate()
    assert b"ALPN protocol: stun.turn" in output
    assert b"Cipher is ECDHE-ECDSA-AES" in output
    await wired.read_all()
    assert len(wired.listener) == 0
    assert len(wired.service.ended) == 1


async def test_dtls_1_0_is_refused(wired: Wired) -> None:
    client = await wired.client(client_context(b"DEFAULT@SECLEVEL=0", DTLS_1_0))
    with pytest.raises(SSL.Error, match="protocol version"):
        await client.connect()
    assert wired.counts() == {DtlsCount.HELLO_VERIFY: 1, DtlsCount.HANDSHAKE_FAILED: 1}
    assert len(wired.listener) == 0


@pytest.mark.parametrize("cipher", ["AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"])
async def test_a_cipher_that_is_not_ecdhe_with_aes_gcm_is_refused(wired: Wired, cipher: str) -> None:
    client = await wired.client(client_context(cipher.encode()))
    with pytest.raises(SSL.Error, match="handshake failure"):
        await client.connect()
    assert len(wired.listener) == 0


async def test_a_client_of_another_protocol_gets_none(wired: Wired) -> None:
    context = client_context()
    context.set_alpn_protos([b"webrtc"])
    client = await wired.client(context)
    await client.connect()
    assert client.ssl.get_alpn_proto_negotiated() == b""


async def test_a_thousand_clients_without_cookie_leave_nothing_behind(wired: Wired) -> None:
    bytes_in = bytes_out = 0
    for _ in range(1000):
        async with udp_endpoint() as endpoint:
            client = DtlsClient(endpoint, wired.server)
            hello = client.step()
            client.send_datagram(hello)
            answer = await client.receive_datagram()
            assert len(answer) <= len(hello)
            bytes_in, bytes_out = bytes_in + len(hello), bytes_out + len(answer)
    assert wired.counts() == {DtlsCount.HELLO_VERIFY: 1000}
    assert len(wired.listener) == 0
    assert bytes_out < bytes_in / 4


async def test_a_forged_cookie_is_refused(wired: Wired) -> None:
    client = await wired.client()
    hello = bytearray(await client.get_cookie())
    hello[62] ^= 1  # in the cookie, which follows the empty session ID
    client.send_datagram(bytes(hello))
    assert len(await client.receive_datagram()) == 44
    assert wired.counts() == {DtlsCount.HELLO_VERIFY: 2, DtlsCount.COOKIE_REFUSED: 1}
    assert len(wired.listener) == 0


async def test_the_cookie_of_another_address_is_refused(wired: Wired) -> None:
    client, thief = await wired.client(), await wired.client()
    thief.send_datagram(await client.get_cookie())
    assert len(await thief.receive_datagram()) == 44
    assert wired.counts() == {DtlsCount.HELLO_VERIFY: 2, DtlsCount.COOKIE_REFUSED: 1}
    assert len(wired.listener) == 0


async def test_junk_changes_nothing(wired: Wired) -> None:
    """From strangers, and with the address of a client that has an association."""
    client, stranger, other = await wired.connected(), await wired.client(), await wired.client()
    association = await wired.association(client)
    chance = random.Random(7)  # noqa: S311  # not for secrets
    genuine = [BINDING, client.seal(BINDING), await other.get_cookie()]
    for count in range(10_000):
        junk = bytearray(chance.choice([*genuine, chance.randbytes(chance.randrange(200))]))
        for _ in range(chance.randrange(1, 5)):
            if junk:
                junk[chance.randrange(len(junk))] = chance.randrange(256)
        # A record of the right type and epoch reaches OpenSSL, which has to find out.
        if count % 3 == 0 and len(junk) > 5:
            junk[:5] = chance.choice(
                [b"\x17\xfe\xfd\0\1", b"\x16\xfe\xfd\0\1", b"\x15\xfe\xfd\0\1", b"\x16\xfe\xfd\0\0"]
            )
        sender = client if count % 2 else stranger
        sender.send_datagram(bytes(junk))
        if count % 100 == 0:
            await wired.read_all()
    await wired.read_all()
    assert wired.listener.counts[DtlsCount.JUNK] > 5000
    assert len(wired.listener) == 1
    assert association.is_open
    while not client.endpoint.is_silent:
        await client.receive_datagram()  # HelloVerifyRequests
    await wired.echo(client)


async def test_a_fatal_alert_that_is_not_encrypted_does_not_end_an_association(wired: Wired) -> None:
    client = await wired.connected()
    client.send_datagram(b"\x15\xfe\xfd" + bytes(7) + b"\x09\0\2\2\x28")
    await wired.echo(client)
    assert wired.listener.counts[DtlsCount.JUNK] == 1


async def test_a_replayed_record_is_dropped(wired: Wired) -> None:
    client = await wired.connected()
    record = client.seal(BINDING)
    client.send_datagram(record)
    client.send_datagram(record)
    await wired.read_all()
    assert len(wired.service.received) == 1
    assert wired.listener.counts[DtlsCount.JUNK] == 1


async def test_several_records_in_a_datagram_are_several_messages(wired: Wired) -> None:
    client = await wired.connected()
    messages = [BINDING[:-1] + bytes([number]) for number in range(5)]
    client.send(*messages)
    assert [await client.receive() for _ in messages] == messages


@pytest.mark.parametrize("message", [b"\0\1\0", b"\x04" + bytes(30), b"\x80" + bytes(30), b"\x3f\xff\0\0"])
async def test_what_is_neither_stun_nor_channel_data_is_dropped(wired: Wired, message: bytes) -> None:
    client = await wired.connected()
    client.send(message)
    await wired.echo(client)
    assert wired.listener.counts[DtlsCount.MALFORMED] == 1


async def test_channel_data_without_an_allocation_is_dropped(wired: Wired) -> None:
    client = await wired.connected()
    client.send(encode_channel_data(0x4000, b"12345"))
    await wired.echo(client)
    assert wired.listener.counts[DtlsCount.NO_ALLOCATION] == 1


async def test_media_goes_to_the_relay_in_bursts_that_messages_do_not_overtake(wired: Wired) -> None:
    client = await wired.connected()
    association = await wired.association(client)
    relay = FakeRelay()
    association.attach(relay)
    frames = [encode_channel_data(0x4000, bytes([number]) * number) for number in range(1, 8)]
    client.send(*frames[:3])
    client.send(*frames[3:5], BINDING, *frames[5:])
    assert await client.receive() == BINDING
    await wired.read_all()
    assert [frame for burst in relay.bursts for frame in burst] == frames
    assert relay.waiting == []
    ends = [sum(map(len, relay.bursts[: number + 1])) for number in range(len(relay.bursts))]
    assert 5 in ends  # flushed before the service has got the request
    association.detach()
    client.send(frames[0])
    await wired.echo(client)
    assert wired.listener.counts[DtlsCount.NO_ALLOCATION] == 1


async def test_a_burst_beyond_the_buffer_is_flushed_before_the_buffer_is_used_again(wired: Wired) -> None:
    client = await wired.connected()
    association = await wired.association(client)
    relay = FakeRelay()
    association.attach(relay)
    frames = [encode_channel_data(0x4000, bytes([number]) * 15_000) for number in range(11)]
    wired.listener._batch = 32
    for frame in frames:  # they wait in the socket until this test waits
        client.send(frame)
    await wired.read_all()
    assert [frame for burst in relay.bursts for frame in burst] == frames
    assert len(relay.bursts) == 2


@pytest.mark.parametrize(("count", "size", "last"), [(1, 100, 100), (7, 1200, 1200), (20, 172, 9), (150, 60, 60)])
async def test_a_burst_leaves_as_one_datagram_per_message(wired: Wired, count: int, size: int, last: int) -> None:
    client = await wired.connected()
    association = await wired.association(client)
    messages = [bytes([number]) * (size if number < count - 1 else last) for number in range(count)]
    client.datagrams.clear()
    association.send_burst(memoryview(b"".join(messages)), size)
    assert [await client.receive() for _ in messages] == messages
    assert [len(datagram) for datagram in client.datagrams] == [len(message) + RECORD_OVERHEAD for message in messages]


class FullSocket:
    """Has no room left."""

    def __init__(self) -> None:
        self.attempts = 0

    def sendmsg(self, *_: object) -> int:
        self.attempts += 1
        raise BlockingIOError(errno.EAGAIN, "no room")

    sendto = sendmsg


async def test_a_burst_that_finds_no_room_is_not_tried_message_by_message(wired: Wired) -> None:
    association = await wired.association(await wired.connected())
    full = association._sock = FullSocket()  # type: ignore[assignment]  # has what an association uses
    with pytest.raises(BlockingIOError):
        association.send_burst(b"12345678", 4)
    with pytest.raises(BlockingIOError):
        association.send(b"1234")
    assert full.attempts == 2


async def test_a_burst_that_the_kernel_does_not_cut_leaves_all_the_same(wired: Wired) -> None:
    client = await wired.connected()
    association = await wired.association(client)
    # Each datagram needs IP fragments, even on the loopback device with its 65536 bytes.
    messages = [bytes([number]) * 16_000 for number in range(4)]
    association.send_burst(b"".join(messages), 16_000)
    assert [await client.receive() for _ in messages] == messages


async def test_a_message_is_one_datagram_and_one_that_is_too_long_an_error(wired: Wired) -> None:
    client = await wired.connected()
    association = await wired.association(client)
    client.datagrams.clear()
    longest = bytes(1 << 14)
    association.send(memoryview(longest))
    assert await client.receive() == longest
    assert [len(datagram) for datagram in client.datagrams] == [len(longest) + RECORD_OVERHEAD]
    with pytest.raises(OSError, match=f"Errno {errno.EMSGSIZE}"):
        association.send(longest + b"x")
    association.send_message(longest + b"x")
    assert wired.listener.counts[DtlsCount.SEND_FAILED] == 1
    await wired.echo(client)


async def test_nothing_is_sent_after_the_end(wired: Wired) -> None:
    client = await wired.connected()
    association = await wired.association(client)
    association.abort()
    association.abort()
    assert wired.service.ended == [association]
    assert len(wired.listener) == 0
    with pytest.raises(ConnectionResetError):
        association.send(b"late")
    with pytest.raises(ConnectionResetError):
        association.send_burst(b"latelate", 4)
    association.send_message(BINDING)
    assert wired.listener.counts[DtlsCount.SEND_FAILED] == 1
    client.send(BINDING)
    await wired.read_all()
    assert wired.listener.counts[DtlsCount.JUNK] == 1
    assert client.endpoint.is_silent


async def test_a_farewell_is_returned_and_ends_the_association(wired: Wired) -> None:
    client = await wired.connected()
    association = await wired.association(client)
    client.say_farewell()
    with pytest.raises(SSL.ZeroReturnError):
        await client.receive()
    assert wired.service.ended == [association]
    assert len(wired.listener) == 0


async def test_closing_the_listener_ends_all_associations_with_a_farewell(wired: Wired) -> None:
    clients = [await wired.connected() for _ in range(3)]
    for client in clients:
        await wired.echo(client)
    unfinished = await wired.client()
    unfinished.send_datagram(await unfinished.get_cookie())
    await unfinished.receive_datagram()
    wired.listener.close()
    for client in clients:
        with pytest.raises(SSL.ZeroReturnError):
            await client.receive()
    assert len(wired.service.ended) == 3
    assert len(wired.listener) == 0
    assert len(wired.poller) == 0


async def test_a_client_beyond_the_bound_is_refused_until_another_has_gone(wired: Wired) -> None:
    clients = [await wired.connected() for _ in range(MAX_ASSOCIATIONS - 1)]
    unfinished = await wired.client()
    unfinished.send_datagram(await unfinished.get_cookie())
    await unfinished.receive_datagram()
    late = await wired.client()
    hello = await late.get_cookie()
    late.send_datagram(hello)
    await wired.read_all()
    assert late.endpoint.is_silent
    assert wired.listener.counts[DtlsCount.REFUSED] == 1
    assert len(wired.listener) == MAX_ASSOCIATIONS
    clients[0].say_farewell()
    await wired.read_all()
    late.send_datagram(hello)
    await late.connect()
    await wired.echo(late)


async def test_a_handshake_that_does_not_end_is_forgotten(wired: Wired) -> None:
    client = await wired.client()
    client.send_datagram(await client.get_cookie())
    await client.receive_datagram()
    now = time.monotonic()
    wired.listener.sweep(now + HANDSHAKE_SECONDS - 1)
    assert len(wired.listener) == 1
    wired.listener.sweep(now + HANDSHAKE_SECONDS)
    assert len(wired.listener) == 0
    assert wired.listener.counts[DtlsCount.HANDSHAKE_FAILED] == 1
    assert wired.service.ended == []  # it has never heard of it


async def test_a_client_that_says_nothing_is_sent_away(wired: Wired) -> None:
    client = await wired.connected()
    await wired.read_all()
    now = time.monotonic()
    wired.listener.sweep(now + FIRST_MESSAGE_SECONDS - 1)
    assert len(wired.listener) == 1
    wired.listener.sweep(now + FIRST_MESSAGE_SECONDS)
    assert len(wired.listener) == 0
    with pytest.raises(SSL.ZeroReturnError):
        await client.receive()


async def test_a_client_has_a_minute_for_an_allocation_and_again_after_its_end(wired: Wired) -> None:
    client = await wired.connected()
    association = await wired.association(client)
    first = time.monotonic()
    await wired.echo(client)  # talking does not prolong it
    wired.listener.sweep(first + ALLOCATION_SECONDS - 1)
    assert len(wired.listener) == 1
    association.attach(FakeRelay())
    wired.listener.sweep(first + 3600)
    assert len(wired.listener) == 1
    association.detach()
    wired.listener.sweep(time.monotonic() + ALLOCATION_SECONDS - 1)
    assert len(wired.listener) == 1
    wired.listener.sweep(time.monotonic() + ALLOCATION_SECONDS)
    assert wired.service.ended == [association]


async def test_a_lost_flight_of_the_server_is_retransmitted(wired: Wired) -> None:
    client = await wired.client()
    client.send_datagram(await client.get_cookie())
    lost = await client.receive_datagram()
    again = await client.receive_datagram()  # sent by the listener's own clock
    assert [record[13] for record in records(again)] == [record[13] for record in records(lost)]
    assert again != lost  # a retransmission has record sequence numbers of its own (RFC 6347 §4.2.4)
    client.ssl.bio_write(again)
    await client.connect()
    await wired.echo(client)


@pytest.mark.parametrize("records_apart", [False, True])
async def test_a_lost_finished_of_the_server_is_retransmitted_when_the_client_asks(
    wired: Wired, *, records_apart: bool
) -> None:
    client = await wired.client()
    client.send_datagram(await client.get_cookie())
    client.ssl.bio_write(await client.receive_datagram())
    client.send_datagram(client.step())
    await client.receive_datagram()
    assert len(wired.service.connections) == 1
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(client.ssl.DTLSv1_get_timeout()):
            await client.receive_datagram()
    client.ssl.DTLSv1_handle_timeout()
    flight = client.written()
    for datagram in records(flight) if records_apart else [flight]:
        client.send_datagram(datagram)
    client.ssl.bio_write(await client.receive_datagram())  # before the client has to ask again
    await client.connect()
    await wired.echo(client)
    assert wired.listener.counts[DtlsCount.HANDSHAKE] == 1


async def test_no_datagram_of_a_handshake_is_longer_than_the_mtu(tmp_path: Path) -> None:
    names = [f"server-number-{number}.clinic.example" for number in range(100)]
    async with wire(build_dtls_context(*write_certificate(tmp_path, names))) as wired:
        client = await wired.connected()
        await wired.echo(client)
        sizes = [len(datagram) for datagram in client.datagrams]
        assert sum(sizes) > 2 * HANDSHAKE_MTU_BYTES
        assert max(sizes) <= HANDSHAKE_MTU_BYTES


def restarted(wired: Wired, client: DtlsClient) -> DtlsClient:
    """The client after a restart that kept its address; it has not sent anything."""
    return DtlsClient(client.endpoint, wired.server)


async def test_a_restarted_client_takes_the_place_of_its_old_association(wired: Wired) -> None:
    client = await wired.connected()
    old = await wired.association(client)
    again = restarted(wired, client)
    await again.connect()
    new = await wired.association(again)
    assert new is not old
    assert wired.service.ended == [old]
    assert len(wired.listener) == 1


async def test_an_association_lives_on_until_the_new_handshake_is_done(wired: Wired) -> None:
    client = await wired.connected()
    old = await wired.association(client)
    again = restarted(wired, client)
    again.send_datagram(await again.get_cookie())
    await again.receive_datagram()
    await wired.echo(client)
    assert len(wired.listener) == 2
    wired.listener.sweep(time.monotonic() + HANDSHAKE_SECONDS)
    assert len(wired.listener) == 1
    assert wired.service.ended == []
    await wired.echo(client)
    assert await wired.association(client) is old


async def test_the_old_association_may_say_farewell_while_the_new_one_shakes_hands(wired: Wired) -> None:
    client = await wired.connected()
    old = await wired.association(client)
    again = restarted(wired, client)
    again.send_datagram(await again.get_cookie())
    flight = await again.receive_datagram()
    client.say_farewell()
    with pytest.raises(SSL.ZeroReturnError):
        await client.receive()
    assert wired.service.ended == [old]
    again.ssl.bio_write(flight)
    await again.connect()
    await wired.echo(again)


async def test_a_client_that_restarts_in_its_handshake_may_begin_again(wired: Wired) -> None:
    client = await wired.client()
    client.send_datagram(await client.get_cookie())
    await client.receive_datagram()
    again = restarted(wired, client)
    await again.connect()
    await wired.echo(again)
    assert len(wired.listener) == 1


async def test_a_copy_of_the_hello_changes_nothing(wired: Wired) -> None:
    client = await wired.client()
    hello = await client.get_cookie()
    client.send_datagram(hello)
    client.send_datagram(hello)
    await client.connect()
    await wired.echo(client)
    client.send_datagram(hello)
    await wired.echo(client)
    assert len(wired.listener) == 1
    assert wired.counts() == {DtlsCount.HELLO_VERIFY: 1, DtlsCount.HANDSHAKE: 1}


async def test_a_new_certificate_is_shown_in_the_next_handshake(wired: Wired, tmp_path: Path) -> None:
    client = await wired.connected()
    renewed = write_certificate(tmp_path, ["renewed"])
    wired.listener.set_context(build_dtls_context(*renewed))
    await wired.echo(client)
    late = await wired.connected()
    shown = late.ssl.get_peer_certificate(as_cryptography=True)
    assert shown == load_pem_x509_certificate(renewed[0].read_bytes())


async def test_a_service_that_closes_the_listener_while_it_reads_is_obeyed(wired: Wired) -> None:
    client = await wired.connected()
    await wired.echo(client)
    wired.service.receive = lambda *_: wired.listener.close()  # type: ignore[method-assign]
    client.send(BINDING, BINDING)
    client.send(BINDING)
    with pytest.raises(SSL.ZeroReturnError):
        await client.receive()
    assert len(wired.listener) == 0


def test_a_file_that_is_missing_or_does_not_fit_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    certificate, key = files
    other = write_certificate(tmp_path, ["other"])[1]
    (tmp_path / "junk").write_bytes(b"junk")
    for pair in [
        (tmp_path / "no", key),
        (tmp_path / "junk", key),
        (certificate, tmp_path / "junk"),
        (certificate, other),
    ]:
        with pytest.raises(OSError, match="cannot use"):
            build_dtls_context(*pair)
    with pytest.raises(FileNotFoundError):
        build_dtls_context(certificate, tmp_path / "no")


def test_a_key_with_a_passphrase_is_refused_instead_of_asking_for_it(files: tuple[Path, Path], tmp_path: Path) -> None:
    key = load_pem_private_key(files[1].read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    with pytest.raises(OSError, match="cannot use"):
        build_dtls_context(files[0], locked)


async def test_a_burst_of_many_clients_waits_in_a_buffer_as_large_as_that_of_a_udp_listener(wired: Wired) -> None:
    size = wired.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        before = plain.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        enlarge_buffers(plain)
        assert size == plain.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= before


async def test_a_smaller_bound_refuses_new_clients_and_keeps_the_old_ones(wired: Wired) -> None:
    old = await wired.connected()
    wired.listener.set_max_associations(1)
    late = await wired.client()
    late.send_datagram(await late.get_cookie())
    await wired.read_all()
    assert late.endpoint.is_silent
    assert wired.listener.counts[DtlsCount.REFUSED] == 1
    await wired.echo(old)
