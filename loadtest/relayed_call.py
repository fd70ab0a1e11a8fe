"""One client of the relay and its peer, over sockets that gevent makes wait without threads.

What is decided is decided elsewhere: requests and answers in `TurnClient`, packets and their times in `Flow`.
"""

import contextlib
import socket
import time
from collections.abc import Callable
from typing import Final, Self

import gevent  # type: ignore[import-untyped]
from gevent.queue import Empty, Queue  # type: ignore[import-untyped]

from loadtest.media import TICK_SECONDS, Flow, Schedule, StrayPacket
from stun.address import TransportAddress
from stun.attributes import CHANNEL_NUMBER, LIFETIME, REQUESTED_TRANSPORT, XOR_PEER_ADDRESS, XOR_RELAYED_ADDRESS
from stun.demux import decode_channel_data, encode_channel_data
from stun.registry import ErrorCode, Method
from tests.support.turn_client import Field, Response, TurnClient
from tests.support.wire import TcpWire, TlsWire, UdpWire, Wire

ANSWER_PATIENCE_SECONDS: Final = 15.0
FIRST_RETRANSMISSION_SECONDS: Final = 0.5  # doubles each time, over UDP only (RFC 8489 §6.2.1)
CHANNEL: Final = 0x4000
REFRESH_SECONDS: Final = 120.0  # a permission lives for 300 (RFC 8656 §9)
_UDP: Final = 17  # REQUESTED-TRANSPORT
_LOOK_SECONDS: Final = 1.0  # how often a reader that hears nothing looks whether it is still wanted
_LARGEST_DATAGRAM: Final = 65_536
_RECEIVE_BUFFER_BYTES: Final = 1 << 20  # or what net.core.rmem_max allows: a generator that pauses shall lose nothing


class _RoomyUdpWire(UdpWire):
    def __init__(self, server: tuple[str, int]) -> None:
        super().__init__(server)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)


WIRES: Final[dict[str, Callable[[tuple[str, int]], Wire]]] = {"udp": _RoomyUdpWire, "tcp": TcpWire, "tls": TlsWire}


class RequestRefused(Exception):
    """An error response."""

    def __init__(self, code: int) -> None:
        """Remember its code."""
        super().__init__(f"error {code}")
        self.code = code


class RelayedCall:
    """An allocation with one channel to one peer, and the media in both directions."""

    def __init__(self, transport: str, relay: tuple[str, int], peer_host: str, turn: TurnClient, number: int) -> None:
        """Connect, and open the socket of the peer.

        Args:
            transport: udp, tcp or tls.
            relay: where it listens for that.
            peer_host: address of this machine that the relay may send to.
            turn: the user.
            number: tells this call from all others.

        Raises:
            OSError: the relay cannot be reached.
        """
        self.up = Flow(2 * number)
        self.down = Flow(2 * number + 1)
        self.on_arrival: Callable[[Flow, float, int], None] = lambda _flow, _seconds, _length: None
        self.strays = 0  # packets that nobody has sent, or that came twice
        self.has_repeated = False  # whether a request was sent more than once
        self._turn = turn
        self._answers: Queue[bytes | OSError] = Queue()
        self._wire = WIRES[transport](relay)
        self._peer = socket.socket(socket.AF_INET6 if ":" in peer_host else socket.AF_INET, socket.SOCK_DGRAM)
        self._peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER_BYTES)
        self._peer.bind((peer_host, 0))
        self._relayed: tuple[str, int] | None = None
        self._is_open = True
        self._readers = [gevent.spawn(self._hear_relay), gevent.spawn(self._hear_peer)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_open = False
        gevent.killall(self._readers)
        self._wire.close()
        self._peer.close()

    # Requests

    def challenge(self) -> None:
        """Learn realm and nonce.

        Raises:
            TimeoutError: no answer, also of the requests below.
            RequestRefused: another answer than 401.
        """
        response = self._ask_once(Method.ALLOCATE, (REQUESTED_TRANSPORT, _UDP))
        if response.code != ErrorCode.UNAUTHENTICATED:
            raise RequestRefused(response.code)

    def allocate(self) -> None:
        """Get a relayed address.

        Raises:
            RequestRefused: there is none.
        """
        address = self._ask(Method.ALLOCATE, (REQUESTED_TRANSPORT, _UDP)).get(XOR_RELAYED_ADDRESS)
        family = socket.AF_INET if len(address.ip) == 4 else socket.AF_INET6
        self._relayed = (socket.inet_ntop(family, address.ip), address.port)

    def withdraw(self) -> None:
        """Give back what a second copy of a refused Allocate may have got: a port may have become free in between.

        Raises:
            RequestRefused: another answer than that it is given back, or that there is none (437).
        """
        code = self._ask_once(Method.REFRESH, (LIFETIME, 0)).code
        if code not in {0, ErrorCode.ALLOCATION_MISMATCH}:
            raise RequestRefused(code)

    def permit(self) -> None:
        """Let the peer send."""
        self._ask(Method.CREATE_PERMISSION, (XOR_PEER_ADDRESS, self._peer_address))

    def bind(self) -> None:
        """Bind the channel; this renews the permission, too."""
        self._ask(Method.CHANNEL_BIND, (CHANNEL_NUMBER, CHANNEL), (XOR_PEER_ADDRESS, self._peer_address))

    def refresh(self) -> None:
        """Renew the allocation."""
        self._ask(Method.REFRESH)

    def delete(self) -> None:
        """Give it back."""
        self._ask(Method.REFRESH, (LIFETIME, 0))

    # Media

    def talk(self, seconds: float, *, video: bool, goes_on: Callable[[], bool]) -> int:
        """Send in both directions at the rate of a call; returns the ticks that had to be given up.

        Args:
            seconds: for how long.
            video: pictures, too.
            goes_on: asked at each tick.
        """
        now = time.monotonic()
        schedule, ends_at = Schedule(now, video=video), now + seconds
        while now < ends_at and goes_on():
            for size in schedule.due(now):
                self._send(size)
            self._give_up(now)
            gevent.sleep(max(0.0, schedule.next_at - time.monotonic()))
            now = time.monotonic()
        return schedule.skipped

    def settle(self) -> None:
        """Wait until every packet has arrived or counts as lost."""
        while self.up.under_way or self.down.under_way:
            gevent.sleep(TICK_SECONDS)
            self._give_up(time.monotonic())

    def _send(self, size: int) -> None:
        if self._relayed is None:
            raise RuntimeError("media before the allocation")
        frame = encode_channel_data(CHANNEL, self.up.packet(size, time.monotonic()))
        self._wire.send(frame + bytes(-len(frame) % 4) if self._wire.is_stream else frame)
        self._peer.sendto(self.down.packet(size, time.monotonic()), self._relayed)

    def _give_up(self, now: float) -> None:
        self.up.give_up(now)
        self.down.give_up(now)

    def _arrive(self, flow: Flow, data: bytes, now: float) -> None:
        try:
            self.on_arrival(flow, flow.receive(data, now), len(data))
        except StrayPacket:
            self.strays += 1

    # What comes in

    def _hear_peer(self) -> None:
        while self._is_open:
            data = self._peer.recv(_LARGEST_DATAGRAM)
            self._arrive(self.up, data, time.monotonic())

    def _hear_relay(self) -> None:
        while self._is_open:
            try:
                frame = self._wire.receive(_LOOK_SECONDS)
            except TimeoutError:
                continue
            except OSError as error:
                self._answers.put(error)
                return
            now = time.monotonic()
            if frame[0] & 0xC0:
                self._arrive(self.down, decode_channel_data(frame)[1], now)
            else:
                self._answers.put(frame)

    def _ask(self, method: int, *fields: Field) -> Response:
        response = self._ask_once(method, *fields)
        if response.code == ErrorCode.STALE_NONCE:  # the next request has the fresh one
            response = self._ask_once(method, *fields)
        if response.code:
            raise RequestRefused(response.code)
        return response

    def _ask_once(self, method: int, *fields: Field) -> Response:
        request = self._turn.build(method, *fields)
        deadline = time.monotonic() + ANSWER_PATIENCE_SECONDS
        wait = ANSWER_PATIENCE_SECONDS if self._wire.is_stream else FIRST_RETRANSMISSION_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            self._wire.send(request)
            with contextlib.suppress(Empty):
                return self._await_answer(request[8:20], min(wait, left))
            wait *= 2
            self.has_repeated = True
        raise TimeoutError("no answer")

    def _await_answer(self, transaction_id: bytes, seconds: float) -> Response:
        deadline = time.monotonic() + seconds
        while True:
            answer = self._answers.get(timeout=max(0.0, deadline - time.monotonic()))
            if isinstance(answer, OSError):
                raise answer
            if answer[8:20] == transaction_id:  # else a second answer to a request that was sent twice
                return self._turn.read(answer)

    @property
    def _peer_address(self) -> TransportAddress:
        return TransportAddress.parse(*self._peer.getsockname()[:2])
