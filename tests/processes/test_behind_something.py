"""Behind a load balancer and behind a NAT: whose address the relay believes, and when it refuses to start."""

import contextlib
import ipaddress
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stun.address import TransportAddress
from stun.attributes import XOR_MAPPED_ADDRESS, XOR_RELAYED_ADDRESS
from stun.message import decode_message
from tests.support.lab import Lab, open_lab
from tests.support.ports import free_port
from tests.support.service import run_service
from tests.support.wire import TcpWire, TlsWire
from tests.support.wire_client import REALM, SECRET, Server, WireClient, run_relay

CLIENT = TransportAddress.parse("203.0.113.7", 40_000)


def header_v1() -> bytes:
    return b"PROXY TCP4 203.0.113.7 127.0.0.1 40000 3478\r\n"


def header_v2() -> bytes:
    addresses = CLIENT.ip + bytes((127, 0, 0, 1)) + struct.pack(">HH", CLIENT.port, 3478)
    return b"\r\n\r\n\0\r\nQUIT\n" + b"\x21\x11" + struct.pack(">H", len(addresses)) + addresses


class BalancedWire(TcpWire):
    """A client behind a load balancer that says whom it speaks for."""

    def __init__(self, server: tuple[str, int], header: bytes) -> None:
        super().__init__(server)
        self.send(header)


class BalancedTlsWire(TlsWire):
    """The same with TLS behind the header: the load balancer does not end it."""

    def __init__(self, server: tuple[str, int], header: bytes) -> None:
        self._header = header
        super().__init__(server)

    def _before_tls(self) -> None:
        self._socket.sendall(self._header)


@pytest.mark.parametrize("wire", [BalancedWire, BalancedTlsWire], ids=["tcp", "tls"])
@pytest.mark.parametrize("header", [header_v1(), header_v2()], ids=["v1", "v2"])
def test_a_configured_load_balancer_says_who_the_client_is(
    tmp_path: Path, wire: type[BalancedWire | BalancedTlsWire], header: bytes
) -> None:
    with run_relay(tmp_path, proxy_sources=["127.0.0.0/8"]) as relay:
        transport = "tcp" if wire is BalancedWire else "tls"
        with contextlib.closing(relay.client()) as direct:
            turn = direct.turn
        balanced = WireClient(wire(("127.0.0.1", relay.ports[transport]), header), turn)
        with contextlib.closing(balanced):
            bound = decode_message(balanced.exchange(balanced.binding()))
            assert bound.get(XOR_MAPPED_ADDRESS) == CLIENT
            assert balanced.allocate().get(XOR_MAPPED_ADDRESS) == CLIENT


@pytest.mark.parametrize("header", [header_v1(), header_v2()], ids=["v1", "v2"])
def test_nobody_else_may_say_who_he_is(tmp_path: Path, header: bytes) -> None:
    with run_relay(tmp_path, proxy_sources=["192.0.2.0/24"]) as relay:
        wire = BalancedWire(("127.0.0.1", relay.ports["tcp"]), header)
        with contextlib.closing(wire), pytest.raises(ConnectionError):
            wire.receive()
        malformed = 'redconnect_relay_streams_closed_total{reason="malformed"}'
        relay.service.await_that(lambda: relay.service.metrics()[malformed] == 1)
        with contextlib.closing(relay.client("tcp")) as honest:
            assert honest.allocate().code == 0


def test_a_load_balancer_that_says_nothing_is_cut_off(tmp_path: Path) -> None:
    with run_relay(tmp_path, proxy_sources=["127.0.0.0/8"]) as relay:
        wire = TcpWire(("127.0.0.1", relay.ports["tcp"]))
        wire.send(b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12))
        with contextlib.closing(wire), pytest.raises(ConnectionError):
            wire.receive()
        reason = 'redconnect_relay_streams_closed_total{reason="bad_proxy_header"}'
        relay.service.await_that(lambda: relay.service.metrics()[reason] == 1)


# Addresses


def test_clients_are_told_the_external_address(tmp_path: Path) -> None:
    with (
        run_relay(tmp_path, relay_addresses=["127.0.0.1"], external_addresses={"127.0.0.1": "198.41.0.9"}) as relay,
        contextlib.closing(relay.client()) as client,
    ):
        relayed = client.allocate().get(XOR_RELAYED_ADDRESS)
        assert ipaddress.ip_address(relayed.ip) == ipaddress.ip_address("198.41.0.9")


@pytest.mark.long
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"relay_addresses": ["192.0.2.99"]}, r"cannot relay from 192\.0\.2\.0/24: .*relay\.relay_addresses"),
        (
            {"relay_addresses": ["127.0.0.1"], "external_addresses": {"127.0.0.1": "169.254.1.1"}},
            r"peers cannot reach the advertised address .*; set relay\.external_addresses",
        ),
        (
            {"relay_addresses": ["127.0.0.1"], "external_addresses": {"127.0.0.1": "0.0.0.0"}},  # noqa: S104
            "peers cannot reach the advertised address",
        ),
        (
            {"relay_addresses": ["127.0.0.1"], "external_address_from": ["127.0.0.1:9"]},
            r"did not say which address it sees us from; check relay\.external_address_from",
        ),
    ],
    ids=["not ours", "link-local", "unspecified", "nobody answers"],
)
def test_it_refuses_to_start_in_one_sentence_when_the_address_cannot_be_right(
    tmp_path: Path, settings: dict[str, Any], sentence: str, workers: int
) -> None:
    with (
        pytest.raises(RuntimeError, match=f"cannot start: .*{sentence}") as refused,
        run_relay(tmp_path, workers=workers, **settings),
    ):
        pass
    assert str(refused.value).count("cannot start") == 1
    assert "Traceback" not in str(refused.value)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with open_lab() as opened:
        yield opened


@pytest.fixture(scope="module")
def other_relay(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A redconnect at the other end of alice's link, which tells whoever asks where he comes from."""
    port = free_port()
    relay = {"listen_addresses": [lab.alice_ip], "udp_ports": [port], "tcp_ports": [], "tls_ports": []}
    with run_service(tmp_path_factory.mktemp("other"), {"services": ["relay"], "relay": relay}, lab.alice):
        yield f"{lab.alice_ip}:{port}"


def asking(lab: Lab, asked: str, **settings: Any) -> dict[str, Any]:  # noqa: ANN401
    relay = {
        "realm": REALM,
        "listen_addresses": [lab.server_ip],
        "relay_addresses": [lab.server_ip],
        "udp_ports": [free_port()],
        "tcp_ports": [],
        "tls_ports": [],
        "external_address_from": [asked],
        **settings,
    }
    return {"services": ["relay"], "secrets": {"turn_secret": SECRET}, "relay": relay}


@pytest.mark.parametrize("workers", [1, 2])
def test_the_external_address_can_be_asked_of_another_relay(
    lab: Lab, other_relay: str, tmp_path: Path, workers: int
) -> None:
    settings = asking(lab, other_relay, workers=workers)
    with run_service(tmp_path, settings, lab.server) as service, lab.inside(lab.alice):
        server = Server(service, {"udp": settings["relay"]["udp_ports"][0]})
        with contextlib.closing(server.client(host=lab.server_ip)) as client:
            relayed = client.allocate().get(XOR_RELAYED_ADDRESS)
        assert relayed.ip == socket.inet_aton(lab.server_ip)


def test_it_refuses_to_start_when_the_other_relay_sees_another_address_than_configured(
    lab: Lab, other_relay: str, tmp_path: Path
) -> None:
    settings = asking(lab, other_relay, external_addresses={lab.server_ip: "198.41.0.9"})
    with (
        pytest.raises(RuntimeError, match=r"cannot start: relay\.external_addresses says .* sees this machine as"),
        run_service(tmp_path, settings, lab.server),
    ):
        pass
