"""The plane of TCP allocations: what it counts when a client moves."""

import asyncio
import socket

import pytest

from relay.datapath import NO_TRAFFIC, RelayAddress, Traffic
from relay.five_tuple import FiveTuple, Transport
from relay.io.clients import ClientLink, ClientRelay
from relay.io.poller import Poller
from relay.io.tcp_plane import TcpPlane
from relay.io.tcp_relay import TcpRelays
from stun.address import TransportAddress

IP = TransportAddress.parse("127.0.0.1", 0).ip
SERVER = TransportAddress.parse("198.41.0.4", 3478)
OVER_TCP = FiveTuple(Transport.TCP, SERVER, TransportAddress.parse("62.4.9.8", 1))
OVER_TLS = FiveTuple(Transport.TLS, SERVER, TransportAddress.parse("62.4.9.8", 2))


class Links:
    """Remembers who has a relay."""

    def __init__(self) -> None:
        self.attached: set[FiveTuple] = set()

    def link(self, path: FiveTuple) -> ClientLink:
        raise KeyError(path)

    def attach(self, path: FiveTuple, relay: ClientRelay) -> None:
        assert not relay.from_client(memoryview(b""), 0, 0, 0.0)
        self.attached.add(path)

    def detach(self, path: FiveTuple) -> None:
        self.attached.remove(path)


class Nobody:
    """Hears of no peer."""

    def peer_accepted(self, allocation: int, peer: TransportAddress) -> int | None:
        raise AssertionError(allocation, peer)

    def peer_dialled(self, connection_id: int) -> None:
        raise AssertionError(connection_id)

    def peer_dial_failed(self, connection_id: int) -> None:
        raise AssertionError(connection_id)

    def peer_closed(self, connection_id: int) -> None:
        raise AssertionError(connection_id)


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
    return number


async def test_what_was_relayed_before_a_client_moved_stays_with_its_old_transport(port: int) -> None:
    loop = asyncio.get_running_loop()
    poller, links = Poller(loop), Links()
    relays = TcpRelays(loop, poller, Nobody())
    plane = TcpPlane(relays, links, {})
    handle = plane.open_relay(OVER_TCP, RelayAddress(IP, IP), port, 600.0)
    relays._listeners[handle].bytes_to_peer = 1000
    plane.move_client(handle, OVER_TLS)
    assert links.attached == {OVER_TLS}
    assert plane.totals()[Transport.TCP] == Traffic(0, 1000, 0, 0)
    assert plane.totals()[Transport.TLS] == NO_TRAFFIC
    relays._listeners[handle].bytes_to_peer = 1500
    assert plane.totals()[Transport.TLS] == Traffic(0, 500, 0, 0)
    assert plane.close_relay(handle) == Traffic(0, 1500, 0, 0)
    assert plane.totals()[Transport.TCP] == Traffic(0, 1000, 0, 0)
    assert plane.totals()[Transport.TLS] == Traffic(0, 500, 0, 0)
    assert links.attached == set()
    poller.close()
