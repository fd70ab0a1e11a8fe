"""The running relay on loopback, and clients of it over every transport."""

from collections.abc import Callable, Iterator

import pytest

from tests.support.ports import free_port
from tests.support.turn_client import TurnClient
from tests.support.wire_client import Peer, Server, WireClient, run_relay

Connect = Callable[..., WireClient]

CORNERS = ("127.0.0.1", "127.0.0.2")  # addresses of the relay that has everything

TRANSPORTS = {
    "udp": ("udp", "127.0.0.1"),
    "udp-ipv6": ("udp", "::1"),
    "tcp": ("tcp", "127.0.0.1"),
    "tls": ("tls", "127.0.0.1"),
    "dtls": ("dtls", "127.0.0.1"),
}
STREAMS = {"tcp": ("tcp", "127.0.0.1"), "tcp-ipv6": ("tcp", "::1"), "tls": ("tls", "127.0.0.1")}
DATAGRAMS = {"udp": ("udp", "127.0.0.1"), "udp-ipv6": ("udp", "::1"), "dtls-ipv6": ("dtls", "::1")}


@pytest.fixture(scope="session")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One relay for all tests over real sockets; each client is a user of its own."""
    with run_relay(tmp_path_factory.mktemp("relay")) as server:
        yield server


@pytest.fixture(scope="session")
def wide_relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A relay with everything switched on that is off by default; on IPv4, for loopback has one IPv6 address."""
    ports = {name: free_port() for name in ("udp", "alternate udp")}
    with run_relay(
        tmp_path_factory.mktemp("wide"),
        listen_addresses=list(CORNERS),
        udp_ports=list(ports.values()),
        tcp_allocations=True,
        mobility=True,
        behaviour_discovery=True,
        strict_channels=True,
    ) as server:
        yield Server(server.service, {**server.ports, **ports})


def _connecting(relay: Server, transport: str, host: str) -> Iterator[Connect]:
    opened: list[WireClient] = []

    def connect(turn: TurnClient | None = None, **options: int) -> WireClient:
        client = relay.client_of(turn, transport, host) if turn else relay.client(transport, host, **options)
        opened.append(client)
        return client

    yield connect
    for client in opened:
        client.close()


@pytest.fixture(params=TRANSPORTS)
def connect(request: pytest.FixtureRequest, relay: Server) -> Iterator[Connect]:
    """Opens connections over each transport in turn; they are closed at the end."""
    yield from _connecting(relay, *TRANSPORTS[request.param])


@pytest.fixture(params=STREAMS)
def connect_stream(request: pytest.FixtureRequest, relay: Server) -> Iterator[Connect]:
    """As `connect`, over TCP and TLS only."""
    yield from _connecting(relay, *STREAMS[request.param])


@pytest.fixture(params=DATAGRAMS)
def connect_datagram(request: pytest.FixtureRequest, relay: Server) -> Iterator[Connect]:
    """As `connect`, over datagrams only."""
    yield from _connecting(relay, *DATAGRAMS[request.param])


@pytest.fixture
def make_peer() -> Iterator[Callable[..., Peer]]:
    """Opens UDP sockets of peers."""
    opened: list[Peer] = []

    def make(host: str = "127.0.0.1") -> Peer:
        opened.append(Peer(host))
        return opened[-1]

    yield make
    for peer in opened:
        peer.close()
