"""ICMP and path MTU (RFC 8656 §11.5, §14), with real routers: what becomes of a datagram is told to the client.

alice -- server -- bob -- carol        bob is a router here, and the way to carol takes 1,300 bytes
"""

import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from stun.address import IPV4, IPV6, TransportAddress
from stun.attributes import (
    DATA,
    DONT_FRAGMENT,
    ICMP,
    REQUESTED_ADDRESS_FAMILY,
    XOR_PEER_ADDRESS,
    IcmpError,
)
from stun.registry import MessageClass, Method
from tests.support.lab import Lab, open_lab
from tests.support.service import run_service
from tests.support.turn_client import indication
from tests.support.wire import PATIENCE
from tests.support.wire_client import SECRET, Server, WireClient

MTU = 1300
CAROL = {IPV4: "10.91.3.2", IPV6: "fd91:3::2"}
CLOSED_PORT = 9999
TOO_BIG = {IPV4: (3, 4), IPV6: (2, 0)}  # type and code
PORT_UNREACHABLE = {IPV4: (3, 3), IPV6: (1, 4)}
CHANNEL = 0x4000

FAMILIES = pytest.mark.parametrize("family", [IPV4, IPV6], ids=["ipv4", "ipv6"])
TRANSPORTS = pytest.mark.parametrize("transport", ["udp", "tcp", "tls", "dtls"])


class Scene(NamedTuple):
    """The lab with its router, and the service in it."""

    lab: Lab
    server: Server


def _ip(namespace: str, *words: str) -> None:
    subprocess.run(["ip", "-n", namespace, *words], check=True, timeout=20)


def _add_carol(lab: Lab, carol: str) -> None:
    subprocess.run(["ip", "netns", "add", carol], check=True, timeout=20)
    _ip(carol, "link", "set", "lo", "up")
    _ip(lab.bob, "link", "add", f"{carol}1", "type", "veth", "peer", "name", f"{carol}0", "netns", carol)
    for namespace, device, host in ((lab.bob, f"{carol}1", 1), (carol, f"{carol}0", 2)):
        _ip(namespace, "link", "set", device, "mtu", str(MTU), "up")
        _ip(namespace, "addr", "add", f"10.91.3.{host}/24", "dev", device)
        _ip(namespace, "addr", "add", f"fd91:3::{host}/64", "dev", device, "nodad")
    _ip(carol, "route", "add", "default", "via", "10.91.3.1")
    _ip(carol, "-6", "route", "add", "default", "via", "fd91:3::1")
    _ip(lab.server, "route", "add", "10.91.3.0/24", "via", lab.bob_ip)
    _ip(lab.server, "-6", "route", "add", "fd91:3::/64", "via", lab.bob_ipv6)
    keys = ("net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    rates = ("net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")  # one error per second would be one test
    for namespace in (lab.bob, carol):
        assert lab.run(namespace, "sysctl", "-qw", *keys, *rates).returncode == 0


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with open_lab() as lab:
        carol = f"{lab.alice[:-1]}c"
        try:
            _add_carol(lab, carol)
            peers = [f"{lab.bob_ip}/32", f"{lab.bob_ipv6}/128", f"{CAROL[IPV4]}/32", f"{CAROL[IPV6]}/128"]
            relay = {
                "realm": "example.org",
                "dtls_ports": [5349],
                "relay_addresses": [lab.server_ip_for_bob, lab.server_ipv6],
                "peers": {"allow": peers},
            }
            settings = {"services": ["relay"], "secrets": {"turn_secret": SECRET}, "relay": relay}
            with run_service(tmp_path_factory.mktemp("icmp"), settings, lab.server) as service:
                yield Scene(lab, Server(service, {"udp": 3478, "tcp": 3478, "tls": 5349, "dtls": 5349}))
        finally:
            subprocess.run(["ip", "netns", "delete", carol], check=False, timeout=20)


@pytest.fixture
def allocated(scene: Scene) -> Iterator[Callable[[str, int], WireClient]]:
    """Opens clients in alice's namespace, with an allocation of a family; no MTU of a path is known at first."""
    for words in (("route", "flush", "cache"), ("-6", "route", "flush", "cache")):
        scene.lab.run(scene.lab.server, "ip", *words)
    opened: list[WireClient] = []

    def allocate(transport: str, family: int) -> WireClient:
        with scene.lab.inside(scene.lab.alice):
            opened.append(scene.server.client(transport, scene.lab.server_ip))
        assert opened[-1].allocate((REQUESTED_ADDRESS_FAMILY, family)).code == 0
        return opened[-1]

    yield allocate
    for client in opened:
        client.close()


@pytest.fixture
def carol(scene: Scene) -> Iterator[Callable[[int], socket.socket]]:
    """Opens UDP sockets in carol's namespace."""
    opened: list[socket.socket] = []

    def listen(family: int) -> socket.socket:
        with scene.lab.inside(f"{scene.lab.alice[:-1]}c"):
            opened.append(socket.socket(socket.AF_INET if family == IPV4 else socket.AF_INET6, socket.SOCK_DGRAM))
        opened[-1].bind((CAROL[family], 0))
        opened[-1].settimeout(PATIENCE)
        return opened[-1]

    yield listen
    for sock in opened:
        sock.close()


def address_of(sock: socket.socket) -> TransportAddress:
    return TransportAddress.parse(*sock.getsockname()[:2])


def send_unfragmented(client: WireClient, peer: TransportAddress, data: bytes) -> None:
    client.wire.send(indication(Method.SEND, (XOR_PEER_ADDRESS, peer), (DATA, data), (DONT_FRAGMENT, b"")))


def assert_told(client: WireClient, peer: TransportAddress, expected: IcmpError) -> None:
    told = client.receive_indication()
    assert (told.method, told.message_class) == (Method.DATA, MessageClass.INDICATION)
    assert told.get(XOR_PEER_ADDRESS) == peer
    assert told.get(ICMP) == expected
    assert told.get(DATA) is None


@pytest.mark.rfc(8656, "11.5")
@FAMILIES
@TRANSPORTS
def test_a_port_where_nobody_listens_is_told_to_the_client(
    scene: Scene, allocated: Callable[[str, int], WireClient], transport: str, family: int
) -> None:
    client = allocated(transport, family)
    host = scene.lab.bob_ip if family == IPV4 else scene.lab.bob_ipv6
    peer = TransportAddress.parse(host, CLOSED_PORT)
    assert client.permit(peer).code == 0
    client.send_to(peer, b"is anybody there?")
    assert_told(client, peer, IcmpError(*PORT_UNREACHABLE[family], bytes(4)))


@pytest.mark.rfc(8656, "11.5")
@TRANSPORTS
def test_an_error_of_channel_data_comes_as_an_indication_too(
    scene: Scene, allocated: Callable[[str, int], WireClient], transport: str
) -> None:
    client = allocated(transport, IPV4)
    peer = TransportAddress.parse(scene.lab.bob_ip, CLOSED_PORT)
    assert client.bind(CHANNEL, peer).code == 0
    client.send_through(CHANNEL, b"is anybody there?")
    assert_told(client, peer, IcmpError(*PORT_UNREACHABLE[IPV4], bytes(4)))


@pytest.mark.rfc(8656, "14")
@FAMILIES
@TRANSPORTS
def test_dont_fragment_meets_the_path_mtu_and_the_client_is_told_it(
    allocated: Callable[[str, int], WireClient],
    carol: Callable[[int], socket.socket],
    transport: str,
    family: int,
) -> None:
    client, sock = allocated(transport, family), carol(family)
    peer = address_of(sock)
    assert client.permit(peer).code == 0
    send_unfragmented(client, peer, bytes(MTU))
    assert_told(client, peer, IcmpError(*TOO_BIG[family], MTU.to_bytes(4)))
    send_unfragmented(client, peer, bytes(MTU - 48))
    assert sock.recv(2048) == bytes(MTU - 48)


@pytest.mark.rfc(8656, "14")
@FAMILIES
def test_every_client_that_sends_too_much_is_told_and_not_only_the_first(
    allocated: Callable[[str, int], WireClient], carol: Callable[[int], socket.socket], family: int
) -> None:
    peer = address_of(carol(family))
    for _ in range(2):
        client = allocated("udp", family)
        assert client.permit(peer).code == 0
        send_unfragmented(client, peer, bytes(MTU))
        assert_told(client, peer, IcmpError(*TOO_BIG[family], MTU.to_bytes(4)))


@pytest.mark.rfc(8656, "14")
@FAMILIES
def test_without_dont_fragment_what_is_too_big_arrives_in_fragments(
    allocated: Callable[[str, int], WireClient], carol: Callable[[int], socket.socket], family: int
) -> None:
    client, sock = allocated("udp", family), carol(family)
    assert client.permit(address_of(sock)).code == 0
    client.send_to(address_of(sock), bytes(MTU))
    if family == IPV6:  # only the sender makes fragments there, once it has been told
        assert_told(client, address_of(sock), IcmpError(*TOO_BIG[family], MTU.to_bytes(4)))
        client.send_to(address_of(sock), bytes(MTU))
    assert sock.recv(2048) == bytes(MTU)


@pytest.mark.rfc(8656, "11.5")
def test_an_error_is_told_to_nobody_but_the_client_whose_datagram_it_was(
    scene: Scene, allocated: Callable[[str, int], WireClient]
) -> None:
    peer = TransportAddress.parse(scene.lab.bob_ip, CLOSED_PORT)
    client, other = allocated("udp", IPV4), allocated("udp", IPV4)
    assert client.permit(peer).code == other.permit(peer).code == 0
    client.send_to(peer, b"is anybody there?")
    assert_told(client, peer, IcmpError(*PORT_UNREACHABLE[IPV4], bytes(4)))
    assert other.hears_nothing_more()
