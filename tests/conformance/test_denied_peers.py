"""The peer policy of the running service, asked over a real socket: 403, and no packet ever leaves."""

import socket
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from stun.address import IPV6, TransportAddress
from stun.attributes import CHANNEL_NUMBER, DATA, REQUESTED_ADDRESS_FAMILY, REQUESTED_TRANSPORT, XOR_PEER_ADDRESS
from stun.message import encode_message
from stun.registry import MessageClass, Method
from tests.support.lab import Lab, open_lab
from tests.support.service import Service, run_service
from tests.support.turn_client import Field, Response, TurnClient, new_transaction_id, pack

DENIED = {
    "127.0.0.1": "loopback",
    "169.254.169.254": "link_local",
    "10.0.0.1": "private",
    "0.0.0.0": "unspecified",  # noqa: S104  # nobody binds to it here
    "224.0.0.1": "multicast",
    "::ffff:127.0.0.1": "loopback",
    "fd00::1": "private",
    "64:ff9b::7f00:1": "loopback",
    "2002:7f00:1::": "loopback",
}


class Client:
    """A TURN client on a real UDP socket."""

    def __init__(self, lab: Lab) -> None:
        with lab.inside(lab.alice):
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.settimeout(5)
        self._socket.connect((lab.server_ip, 3478))
        self._client = TurnClient("alice", "wonderland")

    def ask(self, method: Method, *fields: Field) -> Response:
        self._socket.send(self._client.build(method, *fields))
        return self._client.read(self._socket.recv(2048))

    def allocate(self, *fields: Field) -> None:
        assert self.ask(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17), *fields).code == 401
        assert self.ask(Method.ALLOCATE, (REQUESTED_TRANSPORT, 17), *fields).code == 0

    def send(self, peer: TransportAddress, data: bytes) -> None:
        transaction_id = new_transaction_id()
        fields = pack(transaction_id, (XOR_PEER_ADDRESS, peer), (DATA, data))
        self._socket.send(encode_message(Method.SEND, MessageClass.INDICATION, transaction_id, fields))

    def close(self) -> None:
        self._socket.close()


class Scene(NamedTuple):
    """A service in the middle of a lab."""

    lab: Lab
    service: Service


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with open_lab() as lab:
        settings: dict[str, Any] = {
            "services": ["relay"],
            "relay": {"users": {"alice": "wonderland"}, "relay_addresses": [lab.server_ip, lab.server_ipv6]},
        }
        with run_service(tmp_path_factory.mktemp("relay"), settings, lab.server) as service:
            yield Scene(lab, service)


@pytest.fixture
def client(scene: Scene) -> Iterator[Client]:
    opened = Client(scene.lab)
    yield opened
    opened.close()


@pytest.mark.rfc(8656, "10.2")
@pytest.mark.parametrize(("text", "rule"), DENIED.items(), ids=DENIED)
def test_a_denied_peer_gets_403_and_not_a_single_packet(scene: Scene, client: Client, text: str, rule: str) -> None:
    peer = TransportAddress.parse(text, 4000)
    if peer.family == IPV6:
        client.allocate((REQUESTED_ADDRESS_FAMILY, IPV6))
    else:
        client.allocate()
    refused = f'redconnect_relay_requests_refused_total{{cause="peer_{rule}",code="403",method="create_permission"}}'
    before = scene.service.metrics()
    assert client.ask(Method.CREATE_PERMISSION, (XOR_PEER_ADDRESS, peer)).code == 403
    assert client.ask(Method.CHANNEL_BIND, (CHANNEL_NUMBER, 0x4000), (XOR_PEER_ADDRESS, peer)).code == 403
    client.send(peer, b"not permitted")
    assert client.ask(Method.REFRESH).code == 0  # so the indication before it has been looked at
    after = scene.service.metrics()
    assert after[refused] == before.get(refused, 0) + 1
    dropped = 'redconnect_relay_packets_dropped_total{reason="no_permission"}'
    assert after[dropped] == before[dropped] + 1
    sent = 'redconnect_relay_packets_total{direction="to_peer",transport="udp"}'
    assert after[sent] == before[sent] == 0
