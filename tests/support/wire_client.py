"""A TURN client over real sockets, and the running relay that it speaks to.

Requests over datagrams are sent again as RFC 8489 §6.2.1 says, so a lost packet is no failed test. What arrives while
an answer is awaited waits in order.
"""

import contextlib
import ipaddress
import itertools
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from stun.address import IPV6, TransportAddress
from stun.attributes import (
    CHANNEL_NUMBER,
    DATA,
    LIFETIME,
    REQUESTED_ADDRESS_FAMILY,
    REQUESTED_TRANSPORT,
    XOR_PEER_ADDRESS,
    XOR_RELAYED_ADDRESS,
)
from stun.credentials import issue_credential
from stun.demux import decode_channel_data, encode_channel_data
from stun.message import Message, decode_message
from stun.registry import Method
from tests.support.ports import free_port
from tests.support.service import Service, run_service
from tests.support.turn_client import Field, Response, TurnClient, indication, new_transaction_id
from tests.support.wire import PATIENCE, DtlsWire, TcpWire, TlsWire, UdpWire, Wire

FIRST_RETRANSMISSION: Final = 0.5  # seconds; doubles each time (RFC 8489 §6.2.1)
SECRET: Final = "a shared secret of thirty-two bytes, or more"
REALM: Final = "example.org"
_VALIDITY_SECONDS: Final = 3600

_WIRES: Final[Mapping[str, Callable[[tuple[str, int]], Wire]]] = {
    "udp": UdpWire,
    "tcp": TcpWire,
    "tls": TlsWire,
    "dtls": DtlsWire,
}
_identities = itertools.count(1)


class WireClient:
    """One user on one connection."""

    def __init__(self, wire: Wire, turn: TurnClient) -> None:
        self.wire = wire
        self.turn = turn
        self._arrived: deque[bytes] = deque()
        self._repeated: set[bytes] = set()  # transactions that may be answered more than once

    @property
    def address(self) -> TransportAddress:
        """Where the server sees this client."""
        return TransportAddress.parse(*self.wire.local)

    def close(self) -> None:
        """End the allocation, if there is one, and the connection."""
        with contextlib.suppress(OSError), contextlib.closing(self.wire):
            if self.turn.nonce is not None and not self.wire.is_stream:  # with a stream the allocation ends by itself
                self.wire.send(self.turn.build(Method.REFRESH, (LIFETIME, 0)))

    # Requests

    def exchange(self, request: bytes) -> bytes:
        """Send a request, again and again over datagrams, until its answer comes.

        Raises:
            TimeoutError: there was none.
        """
        deadline = time.monotonic() + PATIENCE
        interval = PATIENCE if self.wire.is_stream else FIRST_RETRANSMISSION
        while (left := deadline - time.monotonic()) > 0:
            self.wire.send(request)
            with contextlib.suppress(TimeoutError):
                return self._await_answer(request[8:20], min(interval, left))
            self._repeated.add(request[8:20])
            interval *= 2
        raise TimeoutError("no answer")

    def ask_once(self, method: int, *fields: Field, transaction_id: bytes | None = None) -> Response:
        """One request and its answer, whose integrity is verified."""
        return self.turn.read(self.exchange(self.turn.build(method, *fields, transaction_id=transaction_id)))

    def ask(self, method: int, *fields: Field, transaction_id: bytes | None = None) -> Response:
        """As `ask_once`, after a challenge if there was none yet."""
        if self.turn.nonce is None:
            self.get_challenged()
        return self.ask_once(method, *fields, transaction_id=transaction_id)

    def get_challenged(self) -> Response:
        """Learn realm and nonce."""
        response = self.ask_once(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17))
        assert response.code == 401
        return response

    def allocate(self, *fields: Field, transaction_id: bytes | None = None) -> Response:
        return self.ask(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17), *fields, transaction_id=transaction_id)

    def relayed(self, *fields: Field) -> TransportAddress:
        """Allocate, and return the relayed transport address."""
        response = self.allocate(*fields)
        assert response.code == 0
        return response.get(XOR_RELAYED_ADDRESS)

    def relayed_ipv6(self) -> TransportAddress:
        return self.relayed((REQUESTED_ADDRESS_FAMILY, IPV6))

    def refresh(self, lifetime: int | None = None, *fields: Field) -> Response:
        wish: tuple[Field, ...] = () if lifetime is None else ((LIFETIME, lifetime),)
        return self.ask(Method.REFRESH, *wish, *fields)

    def permit(self, *peers: TransportAddress) -> Response:
        return self.ask(Method.CREATE_PERMISSION, *((XOR_PEER_ADDRESS, each) for each in peers))

    def bind(self, number: int, peer: TransportAddress) -> Response:
        return self.ask(Method.CHANNEL_BIND, (CHANNEL_NUMBER, number), (XOR_PEER_ADDRESS, peer))

    # Data

    def send_through(self, number: int, data: bytes) -> None:
        """ChannelData, padded over streams as it must be there (RFC 8656 §12.5)."""
        frame = encode_channel_data(number, data)
        self.wire.send(frame + bytes(-len(frame) % 4) if self.wire.is_stream else frame)

    def send_to(self, peer: TransportAddress, data: bytes) -> None:
        """A Send indication."""
        self.wire.send(indication(Method.SEND, (XOR_PEER_ADDRESS, peer), (DATA, data)))

    def receive(self) -> bytes:
        """The next message that was no answer, padding included."""
        while self._is_repeated(message := self._arrived.popleft() if self._arrived else self.wire.receive()):
            pass
        return message

    def receive_channel_data(self) -> tuple[int, bytes]:
        """Number and data of the next message, which must be ChannelData."""
        return decode_channel_data(self.receive())

    def receive_indication(self) -> Message:
        """The next message, which must be STUN."""
        return decode_message(self.receive())

    def hears_nothing_more(self) -> bool:
        """Whether all that was sent so far brought no message; the answer to one more request ends the wait."""
        self.exchange(self.binding())
        return not self._arrived

    def binding(self) -> bytes:
        """A bare Binding request."""
        return b"\x00\x01\x00\x00\x21\x12\xa4\x42" + new_transaction_id()

    def _await_answer(self, transaction_id: bytes, seconds: float) -> bytes:
        deadline = time.monotonic() + seconds
        while True:
            message = self.wire.receive(max(0.001, deadline - time.monotonic()))
            if _is_response(message) and message[8:20] == transaction_id:
                return message
            if not self._is_repeated(message):
                self._arrived.append(message)

    def _is_repeated(self, message: bytes) -> bool:
        return _is_response(message) and message[8:20] in self._repeated


def _is_response(message: bytes) -> bool:
    return message[:1] == b"\x01"  # of every method that we use


class Peer:
    """A UDP socket that the relay sends to."""

    def __init__(self, host: str) -> None:
        self._socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(PATIENCE)
        self._socket.bind((host, 0))

    @property
    def address(self) -> TransportAddress:
        return TransportAddress.parse(*self._socket.getsockname()[:2])

    def send(self, data: bytes, to: TransportAddress) -> None:
        self._socket.sendto(data, (str(ipaddress.ip_address(to.ip)), to.port))

    def receive(self) -> tuple[bytes, TransportAddress]:
        data, sender = self._socket.recvfrom(65536)
        return data, TransportAddress.parse(*sender[:2])

    def has_heard_nothing(self) -> bool:
        """Whether nothing waits: over loopback a datagram is there as soon as it has been sent."""
        self._socket.setblocking(False)  # noqa: FBT003  # its only argument
        try:
            self._socket.recv(1)
        except BlockingIOError:
            return True
        finally:
            self._socket.settimeout(PATIENCE)
        return False

    def close(self) -> None:
        self._socket.close()


class Server(NamedTuple):
    """A running relay on loopback."""

    service: Service
    ports: dict[str, int]  # by transport

    def client(
        self, transport: str = "udp", host: str = "127.0.0.1", *, lives_for: int = _VALIDITY_SECONDS
    ) -> WireClient:
        """A new user with a time-limited credential.

        Args:
            transport: udp, tcp, tls or dtls.
            host: 127.0.0.1 or ::1.
            lives_for: seconds from now until the credential expires; may be negative.
        """
        return self.client_of(self.new_user(lives_for=lives_for), transport, host)

    def new_user(self, *, lives_for: int = _VALIDITY_SECONDS) -> TurnClient:
        """A user with a time-limited credential, on no connection yet."""
        credential = issue_credential(SECRET.encode(), int(time.time()) + lives_for, f"user{next(_identities)}")
        return TurnClient(credential.username, credential.password)

    def client_with(self, secret: str) -> WireClient:
        """A new user over UDP whose credential was issued with this secret."""
        credential = issue_credential(secret.encode(), int(time.time()) + _VALIDITY_SECONDS, f"user{next(_identities)}")
        return self.client_of(TurnClient(credential.username, credential.password))

    def client_of(self, turn: TurnClient, transport: str = "udp", host: str = "127.0.0.1") -> WireClient:
        """A connection of a known user."""
        return WireClient(_WIRES[transport]((host, self.ports[transport])), turn)


@contextlib.contextmanager
def run_relay(
    folder: Path,
    *,
    services: Sequence[str] = ("relay",),
    tls: Mapping[str, str] | None = None,
    signaling: Mapping[str, Any] | None = None,
    database_url: str = "",
    program: Sequence[str] = ("config",),
    **settings: Any,  # noqa: ANN401  # whatever the settings take
) -> Iterator[Server]:
    """Run the relay, alone unless told otherwise, on loopback and on free ports.

    Args:
        folder: takes the configuration and the state.
        services: relay, and what else is to run.
        tls: certificate and key; none: a self-signed one.
        signaling: its settings, if it is to run.
        database_url: of the appointments; none: a file of SQLite in the folder.
        program: as of `run_service`.
        settings: of the relay, beyond those that are needed here.
    """
    ports = {transport: free_port() for transport in ("udp", "tcp", "tls", "dtls")}
    relay = {
        "realm": REALM,
        "listen_addresses": ["127.0.0.1", "::1"],
        "relay_addresses": ["127.0.0.1", "::1"],
        "udp_ports": [ports["udp"]],
        "tcp_ports": [ports["tcp"]],
        "tls_ports": [ports["tls"]],
        "dtls_ports": [ports["dtls"]],
        "quota": {"challenges_per_second": 100_000, "challenge_burst": 100_000},  # all clients have one address
        "peers": {"allow": ["127.0.0.1/32", "127.0.0.3/32", "::1/128"]},
        **settings,
    }
    configuration = {
        "services": list(services),
        "secrets": {"turn_secret": SECRET},
        "relay": relay,
        "tls": dict(tls or {}),
        "signaling": dict(signaling or {}),
        "database_url": database_url,
    }
    with run_service(folder, configuration, program=program) as service:
        yield Server(service, ports)
