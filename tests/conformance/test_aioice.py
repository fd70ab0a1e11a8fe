"""aioice's TURN client, written by others, through the running relay."""

import asyncio
from pathlib import Path

import pytest
from aioice import turn

from tests.support.ports import free_port
from tests.support.service import run_service


class Collector(asyncio.DatagramProtocol):
    """Collects what arrives."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[tuple[bytes, tuple[str, int]]] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.received.put_nowait((data, addr))


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_aioice_relays_both_ways(tmp_path: Path, transport: str) -> None:
    port = free_port()
    settings = {
        "services": ["relay"],
        "relay": {
            "listen_addresses": ["127.0.0.1"],
            "relay_addresses": ["127.0.0.1"],
            "udp_ports": [port],
            "tcp_ports": [port],
            "tls_ports": [],
            "users": {"alice": "secret"},
            "peers": {"allow": ["127.0.0.1/32"]},
        },
    }
    loop = asyncio.get_running_loop()
    with run_service(tmp_path, settings):
        peer_transport, peer = await loop.create_datagram_endpoint(Collector, local_addr=("127.0.0.1", 0))
        peer_address = peer_transport.get_extra_info("sockname")
        relayed_transport, client = await turn.create_turn_endpoint(
            Collector, server_addr=("127.0.0.1", port), username="alice", password="secret", transport=transport
        )
        relayed_address = relayed_transport.get_extra_info("sockname")
        relayed_transport.sendto(b"to the peer", peer_address)
        async with asyncio.timeout(10):
            data, sender = await peer.received.get()
            assert (data, sender) == (b"to the peer", relayed_address)
            peer_transport.sendto(b"to the client", relayed_address)
            data, sender = await client.received.get()
        assert (data, tuple(sender)) == (b"to the client", peer_address)
        relayed_transport.close()
        peer_transport.close()
