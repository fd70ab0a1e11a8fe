import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from sfu.io import mux
from sfu.io.mux import MuxCount, UdpMux, bind_udp
from sfu.media_engine import SessionId
from stun.address import TransportAddress
from tests.support.udp_endpoint import PATIENCE, UdpEndpoint, udp_endpoint

SESSION = SessionId(7)
STUN, DTLS, MEDIA, LAST = b"\x00stun", b"\x16dtls", b"\x80media", b"\x01last"


class Handler:
    """Keeps what it gets, and answers STUN with itself."""

    def __init__(self) -> None:
        self.stun: asyncio.Queue[tuple[bytes, TransportAddress]] = asyncio.Queue()
        self.dtls: list[tuple[SessionId, bytes]] = []
        self.media: list[tuple[SessionId, bytes]] = []
        self.times: list[float] = []

    def receive_stun(self, datagram: bytes, source: TransportAddress, now: float) -> bytes | None:  # noqa: ARG002
        self.stun.put_nowait((datagram, source))
        return datagram if datagram == STUN else None

    def receive_dtls(self, session: SessionId, datagram: memoryview, now: float) -> None:  # noqa: ARG002
        self.dtls.append((session, bytes(datagram)))

    def receive_media(self, session: SessionId, datagram: memoryview, now: float) -> None:
        self.media.append((session, bytes(datagram)))
        self.times.append(now)

    async def until_last(self) -> None:
        """Everything that was sent before LAST over loopback has arrived."""
        async with asyncio.timeout(PATIENCE):
            while (await self.stun.get())[0] != LAST:
                pass


class FullSocket(socket.socket):
    """A socket whose send buffer is full when the test says so."""

    is_full = False

    def sendto(self, *arguments: object) -> int:
        if self.is_full:
            raise BlockingIOError
        return super().sendto(*arguments)  # type: ignore[call-overload,no-any-return]  # as they came


def loopback(ip: str) -> TransportAddress:
    return TransportAddress.parse(ip, 0)


class Gathered:
    """What an engine gathers; says how often it was let go."""

    def __init__(self) -> None:
        self.is_blocked = False
        self.flushes: asyncio.Queue[bool] = asyncio.Queue()  # whether it was blocked
        self.is_closed = False

    def flush(self) -> None:
        self.flushes.put_nowait(self.is_blocked)

    def close(self) -> None:
        self.is_closed = True


@contextlib.asynccontextmanager
async def running(*sockets: socket.socket, gathering: Gathered | None = None) -> AsyncIterator[tuple[UdpMux, Handler]]:
    handler = Handler()
    made = UdpMux(sockets or [bind_udp(loopback("127.0.0.1"))], handler, handler.receive_media, gathering)
    try:
        yield made, handler
    finally:
        made.close()


def where(made: UdpMux) -> tuple[str, int]:
    name: tuple[str, int] = next(iter(made._ports.values())).sock.getsockname()[:2]
    return name


def address_of(endpoint: UdpEndpoint) -> TransportAddress:
    return TransportAddress.parse(*endpoint.address)


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
async def test_stun_is_answered_to_anybody_over_either_family(ip: str) -> None:
    async with running(bind_udp(loopback(ip))) as (made, handler), udp_endpoint(ip) as endpoint:
        endpoint.send(STUN, where(made))
        assert await endpoint.receive() == STUN
        assert handler.stun.get_nowait() == (STUN, address_of(endpoint))


async def test_dtls_and_media_come_from_admitted_addresses_only() -> None:
    async with running() as (made, handler), udp_endpoint() as client, udp_endpoint() as stranger:
        made.admit(address_of(client), SESSION)
        made.admit_media(address_of(client))
        for datagram in (DTLS, MEDIA, LAST):
            stranger.send(datagram, where(made))
        await handler.until_last()
        for datagram in (DTLS, MEDIA, LAST):
            client.send(datagram, where(made))
        await handler.until_last()
        assert handler.dtls == [(SESSION, DTLS)]
        assert handler.media == [(SESSION, MEDIA)]
        assert made.counts[MuxCount.UNKNOWN_SOURCE] == 2


async def test_media_waits_for_keys() -> None:
    async with running() as (made, handler), udp_endpoint() as client:
        made.admit(address_of(client), SESSION)
        for datagram in (MEDIA, DTLS, LAST):
            client.send(datagram, where(made))
        await handler.until_last()
        assert (handler.media, handler.dtls) == ([], [(SESSION, DTLS)])


async def test_a_forgotten_address_is_a_stranger_again() -> None:
    async with running() as (made, handler), udp_endpoint() as client:
        made.admit(address_of(client), SESSION)
        made.admit_media(address_of(client))
        made.forget(address_of(client))
        for datagram in (MEDIA, DTLS, LAST):
            client.send(datagram, where(made))
        await handler.until_last()
        assert (handler.media, handler.dtls) == ([], [])
        with pytest.raises(KeyError):
            made.forget(address_of(client))


async def test_what_is_of_no_protocol_or_too_long_is_counted_and_dropped() -> None:
    async with running() as (made, handler), udp_endpoint() as client:
        made.admit(address_of(client), SESSION)
        made.admit_media(address_of(client))
        too_long = bytes(mux.MAX_DATAGRAM_BYTES)
        junk = [b"", b"\x04", b"\x13", b"\x40turn channel", b"\x7f", b"\xc0", b"\xff"]
        for datagram in (*junk, b"\x80" + too_long, b"\x16" + too_long, b"\x00" + too_long, LAST):
            client.send(datagram, where(made))
        await handler.until_last()
        assert made.counts[MuxCount.JUNK] == len(junk)
        assert made.counts[MuxCount.TOO_LONG] == 3
        assert (handler.media, handler.dtls) == ([], [])


async def test_a_datagram_of_the_greatest_length_is_taken() -> None:
    async with running() as (made, handler), udp_endpoint() as client:
        made.admit(address_of(client), SESSION)
        made.admit_media(address_of(client))
        longest = b"\x80" * mux.MAX_DATAGRAM_BYTES
        for datagram in (longest, LAST):
            client.send(datagram, where(made))
        await handler.until_last()
        assert handler.media == [(SESSION, longest)]


async def test_the_media_of_a_session_is_limited_and_that_of_another_one_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mux, "MEDIA_AT_ONCE", 10)
    monkeypatch.setattr(mux, "MEDIA_PER_SECOND", 1e-3)
    other = SessionId(8)
    async with running() as (made, handler), udp_endpoint() as one, udp_endpoint() as two, udp_endpoint() as three:
        for endpoint, session in ((one, SESSION), (two, SESSION), (three, other)):
            made.admit(address_of(endpoint), session)
            made.admit_media(address_of(endpoint))
        for endpoint in (one, two, three):  # two addresses are no two sessions
            for datagram in (*[MEDIA] * 7, LAST):
                endpoint.send(datagram, where(made))
            await handler.until_last()
        assert [session for session, _ in handler.media] == [SESSION] * 10 + [other] * 7
        assert made.counts[MuxCount.MEDIA_LIMITED] == 4


def test_what_may_be_sent_comes_back_with_time() -> None:
    inlet = mux._Inlet(SESSION, 0.0)
    inlet.left = 0
    assert not inlet.refill(0.5 / mux.MEDIA_PER_SECOND)
    assert inlet.refill(2.5 / mux.MEDIA_PER_SECOND)
    assert inlet.left == 2
    inlet.left = 0
    assert not inlet.refill(3 / mux.MEDIA_PER_SECOND)
    assert inlet.refill(1e6)
    assert inlet.left == mux.MEDIA_AT_ONCE


async def test_each_datagram_is_taken_at_its_own_time() -> None:
    async with running() as (made, handler), udp_endpoint() as client:
        made.admit(address_of(client), SESSION)
        made.admit_media(address_of(client))
        for datagram in (*[MEDIA] * 3, LAST):
            client.send(datagram, where(made))
        await handler.until_last()
        assert len(set(handler.times)) == 3  # of one readiness event, after what the ones before have set off


async def test_more_than_a_batch_arrives_in_order() -> None:
    async with running() as (made, handler), udp_endpoint() as client:
        made.admit(address_of(client), SESSION)
        made.admit_media(address_of(client))
        sent = [b"\x80" + number.to_bytes(2) for number in range(3 * mux.MAX_BATCH)]
        for datagram in (*sent, LAST):
            client.send(datagram, where(made))
        await handler.until_last()
        assert [datagram for _, datagram in handler.media] == sent


async def full_mux() -> tuple[FullSocket, UdpMux]:
    sock = FullSocket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)  # noqa: FBT003  # its only argument
    sock.bind(("127.0.0.1", 0))
    handler = Handler()
    sock.is_full = True
    return sock, UdpMux([sock], handler, handler.receive_media)


async def test_what_the_kernel_does_not_take_waits_and_is_sent_in_order() -> None:
    sock, made = await full_mux()
    async with udp_endpoint() as one, udp_endpoint() as other:
        made.admit(address_of(one), SESSION)
        made.admit(address_of(other), SESSION)
        for number in range(5):
            made.send(bytes([number]), address_of(one))
            made.send(memoryview(bytes([number])), address_of(other))
        assert made.counts[MuxCount.QUEUED] == 10
        sock.is_full = False
        made.send(b"last", address_of(one))  # may not overtake
        assert [await one.receive() for _ in range(6)] == [*(bytes([number]) for number in range(5)), b"last"]
        assert [await other.receive() for _ in range(5)] == [bytes([number]) for number in range(5)]
        assert made.counts[MuxCount.QUEUE_FULL] == 0
        made.send(b"again", address_of(one))
        assert await one.receive() == b"again"
        assert made.counts[MuxCount.QUEUED] == 11
    made.close()


async def test_a_queue_is_bounded_and_loses_its_oldest_first() -> None:
    sock, made = await full_mux()
    async with udp_endpoint() as endpoint:
        made.admit(address_of(endpoint), SESSION)
        for number in range(mux.MAX_QUEUED + 3):
            made.send(number.to_bytes(2), address_of(endpoint))
        assert made.counts[MuxCount.QUEUE_FULL] == 3
        sock.is_full = False
        assert await endpoint.receive() == (3).to_bytes(2)
    made.close()


async def test_so_many_addresses_may_wait_and_no_more() -> None:
    _, made = await full_mux()
    for port in range(1, mux.MAX_WAITING_ADDRESSES + 3):
        address = TransportAddress.parse("127.0.0.1", port)
        made.admit(address, SESSION)
        made.send(b"x", address)
    assert made.counts[MuxCount.QUEUED] == mux.MAX_WAITING_ADDRESSES
    assert made.counts[MuxCount.QUEUE_FULL] == 2
    made.close()


async def test_what_waits_for_a_forgotten_address_is_counted() -> None:
    _, made = await full_mux()
    async with udp_endpoint() as endpoint:
        made.admit(address_of(endpoint), SESSION)
        made.send(b"one", address_of(endpoint))
        made.send(b"two", address_of(endpoint))
        made.forget(address_of(endpoint))
        assert made.counts[MuxCount.FORGOTTEN] == 2
    made.close()


async def test_what_cannot_be_sent_at_all_is_counted() -> None:
    async with running() as (made, _):
        address = TransportAddress.parse("127.0.0.1", 9)
        made.admit(address, SESSION)
        made.send(bytes(70000), address)
        assert made.counts[MuxCount.SEND_FAILED] == 1


async def test_nothing_is_sent_to_an_address_that_is_not_admitted_or_not_any_more() -> None:
    async with running() as (made, handler), udp_endpoint() as client:
        made.send(b"too early", address_of(client))
        made.admit(address_of(client), SESSION)
        made.send(b"in time", address_of(client))
        made.forget(address_of(client))
        made.send(b"too late", address_of(client))
        client.send(STUN, where(made))
        assert await client.receive() == b"in time"
        assert await client.receive() == STUN
        assert made.counts[MuxCount.FORGOTTEN] == 2
        assert handler.media == []


async def test_both_families_share_sessions_and_each_answers_through_its_own_socket() -> None:
    sockets = [bind_udp(loopback(ip)) for ip in ("127.0.0.1", "::1")]
    async with running(*sockets) as (made, handler), udp_endpoint() as four, udp_endpoint("::1") as six:
        for endpoint, sock in ((four, sockets[0]), (six, sockets[1])):
            made.admit(address_of(endpoint), SESSION)
            made.admit_media(address_of(endpoint))
            for datagram in (MEDIA, LAST):
                endpoint.send(datagram, sock.getsockname()[:2])
            await handler.until_last()
            made.send(b"to the client", address_of(endpoint))
            assert await endpoint.receive() == b"to the client"
        assert handler.media == [(SESSION, MEDIA), (SESSION, MEDIA)]


async def test_a_source_that_is_valid_on_one_link_only_is_counted_and_not_served() -> None:
    async with running(bind_udp(loopback("::1"))) as (made, handler):
        (port,) = made._ports.values()
        assert made._receive_stun(port, 5, ("fe80::1", 9, 0, 1), 0.0) is MuxCount.SCOPED
        assert handler.stun.empty()


async def test_a_family_has_one_socket() -> None:
    sockets = [bind_udp(loopback("127.0.0.1")) for _ in range(2)]
    handler = Handler()
    with pytest.raises(ValueError, match="one socket"):
        UdpMux(sockets, handler, handler.receive_media)
    for sock in sockets:
        sock.close()


async def test_the_buffers_of_the_kernel_are_larger_than_the_default() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
        default = plain.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    sock = bind_udp(loopback("127.0.0.1"))
    async with running(sock):
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) > default
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) > default


def test_a_port_that_is_taken_cannot_be_bound() -> None:
    sock = bind_udp(loopback("127.0.0.1"))
    with pytest.raises(OSError, match="in use"):
        bind_udp(TransportAddress.parse(*sock.getsockname()))
    sock.close()


async def test_what_was_gathered_is_let_go_after_each_batch_and_at_the_end() -> None:
    gathering = Gathered()
    async with running(gathering=gathering) as (made, handler), udp_endpoint() as client:
        client.send(LAST, where(made))
        await handler.until_last()
        async with asyncio.timeout(PATIENCE):
            assert await gathering.flushes.get() is False
        was_closed = gathering.is_closed
    assert (was_closed, gathering.is_closed) == (False, True)
    assert gathering.flushes.qsize() == 1


async def test_what_was_gathered_does_not_overtake_what_waits() -> None:
    sock, gathering = FullSocket(socket.AF_INET, socket.SOCK_DGRAM), Gathered()
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)  # noqa: FBT003  # its only argument
    async with running(sock, gathering=gathering) as (made, _), udp_endpoint() as client:
        made.admit(address_of(client), SESSION)
        sock.is_full = True
        made.send(b"waits", address_of(client))
        made.flush()
        assert gathering.flushes.get_nowait() is True
        sock.is_full = False
        assert await client.receive() == b"waits"
        made.flush()
        assert gathering.flushes.get_nowait() is False
